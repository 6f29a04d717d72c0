package queue

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustOpenCase(t *testing.T, q *Queue, kind CaseKind) Place {
	t.Helper()
	p, err := q.OpenCase(Case{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// exportAt is an export of one message that stands at a place.
func exportAt(lane string, size int, id uint64, place Place) *Export {
	e := export(lane, size, id)
	e.Place = place
	return e
}

func droppedExport(lane, reason string, ids ...uint64) *Export {
	e := export(lane, 10, ids...)
	e.Dropped = reason
	return e
}

func mustLease(t *testing.T, q *Queue, o LeaseOptions) *Lease {
	t.Helper()
	if o.MaxRawBytes == 0 {
		o.MaxRawBytes = everything
	}
	l, err := q.Lease(o)
	if err != nil {
		t.Fatal(err)
	}
	if l == nil {
		t.Fatalf("nothing to lease by %+v", o)
	}
	return l
}

func leasedIDs(t *testing.T, l *Lease) (ids []uint64) {
	t.Helper()
	for _, f := range l.Frames {
		ids = append(ids, frameIDs(t, f)...)
	}
	return ids
}

func reopen(t *testing.T, q *Queue) *Queue {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, q.cfg)
}

func TestExportsOfOneAppendStandWhereTheySay(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	hold, quarantine := mustOpenCase(t, q, CaseHold), mustOpenCase(t, q, CaseQuarantine)
	blob := mustWriteBlob(t, q, 4, 100)
	dropped := droppedExport("a", "quota", 4, 5)
	dropped.Blobs = []Blob{blob}
	if err := q.Append(t.Context(), exportAt("a", 10, 1, hold), exportAt("a", 10, 2, Pending), exportAt("b", 10, 3, quarantine),
		dropped, droppedExport("never seen", "quota", 6), droppedExport("a", "sampled", 7), exportAt("a", 10, 8, hold), exportAt("a", 10, 9, 77)); err != nil {
		t.Fatal(err)
	}
	want := Totals{Accepted: 9, Pending: 2, Held: 2, Quarantined: 1, Dropped: 4, DroppedByReason: map[string]int64{"quota": 3, "sampled": 1}}
	for _, when := range []string{"at once", "after a start"} {
		if diff := cmp.Diff(want, checkTotals(t, q)); diff != "" {
			t.Errorf("%s: totals (-want +got):\n%s", when, diff)
		}
		if names := blobNames(t, q.cfg.Dir); len(names) > 0 {
			t.Errorf("%s: the blob of a dropped export is there: %v", when, names)
		}
		if id := laneID(q, "never seen"); id != 0 {
			t.Errorf("%s: lane %d was numbered for an export that is dropped", when, id)
		}
		l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), Place: hold})
		if diff := cmp.Diff([]uint64{1, 8}, leasedIDs(t, l)); diff != "" || len(l.Frames) != 1 {
			t.Errorf("%s: held in %d frames, want one (-want +got):\n%s", when, len(l.Frames), diff)
		}
		l.Return()
		for _, lane := range q.Lanes() {
			if lane.Descriptor == "a" && (lane.HeldFrames != 1 || lane.HeldItems != 2 || lane.HeldBytes == 0 || lane.KeptItems != 0 || lane.OldestHeldAt.IsZero()) {
				t.Errorf("%s: lane a is %+v", when, lane)
			}
			if lane.Descriptor == "b" && (lane.HeldFrames != 0 || lane.KeptItems != 1 || !lane.OldestHeldAt.IsZero()) {
				t.Errorf("%s: lane b is %+v", when, lane)
			}
		}
		if diff := cmp.Diff(map[string][]uint64{"a": {2, 9}}, nonEmpty(pendingIDs(t, q))); diff != "" {
			t.Errorf("%s: pending (-want +got):\n%s", when, diff)
		}
		q = reopen(t, q)
	}
}

