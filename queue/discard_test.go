package queue

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiscardDropsWhatItNames(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	p := mustOpenCase(t, q, CaseQuarantine)
	for id := range uint64(6) {
		mustAppend(t, q, exportAt([]string{"a", "b"}[id%2], 100, id+1, p))
	}
	leased := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), Place: p, MaxFrames: 1})
	only := map[FrameID]bool{}
	if err := q.EachFrame(t.Context(), FrameFilter{Lane: laneID(q, "b")}, func(f FrameMeta) bool { only[f.ID] = true; return len(only) < 2 }); err != nil {
		t.Fatal(err)
	}
	if n, err := q.Discard(t.Context(), p, Discarding{Reason: "some", Only: only}); n != 2 || err != nil {
		t.Errorf("discard two frames: %d items, %v", n, err)
	}
	if n, err := q.Discard(t.Context(), p, Discarding{Reason: "all"}); n != 3 || err != nil {
		t.Errorf("discard the others: %d items, %v", n, err)
	}
	if cases := q.Cases(); len(cases) != 1 || cases[0].Items != 1 {
		t.Errorf("what is leased stays in its case: %+v", cases)
	}
	leased.Return()
	if n, err := q.Discard(t.Context(), p, Discarding{Reason: "all"}); n != 1 || err != nil || len(q.Cases()) > 0 {
		t.Errorf("discard what came back: %d items, %v; cases %+v", n, err, q.Cases())
	}
	q = reopen(t, q)
	want := Totals{Accepted: 6, Dropped: 6, DroppedByReason: map[string]int64{"some": 2, "all": 4}}
	if diff := cmp.Diff(want, checkTotals(t, q)); diff != "" {
		t.Errorf("totals after a start (-want +got):\n%s", diff)
	}
	for what, try := range map[string]func() (int64, error){
		"pending": func() (int64, error) { return q.Discard(t.Context(), Pending, Discarding{Reason: "x"}) },
		"reason":  func() (int64, error) { return q.Discard(t.Context(), p, Discarding{Reason: string(make([]byte, 257))}) },
	} {
		if n, err := try(); n != 0 || err == nil {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p = mustOpenCase(t, q, CaseQuarantine)
	mustAppend(t, q, exportAt("a", 100, 7, p))
	if n, err := q.Discard(ctx, p, Discarding{Reason: "x"}); n != 0 || !errors.Is(err, context.Canceled) || q.Stats().Totals.Quarantined != 1 {
		t.Errorf("a discard that is called off: %d, %v", n, err)
	}
}

// TestPartsGoToAnotherLane also tries one that there is no room for.
func TestPartsGoToAnotherLane(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxLanes = 2
	q := mustOpen(t, cfg)
	p := mustOpenCase(t, q, CaseQuarantine)
	mustAppend(t, q, exportAt("a", 100, 1, p))
	mustAppend(t, q, exportAt("a", 100, 2, p))
	move := func(id uint64, lane string) error {
		l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), Place: p, MaxFrames: 1})
		return l.Settle(Settlement{Result: ResultReplaced, Parts: []Part{{Payload: message(id, 100), Items: 1, Traces: []TraceID{traceOf(id)}, Lane: lane}}})
	}
	if err := move(1, "b"); err != nil {
		t.Fatal(err)
	}
	var full *FullError
	if err := move(2, "c"); !errors.As(err, &full) || full.Reason != "lanes" {
		t.Errorf("to a lane too many: %v", err)
	}
	if err := move(2, string(make([]byte, maxLaneBytes+1))); err == nil || errors.As(err, &full) {
		t.Errorf("to a lane with a long name: %v", err)
	}
	for range 2 {
		if tot := checkTotals(t, q); tot.Accepted != 2 || tot.Pending != 1 || tot.Quarantined != 1 {
			t.Errorf("totals %+v", tot)
		}
		if diff := cmp.Diff(map[string][]uint64{"b": {1}}, nonEmpty(pendingIDs(t, q))); diff != "" {
			t.Errorf("pending (-want +got):\n%s", diff)
		}
		q = reopen(t, q)
	}
	if err := move(2, "b"); err != nil { // a lane that is there
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{1, 2}, settleAll(t, q)); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
}

func TestFrameIsReadWithoutALease(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	mustAppend(t, q, export("a", 100, 1))
	l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a")})
	id := l.Frames[0].ID
	for range 2 {
		f, err := q.ReadFrame(id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]uint64{1}, frameIDs(t, f)); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
	}
	if err := l.Settle(Settlement{Result: ResultDelivered}); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []FrameID{id, {id.Segment, 99}, {99, 0}} {
		if _, err := q.ReadFrame(gone); !errors.Is(err, ErrNoFrame) {
			t.Errorf("frame %s: %v, want %v", gone, err, ErrNoFrame)
		}
	}
	_ = q.Close()
	if _, err := q.ReadFrame(id); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
