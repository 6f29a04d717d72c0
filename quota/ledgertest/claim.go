package ledgertest

import (
	"slices"
	"sync"

	"weir/quota"
)

var claimPromises = []promise{
	{"a claim of a new trace reserves it", func(h *hand) {
		h.verdict(h.claim(claimOf(10, 0, 1))[0], quota.Reserved, true)
		h.totals(quota.Totals{Month: month, Reserved: 1})
	}},
	{"a claim again changes nothing and is not fresh", func(h *hand) {
		h.reserve(0, 3)
		for range 3 {
			for _, v := range h.claim(claimOf(3, 0, 3)) {
				h.verdict(v, quota.Reserved, false)
			}
		}
		h.totals(quota.Totals{Reserved: 3})
	}},
	{"a trace named twice in a claim is one", func(h *hand) {
		c := claimOf(10, 0, 1)
		c.Traces = append(c.Traces, c.Traces[0])
		v := h.claim(c)
		h.verdict(v[0], quota.Reserved, true)
		h.verdict(v[1], quota.Reserved, false)
		h.totals(quota.Totals{Reserved: 1})
	}},
	{"verdicts are in the order of the traces", func(h *hand) {
		h.deliver(month, 1, 2)
		h.claim(claimOf(0, 2, 3))
		v := h.claim(claimOf(2, 0, 4))
		h.verdict(v[0], quota.Reserved, true)
		h.verdict(v[1], quota.Counted, false)
		h.verdict(v[2], quota.Held, false)
		h.verdict(v[3], quota.Held, true)
	}},
	{"a trace beyond the limit is held, and takes no share", func(h *hand) {
		v := h.claim(claimOf(2, 0, 4))
		h.verdict(v[1], quota.Reserved, true)
		h.verdict(v[2], quota.Held, true)
		h.totals(quota.Totals{Reserved: 2, Held: 2})
	}},
	{"a trace beyond the limit is dropped where that is asked for, and stays so", func(h *hand) {
		c := claimOf(2, 0, 4)
		c.Over = quota.Dropped
		h.verdict(h.claim(c)[3], quota.Dropped, true)
		h.again()
		h.verdict(h.claim(claimOf(100, 3, 4))[0], quota.Dropped, false)
		h.totals(quota.Totals{Reserved: 2, Dropped: 2})
	}},
	{"what is held stays held when there is room", func(h *hand) {
		h.claim(claimOf(0, 0, 1))
		h.verdict(h.claim(claimOf(100, 0, 1))[0], quota.Held, false)
	}},
	{"counted, reserved and releasing traces take their share", func(h *hand) {
		h.claim(claimOf(0, 9, 10))
		h.deliver(month, 0, 2)
		h.reserve(2, 4)
		h.move(quota.Held, quota.Releasing, -1, 9, 10)
		v := h.claim(claimOf(6, 4, 6))
		h.verdict(v[0], quota.Reserved, true)
		h.verdict(v[1], quota.Held, true)
	}},
	{"known traces pass a limit that is reached", func(h *hand) {
		h.reserve(0, 2)
		h.deliver(month, 0, 1)
		v := h.claim(claimOf(1, 0, 2))
		h.verdict(v[0], quota.Counted, false)
		h.verdict(v[1], quota.Reserved, false)
	}},
	{"refuse treats a new trace as beyond the limit, and no other", func(h *hand) {
		h.reserve(0, 1)
		c := claimOf(-1, 0, 2)
		c.Traces[0].Refuse, c.Traces[1].Refuse = true, true
		v := h.claim(c)
		h.verdict(v[0], quota.Reserved, false)
		h.verdict(v[1], quota.Held, true)
	}},
	{"projects have limits of their own", projectLimits},
	{"what a trace is said to be of when it is new stands", func(h *hand) {
		for _, project := range []string{"a", "b", ""} {
			c := claimOf(-1, 0, 1)
			c.Traces[0].Project = project
			h.claim(c)
		}
		if got := h.Projects(account); len(got) != 1 || got[0].Project != "a" {
			h.t.Errorf("the trace is of %+v, want project a", got)
		}
	}},
	{"what only follows is passed on and not counted", followers},
	{"a follower is reserved once its beginning comes, and not by being sent", followersBegin},
	{"reservations beyond the limit are taken back", revoke},
	{"reservations that were attempted are not taken back", func(h *hand) {
		h.reserve(0, 3)
		h.no(h.Attempted(account, ids(0, 2)))
		h.no(h.Attempted(account, ids(0, 2)))
		h.again()
		c := claimOf(0, 0, 3)
		c.Revoke = true
		v := h.claim(c)
		h.verdict(v[0], quota.Reserved, false)
		h.verdict(v[1], quota.Reserved, false)
		h.verdict(v[2], quota.Held, true)
	}},
	{"what may have arrived is told, also of the month before", arrived},
	{"of many claims at once exactly the limit is admitted", concurrentClaims},
	{"exactly one of many claims of a trace is told that it is fresh", concurrentFresh},
	{"what is known of a trace can be asked, and nothing is changed by it", recall},
}

