package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/queue"
	"weir/quota"
)

// oneTenant is a LangSmith that says that every key is of one tenant.
type oneTenant struct {
	clock *clockwork

	mu     sync.Mutex // guards what follows
	open   bool       // it answers about tenants
	limits map[string]any
	asked  map[string]int
}

func (o *oneTenant) Ask(_ context.Context, q *Question) Answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked == nil {
		o.asked = map[string]int{}
	}
	o.asked[q.Path]++
	a := Answer{Status: 404, Date: o.clock.now()}
	switch {
	case q.Path == pathInfo:
		a.Status = 200
	case q.Path == pathTenant && o.open:
		a.Status, a.Body = 200, []byte(`[{"id":"1","tenant_id":"0c1b2a39-0000-4000-8000-00000000000a"}]`)
	case q.Path == pathLimits && o.limits != nil:
		a.Status = 200
		a.Body, _ = json.Marshal(o.limits)
	}
	return a
}

func (o *oneTenant) set(open bool, limits map[string]any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.limits = open, limits
}

// asking gives the rig somebody to ask.
func (r *limitedRig) asking() *oneTenant {
	r.t.Helper()
	o := &oneTenant{clock: r.clock}
	r.cfg.Asker, r.cfg.AskUsage = o, true
	r.close(r.t.Context())
	r.dest.Workspace = ""
	r.reopenLimited()
	return o
}

func TestKeysOfOneTenantAreOneAccount(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 6})
	tenants := r.asking()
	send := func(key string, n int) {
		t.Helper()
		line := fmt.Sprintf("%s-%d:a", key, n)
		e := &Export{
			Protocol: protocolLines, Caller: Caller{APIKey: "lsv2_pt_" + key + "_key_0001"},
			Payload: []byte(line + "\n"), Items: 1, TraceIDs: []TraceID{lineTrace(line)},
		}
		if _, err := r.a.Accept(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 10 { // whose the keys are is not known yet
		send("one", n)
		send("two", n)
	}
	r.until("six traces to arrive", func(t queue.Totals) bool { return t.Delivered == 6 && t.Held == 14 && t.Pending == 0 })
	tenants.set(true, nil)
	r.clock.set(r.clock.now().Add(2 * time.Hour)) // it is asked again
	r.f.pokeWatch()
	for len(r.f.QuotaStatus()) != 1 {
		select {
		case <-t.Context().Done():
			t.Fatal("the accounts were never united")
		case <-r.up.arrived:
		case <-time.After(5 * time.Millisecond):
		}
	}
	if s := r.f.QuotaStatus()[0]; s.Used != 6 || s.Held != 14 || s.Provisional {
		t.Errorf("united: %+v", s)
	}
	send("three", 1) // a rotated key begins no new month
	r.until("it to be held", func(t queue.Totals) bool { return t.Held == 15 || t.Delivered > 6 })
	if got := r.q.Stats().Totals; got.Delivered != 6 {
		t.Errorf("a third key got past the limit: %+v", got)
	}
	if err := r.f.SetQuotaLimit(r.f.QuotaStatus()[0].Account, new(int64)); err != nil { // none
		t.Fatal(err)
	}
	r.until("all of it", func(t queue.Totals) bool { return t.Delivered == 21 && t.Held == 0 })
}

func TestHourIsShapedBeforeItIsRefused(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{EventsPerHour: 5})
	for i := range 4 {
		r.bring(fmt.Sprintf("t%d:a", i), fmt.Sprintf("t%d:b", i), fmt.Sprintf("t%d:c", i))
		r.until("the hour's share", func(t queue.Totals) bool { return t.Delivered == 3 })
	}
	if n := r.q.Stats().Totals.Pending; n != 9 {
		t.Errorf("%d items wait for the next hour, want 9", n)
	}
	for hour := range 3 {
		r.clock.set(r.clock.now().Add(time.Hour + time.Minute))
		r.f.poke()
		r.until("the next hour's", func(t queue.Totals) bool { return t.Delivered >= int64(3*(hour+2)) || t.Pending == 0 })
	}
}

