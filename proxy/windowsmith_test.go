package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/proxy"
	"weir/proxy/runs"
	"weir/proxy/upstream"
	"weir/queue"
	"weir/quota"
)

const windowKey = "lsv2_pt_windowwindowwindow_01"

// windowRig is a pipeline on a real queue and ledger before the look-alike, with
// a clock for both that can be moved.
type windowRig struct {
	t      *testing.T
	dir    string
	moved  atomic.Int64 // of the clock
	smith  *smith.Server
	addr   string
	server *http.Server // nil: the machine is offline
	log    bytes.Buffer

	window proxy.StartWindow
	rules  quota.Rules

	q     *queue.Queue
	guard *quota.Guard
	up    *upstream.Client
	a     *proxy.Acceptor
	f     *proxy.Forwarder
	taken int64
}

func newWindowRig(t *testing.T, policy func(*proxy.StartWindow)) *windowRig {
	t.Helper()
	r := &windowRig{t: t, dir: t.TempDir()}
	r.window = proxy.StartWindow{Enforced: true, Dir: filepath.Join(r.dir, "restamp")}
	if policy != nil {
		policy(&r.window)
	}
	r.smith = smith.New(smith.Config{Now: r.now, Switches: smith.Switches{RunsWindow: smith.Window400, ExtraUpdate: smith.ExtraReplace}})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	t.Cleanup(func() {
		r.close()
		r.offline()
		if err := r.smith.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *windowRig) now() time.Time { return time.Now().Add(time.Duration(r.moved.Load())) }

// later moves the clock.
func (r *windowRig) later(d time.Duration) { r.moved.Add(int64(d)) }

func (r *windowRig) no(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *windowRig) online() {
	r.t.Helper()
	l, err := new(net.ListenConfig).Listen(r.t.Context(), "tcp", r.addr)
	r.no(err)
	r.server = &http.Server{Handler: r.smith, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.Serve(l) }(r.server) // offline ends it
	if r.f != nil {
		r.f.Wake()
	}
}

func (r *windowRig) offline() {
	if r.server != nil {
		_ = r.server.Close()
		r.server = nil
	}
}

func (r *windowRig) open() {
	r.t.Helper()
	var err error
	r.q, err = queue.Open(queue.Config{Dir: r.dir})
	r.no(err)
	vault, _, err := proxy.OpenVault(r.q, filepath.Join(r.dir, "credential.key"))
	r.no(err)
	ledger, err := quota.OpenDisk(filepath.Join(r.dir, "quota"), nil)
	r.no(err)
	r.guard, err = quota.Open(ledger, quota.Config{Now: r.now, Rules: r.rules})
	r.no(err)
	r.up, err = upstream.New(upstream.Config{BaseURL: "http://" + r.addr})
	r.no(err)
	limits, err := proxy.NewQuota(proxy.QuotaConfig{
		Guard: r.guard, Queue: r.q, Vault: vault, Destination: proxy.Destination{UpstreamURL: r.up.BaseURL(), APIKey: windowKey, Project: "edge"},
		Dividers: map[proxy.Protocol]proxy.Divider{proxy.ProtocolRuns: proxy.RunsDivider{}},
	})
	r.no(err)
	r.a = proxy.NewAcceptor(r.q, vault, limits)
	r.f = proxy.NewForwarder(r.q, r.up, vault, proxy.ForwardConfig{
		Linger: time.Millisecond, Quota: limits, Asker: r.up, StartWindow: r.window, Now: r.now,
	})
	r.f.Start(r.t.Context())
}

func (r *windowRig) close() {
	if r.q == nil {
		return
	}
	r.f.Close(context.Background())
	for _, err := range []error{r.up.Close(), r.guard.Close(), r.q.Close()} {
		if err != nil {
			r.t.Error(err)
		}
	}
	r.q = nil
}

func (r *windowRig) restart() {
	r.t.Helper()
	r.close()
	r.open()
}

func (r *windowRig) take(ops ...runs.Op) {
	r.t.Helper()
	e := &proxy.Export{Protocol: proxy.ProtocolRuns, Items: len(ops)}
	for i := range ops {
		e.Payload = runs.Append(e.Payload, &ops[i])
	}
	e.TraceIDs, e.Marks = proxy.TracesOf(ops)
	_, err := r.a.Accept(r.t.Context(), e)
	r.no(err)
	r.taken += int64(len(ops))
}

// until waits for a state of the queue, without patience for pauses.
func (r *windowRig) until(what string, ok func(queue.Totals) bool) queue.Totals {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		t := r.q.Stats().Totals
		if t.Accepted != r.taken || t.Accepted != t.Delivered+t.Pending+t.Held+t.Quarantined+t.Dropped {
			r.t.Fatalf("%d were taken, and the totals do not add up to that: %+v", r.taken, t)
		}
		if ok(t) {
			return t
		}
		r.f.Wake()
		select {
		case <-look.C:
		case <-ctx.Done():
			r.t.Fatalf("waited in vain for %s: %+v, cases %+v, lanes %+v, answers %v", what, t, r.f.Status(r.a).Cases, r.f.Status(r.a).Lanes, r.smith.Stats().Answers)
		}
	}
}

// settled waits until nothing is pending and compares.
func (r *windowRig) settled(delivered, quarantined int64) {
	r.t.Helper()
	t := r.until("all to be settled", func(t queue.Totals) bool { return t.Pending == 0 })
	if t.Delivered != delivered || t.Quarantined != quarantined || t.Dropped != 0 {
		r.t.Errorf("%d delivered and %d quarantined, want %d and %d; cases %+v, answers %v",
			t.Delivered, t.Quarantined, delivered, quarantined, r.f.Status(r.a).Cases, r.smith.Stats().Answers)
	}
}

// noneRefused checks that nothing was refused, and so nothing sent outside the
// window.
func (r *windowRig) noneRefused() {
	r.t.Helper()
	for status, n := range r.smith.Stats().Answers {
		if status >= 400 && n > 0 {
			r.t.Errorf("%d requests were answered %d, want none", n, status)
		}
	}
}

// theCase is the only case with data, which is of the window.
func (r *windowRig) theCase() proxy.CaseStatus {
	r.t.Helper()
	all := r.f.Status(r.a).Cases
	if len(all) != 1 || all[0].Refusal.Reason != "start_time_window" || all[0].Refusal.Heals {
		r.t.Fatalf("cases are %+v, want one of the window", all)
	}
	return all[0]
}

// node is a run of a trace in a test: a root, and a child of it.
type node struct {
	trace, n int
	start    time.Time
	takes    time.Duration
}

func idOf(trace, n int) (id runs.ID) {
	id[0], id[1], id[13], id[14], id[15] = 2, byte(n), byte(trace>>16), byte(trace>>8), byte(trace)
	return id
}

func (n node) order() string {
	at := func(t time.Time) string {
		return strings.ReplaceAll(t.UTC().Format("20060102T150405.000000"), ".", "") + "Z"
	}
	if n.n == 0 {
		return at(n.start) + idOf(n.trace, 0).String()
	}
	return at(n.start.Add(-time.Second)) + idOf(n.trace, 0).String() + "." + at(n.start) + idOf(n.trace, n.n).String()
}

func (n node) op(kind runs.Kind, members map[string]any) runs.Op {
	body := map[string]any{
		"id": idOf(n.trace, n.n).String(), "trace_id": idOf(n.trace, 0).String(), "dotted_order": n.order(),
		"start_time": n.start.UTC().Format("2006-01-02T15:04:05.000000+00:00"),
	}
	if n.n > 0 {
		body["parent_run_id"] = idOf(n.trace, 0).String()
	}
	for k, v := range members {
		body[k] = v
	}
	return runs.Op{Kind: kind, ID: idOf(n.trace, n.n), Trace: idOf(n.trace, 0), Body: toJSON(body)}
}

func (n node) create() runs.Op {
	op := n.op(runs.Create, map[string]any{"name": "work", "run_type": "chain", "session_name": "edge"})
	op.Fields[runs.Inputs] = toJSON(map[string]any{"q": n.trace, "start_time": n.start})
	op.Fields[runs.Extra] = []byte(`{"metadata":{"app":"edge"}}`)
	return op
}

func (n node) update() runs.Op {
	op := n.op(runs.Update, map[string]any{"end_time": n.start.Add(n.takes).UnixMilli()})
	op.Fields[runs.Outputs] = toJSON(map[string]any{"a": n.trace})
	return op
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// pair is a root and its child.
func pair(trace int, start time.Time) (root, child node) {
	start = start.Truncate(time.Millisecond)
	return node{trace: trace, start: start, takes: 3 * time.Second}, node{trace: trace, n: 1, start: start.Add(time.Second), takes: time.Second}
}

// arrivedAs reads a run as the look-alike has it.
func (r *windowRig) arrivedAs(n node) (start, end time.Time, run smith.Run) {
	r.t.Helper()
	run, ok := r.smith.Run(smith.RunID(idOf(n.trace, n.n)))
	if !ok {
		r.t.Fatalf("run %d of trace %d did not arrive", n.n, n.trace)
	}
	start, err := time.Parse(time.RFC3339Nano, run.Text("start_time"))
	r.no(err)
	if raw := run.Get("end_time"); len(raw) > 0 && string(raw) != "null" {
		var ms int64
		r.no(json.Unmarshal(raw, &ms))
		end = time.UnixMilli(ms)
	}
	return start, end, run
}

// wantNow checks that a time is about now.
func (r *windowRig) wantNow(at time.Time) {
	r.t.Helper()
	if r.now().Sub(at).Abs() > time.Hour {
		r.t.Errorf("moved to %s, now it is %s", at, r.now())
	}
}

// wantMoved checks a trace of a root and a child: both moved by the same, the
// tree and the durations kept, and what was, noted.
func (r *windowRig) wantMoved(root, child node) (by time.Duration) {
	r.t.Helper()
	start, _, rootRun := r.arrivedAs(root)
	by = start.Sub(root.start)
	for _, n := range []node{root, child} {
		start, end, run := r.arrivedAs(n)
		if got := start.Sub(n.start); got != by {
			r.t.Errorf("run %d of trace %d was moved by %s, its root by %s", n.n, n.trace, got, by)
		}
		if got := end.Sub(start); got != n.takes {
			r.t.Errorf("run %d of trace %d takes %s, want %s", n.n, n.trace, got, n.takes)
		}
		if n.n > 0 && !strings.HasPrefix(run.DottedOrder, rootRun.DottedOrder+".") {
			r.t.Errorf("run %d of trace %d is at %s, its root at %s", n.n, n.trace, run.DottedOrder, rootRun.DottedOrder)
		}
		moved := n
		moved.start = n.start.Add(by)
		if run.DottedOrder != moved.order() {
			r.t.Errorf("run %d of trace %d is at %s, want %s", n.n, n.trace, run.DottedOrder, moved.order())
		}
		if want := string(toJSON(map[string]any{"q": n.trace, "start_time": n.start})); string(run.Get("inputs")) != want {
			r.t.Errorf("inputs arrived as %s, want %s", run.Get("inputs"), want)
		}
		var extra struct {
			Metadata map[string]any `json:"metadata"`
		}
		r.no(json.Unmarshal(run.Get("extra"), &extra))
		want := map[string]any{
			"app": "edge", runs.MetadataOriginalStart: n.start.UTC().Format(time.RFC3339Nano), runs.MetadataRestampedBy: by.Seconds(),
		}
		if by != 0 && fmt.Sprint(extra.Metadata) != fmt.Sprint(want) {
			r.t.Errorf("metadata arrived as %v, want %v", extra.Metadata, want)
		}
	}
	return by
}

func TestAnEdgeMachineThatWasOfflineForTwoDaysDeliversAll(t *testing.T) {
	for _, tc := range []struct {
		name    string
		restart bool
		days    int
	}{{"and stayed up", false, 2}, {"and was restarted meanwhile", true, 2}, {"for five days", true, 5}} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			r.online()
			warm, warmChild := pair(1000, r.now())
			r.take(warm.create(), warmChild.create(), warmChild.update(), warm.update())
			r.settled(4, 0)
			r.offline()
			const traces = 200
			var nodes [traces][2]node
			for i := range nodes {
				root, child := pair(i, r.now())
				nodes[i] = [2]node{root, child}
				r.take(root.create(), child.create())
				r.take(child.update(), root.update())
				r.later(time.Second)
			}
			for range tc.days {
				r.until("an attempt in vain", func(queue.Totals) bool { return r.f.Status(r.a).UpstreamWait != nil })
				r.later(24 * time.Hour)
				if tc.restart {
					r.restart()
				}
				r.f.Wake()
			}
			r.online()
			r.settled(4*traces+4, 0)
			r.noneRefused()
			for _, n := range nodes {
				if by := r.wantMoved(n[0], n[1]); by < 24*time.Hour {
					t.Errorf("trace %d was moved by %s only", n[0].trace, by)
				} else {
					r.wantNow(n[0].start.Add(by))
				}
			}
			if by := r.wantMoved(warm, warmChild); by != 0 {
				t.Errorf("what was sent in time was moved by %s", by)
			}
			if got := r.f.Status(r.a).Restamped; got != traces {
				t.Errorf("status counts %d moved traces, want %d", got, traces)
			}
		})
	}
}

