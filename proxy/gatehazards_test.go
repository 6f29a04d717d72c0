package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/queue"
	"weir/quota"
)

// hookedDivider has a test do something between the guard's decision about data
// and the moment that it stands where that sends it.
type hookedDivider struct {
	lineDivider

	hook *atomic.Pointer[func() error]
}

func (d hookedDivider) Split(payload []byte, n int, part func(TraceID) int) ([]Piece, error) {
	if do := d.hook.Swap(nil); do != nil {
		if err := (*do)(); err != nil {
			return nil, err
		}
	}
	return d.lineDivider.Split(payload, n, part)
}

// hooked gives the rig a divider with a hook.
func (r *limitedRig) hooked() *atomic.Pointer[func() error] {
	r.t.Helper()
	hook := &atomic.Pointer[func() error]{}
	r.close(r.t.Context())
	r.dividers = map[Protocol]Divider{protocolLines: hookedDivider{hook: hook}}
	r.reopenLimited()
	return hook
}

// allow sets the limit.
func (r *limitedRig) allow(traces int64) {
	r.t.Helper()
	r.rules.Traces = traces
	if err := r.f.SetQuotaRules(r.rules); err != nil {
		r.t.Fatal(err)
	}
}

// TestDataThatIsHeldWhileItsTraceIsReleasedFollows: an export finds its trace
// held, and by the time it stands in the hold the release is over.
func TestDataThatIsHeldWhileItsTraceIsReleasedFollows(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 1})
	hook := r.hooked()
	r.bring("one:a")
	r.bring("two:a")
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 && t.Held == 1 })
	release := func() error {
		r.allow(5)
		r.until("two", func(t queue.Totals) bool { return t.Delivered == 2 })
		return nil
	}
	hook.Store(&release)
	r.bring("two:b")
	r.until("its rest", func(t queue.Totals) bool { return t.Delivered == 3 && t.Held == 0 })
}

// TestDataThatIsHeldBackWhileItsTraceIsReleasedFollows is the same for what was
// pending, and is held back right before it is sent.
func TestDataThatIsHeldBackWhileItsTraceIsReleasedFollows(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 2})
	hook := r.hooked()
	down := func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream, Exchange: Exchange{Status: 503}}
	}
	r.bring("one:a")
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 })
	r.up.set(down)
	r.bring("two:a")
	r.until("it to be tried", func(queue.Totals) bool { return r.up.count() > 1 })
	r.allow(1)
	// Another sender has just found it to be over the limit.
	account := r.f.QuotaStatus()[0].Account
	r.until("that", func(queue.Totals) bool {
		p, err := r.guard.Claim(account, []TraceID{lineTrace("two:a")})
		if err != nil {
			t.Fatal(err)
		}
		r.guard.Ended(p)
		return p.Verdicts[0].State == quota.Held
	})
	r.bring("two:b")
	r.until("it to be held", func(t queue.Totals) bool { return t.Held == 1 && t.Pending == 1 })
	release := func() error {
		if err := r.f.SetQuotaRules(quota.Rules{Traces: 5}); err != nil {
			return err
		}
		for r.q.Stats().Totals.Held > 0 && t.Context().Err() == nil {
			select {
			case <-t.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
		return nil
	}
	hook.Store(&release)
	r.up.set(nil)
	r.f.Wake()
	r.until("all of it", func(t queue.Totals) bool { return t.Delivered == 3 && t.Held == 0 })
}

// TestTraceIsNotCutWhileAPartOfItIsUnderWay: the limit is lowered while a request
// with a part of a trace has no answer yet, and more of it is due.
func TestTraceIsNotCutWhileAPartOfItIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 10})
	r.bring("old:a")
	r.until("the old trace", func(t queue.Totals) bool { return t.Delivered == 1 })
	sent, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.up.set(func(_ *Request, lines []string) Outcome {
		for _, l := range lines {
			if l == "one:a" {
				once.Do(func() { close(sent) })
				<-answer
			}
		}
		return delivered(nil, nil)
	})
	r.bring("one:a")
	<-sent
	r.allow(1)
	r.bring("one:b")
	r.until("more of it to be decided about", func(t queue.Totals) bool { return t.Held == 1 || t.Delivered == 2 })
	close(answer)
	r.until("the whole trace", func(t queue.Totals) bool { return t.Delivered == 3 && t.Held == 0 })
}

