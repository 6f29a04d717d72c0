package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// MaxListed is the most frames that one Frames returns, more than a segment has.
const MaxListed = maxSegmentFrames

// FrameQuery says which frames Frames lists.
type FrameQuery struct {
	FrameFilter
	// AcceptedBy passes over frames accepted later; zero: none are.
	AcceptedBy time.Time
	// After begins behind the frame of this name, whether or not there is one;
	// zero: at the beginning.
	After FrameID
	// Max bounds the answer. Default and at most MaxListed.
	Max int
}

// Frames lists live frames by where they stand, the oldest segment first, or the
// newest: about by age, but copies of old frames, and parts of them, stand with
// younger ones. Traces is nil in what it returns. more is set where there may be
// others behind the last one, of which After then begins.
//
// Frames that stay where they are come once each over all pages, whatever comes
// or goes between them. One that is copied meanwhile may come twice or not at all.
//
// It reads headers only, of the segments that have something that is wanted
// between After and the end of the page, and holds one segment's in memory. A
// frame whose header cannot be read is passed over. It returns what EachFrame does.
func (q *Queue) Frames(ctx context.Context, o FrameQuery) (frames []FrameMeta, more bool, err error) {
	if o.Max <= 0 || o.Max > MaxListed {
		o.Max = MaxListed
	}
	q.mu.Lock()
	order := q.st.sortedSegments()
	q.mu.Unlock()
	if o.Newest {
		slices.Reverse(order)
	}
	w := frameWalk{q: q, ctx: ctx, filter: o.FrameFilter}
	for _, st := range order {
		if o.After != (FrameID{}) && o.passed(st.id) {
			continue
		}
		if err := w.interrupted(); err != nil {
			return nil, false, err
		}
		s := q.listable(st.id, &o)
		if s == nil {
			continue
		}
		page, err := w.page(s, &o, o.Max+1-len(frames))
		if err != nil {
			return nil, false, err
		}
		if frames = append(frames, page...); len(frames) > o.Max {
			return frames[:o.Max], true, nil
		}
	}
	return frames, false, nil
}

// page lists up to n frames of one segment that the query wants.
func (w *frameWalk) page(s *segment, o *FrameQuery, n int) (frames []FrameMeta, err error) {
	if w.q.isClosed(s) {
		defer w.q.closeIdle(s)
	}
	found, err := w.headers(s)
	if err != nil {
		return nil, err
	}
	for i := range found {
		m, wanted := w.describe(s, &found[i])
		switch {
		case !wanted, !o.AcceptedBy.IsZero() && m.AcceptedAt.After(o.AcceptedBy), s.id == o.After.Segment && o.reached(m.ID.Seq):
		case len(frames) == n:
			return frames, nil
		default:
			frames = append(frames, m)
		}
	}
	return frames, nil
}

// passed reports whether a segment stands before that of After, reached whether
// a frame of the same segment does.
func (o *FrameQuery) passed(segment uint64) bool {
	if o.Newest {
		return segment > o.After.Segment
	}
	return segment < o.After.Segment
}

func (o *FrameQuery) reached(seq uint32) bool {
	if o.Newest {
		return seq >= o.After.Seq
	}
	return seq <= o.After.Seq
}

// listable is the segment of that number if it has a frame that the query may
// want; nil: it has none.
func (q *Queue) listable(id uint64, o *FrameQuery) *segment {
	by := int64(math.MaxInt64)
	if !o.AcceptedBy.IsZero() {
		by = o.AcceptedBy.UnixMilli()
	}
	q.mu.Lock()
	s := q.segs[id]
	var places []Place
	if s != nil {
		for b, t := range s.live {
			if (o.Lane == 0 || o.Lane == b.lane) && t.oldestMS <= by {
				places = append(places, b.place)
			}
		}
	}
	q.mu.Unlock()
	if !slices.ContainsFunc(places, func(p Place) bool { return o.Places == nil || o.Places(p) }) { // which may call the queue
		return nil
	}
	return s
}

// StatFrame describes a live frame, with its trace ids, which are the caller's.
// It returns ErrNoFrame, an error matching ErrDamaged where not even the header
// can be read, and ErrClosed.
func (q *Queue) StatFrame(id FrameID) (FrameMeta, error) {
	if q.closing.Load() {
		return FrameMeta{}, ErrClosed
	}
	q.mu.Lock()
	s := q.segs[id.Segment]
	live := s != nil && id.Seq < s.next && !s.gone.has(id.Seq)
	q.mu.Unlock()
	if !live {
		return FrameMeta{}, fmt.Errorf("read frame %s: %w", id, ErrNoFrame)
	}
	if q.isClosed(s) {
		defer q.closeIdle(s)
	}
	w := frameWalk{q: q}
	f := scannedFrame{seq: id.Seq}
	var bad error
	err := q.readFrame(s, id.Seq, func(v []byte) {
		if f.header, bad = parseFrameHeader(v); bad == nil {
			w.readTraces(v, f.header.traces)
		}
	})
	switch {
	case errors.Is(err, ErrClosed) && !q.closing.Load():
		err = ErrNoFrame // its segment was drained meanwhile
	case errors.Is(err, errNotFound):
		err = fmt.Errorf("it is missing: %w", ErrDamaged)
	}
	if err = errors.Join(err, bad); err != nil {
		return FrameMeta{}, fmt.Errorf("read frame %s: %w", id, err)
	}
	m, live := w.describe(s, &f)
	if !live {
		return FrameMeta{}, fmt.Errorf("read frame %s: %w", id, ErrNoFrame)
	}
	m.Traces = w.traces
	return m, nil
}
