package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"weir/quota/idmap"
)

// By how much a trace's times were moved is kept for as long as something of
// the trace may still come, so that all of it is moved alike. A trace costs 24
// bytes in a log and as much in a sorted file, about 50 bytes of memory until it
// is in the latter, and one sync for all traces of a round that are new. A map
// is opened once a trace has to be moved, or if there is one: a weir that never
// moves any pays nothing.
const (
	// maxShifts bounds what is kept, at 24 bytes each. Traces beyond it go to
	// quarantine.
	maxShifts = 1 << 20
	// shiftMemEntries are kept in memory before they are written out.
	shiftMemEntries = 8192
	// shiftPeriod is the unit in which an entry says when it was made, and
	// shiftPeriods how many of them it is kept: 128 days, longer than data is
	// held by default, and than anything waits.
	shiftPeriod  = 8 * 24 * time.Hour
	shiftPeriods = 16

	stateShifted = 1
)

var (
	errShiftsFull  = fmt.Errorf("the times of %d traces were moved and are remembered, the most there may be", maxShifts)
	errShiftTooFar = errors.New("its times would have to be moved by more than 68 years")
)

// shifts remembers durably by how many seconds the times of traces were moved.
// Its methods may be called from any number of goroutines.
type shifts struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // guards what follows; held while the map is opened
	m      *idmap.Map // nil: not open
	exists bool       // something may be in it
	closed bool
}

// newShifts returns the shifts kept in a directory, which need not be there.
func newShifts(dir string, log *slog.Logger, now func() time.Time) *shifts {
	_, err := os.Stat(dir)
	return &shifts{dir: dir, log: log, now: now, exists: !errors.Is(err, os.ErrNotExist)}
}

// open returns the map; nil if there is none and create is false.
func (s *shifts) open(create bool) (*idmap.Map, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, idmap.ErrClosed
	case s.m != nil || !s.exists && !create:
		return s.m, nil
	}
	m, err := idmap.Open(idmap.Config{Dir: s.dir, MemEntries: shiftMemEntries, Keep: s.keep, Logger: s.log})
	if err != nil {
		return nil, fmt.Errorf("open the moved start times in %s: %w", s.dir, err)
	}
	s.m, s.exists = m, true
	return m, nil
}

// keep reports whether an entry is young enough.
func (s *shifts) keep(_ idmap.Key, e idmap.Entry) bool {
	return periodOf(s.now())-e.Flags <= shiftPeriods
}

// periodOf counts periods, over and over from 0 to 255.
func periodOf(at time.Time) uint8 { return uint8(at.Unix() / int64(shiftPeriod/time.Second)) }

// of tells by how many seconds traces were moved; those that were not are left
// out. Nil: none.
func (s *shifts) of(ids []TraceID) (map[TraceID]int64, error) {
	m, err := s.open(false)
	if m == nil || len(ids) == 0 {
		return nil, err
	}
	keys, entries := make([]idmap.Key, 0, len(ids)), make([]idmap.Entry, len(ids))
	for _, id := range ids {
		keys = append(keys, idmap.Key{ID: id})
	}
	if err := m.Get(keys, entries); err != nil {
		return nil, fmt.Errorf("read the moved start times: %w", err)
	}
	var out map[TraceID]int64
	for i, id := range ids {
		e := &entries[i]
		if e.State != stateShifted {
			continue
		}
		if out == nil {
			out = map[TraceID]int64{}
		}
		out[id] = int64(int32(uint32(e.Project)<<16 | uint32(e.Month)))
	}
	return out, nil
}

// set makes the shifts of traces durable, in place of earlier ones. It returns
// errShiftsFull where there is no room, or what is wrong with the disk.
func (s *shifts) set(seconds map[TraceID]int64) error {
	if len(seconds) == 0 {
		return nil
	}
	m, err := s.open(true)
	if err != nil {
		return err
	}
	if m.Stats().Entries+int64(len(seconds)) > maxShifts {
		return errShiftsFull
	}
	period := periodOf(s.now())
	b := idmap.Batch{Sync: true}
	for id, by := range seconds {
		n := uint32(int32(by))
		b.Keys = append(b.Keys, idmap.Key{ID: id})
		b.Entries = append(b.Entries, idmap.Entry{State: stateShifted, Flags: period, Project: uint16(n >> 16), Month: uint16(n)})
	}
	if err := m.Apply(&b); err != nil {
		return fmt.Errorf("keep the moved start times: %w", err)
	}
	return nil
}

// close makes all of it durable. Later calls fail.
func (s *shifts) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.m == nil {
		return nil
	}
	err := s.m.Close()
	s.m = nil
	return err
}
