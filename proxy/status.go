package proxy

import (
	"cmp"
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
	Cases         []CaseStatus // the first hundred, those that need a person first
	CaseCounts    CaseCounts   // of all
	UpstreamURL   string
	LastDelivered time.Time // zero: nothing yet in this process
	UpstreamWait  *Wait     // set while everything waits
	Stopped       string    // why no new data is taken; empty: it is
	Problems      []string  // what needs a person
	Restamped     int64     // traces whose times were moved, in this process
	SentBytes     int64     // of requests, as encoded, in this process
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
	stats, cases := f.q.Snapshot()
	s := Status{
		Queue: stats, UpstreamURL: f.dest.Load().UpstreamURL, Restamped: f.starts.moved.Load(), SentBytes: f.m.sentBytes.Load(),
	}
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
	briefs := f.briefs(cases)
	s.CaseCounts = countCases(briefs)
	s.Problems = f.problems(&s, briefs) // by age
	slices.SortStableFunc(briefs, func(a, b caseBrief) int { return cmp.Compare(a.urgency(), b.urgency()) })
	s.Cases = f.caseStatuses(briefs[:min(len(briefs), maxStatusCases)], s.Lanes)
	return s
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
