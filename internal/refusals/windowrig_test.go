package refusals

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
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
	maps.Copy(body, members)
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
