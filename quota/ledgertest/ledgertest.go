// Package ledgertest is the contract of [quota.Ledger] as tests: every promise
// of the interface is a subtest of [Run]. Whoever implements a ledger runs it.
package ledgertest

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"weir/quota"
)

// Open makes an empty ledger for one test. Reopen closes it and opens what it
// kept; nil for a ledger that keeps nothing. Run closes the ledger in the end.
type Open func(t *testing.T) (ledger quota.Ledger, reopen func() quota.Ledger)

// Run tests that ledgers keep the promises of quota.Ledger.
func Run(t *testing.T, open Open) {
	for _, p := range slices.Concat(claimPromises, movePromises, monthPromises, accountPromises) {
		t.Run(p.name, func(t *testing.T) {
			h := &hand{t: t, steady: true}
			h.Ledger, h.reopen = open(t)
			p.check(h)
			h.recount()
			h.again()
			h.recount()
			if err := h.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

type promise struct {
	name  string
	check func(h *hand)
}

const (
	account = "smith tenant-1"
	other   = "smith key-2"
	month   = quota.Month(682) // November 2026
)

// when is the time of every claim, unless a test says otherwise.
var when = month.Begin().Add(9*24*time.Hour + time.Hour)

// hand is a ledger in the hand of a test.
type hand struct {
	quota.Ledger

	t      *testing.T
	reopen func() quota.Ledger
	// steady: no month has turned, so that every counted trace is this month's.
	steady bool
}

// again opens the ledger anew, where it keeps anything, and compares.
func (h *hand) again() {
	h.t.Helper()
	if h.reopen == nil {
		return
	}
	before := h.picture()
	h.Ledger = h.reopen()
	after := h.picture()
	if !slices.EqualFunc(before, after, accountPicture.equal) {
		h.t.Errorf("opened again, the ledger says\n%+v\nand before\n%+v", after, before)
	}
}

// accountPicture is all that a ledger says of an account.
type accountPicture struct {
	name     string
	totals   quota.Totals
	projects []quota.ProjectTotals
	days     []quota.DayTotals
	states   map[quota.State]int
}

func (a accountPicture) equal(b accountPicture) bool {
	for _, s := range states {
		if a.states[s] != b.states[s] {
			return false
		}
	}
	return a.name == b.name && a.totals == b.totals && slices.Equal(a.projects, b.projects) && slices.Equal(a.days, b.days)
}

var states = []quota.State{quota.Reserved, quota.Held, quota.Dropped, quota.Counted, quota.Releasing, quota.Follower}

func (h *hand) picture() []accountPicture {
	h.t.Helper()
	var out []accountPicture
	for _, name := range h.Accounts() {
		p := accountPicture{
			name: name, totals: h.Totals(name), projects: h.Projects(name), days: h.Days(name), states: map[quota.State]int{},
		}
		for _, s := range states {
			p.states[s] = h.count(name, s)
		}
		out = append(out, p)
	}
	return out
}

// count counts the traces of an account that are in a state.
func (h *hand) count(name string, s quota.State) int {
	h.t.Helper()
	n := 0
	h.no(h.Each(name, s, func(quota.TraceID) bool { n++; return true }))
	return n
}

// recount checks the figures of every account against its traces and projects.
func (h *hand) recount() {
	h.t.Helper()
	for _, p := range h.picture() {
		want := p.totals
		want.Reserved, want.Held = int64(p.states[quota.Reserved]), int64(p.states[quota.Held])
		want.Releasing = int64(p.states[quota.Releasing])
		if h.steady {
			want.Counted, want.Dropped = int64(p.states[quota.Counted]), int64(p.states[quota.Dropped])
		}
		if p.totals != want {
			h.t.Errorf("totals of %q are %+v, and its traces %v", p.name, p.totals, p.states)
		}
		sum := quota.Totals{Month: p.totals.Month}
		for _, q := range p.projects {
			sum.Counted += q.Counted
			sum.Next += q.Next
			sum.Reserved += q.Reserved
			sum.Releasing += q.Releasing
			sum.Held += q.Held
			sum.Dropped += q.Dropped
		}
		if sum != p.totals {
			h.t.Errorf("the projects of %q have %+v together, and the account %+v", p.name, sum, p.totals)
		}
	}
}

// id is the nth trace.
func id(n int) quota.TraceID {
	var t quota.TraceID
	binary.BigEndian.PutUint64(t[8:], uint64(n)+1)
	return t
}

// ids are traces from to to-1.
func ids(from, to int) []quota.TraceID {
	var out []quota.TraceID
	for n := from; n < to; n++ {
		out = append(out, id(n))
	}
	return out
}

// claimOf is a claim of traces from to to-1, with a limit for the account and
// hold beyond it.
func claimOf(limit int64, from, to int) *quota.Claim {
	c := &quota.Claim{Account: account, Month: month, At: when, Limits: quota.Limits{Traces: limit}, Over: quota.Held}
	for _, t := range ids(from, to) {
		c.Traces = append(c.Traces, quota.Trace{ID: t})
	}
	return c
}

// claim makes a claim.
func (h *hand) claim(c *quota.Claim) []quota.Verdict {
	h.t.Helper()
	v, err := h.Claim(c)
	h.no(err)
	if len(v) != len(c.Traces) {
		h.t.Fatalf("%d verdicts about %d traces", len(v), len(c.Traces))
	}
	return v
}

// reserve claims traces from to to-1 without a limit.
func (h *hand) reserve(from, to int) {
	h.t.Helper()
	h.claim(claimOf(-1, from, to))
}

// deliver counts traces from to to-1 in a month.
func (h *hand) deliver(m quota.Month, from, to int) {
	h.t.Helper()
	h.no(h.Count(account, m, when, ids(from, to)))
}

// no ends the test at an error.
func (h *hand) no(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// verdict checks one verdict.
func (h *hand) verdict(got quota.Verdict, s quota.State, fresh bool) {
	h.t.Helper()
	if want := (quota.Verdict{State: s, Fresh: fresh}); got != want {
		h.t.Errorf("the verdict is %v fresh=%t, want %v fresh=%t", got.State, got.Fresh, s, fresh)
	}
}

// state checks the states of traces from to to-1.
func (h *hand) state(want quota.State, from, to int) {
	h.t.Helper()
	got, err := h.States(account, ids(from, to))
	h.no(err)
	for n, s := range got {
		if s != want {
			h.t.Errorf("trace %d is %v, want %v", from+n, s, want)
		}
	}
}

// totals checks the figures of the account. The month is checked if want has
// one.
func (h *hand) totals(want quota.Totals) {
	h.t.Helper()
	got := h.Totals(account)
	if want.Month == 0 {
		got.Month = 0
	}
	if got != want {
		h.t.Errorf("totals are %+v, want %+v", got, want)
	}
}
