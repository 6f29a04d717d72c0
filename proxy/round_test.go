package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/proxy/runs"
	"weir/queue"
)

// smithlike is an upstream that treats run operations as LangSmith is known to:
// one create and one update of a run, a 409 for a request with one it has.
type smithlike struct {
	mu       sync.Mutex
	partial  bool                // a 409 still stores what is new
	mode     string              // "", down, lost, denied, flaky
	maxOps   int                 // more are too large; 0: any
	taken    map[string]int      // "post ID" to how often it was stored
	views    map[runs.ID]viewed  // what is known of each run
	requests [][]string          // what each request held
	early    []string            // updates that came before their create
	bad      func(*runs.Op) bool // refused for its content
	missing  map[string]bool     // paths of calls that are answered 404
	rand     func(n int) int     // for flaky
	arrived  chan struct{}
}

type viewed map[string]json.RawMessage

func newSmithlike() *smithlike {
	return &smithlike{
		taken: map[string]int{}, views: map[runs.ID]viewed{}, missing: map[string]bool{}, arrived: make(chan struct{}, 1),
		bad: func(op *runs.Op) bool { return strings.Contains(string(op.Body), `"bad"`) },
	}
}

func opName(op *runs.Op) string {
	if op.Kind == runs.Attachment {
		return fmt.Sprint(op.Kind, " ", op.ID, " ", op.Name)
	}
	return fmt.Sprint(op.Kind, " ", op.ID)
}

func (u *smithlike) Send(ctx context.Context, r *Request) Outcome {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer func() {
		select {
		case u.arrived <- struct{}{}:
		default:
		}
	}()
	var names []string
	for _, op := range r.Runs {
		names = append(names, opName(op))
	}
	u.requests = append(u.requests, names)
	if ctx.Err() != nil {
		return Outcome{Kind: Interrupted, Reason: "stopping"}
	}
	mode := u.mode
	if mode == "flaky" {
		mode = []string{"", "", "", "down", "lost"}[u.rand(5)]
	}
	refuse := func(class RefusalClass, status int, reason string) Outcome {
		return Outcome{Kind: Refused, Reason: reason, Refusal: class, Scope: ScopeLane, Exchange: Exchange{Status: status}}
	}
	switch {
	case mode == "down":
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream}
	case mode == "denied":
		o := refuse(RefusedAccess, 403, "http_403")
		o.Scope = ScopeCredential
		return o
	case u.maxOps > 0 && len(r.Runs) > u.maxOps:
		return refuse(RefusedSize, 413, "http_413")
	case slices.ContainsFunc(r.Runs, u.bad):
		return refuse(RefusedContent, 422, "http_422")
	case r.Runs[0].Kind == runs.Call && u.missing[r.Runs[0].Path]:
		return refuse(RefusedNotYet, 404, reasonNotYet)
	}
	conflict := slices.ContainsFunc(names, func(n string) bool { return u.taken[n] > 0 })
	if !conflict || u.partial {
		u.store(r.Runs)
	}
	switch {
	case mode == "lost":
		return Outcome{Kind: Retry, Reason: "timeout", Scope: ScopeUpstream, MayHaveArrived: true}
	case conflict:
		return refuse(RefusedDuplicate, 409, "duplicate")
	default:
		return Outcome{Kind: Delivered, Reason: "ok"}
	}
}

func (u *smithlike) store(ops []*runs.Op) {
	for _, op := range ops {
		name := opName(op)
		if u.taken[name] > 0 {
			continue
		}
		u.taken[name]++
		if op.Kind == runs.Update && u.taken["post "+op.ID.String()] == 0 {
			u.early = append(u.early, name)
		}
		if op.Kind != runs.Create && op.Kind != runs.Update {
			continue
		}
		var members viewed
		if err := json.Unmarshal(op.Body, &members); err != nil {
			panic(err)
		}
		if u.views[op.ID] == nil {
			u.views[op.ID] = viewed{}
		}
		maps.Copy(u.views[op.ID], members)
	}
}

