package idmap

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func one(n int, e Entry) *Batch { return &Batch{Keys: []Key{key(0, n)}, Entries: []Entry{e}} }

func get(t fataler, m *Map, k Key) Entry {
	t.Helper()
	var out [1]Entry
	if err := m.Get([]Key{k}, out[:]); err != nil {
		t.Fatalf("get: %v", err)
	}
	return out[0]
}

func wide(n int) Key {
	k := Key{Account: 7}
	for i := range 8 {
		k.ID[i] = byte(uint64(n) * 0x9e3779b97f4a7c15 >> (8 * i))
	}
	k.ID[15], k.ID[14], k.ID[13] = byte(n), byte(n>>8), byte(n>>16)
	return k
}

func TestMemoryIsBoundedWhileNothingCanBeWritten(t *testing.T) {
	dir := newMemDir()
	m := mustOpen(t, testConfig(dir))
	for n := range 9 {
		if err := m.Apply(one(n, Entry{State: 1})); err != nil {
			t.Fatal(err)
		}
	}
	var applied int
	for n := range 1000 { // nobody writes the frozen table
		err := m.Apply(&Batch{Keys: []Key{wide(n)}, Entries: []Entry{{State: 2}}})
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		applied++
	}
	if most := fullFactor * m.cfg.MemEntries; applied > most {
		t.Fatalf("%d entries were taken, want at most %d", applied, most)
	}
	if get(t, m, wide(applied-1)) != (Entry{State: 2}) || get(t, m, wide(applied)) != (Entry{}) {
		t.Error("what is there is not what was taken")
	}
	work(t, m)
	if err := m.Apply(one(1, Entry{State: 3})); err != nil {
		t.Errorf("with the table written: %v", err)
	}
}

func TestOverwritingDoesNotGrowTheLogForever(t *testing.T) {
	dir := newMemDir()
	m := mustOpen(t, testConfig(dir))
	for n := range 2000 {
		if err := m.Apply(&Batch{Records: map[string][]byte{"count": fmt.Append(nil, n)}}); err != nil {
			t.Fatal(err)
		}
		work(t, m)
	}
	if size := m.Stats().DiskBytes; size > 2*m.maxLogBytes() {
		t.Errorf("%d bytes for one record", size)
	}
	if got := string(m.Record("count")); got != "1999" {
		t.Errorf("the record is %q", got)
	}
}

func TestBatchesBeyondTheBoundsAreRefused(t *testing.T) {
	m := mustOpen(t, testConfig(newMemDir()))
	big := map[string][]byte{"big": make([]byte, MaxRecordBytes-3)}
	if err := m.Apply(&Batch{Records: big}); err != nil {
		t.Errorf("all that records may have: %v", err)
	}
	for name, b := range map[string]*Batch{
		"one record more":  {Records: map[string][]byte{"": {1}}},
		"too many keys":    {Keys: make([]Key, MaxBatch+1), Entries: make([]Entry, MaxBatch+1)},
		"too long a name":  {Records: map[string][]byte{strings.Repeat("n", maxRecordName+1): nil}},
		"too big a record": {Records: map[string][]byte{"big": make([]byte, MaxRecordBytes)}},
	} {
		if err := m.Apply(b); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want %v", name, err, ErrTooLarge)
		}
	}
	if err := m.Apply(&Batch{Keys: make([]Key, 1)}); err == nil {
		t.Error("a key without an entry is taken")
	}
	if err := m.Apply(&Batch{Records: map[string][]byte{"big": nil, "": {1}}}); err != nil {
		t.Errorf("replacing: %v", err)
	}
}