// TestAppendKeepsAllExportsOrNone refuses one of several exports.
func TestAppendKeepsAllExportsOrNone(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxLanes, cfg.MaxFrameBytes, cfg.MaxBytes, cfg.HeldShare, cfg.KeptShare = 3, 64<<10, 1<<20, 0.05, 0.05
	q := mustOpen(t, cfg)
	q.disk.maxBytes = 1 << 30 // only shares are under test
	hold, quarantine := mustOpenCase(t, q, CaseHold), mustOpenCase(t, q, CaseQuarantine)
	mustAppend(t, q, exportAt("a", 45<<10, 1, hold))
	blob := mustWriteBlob(t, q, 2, 100)
	many := make([]*Export, maxAppendExports+1)
	for i := range many {
		many[i] = export("a", 10, 2)
	}
	withBlobs := export("a", 10, 2)
	withBlobs.Blobs = []Blob{blob}
	for name, c := range map[string]struct {
		exports []*Export
		full    string
		is      error
	}{
		"lanes":       {[]*Export{export("b", 10, 2), export("c", 10, 2), droppedExport("a", "quota", 2), export("d", 10, 2)}, "lanes", nil},
		"held":        {[]*Export{withBlobs, exportAt("a", 30<<10, 2, hold)}, "held_full", nil},
		"held in sum": {[]*Export{exportAt("a", 16<<10, 2, hold), exportAt("b", 16<<10, 2, hold)}, "held_full", nil},
		"kept":        {[]*Export{exportAt("a", 60<<10, 2, quarantine)}, "kept_full", nil},
		"large":       {[]*Export{export("a", 10, 2), export("a", 65<<10, 2)}, "", ErrTooLarge},
		"large sum":   {[]*Export{export("a", 60<<10, 2), export("a", 60<<10, 2)}, "", ErrTooLarge},
		"many":        {many, "", nil},
		"reason":      {[]*Export{droppedExport("a", strings.Repeat("x", maxReasonBytes+1), 2)}, "", nil},
		"no blob":     {[]*Export{withBlobs, withBlobs}, "", ErrNoBlob},
	} {
		err := q.Append(t.Context(), c.exports...)
		if c.full != "" {
			wantFull(t, err, c.full)
		}
		if err == nil || (c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
		if tot := checkTotals(t, q); tot.Accepted != 1 || tot.Held != 1 || len(q.Lanes()) != 1 {
			t.Fatalf("%s: a refused append left %+v, %+v", name, tot, q.Lanes())
		}
	}
	if err := q.Append(t.Context()); err != nil {
		t.Errorf("append of nothing: %v", err)
	}
	if err := q.Append(t.Context(), withBlobs, export("b", 10, 3), export("c", 10, 4)); err != nil {
		t.Errorf("append of what there is room for: %v", err)
	}
	mustAppend(t, q, exportAt("a", 16<<10, 5, hold)) // one of two that were too much
	q = reopen(t, q)
	if diff := cmp.Diff(map[string][]uint64{"a": {2}, "b": {3}, "c": {4}}, nonEmpty(pendingIDs(t, q))); diff != "" {
		t.Errorf("after a start (-want +got):\n%s", diff)
	}
}

// TestSharesOfTheCapAreApart fills the share of holds: quarantine has its own,
// and what leaves a share, or stays in it, needs no room.
func TestSharesOfTheCapAreApart(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxBytes, cfg.HeldShare, cfg.KeptShare = 512<<10, 0.1, 0.1
	q := mustOpen(t, cfg)
	q.disk.maxBytes = 1 << 30
	hold, other, quarantine := mustOpenCase(t, q, CaseHold), mustOpenCase(t, q, CaseHold), mustOpenCase(t, q, CaseQuarantine)
	var err error
	id := uint64(0)
	for err == nil && id < 100 {
		id++
		err = q.Append(t.Context(), exportAt("a", 8000, id, hold))
	}
	wantFull(t, err, "held_full")
	if s := q.Stats(); s.HeldBytes < s.MaxHeld-20_000 || s.HeldBytes > s.MaxHeld+10_000 || s.KeptBytes != 0 {
		t.Errorf("%d bytes are held of %d, %d kept", s.HeldBytes, s.MaxHeld, s.KeptBytes)
	}
	mustAppend(t, q, export("a", 8000, 1000))
	lane := laneID(q, "a")
	l := mustLease(t, q, LeaseOptions{Lane: lane})
	if err := l.Settle(Settlement{Result: ResultKept, Place: hold}); !errors.Is(err, ErrKeptFull) {
		t.Fatalf("settle into a full hold: %v, want %v", err, ErrKeptFull)
	}
	l = mustLease(t, q, LeaseOptions{Lane: lane})
	if err := l.Settle(Settlement{Result: ResultKept, Place: quarantine}); err != nil {
		t.Fatalf("settle into quarantine while holds are full: %v", err)
	}
	part := func(ids []uint64, p Place) []Part {
		return []Part{{Payload: message(ids[0], 8000), Items: 1, Traces: []TraceID{traceOf(ids[0])}, Place: p}}
	}
	for _, c := range []struct { // those that free nothing come first
		name   string
		settle func(ids []uint64) Settlement
	}{
		{"to another hold", func([]uint64) Settlement { return Settlement{Result: ResultKept, Place: other} }},
		{"split and stays", func(ids []uint64) Settlement { return Settlement{Result: ResultReplaced, Parts: part(ids, hold)} }},
		{"split and leaves", func(ids []uint64) Settlement { return Settlement{Result: ResultReplaced, Parts: part(ids, Pending)} }},
		{"pending", func([]uint64) Settlement { return Settlement{Result: ResultPending} }},
		{"dropped", func([]uint64) Settlement { return Settlement{Result: ResultDropped, Reason: "policy"} }},
	} {
		l := mustLease(t, q, LeaseOptions{Lane: lane, Place: hold, MaxFrames: 1})
		if err := l.Settle(c.settle(leasedIDs(t, l))); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	checkTotals(t, q)
	q = reopen(t, q)
	checkTotals(t, q)
}

// TestFrameWrittenAtAPlaceThatIsReleased has the release, or the opening, of a
// case and a frame at its place in one transaction, and the one after it.
func TestFrameWrittenAtAPlaceThatIsReleased(t *testing.T) {
	q, blocked, unblock := blockedQueue(t)
	var wg sync.WaitGroup
	wg.Go(func() { mustAppend(t, q, export("first", 10, 100)) })
	<-blocked
	// The committer waits: a case that is open when the group is built, by what
	// a start would have found.
	place := Place(41)
	q.mu.Lock()
	q.st.apply(&event{kind: eventCase, to: place, done: int64(CaseHold)})
	q.st.nextPlace = place + 2
	q.mu.Unlock()
	results := make(chan error, 8)
	put := func(c *change) {
		c.done = results
		if err := q.in.putChange(c, true); err != nil {
			t.Error(err)
		}
	}
	put(&change{events: []event{{kind: eventCase, to: place, done: int64(CaseHold)}}}) // as journaled
	put(&change{events: []event{{kind: eventReleased, from: place}}})
	put(&change{events: []event{{kind: eventCase, to: place + 1, done: int64(CaseHold)}}})
	for id := uint64(1); id <= 2; id++ {
		r := newAppendRequest([]*Export{exportAt("a", 10, id, place+Place(id)-1)})
		r.done = results
		if err := q.in.putAppend(r, 100); err != nil {
			t.Fatal(err)
		}
	}
	close(unblock)
	for range 5 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	mustAppend(t, q, exportAt("a", 10, 3, place)) // released in an earlier transaction
	want := map[string][]uint64{"a": {1, 2, 3}, "first": {100}}
	dir := filepath.Join(t.TempDir(), "crash")
	crashCopy(t, q, dir)
	for _, again := range []func() *Queue{
		func() *Queue { return q },
		func() *Queue { return mustOpen(t, smallConfig(dir)) },
		func() *Queue { return reopen(t, q) },
	} {
		q := again()
		if diff := cmp.Diff(want, pendingIDs(t, q)); diff != "" {
			t.Errorf("pending (-want +got):\n%s", diff)
		}
		if tot := checkTotals(t, q); tot.Pending != 4 || tot.Held != 0 {
			t.Errorf("totals %+v, want 4 pending", tot)
		}
	}
}

// TestKeptFramesAreLeasedByAge leases from a case, from either end, also where
// copying has moved the older behind the younger.
func TestKeptFramesAreLeasedByAge(t *testing.T) {
	r := newOrderedRun(t)
	hold := mustOpenCase(t, r.q, CaseHold)
	for _, filler := range []string{"gone", "stays", "gone"} {
		for range 3 {
			mustAppend(t, r.q, exportAt("ordered", 10, r.next, hold))
			r.next++
		}
		r.segment(filler) // pending ones of the lane, which must not be leased
	}
	r.drain("gone")
	want := []uint64{1, 2, 3, 7, 8, 9, 13, 14, 15}
	for _, o := range []LeaseOptions{{}, {InOrder: true}, {Newest: true}} {
		o.Place = hold
		got := r.order(o)
		if o.Newest {
			slices.Reverse(got)
		}
		if o.InOrder {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("in order (-want +got):\n%s", diff)
			}
			continue
		}
		// A shelf has the first and the last segment's: they stand together.
		sorted := slices.Sorted(slices.Values(got))
		if diff := cmp.Diff(want, sorted); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", o, diff)
		}
		if !o.Newest && got[0] != 1 {
			t.Errorf("the oldest are not leased first: %v", got)
		}
	}
	l := mustLease(t, r.q, LeaseOptions{Lane: laneID(r.q, "ordered"), Place: hold, MaxFrames: 4, InOrder: true})
	if lane := r.q.Lanes()[slices.IndexFunc(r.q.Lanes(), func(l LaneStats) bool { return l.Descriptor == "ordered" })]; lane.LeasedFrames != 0 || lane.HeldFrames != 9 {
		t.Errorf("while kept frames are leased the lane is %+v", lane)
	}
	var s []Settlement
	for i := range l.Frames {
		s = append(s, Settlement{Frame: i, Result: ResultPending})
	}
	if err := l.Settle(s...); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after a start"} {
		if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 16, 17, 18}, r.order(LeaseOptions{InOrder: true})); diff != "" {
			t.Errorf("%s: pending again (-want +got):\n%s", when, diff)
		}
		r.reopen()
	}
}