func TestLimitsThatLangSmithEndsAreNotWaitedOut(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{})
	smith := r.asking()
	smith.set(true, map[string]any{"in_reject_set": true, "usage_limit_type": "events_ingested_per_hour", "tenant_limit": nil})
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "quota_hour", Scope: ScopeAccount, Exchange: Exchange{Status: 429}}
	})
	r.bring("one:a")
	until := func() (at time.Time) {
		for _, l := range r.f.Status(r.a).Lanes {
			at = l.NextAttempt
		}
		return at
	}
	for until().Before(time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC)) {
		select {
		case <-t.Context().Done():
			t.Fatalf("it waits until %s, want the next full hour", until())
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.up.set(nil)
	smith.set(true, map[string]any{"in_reject_set": false, "usage_limit_type": nil, "tenant_limit": nil})
	r.clock.set(r.clock.now().Add(20 * time.Minute)) // it is asked again, and the hour is not over
	r.f.pokeWatch()
	r.until("it to arrive", func(t queue.Totals) bool { return t.Delivered == 1 })
}

// TestHeldDataFollowsWeirsOwnKey has weir's key replaced by one of another
// tenant while data waits under it.
func TestHeldDataFollowsWeirsOwnKey(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 1})
	r.bring("one:a", "two:a", "three:a")
	r.until("one", func(t queue.Totals) bool { return t.Delivered == 1 && t.Held == 2 })
	next := r.dest
	next.APIKey, next.Workspace = "lsv2_pt_own_key_0002", "0c1b2a39-0000-4000-8000-000000000002"
	r.f.SetDestination(next)
	held := func() int64 {
		for _, s := range r.f.QuotaStatus() {
			if strings.HasSuffix(s.Account, "0002") {
				return s.Held
			}
		}
		return 0
	}
	for held() != 2 {
		select {
		case <-t.Context().Done():
			t.Fatalf("what is held did not follow: %+v", r.f.QuotaStatus())
		case <-time.After(2 * time.Millisecond):
		}
	}
	r.rules.Traces = 10
	if err := r.f.SetQuotaRules(r.rules); err != nil {
		t.Fatal(err)
	}
	r.until("the rest", func(t queue.Totals) bool { return t.Delivered == 3 && t.Held == 0 })
}

// TestTrialsAreHourly: where LangSmith does not say whether it refuses, one
// trace an hour finds out.
func TestTrialsAreHourly(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 100})
	r.asking().set(true, nil) // it says nothing of limits
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "quota_month", Scope: ScopeAccount, Exchange: Exchange{Status: 429}}
	})
	for i := range 10 {
		r.bring(fmt.Sprintf("t%d:a", i))
	}
	r.until("them to be held", func(t queue.Totals) bool {
		r.clock.set(r.clock.now().Add(100 * time.Millisecond))
		r.f.poke()
		return t.Held == 10
	})
	before := r.up.count()
	for range 40 { // less than an hour, looked at often
		r.clock.set(r.clock.now().Add(time.Minute))
		r.f.pokeWatch()
		r.f.pokeHold()
		r.f.poke()
		select {
		case <-r.up.arrived:
		case <-time.After(3 * time.Millisecond):
		}
	}
	if n := r.up.count() - before; n > 2 {
		t.Errorf("%d requests went to find out within 40 minutes", n)
	}
	r.up.set(nil)
	r.until("a trial to end it", func(t queue.Totals) bool {
		r.clock.set(r.clock.now().Add(time.Minute))
		r.f.pokeWatch()
		r.f.poke()
		return t.Delivered == 10
	})
}

// TestMadeUpKeysMakeNoEndOfAccounts: any caller can send any key.
func TestMadeUpKeysMakeNoEndOfAccounts(t *testing.T) {
	t.Parallel()
	r := newLimitedRig(t, quota.Rules{Traces: 10})
	for n := range maxUnknownCallers + 50 {
		line := fmt.Sprintf("trace%d:a", n)
		e := &Export{
			Protocol: protocolLines, Caller: Caller{APIKey: fmt.Sprintf("lsv2_pt_made_up_%04d", n)},
			Payload: []byte(line + "\n"), Items: 1, TraceIDs: []TraceID{lineTrace(line)},
		}
		if _, err := r.a.Accept(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.f.QuotaStatus()); n > maxUnknownCallers+2 {
		t.Errorf("%d accounts", n)
	}
	r.until("the limit to hold for all of them", func(t queue.Totals) bool {
		return t.Delivered == 10 && t.Pending == 0 && t.Held == maxUnknownCallers+40
	})
}
