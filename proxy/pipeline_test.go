package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/queue"
	"weir/quota"
)

// The tests' protocol: a payload is lines, an item is a line. Lines
// concatenate, as OTLP messages do.
const protocolLines Protocol = 200

type lineDivider struct{}

// Split implements Divider: a line's trace is what it begins with.
func (lineDivider) Split(payload []byte, n int, part func(TraceID) int) ([]Piece, error) {
	pieces := make([]Piece, n)
	for line := range strings.Lines(string(payload)) {
		id := lineTrace(line)
		p := &pieces[part(id)]
		p.Payload = append(p.Payload, line...)
		p.Items++
		if !slices.Contains(p.Traces, id) {
			p.Traces = append(p.Traces, id)
		}
	}
	return pieces, nil
}

// lineTrace is the trace of a line: what stands before its first colon.
func lineTrace(line string) (id TraceID) {
	name, _, _ := strings.Cut(line, ":")
	copy(id[:], strings.TrimSpace(name))
	return id
}

func (lineDivider) Slice(payload []byte, from, to int) (Piece, error) {
	lines := bytes.SplitAfter(bytes.TrimSuffix(payload, []byte("\n")), []byte("\n"))
	if to > len(lines) {
		return Piece{}, fmt.Errorf("slice [%d,%d) of %d lines", from, to, len(lines))
	}
	out := bytes.Join(lines[from:to], nil)
	if !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, '\n')
	}
	return Piece{Payload: out, Items: to - from, Traces: []TraceID{{1}}}, nil
}

// fakeUpstream answers by a function of the request's lines and remembers what
// it took.
type fakeUpstream struct {
	mu       sync.Mutex
	answer   func(r *Request, lines []string) Outcome
	taken    map[string]int
	requests int
	sizes    []int
	keys     map[string]string // line to the key it came with
	arrived  chan struct{}     // cap 1
}

func newFakeUpstream() *fakeUpstream {
	return &fakeUpstream{taken: map[string]int{}, keys: map[string]string{}, arrived: make(chan struct{}, 1)}
}

func delivered(*Request, []string) Outcome { return Outcome{Kind: Delivered, Reason: "ok"} }

func refused(class RefusalClass, status int) Outcome {
	return Outcome{
		Kind: Refused, Reason: fmt.Sprintf("http_%d", status), Refusal: class, Scope: ScopeCredential,
		Exchange: Exchange{Status: status, Body: `{"error":"Forbidden"}`},
	}
}

func (u *fakeUpstream) Send(ctx context.Context, r *Request) Outcome {
	var lines []string
	for _, p := range r.Parts {
		raw, err := plain(p)
		if err != nil {
			panic(err)
		}
		lines = append(lines, strings.Fields(string(raw))...)
	}
	u.mu.Lock()
	answer := u.answer
	u.mu.Unlock()
	if answer == nil {
		answer = delivered
	}
	out := answer(r, lines)
	if ctx.Err() != nil {
		out = Outcome{Kind: Interrupted, Reason: "stopping"}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests++
	u.sizes = append(u.sizes, len(lines))
	if out.Kind == Delivered {
		for _, l := range lines {
			u.taken[l]++
			u.keys[l] = r.APIKey + "|" + r.Workspace + "|" + r.Project
		}
	}
	select {
	case u.arrived <- struct{}{}:
	default:
	}
	return out
}

func (u *fakeUpstream) set(answer func(*Request, []string) Outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func (u *fakeUpstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests
}

// rig is a pipeline on a real queue.
type rig struct {
	t    *testing.T
	dir  string
	up   *fakeUpstream
	q    *queue.Queue
	a    *Acceptor
	f    *Forwarder
	dest Destination
	cfg  ForwardConfig
	disk queue.Config // Dir is filled in

	dividers map[Protocol]Divider
	guard    *quota.Guard // nil: no limit
}

func newRig(t *testing.T, up *fakeUpstream) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), up: up,
		dest: Destination{UpstreamURL: "https://upstream.test", APIKey: "lsv2_pt_own_key_0001", Workspace: "ws-own", Project: "own-project"},
		cfg: ForwardConfig{
			Linger: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		},
		dividers: map[Protocol]Divider{protocolLines: lineDivider{}},
	}
	r.open()
	t.Cleanup(func() { r.close(context.Background()) })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	disk := r.disk
	disk.Dir = r.dir
	q, err := queue.Open(disk)
	if err != nil {
		r.t.Fatal(err)
	}
	v, unreadable, err := OpenVault(q, filepath.Join(r.dir, "credential.key"))
	if err != nil || len(unreadable) > 0 {
		r.t.Fatal(err, unreadable)
	}
	r.q = q
	r.limit(v)
	r.a = NewAcceptor(q, v, r.cfg.Quota)
	r.f = NewForwarder(q, r.up, v, r.cfg)
}

