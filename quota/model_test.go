package quota_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/quota"
)

const (
	modelUpstream = "smith"
	keyOne        = "smith key-1"
	keyTwo        = "smith key-2" // of the same tenant, as it turns out
	tenant        = "smith tenant"
	stranger      = "smith stranger" // another tenant
)

// model drives a guard as a weir does, beside an upstream with a clock of its
// own, which counts exactly.
type model struct {
	*quota.Guard

	t      *rapid.T
	ledger quota.Ledger
	again  func() quota.Ledger // opens what the ledger kept; nil: it is used on
	ref    *reference

	real time.Time     // the upstream's clock
	skew time.Duration // this machine's clock is ahead by it
	// heard is the month that the upstream's answers have named.
	heard quota.Month

	// pending and held are the data on disk: a part of a trace each.
	pending, held []part

	smith   map[quota.Month]map[string]map[quota.TraceID]bool // what the upstream took
	highest map[quota.Month]int64                             // limit in the month
	excused map[quota.TraceID]bool                            // attempted before the limit was lowered
}

type part struct {
	account string
	id      quota.TraceID
}

func TestGuardBehavesLikeTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { runModel(rt, quota.NewMemory(), nil) })
}

func TestGuardOnDiskBehavesLikeTheModel(t *testing.T) {
	t.Parallel()
	root, runs := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		dir := filepath.Join(root, strconv.Itoa(runs))
		defer func() { _ = os.RemoveAll(dir) }()
		open := func() quota.Ledger {
			l, err := quota.OpenDisk(dir, nil)
			if err != nil {
				rt.Fatal(err)
			}
			return l
		}
		runModel(rt, open(), open)
	})
}

func runModel(rt *rapid.T, l quota.Ledger, again func() quota.Ledger) {
	m := &model{
		t: rt, ledger: l, again: again, real: time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC),
		smith: map[quota.Month]map[string]map[quota.TraceID]bool{}, highest: map[quota.Month]int64{},
		excused: map[quota.TraceID]bool{},
		ref: &reference{
			limit:  rapid.Int64Range(3, 8).Draw(rt, "limit"),
			budget: rapid.SampledFrom([]int64{-1, -1, 2}).Draw(rt, "budget"),
			policy: rapid.SampledFrom(modelPolicies).Draw(rt, "policy"),
			accounts: map[string]*refAccount{
				keyOne: newRefAccount(true), keyTwo: newRefAccount(true), stranger: newRefAccount(false),
			},
		},
	}
	m.open()
	m.observe()
	defer func() { _ = m.ledger.Close() }()
	rt.Repeat(map[string]func(*rapid.T){
		"admit": m.admit, "admit2": m.admit, "admit3": m.admit,
		"send": m.send, "send2": m.send, "send3": m.send,
		"time": m.passTime, "skew": m.setClock, "ask": func(*rapid.T) { m.observe() },
		"release": m.release, "released": m.finishRelease, "orders": m.orders, "drop": m.dropHeld,
		"rules": m.setRules, "limit": m.setLimit, "used": m.setUsed, "taken": m.taken,
		"refused": m.refuse, "reported": m.report, "unite": m.unite, "restart": m.restart,
		"": m.check,
	})
}

var modelPolicies = []quota.Policy{quota.PolicyHold, quota.PolicyDrop, quota.PolicySample, quota.PolicyPace}

func (m *model) no(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) now() time.Time { return m.real.Add(m.skew) }

func (m *model) rules() quota.Rules {
	r := quota.Rules{Traces: m.ref.limit, Policy: m.ref.policy, SampleFrom: 0.5, SampleRate: 0.5}
	if m.ref.budget >= 0 {
		r.Projects = map[string]int64{"a": m.ref.budget}
	}
	return r
}

func (m *model) open() {
	g, err := quota.Open(m.ledger, quota.Config{Rules: m.rules(), Now: m.now, Random: func() float64 { return 0 }})
	m.no(err)
	m.Guard = g
	for _, name := range m.accounts() {
		m.Use(quota.Account{Name: name, Upstream: modelUpstream, Provisional: m.ref.get(name).provisional})
	}
	m.tick()
}

// restart opens the guard anew, as after a kill.
func (m *model) restart(*rapid.T) {
	if m.again != nil {
		m.no(m.ledger.Close())
		m.ledger = m.again()
	}
	m.heard = 0
	m.open()
}

func (m *model) accounts() []string { return slices.Sorted(maps.Keys(m.ref.accounts)) }

func (m *model) anAccount(t *rapid.T) string {
	return rapid.SampledFrom(m.accounts()).Draw(t, "account")
}

