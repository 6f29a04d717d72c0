package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// FrameFilter says which frames EachFrame goes through.
type FrameFilter struct {
	// Lane is the lane; 0: all of them.
	Lane LaneID
	// Places reports whether a place's frames are wanted; nil: all are. It may
	// call the queue.
	Places func(Place) bool
	// Newest begins with the newest segment and its last frame.
	Newest bool
}

// FrameMeta is what a frame's header and trace ids say of it.
type FrameMeta struct {
	ID         FrameID
	Lane       LaneID
	Place      Place
	AcceptedAt time.Time // of the oldest of its items
	Items      int
	RawBytes   int64     // of its payload when decompressed
	Bytes      int64     // as stored, header included
	TraceCount int       // distinct traces
	Traces     []TraceID // distinct; valid during the call
	Leased     bool
}

// EachFrame calls fn for every live frame that the filter wants, pending,
// leased or kept, until fn returns false. It goes by segment, oldest first or
// newest first, and reads headers and trace ids only: a header has been checked
// against its checksum, trace ids have not. A frame that cannot be read is
// passed over.
//
// Frames that come, go or move meanwhile may or may not be seen. One that is
// there throughout is seen at least once, and may be seen again, under another
// ID, when it is copied meanwhile. fn may call the queue, except Close.
//
// It holds the headers of one segment and the trace ids of one frame in memory,
// and closes the databases it opened. It returns ctx.Err(), ErrClosed, and an
// error when a segment cannot be opened for now.
func (q *Queue) EachFrame(ctx context.Context, o FrameFilter, fn func(FrameMeta) bool) error {
	w := frameWalk{q: q, ctx: ctx, filter: o, fn: fn, seen: map[uint64]uint32{}}
	for {
		segments := w.unseen()
		if len(segments) == 0 {
			return nil
		}
		for _, s := range segments {
			if err := w.segment(s); err != nil || w.done {
				return err
			}
		}
	}
}

// frameWalk is one EachFrame.
type frameWalk struct {
	q      *Queue
	ctx    context.Context
	filter FrameFilter
	fn     func(FrameMeta) bool
	done   bool // fn has seen enough

	begun  bool
	seen   map[uint64]uint32 // by segment: frames below this number
	traces []TraceID
}

// unseen lists the segments to go through: all of them, and afterwards shelves
// that got copies meanwhile, perhaps of frames that were not reached where they
// stood. Frames of new segments that are no copies came meanwhile.
func (w *frameWalk) unseen() (out []*segment) {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	for _, st := range w.q.st.sortedSegments() {
		s := w.q.segs[st.id]
		if s != nil && (!w.begun || (st.shelf && w.seen[st.id] < st.next)) {
			out = append(out, s)
		}
	}
	w.begun = true
	if w.filter.Newest {
		slices.Reverse(out)
	}
	return out
}

// segment goes through the frames of one segment that were not seen before.
func (w *frameWalk) segment(s *segment) error {
	from, next, want := w.enter(s)
	if !want {
		return w.interrupted()
	}
	if w.q.isClosed(s) {
		defer w.q.closeIdle(s)
	}
	found, err := w.headers(s)
	if err != nil {
		return err
	}
	for i := range found {
		if found[i].seq < from || found[i].seq >= next {
			continue
		}
		if err := w.interrupted(); err != nil {
			return err
		}
		if err := w.frame(s, &found[i]); err != nil || w.done {
			return err
		}
	}
	return nil
}

// headers lists a segment's frames, settled ones too, in the filter's order.
func (w *frameWalk) headers(s *segment) ([]scannedFrame, error) {
	st, err := w.q.acquireStore(s)
	var found []scannedFrame
	if err == nil {
		found, _, err = scanFrames(st, w.q.numbered(s))
		w.q.releaseStore(s)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrClosed) && !w.q.closing.Load():
		return nil, nil // drained meanwhile: what it had has gone or is on a shelf
	case !errors.Is(err, ErrDamaged) && w.q.storeUnavailable(err):
		return nil, fmt.Errorf("read segment %d: %w", s.id, err)
	}
	if w.filter.Newest {
		slices.Reverse(found)
	}
	return found, nil
}

// enter notes that the segment is seen, and says which of its frames are new
// and whether the filter wants any.
func (w *frameWalk) enter(s *segment) (from, next uint32, want bool) {
	w.q.mu.Lock()
	from, next = w.seen[s.id], s.next
	w.seen[s.id] = next
	places := make([]Place, 0, len(s.live))
	for b := range s.live {
		if w.filter.Lane == 0 || w.filter.Lane == b.lane {
			places = append(places, b.place)
		}
	}
	w.q.mu.Unlock()
	return from, next, slices.ContainsFunc(places, w.wants)
}

func (w *frameWalk) wants(p Place) bool { return w.filter.Places == nil || w.filter.Places(p) }

// interrupted is why the walk must end.
func (w *frameWalk) interrupted() error {
	if w.q.closing.Load() {
		return ErrClosed
	}
	return w.ctx.Err()
}

// frame calls fn for a frame if it is live and wanted.
func (w *frameWalk) frame(s *segment, f *scannedFrame) error {
	m, wanted := w.describe(s, f)
	if !wanted {
		return nil
	}
	err := w.q.readFrame(s, f.seq, func(v []byte) { w.readTraces(v, f.header.traces) })
	switch {
	case err == nil:
	case errors.Is(err, ErrClosed) && !w.q.closing.Load():
		return nil
	case errors.Is(err, ErrDamaged) || errors.Is(err, errNotFound) || !w.q.storeUnavailable(err):
		return nil
	default:
		return fmt.Errorf("read frame %s: %w", m.ID, err)
	}
	m.Traces = w.traces
	w.done = !w.fn(m)
	return nil
}

// describe says what the queue knows of a frame, but for its traces, and whether
// it is live and wanted.
func (w *frameWalk) describe(s *segment, f *scannedFrame) (m FrameMeta, wanted bool) {
	if w.filter.Lane != 0 && w.filter.Lane != f.header.lane {
		return m, false
	}
	m = FrameMeta{
		ID: FrameID{s.id, f.seq}, Lane: f.header.lane, AcceptedAt: time.UnixMilli(f.header.acceptedAtMS),
		Items: int(f.header.items), RawBytes: int64(f.header.rawBytes), Bytes: f.header.tally().bytes, TraceCount: int(f.header.traces),
	}
	w.q.mu.Lock()
	live := f.seq < s.next && !s.gone.has(f.seq)
	m.Place = w.q.st.placeOf(s.segmentState, f.seq, f.header.place)
	m.Leased = !s.shelving && s.index != nil && f.seq < uint32(len(s.index.frames)) && s.index.frames[f.seq].state == frameLeased
	w.q.mu.Unlock()
	return m, live && w.wants(m.Place)
}

// readTraces copies a stored frame's trace ids. The header says how many there
// are, and has been checked.
func (w *frameWalk) readTraces(v []byte, n uint32) {
	w.traces = w.traces[:0]
	for i := range n {
		w.traces = append(w.traces, TraceID(v[frameHeaderBytes+16*i:]))
	}
}

// isClosed reports whether a segment's database is closed.
func (q *Queue) isClosed(s *segment) bool {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	return s.store == nil
}