// TestReleaseWhileKeptFramesAreLeased releases a case whose frames are leased,
// and then lets them end in every way.
func TestReleaseWhileKeptFramesAreLeased(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	other := mustOpenCase(t, q, CaseQuarantine)
	pending, kept := []uint64{}, 0
	for i, result := range []Result{0, ResultDelivered, ResultDropped, ResultKept, ResultReplaced, ResultPartly, ResultPending} {
		hold := mustOpenCase(t, q, CaseHold)
		id := uint64(10 * (i + 1))
		e := export("a", 3000, id, id+1)
		e.Place = hold
		mustAppend(t, q, e)
		mustAppend(t, q, exportAt("a", 3000, id+2, hold))
		pending = append(pending, id+2) // not leased
		l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), Place: hold, MaxFrames: 1})
		if err := q.Release(hold); err != nil {
			t.Fatal(err)
		}
		s := Settlement{Result: result}
		switch result {
		case ResultKept:
			s.Place = other
			kept += 2
		case ResultReplaced:
			s.Parts = []Part{
				{Payload: message(id, 3000), Items: 1, Traces: []TraceID{traceOf(id)}, Place: hold}, // released: pending
				{Payload: message(id+1, 3000), Items: 1, Traces: []TraceID{traceOf(id + 1)}, Place: other},
			}
			pending = append(pending, id)
			kept++
		case 0, ResultPending:
			pending = append(pending, id, id+1)
		default:
		}
		if result == 0 {
			l.Return()
		} else if err := l.Settle(s); err != nil {
			t.Fatalf("result %d: %v", result, err)
		}
	}
	slices.Sort(pending)
	for _, when := range []string{"at once", "after a start"} {
		if diff := cmp.Diff(map[string][]uint64{"a": pending}, pendingIDs(t, q)); diff != "" {
			t.Errorf("%s: pending (-want +got):\n%s", when, diff)
		}
		if tot := checkTotals(t, q); tot.Held != 0 || tot.Quarantined != int64(kept) || tot.Pending != int64(len(pending)) {
			t.Errorf("%s: totals %+v, want %d pending, %d kept", when, tot, len(pending), kept)
		}
		q = reopen(t, q)
	}
}