func (u *smithlike) set(mode string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mode = mode
}

func (u *smithlike) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// runsRig is a rig whose upstream is a smithlike.
type runsRig struct {
	*rig
	smith *smithlike
}

func newRunsRig(t *testing.T, edit func(*ForwardConfig)) *runsRig {
	t.Helper()
	r := &runsRig{rig: &rig{
		t: t, dir: t.TempDir(), up: newFakeUpstream(), dest: Destination{APIKey: "lsv2_pt_own_key_0001", Project: "own-project"},
		cfg: ForwardConfig{Linger: time.Millisecond},
	}, smith: newSmithlike()}
	if edit != nil {
		edit(&r.cfg)
	}
	r.reopen()
	t.Cleanup(func() { r.close(context.Background()) })
	return r
}

// reopen opens the rig's directory, as after a restart.
func (r *runsRig) reopen() {
	r.t.Helper()
	r.rig.open()
	v, _, err := OpenVault(r.q, r.dir+"/credential.key")
	if err != nil {
		r.t.Fatal(err)
	}
	r.limit(v)
	r.a = NewAcceptor(r.q, v, r.cfg.Quota)
	r.f = NewForwarder(r.q, r.smith, v, r.cfg)
}

func numbered(n int) (id runs.ID) {
	id[0], id[14], id[15] = 1, byte(n>>8), byte(n)
	return id
}

func createOf(n int, members string) runs.Op {
	return runs.Op{Kind: runs.Create, ID: numbered(n), Trace: numbered(n), Body: []byte(fmt.Sprintf(`{"c":%d%s}`, n, members)), NoProject: true}
}

func updateOf(n int, members string) runs.Op {
	return runs.Op{Kind: runs.Update, ID: numbered(n), Trace: numbered(n), Body: []byte(fmt.Sprintf(`{"u":%d%s}`, n, members))}
}

func (r *runsRig) take(ops ...runs.Op) {
	r.t.Helper()
	e := &Export{Protocol: ProtocolRuns, Items: len(ops)}
	for i := range ops {
		e.Payload = runs.Append(e.Payload, &ops[i])
		if id := TraceID(ops[i].Trace); !slices.Contains(e.TraceIDs, id) {
			e.TraceIDs = append(e.TraceIDs, id)
		}
	}
	if _, err := r.a.Accept(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
}

// settled waits, without patience for pauses, until nothing is pending.
func (r *runsRig) settled() queue.Totals {
	r.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		t := r.q.Stats().Totals
		if t.Pending == 0 {
			r.conserved(t)
			return t
		}
		r.f.Wake()
		select {
		case <-look.C:
		case <-deadline.C:
			r.t.Fatalf("waited in vain for all to be settled: %+v, %d requests, lanes %+v", t, r.smith.count(), r.f.Status(r.a).Lanes)
		}
	}
}