func TestWhatComesLateOfAMovedTraceIsMovedAlike(t *testing.T) {
	r := newWindowRig(t, nil)
	root, child := pair(1, r.now())
	r.take(root.create(), child.create())
	r.later(48 * time.Hour)
	r.online()
	r.settled(2, 0)
	start, _, _ := r.arrivedAs(child)
	r.wantNow(start)
	r.restart()
	r.later(3 * time.Hour)
	feedback := runs.Op{Kind: runs.Feedback, ID: idOf(1, 9), Trace: idOf(1, 0), Body: toJSON(map[string]any{
		"id": idOf(1, 9).String(), "trace_id": idOf(1, 0).String(), "run_id": idOf(1, 0).String(), "key": "k", "start_time": root.start.UTC().Format(time.RFC3339Nano),
	})}
	r.take(child.update(), root.update(), feedback)
	r.settled(5, 0)
	r.noneRefused()
	by := r.wantMoved(root, child)
	if got := r.smith.Feedbacks()[0].Members.Text("start_time"); got != root.start.Add(by).UTC().Format(time.RFC3339Nano) {
		t.Errorf("the feedback's run started at %s, want %s later than %s", got, by, root.start)
	}
	if got := r.f.Status(r.a).Restamped; got != 0 {
		t.Errorf("status counts %d moved traces after the restart, want none", got)
	}
}

