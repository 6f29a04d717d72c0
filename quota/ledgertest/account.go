package ledgertest

import (
	"bytes"
	"fmt"
	"slices"

	"weir/quota"
)

var accountPromises = []promise{
	{"accounts know nothing of each other", func(h *hand) {
		h.reserve(0, 1)
		h.claimOther(1, 0, 2)
		h.totals(quota.Totals{Reserved: 1})
		if got := h.Accounts(); !slices.Equal(got, []string{other, account}) {
			h.t.Errorf("accounts are %q, want %q", got, []string{other, account})
		}
		if got := h.Totals("nobody"); got != (quota.Totals{}) {
			h.t.Errorf("nobody has %+v", got)
		}
	}},
	{"united accounts are one, and so is a trace that both know", unite},
	{"what binds more is kept of a trace that both know", uniteStates},
	{"united accounts have their projects by name", uniteProjects},
	{"united accounts have their days, months and attempts together", uniteHistory},
	{"what the next month counts is not lost by uniting", uniteNext},
	{"uniting with itself or nobody changes nothing", func(h *hand) {
		h.reserve(0, 1)
		h.no(h.Unite(account, account))
		h.no(h.Unite("nobody", account))
		h.totals(quota.Totals{Reserved: 1})
	}},
	{"many traces are united", func(h *hand) {
		h.claimOther(-1, 0, 10_000)
		h.reserve(5_000, 15_000)
		h.no(h.Unite(other, account))
		h.totals(quota.Totals{Reserved: 15_000})
	}},
	{"projects beyond 1,024 are one", manyProjects},
	{"notes are kept", notes},
	{"a closed ledger refuses", func(h *hand) {
		l := h.Ledger
		if h.reopen != nil {
			h.Ledger = h.reopen() // which closes l
		} else {
			h.no(l.Close())
		}
		if _, err := l.Claim(claimOf(1, 0, 1)); err == nil {
			h.t.Error("a claim of a closed ledger went well")
		}
		if err := l.Count(account, month, when, ids(0, 1)); err == nil {
			h.t.Error("a count of a closed ledger went well")
		}
		if err := l.SetNote("a", []byte("b")); err == nil {
			h.t.Error("a note of a closed ledger went well")
		}
		if err := l.Close(); err != nil {
			h.t.Errorf("to close it again: %v", err)
		}
	}},
}

// claimOther claims for the other account.
func (h *hand) claimOther(limit int64, from, to int) {
	h.t.Helper()
	c := claimOf(limit, from, to)
	c.Account = other
	h.claim(c)
}

func unite(h *hand) {
	h.reserve(0, 3)
	h.deliver(month, 0, 1)
	h.claimOther(3, 1, 6) // 1, 2, 3 reserved, 4 and 5 held
	h.no(h.Count(other, month, when, ids(0, 2)))
	h.no(h.Unite(other, account))
	h.again()
	h.totals(quota.Totals{Month: month, Counted: 2, Reserved: 2, Held: 2})
	if got := h.Totals(other); got != (quota.Totals{}) {
		h.t.Errorf("the other account has %+v left", got)
	}
	if got := h.Accounts(); !slices.Equal(got, []string{account}) {
		h.t.Errorf("accounts are %q, want %q", got, account)
	}
	h.no(h.Unite(other, account))
	// A name that was given up can be used again, for something new.
	h.claimOther(-1, 0, 1)
	h.totals(quota.Totals{Month: month, Counted: 2, Reserved: 2, Held: 2})
}

// uniteStates unites all pairs of states.
func uniteStates(h *hand) {
	order := []quota.State{quota.Unknown, quota.Follower, quota.Dropped, quota.Held, quota.Reserved, quota.Releasing, quota.Counted}
	n := len(order)
	for i := range n {
		for j := range n {
			h.bring(account, order[i], i*n+j)
			h.bring(other, order[j], i*n+j)
		}
	}
	h.no(h.Unite(other, account))
	for i := range n {
		for j := range n {
			h.state(order[max(i, j)], i*n+j, i*n+j+1)
		}
	}
}

// bring brings a trace into a state.
func (h *hand) bring(name string, s quota.State, n int) {
	h.t.Helper()
	c := claimOf(-1, n, n+1)
	c.Account = name
	switch s {
	case quota.Follower:
		c.Traces[0].Follows = true
	case quota.Dropped:
		c.Traces[0].Refuse, c.Over = true, quota.Dropped
	case quota.Held, quota.Releasing:
		c.Traces[0].Refuse = true
	case quota.Unknown:
		return
	case quota.Reserved, quota.Counted:
	}
	h.claim(c)
	switch s {
	case quota.Releasing:
		m := selectionOf(quota.Held, quota.Releasing, n, n+1)
		m.Account = name
		h.moveAll(m)
	case quota.Counted:
		h.no(h.Count(name, month, when, ids(n, n+1)))
	case quota.Unknown, quota.Reserved, quota.Held, quota.Dropped, quota.Follower:
	}
}

