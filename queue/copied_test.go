package queue

import "testing"

func TestFramesSayWhetherTheyAreCopies(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	before := q.ActiveSegment()
	mustAppend(t, q, export("old", 2000, 1, 2))
	mustAppend(t, q, export("a", 10, 3, 4))
	check := func(lane string, copied bool, from, to uint64) {
		t.Helper()
		l := leaseAllOf(t, q, laneID(q, lane))[0]
		for _, f := range l.Frames {
			if f.Copied != copied || f.ID.Segment < from || f.ID.Segment > to {
				t.Errorf("frame %s of lane %s: copied is %v, want %v, and its segment in %d to %d", f.ID, lane, f.Copied, copied, from, to)
			}
		}
		l.Return()
	}
	check("a", false, before, before)
	l := leaseAllOf(t, q, laneID(q, "a"))[0]
	if err := l.Settle(Settlement{Result: ResultReplaced, Delivered: 1, Parts: []Part{{Payload: message(4, 10), Items: 1}}}); err != nil {
		t.Fatal(err)
	}
	check("a", true, before, before)
	for id := range uint64(20) { // fills the segment with what is then settled
		mustAppend(t, q, export("b", 9000, 100+id))
	}
	for _, l := range leaseAllOf(t, q, laneID(q, "b")) {
		var s []Settlement
		for i := range l.Frames {
			s = append(s, Settlement{Frame: i, Result: ResultDelivered})
		}
		if err := l.Settle(s...); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	if q.shelf == nil {
		t.Fatal("nothing was shelved")
	}
	shelf := q.shelf.id
	check("old", true, shelf, shelf)
	if err := q.rotate(); err != nil {
		t.Fatal(err)
	}
	now := q.ActiveSegment()
	if now <= before {
		t.Errorf("the active segment is %d, and was %d", now, before)
	}
	mustAppend(t, q, export("new", 10, 5))
	check("new", false, now, now)
}
