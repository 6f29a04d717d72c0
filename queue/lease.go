package queue

import (
	"cmp"
	"errors"
	"slices"
	"sync"
)

// LeaseOptions says what to lease.
type LeaseOptions struct {
	Lane LaneID
	// Place is where the frames stand: Pending, or an open case. What is leased
	// from a case counts as kept in it until it is settled.
	Place Place
	// MaxRawBytes bounds the frames' payloads when decompressed; one frame is
	// leased whatever its size.
	MaxRawBytes int64
	// MaxFrames bounds the frames. Default 256.
	MaxFrames int
	// Newest leases from the newest end, so that a backlog does not keep new
	// data waiting. From a case, whose frames may be copies, segments go by the
	// oldest that each has of it.
	Newest bool
	// InOrder leases by when a frame's items were accepted, also where copying
	// has moved it behind younger ones. A segment's own frames stand in order
	// but for parts of older frames. Not together with Newest.
	InOrder bool
	// Only names the frames that may be leased; nil: any. Those that have been
	// copied since have another name, and are not found. Not with InOrder.
	Only map[FrameID]bool
}

// Lease is a number of frames of one lane, taken out of the queue until they
// are settled or returned. It is used by one goroutine at a time.
type Lease struct {
	Lane   LaneID
	Frames []Frame

	q      *Queue
	place  Place      // leased from
	refs   []leaseRef // beside Frames
	passed []leaseRef // damaged, and kept as such: passed over
	buf    *[]byte
}

type leaseRef struct {
	seg  *segment
	seq  uint32
	info frameInfo
	done bool
}

var leaseBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<20); return &b }}

// Lease takes frames of a lane, pending ones or those of a case, oldest first,
// and reads their payloads. It returns nil when none is ready, which may be for
// a moment only: Changed tells when to look again. Frames that turn out damaged
// are kept aside in a case and not returned.
func (q *Queue) Lease(o LeaseOptions) (*Lease, error) {
	if q.closing.Load() {
		return nil, ErrClosed
	}
	setDefault(&o.MaxFrames, 256)
	var passed []leaseRef
	defer func() { q.giveBack(o, passed) }()
	for {
		l, err := q.pick(o)
		if l == nil || err != nil {
			return nil, err
		}
		err = l.read()
		passed = append(passed, l.passed...)
		switch {
		case err != nil:
			l.Return()
			return nil, err
		case len(l.Frames) > 0:
			return l, nil
		}
		l.Return() // every frame was damaged: look further
	}
}

// pick marks frames as leased, loading segments as needed. A segment that
// cannot be opened for lack of space is passed over: draining the others is
// what makes space.
func (q *Queue) pick(o LeaseOptions) (*Lease, error) {
	l := &Lease{Lane: o.Lane, place: o.Place, q: q}
	var rawBytes int64
	var noSpace error
	tried := map[uint64]bool{} // in this call: a shortage of frames must not loop
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		pick := q.pickLoadedLocked
		if o.InOrder {
			pick = q.pickInOrderLocked
		}
		unloaded := pick(l, o, &rawBytes, tried)
		if unloaded == nil || len(l.refs) > 0 {
			break
		}
		tried[unloaded.id] = true
		q.mu.Unlock()
		err := q.load(unloaded)
		q.mu.Lock()
		switch {
		case errors.Is(err, errNoSpace):
			noSpace = err
		case err != nil:
			return nil, err
		}
	}
	if len(l.refs) == 0 {
		return nil, noSpace
	}
	q.inFlight[o.Lane] += len(l.refs)
	if o.Place != Pending {
		q.keptOut[o.Lane] += len(l.refs)
	}
	return l, nil
}

// pickLoadedLocked leases from loaded segments in order, and stops at the
// first that has frames for the lane and is neither loaded nor tried. mu is held.
func (q *Queue) pickLoadedLocked(l *Lease, o LeaseOptions, rawBytes *int64, tried map[uint64]bool) (unloaded *segment) {
	b := o.bucket()
	order := slices.DeleteFunc(q.st.sortedSegments(), func(st *segmentState) bool { return st.live[b] == nil })
	if o.Place != Pending {
		slices.SortStableFunc(order, func(x, y *segmentState) int { return cmp.Compare(x.live[b].oldestMS, y.live[b].oldestMS) })
	}
	if o.Newest {
		slices.Reverse(order)
	}
	now := q.cfg.now()
	for _, st := range order {
		s := q.segs[st.id]
		if s == nil || (s.index == nil && tried[s.id]) || !o.wants(s.id) {
			continue
		}
		if s.index == nil {
			return s
		}
		if pickFrom(l, s, o, rawBytes) {
			s.touched = now
		}
		if len(l.refs) >= o.MaxFrames || *rawBytes >= o.MaxRawBytes {
			return nil
		}
	}
	return nil
}

