package quota_test

import (
	"errors"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"weir/quota"
)

// letGo releases held traces, and checks which.
func (m *model) letGo(account string, ids []quota.TraceID, o *quota.Order) {
	m.t.Helper()
	m.tick()
	room := m.ref.room(account, !m.NeedsDate())
	moved, err := m.Release(account, &quota.Choice{IDs: ids, Most: o.Most, Month: o.Month, Project: o.Project})
	if m.NeedsDate() {
		if !errors.Is(err, quota.ErrMonthUnconfirmed) {
			m.t.Fatalf("a release in a month that nobody has confirmed: %v", err)
		}
		return
	}
	m.no(err)
	n := int64(0)
	for i, id := range ids {
		tr := m.ref.get(account).traces[id]
		want := tr != nil && tr.state == quota.Held && (o.Most < 0 || n < o.Most) && o.Month == m.ref.month &&
			(o.Project == nil || *o.Project == tr.project) && m.ref.fits(account, tr.project, room)
		if moved[i] != want && (moved[i] || m.ref.policy != quota.PolicyPace) {
			m.t.Fatalf("trace %x of %s was released: %t, want %t; room %d", id, account, moved[i], want, room)
		}
		if moved[i] {
			tr.state = quota.Releasing
			n++
		}
	}
}

func (m *model) release(t *rapid.T) {
	account := m.anAccount(t)
	o := quota.Order{Most: rapid.Int64Range(-1, 3).Draw(t, "most"), Month: m.ref.month}
	if rapid.IntRange(0, 3).Draw(t, "of a project") == 0 {
		project := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "project")
		o.Project = &project
	}
	m.letGo(account, some(t, m.held, account), &o)
}

// finishRelease makes pending what is held of traces that were released.
func (m *model) finishRelease(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	var ids []quota.TraceID
	m.no(m.Releasing(account, func(id quota.TraceID) bool { ids = append(ids, id); return true }))
	if got, want := len(ids), m.ref.get(account).number(quota.Releasing); int64(got) != want {
		t.Fatalf("%d traces of %s are being released, want %d", got, account, want)
	}
	m.no(m.Released(account, ids))
	for _, id := range ids {
		m.ref.get(account).traces[id].state = quota.Reserved
		m.unhold(part{account, id})
	}
}

// unhold makes pending what is held of a trace.
func (m *model) unhold(p part) {
	for _, q := range m.held {
		if q == p {
			m.pending = append(m.pending, q)
		}
	}
	m.held = slices.DeleteFunc(m.held, func(q part) bool { return q == p })
}

// orders does the releases that are due.
func (m *model) orders(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	if rapid.Bool().Draw(t, "asked") {
		m.no(m.Ask(account, quota.Order{Most: 2}))
	}
	due, _ := m.Due(account)
	seen := map[int64]bool{}
	for _, o := range due {
		if seen[o.ID] {
			t.Fatalf("two orders of %s have the number %d: %+v", account, o.ID, due)
		}
		seen[o.ID] = true
		var ids []quota.TraceID
		for _, p := range m.held {
			if p.account == account && !slices.Contains(ids, p.id) {
				ids = append(ids, p.id)
			}
		}
		m.letGo(account, ids, &o)
		m.no(m.Done(account, o.ID))
	}
}

func (m *model) dropHeld(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	ids := some(t, m.held, account)
	m.no(m.DropHeld(account, ids))
	for _, id := range ids {
		if tr := m.ref.get(account).traces[id]; tr != nil && tr.state == quota.Held {
			tr.state, tr.month, tr.counted = quota.Dropped, m.ref.month, false
			m.held = slices.DeleteFunc(m.held, func(p part) bool { return p == part{account, id} })
		}
	}
}

// lowering excuses what was sent under a higher limit: more of it may come.
func (m *model) lowering() {
	for _, a := range m.ref.accounts {
		for id, tr := range a.traces {
			if tr.attempted || tr.state == quota.Counted {
				m.excused[id] = true
			}
		}
	}
}

func (m *model) setRules(t *rapid.T) {
	m.lowering()
	m.ref.limit = rapid.Int64Range(3, 8).Draw(t, "limit")
	m.ref.budget = rapid.SampledFrom([]int64{-1, 2, 3}).Draw(t, "budget")
	m.ref.policy = rapid.SampledFrom(modelPolicies).Draw(t, "policy")
	m.no(m.SetRules(m.rules()))
	m.tick()
}

