package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/queue"
	"weir/quota"
)

// clockwork is a clock that only a test moves.
type clockwork struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clockwork) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clockwork) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// limitedRig is a rig with a limit, whose clock a test moves.
type limitedRig struct {
	*rig
	clock  *clockwork
	ledger quota.Ledger
	rules  quota.Rules
}

func newLimitedRig(t *testing.T, rules quota.Rules) *limitedRig {
	t.Helper()
	r := &limitedRig{clock: &clockwork{t: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}, ledger: quota.NewMemory(), rules: rules}
	r.rig = &rig{
		t: t, dir: t.TempDir(), up: newFakeUpstream(),
		dest:     Destination{UpstreamURL: "https://upstream.test", APIKey: "lsv2_pt_own_key_0001", Workspace: "0c1b2a39-0000-4000-8000-000000000001", Project: "own-project"},
		cfg:      ForwardConfig{Linger: time.Millisecond, Now: r.clock.now},
		dividers: map[Protocol]Divider{protocolLines: lineDivider{}},
	}
	r.reopenLimited()
	t.Cleanup(func() { r.close(t.Context()) })
	return r
}

// reopenLimited opens the pipeline, as after a restart; its ledger goes on.
func (r *limitedRig) reopenLimited() {
	r.t.Helper()
	g, err := quota.Open(r.ledger, quota.Config{Rules: r.rules, Now: r.clock.now, TurnJitter: time.Nanosecond, Random: func() float64 { return 0 }})
	if err != nil {
		r.t.Fatal(err)
	}
	r.guard = g
	r.open()
	r.f.Start(r.t.Context())
}

// bring accepts an export with lines of traces, each "TRACE:TEXT".
func (r *limitedRig) bring(lines ...string) Receipt {
	r.t.Helper()
	e := &Export{Protocol: protocolLines, Payload: []byte(strings.Join(lines, "\n") + "\n"), Items: len(lines)}
	seen := map[TraceID]bool{}
	for _, l := range lines {
		if id := lineTrace(l); !seen[id] {
			seen[id] = true
			e.TraceIDs = append(e.TraceIDs, id)
		}
	}
	receipt, err := r.a.Accept(r.t.Context(), e)
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt
}

// arrivedTraces counts what has reached the upstream, lines by trace.
func (r *limitedRig) arrivedTraces() map[string]int {
	out := map[string]int{}
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	for line, n := range r.up.taken {
		name, _, _ := strings.Cut(line, ":")
		out[name] += n
	}
	return out
}

// wholeTraces reports traces of which not all lines have arrived.
func (r *limitedRig) wholeTraces(lines int) {
	r.t.Helper()
	for name, n := range r.arrivedTraces() {
		if n != lines {
			r.t.Errorf("trace %s: %d of its %d lines arrived", name, n, lines)
		}
	}
}

func TestLimitIsMetToTheTrace(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 5})
	var senders sync.WaitGroup
	for i := range 20 {
		senders.Go(func() {
			r.bring(fmt.Sprintf("trace%d:a", i), fmt.Sprintf("trace%d:b", (i+7)%20))
		})
	}
	senders.Wait()
	r.until("what was admitted to arrive", func(t queue.Totals) bool { return t.Delivered == 10 && t.Pending == 0 })
	if n := len(r.arrivedTraces()); n != 5 {
		t.Errorf("%d traces arrived, the limit is 5", n)
	}
	r.wholeTraces(2)
	if held := r.q.Stats().Totals.Held; held != 30 {
		t.Errorf("%d items are held, want 30", held)
	}

	// What comes of a trace that was admitted passes, also after a restart.
	r.close(t.Context())
	r.reopenLimited()
	for name := range r.arrivedTraces() {
		r.bring(name + ":c")
	}
	for i := range 20 {
		if r.arrivedTraces()[fmt.Sprintf("trace%d", i)] == 0 {
			r.bring(fmt.Sprintf("trace%d:c", i))
		}
	}
	r.until("late lines", func(t queue.Totals) bool { return t.Delivered == 15 && t.Pending == 0 && t.Held == 45 })
	r.wholeTraces(3)

	// More room releases as much as fits.
	r.rules.Traces = 9
	if err := r.guard.SetRules(r.rules); err != nil {
		t.Fatal(err)
	}
	r.until("the release", func(t queue.Totals) bool { return t.Delivered == 27 && t.Pending == 0 })
	r.wholeTraces(3)

	// The month turns once the upstream says so, and 20 % of the new limit are
	// for what is held.
	r.clock.set(time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	if err := r.guard.Observe(r.clock.now()); err != nil {
		t.Fatal(err)
	}
	r.until("the month's release", func(t queue.Totals) bool { return t.Delivered == 30 && t.Pending == 0 })
	r.wholeTraces(3)
	for i := range 10 {
		r.bring(fmt.Sprintf("new%d:a", i), fmt.Sprintf("new%d:b", i), fmt.Sprintf("new%d:c", i))
	}
	r.until("the new month's limit", func(t queue.Totals) bool { return t.Delivered == 30+8*3 && t.Pending == 0 })
	r.wholeTraces(3)
	if s := r.f.QuotaStatus(); len(s) != 1 || s[0].Used != 9 || s[0].Held != 20-10+2 {
		t.Errorf("status: %+v", s)
	}
}

