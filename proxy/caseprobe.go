package proxy

import (
	"context"
	"time"

	"weir/queue"
)

// A case that heals with its lane is probed with data of its own, which stands in
// it until the upstream has taken it: so the case, its number and what is known
// of it last for as long as its cause does.

// probesCase reports whether a lane's next request is one for its case: where
// nothing is pending, and with run operations always, as what is in the case is
// older than all that is pending.
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
	started, wait = f.lease(send, one, s, opts)
	if !started && wait == 0 && !f.caseHolds(opts.Place) {
		return false, f.releaseHealed(s.ID, one.run)
	}
	return started, wait
}

// healingAt is the oldest of the lane's cases that heal with it.
func (b *caseBook) healingAt(lane queue.LaneID) (p queue.Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, at := range b.known {
		if k.lane == lane && k.healing() == healsWithLane && (p == queue.Pending || at < p) {
			p = at
		}
	}
	return p
}