func TestATraceThatWasSentInPartIsNotMoved(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault *smith.Fault // of the first request
		open  int64        // pending after it
	}{
		{"and arrived", nil, 0},
		{"and may have arrived", &smith.Fault{Stage: smith.StageStored, Reset: true}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			root, child := pair(1, r.now())
			if tc.fault != nil {
				r.smith.Script(tc.fault.Times(1))
			}
			r.online()
			r.take(root.create())
			if tc.open == 0 {
				r.settled(1, 0)
			} else {
				r.until("the first attempt", func(queue.Totals) bool { return r.smith.Stats().Requests > 0 })
			}
			r.offline()
			r.take(child.create(), child.update(), root.update())
			r.restart()
			r.later(30 * time.Hour)
			fresh, freshChild := pair(2, r.now())
			r.take(fresh.create(), freshChild.create(), freshChild.update(), fresh.update())
			r.online()
			if tc.open == 0 {
				r.settled(5, 3)
			} else {
				// The lost one lies outside, too: whether it arrived is open.
				r.settled(4, 4)
			}
			r.noneRefused()
			r.wantMoved(fresh, freshChild)
			c := r.theCase()
			for _, want := range []string{"run 02", ", 30 h ago", "more than 24 h from now", "part of its trace was sent"} {
				if !strings.Contains(c.Refusal.Exchange.Error, want) {
					t.Errorf("the case says %q, want it to name %q", c.Refusal.Exchange.Error, want)
				}
			}
		})
	}
}