func TestForgottenEntriesDoNotComeBack(t *testing.T) {
	dir := newMemDir()
	month := uint16(1)
	cfg := testConfig(dir)
	cfg.Keep = func(_ Key, e Entry) bool { return e.Month >= month }
	m := mustOpen(t, cfg)
	for round := range uint16(4) { // the same keys, each round a month later
		month = round
		for n := range 300 {
			b := &Batch{Keys: []Key{wide(n)}, Entries: []Entry{{State: 1, Month: round + uint16(n%2)}}}
			if err := m.Apply(b); err != nil {
				t.Fatal(err)
			}
			work(t, m)
		}
	}
	for month = 5; len(m.active) > 0 || m.frozen != nil || len(m.runs) > 1; {
		if err := m.rotate(); err != nil {
			t.Fatal(err)
		}
		work(t, m)
		if len(m.runs) > 1 && m.frozen == nil {
			m.wmu.Lock()
			err := m.merge(m.runs, true)
			m.wmu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range 300 {
		if e := get(t, m, wide(n)); e != (Entry{}) {
			t.Fatalf("entry %d is %v, want it forgotten", n, e)
		}
	}
	if s := m.Stats(); s.Entries != 0 {
		t.Errorf("%d entries are stored, want none", s.Entries)
	}
}

func TestLookupsTouchFewRuns(t *testing.T) {
	m := mustOpen(t, testConfig(newMemDir()))
	most := 0
	for n := range 20_000 {
		if err := m.Apply(&Batch{Keys: []Key{wide(n)}, Entries: []Entry{{State: 1}}}); err != nil {
			t.Fatal(err)
		}
		if n%4 == 0 {
			work(t, m)
			most = max(most, len(m.runs))
		}
	}
	if most > 8 { // log5(20000 / 8) is 5; blocks make small runs as large as others
		t.Errorf("up to %d runs", most)
	}
}

func TestGetDoesNotWaitForASync(t *testing.T) {
	dir := newMemDir()
	m := mustOpen(t, testConfig(dir))
	if err := m.Apply(one(1, Entry{State: 1})); err != nil {
		t.Fatal(err)
	}
	dir.mu.Lock()
	dir.block, dir.syncing = make(chan struct{}), make(chan struct{}, 1)
	dir.mu.Unlock()
	result := make(chan error)
	b := one(2, Entry{State: 2})
	b.Sync = true
	go func() { result <- m.Apply(b) }()
	<-dir.syncing
	if e := get(t, m, key(0, 1)); e != (Entry{State: 1}) {
		t.Errorf("during a sync the entry is %v", e)
	}
	if e := get(t, m, key(0, 2)); e != (Entry{}) {
		t.Errorf("what is not durable yet is seen: %v", e)
	}
	close(dir.block)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if e := get(t, m, key(0, 2)); e != (Entry{State: 2}) {
		t.Errorf("after the sync the entry is %v", e)
	}
}

func TestWaitingBatchesShareASync(t *testing.T) {
	dir := newMemDir()
	m := mustOpen(t, testConfig(dir))
	const others = 7
	dir.mu.Lock()
	dir.block, dir.syncing = make(chan struct{}), make(chan struct{}, others+1)
	dir.mu.Unlock()
	var wg sync.WaitGroup
	apply := func(n int) {
		b := one(n, Entry{State: 1})
		b.Sync = true
		if err := m.Apply(b); err != nil {
			t.Error(err)
		}
	}
	wg.Go(func() { apply(0) })
	<-dir.syncing
	for n := range others {
		wg.Go(func() { apply(n + 1) })
	}
	for waiting := 0; waiting < others; {
		m.qmu.Lock()
		waiting = len(m.waiting)
		m.qmu.Unlock()
	}
	before := dir.ops
	close(dir.block)
	wg.Wait()
	if got := dir.ops - before; got != 3 { // the first sync, and a write and a sync for all others
		t.Errorf("%d operations, want 3", got)
	}
}

func TestClosedMapsSaySo(t *testing.T) {
	m := mustOpen(t, testConfig(newMemDir()))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"apply": m.Apply(one(1, Entry{State: 1})), "sync": m.Sync(), "get": m.Get(nil, nil),
		"scan": m.Scan(0, nil), "close": m.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want %v", name, err, ErrClosed)
		}
	}
}

// TestRealDirectoryUnderConcurrency lets everything happen at once on a real
// file system, with the background at work.
func TestRealDirectoryUnderConcurrency(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, MemEntries: 64, Keep: func(_ Key, e Entry) bool { return e.Month > 0 }, retryAfter: time.Millisecond}
	m := mustOpen(t, cfg)
	const writers, each = 4, 1500
	var wg sync.WaitGroup
	var stop atomic.Bool
	var readers sync.WaitGroup
	readers.Go(func() {
		for !stop.Load() {
			last := -1
			err := m.Scan(7, func(Key, Entry) bool { last++; return true })
			if err != nil {
				t.Error(err)
			}
			_, _, _ = m.Stats(), m.Clean(), m.Records("")
		}
	})
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				// Two keys of one batch are seen together.
				a, b := wide(n*writers+w), Key{Account: uint16(w), ID: [16]byte{1}}
				batch := &Batch{Keys: []Key{a, b}, Entries: []Entry{{State: 1, Month: 1}, {Month: uint16(n + 1)}}, Sync: n%100 == 0}
				for err := m.Apply(batch); err != nil; err = m.Apply(batch) {
					if !errors.Is(err, ErrFull) {
						t.Error(err)
						return
					}
				}
				if e := get(t, m, a); e.State != 1 {
					t.Errorf("own entry %d/%d is %v", w, n, e)
				}
			}
		})
	}
	wg.Wait()
	stop.Store(true)
	readers.Wait()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = mustOpen(t, cfg)
	if !m.Clean() {
		t.Errorf("start %v with problems %q", m.Start(), m.Problems())
	}
	for n := range writers * each {
		if e := get(t, m, wide(n)); e.State != 1 {
			t.Fatalf("entry %d is %v after a restart", n, e)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskAtTheStartOnlyStopsWriting(t *testing.T) {
	dir, history := worked(t)
	n := dir.names[newestLog(dir)]
	n.now = append(n.now, "torn"...)
	dir.failAt, dir.forever, dir.err = 1, true, syscall.EROFS
	m := mustOpen(t, testConfig(dir))
	if diff := history[len(history)-1].diff(read(t, m)); diff != "" {
		t.Error(diff)
	}
	if err := m.Apply(one(1, Entry{State: 1})); !errors.Is(err, syscall.EROFS) {
		t.Errorf("apply: %v, want %v", err, syscall.EROFS)
	}
	dir.failAt = 0
	if err := m.Apply(one(1, Entry{State: 1})); err != nil {
		t.Errorf("with the disk back: %v", err)
	}
}
