package torture_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/internal/torture"
	weirv1 "weir/proto/weir/v1"
)

// staleTime is far outside any start-time window: 2001-09-09 UTC.
const staleTime = 1_000_000_000_000_000_000

// epoch is when the spans of llmspans begin; the upstream's clock stands near
// it where the start-time window is on.
var epoch = time.Date(2026, 1, 1, 0, 10, 0, 0, time.UTC)

// TestOnlyTheGuiltyAreKeptBack mixes spans that the upstream refuses into
// those that it takes: exactly these must end up in quarantine, also when weir
// is killed while it searches for them.
func TestOnlyTheGuiltyAreKeptBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		window smith.Window
		kills  int
	}{
		{"400", smith.Window400, 0},
		{"422", smith.Window422, 0},
		{"400 and kills", smith.Window400, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, smith.Config{
				Switches: smith.Switches{OTLPWindow: tc.window},
				Now:      func() time.Time { return epoch },
			})
			const exports = 12
			guilty := int64(exports)
			clients := []torture.Client{
				{Source: torture.Merged{torture.Chat(1, 40), torture.BulkAt(2, 1, 100, staleTime), torture.Chat(3, 9)}, Exports: exports},
				{Source: torture.Chat(4, 1), HTTP: true, Exports: 4 * exports},
			}
			w := r.start()
			if tc.kills == 0 {
				r.send(clients...)
			} else {
				// A full buffer before the search begins, so that kills strike it.
				r.up.SetStanding(&smith.Fault{Status: http.StatusServiceUnavailable})
				r.send(clients...)
				r.up.SetStanding(&smith.Fault{Match: smith.MatchIngest, Stage: smith.StageStored, Latency: 5 * time.Millisecond})
				for range tc.kills {
					if err := w.RunFor(r.upTo(80 * time.Millisecond)); err != nil {
						t.Fatal(err)
					}
					r.kill(w)
					w = r.start()
				}
				r.up.ClearFaults()
			}
			r.await("all but the guilty to arrive", func(c *torture.Counts) bool { return c.Outstanding() <= guilty })
			r.fresh(0)
			// A search sends the same request in parts, and a kill forgets what
			// was found in it.
			a := torture.Allowance{InFlight: exports, Quarantined: guilty}
			r.settle(w, a)
		})
	}
}

// TestTooLargeIsSplit has the upstream take small requests only.
func TestTooLargeIsSplit(t *testing.T) {
	t.Parallel()
	r := newRig(t, smith.Config{MaxBodyBytes: 20 << 10}, "--otlp-encoding", "identity")
	w := r.start()
	r.send(
		torture.Client{Source: torture.Chat(1, 100), Exports: 10},
		torture.Client{Source: torture.Chat(2, 1), HTTP: true, Exports: 20},
	)
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.fresh(0)
	r.settle(w, torture.Allowance{})
	if r.up.Stats().Answers[http.StatusRequestEntityTooLarge] == 0 {
		t.Error("the upstream never answered 413: the scenario proves nothing")
	}
}

// TestEveryPossibleUpstream runs the way of the data, with an outage in the
// middle, under each behaviour that nobody has seen the service decide.
func TestEveryPossibleUpstream(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		switches smith.Switches
		encoding string
		used     string // the encoding that must have been used
	}{
		{"zstd taken, auto", smith.Switches{}, "auto", "gzip"},
		{"zstd taken, configured", smith.Switches{}, "zstd", "zstd"},
		{"zstd unsupported, auto", smith.Switches{OTLPZstd: smith.Unsupported}, "auto", "gzip"},
		{"zstd unsupported, configured", smith.Switches{OTLPZstd: smith.Unsupported}, "zstd", "gzip"},
		{"zstd lost, auto", smith.Switches{OTLPZstd: smith.Lost}, "auto", "gzip"},
		{"malformed lost", smith.Switches{OTLPMalformed: smith.MalformedLost}, "auto", "gzip"},
		{"attribute before header", smith.Switches{OTLPProject: smith.AttributeFirst}, "auto", "gzip"},
		{"json unsupported", smith.Switches{OTLPJSON: smith.Unsupported}, "auto", "gzip"},
		{"identity", smith.Switches{}, "identity", "identity"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, smith.Config{Switches: tc.switches}, "--otlp-encoding", tc.encoding)
			w := r.start()
			stop := r.traffic(paced(50, mixed(1))...)
			r.await("data to flow", func(c *torture.Counts) bool { return c.AckedArrived >= 50 })
			r.up.SetStanding(&smith.Fault{Status: http.StatusServiceUnavailable})
			r.acked(200)
			r.up.ClearFaults()
			stop()
			r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
			r.fresh(0)
			r.settle(w, torture.Allowance{})
			st := r.up.Stats()
			if st.ByEncoding[tc.used].Requests == 0 {
				t.Errorf("nothing arrived in %s: %+v", tc.used, st.ByEncoding)
			}
			if st.Lost.Requests > 0 {
				t.Errorf("%d requests were answered 200 and lost", st.Lost.Requests)
			}
		})
	}
}