func uniteProjects(h *hand) {
	for i, p := range []string{"a", "b", "b", ""} {
		c := claimOf(-1, i, i+1)
		c.Traces[0].Project = p
		h.claim(c)
	}
	for i, p := range []string{"c", "b", "", "b"} {
		c := claimOf(-1, 2+i, 3+i) // 2 and 3 are known to both
		c.Account, c.Traces[0].Project = other, p
		h.claim(c)
	}
	h.no(h.Unite(other, account))
	got := map[string]int64{}
	for _, p := range h.Projects(account) {
		got[p.Project] = p.Reserved
	}
	if want := (map[string]int64{"a": 1, "b": 3, "": 2}); fmt.Sprint(got) != fmt.Sprint(want) {
		h.t.Errorf("projects are %v, want %v", got, want)
	}
}

func uniteHistory(h *hand) {
	h.turned()
	h.deliver(month-1, 0, 2)
	h.no(h.Count(other, month-1, when, ids(5, 8)))
	h.no(h.Turn(month))
	h.reserve(10, 11)
	h.claimOther(-1, 10, 11)
	h.no(h.Attempted(other, ids(10, 11)))
	h.no(h.Unite(other, account))
	h.past(month-1, 5, true)
	h.state(quota.Counted, 5, 8)
	c := claimOf(0, 10, 11)
	c.Revoke = true
	h.verdict(h.claim(c)[0], quota.Reserved, false)
	want := []quota.DayTotals{{Day: quota.DayOf(when), Counted: 5, Wanted: 7}}
	if got := h.Days(account); !slices.Equal(got, want) {
		h.t.Errorf("days are %v, want %v", got, want)
	}
}

func uniteNext(h *hand) {
	h.turned()
	h.deliver(month, 0, 2)
	h.no(h.Count(other, month, when, ids(1, 3)))
	h.no(h.Count(other, month+1, when, ids(1, 4))) // 1 and 2 in both months
	h.no(h.Unite(other, account))
	// This month 0, 1 and 2; 1 may be two of them, for figures alone remember it.
	if got := h.Totals(account); got.Next != 3 || got.Counted < 3 || got.Counted > 4 {
		h.t.Errorf("totals are %+v, want 3 or 4 counted and 3 next", got)
	}
	h.no(h.Turn(month + 1))
	h.totals(quota.Totals{Month: month + 1, Counted: 3})
}

func manyProjects(h *hand) {
	c := claimOf(-1, 0, 1500)
	for i := range c.Traces {
		c.Traces[i].Project = fmt.Sprintf("project %d", i)
	}
	c.Traces[1499].Project = ""
	h.claim(c)
	h.again()
	got := h.Projects(account)
	if len(got) != 1025 {
		h.t.Errorf("%d projects are listed, want 1,024 and one for the others", len(got))
	}
	if len(got) > 0 && (got[0].Project != "…" || got[0].Reserved != 1500-1024) {
		h.t.Errorf("first is %+v, want the others with %d", got[0], 1500-1024)
	}
	// Those beyond are not another account's default project.
	h.claimOther(-1, 2000, 2001)
	h.no(h.Unite(account, other))
	for _, p := range h.Projects(other) {
		if p.Project == "" && p.Reserved != 2 {
			h.t.Errorf("the default project has %d, want 2", p.Reserved)
		}
	}
}

func notes(h *hand) {
	if h.Note("a") != nil {
		h.t.Error("there is a note in a new ledger")
	}
	value := bytes.Repeat([]byte("x"), 64<<10)
	h.no(h.SetNote("a", value))
	h.no(h.SetNote("a/b", []byte("y")))
	clear(value) // the caller's own again
	h.again()
	if got := h.Note("a"); len(got) != 64<<10 || got[0] != 'x' {
		h.t.Errorf("the note has %d bytes, beginning with %.1q", len(got), got)
	}
	if err := h.SetNote("a", make([]byte, 64<<10+1)); err == nil {
		h.t.Error("a note of more than 64 KiB was taken")
	}
	h.no(h.SetNote("a", nil))
	h.again()
	if h.Note("a") != nil || string(h.Note("a/b")) != "y" {
		h.t.Errorf("notes are %q and %q, want none and y", h.Note("a"), h.Note("a/b"))
	}
}