// copyOf is a rig on what a kill at this moment leaves of another's disk.
func (r *windowRig) copyOf() *windowRig {
	r.t.Helper()
	c := newWindowRig(r.t, nil)
	c.close()
	r.no(os.RemoveAll(c.dir))
	r.no(os.CopyFS(c.dir, os.DirFS(r.dir)))
	c.taken, c.addr = r.taken, r.addr // the lane's upstream is of no account here, its address is
	c.moved.Store(r.moved.Load())
	return c
}

func TestAfterAKillWhatWasUnderWayMayHaveArrived(t *testing.T) {
	for _, tc := range []struct {
		name      string
		hang      bool
		delivered int64
	}{
		{"while a request was under way", true, 0},
		{"while the lane waited", false, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			root, child := pair(1, r.now())
			r.smith.SetStanding(&smith.Fault{Hang: tc.hang, Status: 503})
			r.online()
			r.take(root.create(), child.create())
			r.until("a request", func(queue.Totals) bool { return r.smith.Stats().Requests > 0 })
			if !tc.hang {
				r.until("the wait", func(queue.Totals) bool { return r.f.Status(r.a).UpstreamWait != nil })
				r.offline()
			}
			killed := r.copyOf()
			r.smith.ClearFaults()
			r.close()
			r.offline()
			killed.later(30 * time.Hour)
			killed.open()
			killed.online()
			killed.settled(tc.delivered, 2-tc.delivered)
			killed.noneRefused()
			if tc.delivered == 0 {
				killed.theCase()
			}
		})
	}
}

