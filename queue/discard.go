package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Discarding says how a case is discarded.
type Discarding struct {
	// Reason is what the items count as dropped for, at most 256 bytes.
	Reason string
	// Only names the frames to drop; nil: all. Those that have been copied since
	// have another name, and stay.
	Only map[FrameID]bool
	// Blobs names the blobs that nothing refers to once the frame has gone. It
	// is asked about each frame of a lane that can be read, which is valid
	// during the call, before the frame is dropped. Nil: there are none.
	Blobs func(lane string, f Frame) []string
}

// discardFrames bounds the frames dropped in one transaction.
const discardFrames = 256

// Discard drops what a case holds, and closes the case if that is all of it. It
// returns the items dropped, also with an error: each frame is dropped durably
// by itself, so that what is cut short anywhere has dropped some and kept the
// others. What is leased from the case stays, and so does what comes into it
// meanwhile. Frames that cannot be read are dropped like others.
//
// It holds one frame in memory, and costs time by the frames.
func (q *Queue) Discard(ctx context.Context, p Place, d Discarding) (items int64, err error) {
	if p == Pending || len(d.Reason) > maxReasonBytes {
		return 0, fmt.Errorf("discard case %d for a reason of %d bytes: give a case, and at most %d bytes", p, len(d.Reason), maxReasonBytes)
	}
	if q.closing.Load() {
		return 0, ErrClosed
	}
	for _, lane := range q.lanesAt(p) {
		sum, err := q.discardLane(ctx, lane, p, &d)
		items += sum.Items
		if err != nil {
			return items, fmt.Errorf("discard case %d: %w", p, err)
		}
	}
	if err := q.CloseCase(p); err != nil {
		return items, fmt.Errorf("discard case %d: %w", p, err)
	}
	return items, nil
}

// lanesAt lists the lanes with something at a place.
func (q *Queue) lanesAt(p Place) (lanes []LaneID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.st.segments {
		for b := range s.live {
			if b.place == p && !slices.Contains(lanes, b.lane) {
				lanes = append(lanes, b.lane)
			}
		}
	}
	slices.Sort(lanes)
	return lanes
}

// DiscardSum is what a discard dropped.
type DiscardSum struct {
	Frames, Items, Bytes int64
	// Leased frames stayed. They were asked for, and somebody had them.
	Leased int64
}

func (s *DiscardSum) add(o DiscardSum) {
	s.Frames += o.Frames
	s.Items += o.Items
	s.Bytes += o.Bytes
	s.Leased += o.Leased
}

// discardLane drops what of a lane stands at a place.
func (q *Queue) discardLane(ctx context.Context, lane LaneID, p Place, d *Discarding) (sum DiscardSum, err error) {
	descriptor := q.descriptorOf(lane)
	for ctx.Err() == nil {
		// Not Lease: that keeps what cannot be read.
		l, err := q.pick(LeaseOptions{Lane: lane, Place: p, MaxFrames: discardFrames, MaxRawBytes: maxSplitBytes, Only: d.Only})
		if l == nil || err != nil {
			return sum, err
		}
		settlements := make([]Settlement, len(l.refs))
		var n DiscardSum
		for i := range l.refs {
			ref := &l.refs[i]
			settlements[i] = Settlement{Frame: i, Result: ResultDropped, Reason: d.Reason}
			n.add(DiscardSum{Frames: 1, Items: int64(ref.info.items), Bytes: int64(ref.info.bytes)})
			if d.Blobs == nil {
				continue
			}
			switch f, err := q.ReadFrame(FrameID{ref.seg.id, ref.seq}); {
			case err == nil:
				settlements[i].Blobs = d.Blobs(descriptor, f)
			case errors.Is(err, ErrDamaged) || errors.Is(err, errNotFound):
			default:
				l.Return()
				return sum, err
			}
		}
		if err := l.Settle(settlements...); err != nil {
			return sum, err
		}
		sum.add(n)
	}
	return sum, ctx.Err()
}

func (q *Queue) descriptorOf(lane LaneID) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.st.lanes[lane]; l != nil {
		return l.descriptor
	}
	return ""
}

// ErrNoFrame is returned for a frame that is not there, or not any more: it was
// settled, or copied and has another name.
var ErrNoFrame = errors.New("no such frame")

// ReadFrame reads a live frame with its payload, without leasing it; the result
// is the caller's. It returns ErrNoFrame, an error matching ErrDamaged for one
// that cannot be read, and ErrClosed. A frame may be settled while it is read.
func (q *Queue) ReadFrame(id FrameID) (Frame, error) {
	if q.closing.Load() {
		return Frame{}, ErrClosed
	}
	q.mu.Lock()
	s := q.segs[id.Segment]
	live := s != nil && id.Seq < s.next && !s.gone.has(id.Seq)
	q.mu.Unlock()
	if !live {
		return Frame{}, fmt.Errorf("read frame %s: %w", id, ErrNoFrame)
	}
	opened := q.isClosed(s)
	if opened {
		defer q.closeIdle(s)
	}
	var value []byte
	err := q.readFrame(s, id.Seq, func(v []byte) { value = slices.Clone(v) })
	switch {
	case errors.Is(err, ErrClosed) && !q.closing.Load():
		err = ErrNoFrame // its segment was drained meanwhile
	case errors.Is(err, errNotFound):
		err = fmt.Errorf("it is missing: %w", ErrDamaged)
	case err == nil:
		err = checkFrame(value)
	}
	if err != nil {
		return Frame{}, fmt.Errorf("read frame %s: %w", id, err)
	}
	return parseFrame(id, value)
}
