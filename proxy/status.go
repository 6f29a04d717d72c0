package proxy

import (
	"fmt"
	"slices"
	"time"

	"weir/queue"
)

// LaneState is what a lane is doing.
type LaneState uint8

// The states of a lane.
const (
	LaneIdle    LaneState = iota + 1 // nothing is pending
	LaneSending                      // data is on its way, or about to be
	LaneWaiting                      // the next attempt is due later
	LaneParked                       // refused; probed now and then
)

// Status is a consistent picture of the pipeline.
type Status struct {
	Queue         queue.Stats
	Lanes         []LaneStatus
	Cases         []CaseStatus
	UpstreamURL   string
	LastDelivered time.Time // zero: nothing yet in this process
	UpstreamWait  *Wait     // set while everything waits
	Stopped       string    // why no new data is taken; empty: it is
	Problems      []string  // what needs a person
	Restamped     int64     // traces whose times were moved, in this process
}

// Wait is a pause in force.
type Wait struct {
	Reason string
	Detail string
	Since  time.Time
	Until  time.Time
}

// LaneStatus is one lane for people.
type LaneStatus struct {
	queue.LaneStats
	Lane        Lane
	Credential  string // hint of the key in use, or "none"
	Workspace   string
	Project     string
	State       LaneState
	Reason      string
	Cause       string // a code of diagnose; empty: not waiting
	Remedy      string // where a person has to do something
	Since       time.Time
	NextAttempt time.Time // zero: not waiting
	Delivered   int64     // items, in this process
	LastError   string
}

// Status reports the pipeline's state. a may be nil.
func (f *Forwarder) Status(a *Acceptor) Status {
	stats, cases := f.snapshot()
	s := Status{Queue: stats, UpstreamURL: f.dest.Load().UpstreamURL, Restamped: f.starts.moved.Load()}
	f.mu.Lock()
	s.LastDelivered = f.lastDelivered
	f.mu.Unlock()
	if a != nil {
		s.Stopped = a.Stopped()
	}
	if w, ok := f.waits.get(upstreamWait); ok {
		s.UpstreamWait = &Wait{w.Reason, w.Detail, w.Since, w.Until}
	}
	for i := range s.Queue.Lanes {
		s.Lanes = append(s.Lanes, f.laneStatus(s.Queue.Lanes[i]))
	}
	s.Cases = f.caseStatuses(cases, s.Lanes)
	s.Problems = f.problems(&s)
	return s
}

// snapshot reads totals and cases that agree with each other: data that is
// released or quarantined between the two readings would be in neither.
func (f *Forwarder) snapshot() (stats queue.Stats, cases []queue.Case) {
	const attempts = 5
	for range attempts {
		stats, cases = f.q.Stats(), f.q.Cases()
		var items int64
		for i := range cases {
			items += cases[i].Items
		}
		if items == stats.Totals.Held+stats.Totals.Quarantined {
			break
		}
	}
	return stats, cases
}

func (f *Forwarder) laneStatus(q queue.LaneStats) LaneStatus {
	s := LaneStatus{LaneStats: q}
	lane, err := parseLane(q.Descriptor)
	if err != nil {
		s.State, s.LastError = LaneParked, err.Error()
		return s
	}
	dest := f.dest.Load()
	s.Lane = lane
	s.Workspace = resolve(lane.Workspace, refWorkspace, dest.Workspace)
	s.Project = resolve(lane.Project, refProject, dest.Project)
	s.Credential = f.credentialHint(lane, dest)
	f.mu.Lock()
	if run := f.lanes[q.ID]; run != nil {
		s.Delivered, s.LastError = run.delivered, run.lastError
		s.State, s.Since = LaneIdle, run.idleSince
		if run.sending > 0 {
			s.State, s.Since = LaneSending, run.sendSince
		}
	}
	f.mu.Unlock()
	if s.State != LaneSending && q.PendingFrames > 0 {
		s.State = LaneSending
	} else if s.State == 0 {
		s.State = LaneIdle
	}
	for _, k := range f.waitKeys(lane, q.ID) {
		w, ok := f.waits.get(k)
		if !ok || (q.PendingFrames == 0 && !f.cases.mayRelease(q.ID, healsWithLane)) {
			continue
		}
		s.State, s.Reason, s.Since = LaneWaiting, w.Reason, w.Since
		s.Cause, s.Remedy = w.Cause, w.Remedy
		if w.Refused {
			s.State = LaneParked
		}
		if w.Until.After(s.NextAttempt) {
			s.NextAttempt = w.Until
		}
		if s.LastError == "" {
			s.LastError = w.Detail
		}
	}
	return s
}

func (f *Forwarder) credentialHint(l Lane, dest *Destination) string {
	key := dest.APIKey
	if l.Credential != refKey {
		var err error
		if key, err = f.vault.Key(l.Credential); err != nil {
			return "unreadable"
		}
	}
	if key == "" {
		return "none"
	}
	return KeyHint(key)
}

// items counts items in words.
func items(n int64) string {
	if n == 1 {
		return "1 item"
	}
	return fmt.Sprintf("%d items", n)
}

// problems says in sentences what needs a person, each once.
func (f *Forwarder) problems(s *Status) []string {
	out := append([]string(nil), s.Queue.Reports...)
	if r := s.Queue.Refusing; r != nil {
		out = append(out, "New data is refused ("+r.Reason+"): "+r.Detail+".")
	}
	told := map[queue.LaneID]bool{} // lanes of which a case says it all
	for i := range s.Cases {
		c := &s.Cases[i]
		told[c.Lane] = told[c.Lane] || c.Refusal.Heals
		if problem := caseProblem(c); problem != "" {
			out = append(out, problem)
		}
	}
	for i := range s.Lanes {
		l := &s.Lanes[i]
		problem := ""
		switch {
		case told[l.ID]:
		case l.State == LaneParked:
			problem = fmt.Sprintf("Lane %d is refused by the upstream (%s) since %s: %s", l.ID, l.Reason, l.Since.UTC().Format(time.RFC3339), l.LastError)
		case l.PendingItems > 0 && l.Lane.Credential == refKey && f.dest.Load().APIKey == "":
			problem = fmt.Sprintf("Lane %d has %s and no key: set LANGSMITH_API_KEY and restart or reload weir.", l.ID, items(l.PendingItems))
		case l.Remedy != "":
			problem = fmt.Sprintf("Nothing gets through (%s): %s", l.Cause, l.Remedy)
		}
		if problem != "" && !slices.Contains(out, problem) {
			out = append(out, problem)
		}
	}
	return out
}

// caseProblem says what a person has to do about a case; empty: nothing.
func caseProblem(c *CaseStatus) string {
	top := c.Diagnosis.Top()
	if c.Refusal.Heals && !needsPerson(top.Code) {
		return ""
	}
	held := items(c.Items)
	if c.WaitingItems > 0 {
		held += fmt.Sprintf(" (and %d wait behind them)", c.WaitingItems)
	}
	return fmt.Sprintf("Case %d keeps %s that the upstream refused (%s, %s; see `weir quarantine show %d`). %s",
		c.Place, held, top.Code, top.Confidence, c.Place, top.Remedy)
}
