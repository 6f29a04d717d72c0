package queue

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// orderedRun is a queue with a lane "ordered" whose clock a test moves.
type orderedRun struct {
	t    *testing.T
	cfg  Config
	q    *Queue
	now  time.Time
	next uint64 // message
}

func newOrderedRun(t *testing.T) *orderedRun {
	r := &orderedRun{t: t, cfg: smallConfig(t.TempDir()), now: time.UnixMilli(1_700_000_000_000), next: 1}
	r.cfg.now = func() time.Time { r.now = r.now.Add(time.Millisecond); return r.now }
	r.q = mustOpen(t, r.cfg)
	return r
}

// segment appends three messages to the lane, and beside them enough in lane
// filler that the segment is mostly dead once that is settled; then it rotates.
func (r *orderedRun) segment(filler string) {
	r.t.Helper()
	for range 3 {
		mustAppend(r.t, r.q, export("ordered", 10, r.next))
		r.next++
	}
	for id := range uint64(12) {
		mustAppend(r.t, r.q, export(filler, 9000, 1000*r.next+id))
	}
	if err := r.q.rotate(); err != nil {
		r.t.Fatal(err)
	}
}

// drain settles a lane, and has what stood beside it copied.
func (r *orderedRun) drain(lane string) {
	r.t.Helper()
	for _, l := range leaseAllOf(r.t, r.q, laneID(r.q, lane)) {
		var s []Settlement
		for i := range l.Frames {
			s = append(s, Settlement{Frame: i, Result: ResultDelivered})
		}
		if err := l.Settle(s...); err != nil {
			r.t.Fatal(err)
		}
	}
	for range 12 {
		if err := r.q.keep(); err != nil {
			r.t.Fatal(err)
		}
	}
	if r.q.shelf == nil {
		r.t.Fatal("nothing was shelved")
	}
}

func (r *orderedRun) reopen() {
	r.t.Helper()
	if err := r.q.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.q = mustOpen(r.t, r.cfg)
}

// order is the order in which the lane is leased, a few messages at a time.
func (r *orderedRun) order(o LeaseOptions) (ids []uint64) {
	r.t.Helper()
	o.Lane, o.MaxRawBytes = laneID(r.q, "ordered"), 60
	var leases []*Lease
	for {
		l, err := r.q.Lease(o)
		if err != nil {
			r.t.Fatal(err)
		}
		if l == nil {
			break
		}
		leases = append(leases, l)
		for _, f := range l.Frames {
			ids = append(ids, frameIDs(r.t, f)...)
		}
	}
	for _, l := range leases {
		l.Return()
	}
	return ids
}

func (r *orderedRun) wantOrder(when string) {
	r.t.Helper()
	want := make([]uint64, 0, r.next)
	for id := uint64(1); id < r.next; id++ {
		want = append(want, id)
	}
	if diff := cmp.Diff(want, r.order(LeaseOptions{InOrder: true})); diff != "" {
		r.t.Errorf("%s: leased in order (-want +got):\n%s", when, diff)
	}
}

// TestLeasesInOrderOutliveCopying has the first and third segment of a lane
// copied to a shelf, behind the second: a lease in order still begins with the
// first. Leasing by segment does not, which the test checks too.
func TestLeasesInOrderOutliveCopying(t *testing.T) {
	r := newOrderedRun(t)
	for _, filler := range []string{"gone", "stays", "gone"} {
		r.segment(filler)
	}
	r.drain("gone")
	mustAppend(t, r.q, export("ordered", 10, r.next))
	r.next++
	if ids := r.order(LeaseOptions{}); slices.IsSorted(ids) {
		t.Fatalf("leased by segment in the order %v: the test does not test what it should", ids)
	}
	r.wantOrder("after copying")
}

// The third segment is shelved before the first, onto the same shelf.
func TestOrderOfShelvedYoungerFirst(t *testing.T) {
	r := newOrderedRun(t)
	for _, filler := range []string{"first", "stays", "third"} {
		r.segment(filler)
	}
	r.drain("third")
	r.drain("first")
	r.wantOrder("after copying")
}

// While the oldest segment is being copied, its frames are out of sight.
func TestOrderOfLeaseDuringShelving(t *testing.T) {
	r := newOrderedRun(t)
	for _, filler := range []string{"first", "stays", "third"} {
		r.segment(filler)
	}
	first := r.q.segs[r.q.st.sortedSegments()[0].id]
	if first.index == nil {
		if err := r.q.load(first); err != nil {
			t.Fatal(err)
		}
	}
	refs := r.q.leaseAll(first) // as shelveSegment does, before it copies
	ids := r.order(LeaseOptions{InOrder: true})
	r.q.endShelving(refs)
	if len(ids) > 0 {
		t.Errorf("leased %v while 1 to 3 were being copied", ids)
	}
}

// TestClockSetBackKeepsTheOrder sets the clock back by an hour between segments,
// before and after a start, and has the older ones copied behind the younger:
// what is younger must not say that it is older, nor of the same time.
func TestClockSetBackKeepsTheOrder(t *testing.T) {
	for _, restart := range []bool{false, true} {
		r := newOrderedRun(t)
		for range 3 { // within a segment
			mustAppend(t, r.q, export("ordered", 10, r.next))
			r.next++
			r.now = r.now.Add(-time.Minute)
		}
		r.wantOrder("while the clock goes back")
		r.segment("first")
		r.now = r.now.Add(-time.Hour)
		if restart {
			r.reopen()
		}
		r.wantOrder("one segment")
		r.segment("stays")
		r.now = r.now.Add(-time.Hour)
		r.segment("third")
		r.wantOrder("three segments")
		r.drain("third")
		r.drain("first")
		r.wantOrder("after copying")
		r.reopen()
		r.wantOrder("after a start")
	}
}

// TestReleasedFramesAreLeasedInOrder releases frames among pending ones, in
// segments whose index is loaded and in others.
func TestReleasedFramesAreLeasedInOrder(t *testing.T) {
	r := newOrderedRun(t)
	hold := mustOpenCase(t, r.q, CaseHold)
	for range 3 {
		for _, place := range []Place{hold, Pending, hold, Pending} {
			mustAppend(t, r.q, exportAt("ordered", 10, r.next, place))
			r.next++
		}
		if err := r.q.rotate(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.q.Release(hold); err != nil {
		t.Fatal(err)
	}
	r.wantOrder("at once")
	r.reopen()
	r.wantOrder("after a start")
}

// TestClockThatWasAheadIsForgottenWithItsData: no order is to be kept once
// nothing of that time is there.
func TestClockThatWasAheadIsForgottenWithItsData(t *testing.T) {
	r := newOrderedRun(t)
	r.now = r.now.Add(1000 * time.Hour)
	mustAppend(t, r.q, export("ordered", 10, 1))
	settleAll(t, r.q)
	r.now = r.now.Add(-1000 * time.Hour)
	r.reopen()
	mustAppend(t, r.q, export("ordered", 10, 2))
	if got := r.q.Lanes()[0].OldestAt; got.After(r.now) {
		t.Errorf("accepted at %v, and it is %v", got, r.now)
	}
}