// healed is settled, and waits for what heals by itself, too: in a case of that
// kind data is not pending, and its turn is yet to come.
func (r *runsRig) healed() queue.Totals {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		t := r.settled()
		heals := slices.ContainsFunc(r.f.Status(r.a).Cases, func(c CaseStatus) bool { return c.Refusal.Heals })
		if !heals && r.q.Stats().Totals.Pending == 0 {
			return t
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for the quarantine to heal: %+v", r.f.Status(r.a).Cases)
		}
		r.f.Wake()
		select {
		case <-r.t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *runsRig) wantTotals(delivered, quarantined int64) {
	r.t.Helper()
	if t := r.settled(); t.Delivered != delivered || t.Quarantined != quarantined {
		r.t.Errorf("%d delivered and %d quarantined, want %d and %d", t.Delivered, t.Quarantined, delivered, quarantined)
	}
	if len(r.smith.early) > 0 {
		r.t.Errorf("updates came before their creates: %v", r.smith.early)
	}
}

// wantWhole checks that a run's create and update are both in what arrived.
func (r *runsRig) wantWhole(n int) {
	r.t.Helper()
	v := r.smith.views[numbered(n)]
	for _, k := range []string{"c", "u"} {
		if string(v[k]) != fmt.Sprint(n) {
			r.t.Errorf("run %d arrived as %s: %q is missing", n, mustJSON(v), k)
		}
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (r *runsRig) caseReasons() map[string]int64 {
	out := map[string]int64{}
	for _, c := range r.f.Status(r.a).Cases {
		out[c.Refusal.Reason] += c.Items
	}
	return out
}

func TestACreateAndItsUpdateLeaveAsOne(t *testing.T) {
	r := newRunsRig(t, nil)
	r.take(createOf(1, ""), createOf(2, ""))
	r.take(updateOf(1, ""), updateOf(2, ""))
	r.f.Start(t.Context())
	r.wantTotals(4, 0)
	r.wantWhole(1)
	r.wantWhole(2)
	if want := []string{"post " + numbered(1).String(), "post " + numbered(2).String()}; len(r.smith.requests) != 1 || !slices.Equal(r.smith.requests[0], want) {
		t.Errorf("sent %v, want one request with %v", r.smith.requests, want)
	}
	if got := string(r.smith.views[numbered(1)]["session_name"]); got != `"own-project"` {
		t.Errorf("a run that names no project arrived in %s, want weir's own", got)
	}
}

func TestNothingIsFoldedIntoWhatWasAttempted(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			r := newRunsRig(t, nil)
			r.smith.set("lost")
			r.f.Start(t.Context())
			r.take(createOf(1, ""))
			r.until("an attempt", func(queue.Totals) bool { return r.smith.count() > 0 })
			if restart {
				r.close(context.Background())
				r.reopen()
			}
			r.take(updateOf(1, ""))
			r.smith.set("")
			if restart {
				r.f.Start(t.Context())
			}
			r.wantTotals(2, 0)
			r.wantWhole(1)
		})
	}
}

func TestWhatAnOutageKeptFromLeavingIsFoldedAfterARestart(t *testing.T) {
	r := newRunsRig(t, nil)
	r.take(createOf(1, "")) // never attempted
	r.close(context.Background())
	r.reopen()
	r.take(updateOf(1, ""))
	r.f.Start(t.Context())
	r.wantTotals(2, 0)
	r.wantWhole(1)
	if len(r.smith.requests) != 1 || len(r.smith.requests[0]) != 1 {
		t.Errorf("sent %v, want one operation", r.smith.requests)
	}
}

func TestALostAnswersRetryIsTheSameRequest(t *testing.T) {
	r := newRunsRig(t, nil)
	r.take(createOf(1, ""), updateOf(1, ""), createOf(2, ""))
	r.smith.set("lost")
	r.f.Start(t.Context())
	r.until("an attempt", func(queue.Totals) bool { return r.smith.count() > 0 })
	r.take(updateOf(2, ""), createOf(3, ""))
	r.smith.set("")
	r.wantTotals(5, 0)
	r.wantWhole(1)
	r.wantWhole(2)
	var again int
	for _, names := range r.smith.requests {
		if slices.Equal(names, r.smith.requests[0]) {
			again++
		}
	}
	if again < 2 {
		t.Errorf("sent %v: the first request did not go again as it was", r.smith.requests)
	}
	if got := len(r.smith.requests); got > 4 {
		t.Errorf("%d requests: the 409 of a lost answer was searched for duplicates: %v", got, r.smith.requests)
	}
}

func TestAGenuineDuplicateIsListedAndTheRestDelivered(t *testing.T) {
	for _, partial := range []bool{false, true} {
		t.Run(fmt.Sprint("partial ", partial), func(t *testing.T) {
			r := newRunsRig(t, nil)
			r.f.Start(t.Context())
			r.take(createOf(1, ""))
			r.settled()
			r.smith.mu.Lock()
			r.smith.partial = partial
			r.smith.mu.Unlock()
			var ops []runs.Op
			for n := 1; n <= 8; n++ {
				ops = append(ops, createOf(n, `,"again":true`))
			}
			r.take(ops...)
			got := r.settled()
			if got.Delivered+got.Quarantined != 9 || r.caseReasons()["duplicate"] == 0 {
				t.Errorf("totals %+v, cases %v, want all accounted for and a duplicate listed", got, r.caseReasons())
			}
			if !partial && got.Quarantined != 1 {
				t.Errorf("%d are quarantined, want the duplicate alone", got.Quarantined)
			}
			for n := 2; n <= 8; n++ {
				if r.smith.views[numbered(n)] == nil {
					t.Errorf("run %d did not arrive", n)
				}
			}
		})
	}
}