// TestLostAnswersAreSentAgain has connections break after the upstream took
// the data: at least once means twice here, and never not at all.
func TestLostAnswersAreSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, smith.Config{})
	w := r.start()
	const lost = 3
	r.up.Script(smith.LostAnswer.Fault().Times(lost))
	r.send(paced(100, []torture.Client{
		{Source: torture.Chat(1, 5), Exports: 60}, {Source: torture.Chat(2, 1), HTTP: true, Exports: 60},
	})...)
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.fresh(0)
	v := r.settle(w, torture.Allowance{LostAnswers: lost})
	if v.Duplicates == 0 {
		t.Error("nothing came twice: no answer was lost")
	}
}

// TestChaosLosesNothing fails most requests at random.
func TestChaosLosesNothing(t *testing.T) {
	t.Parallel()
	chaos, err := smith.ParseChaos("429=0.1,503=0.1,reset=0.1,reset_stored=0.1,slow=0.05,403=0.02")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, smith.Config{Chaos: chaos})
	w := r.start()
	stop := r.traffic(paced(20, mixed(1))...)
	r.acked(2000)
	stop()
	r.await("half to arrive despite the chaos", func(c *torture.Counts) bool { return c.AckedArrived >= c.Acknowledged/2 })
	r.up.ClearFaults()
	r.reload(w)
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.fresh(0)
	r.settle(w, torture.Allowance{LostAnswers: int(r.up.Stats().Faults["reset_stored"])})
}

// TestRedirectsNeverCarryTheKey sends weir to another host: the key stays.
func TestRedirectsNeverCarryTheKey(t *testing.T) {
	t.Parallel()
	var visits atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visits.Add(1)
		w.WriteHeader(http.StatusOK)
	}))
	defer other.Close()
	r := newRig(t, smith.Config{})
	r.up.SetStanding(&smith.Fault{
		Status: http.StatusPermanentRedirect, Header: http.Header{"Location": {other.URL + "/otel/v1/traces"}},
	})
	w := r.start()
	r.send(torture.Client{Source: torture.Chat(1, 5), Exports: 10})
	ctx, cancel := r.within()
	defer cancel()
	if _, err := w.WaitStatus(ctx, "the redirect to be shown", func(s *weirv1.GetStatusResponse) bool {
		return len(s.GetLanes()) == 1 && s.GetLanes()[0].GetReason() == "http_308" && len(s.GetProblems()) > 0
	}); err != nil {
		t.Fatal(err)
	}
	r.up.ClearFaults()
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.settle(w, torture.Allowance{})
	if n := visits.Load(); n != 0 {
		t.Errorf("the redirect was followed %d times", n)
	}
}

// TestAReplacedKeyMovesWhatWaited takes data under a key that the upstream
// refuses, and replaces the key while weir runs.
func TestAReplacedKeyMovesWhatWaited(t *testing.T) {
	t.Parallel()
	const bad = "lsv2_pt_revoked_000000000000000000_00"
	r := newRig(t, smith.Config{Keys: map[string]smith.Key{UpstreamKey: {}}})
	r.APIKeyFile = filepath.Join(r.SocketDir, "key")
	writeKey := func(key string) {
		t.Helper()
		if err := os.WriteFile(r.APIKeyFile, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeKey(bad)
	w := r.start()
	r.send(torture.Client{Source: torture.Chat(1, 5), Exports: 20})
	ctx, cancel := r.within()
	defer cancel()
	if _, err := w.WaitStatus(ctx, "the lane to be parked", func(s *weirv1.GetStatusResponse) bool {
		return len(s.GetLanes()) == 1 && s.GetLanes()[0].GetState() == weirv1.LaneState_LANE_STATE_PARKED
	}); err != nil {
		t.Fatal(err)
	}
	writeKey(UpstreamKey)
	r.reload(w)
	r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
	r.fresh(0)
	r.settle(w, torture.Allowance{})
	for _, in := range r.up.Requests() {
		if in.Key != UpstreamKey {
			t.Errorf("data arrived under %s", in.Key)
		}
	}
}

// UpstreamKey is the key that weir is configured with.
const UpstreamKey = torture.UpstreamKey
