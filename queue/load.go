package queue

import (
	"errors"
	"fmt"
)

// scannedFrame is a frame found in a segment.
type scannedFrame struct {
	seq    uint32
	header frameHeader
}

// load reads the index of a sealed segment. What the state counts and the
// segment cannot produce is journaled as lost, so that it is neither awaited
// for ever nor forgotten silently.
func (q *Queue) load(s *segment) error {
	st, err := q.acquireStore(s)
	var found []scannedFrame
	if err == nil {
		found, _, err = scanFrames(st, q.numbered(s))
		q.releaseStore(s)
	}
	switch {
	case err != nil && !errors.Is(err, ErrDamaged) && q.storeUnavailable(err):
		return fmt.Errorf("read segment %d: %w", s.id, err)
	case err != nil:
		q.cfg.Logger.Error("a segment cannot be read in full; its files will be kept", "segment", s.id, "error", err)
	}
	q.mu.Lock()
	if s.index != nil {
		q.mu.Unlock()
		return nil
	}
	s.index = newSegmentIndex()
	have := map[bucket]tally{}
	for _, f := range found {
		if f.seq >= s.next || s.gone.has(f.seq) {
			continue
		}
		info := q.infoOf(s, f.seq, f.header)
		s.index.put(f.seq, info)
		t := have[bucket{info.lane, info.place}]
		t.add(info.tally())
		have[bucket{info.lane, info.place}] = t
	}
	events := lostEvents(s.segmentState, have)
	q.mu.Unlock()
	if len(events) == 0 {
		return nil
	}
	for i := range events {
		q.cfg.Logger.Error("stored data is missing from a segment; it is counted as dropped",
			"segment", s.id, "frames", events[i].frames, "items", events[i].items)
	}
	err = q.commitChange(&change{events: events}, true)
	if err != nil {
		q.mu.Lock()
		if s.index.leased == 0 {
			s.index = nil // found missing again another time
		}
		q.mu.Unlock()
	}
	return err
}

// numbered is how many frames a segment has, settled ones too.
func (q *Queue) numbered(s *segment) uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return s.next
}

// storeUnavailable reports whether an error says that the segment could be
// read another time: space is short, files are too many, weir is closing.
func (q *Queue) storeUnavailable(err error) bool {
	return errors.Is(err, errNoSpace) || errors.Is(err, ErrClosed) || isTransientOpen(err)
}

// lostEvents compares what a segment should hold with what was found.
func lostEvents(s *segmentState, have map[bucket]tally) []event {
	var events []event
	for b, want := range s.live {
		got := have[b]
		if want.frames <= got.frames {
			continue
		}
		events = append(events, event{
			kind: eventLost, segment: s.id, lane: b.lane, from: b.place, text: "damaged_on_disk",
			frames: want.frames - got.frames, items: want.items - got.items,
			rawBytes: want.rawBytes - got.rawBytes, bytes: want.bytes - got.bytes,
		})
	}
	return events
}

// scanFrames lists the frames of a database by their headers. Frames whose
// headers are damaged are listed apart by their numbers; a database that ends
// early gives what came before and an error. There may be about expect of them.
func scanFrames(st store, expect uint32) (found []scannedFrame, bad []uint32, err error) {
	found = make([]scannedFrame, 0, min(expect, maxSegmentFrames))
	err = guardFaults(func() error {
		return st.Scan([]byte(keyFrame), func(key, value []byte) error {
			seq, err := seqOf(key)
			if err != nil {
				return nil //nolint:nilerr // not a frame's key: nothing can refer to it
			}
			h, err := parseFrameHeader(value)
			if err != nil {
				bad = append(bad, seq)
				return nil //nolint:nilerr // the caller finds it missing and counts it
			}
			found = append(found, scannedFrame{seq, h})
			return nil
		})
	})
	return found, bad, err
}