func TestBadRunsAreIsolatedAndTheirUpdatesFollow(t *testing.T) {
	r := newRunsRig(t, nil)
	r.f.Start(t.Context())
	var ops []runs.Op
	for n := 1; n <= 60; n++ {
		members := ""
		if n == 7 || n == 40 {
			members = `,"x":"bad"`
		}
		ops = append(ops, createOf(n, members))
	}
	r.take(ops...)
	r.wantTotals(58, 2)
	if n := len(r.smith.requests); n > 40 {
		t.Errorf("%d requests to find 2 bad runs of 60", n)
	}
	r.close(context.Background())
	r.reopen()
	r.f.Start(t.Context())
	r.take(updateOf(7, ""), updateOf(8, ""))
	r.wantTotals(59, 3)
	if r.smith.taken["patch "+numbered(7).String()] > 0 {
		t.Error("the update of a run in quarantine was sent")
	}
}

func TestAnUpstreamThatRefusesEverythingIsNotAskedAboutEverything(t *testing.T) {
	r := newRunsRig(t, nil)
	var ops []runs.Op
	for n := 1; n <= 250; n++ {
		ops = append(ops, createOf(n, `,"x":"bad"`))
	}
	r.take(ops...)
	r.f.Start(t.Context())
	r.wantTotals(0, 250)
	// Three requests of at most a hundred, taken apart at the same time: each
	// until patience runs out, which single ones cost none of, then by samples.
	limit := 3 * (2*patienceFor(maxRequestOps) + maxSamples + 1)
	if n := len(r.smith.requests); n > limit {
		t.Errorf("%d requests about 250 runs, of which nothing was taken; the most is %d", n, limit)
	}
}

func TestABadUpdateDoesNotTakeItsCreateAlong(t *testing.T) {
	r := newRunsRig(t, nil)
	r.take(createOf(1, ""), updateOf(1, `,"x":"bad"`))
	r.f.Start(t.Context())
	r.wantTotals(1, 1)
}

func TestATooLargeAttachmentIsKeptAndItsRunDelivered(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.maxOps = 1
	r.take(createOf(1, ""), runs.Op{Kind: runs.Attachment, ID: numbered(1), Trace: numbered(1), Name: "big", ContentType: "image/png", Data: []byte("x")}, updateOf(1, ""))
	r.smith.bad = func(op *runs.Op) bool { return op.Kind == runs.Attachment }
	r.f.Start(t.Context())
	r.wantTotals(2, 1)
	r.wantWhole(1)
}

func TestDeniedRunsComeBackInOrder(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.set("denied")
	r.f.Start(t.Context())
	r.take(createOf(1, ""))
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 1 })
	r.take(updateOf(1, ""), createOf(2, ""))
	r.smith.set("")
	r.wantTotals(3, 0)
	r.wantWhole(1)
}

func TestACallWaitsForWhatItIsAbout(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.missing["/feedback"] = true
	call := runs.Op{Kind: runs.Call, Method: "POST", Path: "/feedback", ContentType: "application/json", Body: []byte(`{"key":"k"}`)}
	r.f.Start(t.Context())
	r.take(call)
	r.until("it to step aside", func(tt queue.Totals) bool { return tt.Quarantined == 1 })
	r.take(createOf(1, ""))
	r.until("the run to pass", func(tt queue.Totals) bool { return tt.Delivered >= 1 })
	r.smith.mu.Lock()
	delete(r.smith.missing, "/feedback")
	r.smith.mu.Unlock()
	r.f.Wake()
	r.until("the call to follow", func(tt queue.Totals) bool { return tt.Delivered == 2 })
}

