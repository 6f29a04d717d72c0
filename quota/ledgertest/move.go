package ledgertest

import (
	"slices"

	"weir/quota"
)

var movePromises = []promise{
	{"a delivered trace is counted once", func(h *hand) {
		h.reserve(0, 2)
		for range 3 {
			h.deliver(month, 0, 2)
		}
		h.totals(quota.Totals{Month: month, Counted: 2})
		h.state(quota.Counted, 0, 2)
	}},
	{"a delivered trace that nobody claimed is counted", func(h *hand) {
		h.deliver(month, 0, 2)
		h.totals(quota.Totals{Month: month, Counted: 2})
	}},
	{"a refunded reservation is forgotten", func(h *hand) {
		h.reserve(0, 2)
		h.no(h.Refund(account, ids(0, 1)))
		h.no(h.Refund(account, ids(0, 1)))
		h.state(quota.Unknown, 0, 1)
		h.totals(quota.Totals{Reserved: 1})
		h.verdict(h.claim(claimOf(2, 0, 1))[0], quota.Reserved, true)
	}},
	{"only reservations that were not attempted are refunded", func(h *hand) {
		h.reserve(0, 2)
		h.no(h.Attempted(account, ids(0, 1)))
		h.deliver(month, 1, 2)
		c := claimOf(0, 2, 3)
		h.claim(c)
		h.no(h.Refund(account, ids(0, 3)))
		h.totals(quota.Totals{Reserved: 1, Counted: 1, Held: 1})
	}},
	{"attempts and refunds begin no account", func(h *hand) {
		h.no(h.Attempted(account, ids(0, 1)))
		h.no(h.Refund(account, ids(0, 1)))
		h.move(quota.Held, quota.Dropped, -1, 0, 1)
		if got := h.Accounts(); len(got) != 0 {
			h.t.Errorf("there are accounts %q, want none", got)
		}
	}},
	{"restore notes what nothing is known of", restore},
	{"a move takes traces from one state to another", func(h *hand) {
		h.claim(claimOf(1, 0, 3))
		h.moved([]bool{false, true, true}, h.move(quota.Held, quota.Releasing, -1, 0, 3))
		h.totals(quota.Totals{Reserved: 1, Releasing: 2})
		h.moved([]bool{false, false, false}, h.move(quota.Held, quota.Releasing, -1, 0, 3))
		h.moved([]bool{false, true, true}, h.move(quota.Releasing, quota.Reserved, -1, 0, 3))
		h.totals(quota.Totals{Reserved: 3})
	}},
	{"a move takes no more than most, in the order of the traces", func(h *hand) {
		h.claim(claimOf(0, 0, 4))
		h.moved([]bool{true, true, false, false}, h.move(quota.Held, quota.Releasing, 2, 0, 4))
		h.moved([]bool{false, false, false, false}, h.move(quota.Held, quota.Releasing, 0, 0, 4))
	}},
	{"a move can be of traces that show an error alone", func(h *hand) {
		c := claimOf(0, 0, 3)
		c.Traces[1].Failed = true
		h.claim(c)
		late := claimOf(0, 2, 3) // its error shows later
		late.Traces[0].Failed = true
		h.claim(late)
		s := selectionOf(quota.Held, quota.Releasing, 0, 3)
		s.OnlyFailed = true
		h.moved([]bool{false, true, true}, h.moveAll(s))
	}},
	{"a move can be of one project alone", func(h *hand) {
		c := claimOf(0, 0, 3)
		c.Traces[1].Project = "a"
		h.claim(c)
		for project, want := range map[string][]bool{"a": {false, true, false}, "": {true, false, true}, "b": {false, false, false}} {
			s := selectionOf(quota.Held, quota.Dropped, 0, 3)
			s.Project = &project
			h.moved(want, h.moveAll(s))
		}
	}},
	{"a move to a share is bounded by the limits", moveLimits},
	{"a move to dropped is remembered", func(h *hand) {
		h.claim(claimOf(0, 0, 2))
		h.move(quota.Held, quota.Dropped, -1, 0, 1)
		h.again()
		h.verdict(h.claim(claimOf(100, 0, 1))[0], quota.Dropped, false)
		h.totals(quota.Totals{Held: 1, Dropped: 1})
	}},
	{"states of unknown traces and accounts are unknown", func(h *hand) {
		h.state(quota.Unknown, 0, 1)
		h.reserve(0, 1)
		h.state(quota.Unknown, 1, 2)
	}},
	{"each ends where it is told to", func(h *hand) {
		h.reserve(0, 10)
		n := 0
		h.no(h.Each(account, quota.Reserved, func(quota.TraceID) bool { n++; return n < 3 }))
		if n != 3 {
			h.t.Errorf("%d traces came, want 3", n)
		}
		h.no(h.Each("nobody", quota.Reserved, func(quota.TraceID) bool { h.t.Error("a trace of nobody"); return true }))
	}},
	{"each gives every trace in a state, and the ledger may be asked meanwhile", func(h *hand) {
		h.claim(claimOf(5, 0, 10))
		var got []quota.TraceID
		h.no(h.Each(account, quota.Held, func(t quota.TraceID) bool {
			got = append(got, t)
			_ = h.Totals(account)
			return true
		}))
		slices.SortFunc(got, func(a, b quota.TraceID) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(got, ids(5, 10)) {
			h.t.Errorf("held are %x, want %x", got, ids(5, 10))
		}
	}},
}

func restore(h *hand) {
	h.deliver(month, 0, 1)
	h.claim(claimOf(0, 1, 2))
	h.no(h.Restore(account, month, ids(0, 4), quota.Reserved))
	h.no(h.Restore(account, month, ids(0, 6), quota.Held))
	h.totals(quota.Totals{Counted: 1, Reserved: 2, Held: 3})
	// Beyond any limit: the data is there.
	h.verdict(h.claim(claimOf(0, 2, 3))[0], quota.Reserved, false)
}

func moveLimits(h *hand) {
	c := claimOf(1, 0, 5)
	for i := range c.Traces {
		c.Traces[i].Project = []string{"a", "b"}[i%2]
	}
	h.claim(c)
	s := selectionOf(quota.Held, quota.Releasing, 0, 5)
	s.Limits = quota.Limits{Traces: 3, Project: func(name string) int64 {
		if name == "a" {
			return 1
		}
		return -1
	}}
	h.moved([]bool{false, true, false, true, false}, h.moveAll(s))
	// What has a share already needs no room.
	s = selectionOf(quota.Releasing, quota.Reserved, 0, 5)
	s.Limits = quota.Limits{}
	h.moved([]bool{false, true, false, true, false}, h.moveAll(s))
	h.totals(quota.Totals{Reserved: 3, Held: 2})
}

func selectionOf(from, to quota.State, first, end int) *quota.Selection {
	return &quota.Selection{
		Account: account, Month: month, At: when, IDs: ids(first, end), From: from, To: to,
		Limits: quota.Limits{Traces: -1}, Most: -1,
	}
}

// move moves traces first to end-1, at most as many as most.
func (h *hand) move(from, to quota.State, most int64, first, end int) []bool {
	h.t.Helper()
	s := selectionOf(from, to, first, end)
	s.Most = most
	return h.moveAll(s)
}

func (h *hand) moveAll(s *quota.Selection) []bool {
	h.t.Helper()
	moved, err := h.Move(s)
	h.no(err)
	return moved
}

func (h *hand) moved(want, got []bool) {
	h.t.Helper()
	if !slices.Equal(got, want) {
		h.t.Errorf("moved are %v, want %v", got, want)
	}
}
