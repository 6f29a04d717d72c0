package queue

import (
	"math/bits"
	"slices"
)

// bucket groups live frames of a segment: same lane, same place.
type bucket struct {
	lane  LaneID
	place Place
}

// tally counts frames.
type tally struct {
	frames, items, rawBytes, bytes int64
	oldestMS                       int64 // at most as old as the oldest frame; 0 if there is none
}

func (t *tally) add(o tally) {
	if o.frames > 0 && (t.frames == 0 || o.oldestMS < t.oldestMS) {
		t.oldestMS = o.oldestMS
	}
	t.frames += o.frames
	t.items += o.items
	t.rawBytes += o.rawBytes
	t.bytes += o.bytes
}

func (t *tally) sub(o tally) {
	t.frames -= o.frames
	t.items -= o.items
	t.rawBytes -= o.rawBytes
	t.bytes -= o.bytes
	if t.frames <= 0 {
		*t = tally{}
	}
}

// bitset marks frame numbers.
type bitset []uint64

func (b bitset) has(n uint32) bool {
	i := int(n / 64)
	return i < len(b) && b[i]&(1<<(n%64)) != 0
}

func (b *bitset) set(n uint32) {
	i := int(n / 64)
	for len(*b) <= i {
		*b = append(*b, 0)
	}
	(*b)[i] |= 1 << (n % 64)
}

func (b bitset) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// segmentState is what must be known of a segment, and is checkpointed.
type segmentState struct {
	id    uint64
	shelf bool   // holds copies of long-waiting frames; never the journal
	next  uint32 // frames with this number or higher are not part of the state
	gone  bitset // settled, or living on elsewhere
	live  map[bucket]*tally

	// placed holds the place of frames that moved after they were written.
	placed map[uint32]Place
}

func newSegmentState(id uint64, shelf bool) *segmentState {
	return &segmentState{id: id, shelf: shelf, live: map[bucket]*tally{}, placed: map[uint32]Place{}}
}

func (s *segmentState) tally(b bucket) *tally {
	t := s.live[b]
	if t == nil {
		t = &tally{}
		s.live[b] = t
	}
	return t
}

func (s *segmentState) remove(b bucket, t tally) {
	have := s.live[b]
	if have == nil {
		return
	}
	have.sub(t)
	if have.frames == 0 {
		delete(s.live, b)
	}
}

// liveBytes is what the segment's live frames take.
func (s *segmentState) liveBytes() (n int64) {
	for _, t := range s.live {
		n += t.bytes
	}
	return n
}

// placeOf is where frame seq, written at place written, stands now.
func (st *state) placeOf(s *segmentState, seq uint32, written Place) Place {
	p := written
	if moved, ok := s.placed[seq]; ok {
		p = moved
	}
	if _, ok := st.released[p]; ok {
		return Pending
	}
	return p
}

// Totals counts items over the life of the data directory. They add up:
// Accepted = Delivered + Pending + Held + Quarantined + Dropped.
type Totals struct {
	Accepted, Delivered, Pending, Held, Quarantined, Dropped int64
	DroppedByReason                                          map[string]int64
}

// laneState is a lane's identity.
type laneState struct {
	id         LaneID
	descriptor string
}

// caseState is a case: a place other than Pending.
type caseState struct {
	id         Place
	lane       LaneID
	kind       CaseKind
	openedAtMS int64
	data       []byte
}

// state is everything the queue knows besides the frames themselves. It is the
// checkpoint at the head of the active segment plus the journal after it:
// live changes and replay go through the same apply.
type state struct {
	nextSegment uint64
	nextLane    LaneID
	nextPlace   Place

	accepted  int64
	delivered int64
	dropped   map[string]int64

	lanes    map[LaneID]*laneState
	byName   map[string]*laneState
	cases    map[Place]*caseState
	released map[Place]uint64 // released cases: segments up to this id may still name them
	notes    map[string][]byte
	segments map[uint64]*segmentState
}

func newState() *state {
	return &state{
		nextSegment: 1, nextLane: 1, nextPlace: 1,
		dropped: map[string]int64{}, lanes: map[LaneID]*laneState{}, byName: map[string]*laneState{},
		cases: map[Place]*caseState{}, released: map[Place]uint64{}, notes: map[string][]byte{},
		segments: map[uint64]*segmentState{},
	}
}

// addFrame makes a committed frame part of the state.
func (st *state) addFrame(s *segmentState, seq uint32, h frameHeader) {
	if seq >= s.next {
		s.next = seq + 1
	}
	if s.gone.has(seq) {
		return
	}
	s.tally(bucket{h.lane, st.placeOf(s, seq, h.place)}).add(h.tally())
	if h.accepted {
		st.accepted += int64(h.items)
	}
}

// tally is the frame's share of a tally.
func (h frameHeader) tally() tally {
	return tally{
		frames: 1, items: int64(h.items), rawBytes: int64(h.rawBytes),
		bytes: frameHeaderBytes + 16*int64(h.traces) + int64(h.payloadBytes), oldestMS: h.acceptedAtMS,
	}
}

