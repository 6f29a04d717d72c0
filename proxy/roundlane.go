package proxy

import (
	"time"

	"weir/queue"
)

// maxRoundFrames bounds the frames of a round.
const maxRoundFrames = 256

// window is how long run operations wait for updates now.
func (f *Forwarder) window() time.Duration {
	if f.draining.Load() {
		return 0
	}
	return f.cfg.Coalesce
}

// roundDue reports whether a lane of run operations may begin a round now; if
// not, when to look again, 0 if a change will tell.
func (f *Forwarder) roundDue(s *queue.LaneStats, run *laneRun, probe bool) (wait time.Duration, ready bool) {
	now := f.cfg.Now()
	f.mu.Lock()
	sending, paused := run.sending, run.pausedUntil.Sub(now)
	f.mu.Unlock()
	if sending > 0 {
		return 0, false
	}
	// What was quarantined for a cause that may be gone is older than all that
	// is pending, and must not be overtaken.
	if f.cases.mayRelease(s.ID, healsWithLane) {
		return max(f.releaseHealed(s.ID, run), time.Millisecond), false
	}
	if f.draining.Load() {
		return 0, true
	}
	if paused > 0 {
		return paused, false
	}
	if probe {
		return 0, true
	}
	age := now.Sub(s.OldestAt)
	linger := f.cfg.Linger
	if s.PendingRawBytes >= f.cfg.MaxRequestBytes {
		linger = 0
	}
	if linger = max(linger, f.window()); age >= 0 && age < linger {
		return linger - age, false
	}
	if paused > 0 {
		return paused, false
	}
	return 0, true
}

// roundLease is what a round leases. With a window it looks further: what came
// last is there for its updates only.
func (f *Forwarder) roundLease(lane queue.LaneID) queue.LeaseOptions {
	o := queue.LeaseOptions{Lane: lane, MaxRawBytes: f.cfg.MaxRequestBytes, MaxFrames: maxRoundFrames, InOrder: true}
	if f.window() > 0 {
		o.MaxRawBytes *= 2
	}
	return o
}

// pauseLane puts off the lane's next round until its oldest leased frame has
// waited for long enough.
func (f *Forwarder) pauseLane(s *sending) {
	oldest := f.cfg.Now()
	for i := range s.lease.Frames {
		if at := s.lease.Frames[i].AcceptedAt; at.Before(oldest) {
			oldest = at
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.run.pausedUntil = oldest.Add(f.window())
}
