package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/queue"
	"weir/quota"
)

// meteredUpstream counts traces as LangSmith does: by its own clock, and it
// knows no mercy.
type meteredUpstream struct {
	*fakeUpstream

	clock  *clockwork // LangSmith's
	mode   string     // "", down, lost, full
	months map[quota.Month]map[string]bool
}

func newMeteredUpstream() *meteredUpstream {
	u := &meteredUpstream{fakeUpstream: newFakeUpstream(), clock: &clockwork{}, months: map[quota.Month]map[string]bool{}}
	u.answer = u.meter
	return u
}

// meter is the answer to a request.
func (u *meteredUpstream) meter(_ *Request, lines []string) Outcome {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.clock.now()
	out := Outcome{Kind: Delivered, Reason: "ok", Exchange: Exchange{Status: 202, ServerDate: now}}
	month := u.months[quota.MonthOf(now)]
	if month == nil {
		month = map[string]bool{}
		u.months[quota.MonthOf(now)] = month
	}
	switch u.mode {
	case "down":
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream, Exchange: Exchange{Status: 503, ServerDate: now}}
	case "full":
		if slices.ContainsFunc(lines, func(l string) bool { return !month[nameOf(l)] }) {
			return Outcome{Kind: Retry, Reason: "quota_month", Scope: ScopeAccount, Exchange: Exchange{Status: 429, ServerDate: now}}
		}
	case "lost":
		out = Outcome{Kind: Retry, Reason: "timeout", Scope: ScopeUpstream, MayHaveArrived: true}
	}
	for _, l := range lines {
		month[nameOf(l)] = true
		if out.Kind != Delivered {
			u.taken[l]++
		}
	}
	return out
}

// Ask implements Asker: there is nothing but the date.
func (u *meteredUpstream) Ask(_ context.Context, q *Question) Answer {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mode == "down" {
		return Answer{Err: errors.New("no route to host")}
	}
	a := Answer{Status: 404, Date: u.clock.now()}
	if q.Path == pathInfo {
		a.Status = 200
	}
	return a
}

func nameOf(line string) string { name, _, _ := strings.Cut(line, ":"); return name }

// set changes what the upstream does.
func (u *meteredUpstream) do(mode string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mode = mode
}

// counts is how many traces each month has taken.
func (u *meteredUpstream) counts() map[quota.Month]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[quota.Month]int{}
	for m, traces := range u.months {
		out[m] = len(traces)
	}
	return out
}

// quotaModel is a pipeline on disk, its upstream, and what must hold.
type quotaModel struct {
	*rig
	rt     *rapid.T
	up     *meteredUpstream
	clock  *clockwork // weir's
	rules  quota.Rules
	sent   map[string][]string // lines by trace
	limits map[quota.Month]int64
	n      int
}