// tick has the guard see the time, and the reference what it made of it.
func (m *model) tick() {
	m.t.Helper()
	m.no(m.Advance())
	month := m.Status()[0].Month
	theirs, own := quota.MonthOf(m.real), quota.MonthOf(m.now())
	switch {
	case m.ref.month == 0:
		m.ref.month = month
	case month < m.ref.month:
		m.t.Fatalf("the month went back from %v to %v", m.ref.month, month)
	case month > theirs || month > m.ref.month && month > own:
		m.t.Fatalf("the month is %v at %v, by the own clock %v", month, m.real, m.now())
	case month > m.ref.month:
		gone := m.ref.turn(month)
		isGone := func(p part) bool { return gone[p.id] }
		m.pending, m.held = slices.DeleteFunc(m.pending, isGone), slices.DeleteFunc(m.held, isGone)
	}
	for _, name := range m.accounts() {
		a := m.ref.get(name)
		r, ok := m.Refusing(name)
		a.refused, a.trial = ok, r.Trial
		m.highest[theirs] = max(m.highest[theirs], m.ref.limitOf(name))
	}
}

// observe has the upstream answer.
func (m *model) observe() {
	m.t.Helper()
	m.heard = quota.MonthOf(m.real)
	m.no(m.Observe(m.real))
	m.tick()
	if m.ref.month != m.heard && quota.MonthOf(m.now()) >= m.heard {
		m.t.Fatalf("the month is %v, and both clocks agree on %v", m.ref.month, m.heard)
	}
}

func (m *model) passTime(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "to the month's end") == 0 {
		if eve := quota.MonthOf(m.real).End().Add(-2 * time.Second); eve.After(m.real) {
			m.real = eve
			m.tick()
			return
		}
	}
	m.real = m.real.Add(rapid.SampledFrom([]time.Duration{
		time.Second, time.Minute, time.Hour, 24 * time.Hour, 9 * 24 * time.Hour,
	}).Draw(t, "passes"))
	m.tick()
}

// setClock sets this machine's clock. Weir is then restarted: while a process
// runs, its monotonic clock is not set.
func (m *model) setClock(t *rapid.T) {
	skew := rapid.SampledFrom([]time.Duration{
		0, 0, time.Minute, -time.Minute, 3 * time.Hour, -3 * time.Hour, 40 * 24 * time.Hour, 400 * 24 * time.Hour,
	}).Draw(t, "skew")
	if skew != m.skew {
		m.skew = skew
		m.restart(t)
	}
}

// traceOf is one of a few traces of the month.
func (m *model) traceOf(t *rapid.T) quota.TraceID {
	month := quota.MonthOf(m.real)
	return quota.TraceID{byte(month >> 8), byte(month), 15: byte(rapid.IntRange(1, 14).Draw(t, "trace"))}
}

// epoch is the month that a trace is of.
func epoch(id quota.TraceID) quota.Month { return quota.Month(id[0])<<8 | quota.Month(id[1]) }

func (m *model) admit(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	var traces []quota.Trace
	for range rapid.IntRange(1, 4).Draw(t, "traces") {
		id := m.traceOf(t)
		if slices.ContainsFunc(traces, func(x quota.Trace) bool { return x.ID == id }) {
			continue
		}
		traces = append(traces, quota.Trace{
			ID: id, Project: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "project"),
			Follows: rapid.IntRange(0, 9).Draw(t, "follows") == 0,
		})
	}
	asked := slices.Clone(traces)
	room := m.ref.room(account, !m.NeedsDate())
	a, err := m.Admit(account, traces)
	m.no(err)
	if !slices.Equal(asked, traces) {
		t.Fatalf("the question was changed: %v was %v", traces, asked)
	}
	undo := rapid.IntRange(0, 9).Draw(t, "undo") == 0
	undone := map[quota.TraceID]refTrace{} // and what they were
	for i, v := range a.Verdicts {
		q := &refQuestion{trace: traces[i], room: room, told: v.State}
		before := m.ref.get(account).traces[q.trace.ID]
		was := refTrace{}
		if before != nil {
			was = *before
		}
		state, fresh := m.ref.decide(account, q)
		if v.State != state || v.Fresh != fresh {
			t.Fatalf("trace %x of %s is %v (fresh: %t), want %v (%t); room %d", q.trace.ID, account, v.State, v.Fresh, state, fresh, room)
		}
		switch {
		case undo && fresh && state == quota.Reserved:
			undone[q.trace.ID] = was
		case undo, state == quota.Dropped:
		case state.Passes():
			m.pending = append(m.pending, part{account, q.trace.ID})
		default:
			m.held = append(m.held, part{account, q.trace.ID})
		}
	}
	if !undo {
		return
	}
	m.no(m.Undo(account, a))
	for id, was := range undone {
		if was.state == quota.Counted {
			*m.ref.get(account).traces[id] = was
		} else {
			delete(m.ref.get(account).traces, id)
		}
	}
}

