package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"weir/queue"
)

// Refusal is what a case remembers of the exchange that opened it.
type Refusal struct {
	Reason string `json:"reason"`
	// Heals says that the case is released once a request of its lane comes
	// through, because its cause was the key, the workspace or the path.
	Heals    bool     `json:"heals"`
	Exchange Exchange `json:"exchange"`
}

// caseKey is what makes two refusals the same case.
type caseKey struct {
	lane   queue.LaneID
	reason string
	heals  bool
}

// caseBook opens at most one case for a lane and reason. Its methods may be
// called from any number of goroutines.
type caseBook struct {
	q  *queue.Queue
	mu sync.Mutex // guards known; held while a case is opened or released, so that each happens once
	// known maps to open cases; released ones are removed.
	known map[caseKey]queue.Place
}

func newCaseBook(q *queue.Queue) *caseBook {
	b := &caseBook{q: q, known: map[caseKey]queue.Place{}}
	for _, c := range q.Cases() {
		var r Refusal
		if c.Kind == queue.CaseQuarantine && json.Unmarshal(c.Data, &r) == nil {
			b.known[caseKey{c.Lane, r.Reason, r.Heals}] = c.Place
		}
	}
	return b
}

// open returns the place of the lane's case for the refusal, opening it if
// this is the first.
func (b *caseBook) open(lane queue.LaneID, out *Outcome, heals bool) (queue.Place, error) {
	k := caseKey{lane, out.Reason, heals}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.known[k]; ok {
		return p, nil
	}
	data, err := json.Marshal(Refusal{Reason: out.Reason, Heals: heals, Exchange: out.Exchange})
	if err != nil {
		return 0, fmt.Errorf("describe a refusal: %w", err)
	}
	p, err := b.q.OpenCase(queue.Case{Lane: lane, Kind: queue.CaseQuarantine, Data: data})
	if err != nil {
		return 0, err
	}
	b.known[k] = p
	return p, nil
}

// reasonNotYet is the reason of refusals of class RefusedNotYet. Their cases
// heal with time and not with the lane.
const reasonNotYet = "not_found_yet"

// healing is what a case waits for.
type healing uint8

const (
	healsNever healing = iota
	healsWithLane
	healsWithTime
)

func (k caseKey) healing() healing {
	switch {
	case !k.heals:
		return healsNever
	case k.reason == reasonNotYet:
		return healsWithTime
	default:
		return healsWithLane
	}
}

// isOpen reports whether a case this process knows of is at place.
func (b *caseBook) isOpen(place queue.Place) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.known {
		if p == place {
			return true
		}
	}
	return false
}

// release makes the lane's cases that heal so pending again, and returns how
// many. Those that could not be released stay known, to be tried again.
func (b *caseBook) release(lane queue.LaneID, how healing) (released int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, p := range b.known {
		if k.lane != lane || k.healing() != how {
			continue
		}
		if rerr := b.q.Release(p); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		delete(b.known, k)
		released++
	}
	return released, err
}

// mayRelease reports whether the lane has a case that heals so.
func (b *caseBook) mayRelease(lane queue.LaneID, how healing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.known {
		if k.lane == lane && k.healing() == how {
			return true
		}
	}
	return false
}

// A lane relapses when what was released is refused again soon after. Something
// in the data is then at fault, such as what a firewall on the way takes for an
// attack: releasing it on every success would send it for ever. Each relapse
// doubles the pause before the next release.
const (
	relapseWithin = 2 * probeCap // longer than the longest pause, so that pauses add up
	maxRelapses   = 16           // beyond it the pause is at its cap
)

// releaseHealed makes the lane's quarantine for a cause that seems to be gone
// pending again. If it is too early for that, wait says for how long.
func (f *Forwarder) releaseHealed(lane queue.LaneID, run *laneRun) (wait time.Duration) {
	now := f.cfg.Now()
	f.mu.Lock()
	wait = run.releaseFrom.Sub(now)
	f.mu.Unlock()
	if wait > 0 {
		return wait
	}
	released, err := f.cases.release(lane, healsWithLane)
	if err != nil {
		f.noteError(lane, err)
		wait = retryBase
	}
	if released == 0 {
		return max(wait, 0)
	}
	f.mu.Lock()
	run.releasedAt = now
	f.mu.Unlock()
	f.cfg.Logger.Info("the lane's quarantine is released, to see whether the upstream takes it now", "lane", lane, "cases", released)
	return max(wait, 0)
}

// relapsed notes that a lane's data was refused, and puts off its next release
// if it had just been released. Its requests get smaller, so that what is at
// fault takes less and less with it. The refused request had frames of rawBytes.
func (f *Forwarder) relapsed(run *laneRun, frames int, rawBytes int64) {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if run.releasedAt.IsZero() { // counted already: one relapse for each release
		return
	}
	if now.Sub(run.releasedAt) > relapseWithin {
		run.relapses = 0
	}
	run.releasedAt = time.Time{}
	run.releaseFrom = now.Add(min(probeCap, probeBase<<run.relapses))
	run.relapses = min(run.relapses+1, maxRelapses)
	if frames > 1 {
		run.maxRawBytes = max(rawBytes/2, 1)
	}
}

// releaseLater makes pending again what was about something that was not there
// yet, at growing intervals for as long as it is refused. It returns how long
// the next attempt is away, 0 if there is nothing of the kind.
func (f *Forwarder) releaseLater(lane queue.LaneID, run *laneRun) (wait time.Duration) {
	if !f.cases.mayRelease(lane, healsWithTime) {
		return 0
	}
	now := f.cfg.Now()
	f.mu.Lock()
	wait = run.laterFrom.Sub(now) // of an earlier process: long past
	if wait <= 0 {
		run.laterFrom = now.Add(min(probeCap, probeBase<<run.laterTries))
		run.laterTries = min(run.laterTries+1, maxRelapses)
	}
	f.mu.Unlock()
	if wait > 0 {
		return wait
	}
	if _, err := f.cases.release(lane, healsWithTime); err != nil {
		f.noteError(lane, err)
	}
	return time.Millisecond // it is pending now
}

// putOffLater notes that something was not there yet.
func (f *Forwarder) putOffLater(run *laneRun) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.cfg.Now(); !run.laterFrom.After(now) {
		run.laterFrom, run.laterTries = now.Add(probeBase), 1
	}
}
