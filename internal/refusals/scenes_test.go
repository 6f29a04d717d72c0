package refusals

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weir/internal/smith/scene"
	"weir/proxy"
	"weir/proxy/langsmith"
	"weir/proxy/otlp"
	"weir/proxy/upstream"
	"weir/queue"
	"weir/quota"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// topCause returns the code of the cause that a diagnosis names first, of
// whatever is refused or waits. It is nil until the pipeline diagnoses: then
// causes are compared, and an incident opens no case.
var topCause func(*proxy.Status) string

// swapped is the upstream client of a pipeline, which a new configuration
// replaces while data waits.
type swapped struct {
	mu      sync.Mutex // guards clients
	clients []*upstream.Client
}

func (u *swapped) current() *upstream.Client {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.clients[len(u.clients)-1]
}

// Send implements proxy.Upstream.
func (u *swapped) Send(ctx context.Context, r *proxy.Request) proxy.Outcome {
	return u.current().Send(ctx, r)
}

// Ask implements proxy.Asker.
func (u *swapped) Ask(ctx context.Context, q *proxy.Question) proxy.Answer {
	return u.current().Ask(ctx, q)
}

// use makes a client for a configuration the one that sends.
func (u *swapped) use(t *testing.T, c scene.Client) {
	t.Helper()
	cfg := upstream.Config{BaseURL: c.BaseURL}
	if c.CA != nil {
		cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(cfg.CAFile, c.CA, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client, err := upstream.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clients = append(u.clients, client)
}

// close closes every client there was.
func (u *swapped) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.clients {
		_ = c.Close() // it always succeeds
	}
}

// player plays a scene to a whole pipeline: both ways in, a queue on disk, the
// forwarder and the client that speaks to the scene's hosts.
type player struct {
	t        *testing.T
	st       *scene.Stage
	up       *swapped
	queue    *queue.Queue
	acceptor *proxy.Acceptor
	forward  *proxy.Forwarder
	in       http.Handler
	ahead    atomic.Int64 // of the real clock: what hurrying adds up to
}

func newPlayer(t *testing.T, sc scene.Scene) *player {
	t.Helper()
	st, err := sc.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, st: st, up: &swapped{}}
	t.Cleanup(func() {
		p.up.close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	p.up.use(t, st.Client)
	dir := t.TempDir()
	p.queue, err = queue.Open(queue.Config{Dir: dir, NoSync: true}) // no power is cut here
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.queue.Close(); err != nil {
			t.Error(err)
		}
	})
	vault, _, err := proxy.OpenVault(p.queue, filepath.Join(dir, "credential.key"))
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }
	guard, err := quota.Open(quota.NewMemory(), quota.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	limits, err := proxy.NewQuota(proxy.QuotaConfig{
		Guard: guard, Queue: p.queue, Vault: vault, Destination: destination(st.Client),
		Dividers: map[proxy.Protocol]proxy.Divider{proxy.ProtocolOTLP: otlp.Divider{}, proxy.ProtocolRuns: proxy.RunsDivider{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.acceptor = proxy.NewAcceptor(p.queue, vault, limits)
	p.forward = proxy.NewForwarder(p.queue, p.up, vault, proxy.ForwardConfig{
		Linger: time.Millisecond, Quota: limits, Asker: p.up, AskUsage: true, Logger: slog.New(slog.DiscardHandler),
		Now: now, ProbeRegions: st.Client.Regions,
	})
	p.in = waysIn(t, p)
	t.Cleanup(func() {
		stop, cancel := context.WithCancel(context.Background())
		cancel()
		p.forward.Close(stop)
	})
	return p
}

// waysIn are the handlers of OTLP and of LangSmith's own API.
func waysIn(t *testing.T, p *player) http.Handler {
	t.Helper()
	const largest = 32 << 20
	spans, err := otlp.New(otlp.Config{MaxMessageBytes: largest}, p.acceptor)
	if err != nil {
		t.Fatal(err)
	}
	client := p.up.current()
	runs, err := langsmith.New(langsmith.Config{
		Upstream: langsmith.Upstream{BaseURL: client.BaseURL(), Transport: client.Transport()},
	}, p.acceptor, p.acceptor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runs.Close() }) // it always succeeds
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if otlp.IsTracePath(r.URL.Path) {
			spans.HTTP().ServeHTTP(w, r)
			return
		}
		runs.HTTP().ServeHTTP(w, r)
	})
}

func destination(c scene.Client) proxy.Destination {
	return proxy.Destination{UpstreamURL: c.BaseURL, APIKey: c.APIKey, Workspace: c.Workspace}
}

// send has an application send, which weir must take whatever LangSmith will
// say.
func (p *player) send(list []scene.Request) {
	p.t.Helper()
	for _, r := range list {
		req := httptest.NewRequestWithContext(p.t.Context(), r.Method, r.Path, bytes.NewReader(r.Body))
		req.Header = r.Header.Clone()
		w := httptest.NewRecorder()
		p.in.ServeHTTP(w, req)
		if w.Code/100 != 2 {
			p.t.Fatalf("%s %s was answered %d %q", r.Method, r.Path, w.Code, w.Body)
		}
	}
}

// picture is what there is to see of the pipeline at one moment.
type picture struct {
	queue.Totals

	status proxy.Status
}

// until looks until what is wanted is there. With hurry nothing waits longer
// than it must: pauses that are right for people are not for tests.
func (p *player) until(what string, hurry bool, there func(*picture) bool) *picture {
	p.t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	const wakeEvery = 8
	for n := 1; ; n++ {
		v := &picture{status: p.forward.Status(p.acceptor)}
		v.Totals = v.status.Queue.Totals
		if v.Accepted != v.Delivered+v.Pending+v.Held+v.Quarantined || v.Dropped != 0 {
			p.t.Fatalf("data is lost: %+v", v.Totals)
		}
		if there(v) {
			return v
		}
		if hurry && n%wakeEvery == 0 {
			p.ahead.Add(int64(time.Second))
			p.forward.Wake()
		}
		select {
		case <-look.C:
		case <-deadline.C:
			p.t.Fatalf("waited in vain for %s: %+v, cases %+v, lanes %+v", what, v.Totals, v.status.Cases, v.status.Lanes)
		}
	}
}

// arrived checks that exactly so much has arrived at the scene's hosts, and none
// of it twice.
func (p *player) arrived(want int) {
	p.t.Helper()
	if n, again := p.st.Arrived(); n != want || again != 0 {
		p.t.Errorf("%d items arrived and %d again, want %d and 0", n, again, want)
	}
}

// TestScenes plays every cause of refusal to the whole pipeline.
func TestScenes(t *testing.T) {
	t.Parallel()
	for _, sc := range scene.Scenes() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, sc)
			before, all := int64(scene.Items(p.st.Before)), int64(scene.Items(p.st.Before)+scene.Items(p.st.Data))
			if before > 0 {
				p.forward.Start(t.Context())
				p.send(p.st.Before)
				p.until("what is sent before the turn to arrive", false, func(v *picture) bool { return v.Delivered == before })
				p.st.Turn()
				p.send(p.st.Data)
			} else {
				p.send(p.st.Data)
				p.forward.Start(t.Context())
			}
			p.meet(sc, before, all)
			if p.st.Heals() {
				p.heal(all)
			}
		})
	}
}

