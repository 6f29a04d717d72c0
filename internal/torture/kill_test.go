package torture_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/internal/torture"
	weirv1 "weir/proto/weir/v1"
)

// inFlight is weir's default for forward.concurrency.
const inFlight = 8

func nothingPending(s *weirv1.GetStatusResponse) bool { return s.GetTotals().GetPendingItems() == 0 }

// killScenario is a way of killing weir over and over.
type killScenario struct {
	name    string
	rounds  int // in a short run
	clients func() []torture.Client
	args    []string
	// latency holds back the upstream's answers, so that requests are under
	// way when weir dies.
	latency time.Duration
	// ackedMax bounds how many spans are acknowledged in a life, and delayMax
	// how much longer it lasts. Progress, not time, so that a busy machine
	// tries the same moments.
	ackedMax int64
	delayMax time.Duration
	// unreadyMax, where set, has every other weir killed within that time
	// after its start, ready or not.
	unreadyMax time.Duration
}

var killScenarios = []killScenario{
	{
		name: "while accepting", rounds: 80, ackedMax: 400, delayMax: 10 * time.Millisecond,
		clients: func() []torture.Client { return mixed(1) },
	},
	{
		name: "while forwarding", rounds: 60, ackedMax: 200, delayMax: 60 * time.Millisecond, latency: 25 * time.Millisecond,
		clients: func() []torture.Client { return paced(40, mixed(1)) },
	},
	{
		name: "while rotating segments", rounds: 40, ackedMax: 120, delayMax: 10 * time.Millisecond,
		clients: func() []torture.Client {
			return []torture.Client{
				{Source: torture.Bulk(1, 4, 256<<10)},
				{Source: torture.Bulk(2, 1, 700<<10), HTTP: true},
				{Source: torture.Chat(3, 1)},
			}
		},
	},
	{
		name: "while recovering", rounds: 80, ackedMax: 100, delayMax: 20 * time.Millisecond, unreadyMax: 45 * time.Millisecond,
		clients: func() []torture.Client { return mixed(1) },
	},
}

// TestNothingAcknowledgedIsLostByKills kills weir at random moments under load
// and starts it again on the same directory.
func TestNothingAcknowledgedIsLostByKills(t *testing.T) {
	t.Parallel()
	for _, sc := range killScenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, smith.Config{}, sc.args...)
			if sc.latency > 0 {
				r.up.SetStanding(&smith.Fault{Name: "slow", Match: smith.MatchIngest, Stage: smith.StageStored, Latency: sc.latency})
			}
			stop := r.traffic(sc.clients()...)
			starts := r.killLoop(&sc)
			stop()
			r.up.ClearFaults()
			w := r.start()
			r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
			r.fresh(0)
			v := r.settle(w, torture.Allowance{InFlight: inFlight})
			if v.Arrived != v.Totals.GetDeliveredItems() {
				t.Errorf("%d spans arrived, weir counts %d", v.Arrived, v.Totals.GetDeliveredItems())
			}
			slices.Sort(starts)
			t.Logf("start_ms median=%d slowest=%d", starts[len(starts)/2].Milliseconds(), starts[len(starts)-1].Milliseconds())
		})
	}
}

// In a long run one life in longLives may last up to longLife: what weir does
// with data that waits for seconds is then struck as well.
const (
	longLives = 20
	longLife  = 12 * time.Second
)

// killLoop starts and kills weir, for the scenario's rounds or as long as
// WEIR_TORTURE says. It returns how long the starts took.
func (r *rig) killLoop(sc *killScenario) (starts []time.Duration) {
	r.t.Helper()
	var until time.Time
	if text := os.Getenv("WEIR_TORTURE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			r.t.Fatalf("WEIR_TORTURE: %v", err)
		}
		until = time.Now().Add(d)
	}
	for round := 0; round < sc.rounds || time.Now().Before(until); round++ {
		if sc.unreadyMax > 0 && round%2 == 1 {
			r.killRound(life{delay: r.upTo(sc.unreadyMax)})
			continue
		}
		delay := r.upTo(sc.delayMax)
		if !until.IsZero() && r.rng.IntN(longLives) == 0 {
			delay = r.upTo(longLife)
		}
		starts = append(starts, r.killRound(life{ready: true, acked: r.rng.Int64N(sc.ackedMax + 1), delay: delay}))
		if r.t.Failed() {
			r.t.Fatalf("in round %d", round)
		}
	}
	return starts
}

// upTo is a random time, short ones more often than long ones.
func (r *rig) upTo(d time.Duration) time.Duration {
	f := r.rng.Float64()
	return time.Duration(f * f * float64(d))
}

// life is how long a weir lives: until it is ready, if that is asked for, and
// so many spans were acknowledged, and then for the delay.
type life struct {
	ready bool
	acked int64
	delay time.Duration
}

// killRound is one life of weir.
func (r *rig) killRound(l life) (readyIn time.Duration) {
	r.t.Helper()
	w, err := r.Start(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := r.within()
	defer cancel()
	if l.ready {
		err = w.WaitReady(ctx)
		goal := r.ledger.Counts().Acknowledged + l.acked
		if err == nil {
			err = r.ledger.Wait(ctx, "acknowledgements", func(c *torture.Counts) bool { return c.Acknowledged >= goal })
		}
	}
	if err == nil {
		err = w.RunFor(l.delay)
	}
	if err := errors.Join(err, w.Kill()); err != nil {
		r.t.Errorf("%v\n%s", err, w.Log())
	}
	if err := r.up.Killed(); err != nil {
		r.t.Fatal(err)
	}
	return w.ReadyIn()
}