// some draws a few traces of an account of which there are parts.
func some(t *rapid.T, parts []part, account string) []quota.TraceID {
	var out []quota.TraceID
	for _, p := range parts {
		if p.account == account && !slices.Contains(out, p.id) && rapid.Bool().Draw(t, "take") {
			out = append(out, p.id)
		}
	}
	return out
}

func (m *model) send(t *rapid.T) {
	m.tick()
	account := m.anAccount(t)
	ids := some(t, m.pending, account)
	if len(ids) == 0 {
		return
	}
	confirmed := !m.NeedsDate()
	room := m.ref.room(account, confirmed)
	passage, err := m.Claim(account, ids)
	if errors.Is(err, quota.ErrMonthUnconfirmed) {
		if confirmed {
			t.Fatal("the month is confirmed and not confirmed")
		}
		m.observe()
		return
	}
	m.no(err)
	defer m.Ended(passage)
	var pass []quota.TraceID
	for i, v := range passage.Verdicts {
		state, fresh := m.ref.decide(account, &refQuestion{trace: quota.Trace{ID: ids[i]}, room: room, told: v.State, sending: true})
		if v.State != state || v.Fresh != fresh {
			t.Fatalf("before sending, trace %x of %s is %v (fresh: %t), want %v (%t); room %d", ids[i], account, v.State, v.Fresh, state, fresh, room)
		}
		if state.Passes() {
			pass = append(pass, ids[i])
		} else {
			m.holdBack(part{account, ids[i]}, state)
		}
	}
	m.transmit(t, account, pass)
}

// holdBack moves what is pending of a trace to the hold, or forgets it.
func (m *model) holdBack(p part, s quota.State) {
	same := func(q part) bool { return q == p }
	if s != quota.Dropped {
		for range slices.DeleteFunc(slices.Clone(m.pending), func(q part) bool { return q != p }) {
			m.held = append(m.held, p)
		}
	}
	m.pending = slices.DeleteFunc(m.pending, same)
}

// transmit sends a part of each trace.
func (m *model) transmit(t *rapid.T, account string, ids []quota.TraceID) {
	if len(ids) == 0 {
		return
	}
	// A request may be on its way while the month turns.
	m.real = m.real.Add(rapid.SampledFrom([]time.Duration{0, 0, time.Second, 3 * time.Second}).Draw(t, "on its way"))
	switch rapid.IntRange(0, 5).Draw(t, "outcome") {
	case 0: // it arrives, and the answer is lost
		m.arrive(account, ids)
		m.attempt(account, ids)
	case 1: // it is lost, and nobody knows
		m.attempt(account, ids)
	case 2: // it is known not to have arrived
	default:
		m.arrive(account, ids)
		m.observe()
		before := m.ref.totals(account)
		m.no(m.Delivered(account, ids))
		month := min(max(m.ref.month, quota.MonthOf(m.real)), m.ref.month+1)
		for _, id := range ids {
			m.ref.count(account, month, id)
			if i := slices.Index(m.pending, part{account, id}); i >= 0 {
				m.pending = slices.Delete(m.pending, i, i+1)
			}
		}
		if after := m.ref.totals(account); after.Counted < before.Counted {
			t.Fatalf("counted fell from %+v to %+v", before, after)
		}
	}
	m.tick()
}

func (m *model) attempt(account string, ids []quota.TraceID) {
	if m.heard == 0 && quota.MonthOf(m.real) > quota.MonthOf(m.now()) {
		m.observe() // without any answer since a start, a clock that is behind tells nothing
	}
	m.tick()
	m.no(m.Attempted(account, ids))
	theirs := m.now()
	if m.heard != 0 {
		theirs = m.real
	}
	turning := m.heard > m.ref.month || quota.MonthOf(theirs.Add(time.Minute)) > m.ref.month
	for _, id := range ids {
		if turning && m.ref.get(account).traces[id].state == quota.Counted {
			m.ref.count(account, m.ref.month+1, id)
		}
		m.ref.attempted(account, id)
	}
}

// arrive is what the upstream does: it counts by its own clock.
func (m *model) arrive(account string, ids []quota.TraceID) {
	who := tenant
	if account == stranger {
		who = stranger
	}
	month := quota.MonthOf(m.real)
	if m.smith[month] == nil {
		m.smith[month] = map[string]map[quota.TraceID]bool{tenant: {}, stranger: {}}
	}
	for _, id := range ids {
		if m.ref.get(account).traces[id].state != quota.Follower {
			m.smith[month][who][id] = true
		}
	}
}