func recall(h *hand) {
	c := claimOf(-1, 0, 3)
	for i := range c.Traces {
		c.Traces[i].Project, c.Traces[i].Failed = "a", i == 1
	}
	h.claim(c)
	h.deliver(month, 0, 1)
	h.no(h.Attempted(account, ids(2, 3)))
	drop := claimOf(0, 3, 4)
	drop.Over = quota.Dropped
	h.claim(drop)
	for n, want := range []quota.Memory{
		{State: quota.Counted, Month: month, Project: "a", Counted: true},
		{State: quota.Reserved, Month: month, Project: "a", Failed: true},
		{State: quota.Reserved, Month: month, Project: "a", Attempted: true},
		{State: quota.Dropped, Month: month},
		{},
	} {
		if got, err := h.Recall(account, ids(n, n+1)[0]); got != want || err != nil {
			h.t.Errorf("of trace %d is known %+v, %v; want %+v", n, got, err, want)
		}
	}
	if got, err := h.Recall(other, ids(0, 1)[0]); got != (quota.Memory{}) || err != nil {
		h.t.Errorf("an account that is not known knows %+v, %v", got, err)
	}
	if got := h.Accounts(); len(got) != 1 {
		h.t.Errorf("asking made accounts: %q", got)
	}
}

func arrived(h *hand) {
	want := func(want ...bool) {
		h.t.Helper()
		got, err := h.Arrived(account, ids(0, len(want)))
		if err != nil || !slices.Equal(got, want) {
			h.t.Errorf("arrived: %v, %v; want %v", got, err, want)
		}
	}
	want(false)
	h.reserve(0, 3)
	h.deliver(month, 0, 1)
	h.no(h.Attempted(account, ids(1, 2)))
	follows := claimOf(-1, 3, 4)
	follows.Traces[0].Follows = true
	h.claim(follows)
	h.claim(claimOf(0, 4, 5))
	want(true, true, false, true, false, false)
	h.again()
	want(true, true, false, true, false, false)
	h.no(h.Turn(month + 1))
	next := claimOf(-1, 0, 3)
	next.Month = month + 1
	h.claim(next) // what was counted is due again
	want(true, true, false, true, false, false)
}

func projectLimits(h *hand) {
	c := claimOf(5, 0, 6)
	for i := range c.Traces {
		c.Traces[i].Project = []string{"a", "b"}[i%2]
	}
	c.Limits.Project = func(name string) int64 {
		if name == "a" {
			return 1
		}
		return -1
	}
	want := []quota.State{quota.Reserved, quota.Reserved, quota.Held, quota.Reserved, quota.Held, quota.Reserved}
	for i, v := range h.claim(c) {
		h.verdict(v, want[i], true)
	}
	got := h.Projects(account)
	if len(got) != 2 || got[0].Project != "b" || got[0].Reserved != 3 || got[1].Reserved != 1 || got[1].Held != 2 {
		h.t.Errorf("the projects have %+v, want b with 3 reserved before a with 1, and 2 held", got)
	}
	h.deliver(month, 0, 1)
	d := claimOf(-1, 7, 8)
	d.Limits.Project, d.Traces[0].Project = c.Limits.Project, "a"
	h.verdict(h.claim(d)[0], quota.Held, true)
}

