package torture_test

import (
	"strings"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/internal/torture"
)

// TestStopsInStages sends SIGTERM in the middle of everything. What is under
// way is settled, so the next start sends nothing twice.
func TestStopsInStages(t *testing.T) {
	t.Parallel()
	r := newRig(t, smith.Config{})
	r.up.SetStanding(&smith.Fault{Match: smith.MatchIngest, Stage: smith.StageStored, Latency: 100 * time.Millisecond})
	stop := r.traffic(mixed(1)...)
	const rounds = 4
	for range rounds {
		w := r.start()
		r.acked(200)
		r.stopsWithin(w, 5*time.Second)
	}
	stop()
	r.up.ClearFaults()
	w := r.start()
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.fresh(0)
	r.settle(w, torture.Allowance{})
}

// stopsWithin sends SIGTERM and wants a clean end within d.
func (r *rig) stopsWithin(w *torture.Weir, d time.Duration) {
	r.t.Helper()
	began := time.Now()
	if err := w.Signal(terminate); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := r.within()
	defer cancel()
	code, err := w.WaitExit(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if code != 0 {
		r.t.Errorf("weir ended with code %d, want 0:\n%s", code, w.Log())
	}
	if took := time.Since(began); took > d {
		r.t.Errorf("weir took %s to stop, want at most %s:\n%s", took, d, w.Log())
	}
	if err := w.Kill(); err != nil {
		r.t.Error(err)
	}
}

// TestASecondSignalCutsItShort stops weir while the upstream hangs.
func TestASecondSignalCutsItShort(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		signals int
		timeout string
	}{
		{"one signal, and the timeout", 1, "1s"},
		{"two signals", 2, "60s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, smith.Config{}, "--shutdown-timeout", tc.timeout)
			r.up.SetStanding(&smith.Fault{Match: smith.MatchIngest, Hang: true})
			w := r.start()
			r.send(torture.Client{Source: torture.Chat(1, 5), Exports: 20})
			ctx, cancel := r.within()
			defer cancel()
			if err := r.up.WaitRequests(ctx, 1); err != nil {
				t.Fatal(err)
			}
			for range tc.signals - 1 {
				if err := w.Signal(terminate); err != nil {
					t.Fatal(err)
				}
				if err := w.WaitLog(ctx, "a second signal cuts it short"); err != nil {
					t.Fatal(err)
				}
			}
			r.stopsWithin(w, 5*time.Second)
			if !strings.Contains(w.Log(), "stays on disk") {
				t.Errorf("weir does not say what stays on disk:\n%s", w.Log())
			}
			r.up.ClearFaults()
			w = r.start()
			r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
			r.fresh(0)
			r.settle(w, torture.Allowance{LostAnswers: inFlight})
		})
	}
}

// TestDrainDeliversEverything asks weir to stop taking and to deliver all.
func TestDrainDeliversEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t, smith.Config{})
	r.up.SetStanding(&smith.Fault{Match: smith.MatchIngest, Status: 503})
	w := r.start()
	stop := r.traffic(paced(50, mixed(1))...)
	r.acked(500)
	out, code, err := r.Command(r.ctx, "drain", "--timeout", "1s")
	if err == nil || code != 1 {
		t.Errorf("a drain into an outage ended with code %d (%v), want 1: %s", code, err, out)
	}
	stop()
	r.up.ClearFaults()
	out, _, err = r.Command(r.ctx, "drain", "--timeout", "60s")
	if err != nil {
		t.Errorf("a drain into a healthy upstream: %v", err)
	}
	t.Logf("%s", out)
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.settle(w, torture.Allowance{})
	r.stopsWithin(w, 5*time.Second)
}

// TestTheRaceDetectorIsSilent runs a weir that was built with the race
// detector through traffic, an outage, kills and a stop.
func TestTheRaceDetectorIsSilent(t *testing.T) {
	t.Parallel()
	bin, err := raceWeir()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, smith.Config{})
	r.Binary = bin
	r.Env = []string{"GORACE=halt_on_error=1"}
	stop := r.traffic(mixed(1)...)
	for range 3 {
		w := r.start()
		r.acked(200)
		r.up.SetStanding(&smith.Fault{Match: smith.MatchIngest, Status: 503})
		r.acked(200)
		r.up.ClearFaults()
		r.kill(w)
	}
	w := r.start()
	r.acked(200)
	r.stopsWithin(w, 30*time.Second)
	stop()
	w = r.start()
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.fresh(0)
	r.settle(w, torture.Allowance{InFlight: inFlight})
}