func TestWhatWasHeldForLongIsMovedWhenItIsReleased(t *testing.T) {
	r := newWindowRig(t, nil)
	r.close()
	r.rules = quota.Rules{Traces: 1, Policy: quota.PolicyHold}
	r.open()
	r.online()
	first, firstChild := pair(1, r.now())
	r.take(first.create(), firstChild.create(), firstChild.update(), first.update())
	r.settled(4, 0)
	held, heldChild := pair(2, r.now())
	r.take(held.create(), heldChild.create(), heldChild.update(), held.update())
	r.until("the hold", func(t queue.Totals) bool { return t.Held == 4 })
	r.later(48 * time.Hour)
	r.no(r.guard.SetRules(quota.Rules{Traces: 10, Policy: quota.PolicyHold}))
	r.until("the release", func(t queue.Totals) bool { return t.Held == 0 && t.Pending == 0 })
	r.settled(8, 0)
	r.noneRefused()
	r.wantNow(held.start.Add(r.wantMoved(held, heldChild)))
}

func TestStaleRunsAreNeverMixedWithFreshOnes(t *testing.T) {
	r := newWindowRig(t, func(w *proxy.StartWindow) { w.Quarantine = true })
	r.online()
	old, oldChild := pair(1, r.now().Add(-25*time.Hour))
	fresh, freshChild := pair(2, r.now())
	soon, soonChild := pair(3, r.now().Add(25*time.Hour))
	margin, marginChild := pair(4, r.now().Add(-23*time.Hour-55*time.Minute))
	r.take(
		old.create(), fresh.create(), oldChild.create(), freshChild.create(), soon.create(), margin.create(),
		freshChild.update(), oldChild.update(), fresh.update(), old.update(), soonChild.create(), marginChild.create(),
	)
	r.settled(4, 8)
	r.noneRefused()
	r.wantMoved(fresh, freshChild)
	if c := r.theCase(); !strings.Contains(c.Refusal.Exchange.Error, "start_time_window_policy is quarantine") {
		t.Errorf("the case says %q", c.Refusal.Exchange.Error)
	}
	r.take(old.op(runs.Update, map[string]any{"start_time": nil, "tags": []string{"late"}}))
	r.settled(4, 9) // it follows its create
	// A person finds out that this LangSmith takes them.
	r.smith.SetSwitches(smith.Switches{})
	r.window.Enforced = false
	r.f.SetStartWindow(r.window)
	r.no(r.q.Release(r.theCase().Place))
	r.settled(13, 0)
	if by := r.wantMoved(fresh, freshChild); by != 0 {
		t.Error("what was fresh was moved")
	}
	if start, _, _ := r.arrivedAs(old); !start.Equal(old.start) {
		t.Errorf("what was kept arrived with start %s, want the original %s", start, old.start)
	}
}

