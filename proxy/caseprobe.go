package proxy

import (
	"cmp"
	"context"
	"time"

	"weir/queue"
)

// A case that heals with its lane is probed with data of its own, which stands in
// it until the upstream has taken it: so the case, its number and what is known
// of it last for as long as its cause does.

// probesCase reports whether a lane's next request is one for its case: where
// nothing is pending, and with run operations always, as what is in the case is
// older than what is pending, but for the rest of a frame (pendingOlder).
func (f *Forwarder) probesCase(s *queue.LaneStats, lane Lane) bool {
	return (s.PendingFrames == 0 || lane.Protocol == ProtocolRuns) && f.cases.mayRelease(s.ID, healsWithLane)
}

// probeCase sends some of a lane's case to see whether its cause is gone.
func (f *Forwarder) probeCase(send context.Context, one *sending, s *queue.LaneStats) (started bool, wait time.Duration) {
	now := f.cfg.Now()
	f.mu.Lock()
	wait = max(one.run.releaseFrom.Sub(now), one.run.pausedUntil.Sub(now))
	sending := one.run.sending
	f.mu.Unlock()
	opts := queue.LeaseOptions{Lane: s.ID, MaxRawBytes: f.requestBytes(one.run), MaxFrames: 1, Newest: one.run.turns%2 == 1}
	if one.lane.Protocol == ProtocolRuns {
		opts = f.roundLease(s.ID)
		if sending > 0 {
			return false, 0
		}
	}
	if wait > 0 {
		return false, wait
	}
	opts.Place = f.cases.healingAt(s.ID)
	if one.lane.Protocol == ProtocolRuns && s.PendingFrames > 0 {
		switch older, err := f.pendingOlder(s.ID, opts.Place); {
		case err != nil:
			f.noteError(s.ID, err)
			return false, retryBase
		case older:
			opts.Place, opts.MaxFrames = queue.Pending, 1
			return f.lease(send, one, s, opts)
		}
	}
	started, wait = f.lease(send, one, s, opts)
	if !started && wait == 0 && !f.caseHolds(opts.Place) {
		return false, f.releaseHealed(s.ID, one.run)
	}
	return started, wait
}

// pendingOlder reports whether the oldest that is pending of a lane is older than
// all of a case: the rest of a frame of which some was taken before access was
// refused. What is in the case must not overtake it.
func (f *Forwarder) pendingOlder(lane queue.LaneID, p queue.Place) (older bool, err error) {
	var first [2]queue.Frame
	for i, place := range []queue.Place{queue.Pending, p} {
		lease, err := f.q.Lease(queue.LeaseOptions{Lane: lane, Place: place, MaxFrames: 1, MaxRawBytes: 1, InOrder: true})
		if lease == nil || err != nil {
			return false, err
		}
		first[i] = lease.Frames[0]
		first[i].Payload = nil // the lease's
		lease.Return()
	}
	pending, kept := first[0], first[1]
	if !pending.AcceptedAt.Equal(kept.AcceptedAt) {
		return pending.AcceptedAt.Before(kept.AcceptedAt), nil
	}
	// A copy has a higher number than what it was copied from.
	byNumber := cmp.Or(cmp.Compare(pending.ID.Segment, kept.ID.Segment), cmp.Compare(pending.ID.Seq, kept.ID.Seq)) < 0
	return byNumber && !pending.Copied, nil
}

// healingAt is the oldest of the lane's cases that heal with it.
func (b *caseBook) healingAt(lane queue.LaneID) (p queue.Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.lanes[lane] {
		if at := b.known[k]; k.healing() == healsWithLane && (p == queue.Pending || at < p) {
			p = at
		}
	}
	return p
}
