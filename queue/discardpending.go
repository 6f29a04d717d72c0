package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PendingDiscard says which pending frames are dropped. Those are meant of which
// all that is set is true, at the time of the call.
type PendingDiscard struct {
	Discarding

	Lane       LaneID    // 0: of all lanes
	AcceptedBy time.Time // accepted at this time or earlier; zero: whenever
	DryRun     bool      // only count; Blobs is not called
}

const (
	// discardPause is how long frames are left alone that the queue has in hand to
	// copy them, discardTries how often it is looked at them without effect.
	discardPause = 20 * time.Millisecond
	discardTries = 500
)

// DiscardPending drops pending frames, each durably by itself as Discard does:
// what is cut short anywhere has dropped some and kept the others, and the sum
// says what, also with an error. Frames that are leased stay, and are counted;
// what is accepted in a later millisecond than the call began stays, too. Frames that cannot be read
// are dropped like others.
//
// It holds the headers of one segment and one frame in memory, and costs time by
// the frames.
func (q *Queue) DiscardPending(ctx context.Context, d PendingDiscard) (sum DiscardSum, err error) {
	if len(d.Reason) > maxReasonBytes {
		return sum, fmt.Errorf("discard pending frames for a reason of %d bytes: at most %d are kept", len(d.Reason), maxReasonBytes)
	}
	if q.closing.Load() {
		return sum, ErrClosed
	}
	if newest := q.newestAt(); d.AcceptedBy.IsZero() || d.AcceptedBy.After(newest) {
		d.AcceptedBy = newest
	}
	for idle := 0; ; {
		pass, missed, err := q.discardPass(ctx, &d)
		leased := pass.Leased
		pass.Leased = 0
		sum.add(pass)
		sum.Leased = leased // those of the last look
		if idle++; pass.Frames > 0 {
			idle = 0
		}
		switch {
		case err != nil:
			return sum, fmt.Errorf("discard pending frames: %w", err)
		case missed == 0 || d.DryRun:
			return sum, nil
		case idle == discardTries:
			return sum, fmt.Errorf("discard pending frames: %d of them are being moved; try again", missed)
		case idle == 0: // copied while others were dropped, perhaps: look at once
		default:
			select {
			case <-ctx.Done():
				return sum, ctx.Err()
			case <-time.After(discardPause):
			}
		}
	}
}

// newestAt is when the youngest frame was accepted, or now if that is later.
func (q *Queue) newestAt() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.UnixMilli(max(q.st.newestMS, q.cfg.now().UnixMilli()))
}

// discardPass drops what it finds. missed are frames that should have been
// dropped, and could not be leased.
func (q *Queue) discardPass(ctx context.Context, d *PendingDiscard) (sum DiscardSum, missed int64, err error) {
	if d.Only != nil {
		frames, err := q.named(d)
		if err != nil {
			return sum, 0, err
		}
		return q.discardSome(ctx, frames, d)
	}
	query := FrameQuery{FrameFilter: FrameFilter{Lane: d.Lane, Places: isPending}, AcceptedBy: d.AcceptedBy}
	for more := true; more; {
		var frames []FrameMeta
		if frames, more, err = q.Frames(ctx, query); err != nil {
			return sum, missed, err
		}
		if len(frames) > 0 {
			query.After = frames[len(frames)-1].ID
		}
		n, left, err := q.discardSome(ctx, frames, d)
		sum.add(n)
		missed += left
		if err != nil {
			return sum, missed, err
		}
	}
	return sum, missed, nil
}

func isPending(p Place) bool { return p == Pending }

// named describes the frames that are named and meant.
func (q *Queue) named(d *PendingDiscard) (frames []FrameMeta, err error) {
	for id := range d.Only {
		m, err := q.StatFrame(id)
		switch {
		case errors.Is(err, ErrNoFrame) || errors.Is(err, ErrDamaged): // gone, or to be found lost
		case err != nil:
			return nil, err
		case m.Place == Pending && (d.Lane == 0 || m.Lane == d.Lane) && !m.AcceptedAt.After(d.AcceptedBy):
			m.Traces = nil
			frames = append(frames, m)
		}
	}
	return frames, nil
}

// discardSome drops those of the frames that are not leased.
func (q *Queue) discardSome(ctx context.Context, frames []FrameMeta, d *PendingDiscard) (sum DiscardSum, missed int64, err error) {
	byLane := map[LaneID]map[FrameID]bool{}
	for i := range frames {
		f := &frames[i]
		switch {
		case f.Leased:
			sum.Leased++
		case d.DryRun:
			sum.add(DiscardSum{Frames: 1, Items: int64(f.Items), Bytes: f.Bytes})
		default:
			if byLane[f.Lane] == nil {
				byLane[f.Lane] = map[FrameID]bool{}
			}
			byLane[f.Lane][f.ID] = true
		}
	}
	for lane, ids := range byLane {
		some := d.Discarding
		some.Only = ids
		n, err := q.discardLane(ctx, lane, Pending, &some)
		sum.add(n)
		missed += int64(len(ids)) - n.Frames
		if err != nil {
			return sum, missed, err
		}
	}
	return sum, missed, nil
}