func followers(h *hand) {
	c := claimOf(0, 0, 1)
	c.Traces[0].Follows = true
	h.verdict(h.claim(c)[0], quota.Follower, true)
	h.verdict(h.claim(c)[0], quota.Follower, false)
	h.deliver(month, 0, 1)
	h.state(quota.Follower, 0, 1)
	h.totals(quota.Totals{})
	// Of a trace that is known, it follows as the trace goes.
	h.reserve(1, 2)
	h.claim(claimOf(0, 2, 3))
	d := claimOf(0, 1, 3)
	d.Traces[0].Follows, d.Traces[1].Follows = true, true
	v := h.claim(d)
	h.verdict(v[0], quota.Reserved, false)
	h.verdict(v[1], quota.Held, false)
}

func followersBegin(h *hand) {
	c := claimOf(1, 0, 2)
	c.Traces[0].Follows, c.Traces[1].Follows = true, true
	h.claim(c)
	send := claimOf(1, 0, 2)
	send.Revoke = true
	for _, v := range h.claim(send) {
		h.verdict(v, quota.Follower, false)
	}
	v := h.claim(claimOf(1, 0, 2))
	h.verdict(v[0], quota.Reserved, true)
	h.verdict(v[1], quota.Held, true)
}

func revoke(h *hand) {
	h.reserve(0, 4)
	h.deliver(month, 0, 1)
	c := claimOf(2, 0, 4)
	for _, v := range h.claim(c)[1:] {
		h.verdict(v, quota.Reserved, false) // nothing is taken back unless it is asked for
	}
	c.Revoke = true
	v := h.claim(c)
	h.verdict(v[0], quota.Counted, false)
	h.verdict(v[1], quota.Held, true)
	h.verdict(v[2], quota.Held, true)
	h.verdict(v[3], quota.Reserved, false)
	h.totals(quota.Totals{Counted: 1, Reserved: 1, Held: 2})
}

// concurrentClaims has many claimants want more than there is, each trace
// wanted by several.
func concurrentClaims(h *hand) {
	const limit, claimants, traces = 100, 8, 40
	admitted := make([]map[quota.TraceID]bool, claimants)
	var all sync.WaitGroup
	for n := range claimants {
		all.Go(func() {
			admitted[n] = map[quota.TraceID]bool{}
			for i := range traces {
				c := claimOf(limit, n/2*traces+i, n/2*traces+i+1)
				v, err := h.Claim(c)
				if err != nil {
					h.t.Error(err)
					return
				}
				if v[0].State == quota.Reserved {
					admitted[n][c.Traces[0].ID] = true
				}
			}
		})
	}
	all.Wait()
	union := map[quota.TraceID]bool{}
	for n := range claimants {
		if len(admitted[n]) != len(admitted[n/2*2]) {
			h.t.Errorf("claimants of the same traces were given %d and %d of them", len(admitted[n]), len(admitted[n/2*2]))
		}
		for t := range admitted[n] {
			union[t] = true
		}
	}
	if len(union) != limit {
		h.t.Errorf("%d traces were admitted, want exactly %d", len(union), limit)
	}
	h.totals(quota.Totals{Reserved: limit, Held: claimants/2*traces - limit})
}

func concurrentFresh(h *hand) {
	var mu sync.Mutex
	fresh := map[quota.TraceID]int{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 50 {
				v, err := h.Claim(claimOf(25, i, i+1))
				if err != nil {
					h.t.Error(err)
					return
				}
				if v[0].Fresh {
					mu.Lock()
					fresh[id(i)]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	for i := range 50 {
		if fresh[id(i)] != 1 {
			h.t.Errorf("trace %d was told %d times to be fresh, want once", i, fresh[id(i)])
		}
	}
}