// start opens the pipeline on what is on disk.
func (m *quotaModel) start() {
	m.t.Helper()
	ledger, err := quota.OpenDisk(filepath.Join(m.dir, "quota"), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.guard, err = quota.Open(ledger, quota.Config{Rules: m.rules, Now: m.clock.now, TurnJitter: time.Nanosecond, Random: func() float64 { return 0 }})
	if err != nil {
		m.t.Fatal(err)
	}
	m.rig.open()
	m.f.Start(m.t.Context())
	m.mayHave()
}

func (m *quotaModel) stop() {
	m.t.Helper()
	m.rig.close(m.t.Context())
	if err := m.guard.Close(); err != nil {
		m.t.Error(err)
	}
}

// mayHave notes the limit in force: what was taken under a higher one stays.
func (m *quotaModel) mayHave() {
	month := quota.MonthOf(m.up.clock.now())
	for _, at := range []quota.Month{month, month + 1} {
		m.limits[at] = max(m.limits[at], m.rules.Traces)
	}
}

// check looks at what must always hold.
func (m *quotaModel) check() {
	m.t.Helper()
	for month, n := range m.up.counts() {
		if limit, known := m.limits[month]; known && int64(n) > limit {
			m.rt.Fatalf("%d traces were taken in %s, the limit was %d: %+v", n, month, limit, m.f.QuotaStatus())
		}
	}
	m.conserved(m.q.Stats().Totals)
}

// agrees checks, where nothing is on its way, that weir has counted what the
// upstream has.
func (m *quotaModel) agrees() {
	m.t.Helper()
	if t := m.q.Stats().Totals; t.Pending != 0 {
		return
	}
	counts := m.up.counts()
	for _, s := range m.f.QuotaStatus() {
		if s.Releasing != 0 {
			continue // a release is under way
		}
		if s.Reserved != 0 || s.Used < int64(counts[s.Month]) {
			m.rt.Fatalf("nothing is pending, %d traces were taken in %s, and weir says %+v", counts[s.Month], s.Month, s)
		}
	}
}

// quiet waits until nothing more happens for a while.
func (m *quotaModel) quiet() {
	last, same := queue.Totals{}, 0
	for range 400 {
		t := m.q.Stats().Totals
		t.DroppedByReason = nil
		if fmt.Sprint(t) == fmt.Sprint(last) {
			if same++; same > 6 {
				return
			}
		} else {
			last, same = t, 0
		}
		select {
		case <-m.up.arrived:
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// TestQuotaModel drives a pipeline on disk through arrivals, restarts, moves of
// both clocks, changes of the limit, releases and an upstream that fails, loses
// answers and refuses, and counts at the upstream: never more traces in a month
// than the limit; nothing lost; and in the end every trace whole, or none of it.
func TestQuotaModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &quotaModel{
			rt: rt, up: newMeteredUpstream(), clock: &clockwork{}, sent: map[string][]string{}, limits: map[quota.Month]int64{},
			rules: quota.Rules{
				Traces: rapid.Int64Range(1, 8).Draw(rt, "limit"),
				Policy: rapid.SampledFrom([]quota.Policy{quota.PolicyHold, quota.PolicyHold, quota.PolicyDrop, quota.PolicyPace}).Draw(rt, "policy"),
			},
		}
		begin := time.Date(2026, 12, 30, 12, 0, 0, 0, time.UTC)
		m.clock.set(begin)
		m.up.clock.set(begin)
		m.rig = &rig{
			t: t, dir: t.TempDir(), up: m.up.fakeUpstream,
			dest: Destination{UpstreamURL: "https://upstream.test", APIKey: "lsv2_pt_own_key_0001", Project: "own-project"},
			// The queue's clock is the machine's, and this one is not: ages mean nothing.
			cfg:      ForwardConfig{Linger: time.Millisecond, Now: m.clock.now, Asker: m.up, HoldMaxAge: 100 * 365 * 24 * time.Hour},
			dividers: map[Protocol]Divider{protocolLines: lineDivider{}},
		}
		m.start()
		defer m.stop()
		for range rapid.IntRange(3, 25).Draw(rt, "steps") {
			m.step(rt)
			m.check()
		}
		m.finish(rt)
	})
}

func (m *quotaModel) step(rt *rapid.T) {
	switch rapid.SampledFrom([]string{"bring", "bring", "bring", "bring", "bring", "quiet", "quiet", "restart", "mode", "clock", "server", "limit", "release", "wake"}).Draw(rt, "step") {
	case "bring":
		m.bring(rt)
	case "quiet":
		m.quiet()
		m.agrees()
	case "restart":
		m.stop()
		m.start()
	case "mode":
		m.up.do(rapid.SampledFrom([]string{"", "", "down", "lost", "full"}).Draw(rt, "mode"))
		m.f.Wake()
	case "clock": // weir's own, which may be wrong
		m.clock.set(m.up.clock.now().Add(time.Duration(rapid.IntRange(-50, 50).Draw(rt, "hours")) * time.Hour))
		m.f.Wake()
	case "server": // time passes, for both
		d := time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour
		m.up.clock.set(m.up.clock.now().Add(d))
		m.clock.set(m.clock.now().Add(d))
		m.mayHave()
		m.f.Wake()
	case "limit":
		m.rules.Traces = rapid.Int64Range(1, 10).Draw(rt, "limit")
		m.mayHave()
		if err := m.f.SetQuotaRules(m.rules); err != nil {
			m.t.Fatal(err)
		}
	case "release":
		for _, s := range m.f.QuotaStatus() {
			_ = m.f.ReleaseHeld(s.Account, quota.Order{Most: rapid.Int64Range(-1, 3).Draw(rt, "most"), Oldest: rapid.Bool().Draw(rt, "oldest")}) // too many: those before count
		}
	case "wake":
		m.f.Wake()
	}
}

// bring accepts an export with a few lines of a few traces.
func (m *quotaModel) bring(rt *rapid.T) {
	e := &Export{Protocol: protocolLines}
	seen := map[TraceID]bool{}
	for range rapid.IntRange(1, 4).Draw(rt, "lines") {
		name := fmt.Sprintf("t%d", rapid.IntRange(0, 15).Draw(rt, "trace"))
		m.n++
		line := fmt.Sprintf("%s:%d", name, m.n)
		e.Payload = append(e.Payload, line+"\n"...)
		e.Items++
		m.sent[name] = append(m.sent[name], line)
		if id := lineTrace(line); !seen[id] {
			seen[id] = true
			e.TraceIDs = append(e.TraceIDs, id)
		}
	}
	if _, err := m.a.Accept(m.t.Context(), e); err != nil {
		m.t.Fatal(err)
	}
}

// finish takes all limits and troubles away: then everything arrives, but for
// what was dropped, and that is dropped whole.
func (m *quotaModel) finish(rt *rapid.T) {
	m.up.do("")
	m.clock.set(m.up.clock.now())
	m.rules.Traces = 0
	clear(m.limits)
	if err := m.f.SetQuotaRules(m.rules); err != nil {
		m.t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		m.up.clock.set(m.up.clock.now().Add(time.Minute)) // what waits goes by the clock
		m.clock.set(m.up.clock.now())
		m.f.Wake()
		for _, s := range m.f.QuotaStatus() {
			if s.Refused != nil { // nobody is asked here: what is said when somebody is
				if _, _, err := m.guard.Reported(s.Account, quota.UsageLimits{}); err != nil {
					m.t.Fatal(err)
				}
				m.clock.set(m.clock.now().Add(time.Hour))
				m.up.clock.set(m.clock.now())
			}
			_ = m.f.ReleaseHeld(s.Account, quota.Order{Most: -1})
		}
		m.quiet()
		if t := m.q.Stats().Totals; t.Held == 0 && t.Pending == 0 {
			break
		}
		if time.Now().After(deadline) {
			rt.Fatalf("not everything arrives without limits: %+v, %+v", m.q.Stats().Totals, m.f.QuotaStatus())
		}
	}
	m.conserved(m.q.Stats().Totals)
	m.up.mu.Lock()
	defer m.up.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.sent)) {
		arrived := 0
		for _, line := range m.sent[name] {
			if m.up.taken[line] > 0 {
				arrived++
			}
		}
		if arrived != len(m.sent[name]) && (arrived != 0 || m.rules.Policy != quota.PolicyDrop) {
			rt.Fatalf("trace %s: %d of %d lines arrived: %+v", name, arrived, len(m.sent[name]), m.q.Stats().Totals)
		}
	}
}