// pickInOrderLocked leases from the segments by age, the oldest frame first,
// and stops at the first segment that may have an older one and is neither
// loaded nor tried. mu is held.
func (q *Queue) pickInOrderLocked(l *Lease, o LeaseOptions, rawBytes *int64, tried map[uint64]bool) (unloaded *segment) {
	var loaded []*segment
	var unloadedMS int64
	for _, st := range q.st.sortedSegments() {
		t, s := st.live[o.bucket()], q.segs[st.id]
		switch {
		case t == nil || s == nil || (s.index == nil && tried[s.id]):
		case s.shelving:
			return nil // its frames are out of sight: nothing may overtake them
		case s.index != nil:
			loaded = append(loaded, s)
		case unloaded == nil || t.oldestMS < unloadedMS:
			unloaded, unloadedMS = s, t.oldestMS
		}
	}
	now := q.cfg.now()
	for {
		next := oldestReady(loaded, o.bucket())
		if next == nil || (unloaded != nil && unloadedMS <= next.index.firstReadyMS(o.bucket())) {
			return unloaded
		}
		one := o
		one.MaxFrames = min(o.MaxFrames, len(l.refs)+1)
		if !pickFrom(l, next, one, rawBytes) {
			return nil // the next frame is for the next lease
		}
		next.touched = now
		if len(l.refs) >= o.MaxFrames || *rawBytes >= o.MaxRawBytes {
			return nil
		}
	}
}

// bucket is what may be leased.
func (o *LeaseOptions) bucket() bucket { return bucket{o.Lane, o.Place} }

// oldestReady is the segment whose first ready frame in b is the oldest; nil if
// none has any. Of two of the same time a copy is the older one: frames of
// different segments have different times (segment.floorMS), and what is copied
// of one segment was before what is not yet.
func oldestReady(segments []*segment, b bucket) (oldest *segment) {
	for _, s := range segments {
		if len(s.index.ready[b]) == 0 {
			continue
		}
		if oldest == nil {
			oldest = s
			continue
		}
		ms, than := s.index.firstReadyMS(b), oldest.index.firstReadyMS(b)
		if ms < than || (ms == than && s.shelf && !oldest.shelf) {
			oldest = s
		}
	}
	return oldest
}

// firstReadyMS is when the first ready frame in b was accepted. There is one.
func (x *segmentIndex) firstReadyMS(b bucket) int64 { return x.frames[x.ready[b][0]].atMS }

// wants reports whether a segment may have frames that the options name.
func (o *LeaseOptions) wants(segment uint64) bool {
	if o.Only == nil {
		return true
	}
	for id := range o.Only {
		if id.Segment == segment {
			return true
		}
	}
	return false
}

// pickNamed leases the ready frames of one segment that the options name.
func pickNamed(l *Lease, s *segment, o LeaseOptions, rawBytes *int64) (picked bool) {
	ready := s.index.ready[o.bucket()]
	left := make([]uint32, 0, len(ready))
	for i, seq := range ready {
		f := &s.index.frames[seq]
		if !o.Only[FrameID{s.id, seq}] {
			left = append(left, seq)
			continue
		}
		if len(l.refs) >= o.MaxFrames || len(l.refs) > 0 && *rawBytes+int64(f.rawBytes) > o.MaxRawBytes {
			*rawBytes = o.MaxRawBytes // full: the next frame is for the next lease
			left = append(left, ready[i:]...)
			break
		}
		f.state = frameLeased
		s.index.leased++
		*rawBytes += int64(f.rawBytes)
		l.refs = append(l.refs, leaseRef{seg: s, seq: seq, info: *f})
		picked = true
	}
	s.index.setReady(o.bucket(), left)
	return picked
}

// pickFrom leases ready frames of one segment.
func pickFrom(l *Lease, s *segment, o LeaseOptions, rawBytes *int64) (picked bool) {
	if o.Only != nil {
		return pickNamed(l, s, o, rawBytes)
	}
	ready := s.index.ready[o.bucket()]
	for len(ready) > 0 && len(l.refs) < o.MaxFrames {
		i := 0
		if o.Newest {
			i = len(ready) - 1
		}
		seq := ready[i]
		f := &s.index.frames[seq]
		if len(l.refs) > 0 && *rawBytes+int64(f.rawBytes) > o.MaxRawBytes {
			*rawBytes = o.MaxRawBytes // full: the next frame is for the next lease
			break
		}
		if o.Newest {
			ready = ready[:i]
		} else {
			ready = ready[1:]
		}
		f.state = frameLeased
		s.index.leased++
		*rawBytes += int64(f.rawBytes)
		l.refs = append(l.refs, leaseRef{seg: s, seq: seq, info: *f})
		picked = true
	}
	s.index.setReady(o.bucket(), ready)
	return picked
}

