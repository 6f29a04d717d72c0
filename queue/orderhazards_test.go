package queue

import (
	"slices"
	"testing"
	"time"
)

func threeSegments(t *testing.T, back bool) (q *Queue, next uint64) {
	cfg := smallConfig(t.TempDir())
	now := time.UnixMilli(1_700_000_000_000)
	cfg.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	q = mustOpen(t, cfg)
	next = 1
	for i, filler := range []string{"first", "stays", "third"} {
		if back && i == 1 {
			now = now.Add(-time.Hour)
		}
		for range 3 {
			mustAppend(t, q, export("ordered", 10, next))
			next++
		}
		for id := range uint64(12) {
			mustAppend(t, q, export(filler, 9000, 1000*next+id))
		}
		if err := q.rotate(); err != nil {
			t.Fatal(err)
		}
	}
	return q, next
}

func reviewDrain(t *testing.T, q *Queue, lane string) {
	for _, l := range leaseAllOf(t, q, laneID(q, lane)) {
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
}

func orderOfLeases(t *testing.T, q *Queue) (ids []uint64) {
	var leases []*Lease
	for {
		l, err := q.Lease(LeaseOptions{Lane: laneID(q, "ordered"), MaxRawBytes: 60, InOrder: true})
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

// The third segment is shelved before the first, onto the same shelf.
func TestOrderOfShelvedYoungerFirst(t *testing.T) {
	q, next := threeSegments(t, false)
	reviewDrain(t, q, "third")
	reviewDrain(t, q, "first")
	if q.shelf == nil {
		t.Fatal("nothing was shelved")
	}
	for _, st := range q.st.sortedSegments() {
		sg := q.segs[st.id]
		t.Logf("segment %d shelf %v loaded %v live %+v", st.id, sg == q.shelf, sg.index != nil, st.live[bucket{laneID(q, "ordered"), Pending}])
		if sg.index != nil {
			for _, seq := range sg.index.ready[laneID(q, "ordered")] {
				t.Logf("  ready %d at %d", seq, sg.index.frames[seq].atMS%100000)
			}
		}
	}
	if ids := orderOfLeases(t, q); !slices.IsSorted(ids) || len(ids) != int(next)-1 {
		t.Errorf("leased in the order %v", ids)
	}
}

// While the oldest segment is being copied, its frames are out of sight.
func TestOrderOfLeaseDuringShelving(t *testing.T) {
	q, _ := threeSegments(t, false)
	var first *segment
	for _, s := range q.segs {
		if first == nil || s.id < first.id {
			first = s
		}
	}
	if first.index == nil {
		if err := q.load(first); err != nil {
			t.Fatal(err)
		}
	}
	refs := q.leaseAll(first) // as shelveSegment does, before it copies
	ids := orderOfLeases(t, q)
	q.endShelving(refs)
	if len(ids) > 0 {
		t.Errorf("leased %v while 1 to 3 were being copied", ids)
	}
}
