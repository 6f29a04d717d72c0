package idmap

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Key names a trace within an account; accounts are numbered by the caller.
type Key struct {
	Account uint16
	ID      [16]byte
}

// Entry is what is known of a trace. The zero Entry means that nothing is
// known; else its parts are the caller's.
type Entry struct {
	State, Flags uint8
	Project      uint16
	Month        uint16
}

// Config says where a map is and how much of it stays in memory.
type Config struct {
	// Dir belongs to the map. It is made with mode 0700 if missing. The caller
	// sees to it that one process has it open at a time.
	Dir string
	// MemEntries is how many entries are kept in memory before they are written
	// as a sorted run; 0 is 65536. While a run cannot be written, memory grows
	// to four times this, and a batch.
	MemEntries int
	// Keep is asked when runs are written and merged: false forgets the entry.
	// It is called by one goroutine at a time, must not call the map, and once
	// it has said false of an entry must go on saying it. Nil keeps all.
	Keep func(Key, Entry) bool
	// Logger gets what went wrong in the background; nil says nothing.
	Logger *slog.Logger

	fs         fsys          // nil: the directory Dir
	manual     bool          // tests call work themselves
	retryAfter time.Duration // pause after failed work; 0 is a second
	boot       string        // 16 bytes naming the boot of the machine; empty asks the system
}

// Bounds of what one map takes.
const (
	// MaxBatch is how many keys a Batch may have.
	MaxBatch = 65536
	// MaxRecordBytes bounds names and values of all records together.
	MaxRecordBytes = 16 << 20

	defaultMemEntries = 65536
	fullFactor        = 4   // memory and log may grow to this many times what is written as a run
	logBytesPerEntry  = 128 // a log this many times MemEntries long is closed too
	minLogBytes       = 4096
	maxProblems       = 64
	maxRecordName     = 1024
)

var (
	// ErrFull says that memory is full because runs cannot be written, most
	// likely for lack of disk space. Nothing was applied; the map goes on when
	// there is space.
	ErrFull = errors.New("idmap: memory is full, and runs cannot be written to disk; free some space")
	// ErrClosed is returned once Close was called.
	ErrClosed = errors.New("idmap: the map is closed")
	// ErrTooLarge says that a batch breaks one of the bounds.
	ErrTooLarge = errors.New("idmap: more than a batch may have")
)

// Start says how the previous process left the map.
type Start uint8

// The ways in which a map can have been left. It is about the last process that
// wrote: whoever has to do something after a power cut notes in a Record that
// it is not done yet, as it may be killed itself meanwhile.
const (
	StartNew      Start = iota // there was none
	StartClosed                // Close was called, and had success
	StartKilled                // the process ended without it: what Apply returned for is there
	StartPowerCut              // so did the machine: what was synced is there, and of the rest a first part
)

// Map is an exact durable map. Its methods are safe for concurrent use.
type Map struct {
	cfg   Config
	fs    fsys
	log   *slog.Logger
	start Start

	nextFile atomic.Uint64 // number of the next log or run
	logBytes atomic.Int64  // of the logs being written

	// qmu covers waiting, and is held for moments only.
	qmu     sync.Mutex
	waiting []*request

	// lead is held by the goroutine that commits for all that wait, through
	// its disk I/O. It covers w. Get never takes it.
	lead sync.Mutex
	w    writer

	// mu covers the fields below, and is never held during disk I/O. Only the
	// holder of lead changes active, records and recordBytes, so it may read
	// them without mu.
	mu          sync.RWMutex
	active      map[Key]Entry
	frozen      *table // written next; nil if there is nothing to write
	records     map[string][]byte
	recordBytes int
	runs        []*run // newest first
	problems    []string
	oldLogs     []oldLog // logs not removed yet
	closed      bool

	// wmu is held by the goroutine that writes runs and the manifest. It covers
	// the fields below.
	wmu      sync.Mutex
	manifest manifest // as last written, but for its runs
	leftover []string // files that a manifest may name that may not have become durable
	dead     []*run   // retired, and perhaps still read
	spanCap  int      // at most so many runs are merged at once, after a failure; 0 is any number

	kick chan struct{} // has one element when there is background work
	stop chan struct{} // closed by Close
	done sync.WaitGroup
}

// table is a full table of entries that nobody changes any more.
type table struct {
	entries map[Key]Entry
	records map[string][]byte // as they were with the last batch in entries
	lastSeq uint64            // of that batch
	nextLog uint64            // the first log with later batches only
}

// Stats is the size of a map.
type Stats struct {
	Entries     int64 // entries, counting one that is in several runs several times
	Runs        int
	DiskBytes   int64 // of runs, and of the logs of what is in memory only
	MemoryBytes int64 // an estimate
}

// Start says how the previous process left the map.
func (m *Map) Start() Start { return m.start }

// Clean reports whether the previous process closed the map and nothing had to
// be left out since. It can become false when damage is met later.
func (m *Map) Clean() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.start == StartClosed && len(m.problems) == 0
}

// Problems says what was damaged or missing, at most 64 of them.
func (m *Map) Problems() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]string(nil), m.problems...)
}

// problem notes damage, once. mu must not be held.
func (m *Map) problem(text string) {
	m.mu.Lock()
	known := slices.Contains(m.problems, text) || len(m.problems) >= maxProblems
	if !known {
		m.problems = append(m.problems, text)
	}
	m.mu.Unlock()
	if known {
		return
	}
	m.log.Error("ledger storage is damaged", "problem", text)
}

// Stats returns the size of the map.
func (m *Map) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := Stats{Entries: int64(len(m.active)), Runs: len(m.runs), DiskBytes: m.logBytes.Load()}
	if m.frozen != nil {
		s.Entries += int64(len(m.frozen.entries))
	}
	const slotBytes = 2 * entrySize // of a Go map, with its empty slots
	s.MemoryBytes = s.Entries*slotBytes + int64(m.recordBytes)
	for _, r := range m.runs {
		s.Entries += int64(r.foot.entries)
		s.DiskBytes += r.bytes
		s.MemoryBytes += int64(len(r.fences))
	}
	return s
}

// Close ends background work, makes everything durable and leaves the mark
// that makes the next start a clean one. It closes the files whatever happens.
// Calls after the first return ErrClosed.
func (m *Map) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	m.closed = true
	m.mu.Unlock()
	close(m.stop)
	m.done.Wait()
	m.lead.Lock()
	defer m.lead.Unlock()
	err := m.sealLog()
	if m.w.f != nil {
		err = errors.Join(err, m.w.f.Close())
		m.w.f = nil
	}
	m.wmu.Lock()
	defer m.wmu.Unlock()
	m.reap()
	m.mu.Lock()
	runs := m.runs
	m.runs = nil
	m.mu.Unlock()
	for _, r := range append(m.dead, runs...) {
		r.release() // the last reader closes the file
	}
	m.dead = nil
	return err
}