func TestTheWindowLetsUpdatesCatchUp(t *testing.T) {
	now := time.Now().Add(time.Minute) // ahead of the queue's, or frames would be from the future
	var mu sync.Mutex
	r := newRunsRig(t, func(c *ForwardConfig) {
		c.Coalesce = time.Hour
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	r.f.Start(t.Context())
	r.take(createOf(1, ""))
	r.take(updateOf(1, ""), createOf(2, ""))
	r.f.poke()
	if n := r.smith.count(); n > 0 {
		t.Fatalf("%d requests within the window", n)
	}
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	r.wantTotals(3, 0)
	r.wantWhole(1)
	for _, names := range r.smith.requests {
		for _, n := range names {
			if strings.HasPrefix(n, "patch") {
				t.Errorf("sent %v: the update did not catch up", r.smith.requests)
			}
		}
	}
}

func TestRoundsConserveAndKeepOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRunsRig(t, nil)
		defer func() { r.close(context.Background()); r.rig.q = nil }()
		r.smith.partial = rapid.Bool().Draw(rt, "partial")
		r.smith.maxOps = rapid.SampledFrom([]int{0, 0, 3, 20}).Draw(rt, "maxOps")
		rolls := rapid.SliceOfN(rapid.IntRange(0, 1<<20), 64, 64).Draw(rt, "rolls")
		roll := 0
		r.smith.rand = func(n int) int { roll++; return rolls[roll%len(rolls)] % n }
		r.f.Start(context.Background())
		var open []int
		bad, next, items := map[int]bool{}, 0, int64(0)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"create", "create", "update", "update", "mode", "restart", "wake"}).Draw(rt, "step") {
			case "create":
				var ops []runs.Op
				for range rapid.IntRange(1, 12).Draw(rt, "runs") {
					next++
					members := ""
					if rapid.IntRange(0, 9).Draw(rt, "bad") == 0 {
						members, bad[next] = `,"x":"bad"`, true
					}
					ops = append(ops, createOf(next, members))
					if rapid.Bool().Draw(rt, "at once") {
						ops = append(ops, updateOf(next, ""))
					} else {
						open = append(open, next)
					}
				}
				items += int64(len(ops))
				r.take(ops...)
			case "update":
				n := min(len(open), rapid.IntRange(1, 8).Draw(rt, "updates"))
				var ops []runs.Op
				for _, id := range open[:n] {
					ops = append(ops, updateOf(id, ""))
				}
				open = open[n:]
				if len(ops) > 0 {
					items += int64(len(ops))
					r.take(ops...)
				}
			case "mode":
				r.smith.set(rapid.SampledFrom([]string{"", "down", "lost", "denied", "flaky"}).Draw(rt, "mode"))
				r.f.Wake()
			case "restart":
				r.close(context.Background())
				r.reopen()
				r.f.Start(context.Background())
			case "wake":
				r.f.Wake()
			}
		}
		r.smith.set("")
		got := r.healed()
		if got.Accepted != items || got.Dropped != 0 {
			rt.Fatalf("accepted %d, dropped %d, want %d and none", got.Accepted, got.Dropped, items)
		}
		if len(r.smith.early) > 0 {
			rt.Fatalf("updates came before their creates: %v", r.smith.early)
		}
		for n := 1; n <= next; n++ {
			v := r.smith.views[numbered(n)]
			switch {
			case bad[n] && v["c"] != nil:
				rt.Fatalf("run %d is bad and arrived", n)
			case !bad[n] && string(v["c"]) != fmt.Sprint(n):
				rt.Fatalf("run %d did not arrive: %s", n, mustJSON(v))
			case !bad[n] && !slices.Contains(open, n) && string(v["u"]) != fmt.Sprint(n):
				rt.Fatalf("the update of run %d did not arrive: %s", n, mustJSON(v))
			}
		}
	})
}
