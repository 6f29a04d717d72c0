package ledgertest

import (
	"slices"
	"time"

	"weir/quota"
)

var monthPromises = []promise{
	{"a month begins with what is reserved, and counts from nothing", func(h *hand) {
		h.turned()
		h.reserve(0, 3)
		h.deliver(month, 0, 2)
		h.claim(claimOf(0, 3, 4))
		h.no(h.Turn(month + 1))
		h.totals(quota.Totals{Month: month + 1, Reserved: 1, Held: 1})
		h.past(month, 2, true)
		h.past(month-1, 0, false)
	}},
	{"a month never goes back once something was counted", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 1)
		h.no(h.Turn(month + 1))
		h.deliver(month+1, 1, 2)
		h.no(h.Turn(month))
		h.no(h.Turn(0))
		h.totals(quota.Totals{Month: month + 1, Counted: 1})
		h.reserve(2, 3) // a claim of the earlier month
		h.deliver(month, 3, 4)
		h.totals(quota.Totals{Month: month + 1, Counted: 2, Reserved: 1})
		h.no(h.Turn(month + 1))
		h.totals(quota.Totals{Month: month + 1, Counted: 2, Reserved: 1})
	}},
	{"a month goes back while nothing was ever counted", func(h *hand) {
		h.claim(claimOf(1, 0, 2))
		h.no(h.Turn(month - 12))
		h.again()
		h.totals(quota.Totals{Month: month - 12, Reserved: 1, Held: 1})
		h.no(h.Count(account, month-12, when, ids(0, 1)))
		h.totals(quota.Totals{Month: month - 12, Counted: 1, Held: 1})
	}},
	{"a claim turns the month, too", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 1)
		c := claimOf(1, 1, 2)
		c.Month = month + 1
		h.verdict(h.claim(c)[0], quota.Reserved, true)
		h.totals(quota.Totals{Month: month + 1, Reserved: 1})
	}},
	{"an account begins in the ledger's month", func(h *hand) {
		h.turned()
		c := claimOf(1, 0, 1)
		c.Account, c.Month = other, month+1
		h.claim(c)
		h.reserve(0, 1)
		h.totals(quota.Totals{Month: month + 1, Reserved: 1})
	}},
	{"a trace delivered in two months counts in both", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 2)
		h.no(h.Turn(month + 1))
		h.state(quota.Counted, 0, 2)
		c := claimOf(1, 0, 2)
		c.Month = month + 1
		v := h.claim(c)
		h.verdict(v[0], quota.Reserved, true)
		h.verdict(v[1], quota.Held, true)
		h.deliver(month+1, 0, 1)
		h.totals(quota.Totals{Month: month + 1, Counted: 1, Held: 1})
		h.past(month, 2, true)
	}},
	{"what was counted in an earlier month is held instead of dropped", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 1)
		h.no(h.Turn(month + 1))
		c := claimOf(0, 0, 2)
		c.Over = quota.Dropped
		v := h.claim(c)
		h.verdict(v[0], quota.Held, true)
		h.verdict(v[1], quota.Dropped, true)
	}},
	{"what was counted in an earlier month is so after a refund", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 1)
		h.no(h.Turn(month + 1))
		h.reserve(0, 1)
		h.no(h.Refund(account, ids(0, 1)))
		h.state(quota.Counted, 0, 1)
		h.totals(quota.Totals{Month: month + 1})
		c := claimOf(0, 0, 1)
		c.Over = quota.Dropped
		h.verdict(h.claim(c)[0], quota.Held, true)
	}},
	{"what was on its way while the month turned is reserved", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 1)
		h.no(h.Turn(month + 1))
		h.no(h.Attempted(account, ids(0, 1)))
		h.totals(quota.Totals{Month: month + 1, Reserved: 1})
		c := claimOf(0, 0, 1)
		c.Revoke = true
		h.verdict(h.claim(c)[0], quota.Reserved, false)
		h.no(h.Refund(account, ids(0, 1)))
		h.totals(quota.Totals{Month: month + 1, Reserved: 1})
	}},
	{"drops are of their month, and stay dropped in the next", func(h *hand) {
		h.turned()
		c := claimOf(0, 0, 1)
		c.Over = quota.Dropped
		h.claim(c)
		h.no(h.Turn(month + 1))
		h.totals(quota.Totals{Month: month + 1})
		h.verdict(h.claim(claimOf(10, 0, 1))[0], quota.Dropped, false)
		h.totals(quota.Totals{Month: month + 1})
	}},
	{"what is delivered in a later month than the ledger's counts as next", countNext},
	{"what was counted stays counted when it is delivered in a later month", func(h *hand) {
		h.turned()
		h.deliver(month, 0, 1)
		for range 2 {
			h.deliver(month+1, 0, 1)
		}
		h.totals(quota.Totals{Month: month, Counted: 1, Next: 1})
		h.deliver(month, 0, 1)
		h.no(h.Turn(month + 1))
		h.totals(quota.Totals{Month: month + 1, Counted: 1})
		h.past(month, 1, true)
	}},
	{"days are the last 62 with a new trace, oldest first", days},
	{"a day that a wrong clock named gathers no other day's traces", func(h *hand) {
		for i, at := range []time.Time{when.AddDate(1, 0, 0), when, when.AddDate(0, 0, -1)} {
			c := claimOf(-1, i, i+1)
			c.At = at
			h.claim(c)
		}
		today := quota.DayOf(when)
		want := []quota.DayTotals{{Day: today - 1, Wanted: 1}, {Day: today, Wanted: 1}, {Day: today + 365, Wanted: 1}}
		if got := h.Days(account); !slices.Equal(got, want) {
			h.t.Errorf("days are %v, want %v", got, want)
		}
	}},
}

