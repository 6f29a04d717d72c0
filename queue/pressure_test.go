package queue

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

func wantFull(t *testing.T, err error, reason string) {
	t.Helper()
	var full *FullError
	if !errors.As(err, &full) || full.Reason != reason {
		t.Fatalf("append: %v, want it refused as %s", err, reason)
	}
}

func TestBufferCapRefusesSettlesAndResumes(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxBytes = 24 << 20 // every open segment reserves 5 MiB
	q := mustOpen(t, cfg)
	var err error
	var id uint64
	for err == nil && id < 5000 {
		id++
		if err = q.Append(context.Background(), export("a", 30_000, id)); err != nil {
			break
		}
		if id%8 == 0 {
			if err := q.keep(); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantFull(t, err, "buffer_full")
	if used := q.Stats().UsedBytes; used > cfg.MaxBytes+8<<20 {
		t.Errorf("%d bytes are used, the cap is %d", used, cfg.MaxBytes)
	}
	if got := settleAll(t, q); len(got) != int(id-1) {
		t.Fatalf("%d messages settled, %d were acknowledged", len(got), id-1)
	}
	for range 2 {
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, q, export("a", 10, id))
}

// TestNoSpaceAnywhere lets preallocation fail wherever it is called.
func TestNoSpaceAnywhere(t *testing.T) {
	var full atomic.Bool
	cfg := smallConfig(t.TempDir())
	cfg.preallocate = func(path string, n int64) error {
		if full.Load() {
			return errors.Join(errNoSpace, errInjected)
		}
		return preallocate(path, n)
	}
	cfg.freeBytes = func(dir string) (int64, error) {
		if full.Load() {
			return cfg.MinFreeBytes + 1<<20, nil // over the floor, and yet too little
		}
		return freeBytes(dir)
	}
	q := mustOpen(t, cfg)
	r := &faultRun{t: t, q: q, want: map[uint64]bool{}, maybe: map[uint64]bool{}}
	for range 10 {
		if err := r.append("a", 2); err != nil {
			t.Fatal(err)
		}
	}
	full.Store(true)
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		if err = r.append("a", 4); err == nil {
			err = q.keep()
		}
	}
	wantFull(t, err, "disk_full")
	if err := r.settle("a", func(_ []uint64, i int) Settlement {
		if i%2 == 0 {
			return Settlement{Frame: i, Result: ResultDropped, Reason: "policy"}
		}
		return Settlement{Frame: i, Result: ResultDelivered}
	}); err != nil {
		t.Fatalf("settle on a full disk: %v", err)
	}
	if err := q.SetNote("wait", []byte("1")); err != nil {
		t.Fatalf("note on a full disk: %v", err)
	}
	full.Store(false)
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	r.verify("space is back")
}

func TestFloorOfFreeSpaceRefuses(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	cfg := smallConfig(t.TempDir())
	cfg.freeBytes = func(string) (int64, error) { return free.Load(), nil }
	q := mustOpen(t, cfg)
	mustAppend(t, q, export("a", 10, 1))
	free.Store(q.disk.minFreeBytes - 1)
	q.disk.freeNow(true)
	wantFull(t, q.Append(t.Context(), export("a", 10, 2)), "disk_full")
	if got := q.Stats().Refusing; got == nil || !strings.Contains(got.Detail, "free") {
		t.Errorf("stats say %v, want the reason", got)
	}
	free.Store(1 << 40)
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, export("a", 10, 3))
}

func TestLanesAreBounded(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxLanes = 2
	q := mustOpen(t, cfg)
	mustAppend(t, q, export("a", 10, 1))
	mustAppend(t, q, export("b", 10, 2))
	wantFull(t, q.Append(t.Context(), export("c", 10, 3)), "lanes")
	mustAppend(t, q, export("a", 10, 4))
	settleAll(t, q)
	mustAppend(t, q, export("c", 10, 5))
	mustAppend(t, q, export("d", 10, 6))
	wantFull(t, q.Append(t.Context(), export("a", 10, 7)), "lanes")
	if got := len(q.Lanes()); got != 2 {
		t.Errorf("%d lanes are listed, want 2", got)
	}
}