// TestFullHoldDoesNotStopALane: what has to be held back finds no room in the
// hold, and nothing arrives that would make some.
func TestFullHoldDoesNotStopALane(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 4})
	r.close(t.Context())
	r.disk = queue.Config{MaxBytes: 16 << 20, SegmentBytes: 1 << 20, HeldShare: 0.05}
	r.reopenLimited()
	random := rand.NewChaCha8([32]byte{1})
	bring := func(name string) error {
		text := make([]byte, 100<<10)
		_, _ = random.Read(text) // never fails
		line := fmt.Sprintf("%s:%x", name, text)
		_, err := r.a.Accept(t.Context(), &Export{Protocol: protocolLines, Payload: []byte(line + "\n"), Items: 1, TraceIDs: []TraceID{lineTrace(line)}})
		return err
	}
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream, Exchange: Exchange{Status: 503}}
	})
	for i := range 4 {
		if err := bring(fmt.Sprintf("pending%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; bring(fmt.Sprintf("held%d", i)) == nil; i++ {
	}
	r.until("some room to be made, and used", func(t queue.Totals) bool { return t.DroppedByReason[reasonHoldFull] > 0 })
	for i := 0; bring(fmt.Sprintf("more%d", i)) == nil; i++ {
	}
	r.allow(1)
	r.up.set(nil)
	r.f.Wake()
	r.until("the lane to go on", func(t queue.Totals) bool {
		r.clock.set(r.clock.now().Add(time.Second)) // past the pauses
		r.f.poke()
		return t.Delivered == 1 && t.Pending == 0
	})
}

// gateway answers everything itself, and names no date.
type gateway struct{ asked atomic.Int64 }

func (g *gateway) Ask(context.Context, *Question) Answer {
	g.asked.Add(1)
	return Answer{Status: 502}
}

// TestUpstreamThatLosesItsDateIsNotAskedInALoop: the upstream named its date
// once, and by the month's turn a gateway answers for it.
func TestUpstreamThatLosesItsDateIsNotAskedInALoop(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 10})
	g := &gateway{}
	r.cfg.Asker = g
	r.close(t.Context())
	r.reopenLimited()
	if err := r.guard.Observe(r.clock.now()); err != nil {
		t.Fatal(err)
	}
	r.clock.set(time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	r.bring("one:a")
	r.until("it to be asked", func(queue.Totals) bool { return g.asked.Load() > 0 })
	for range 40 { // no time passes
		r.f.pokeWatch()
		r.f.poke()
		select {
		case <-r.up.arrived:
		case <-time.After(2 * time.Millisecond):
		}
	}
	if n := g.asked.Load(); n > 3 {
		t.Errorf("it was asked %d times within a second", n)
	}
	if err := r.guard.Observe(r.clock.now()); err != nil {
		t.Fatal(err)
	}
	r.clock.set(r.clock.now().Add(2 * time.Minute))
	if err := r.guard.Observe(r.clock.now()); err != nil {
		t.Fatal(err)
	}
	r.f.Wake()
	r.until("it to go once the month is known", func(t queue.Totals) bool { return t.Delivered == 1 })
}

// TestWaitOfAKeyBecomesThatOfItsTenant: a key waits for the next hour when its
// workspace becomes known.
func TestWaitOfAKeyBecomesThatOfItsTenant(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{})
	smith := r.asking()
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "quota_hour", Scope: ScopeAccount, Exchange: Exchange{Status: 429}}
	})
	r.bring("one:a")
	r.until("it to be refused", func(queue.Totals) bool { return r.up.count() > 0 && len(r.q.Notes(waitNotes+"account/")) == 1 })
	smith.set(true, nil)
	r.clock.set(r.clock.now().Add(time.Minute))
	r.f.pokeWatch()
	known := func() bool { return len(r.f.QuotaStatus()) == 1 && !r.f.QuotaStatus()[0].Provisional }
	r.until("the tenant to be known", func(queue.Totals) bool { return known() })
	r.until("the wait to be its", func(queue.Totals) bool {
		notes := r.q.Notes(waitNotes + "account/")
		for name := range notes {
			if len(notes) == 1 && strings.HasSuffix(name, "0c1b2a39-0000-4000-8000-00000000000a") {
				return true
			}
		}
		return false
	})
	if n := r.up.count(); n != 1 {
		t.Errorf("%d requests were sent within the hour", n)
	}
}

// TestReleaseThatFailsGoesOnWhereItStood: the month's release is at most a share
// of the limit, however often moving the data fails.
func TestReleaseThatFailsGoesOnWhereItStood(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 10})
	hook := r.hooked()
	for i := range 30 {
		r.bring(fmt.Sprintf("trace%d:a", i))
	}
	r.until("the month's", func(t queue.Totals) bool { return t.Delivered == 10 && t.Held == 20 })
	failures := 0
	var fail func() error
	fail = func() error {
		if failures++; failures < 4 {
			hook.Store(&fail)
		}
		return errors.New("the disk cannot be read")
	}
	hook.Store(&fail)
	r.clock.set(time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	if err := r.guard.Observe(r.clock.now()); err != nil {
		t.Fatal(err)
	}
	r.until("the release", func(t queue.Totals) bool {
		r.f.pokeHold()
		return t.Delivered >= 12 && t.Pending == 0 && len(r.f.QuotaStatus()[0].Orders) == 0
	})
	if s := r.f.QuotaStatus()[0]; s.Used != 2 || s.Held != 18 || s.Releasing != 0 {
		t.Errorf("20 %% of a limit of 10 may be spent on what is held: %+v", s)
	}
}