// apply changes the state by one event. Events that refer to a frame already
// gone change nothing, so a replayed journal is harmless.
func (st *state) apply(e *event) {
	switch e.kind {
	case eventDelivered, eventDropped, eventReplaced, eventCopied:
		st.applyGone(e)
	case eventPlaced:
		if s := st.segments[e.segment]; s != nil && !s.gone.has(e.seq) {
			t := e.tally()
			s.remove(bucket{e.lane, e.from}, t)
			s.tally(bucket{e.lane, e.to}).add(t)
			s.placed[e.seq] = e.to
		}
	case eventReleased:
		st.applyReleased(e.from)
	case eventCase:
		st.applyCase(e)
	case eventClosed:
		delete(st.cases, e.from)
	case eventNote:
		if e.data == nil {
			delete(st.notes, e.text)
		} else {
			st.notes[e.text] = e.data
		}
	case eventLane:
		if st.lanes[e.lane] == nil {
			st.addLane(&laneState{id: e.lane, descriptor: string(e.data)})
		}
	case eventLost:
		if s := st.segments[e.segment]; s != nil {
			t := e.tally()
			t.frames = e.frames
			s.remove(bucket{e.lane, e.from}, t)
		}
		st.dropped[e.text] += e.items
	}
}

func (st *state) addLane(l *laneState) {
	st.lanes[l.id] = l
	st.byName[l.descriptor] = l
	if l.id >= st.nextLane {
		st.nextLane = l.id + 1
	}
}

// tally is what the event's frame counted for.
func (e *event) tally() tally {
	return tally{frames: 1, items: e.items, rawBytes: e.rawBytes, bytes: e.bytes, oldestMS: e.atMS}
}

func (st *state) applyGone(e *event) {
	s := st.segments[e.segment]
	if s == nil || s.gone.has(e.seq) {
		return
	}
	s.gone.set(e.seq)
	delete(s.placed, e.seq)
	s.remove(bucket{e.lane, e.from}, e.tally())
	switch e.kind {
	case eventDelivered:
		st.delivered += e.items
	case eventDropped:
		st.dropped[e.text] += e.items
	case eventReplaced:
		st.delivered += e.done
	case eventCopied:
		if to := st.segments[e.toSegment]; to != nil {
			if e.toSeq >= to.next {
				to.next = e.toSeq + 1
			}
			to.tally(bucket{e.lane, e.from}).add(e.tally())
		}
	}
}

func (st *state) applyCase(e *event) {
	c := st.cases[e.to]
	if c == nil {
		c = &caseState{id: e.to, lane: e.lane, kind: CaseKind(e.done), openedAtMS: e.atMS}
		st.cases[e.to] = c
	}
	c.data = e.data
	if e.to >= st.nextPlace {
		st.nextPlace = e.to + 1
	}
}

func (st *state) applyReleased(p Place) {
	if p == Pending {
		return
	}
	delete(st.cases, p)
	var newest uint64
	for id, s := range st.segments {
		newest = max(newest, id)
		for b, t := range s.live {
			if b.place == p {
				delete(s.live, b)
				s.tally(bucket{b.lane, Pending}).add(*t)
			}
		}
	}
	st.released[p] = newest
}

// totals adds everything up.
func (st *state) totals() Totals {
	t := Totals{Accepted: st.accepted, Delivered: st.delivered, DroppedByReason: make(map[string]int64, len(st.dropped))}
	for reason, n := range st.dropped {
		t.Dropped += n
		t.DroppedByReason[reason] = n
	}
	for _, s := range st.segments {
		for b, tl := range s.live {
			switch st.kindOf(b.place) {
			case 0:
				t.Pending += tl.items
			case CaseHold:
				t.Held += tl.items
			default:
				t.Quarantined += tl.items
			}
		}
	}
	return t
}

// kindOf is the kind of the case at a place, 0 for Pending.
func (st *state) kindOf(p Place) CaseKind {
	if p == Pending {
		return 0
	}
	if c := st.cases[p]; c != nil {
		return c.kind
	}
	return CaseQuarantine
}

// prune forgets what nothing refers to: segments without live frames unless
// keep says they are being written, released cases that no segment can name, and lanes without live
// frames that are not in use.
func (st *state) prune(keep func(segment uint64) bool, inUse func(LaneID) bool) {
	used := map[LaneID]bool{}
	oldest := st.nextSegment
	for id, s := range st.segments {
		if len(s.live) == 0 && !keep(id) {
			delete(st.segments, id)
			continue
		}
		oldest = min(oldest, id)
		for b := range s.live {
			used[b.lane] = true
		}
	}
	for p, upTo := range st.released {
		if upTo < oldest {
			delete(st.released, p)
		}
	}
	for id, l := range st.lanes {
		if !used[id] && !inUse(id) {
			delete(st.lanes, id)
			delete(st.byName, l.descriptor)
		}
	}
}

// sortedSegments lists the segments oldest first.
func (st *state) sortedSegments() []*segmentState {
	out := make([]*segmentState, 0, len(st.segments))
	for _, s := range st.segments {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *segmentState) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return out
}