func TestKeptShareIsBounded(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxBytes, cfg.KeptShare = 256<<10+4*64<<10, 0.05
	q := mustOpen(t, cfg)
	place, err := q.OpenCase(Case{Kind: CaseQuarantine})
	if err != nil {
		t.Fatal(err)
	}
	q.disk.maxBytes = 1 << 30 // only the share is under test
	for id := range uint64(10) {
		mustAppend(t, q, export("a", 15_000, id+1))
	}
	var kept int
	for {
		l, err := q.Lease(LeaseOptions{Lane: laneID(q, "a"), MaxRawBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		err = l.Settle(Settlement{Result: ResultKept, Place: place})
		if errors.Is(err, ErrKeptFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kept++
	}
	if kept != 1 {
		t.Errorf("%d frames of 15 KB were kept in a share of 25 KB", kept)
	}
	if got := len(settleAll(t, q)); got != 9 {
		t.Errorf("%d messages are pending, want 9", got)
	}
}

func TestSettleRefusesNonsense(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	mustAppend(t, q, export("a", 10, 1, 2))
	for name, s := range map[string][]Settlement{
		"no such frame": {{Frame: 1, Result: ResultDelivered}},
		"twice":         {{Result: ResultDelivered}, {Result: ResultDropped}},
		"no result":     {{}},
		"no case":       {{Result: ResultKept}},
		"items missing": {{Result: ResultReplaced, Delivered: 1}},
		"negative":      {{Result: ResultReplaced, Delivered: 3, Parts: []Part{{Items: -1}}}},
		"many parts":    {{Result: ResultReplaced, Delivered: 2, Parts: make([]Part, maxGroupParts+1)}},
	} {
		l := leaseAllOf(t, q, laneID(q, "a"))[0]
		if err := l.Settle(s...); err == nil {
			t.Errorf("%s: settled", name)
		}
		if err := l.Settle(Settlement{Result: ResultDelivered}); err == nil {
			t.Errorf("%s: the lease goes on after Settle", name)
		}
	}
	checkTotals(t, q)
	if got := settleAll(t, q); len(got) != 2 {
		t.Errorf("pending %v, want both messages", got)
	}
}

// TestReleaseWhileLeasedAndSettledIntoTheCase: a person releases a case while
// the forwarder is putting more into it.
func TestReleaseWhileLeasedAndSettledIntoTheCase(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	place, err := q.OpenCase(Case{Kind: CaseQuarantine})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, export("a", 3000, 1, 2))
	l := leaseAllOf(t, q, laneID(q, "a"))[0]
	if err := q.Release(place); err != nil {
		t.Fatal(err)
	}
	if err := l.Settle(Settlement{Result: ResultReplaced, Parts: []Part{
		{Payload: message(1, 3000), Items: 1, Traces: []TraceID{traceOf(1)}, Place: place},
		{Payload: message(2, 3000), Items: 1, Traces: []TraceID{traceOf(2)}},
	}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if tot := checkTotals(t, q); tot.Pending != 2 {
			t.Fatalf("totals %+v, want 2 pending", tot)
		}
		if got := pendingIDs(t, q)["a"]; len(got) != 2 {
			t.Fatalf("pending %v, want both messages", got)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = mustOpen(t, cfg)
	}
}

// blockedQueue returns a queue whose committer waits in its first commit.
func blockedQueue(t *testing.T) (q *Queue, blocked, unblock chan struct{}) {
	cfg := smallConfig(t.TempDir())
	blocked, unblock = make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	cfg.step = func(name string) {
		if name == "committed" && first.CompareAndSwap(false, true) {
			close(blocked)
			<-unblock
		}
	}
	return mustOpen(t, cfg), blocked, unblock
}

func TestAppendGivesUpWithItsContext(t *testing.T) {
	q, blocked, unblock := blockedQueue(t)
	first := make(chan error, 1)
	go func() { first <- q.Append(context.Background(), export("a", 10, 1)) }()
	<-blocked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := export("a", 100_000, 2)
	if err := q.Append(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v, want %v", err, context.Canceled)
	}
	clear(e.Payload) // the caller's again: the race detector sees a late reader
	e.Lane = "gone"
	close(unblock)
	if err := <-first; err != nil {
		t.Errorf("first append: %v", err)
	}
	mustAppend(t, q, export("a", 10, 3))
	if got := settleAll(t, q); len(got) != 2 {
		t.Errorf("pending %v, want [1 3]", got)
	}
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	q, blocked, unblock := blockedQueue(t)
	const n = 20
	done := make(chan error, n)
	go func() { done <- q.Append(context.Background(), export("a", 10, 1)) }()
	<-blocked
	for id := range uint64(n - 1) {
		go func() { done <- q.Append(context.Background(), export("a", 10, id+2)) }()
	}
	closed := make(chan error, 1)
	go func() { closed <- q.Close() }()
	close(unblock)
	acked := 0
	for range n {
		switch err := <-done; {
		case err == nil:
			acked++
		case !errors.Is(err, ErrClosed):
			t.Errorf("append while closing: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, smallConfig(q.cfg.Dir))
	if got := settleAll(t, q); len(got) != acked {
		t.Errorf("%d messages are there, %d were acknowledged", len(got), acked)
	}
}

func TestOversizedExportsAreRefused(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxFrameBytes = 1 << 10
	q := mustOpen(t, cfg)
	if err := q.Append(t.Context(), export("a", 2000, 1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("append: %v, want %v", err, ErrTooLarge)
	}
	if err := q.Append(t.Context(), &Export{Lane: strings.Repeat("x", maxLaneBytes+1)}); err == nil {
		t.Error("a lane descriptor over the bound was taken")
	}
	if err := q.Append(t.Context(), &Export{Items: -1}); err == nil {
		t.Error("a negative number of items was taken")
	}
	if err := q.SetNote("k", make([]byte, maxNoteBytes+1)); err == nil {
		t.Error("a note over the bound was taken")
	}
}

// TestFullDiskDoesNotBlockTheLaneBehindASegment: after a kill on a disk that
// is full, the oldest segment cannot be opened; the rest of its lane goes on.
func TestFullDiskDoesNotBlockTheLaneBehindASegment(t *testing.T) {
	var full atomic.Bool
	cfg := smallConfig(t.TempDir())
	cfg.ShelveAfter = 1 << 60
	q := mustOpen(t, cfg)
	mustAppend(t, q, export("a", 3000, 1))
	if err := q.rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, export("a", 3000, 2))
	cfg.Dir = t.TempDir()
	crashCopy(t, q, cfg.Dir)
	cfg.freeBytes = func(dir string) (int64, error) {
		if full.Load() {
			return 0, nil
		}
		return freeBytes(dir)
	}
	killed := mustOpen(t, cfg)
	full.Store(true)
	if got := settleAllUntil(t, killed, errNoSpace); len(got) != 1 || got[0] != 2 {
		t.Fatalf("settled %v while the disk was full, want [2]", got)
	}
	full.Store(false)
	if got := settleAll(t, killed); len(got) != 1 || got[0] != 1 {
		t.Fatalf("settled %v after space came back, want [1]", got)
	}
}

// settleAllUntil settles lane a until Lease fails with want.
func settleAllUntil(t *testing.T, q *Queue, want error) (ids []uint64) {
	t.Helper()
	for {
		l, err := q.Lease(LeaseOptions{Lane: laneID(q, "a"), MaxRawBytes: 1})
		if err != nil || l == nil {
			if !errors.Is(err, want) {
				t.Fatalf("lease: %v, want %v", err, want)
			}
			return ids
		}
		ids = append(ids, frameIDs(t, l.Frames[0])...)
		if err := l.Settle(Settlement{Result: ResultDelivered}); err != nil {
			t.Fatal(err)
		}
	}
}