// limit sets the pipeline's quota up.
func (r *rig) limit(v *Vault) {
	r.t.Helper()
	var err error
	r.cfg.Quota, err = NewQuota(QuotaConfig{Guard: r.guard, Queue: r.q, Vault: v, Destination: r.dest, Dividers: r.dividers})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) close(ctx context.Context) {
	if r.q == nil {
		return
	}
	if r.f.stop != nil {
		r.f.Close(ctx)
	}
	if err := r.q.Close(); err != nil {
		r.t.Error(err)
	}
	r.q = nil
}

func (r *rig) accept(c Caller, lines ...string) {
	r.t.Helper()
	e := &Export{Protocol: protocolLines, Caller: c, Payload: []byte(strings.Join(lines, "\n") + "\n"), Items: len(lines), TraceIDs: []TraceID{{1}}}
	if _, err := r.a.Accept(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
}

// until waits until cond holds, looking whenever something may have changed.
func (r *rig) until(what string, cond func(queue.Totals) bool) {
	r.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		if t := r.q.Stats().Totals; cond(t) {
			r.conserved(t)
			return
		}
		select {
		case <-r.up.arrived:
		case <-look.C:
		case <-deadline.C:
			r.t.Fatalf("waited in vain for %s: %+v, %d requests", what, r.q.Stats().Totals, r.up.count())
		}
	}
}

func (r *rig) conserved(t queue.Totals) {
	r.t.Helper()
	if t.Accepted != t.Delivered+t.Pending+t.Held+t.Quarantined+t.Dropped {
		r.t.Errorf("totals do not add up: %+v", t)
	}
}

func (r *rig) allDelivered(want int) {
	r.t.Helper()
	r.until("everything to be delivered", func(t queue.Totals) bool { return t.Delivered == int64(want) && t.Pending == 0 })
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	if len(r.up.taken) != want {
		r.t.Errorf("upstream took %d different items, want %d", len(r.up.taken), want)
	}
}

func lines(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return out
}

func TestWhatIsAcceptedIsDelivered(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	r.f.Start(r.t.Context())
	for i := range 50 {
		r.accept(Caller{}, lines(fmt.Sprint("export", i), 10)...)
	}
	r.allDelivered(500)
}

func TestDestinationIsResolvedWhenSending(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	r.accept(Caller{}, "plain")
	r.accept(Caller{Project: "theirs"}, "with-project")
	r.accept(Caller{APIKey: "lsv2_pt_caller_key_9", Project: "theirs"}, "with-key")
	r.accept(Caller{APIKey: "lsv2_pt_caller_key_9", Workspace: "their-ws"}, "with-key-and-workspace")
	r.f.SetDestination(Destination{APIKey: "lsv2_pt_new_key", Workspace: "new-ws", Project: "new-project"})
	r.f.Start(r.t.Context())
	r.allDelivered(4)
	want := map[string]string{
		"plain":                  "lsv2_pt_new_key|new-ws|new-project",
		"with-project":           "lsv2_pt_new_key|new-ws|theirs",
		"with-key":               "lsv2_pt_caller_key_9||theirs",
		"with-key-and-workspace": "lsv2_pt_caller_key_9|their-ws|new-project",
	}
	if !maps.Equal(r.up.keys, want) {
		t.Errorf("sent with %v, want %v", r.up.keys, want)
	}
}

func TestDataThatNamesItsProjectGoesWithoutDefaultProject(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	e := &Export{Protocol: protocolLines, Payload: []byte("x\n"), Items: 1, NamesProject: true}
	if _, err := r.a.Accept(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	r.f.Start(r.t.Context())
	r.allDelivered(1)
	if got := r.up.keys["x"]; got != "lsv2_pt_own_key_0001|ws-own|" {
		t.Errorf("sent with %q", got)
	}
}

func TestRetryWaitsAndDelivers(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream, Exchange: Exchange{Status: 503}}
	})
	r.f.Start(r.t.Context())
	r.accept(Caller{}, "a", "b")
	r.until("a first attempt", func(queue.Totals) bool { return up.count() > 0 })
	r.until("the wait to show", func(queue.Totals) bool { return r.f.Status(r.a).UpstreamWait != nil })
	s := r.f.Status(r.a)
	if s.UpstreamWait.Reason != "http_503" || s.Lanes[0].State != LaneWaiting {
		t.Errorf("status shows %+v and lane state %d, want a wait for http_503", s.UpstreamWait, s.Lanes[0].State)
	}
	up.set(nil)
	r.f.Wake()
	r.allDelivered(2)
	if w := r.f.Status(r.a).UpstreamWait; w != nil {
		t.Errorf("still waiting after a success: %+v", w)
	}
}

