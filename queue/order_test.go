package queue

import (
	"slices"
	"testing"
	"time"
)

// TestLeasesInOrderOutliveCopying has the first and third segment of a lane
// copied to a shelf, behind the second: a lease in order still begins with the
// first. Leasing by segment does not, which the test checks too.
func TestLeasesInOrderOutliveCopying(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	now := time.UnixMilli(1_700_000_000_000)
	cfg.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	q := mustOpen(t, cfg)
	fill := func(lane string, from uint64) {
		for id := range uint64(12) {
			mustAppend(t, q, export(lane, 9000, from+id))
		}
	}
	next := uint64(1)
	for _, filler := range []string{"gone", "stays", "gone"} {
		for range 3 {
			mustAppend(t, q, export("ordered", 10, next))
			next++
		}
		fill(filler, 1000*next)
		if err := q.rotate(); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range leaseAllOf(t, q, laneID(q, "gone")) {
		var s []Settlement
		for i := range l.Frames {
			s = append(s, Settlement{Frame: i, Result: ResultDelivered})
		}
		if err := l.Settle(s...); err != nil {
			t.Fatal(err)
		}
	}
	for range 12 {
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	if q.shelf == nil {
		t.Fatal("nothing was shelved")
	}
	mustAppend(t, q, export("ordered", 10, next))
	order := func(inOrder bool) (ids []uint64) {
		t.Helper()
		var leases []*Lease
		for {
			l, err := q.Lease(LeaseOptions{Lane: laneID(q, "ordered"), MaxRawBytes: 60, InOrder: inOrder})
			if err != nil {
				t.Fatal(err)
			}
			if l == nil {
				break
			}
			leases = append(leases, l)
			for _, f := range l.Frames {
				ids = append(ids, frameIDs(t, f)...)
			}
		}
		for _, l := range leases {
			l.Return()
		}
		return ids
	}
	if ids := order(false); slices.IsSorted(ids) {
		t.Fatalf("leased by segment in the order %v: the test does not test what it should", ids)
	}
	if ids := order(true); !slices.IsSorted(ids) || len(ids) != int(next) {
		t.Errorf("leased in the order %v, want 1 to %d", ids, next)
	}
}
