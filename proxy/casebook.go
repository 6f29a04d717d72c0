package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// Refusal is what a case remembers of the exchange that opened it.
type Refusal struct {
	Reason string `json:"reason"`
	// Cause is the code of the diagnosis at first, where cases are kept apart by
	// it: data at fault by itself.
	Cause string `json:"cause,omitempty"`
	// Heals says that the case is released once a request of its lane comes
	// through, because its cause was the key, the workspace or the path.
	Heals    bool     `json:"heals"`
	Exchange Exchange `json:"exchange"`
}

// caseKey is what makes two refusals the same case.
type caseKey struct {
	lane   queue.LaneID
	reason string
	cause  string
	heals  bool
}

// caseBook opens at most one case for a lane and cause, and keeps what is known
// of it. Its methods may be called from any number of goroutines.
type caseBook struct {
	q  *queue.Queue
	mu sync.Mutex // guards what follows; held while a case is opened or released, so that each happens once
	// known maps to open cases; released ones are removed.
	known    map[caseKey]queue.Place
	findings map[queue.Place]*finding
	// lanes has the keys that are known, by lane: the dispatcher asks about lanes
	// all the time, and there may be many thousand cases.
	lanes map[queue.LaneID]map[caseKey]struct{}
}

func newCaseBook(q *queue.Queue) *caseBook {
	b := &caseBook{
		q: q, known: map[caseKey]queue.Place{}, findings: map[queue.Place]*finding{}, lanes: map[queue.LaneID]map[caseKey]struct{}{},
	}
	notes := q.Notes(diagnosisNotes)
	for _, c := range q.Cases() {
		if c.Kind != queue.CaseQuarantine {
			continue
		}
		fd := &finding{id: c.Lane, LastSeen: c.OpenedAt}
		if json.Unmarshal(c.Data, &fd.first) == nil {
			fd.parsed = true
			b.knowLocked(fd.key(), c.Place)
		}
		name := diagnosisNote(c.Place)
		if note, have := notes[name]; have {
			_ = json.Unmarshal(note, fd) // of a later version: found anew
			delete(notes, name)
		}
		if len(fd.Diagnosis.Causes) == 0 {
			fd.Diagnosis = diagnose.Diagnose(bareFacts(&fd.first))
		}
		b.findings[c.Place] = fd
	}
	for name := range notes {
		_ = q.SetNote(name, nil) // of a case that is gone; else it is tried at the next start
	}
	return b
}

// open returns the place of the lane's case for the refusal, opening it if this
// is the first. d is what is thought of it.
func (b *caseBook) open(lane queue.LaneID, out *Outcome, heals bool, d diagnose.Diagnosis) (p queue.Place, fresh bool, err error) {
	r := Refusal{Reason: out.Reason, Heals: heals, Exchange: out.Exchange}
	if !heals {
		r.Cause = string(d.Top().Code)
	}
	k := caseKey{lane, r.Reason, r.Cause, heals}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.known[k]; ok {
		return p, false, nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return 0, false, fmt.Errorf("describe a refusal: %w", err)
	}
	p, err = b.q.OpenCase(queue.Case{Lane: lane, Kind: queue.CaseQuarantine, Data: data})
	if err != nil {
		return 0, false, err
	}
	b.knowLocked(k, p)
	b.findings[p] = &finding{id: lane, first: r, parsed: true, Diagnosis: d}
	return p, true, nil
}

// knowLocked has what is refused for k go to the case at p. mu is held.
func (b *caseBook) knowLocked(k caseKey, p queue.Place) {
	b.known[k] = p
	if b.lanes[k.lane] == nil {
		b.lanes[k.lane] = map[caseKey]struct{}{}
	}
	b.lanes[k.lane][k] = struct{}{}
}

// seen notes that more was refused for a case's cause.
func (b *caseBook) seen(p queue.Place, s *sending, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fd := b.findings[p]
	if fd == nil {
		return
	}
	fd.lane, fd.as, fd.LastSeen = s.lane, s.as, now
	if now.Sub(fd.saved) > saveSeenEvery {
		b.saveLocked(p, fd, now)
	}
}

// saveSeenEvery is how often it is written when a case was last seen.
const saveSeenEvery = time.Minute

// saveLocked writes what is known of a case. mu is held.
func (b *caseBook) saveLocked(p queue.Place, fd *finding, now time.Time) {
	note, err := json.Marshal(fd)
	if err != nil {
		return // strings and times: cannot fail
	}
	fd.saved = now
	_ = b.q.SetNote(diagnosisNote(p), note) // else it is found out again after a restart
}

// found replaces what is thought of a case. It reports whether that is news.
func (b *caseBook) found(p queue.Place, d diagnose.Diagnosis, probes *diagnose.Probes, now time.Time) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fd := b.findings[p]
	if fd == nil {
		return false
	}
	before, after := fd.Diagnosis.Top(), d.Top()
	news = before.Code != after.Code || before.Confidence != after.Confidence
	fd.Diagnosis, fd.Probes = d, *probes
	if news || now.Sub(fd.saved) > saveSeenEvery {
		b.saveLocked(p, fd, now)
	}
	return news
}

// finding is what is known of the case at a place.
func (b *caseBook) finding(p queue.Place) (fd finding, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.findings[p]; known != nil {
		return *known, true
	}
	return finding{}, false
}

// healing lists the open cases that are released by themselves.
func (b *caseBook) healing() map[queue.Place]finding {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[queue.Place]finding{}
	for k, p := range b.known {
		if k.healing() != healsWithLane {
			continue
		}
		if fd := b.findings[p]; fd != nil {
			out[p] = *fd
		}
	}
	return out
}

// forgetLocked drops what is known of a case that is gone. mu is held.
func (b *caseBook) forgetLocked(k caseKey, p queue.Place) {
	delete(b.known, k)
	if delete(b.lanes[k.lane], k); len(b.lanes[k.lane]) == 0 {
		delete(b.lanes, k.lane)
	}
	delete(b.findings, p)
	_ = b.q.SetNote(diagnosisNote(p), nil) // else it is dropped at the next start
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
	fd := b.findings[place]
	return fd != nil && fd.parsed && b.known[fd.key()] == place
}

// release makes the lane's cases that heal so pending again, and returns how
// many. Those that could not be released stay known, to be tried again.
func (b *caseBook) release(lane queue.LaneID, how healing) (released int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.lanes[lane] {
		if k.healing() != how {
			continue
		}
		p := b.known[k]
		if rerr := b.q.Release(p); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		b.forgetLocked(k, p)
		released++
	}
	return released, err
}

// mayRelease reports whether the lane has a case that heals so.
func (b *caseBook) mayRelease(lane queue.LaneID, how healing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.lanes[lane] {
		if k.healing() == how {
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
