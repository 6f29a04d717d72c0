package proxy

import (
	"fmt"
	"slices"
	"time"

	"weir/queue"
)

// maxProblems is how many problems are said, the last one a count of the others.
const maxProblems = 20

// problemList are sentences, each once, no more than are said.
type problemList struct {
	said []string
	more int
}

func (l *problemList) add(say func() string) {
	if len(l.said) == maxProblems {
		l.more++ // what it says is not looked at: putting it together takes time
		return
	}
	if problem := say(); problem != "" && !slices.Contains(l.said, problem) {
		l.said = append(l.said, problem)
	}
}

// sentences are at most maxProblems.
func (l *problemList) sentences() []string {
	if l.more == 0 {
		return l.said
	}
	out := l.said[:maxProblems-1]
	return append(out, fmt.Sprintf("There are %d more; `weir quarantine ls` and `weir status` list cases and lanes.", l.more+1))
}

// problems says in sentences what needs a person, each once. Cases are oldest
// first.
func (f *Forwarder) problems(s *Status, cases []caseBrief) []string {
	var out problemList
	for _, report := range s.Queue.Reports {
		out.add(func() string { return report })
	}
	if r := s.Queue.Refusing; r != nil {
		out.add(func() string { return "New data is refused (" + r.Reason + "): " + r.Detail + "." })
	}
	byID := make(map[queue.LaneID]*LaneStatus, len(s.Lanes))
	for i := range s.Lanes {
		byID[s.Lanes[i].ID] = &s.Lanes[i]
	}
	told := map[queue.LaneID]bool{} // lanes of which a case says it all
	for i := range cases {
		c := &cases[i]
		told[c.Lane] = told[c.Lane] || c.heals
		if c.problem {
			out.add(func() string {
				one := f.caseStatus(*c.Case, byID[c.Lane])
				return caseProblem(&one)
			})
		}
	}
	lanes := map[string]bool{}
	for i := range s.Lanes {
		if l := &s.Lanes[i]; !told[l.ID] {
			if problem := f.laneProblem(l); problem != "" && !lanes[problem] { // many lanes may wait for one thing
				lanes[problem] = true
				out.add(func() string { return problem })
			}
		}
	}
	return out.sentences()
}

// laneProblem says what a person has to do about a lane; empty: nothing.
func (f *Forwarder) laneProblem(l *LaneStatus) string {
	switch {
	case l.State == LaneParked:
		return fmt.Sprintf("Lane %d is refused by the upstream (%s) since %s: %s", l.ID, l.Reason, l.Since.UTC().Format(time.RFC3339), l.LastError)
	case l.PendingItems > 0 && l.Lane.Credential == refKey && f.dest.Load().APIKey == "":
		return fmt.Sprintf("Lane %d has %s and no key: set LANGSMITH_API_KEY and restart or reload weir.", l.ID, items(l.PendingItems))
	case l.Remedy != "":
		return fmt.Sprintf("Nothing gets through (%s): %s", l.Cause, l.Remedy)
	default:
		return ""
	}
}

// caseProblem says what a person has to do about a case.
func caseProblem(c *CaseStatus) string {
	top := c.Diagnosis.Top()
	held := items(c.Items)
	if c.WaitingItems > 0 {
		held += fmt.Sprintf(" (and %d wait behind them)", c.WaitingItems)
	}
	return fmt.Sprintf("Case %d keeps %s that the upstream refused (%s, %s; see `weir quarantine show %d`). %s",
		c.Place, held, top.Code, top.Confidence, c.Place, top.Remedy)
}
