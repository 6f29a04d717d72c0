package queue

import (
	"cmp"
	"slices"
	"strings"
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

// segmentState is what must be known of a segment, and is checkpointed.
type segmentState struct {
	id    uint64
	shelf bool // holds copies of long-waiting frames; never the journal
	// damaged is set once frames were found missing: the directory is then set
	// aside instead of deleted, for whatever a person can still get out of it.
	damaged bool
	next    uint32 // frames with this number or higher are not part of the state
	gone    bitset // settled, or living on elsewhere
	live    map[bucket]*tally

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

// grow counts t more in a segment's bucket.
func (st *state) grow(s *segmentState, b bucket, t tally) {
	s.tally(b).add(t)
	st.countPlace(b.place, t.bytes)
}

// shrink counts t less in a segment's bucket, if there is anything in it.
func (st *state) shrink(s *segmentState, b bucket, t tally) {
	have := s.live[b]
	if have == nil {
		return
	}
	before := have.bytes
	have.sub(t)
	st.countPlace(b.place, have.bytes-before)
	if have.frames == 0 {
		delete(s.live, b)
	}
}

// countPlace keeps the sum of what a case holds.
func (st *state) countPlace(p Place, bytes int64) {
	if p == Pending {
		return
	}
	if st.placeBytes[p] += bytes; st.placeBytes[p] == 0 {
		delete(st.placeBytes, p)
	}
	if st.cases[p] != nil {
		st.shareBytes[st.shareOf(p)] += bytes
	}
}

// anyLive reports whether there is a live frame.
func (st *state) anyLive() bool {
	for _, s := range st.segments {
		if len(s.live) > 0 {
			return true
		}
	}
	return false
}

// liveBytes is what the segment's live frames take.
func (s *segmentState) liveBytes() (n int64) {
	for _, t := range s.live {
		n += t.bytes
	}
	return n
}

// standing is where data at place p stands now. Releasing a case forgets it
// and touches none of its frames, so what still names it is pending. Case
// numbers are not reused.
func (st *state) standing(p Place) Place {
	if st.cases[p] == nil {
		return Pending
	}
	return p
}

// placeOf is where frame seq, written at place written, stands now.
func (st *state) placeOf(s *segmentState, seq uint32, written Place) Place {
	if moved, ok := s.placed[seq]; ok {
		return st.standing(moved)
	}
	return st.standing(written)
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
	notes    map[string][]byte
	segments map[uint64]*segmentState

	// newestMS is the latest time at which a frame was accepted: no younger
	// frame may say that it is older. It is forgotten when nothing is live.
	newestMS int64

	// placeBytes is the sum of the segments' tallies by case, shareBytes that of
	// the open cases by share.
	placeBytes map[Place]int64
	shareBytes shareBytes

	// Sums over notes, kept by setNote.
	callerNotes     int   // those that do not name blobs
	callerNoteBytes int64 // of their keys and values

	caseBytes int64 // of the cases' data
}

func newState() *state {
	return &state{
		nextSegment: 1, nextLane: 1, nextPlace: 1,
		dropped: map[string]int64{}, lanes: map[LaneID]*laneState{}, byName: map[string]*laneState{},
		cases: map[Place]*caseState{}, notes: map[string][]byte{},
		segments: map[uint64]*segmentState{}, placeBytes: map[Place]int64{},
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
	st.nextPlace = max(st.nextPlace, h.place+1)
	st.newestMS = max(st.newestMS, h.acceptedAtMS)
	st.grow(s, bucket{h.lane, st.placeOf(s, seq, h.place)}, h.tally())
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
	st.nextPlace = max(st.nextPlace, e.to+1)
	switch e.kind {
	case eventDelivered, eventDropped, eventReplaced, eventPartly, eventCopied:
		st.applyGone(e)
	case eventPlaced:
		if s := st.segments[e.segment]; s != nil && !s.gone.has(e.seq) {
			t := e.tally()
			st.shrink(s, bucket{e.lane, st.standing(e.from)}, t)
			st.grow(s, bucket{e.lane, st.standing(e.to)}, t)
			s.placed[e.seq] = st.standing(e.to)
		}
	case eventReleased:
		st.applyReleased(e.from)
	case eventCase:
		st.applyCase(e)
	case eventClosed:
		if !st.holds(e.from) {
			st.dropCase(e.from)
		}
	case eventNote:
		st.setNote(e.text, e.data)
	case eventLane:
		if st.lanes[e.lane] == nil {
			st.addLane(&laneState{id: e.lane, descriptor: string(e.data)})
		}
	case eventLost:
		if s := st.segments[e.segment]; s != nil {
			t := e.tally()
			t.frames = e.frames
			st.shrink(s, bucket{e.lane, st.standing(e.from)}, t)
			s.damaged = true
		}
		st.dropped[e.text] += e.items
	case eventDiscarded:
		st.accepted += e.items
		st.dropped[e.text] += e.items
	}
}

// setNote changes a note; nil removes it.
func (st *state) setNote(key string, value []byte) {
	old, had := st.notes[key]
	if value == nil {
		delete(st.notes, key)
	} else {
		st.notes[key] = value
	}
	if strings.HasPrefix(key, blobNotes) {
		return
	}
	if had {
		st.callerNotes--
		st.callerNoteBytes -= int64(len(key) + len(old))
	}
	if value != nil {
		st.callerNotes++
		st.callerNoteBytes += int64(len(key) + len(value))
	}
}

// holds reports whether anything stands at p.
func (st *state) holds(p Place) bool {
	for _, s := range st.segments {
		for b := range s.live {
			if b.place == p {
				return true
			}
		}
	}
	return false
}

// damageCase is the case that keeps what cannot be read of a lane, 0 if none
// is open.
func (st *state) damageCase(lane LaneID) Place {
	for p, c := range st.cases {
		if c.kind == CaseDamage && c.lane == lane {
			return p
		}
	}
	return Pending
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
	place := st.standing(e.from)
	st.shrink(s, bucket{e.lane, place}, e.tally())
	switch e.kind {
	case eventDelivered:
		st.delivered += e.items
	case eventDropped:
		st.dropped[e.text] += e.items
	case eventReplaced:
		st.delivered += e.done
	case eventPartly:
		st.delivered += e.done
		st.dropped[e.text] += e.items - e.done
	case eventCopied:
		to := st.segments[e.toSegment]
		if to == nil { // the shelf was opened after the checkpoint
			to = newSegmentState(e.toSegment, true)
			st.segments[to.id] = to
		}
		if e.toSeq >= to.next {
			to.next = e.toSeq + 1
		}
		st.grow(to, bucket{e.lane, place}, e.tally())
	default: // apply sends no others here
	}
}

func (st *state) applyCase(e *event) {
	c := st.cases[e.to]
	if c == nil {
		c = &caseState{id: e.to, lane: e.lane, kind: CaseKind(e.done), openedAtMS: e.atMS}
		st.cases[e.to] = c
		st.shareBytes[st.shareOf(e.to)] += st.placeBytes[e.to]
	}
	st.caseBytes += int64(len(e.data) - len(c.data))
	c.data = e.data
}

// dropCase forgets a case.
func (st *state) dropCase(p Place) {
	if c := st.cases[p]; c != nil {
		st.caseBytes -= int64(len(c.data))
		st.shareBytes[st.shareOf(p)] -= st.placeBytes[p]
		delete(st.cases, p)
	}
}

func (st *state) applyReleased(p Place) {
	if p == Pending {
		return
	}
	st.dropCase(p)
	delete(st.placeBytes, p)
	for _, s := range st.segments {
		for b, t := range s.live {
			if b.place == p {
				delete(s.live, b)
				s.tally(bucket{b.lane, Pending}).add(*t)
			}
		}
	}
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

// pruneLanes forgets lanes without live frames that are not in use.
func (st *state) pruneLanes(inUse func(LaneID) bool) {
	used := map[LaneID]bool{}
	for _, s := range st.segments {
		for b := range s.live {
			used[b.lane] = true
		}
	}
	for id, l := range st.lanes {
		if used[id] || inUse(id) {
			continue
		}
		delete(st.lanes, id)
		if st.byName[l.descriptor] == l { // a replayed journal may have numbered it again
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
	slices.SortFunc(out, func(a, b *segmentState) int { return cmp.Compare(a.id, b.id) })
	return out
}