// TestKeptFramesUnderEverybodysHands appends into cases that others lease,
// move and release at the same time: each message is there once in the end.
func TestKeptFramesUnderEverybodysHands(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	const workers, each = 3, 60
	place := make(chan Place, 1)
	place <- mustOpenCase(t, q, CaseHold)
	current := func() Place { p := <-place; place <- p; return p }
	var appending, moving sync.WaitGroup
	for w := range workers {
		appending.Go(func() {
			for i := range each {
				id := uint64(1000*w + i)
				if err := q.Append(context.Background(), exportAt("a", 500, id, current()), export("b", 10, 100_000+id)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	moving.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-q.Changed():
			}
			for _, p := range []Place{current(), Pending} {
				l, err := q.Lease(LeaseOptions{Lane: laneID(q, "a"), Place: p, MaxRawBytes: everything, Newest: n%2 == 0})
				if err != nil || l == nil {
					continue
				}
				var s []Settlement
				for i := range l.Frames {
					switch (n + i) % 3 {
					case 0:
						s = append(s, Settlement{Frame: i, Result: ResultPending})
					case 1:
						s = append(s, Settlement{Frame: i, Result: ResultKept, Place: current()})
					}
				}
				if n%5 == 0 {
					old := <-place
					if err := q.Release(old); err != nil {
						t.Error(err)
					}
					next, err := q.OpenCase(Case{Kind: CaseHold})
					if err != nil {
						t.Error(err)
					}
					place <- next
				}
				if err := l.Settle(s...); err != nil {
					t.Error(err)
				}
			}
			if err := q.keep(); err != nil {
				t.Error(err)
			}
		}
	})
	appending.Wait()
	close(done)
	moving.Wait()
	for range 2 {
		checkTotals(t, q)
		for _, c := range q.Cases() {
			if err := q.Release(c.Place); err != nil {
				t.Fatal(err)
			}
		}
		got := pendingIDs(t, q)
		want := map[string][]uint64{}
		for w := range workers {
			for i := range each {
				id := uint64(1000*w + i)
				want["a"], want["b"] = append(want["a"], id), append(want["b"], 100_000+id)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("contents (-want +got):\n%s", diff)
		}
		q = reopen(t, q)
	}
}