func TestWhatIsFromTheFutureIsMovedToo(t *testing.T) {
	r := newWindowRig(t, nil)
	r.online()
	root, child := pair(1, r.now().Add(50*time.Hour))
	r.take(root.create(), child.create(), child.update(), root.update())
	r.settled(4, 0)
	r.noneRefused()
	r.wantNow(root.start.Add(r.wantMoved(root, child)))
}

func TestWhatCannotBeMovedIsKeptAndSaysWhy(t *testing.T) {
	long := func(r *windowRig) []runs.Op {
		root, child := pair(1, r.now().Add(-72*time.Hour))
		child.start = r.now()
		return []runs.Op{root.create(), child.create()}
	}
	event := func(r *windowRig) []runs.Op {
		root, child := pair(1, r.now().Add(-72*time.Hour))
		op := child.create()
		op.Fields[runs.Events] = []byte(`[{"name":"e","time":"noon"}]`)
		return []runs.Op{root.create(), op}
	}
	rootless := func(r *windowRig) []runs.Op {
		_, child := pair(1, r.now().Add(-72*time.Hour))
		return []runs.Op{child.create(), child.update()}
	}
	future := func(r *windowRig) []runs.Op {
		_, child := pair(1, r.now().Add(72*time.Hour))
		return []runs.Op{child.create(), child.update()}
	}
	for _, tc := range []struct {
		name, why string
		ops       func(*windowRig) []runs.Op
	}{
		{"a trace longer than the window", "lie further apart than the window is long", long},
		{"a time that cannot be read", "events.time", event},
		{"a trace that was begun elsewhere", "root run is not there", rootless},
		{"a trace from the future", "is the clock right of the machine that it comes from?", future},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			ops := tc.ops(r)
			fresh, freshChild := pair(2, r.now())
			r.take(slices.Concat(ops, []runs.Op{fresh.create(), freshChild.create(), freshChild.update(), fresh.update()})...)
			r.online()
			r.settled(4, int64(len(ops)))
			r.noneRefused()
			r.wantMoved(fresh, freshChild)
			if c := r.theCase(); !strings.Contains(c.Refusal.Exchange.Error, tc.why) {
				t.Errorf("the case says %q, want it to say %q", c.Refusal.Exchange.Error, tc.why)
			}
		})
	}
}

func TestAWindowThatWeirDoesNotKnowOfIsFoundOut(t *testing.T) {
	for _, window := range []smith.Window{smith.Window400, smith.Window422} {
		t.Run(window.String(), func(t *testing.T) {
			r := newWindowRig(t, func(w *proxy.StartWindow) { w.Enforced = false })
			r.smith.SetSwitches(smith.Switches{RunsWindow: window})
			old, oldChild := pair(1, r.now().Add(-25*time.Hour))
			fresh, freshChild := pair(2, r.now())
			r.take(fresh.create(), freshChild.create(), old.create(), freshChild.update(), oldChild.create(), oldChild.update(), fresh.update())
			r.online()
			r.settled(4, 3)
			r.wantMoved(fresh, freshChild)
			if c := r.theCase(); !strings.Contains(c.Refusal.Exchange.Body, "24-hour window") {
				t.Errorf("the case has %+v, want the upstream's own words", c.Refusal)
			}
		})
	}
}

func TestWhereThereIsNoWindowOldRunsGoAsTheyAre(t *testing.T) {
	r := newWindowRig(t, func(w *proxy.StartWindow) { w.Enforced = false })
	r.smith.SetSwitches(smith.Switches{})
	r.online()
	old, oldChild := pair(1, r.now().Add(-999*time.Hour))
	r.take(old.create(), oldChild.create(), oldChild.update(), old.update())
	r.settled(4, 0)
	if start, _, _ := r.arrivedAs(old); !start.Equal(old.start) {
		t.Errorf("it arrived with start %s, want %s", start, old.start)
	}
}