func TestServersWaitSurvivesRestart(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_429", Scope: ScopeCredential, RetryAfter: time.Hour, Exchange: Exchange{Status: 429}}
	})
	r.f.Start(r.t.Context())
	r.accept(Caller{}, "a")
	r.until("the wait to be noted", func(queue.Totals) bool { return len(r.q.Notes(waitNotes)) == 1 })
	r.close(t.Context())
	up.set(nil)
	before := up.count()
	r.open()
	r.f.Start(r.t.Context())
	next := r.f.Status(r.a).Lanes[0].NextAttempt
	if left := time.Until(next); left < 50*time.Minute || left > 70*time.Minute {
		t.Errorf("next attempt in %s after a restart, want about an hour", left)
	}
	r.accept(Caller{APIKey: "lsv2_pt_other_key_1"}, "other") // another credential does not wait
	r.until("the other credential's data", func(tt queue.Totals) bool { return tt.Delivered == 1 })
	if got := up.count() - before; got != 1 {
		t.Errorf("%d requests after the restart, want 1: the waiting credential was not left alone", got)
	}
}

func TestRefusedAccessIsQuarantinedAndComesBack(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	up.set(func(req *Request, _ []string) Outcome {
		if strings.Contains(req.APIKey, "bad") {
			return refused(RefusedAccess, 403)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r.f.Start(r.t.Context())
	bad := Caller{APIKey: "lsv2_pt_bad_key_000"}
	r.accept(bad, "b1", "b2", "b3")
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 3 })
	s := r.f.Status(r.a)
	if len(s.Cases) != 1 || s.Cases[0].Refusal.Exchange.Status != 403 || s.Cases[0].Items != 3 {
		t.Fatalf("cases: %+v, want one of 3 items with the 403", s.Cases)
	}
	r.accept(Caller{}, "g1") // another lane is not held up
	r.until("the good lane", func(tt queue.Totals) bool { return tt.Delivered == 1 })
	if len(r.f.Status(r.a).Problems) == 0 {
		t.Error("a parked lane is no problem to anybody")
	}
	up.set(nil) // repaired
	r.f.Wake()
	r.allDelivered(4)
	if s := r.f.Status(r.a); len(s.Cases) != 0 {
		t.Errorf("cases left after the cause is gone: %+v", s.Cases)
	}
}

func TestGuiltyItemsAreIsolated(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.ContainsFunc(ls, func(l string) bool { return strings.HasPrefix(l, "bad") }) {
			return refused(RefusedContent, 400)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r := newRig(t, up)
	batch := lines("ok", 64)
	batch[17], batch[40] = "bad-1", "bad-2"
	r.accept(Caller{}, batch...)
	r.accept(Caller{}, lines("more", 5)...)
	r.f.Start(r.t.Context())
	r.until("the guilty to be isolated", func(tt queue.Totals) bool { return tt.Quarantined == 2 && tt.Delivered == 67 })
	if n := up.count(); n > 40 {
		t.Errorf("%d requests to find 2 bad items of 69", n)
	}
	for l, n := range up.taken {
		if n != 1 {
			t.Errorf("item %s was delivered %d times", l, n)
		}
	}
}

func TestRefusingEverythingIsNotBisectedToDeath(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(*Request, []string) Outcome { return refused(RefusedContent, 422) })
	r := newRig(t, up)
	r.accept(Caller{}, lines("x", 1000)...)
	r.f.Start(r.t.Context())
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 1000 })
	if n := up.count(); n > 40 {
		t.Errorf("%d requests for a batch of which nothing is taken", n)
	}
}