func countNext(h *hand) {
	h.turned()
	h.deliver(month, 0, 1)
	h.reserve(1, 3)
	h.deliver(month+1, 1, 2)
	h.deliver(month+1, 3, 4)
	h.totals(quota.Totals{Month: month, Counted: 1, Next: 2, Reserved: 1})
	if used := h.Totals(account).Used(); used != 4 {
		h.t.Errorf("%d are used, want 4: what counts next month takes its share at once", used)
	}
	h.again()
	h.no(h.Turn(month + 1))
	h.totals(quota.Totals{Month: month + 1, Counted: 2, Reserved: 1})
	h.past(month, 1, true)
	h.verdict(h.claim(claimOf(0, 1, 2))[0], quota.Counted, false)
}

func days(h *hand) {
	today := quota.DayOf(when)
	h.claim(claimOf(1, 0, 2)) // one is held: it is wanted all the same
	h.deliver(month, 0, 1)
	h.deliver(month, 0, 1)
	if got, want := h.Days(account), []quota.DayTotals{{Day: today, Counted: 1, Wanted: 2}}; !slices.Equal(got, want) {
		h.t.Errorf("days are %v, want %v", got, want)
	}
	for d := 1; d <= 70; d++ {
		c := claimOf(-1, 100+d, 101+d)
		c.At = when.AddDate(0, 0, d)
		h.claim(c)
	}
	c := claimOf(-1, 200, 201)
	h.claim(c) // of a day that is gone
	h.again()
	got := h.Days(account)
	if len(got) != 62 {
		h.t.Fatalf("%d days are kept, want 62", len(got))
	}
	for i, d := range got {
		want := quota.DayTotals{Day: today + 9 + quota.Day(i), Wanted: 1}
		if i == 0 {
			want.Wanted = 2
		}
		if d != want {
			h.t.Errorf("day %d is %v, want %v", i, d, want)
		}
	}
}

// turned says that the test turns months.
func (h *hand) turned() { h.steady = false }

func (h *hand) past(m quota.Month, want int64, known bool) {
	h.t.Helper()
	if got, ok := h.Past(account, m); got != want || ok != known {
		h.t.Errorf("in %v there were %d (known: %t), want %d (%t)", m, got, ok, want, known)
	}
}
