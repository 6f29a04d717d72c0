package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"weir/queue"
)

// FrameDiscard says which pending frames are dropped; of several fields all must
// be true of a frame. None: all pending frames.
type FrameDiscard struct {
	IDs       []queue.FrameID // nil: any
	Lane      queue.LaneID    // 0: any
	OlderThan time.Duration
	DryRun    bool // only count
}

// FramesDiscarded says what was dropped, or would be.
type FramesDiscarded struct {
	Frames, Items int64
	// Bytes on disk that are freed, those of attachments included. Of a dry run they
	// are counted for five seconds at most.
	Bytes int64
	// Sending are frames that were meant and stay: they are being sent.
	Sending int64
}

// DiscardFrames drops pending frames for good, with their attachments: their items
// count as dropped by the reason "discarded". Of traces of which nothing can have
// arrived the shares of the quota are given back; what comes of them later is sent
// like other data. What is being sent at the moment stays and is counted. What is
// cut short has dropped some and kept the rest; what it did is returned with its
// error.
func (f *Forwarder) DiscardFrames(ctx context.Context, d FrameDiscard) (FramesDiscarded, error) {
	p := queue.PendingDiscard{Discarding: queue.Discarding{Reason: reasonDiscarded}, Lane: d.Lane, DryRun: d.DryRun}
	if d.IDs != nil {
		p.Only = make(map[queue.FrameID]bool, len(d.IDs))
		for _, id := range d.IDs {
			p.Only[id] = true
		}
	}
	if d.OlderThan > 0 {
		p.AcceptedBy = f.cfg.Now().Add(-d.OlderThan)
	}
	var out FramesDiscarded
	drop := frameDrop{f: f, attachments: &out.Bytes}
	p.Blobs = drop.before
	sum, err := f.q.DiscardPending(ctx, p)
	out.Frames, out.Items, out.Sending = sum.Frames, sum.Items, sum.Leased
	out.Bytes += sum.Bytes
	if d.DryRun {
		if err == nil {
			out.Bytes += f.weighFrames(ctx, &p)
		}
		return out, err
	}
	drop.after()
	f.poke()
	if out.Frames > 0 {
		f.cfg.Logger.Info("pending frames are discarded by hand", "frames", out.Frames, "items", out.Items)
	}
	if err = errors.Join(err, drop.failed); err != nil {
		return out, fmt.Errorf("discard frames: %d of them, with %s, are dropped; the others are kept: %w", out.Frames, items(out.Items), err)
	}
	return out, nil
}

// frameDrop is what goes with frames that are dropped.
type frameDrop struct {
	f           *Forwarder
	attachments *int64
	failed      error
	attempted   []queue.FrameID
}

// before gives back what a frame's traces have reserved, and names its blobs. A
// kill between that and its end must not leave a share taken for ever.
func (d *frameDrop) before(descriptor string, fr queue.Frame) []string {
	lane, err := parseLane(descriptor)
	if err != nil {
		return nil // of an unknown lane: nobody knows whose shares it took
	}
	if err := d.f.refund(lane, fr.Traces); err != nil && d.failed == nil {
		d.failed = err
	}
	d.f.recent.note(fr.Traces, fateDiscarded, d.f.cfg.Now())
	if d.f.attempts.knows(fr.ID) {
		d.attempted = append(d.attempted, fr.ID)
	}
	names, bytes := frameBlobs(lane, &fr)
	*d.attachments += bytes
	return names
}

// after forgets what was known of the attempts at frames that are gone.
func (d *frameDrop) after() {
	for _, id := range d.attempted {
		if _, err := d.f.q.StatFrame(id); errors.Is(err, queue.ErrNoFrame) {
			d.f.attempts.forget(id)
		}
	}
}

// weighFrames adds up the attachments of pending frames, as far as there is time.
func (f *Forwarder) weighFrames(ctx context.Context, p *queue.PendingDiscard) (bytes int64) {
	if f.q.DiskUse().Blobs == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, weighTime)
	defer cancel()
	lanes := (&holder{f: f}).lanes()
	weigh := func(m *queue.FrameMeta) bool {
		lane, known := lanes[m.Lane]
		if m.Leased || !known || lane.Protocol != ProtocolRuns {
			return ctx.Err() == nil
		}
		if fr, err := f.q.ReadFrame(m.ID); err == nil {
			_, n := frameBlobs(lane, &fr)
			bytes += n
		}
		return ctx.Err() == nil
	}
	meant := func(m *queue.FrameMeta) bool {
		return m.Place == queue.Pending && (p.Lane == 0 || p.Lane == m.Lane) && (p.AcceptedBy.IsZero() || !m.AcceptedAt.After(p.AcceptedBy))
	}
	if p.Only != nil {
		for id := range p.Only {
			if m, err := f.q.StatFrame(id); err == nil && meant(&m) && !weigh(&m) {
				break
			}
		}
		return bytes
	}
	_ = f.q.EachFrame(ctx, queue.FrameFilter{Lane: p.Lane, Places: func(at queue.Place) bool { return at == queue.Pending }}, func(m queue.FrameMeta) bool {
		return !meant(&m) || weigh(&m)
	}) // cut short, it is a part of the truth
	return bytes
}

// DiskUse is what takes the disk, and what each lane takes of it.
type DiskUse struct {
	queue.DiskUse
	// Lanes are those with something on disk, the largest first.
	Lanes []queue.LaneStats
}

// DiskUse adds up what takes the disk. It costs time by the segments.
func (f *Forwarder) DiskUse() DiskUse {
	u := DiskUse{DiskUse: f.q.DiskUse(), Lanes: f.q.Lanes()}
	whole := func(l *queue.LaneStats) int64 { return l.PendingBytes + l.HeldBytes + l.KeptBytes }
	u.Lanes = slices.DeleteFunc(u.Lanes, func(l queue.LaneStats) bool { return whole(&l) == 0 })
	slices.SortStableFunc(u.Lanes, func(a, b queue.LaneStats) int { return int(max(-1, min(1, whole(&b)-whole(&a)))) })
	return u
}
