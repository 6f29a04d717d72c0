package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// LeaseOptions says what to lease.
type LeaseOptions struct {
	Lane LaneID
	// MaxRawBytes bounds the frames' payloads when decompressed; one frame is
	// leased whatever its size.
	MaxRawBytes int64
	// MaxFrames bounds the frames. Default 256.
	MaxFrames int
	// Newest leases from the newest end, so that a backlog does not keep new
	// data waiting.
	Newest bool
	// InOrder leases by when a frame's items were accepted, also where copying
	// has moved it behind younger ones. A segment's own frames stand in order
	// but for parts of older frames. Not together with Newest.
	InOrder bool
}

// Lease is a number of frames of one lane, taken out of the queue until they
// are settled or returned. It is used by one goroutine at a time.
type Lease struct {
	Lane   LaneID
	Frames []Frame

	q    *Queue
	refs []leaseRef // beside Frames
	buf  *[]byte
}

type leaseRef struct {
	seg  *segment
	seq  uint32
	info frameInfo
	done bool
}

var leaseBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<20); return &b }}

// Lease takes pending frames of a lane, oldest first, and reads their
// payloads. It returns nil when none is ready, which may be for a moment only:
// Changed tells when to look again. Frames that turn out damaged
// are kept aside in a case and not returned.
func (q *Queue) Lease(o LeaseOptions) (*Lease, error) {
	if q.closing.Load() {
		return nil, ErrClosed
	}
	setDefault(&o.MaxFrames, 256)
	for {
		l, err := q.pick(o)
		if l == nil || err != nil {
			return nil, err
		}
		err = l.read()
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
	l := &Lease{Lane: o.Lane, q: q}
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
	return l, nil
}

// pickLoadedLocked leases from loaded segments in order, and stops at the
// first that has frames for the lane and is neither loaded nor tried. mu is held.
func (q *Queue) pickLoadedLocked(l *Lease, o LeaseOptions, rawBytes *int64, tried map[uint64]bool) (unloaded *segment) {
	order := q.st.sortedSegments()
	if o.Newest {
		slices.Reverse(order)
	}
	now := q.cfg.now()
	for _, st := range order {
		t := st.live[bucket{o.Lane, Pending}]
		if t == nil {
			continue
		}
		s := q.segs[st.id]
		if s == nil {
			continue
		}
		if s.index == nil && tried[s.id] {
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
		t, s := st.live[bucket{o.Lane, Pending}], q.segs[st.id]
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
		next := oldestReady(loaded, o.Lane)
		if next == nil || (unloaded != nil && unloadedMS <= next.index.firstReadyMS(o.Lane)) {
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

// oldestReady is the segment whose first ready frame of a lane is the oldest;
// nil if none has any.
func oldestReady(segments []*segment, lane LaneID) (oldest *segment) {
	for _, s := range segments {
		if len(s.index.ready[lane]) > 0 && (oldest == nil || s.index.firstReadyMS(lane) < oldest.index.firstReadyMS(lane)) {
			oldest = s
		}
	}
	return oldest
}

// firstReadyMS is when the lane's first ready frame was accepted. There is one.
func (x *segmentIndex) firstReadyMS(lane LaneID) int64 { return x.frames[x.ready[lane][0]].atMS }

// pickFrom leases ready frames of one segment.
func pickFrom(l *Lease, s *segment, o LeaseOptions, rawBytes *int64) (picked bool) {
	ready := s.index.ready[o.Lane]
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
	if len(ready) == 0 {
		delete(s.index.ready, o.Lane)
	} else {
		s.index.ready[o.Lane] = ready
	}
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
	q.leaseEndedLocked(ref.info.lane, 1)
	q.mu.Unlock()
	return nil
}

// add adds the event that settles the lease's frame i.
func (c *change) add(i int, e event) {
	c.events = append(c.events, e)
	c.frames = append(c.frames, i)
}

func (q *Queue) leaseEndedLocked(lane LaneID, n int) {
	if q.inFlight[lane] -= n; q.inFlight[lane] <= 0 {
		delete(q.inFlight, lane)
	}
}

// event starts an event about the leased frame.
func (r *leaseRef) event(kind eventKind) event {
	return event{
		kind: kind, segment: r.seg.id, seq: r.seq, lane: r.info.lane, from: r.info.place,
		items: int64(r.info.items), rawBytes: int64(r.info.rawBytes), bytes: int64(r.info.bytes), atMS: r.info.atMS,
	}
}

// Result is what becomes of a leased frame.
type Result uint8

// Results of a leased frame.
const (
	// ResultDelivered: the upstream took all of it.
	ResultDelivered Result = iota + 1
	// ResultDropped: it is dropped by a policy; Settlement.Reason says which.
	ResultDropped
	// ResultKept: all of it moves into case Settlement.Place.
	ResultKept
	// ResultReplaced: Settlement.Delivered items were delivered, and the
	// others live on as Settlement.Parts, whose items make up the rest.
	ResultReplaced
	// ResultPartly: Settlement.Delivered items were delivered, and the others
	// are dropped for Settlement.Reason without anybody knowing which.
	ResultPartly
)

// maxSplitBytes bounds the parts of one frame: what a frame may hold, and as
// much again for what splitting repeats.
const maxSplitBytes = 96 << 20

// Part is a frame that takes the place of part of an older one. One frame has
// at most 512 parts.
type Part struct {
	Payload []byte // plain
	Items   int
	Traces  []TraceID
	Place   Place
}

// Settlement says what becomes of the frame at index Frame of a lease.
type Settlement struct {
	Frame     int
	Result    Result
	Reason    string // ResultDropped, ResultPartly
	Place     Place  // ResultKept
	Delivered int    // ResultReplaced, ResultPartly
	Parts     []Part // ResultReplaced

	// Blobs are the blobs that nothing refers to any more once this is
	// settled. They are forgotten in the same transaction, and their files
	// removed after it; names that are of no blob are passed over.
	Blobs []string
}

// Settle makes the settlements durable and returns the other frames to the
// queue. Each settlement is atomic; after an error those that did not become
// durable have changed nothing and their frames are pending again. It returns
// ErrKeptFull, settling nothing, when kept data has no room. Settle ends the
// lease.
func (l *Lease) Settle(settlements ...Settlement) error {
	if l.q == nil {
		return errors.New("settle: the lease has ended")
	}
	defer l.Return()
	if len(settlements) == 0 {
		return nil
	}
	changes, err := l.changes(settlements)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range changes {
		c.done = make(chan error, 1)
		if err := l.q.in.putChange(c, len(c.parts) > 0); err != nil {
			c.done <- err
		}
	}
	for _, c := range changes { // all of them: the committer reads their parts
		err := <-c.done
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, i := range c.frames {
			l.refs[i].done = true
		}
		if len(c.blobs) > 0 {
			l.q.cfg.step("blobs-settled")
			l.q.unlinkBlobs(c.blobs)
		}
	}
	return errors.Join(errs...)
}

// changes turns settlements into journal changes: one for all plain
// settlements, and one for each replaced frame, whose new frames carry its age.
func (l *Lease) changes(settlements []Settlement) ([]*change, error) {
	plain := &change{}
	changes := []*change{plain}
	var keptBytes int64
	seen := make(map[int]bool, len(settlements))
	for _, s := range settlements {
		if s.Frame < 0 || s.Frame >= len(l.refs) {
			return nil, fmt.Errorf("settle frame %d of a lease of %d: no such frame", s.Frame, len(l.refs))
		}
		if seen[s.Frame] {
			return nil, fmt.Errorf("settle frame %d of a lease of %d: settled twice", s.Frame, len(l.refs))
		}
		seen[s.Frame] = true
		ref, c := &l.refs[s.Frame], plain
		switch s.Result {
		case ResultDelivered:
			plain.add(s.Frame, ref.event(eventDelivered))
		case ResultDropped:
			e := ref.event(eventDropped)
			e.text = s.Reason
			plain.add(s.Frame, e)
		case ResultPartly:
			e := ref.event(eventPartly)
			if e.text, e.done = s.Reason, int64(s.Delivered); e.done < 0 || e.done > e.items {
				return nil, fmt.Errorf("settle frame %d of %d items: %d delivered", s.Frame, e.items, s.Delivered)
			}
			plain.add(s.Frame, e)
		case ResultKept:
			if s.Place == Pending {
				return nil, fmt.Errorf("keep frame %d of a lease: no case is named", s.Frame)
			}
			e := ref.event(eventPlaced)
			e.to = s.Place
			keptBytes += e.bytes
			plain.add(s.Frame, e)
		case ResultReplaced:
			var err error
			if c, err = replaceChange(ref, &s); err != nil {
				return nil, err
			}
			for i := range s.Parts {
				if s.Parts[i].Place != Pending {
					keptBytes += int64(len(s.Parts[i].Payload)) / 4
				}
			}
			changes = append(changes, c)
		default:
			return nil, fmt.Errorf("settle frame %d: unknown result %d", s.Frame, s.Result)
		}
		l.q.forgetBlobs(c, s.Blobs)
	}
	if keptBytes > 0 && !l.q.roomToKeep(keptBytes) {
		return nil, ErrKeptFull
	}
	if len(plain.events) == 0 {
		changes = changes[1:]
	}
	return changes, nil
}

func replaceChange(ref *leaseRef, s *Settlement) (*change, error) {
	total, rawBytes, negative := s.Delivered, 0, s.Delivered < 0
	for i := range s.Parts {
		total += s.Parts[i].Items
		rawBytes += len(s.Parts[i].Payload)
		negative = negative || s.Parts[i].Items < 0
	}
	if negative || len(s.Parts) > maxGroupParts || rawBytes > maxSplitBytes {
		return nil, fmt.Errorf("replace frame %d/%d: %d parts of %d bytes: at most %d parts of %d bytes together, none negative",
			ref.seg.id, ref.seq, len(s.Parts), rawBytes, maxGroupParts, maxSplitBytes)
	}
	if total != int(ref.info.items) {
		return nil, fmt.Errorf("replace frame %d/%d of %d items: the parts have %d", ref.seg.id, ref.seq, ref.info.items, total)
	}
	e := ref.event(eventReplaced)
	e.done = int64(s.Delivered)
	return &change{events: []event{e}, frames: []int{s.Frame}, parts: s.Parts, lane: ref.info.lane, atMS: ref.info.atMS}, nil
}

// Return puts every unsettled frame back and ends the lease. It is safe to
// call more than once.
func (l *Lease) Return() {
	if l.q == nil {
		return
	}
	q := l.q
	q.mu.Lock()
	for i := range l.refs {
		ref := &l.refs[i]
		if ref.done || ref.seg.index == nil {
			continue
		}
		if f := &ref.seg.index.frames[ref.seq]; f.state == frameLeased {
			ref.seg.index.leased--
			ref.seg.index.makeReady(ref.seq)
		}
	}
	q.leaseEndedLocked(l.Lane, len(l.refs))
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