func TestDroppedTracesAreCountedAndStayDropped(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 1, Policy: quota.PolicyDrop})
	if w := r.bring("one:a", "two:a", "three:a").Warning; !strings.Contains(w, "dropped") {
		t.Errorf("warning %q", w)
	}
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 && t.Dropped == 2 })
	if n := r.q.Stats().Totals.DroppedByReason[reasonQuotaDrop]; n != 2 {
		t.Errorf("%d items are dropped for %s, want 2", n, reasonQuotaDrop)
	}
	r.rules.Traces = 100
	if err := r.guard.SetRules(r.rules); err != nil {
		t.Fatal(err)
	}
	r.bring("one:b", "two:b", "four:a")
	r.until("the rest", func(t queue.Totals) bool { return t.Delivered == 3 && t.Dropped == 3 })
	if got := r.arrivedTraces(); got["one"] != 2 || got["four"] != 1 || got["two"] != 0 {
		t.Errorf("arrived: %v", got)
	}
}

func TestHeldProjectIsReleasedAlone(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 10, Projects: map[string]int64{"own-project": 1}})
	r.bring("one:a", "two:a", "three:a")
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 && t.Held == 2 })
	r.rules.Projects = map[string]int64{"own-project": 2}
	if err := r.guard.SetRules(r.rules); err != nil {
		t.Fatal(err)
	}
	r.until("another", func(t queue.Totals) bool { return t.Delivered == 2 && t.Held == 1 })
	r.rules.Projects = nil
	if err := r.guard.SetRules(r.rules); err != nil {
		t.Fatal(err)
	}
	r.until("the last", func(t queue.Totals) bool { return t.Delivered == 3 && t.Held == 0 })
}

func TestOldHeldTracesAreDropped(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 1})
	r.cfg.HoldMaxAge = time.Hour
	r.close(t.Context())
	r.reopenLimited()
	r.bring("one:a", "two:a")
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 && t.Held == 1 })
	// The queue's clock is the machine's.
	r.clock.set(time.Now().Add(2 * time.Hour))
	r.until("the drop", func(t queue.Totals) bool { return t.DroppedByReason[reasonHoldAge] == 1 && t.Held == 0 })
	r.bring("two:b")
	r.until("its rest", func(t queue.Totals) bool { return t.DroppedByReason[reasonHoldAge] == 2 })
}

func TestLoweredLimitHoldsBackWhatIsPending(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 6})
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream, Exchange: Exchange{Status: 503}}
	})
	for i := range 6 {
		r.bring(fmt.Sprintf("trace%d:a", i), fmt.Sprintf("trace%d:b", i))
	}
	r.rules.Traces = 2
	if err := r.guard.SetRules(r.rules); err != nil {
		t.Fatal(err)
	}
	r.up.set(nil)
	r.f.Wake()
	r.until("two traces to arrive", func(t queue.Totals) bool { return t.Delivered == 4 && t.Held == 8 && t.Pending == 0 })
	r.wholeTraces(2)
}