func TestTroubleDuringIsolationKeepsTheRest(t *testing.T) {
	up := newFakeUpstream()
	n := 0
	up.set(func(_ *Request, ls []string) Outcome {
		n++
		switch {
		case n > 4:
			return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream}
		case slices.Contains(ls, "bad"):
			return refused(RefusedContent, 400)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r := newRig(t, up)
	batch := lines("ok", 32)
	batch[31] = "bad"
	r.accept(Caller{}, batch...)
	r.f.Start(r.t.Context())
	r.until("partial delivery", func(tt queue.Totals) bool { return tt.Delivered > 0 && tt.Pending > 0 })
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.Contains(ls, "bad") {
			return refused(RefusedContent, 400)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r.f.Wake()
	r.until("the rest", func(tt queue.Totals) bool { return tt.Delivered == 31 && tt.Quarantined == 1 })
}

func TestTooLargeIsSplit(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(_ *Request, ls []string) Outcome {
		if len(ls) > 7 {
			return refused(RefusedSize, 413)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r := newRig(t, up)
	r.accept(Caller{}, lines("a", 50)...)
	r.accept(Caller{}, lines("b", 3)...)
	r.f.Start(r.t.Context())
	r.allDelivered(53)
}

func TestCloseInterruptsAndKeeps(t *testing.T) {
	up := newFakeUpstream()
	hang := make(chan struct{})
	entered := make(chan struct{}, 8)
	r := newRig(t, up)
	up.set(func(*Request, []string) Outcome {
		entered <- struct{}{}
		<-hang
		return Outcome{Kind: Interrupted, Reason: "stopping"}
	})
	r.accept(Caller{}, "a", "b")
	r.f.Start(r.t.Context())
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	go func() { close(hang) }()
	if n := r.f.Close(ctx); n > 1 {
		t.Errorf("%d requests interrupted, want at most 1", n)
	}
	r.f.stop = nil
	if tt := r.q.Stats().Totals; tt.Pending != 2 {
		t.Errorf("pending %d after an interrupted send, want 2", tt.Pending)
	}
}

func TestDrainEndsWhenOnlyRefusedDataIsLeft(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(req *Request, _ []string) Outcome {
		if strings.Contains(req.APIKey, "bad") {
			return refused(RefusedAccess, 401)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r := newRig(t, up)
	r.f.Start(r.t.Context())
	r.accept(Caller{APIKey: "lsv2_pt_bad_key_000"}, lines("b", 3)...)
	r.accept(Caller{}, lines("g", 10)...)
	var last DrainProgress
	err := r.f.Drain(t.Context(), r.a, func(p DrainProgress) error {
		last = p
		return nil
	})
	if err != nil || !last.Done || len(last.Left) == 0 {
		t.Fatalf("drain: %v, %+v; want it done with the refused data left", err, last)
	}
	if tt := r.q.Stats().Totals; tt.Delivered != 10 || tt.Quarantined+tt.Pending != 3 {
		t.Errorf("totals after the drain: %+v", tt)
	}
	var pe *PressureError
	_, err = r.a.Accept(t.Context(), &Export{Protocol: protocolLines, Payload: []byte("x\n"), Items: 1})
	if !errors.As(err, &pe) || !pe.Unavailable {
		t.Errorf("an export during a drain got %v, want an unavailable PressureError", err)
	}
}

func TestCallersKeySurvivesRestartSealed(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	const key = "lsv2_pt_callers_secret_key_77"
	r.accept(Caller{APIKey: key}, "x")
	r.close(t.Context())
	if leaked := filesContaining(t, r.dir, key); len(leaked) > 0 {
		t.Fatalf("the caller's key stands in plain text in %v", leaked)
	}
	r.open()
	r.f.Start(r.t.Context())
	r.allDelivered(1)
	if got := up.keys["x"]; !strings.HasPrefix(got, key+"|") {
		t.Errorf("sent with %q after a restart", got)
	}
	r.close(t.Context())
	r.open() // nothing needs the key any more
	if n := len(r.q.Notes(credentialNotes)); n != 0 {
		t.Errorf("%d keys kept though no data needs them", n)
	}
}

func TestItemsTheUpstreamSaysItRejectedCountAsDropped(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Delivered, Reason: "partial_success", RejectedItems: 7}
	})
	r := newRig(t, up)
	r.accept(Caller{}, lines("a", 5)...)
	r.accept(Caller{}, lines("b", 5)...)
	r.f.Start(r.t.Context())
	r.until("the settlement", func(tt queue.Totals) bool { return tt.Pending == 0 })
	tt := r.q.Stats().Totals
	if tt.Delivered != 3 || tt.DroppedByReason["rejected_by_upstream"] != 7 {
		t.Errorf("totals %+v, want 3 delivered and 7 rejected", tt)
	}
	r.close(t.Context())
	r.open()
	if again := r.q.Stats().Totals; again.Delivered != 3 || again.Dropped != 7 {
		t.Errorf("totals after a restart %+v", again)
	}
}
