package proxy

import (
	"encoding/json"
	"fmt"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// There may be many thousand cases, each with an answer of kilobytes. What looks
// at all of them looks at briefs; only those that are shown are put together.

// maxStatusCases is how many cases a status has.
const maxStatusCases = 100

// caseBrief is what tells a case apart from others at a glance.
type caseBrief struct {
	*queue.Case

	state   CaseState
	cause   diagnose.Code
	heals   bool // with its lane, or with time
	problem bool // a person has to do something, though it may heal
}

// urgency orders cases by who has to act.
func (b *caseBrief) urgency() int {
	switch {
	case b.state == CaseNeedsPerson:
		return 0
	case b.problem:
		return 1
	default:
		return 2
	}
}

// CaseCounts counts cases by who has to act.
type CaseCounts struct {
	Cases, NeedsPerson, Probing, Releasing int

	Items int64 // in all of them
}

// briefs looks at the open cases that hold anything, oldest first.
func (f *Forwarder) briefs(cases []queue.Case) []caseBrief {
	out := make([]caseBrief, 0, len(cases))
	for i := range cases {
		if c := &cases[i]; c.Kind != queue.CaseHold && c.Frames > 0 {
			out = append(out, caseBrief{Case: c, state: CaseNeedsPerson})
		}
	}
	f.cases.brief(out)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range out {
		if f.casework[out[i].Place] {
			out[i].state = CaseReleasing
		}
	}
	return out
}

// brief fills in what is known of cases.
func (b *caseBook) brief(all []caseBrief) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range all {
		c := &all[i]
		fd := b.findings[c.Place]
		switch {
		case c.Kind == queue.CaseDamage:
			c.cause = diagnose.Unreadable
		case fd != nil:
			c.cause, c.heals = fd.Diagnosis.Top().Code, fd.first.Heals
		default: // released a moment ago
			c.cause = diagnose.Unknown
		}
		if c.heals {
			c.state = CaseProbing
		}
		c.problem = !c.heals || needsPerson(c.cause)
	}
}

func countCases(all []caseBrief) (n CaseCounts) {
	for i := range all {
		n.Cases++
		n.Items += all[i].Items
		switch all[i].state {
		case CaseNeedsPerson:
			n.NeedsPerson++
		case CaseProbing:
			n.Probing++
		case CaseReleasing:
			n.Releasing++
		}
	}
	return n
}

// caseStatuses describes cases in their order.
func (f *Forwarder) caseStatuses(briefs []caseBrief, lanes []LaneStatus) []CaseStatus {
	byID := make(map[queue.LaneID]*LaneStatus, len(lanes))
	for i := range lanes {
		byID[lanes[i].ID] = &lanes[i]
	}
	out := make([]CaseStatus, 0, len(briefs))
	for i := range briefs {
		out = append(out, f.caseStatus(*briefs[i].Case, byID[briefs[i].Lane]))
	}
	return out
}

func (f *Forwarder) caseStatus(c queue.Case, lane *LaneStatus) CaseStatus {
	s := CaseStatus{Case: c, State: CaseNeedsPerson, FirstSeen: c.OpenedAt, Of: lane}
	if json.Unmarshal(c.Data, &s.Refusal) != nil {
		s.Refusal.Reason = "unknown"
	}
	if at := s.Refusal.Exchange.Time; !at.IsZero() {
		s.FirstSeen = at
	}
	s.Diagnosis, s.LastSeen = f.diagnosisOf(&c, &s.Refusal)
	if s.LastSeen.Before(s.FirstSeen) {
		s.LastSeen = s.FirstSeen
	}
	switch s.healing() {
	case healsWithLane:
		s.State = CaseProbing
		if lane != nil {
			s.NextProbe, s.WaitingItems = lane.NextAttempt, lane.PendingItems
		}
	case healsWithTime:
		s.State = CaseProbing
	case healsNever:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if run := f.lanes[c.Lane]; run != nil && s.State == CaseProbing {
		due := run.releaseFrom
		if s.healing() == healsWithTime {
			due = run.laterFrom
		}
		if due.After(f.cfg.Now()) && due.After(s.NextProbe) {
			s.NextProbe = due
		}
	}
	if f.casework[c.Place] {
		s.State, s.NextProbe = CaseReleasing, time.Time{}
	}
	return s
}

// diagnosisOf is what is thought of a case's cause, and when it was last met.
func (f *Forwarder) diagnosisOf(c *queue.Case, r *Refusal) (d diagnose.Diagnosis, lastSeen time.Time) {
	if c.Kind == queue.CaseDamage {
		return damageDiagnosis(), c.OpenedAt
	}
	if fd, ok := f.cases.finding(c.Place); ok {
		return fd.Diagnosis, fd.LastSeen
	}
	return diagnose.Diagnose(bareFacts(r)), c.OpenedAt
}

// CaseFilter says which cases are asked for. Zero fields ask for all.
type CaseFilter struct {
	After queue.Place // only later ones
	Cause diagnose.Code
	State CaseState
	Lane  queue.LaneID
}

func (c *CaseFilter) has(b *caseBrief) bool {
	return b.Place > c.After && (c.Cause == "" || c.Cause == b.cause) && (c.State == "" || c.State == b.state) &&
		(c.Lane == 0 || c.Lane == b.Lane)
}

// CasePage is some of the cases.
type CasePage struct {
	Cases  []CaseStatus // oldest first
	More   bool         // there are others after them
	Counts CaseCounts   // of all there are
}

// Cases lists at most n of the cases that hold anything, oldest first.
func (f *Forwarder) Cases(filter CaseFilter, n int) CasePage {
	stats, cases := f.q.Snapshot()
	briefs := f.briefs(cases)
	page := CasePage{Counts: countCases(briefs)}
	var chosen []caseBrief
	for i := range briefs {
		if !filter.has(&briefs[i]) {
			continue
		}
		if page.More = len(chosen) == n; page.More {
			break
		}
		chosen = append(chosen, briefs[i])
	}
	page.Cases = f.caseStatuses(chosen, f.lanesOf(stats.Lanes, chosen))
	return page
}

// lanesOf describes the lanes of cases.
func (f *Forwarder) lanesOf(all []queue.LaneStats, cases []caseBrief) []LaneStatus {
	wanted := map[queue.LaneID]bool{}
	for i := range cases {
		wanted[cases[i].Lane] = true
	}
	out := make([]LaneStatus, 0, len(wanted))
	for i := range all {
		if wanted[all[i].ID] {
			out = append(out, f.laneStatus(all[i]))
		}
	}
	return out
}

// Quarantine lists all cases that hold anything, oldest first. There may be many
// thousand: Cases gives some.
func (f *Forwarder) Quarantine() []CaseStatus {
	stats, cases := f.q.Snapshot()
	briefs := f.briefs(cases)
	return f.caseStatuses(briefs, f.lanesOf(stats.Lanes, briefs))
}

// Case is one case of the quarantine, or ErrNoCase.
func (f *Forwarder) Case(p queue.Place) (CaseStatus, error) {
	stats, cases := f.q.Snapshot()
	for i := range cases {
		if cases[i].Place == p {
			one := f.briefs(cases[i : i+1])
			if len(one) == 0 {
				break
			}
			return f.caseStatuses(one, f.lanesOf(stats.Lanes, one))[0], nil
		}
	}
	return CaseStatus{}, fmt.Errorf("case %d: %w", p, ErrNoCase)
}