func TestRefusedMonthHoldsNewTracesAndResumes(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 100})
	r.up.set(func(_ *Request, lines []string) Outcome {
		for _, l := range lines {
			if !strings.HasPrefix(l, "old") {
				return Outcome{Kind: Retry, Reason: "quota_month", Scope: ScopeAccount, Exchange: Exchange{Status: 429}}
			}
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r.bring("old:a")
	r.until("the old trace", func(t queue.Totals) bool { return t.Delivered == 1 })
	r.bring("new:a", "old:b")
	r.until("the new one to be held", func(t queue.Totals) bool {
		r.clock.set(r.clock.now().Add(time.Second)) // past the pauses
		r.f.poke()
		return t.Held == 1 && t.Delivered == 2 && t.Pending == 0
	})
	if s := r.f.QuotaStatus(); s[0].Refused == nil || s[0].Refused.Kind != quota.KindMonth {
		t.Errorf("status: %+v", s)
	}
	if w := r.bring("newer:a").Warning; !strings.Contains(w, "LangSmith refuses") {
		t.Errorf("warning %q", w)
	}
	r.up.set(nil)
	if _, _, err := r.guard.Reported(r.f.QuotaStatus()[0].Account, quota.UsageLimits{}); err != nil {
		t.Fatal(err)
	}
	r.f.pokeHold()
	r.until("the rest", func(t queue.Totals) bool { return t.Delivered == 4 && t.Held == 0 })
}

func TestDrainSaysWhatIsHeld(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 1})
	r.bring("one:a", "two:a", "two:b")
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 && t.Held == 2 })
	var last DrainProgress
	if err := r.f.Drain(t.Context(), r.a, func(p DrainProgress) error { last = p; return nil }); err != nil {
		t.Fatal(err)
	}
	if !last.Done || len(last.Left) != 1 || !strings.Contains(last.Left[0], "2 items held") {
		t.Errorf("the drain ended with %+v", last)
	}
}

func TestLostLedgerIsRestoredFromTheDisk(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 3})
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream, Exchange: Exchange{Status: 503}}
	})
	for i := range 5 {
		r.bring(fmt.Sprintf("trace%d:a", i))
	}
	r.until("two to be held", func(t queue.Totals) bool { return t.Pending == 3 && t.Held == 2 })
	r.close(t.Context())
	r.ledger = quota.NewMemory() // lost
	r.reopenLimited()
	restored := func() bool {
		s := r.f.QuotaStatus()
		return len(s) == 1 && s[0].Held == 2 && s[0].Reserved == 3
	}
	for !restored() {
		select {
		case <-t.Context().Done():
			t.Fatalf("not restored: %+v", r.f.QuotaStatus())
		case <-time.After(2 * time.Millisecond):
		}
	}
	if !r.guard.Whole() {
		t.Error("it is restored, and the guard does not know")
	}
	r.bring("trace5:a")
	r.up.set(nil)
	r.f.Wake()
	r.until("three traces to arrive", func(t queue.Totals) bool { return t.Delivered == 3 && t.Held == 3 })
}

// TestFullHoldDropsTheOldest fills the hold's share of the disk.
func TestFullHoldDropsTheOldest(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 1})
	r.close(t.Context())
	r.disk = queue.Config{MaxBytes: 16 << 20, SegmentBytes: 1 << 20, HeldShare: 0.05}
	r.reopenLimited()
	r.bring("first:a")
	random := rand.NewChaCha8([32]byte{1})
	text := make([]byte, 100<<10)
	refused := 0
	for i := range 30 {
		_, _ = random.Read(text) // never fails
		line := fmt.Sprintf("trace%d:%x", i, text)
		e := &Export{Protocol: protocolLines, Payload: []byte(line + "\n"), Items: 1, TraceIDs: []TraceID{lineTrace(line)}}
		for {
			_, err := r.a.Accept(t.Context(), e)
			if err == nil {
				break
			}
			var pressure *PressureError
			if !errors.As(err, &pressure) || pressure.Reason != "held_full" || t.Context().Err() != nil {
				t.Fatal(err)
			}
			refused++
			select { // as a caller does, who is told to come again
			case <-r.up.arrived:
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	got := r.q.Stats().Totals
	r.conserved(got)
	if refused == 0 || got.DroppedByReason[reasonHoldFull] == 0 || got.Held == 0 || got.Dropped != got.DroppedByReason[reasonHoldFull] {
		t.Errorf("refused %d times: %+v", refused, got)
	}
	r.bring("trace0:b") // the oldest: dropped, and so is what comes of it
	r.until("its rest", func(t queue.Totals) bool { return t.Dropped > got.Dropped })
}