// read fills in the payloads. Damaged frames leave the lease for a case.
func (l *Lease) read() error {
	l.buf = leaseBuffers.Get().(*[]byte)
	buf := (*l.buf)[:0]
	type span struct{ from, to int }
	spans := make([]span, 0, len(l.refs))
	refs := l.refs[:0:0]
	for i := 0; i < len(l.refs); i++ {
		ref := l.refs[i]
		from := len(buf)
		err := l.q.readFrame(ref.seg, ref.seq, func(v []byte) { buf = append(buf, v...) })
		if err == nil {
			err = checkFrame(buf[from:])
		}
		switch {
		case err == nil:
			refs = append(refs, ref)
			spans = append(spans, span{from, len(buf)})
		case errors.Is(err, ErrDamaged) || errors.Is(err, errNotFound):
			buf = buf[:from]
			if l.q.keptAsDamaged(&ref) {
				l.passed = append(l.passed, ref)
				continue
			}
			if err := l.q.keepDamaged(&ref, err); err != nil {
				l.refs = append(refs, l.refs[i:]...)
				return err
			}
		default:
			l.refs = append(refs, l.refs[i:]...)
			return err
		}
	}
	l.refs = refs
	*l.buf = buf
	l.Frames = make([]Frame, len(refs))
	for i, ref := range refs {
		f, err := parseFrame(FrameID{ref.seg.id, ref.seq}, buf[spans[i].from:spans[i].to])
		if err != nil {
			return err
		}
		l.Frames[i] = f
	}
	return nil
}

// readFrame calls fn with the stored frame. Reading a damaged database may
// fault in its memory map or panic in its parser; both are damage, not death.
func (q *Queue) readFrame(s *segment, seq uint32, fn func(value []byte)) (err error) {
	st, err := q.acquireStore(s)
	if err != nil {
		return err
	}
	defer q.releaseStore(s)
	return guardFaults(func() error {
		return st.View(key32(keyFrame, seq), func(v []byte) error {
			fn(v)
			return nil
		})
	})
}

// keepDamaged moves an unreadable frame into its lane's case for damage. Its
// bytes stay where they are.
func (q *Queue) keepDamaged(ref *leaseRef, cause error) error {
	q.mu.Lock()
	place := q.st.damageCase(ref.info.lane)
	known := place != Pending
	if !known {
		place = q.newPlaceLocked()
	}
	q.mu.Unlock()
	q.cfg.Logger.Error("a stored frame cannot be read; it is kept in quarantine",
		"frame", FrameID{ref.seg.id, ref.seq}.String(), "items", ref.info.items, "error", cause)
	var events []event
	if !known {
		events = append(events, event{
			kind: eventCase, to: place, lane: ref.info.lane, done: int64(CaseDamage),
			atMS: q.cfg.now().UnixMilli(), data: []byte(`{"reason":"damaged_on_disk"}`),
		})
	}
	e := ref.event(eventPlaced)
	e.to = place
	if err := q.commitChange(&change{events: append(events, e)}, true); err != nil {
		return err
	}
	q.mu.Lock()
	q.leaseEndedLocked(ref.info.bucket(), 1)
	q.mu.Unlock()
	return nil
}

// keptAsDamaged reports whether a frame stands in a case for damage already.
func (q *Queue) keptAsDamaged(ref *leaseRef) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.st.kindOf(q.st.standing(ref.info.place)) == CaseDamage
}

// giveBack puts frames back that a lease passed over.
func (q *Queue) giveBack(o LeaseOptions, refs []leaseRef) {
	if len(refs) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range refs {
		q.giveBackLocked(&refs[i])
	}
	q.leaseEndedLocked(o.bucket(), len(refs))
}

// leaseEndedLocked counts n frames fewer that were leased from b. mu is held.
func (q *Queue) leaseEndedLocked(b bucket, n int) {
	if q.inFlight[b.lane] -= n; q.inFlight[b.lane] <= 0 {
		delete(q.inFlight, b.lane)
	}
	if b.place == Pending {
		return
	}
	if q.keptOut[b.lane] -= n; q.keptOut[b.lane] <= 0 {
		delete(q.keptOut, b.lane)
	}
}

// Return puts every unsettled frame back to where it stood, pending if that was
// a case released meanwhile, and ends the lease. It is safe to call more than
// once.
func (l *Lease) Return() {
	if l.q == nil {
		return
	}
	q := l.q
	q.mu.Lock()
	for i := range l.refs {
		if !l.refs[i].done {
			q.giveBackLocked(&l.refs[i])
		}
	}
	q.leaseEndedLocked(bucket{l.Lane, l.place}, len(l.refs))
	q.mu.Unlock()
	if l.buf != nil {
		if cap(*l.buf) <= 16<<20 {
			leaseBuffers.Put(l.buf)
		}
		l.buf = nil
	}
	l.q, l.Frames = nil, nil
	signal(q.changed)
}
