package queue

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// walkAll is what EachFrame says of each frame, without the traces, and the
// messages they name.
func walkAll(t *testing.T, q *Queue, o FrameFilter) (metas []FrameMeta, ids []uint64) {
	t.Helper()
	err := q.EachFrame(t.Context(), o, func(m FrameMeta) bool {
		for _, trace := range m.Traces {
			ids = append(ids, messageOfTrace(trace))
		}
		m.Traces = nil
		metas = append(metas, m)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return metas, ids
}

func TestEachFrameSaysWhatIsThere(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	hold := mustOpenCase(t, q, CaseHold)
	for id := uint64(1); id <= 20; id++ { // over several segments
		mustAppend(t, q, export("a", 9000, 2*id, 2*id+1))
		mustAppend(t, q, exportAt("b", 9000, 100+id, hold))
	}
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), MaxFrames: 3})
	defer l.Return()
	metas, ids := walkAll(t, q, FrameFilter{})
	leased := 0
	var items, bytes int64
	for _, m := range metas {
		wantPlace, wantItems := Pending, 2
		if m.Lane == laneID(q, "b") {
			wantPlace, wantItems = hold, 1
		}
		if m.Place != wantPlace || m.Items != wantItems || m.AcceptedAt.IsZero() || m.ID.Segment == 0 {
			t.Errorf("frame %+v", m)
		}
		if m.Leased {
			leased++
		}
		items += int64(m.Items)
		bytes += m.Bytes
	}
	var wantBytes int64
	for _, lane := range q.Lanes() {
		wantBytes += lane.PendingBytes + lane.HeldBytes
	}
	if leased != 3 || items != 60 || bytes != wantBytes || len(ids) != 60 {
		t.Errorf("%d frames leased, %d items, %d traces, %d bytes, want 3, 60, 60, %d", leased, items, len(ids), bytes, wantBytes)
	}
	newest, back := walkAll(t, q, FrameFilter{Newest: true})
	slices.Reverse(newest)
	if diff := cmp.Diff(metas, newest); diff != "" || back[0] != 120 {
		t.Errorf("newest first begins with message %d (-oldest first, +newest first reversed):\n%s", back[0], diff)
	}
	_, held := walkAll(t, q, FrameFilter{Places: func(p Place) bool { return p == hold }})
	_, ofLane := walkAll(t, q, FrameFilter{Lane: laneID(q, "b")})
	if len(held) != 20 || !slices.Equal(held, ofLane) {
		t.Errorf("held are %v, of the lane %v, want 20 each", held, ofLane)
	}
}

func TestEachFrameEndsWhenToldTo(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	for id := range uint64(5) {
		mustAppend(t, q, export("a", 10, id))
	}
	calls := 0
	if err := q.EachFrame(t.Context(), FrameFilter{}, func(FrameMeta) bool { calls++; return calls < 2 }); err != nil || calls != 2 {
		t.Errorf("ended after %d calls with %v, want 2", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	err := q.EachFrame(ctx, FrameFilter{}, func(FrameMeta) bool { calls++; cancel(); return true })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("ended after %d calls with %v, want one and its context's error", calls, err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := q.EachFrame(t.Context(), FrameFilter{}, func(FrameMeta) bool { return true }); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v, want %v", err, ErrClosed)
	}
}

// openStores counts the databases that are open.
type openStores struct{ now, most atomic.Int64 }

func (o *openStores) install(cfg *Config) {
	cfg.open = func(dir string, mode storeMode, c storeConfig) (store, error) {
		s, err := openBadger(dir, mode, c)
		if err != nil {
			return nil, err
		}
		n := o.now.Add(1)
		for most := o.most.Load(); n > most && !o.most.CompareAndSwap(most, n); most = o.most.Load() {
		}
		return &countedStore{s, o}, nil
	}
}

type countedStore struct {
	store
	o *openStores
}

func (s *countedStore) Close() error {
	s.o.now.Add(-1)
	return s.store.Close()
}

// TestEachFrameOpensOneSegmentAtATime goes through many closed segments.
func TestEachFrameOpensOneSegmentAtATime(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	for id := range uint64(60) {
		mustAppend(t, q, export("a", 15_000, id))
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	var o openStores
	o.install(&cfg)
	q = mustOpen(t, cfg)
	before := o.now.Load()
	o.most.Store(before)
	_, ids := walkAll(t, q, FrameFilter{})
	if len(ids) != 60 || q.Stats().Segments < 8 {
		t.Fatalf("%d messages in %d segments", len(ids), q.Stats().Segments)
	}
	if now, most := o.now.Load(), o.most.Load(); now != before || most > before+1 {
		t.Errorf("%d databases are open, there were up to %d, and %d before", now, most, before)
	}
}

// TestEachFrameSeesWhatIsCopiedMeanwhile has frames copied to a shelf at every
// point of a walk: before they are reached where they stood, and after the
// shelf was gone through.
func TestEachFrameSeesWhatIsCopiedMeanwhile(t *testing.T) {
	for _, newest := range []bool{false, true} {
		for at := 1; at <= 9; at += 2 {
			r := newOrderedRun(t)
			for _, filler := range []string{"first", "stays", "third"} {
				r.segment(filler)
			}
			if newest {
				r.drain("third") // there is a shelf already, and room on it
			}
			seen := map[uint64]bool{}
			calls := 0
			err := r.q.EachFrame(t.Context(), FrameFilter{Lane: laneID(r.q, "ordered"), Newest: newest}, func(m FrameMeta) bool {
				for _, trace := range m.Traces {
					seen[messageOfTrace(trace)] = true
				}
				if calls++; calls == at {
					r.drain("first")
					r.drain("third")
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			for id := uint64(1); id < r.next; id++ {
				if !seen[id] {
					t.Errorf("newest first %v, copied at frame %d: message %d was not seen", newest, at, id)
				}
			}
		}
	}
}

func TestEachFrameReportsASegmentItCannotOpenForNow(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	var fail atomic.Bool
	cfg.open = func(dir string, mode storeMode, c storeConfig) (store, error) {
		if fail.Load() {
			return nil, errors.Join(errNoSpace, errInjected)
		}
		return openBadger(dir, mode, c)
	}
	q := mustOpen(t, cfg)
	for id := range uint64(20) {
		mustAppend(t, q, export("a", 15_000, id))
	}
	q = reopen(t, q)
	fail.Store(true)
	err := q.EachFrame(t.Context(), FrameFilter{}, func(FrameMeta) bool { return true })
	if !errors.Is(err, errNoSpace) {
		t.Errorf("a segment that cannot be opened: %v, want it reported", err)
	}
	fail.Store(false)
	if _, ids := walkAll(t, q, FrameFilter{}); len(ids) != 20 {
		t.Errorf("%d messages, want 20", len(ids))
	}
	if dirs, _ := filepath.Glob(filepath.Join(cfg.Dir, "segments", "*"+asideSuffix)); len(dirs) > 0 {
		t.Errorf("set aside: %v", dirs)
	}
}
