package torture_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weir/internal/smith"
	"weir/internal/torture"
)

// binDir holds the binaries of this run.
var binDir string

// plainWeir and raceWeir build weir at most once.
var (
	plainWeir = sync.OnceValues(func() (string, error) { return torture.Build(context.Background(), binDir, false) })
	movable   = sync.OnceValues(func() (string, error) { return torture.BuildMovable(context.Background(), binDir) })
	raceWeir  = sync.OnceValues(func() (string, error) { return torture.Build(context.Background(), binDir, true) })
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wt") // short: sockets' paths have a limit
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // scenarios wait more than they work
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience bounds every wait of a scenario.
const patience = 90 * time.Second

// rig is a scenario's weir, upstream and ledger.
type rig struct {
	*torture.Setup

	t      *testing.T
	ctx    context.Context //nolint:containedctx // the test's own
	ledger *torture.Ledger
	up     *torture.Upstream
	rng    *rand.Rand
}

// newRig prepares a scenario. Nothing of it runs yet but the upstream.
func newRig(t *testing.T, cfg smith.Config, args ...string) *rig {
	t.Helper()
	bin, err := plainWeir()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(binDir, "r") //nolint:usetesting // sockets' paths have a limit that a test's name may pass
	if err != nil {
		t.Fatal(err)
	}
	ledger := torture.NewLedger()
	up, err := torture.StartUpstream(ledger, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	})
	seed := runSeed(t)
	return &rig{
		Setup: &torture.Setup{
			Binary: bin, DataDir: filepath.Join(dir, "data"), SocketDir: dir, Upstream: up.URL(),
			Args: append([]string{"--forward-linger", "5ms", "--shutdown-timeout", "10s"}, args...),
		},
		t: t, ctx: t.Context(), ledger: ledger, up: up, rng: rand.New(rand.NewPCG(seed, seed)),
	}
}

// runSeed is WEIR_SEED, or the time; it is logged, to repeat a failure with.
func runSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("WEIR_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
	}
	t.Logf("WEIR_SEED=%d", seed)
	return seed
}

// start starts weir and waits until it takes data. It is killed when the test
// ends, if it still runs then.
func (r *rig) start() *torture.Weir {
	r.t.Helper()
	ctx, cancel := r.within()
	defer cancel()
	w, err := r.StartReady(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := w.Kill(); err != nil {
			r.t.Error(err)
		}
		if r.t.Failed() {
			r.t.Logf("weir's log:\n%s", w.Log())
		}
	})
	return w
}

// kill ends weir on the spot.
func (r *rig) kill(w *torture.Weir) {
	r.t.Helper()
	if err := w.Kill(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.up.Killed(); err != nil {
		r.t.Fatal(err)
	}
}

// traffic starts clients. The function it returns stops them.
func (r *rig) traffic(clients ...torture.Client) (stop func()) {
	r.t.Helper()
	t := &torture.Traffic{Ledger: r.ledger, GRPC: r.GRPC(), HTTP: r.HTTP(), Clients: clients}
	end := t.Start(r.ctx)
	r.t.Cleanup(func() { _ = end() })
	return func() {
		r.t.Helper()
		if err := end(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// send sends until every client has reached its Exports.
func (r *rig) send(clients ...torture.Client) {
	r.t.Helper()
	ctx, cancel := r.within()
	defer cancel()
	t := &torture.Traffic{Ledger: r.ledger, GRPC: r.GRPC(), HTTP: r.HTTP(), Clients: clients}
	if err := t.Run(ctx); err != nil {
		r.t.Fatal(err)
	}
	if err := ctx.Err(); err != nil {
		r.t.Fatalf("sending: %v with %+v", err, r.ledger.Counts())
	}
}

// mixed are clients of every kind: single spans and many, gRPC and HTTP,
// plain and compressed. Their sources' seeds begin at seed.
func mixed(seed uint64) []torture.Client {
	return []torture.Client{
		{Source: torture.Chat(seed, 1)},
		{Source: torture.Chat(seed+1, 50)},
		{Source: torture.Chat(seed+2, 1), Gzip: true},
		{Source: torture.Chat(seed+3, 1), HTTP: true},
		{Source: torture.Chat(seed+4, 50), HTTP: true, Gzip: true, Project: "torture"},
	}
}

// paced bounds the exports of each client.
func paced(perSecond float64, clients []torture.Client) []torture.Client {
	for i := range clients {
		clients[i].PerSecond = perSecond
	}
	return clients
}

func (r *rig) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.ctx, patience)
}

// await blocks until the ledger's counts meet a condition.
func (r *rig) await(what string, met func(*torture.Counts) bool) {
	r.t.Helper()
	ctx, cancel := r.within()
	defer cancel()
	if err := r.ledger.Wait(ctx, what, met); err != nil {
		r.t.Fatal(err)
	}
}

// acked waits until so many more spans than now were acknowledged.
func (r *rig) acked(more int64) {
	r.t.Helper()
	goal := r.ledger.Counts().Acknowledged + more
	r.await("more acknowledgements", func(c *torture.Counts) bool { return c.Acknowledged >= goal })
}

// seedFresh numbers the sources of fresh traces.
const seedFresh = 60_000

// fresh proves that a new export passes from end to end.
func (r *rig) fresh(n uint64) {
	r.t.Helper()
	before := r.ledger.Counts().AckedArrived
	r.send(torture.Client{Source: torture.Chat(seedFresh+n, 3), Exports: 1})
	r.await("a fresh trace", func(c *torture.Counts) bool { return c.AckedArrived >= before+3 })
}

// settle waits until weir has nothing pending, and judges.
func (r *rig) settle(w *torture.Weir, a torture.Allowance) *torture.Verdict {
	r.t.Helper()
	ctx, cancel := r.within()
	defer cancel()
	if !a.Undelivered {
		if _, err := w.WaitStatus(ctx, "nothing to be pending", nothingPending); err != nil {
			r.t.Error(err)
		}
	}
	v, err := torture.Judge(ctx, r.ledger, r.up, w)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Log(v)
	if err := v.Check(a); err != nil {
		r.t.Error(err)
	}
	return v
}