// meet waits for what the scene's fate says, and checks it.
func (p *player) meet(sc scene.Scene, before, all int64) {
	t := p.t
	t.Helper()
	bad := int64(p.st.Bad)
	incident := sc.Cause == "upstream_incident"
	var v *picture
	switch sc.Fate {
	case scene.Taken, scene.Blips:
		p.until("everything to arrive", true, func(v *picture) bool { return v.Delivered == all && v.Pending == 0 })
		v = p.until("no case to be left", true, func(v *picture) bool { return len(v.status.Cases) == 0 })
		p.arrived(int(all))
	case scene.Poisoned:
		v = p.until("what is bad to be apart", true, func(v *picture) bool {
			return v.Delivered == all-bad && v.Quarantined == bad && v.Pending == 0
		})
		if len(v.status.Cases) == 0 || v.status.Cases[0].Refusal.Heals {
			t.Errorf("cases = %+v, want one that stays", v.status.Cases)
		}
		if sc.Cause != "duplicate" { // else something comes again by design
			p.arrived(int(all - bad))
		}
	case scene.Refused:
		v = p.until("a case that heals", false, func(v *picture) bool {
			return slices.ContainsFunc(v.status.Cases, func(c proxy.CaseStatus) bool { return c.Refusal.Heals })
		})
		p.arrived(int(before))
	case scene.Waits:
		v = p.until("something to wait", false, func(v *picture) bool {
			// What a month's limit refuses is soon held, and its lane has nothing to do.
			return v.Held > 0 || v.status.UpstreamWait != nil || slices.ContainsFunc(v.status.Lanes, func(l proxy.LaneStatus) bool {
				return l.State == proxy.LaneWaiting || l.State == proxy.LaneParked
			})
		})
		if v.Held > 0 && !strings.HasPrefix(sc.Cause, "quota_") {
			t.Errorf("%d items are held, though no limit of a month refused them", v.Held)
		}
		if len(v.status.Cases) != 0 && (topCause != nil || !incident) {
			t.Errorf("cases = %+v, want none", v.status.Cases)
		}
		p.arrived(int(before))
	}
	if topCause != nil && (sc.Fate == scene.Refused || sc.Fate == scene.Poisoned) {
		if got := topCause(&v.status); got != sc.Cause {
			t.Errorf("the first cause is %q, want %q", got, sc.Cause)
		}
	}
}

// heal mends what is wrong: everything arrives, once, and no case is left.
func (p *player) heal(all int64) {
	p.t.Helper()
	c, err := p.st.Heal()
	if err != nil {
		p.t.Fatal(err)
	}
	p.up.use(p.t, c)
	p.forward.SetDestination(destination(c))
	p.until("everything to arrive once it is mended", true, func(v *picture) bool {
		return v.Delivered == all && v.Pending == 0 && len(v.status.Cases) == 0
	})
	p.arrived(int(all))
}