func (m *model) setLimit(t *rapid.T) {
	m.lowering()
	var to *int64
	if n := rapid.Int64Range(2, 9).Draw(t, "limit"); n != 2 {
		to = &n
	}
	for _, name := range m.accounts() {
		m.ref.get(name).override = to
		m.no(m.SetLimit(name, to))
	}
	m.tick()
}

func (m *model) setUsed(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	others := rapid.Int64Range(0, 3).Draw(t, "others")
	totals := m.ref.totals(account)
	m.no(m.SetUsed(account, totals.Counted+totals.Next+others))
	m.ref.get(account).others = others
}

func (m *model) taken(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	a, totals := m.ref.get(account), m.ref.totals(account)
	n := rapid.Int64Range(0, 9).Draw(t, "taken")
	month := m.ref.month - quota.Month(rapid.IntRange(0, 1).Draw(t, "late"))
	m.no(m.Taken(account, month, n))
	if month == m.ref.month {
		a.others = max(a.others, n-totals.Counted-totals.Next)
	}
}

func (m *model) refuse(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	kind := rapid.SampledFrom([]quota.Kind{quota.KindMonth, quota.KindUser, quota.KindHour, quota.KindBytes, quota.KindMinute, quota.KindOther}).Draw(t, "kind")
	if until := m.Refused(account, kind); !until.After(m.now()) {
		t.Fatalf("a refusal (%s) is over at %v, and it is %v", kind, until, m.now())
	}
	if _, ok := m.Refusing(account); kind.Monthly() && !ok {
		t.Fatal("a monthly refusal was not noted")
	}
	if rapid.Bool().Draw(t, "trial") {
		m.no(m.Trial(account))
	}
	m.tick()
}

func (m *model) report(t *rapid.T) {
	account := m.anAccount(t)
	_, _, err := m.Reported(account, quota.UsageLimits{
		Rejecting: rapid.Bool().Draw(t, "rejecting"), Type: rapid.SampledFrom([]string{"total_unique_traces", "payload_size"}).Draw(t, "type"),
	})
	m.no(err)
	m.tick()
}

// unite finds out that two accounts are one.
func (m *model) unite(t *rapid.T) {
	m.tick()
	var open []string
	for _, name := range m.accounts() {
		if m.ref.get(name).provisional {
			open = append(open, name)
		}
	}
	if len(open) == 0 || rapid.IntRange(0, 2).Draw(t, "learned") != 0 {
		return
	}
	from := rapid.SampledFrom(open).Draw(t, "from")
	if m.ref.totals(from).Next > 0 || m.ref.get(tenant) != nil && m.ref.totals(tenant).Next > 0 {
		return // figures of traces that two months count may be too high then
	}
	m.no(m.Unite(from, quota.Account{Name: tenant, Upstream: modelUpstream}))
	if m.ref.get(tenant) == nil {
		m.ref.accounts[tenant] = newRefAccount(false)
	}
	m.ref.unite(from, tenant)
	for i := range m.pending {
		m.pending[i].renamed(from)
	}
	for i := range m.held {
		m.held[i].renamed(from)
	}
	m.tick()
	for _, p := range slices.Clone(m.held) {
		if p.account != tenant {
			continue
		}
		switch s := m.ref.get(tenant).traces[p.id].state; {
		case s.Passes():
			m.unhold(p)
		case s == quota.Dropped:
			m.held = slices.DeleteFunc(m.held, func(q part) bool { return q == p })
		}
	}
}

func (p *part) renamed(from string) {
	if p.account == from {
		p.account = tenant
	}
}

// check compares all that can be seen.
func (m *model) check(t *rapid.T) {
	m.tick()
	for _, name := range m.accounts() {
		if got, want := m.ledger.Totals(name), m.ref.totals(name); got != want && (got.Month != 0 || want.Used()+want.Held+want.Dropped > 0) {
			t.Fatalf("totals of %s are %+v, want %+v", name, got, want)
		}
		a := m.ref.get(name)
		ids := slices.Collect(maps.Keys(a.traces))
		states, err := m.States(name, ids)
		m.no(err)
		for i, s := range states {
			if s != a.traces[ids[i]].state {
				t.Fatalf("trace %x of %s is %v, want %v", ids[i], name, s, a.traces[ids[i]].state)
			}
		}
	}
	for month, tenants := range m.smith {
		for who, took := range tenants {
			n := int64(0)
			for id := range took {
				if !m.excused[id] {
					n++
				}
			}
			if n > m.highest[month] {
				t.Fatalf("LangSmith took %d traces of %s in %v, and the limit was %d", n, who, month, m.highest[month])
			}
		}
	}
}
