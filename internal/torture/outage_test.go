package torture_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/internal/torture"
	weirv1 "weir/proto/weir/v1"
)

// trouble is an upstream that does not take data for a while.
type trouble struct {
	name string
	// begin makes the upstream fail, end mends it.
	begin, end func(*rig)
	// reason is what a lane's status must say meanwhile.
	reason []string
	// state is the lane's state meanwhile.
	state weirv1.LaneState
	// reload has the operator tell weir to try again at once: the wait that
	// the upstream named is longer than this test.
	reload bool
	// held: the data may as well be held, for a month's limit.
	held bool
	args []string
}

// standing is trouble that every request with traces meets.
func standing(f smith.Fault) (begin, end func(*rig)) {
	f.Match = smith.MatchIngest
	return func(r *rig) { r.up.SetStanding(&f) }, func(r *rig) { r.up.ClearFaults() }
}

func status(code int, retryAfter string) smith.Fault {
	return smith.Fault{Status: code, RetryAfter: retryAfter}
}

func troubles() []trouble {
	waiting, parked := weirv1.LaneState_LANE_STATE_WAITING, weirv1.LaneState_LANE_STATE_PARKED
	of := func(name string, f smith.Fault, state weirv1.LaneState, reasons ...string) trouble {
		t := trouble{name: name, state: state, reason: reasons}
		t.begin, t.end = standing(f)
		return t
	}
	everything := func(name string, f smith.Fault, state weirv1.LaneState, reasons ...string) trouble {
		return trouble{
			name: name, state: state, reason: reasons,
			begin: func(r *rig) { r.up.SetStanding(&f) }, end: func(r *rig) { r.up.ClearFaults() },
		}
	}
	hang := of("hang", smith.Fault{Hang: true}, waiting, "timeout")
	hang.args = []string{"--request-timeout", "1s"}
	huge := of("429 with a huge Retry-After", status(429, "99999999"), waiting, "rate")
	huge.reload = true
	hour := of("429 with an hour", status(429, "3600"), waiting, "rate")
	hour.reload = true
	month := of("monthly quota", smith.MonthlyQuota.Fault(), waiting, "quota_month")
	month.held = true
	return []trouble{
		of("503", status(503, ""), waiting, "http_503"),
		of("502 page", smith.HTML502.Fault(), waiting, "http_502"),
		{
			name: "refused connections", state: waiting, reason: []string{"network"},
			begin: func(r *rig) {
				if err := r.up.Refuse(); err != nil {
					r.t.Fatal(err)
				}
			},
			end: func(r *rig) {
				if err := r.up.Restore(); err != nil {
					r.t.Fatal(err)
				}
			},
		},
		hang,
		of("reset before processing", smith.Fault{Reset: true}, waiting, "network"),
		of("429 without Retry-After", status(429, ""), waiting, "rate"),
		of("429 in seconds", status(429, "1"), waiting, "rate"),
		of("429 as a date", status(429, "date+2s"), waiting, "rate"),
		of("429 with garbage", status(429, "soon; maybe"), waiting, "rate"),
		of("429 with a negative wait", status(429, "-5"), waiting, "rate"),
		hour,
		huge,
		month,
		of("403 for traces alone", smith.Forbidden.Fault(), waiting, "upstream_incident"),
		everything("403", smith.Forbidden.Fault(), parked, "http_403"),
		of("401 for traces alone", smith.Unauthorized.Fault(), waiting, "upstream_incident"),
		everything("401", smith.Unauthorized.Fault(), parked, "http_401"),
		of("redirect", smith.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"/elsewhere"}}},
			parked, "http_307"),
	}
}

// TestTroubleLosesNothing lets data arrive, pour into an upstream that refuses
// it, and arrive again once that is mended. Weir is killed in the middle, so
// the wait and what waits must survive it.
func TestTroubleLosesNothing(t *testing.T) {
	t.Parallel()
	for _, tr := range troubles() {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, smith.Config{}, tr.args...)
			w := r.start()
			stop := r.traffic(paced(20, mixed(1))...)
			r.await("data to flow", func(c *torture.Counts) bool { return c.AckedArrived >= 50 })
			tr.begin(r)
			r.acked(100)
			r.says(w, &tr)
			r.kill(w)
			w = r.start()
			r.acked(50)
			stop()
			r.says(w, &tr)
			tr.end(r)
			if tr.reload {
				r.reload(w)
			}
			r.await("everything acknowledged to arrive", func(c *torture.Counts) bool { return c.Outstanding() == 0 })
			r.fresh(0)
			r.settle(w, torture.Allowance{InFlight: inFlight})
		})
	}
}

// says waits until weir's status shows the trouble for what it is.
func (r *rig) says(w *torture.Weir, tr *trouble) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 15*time.Second)
	defer cancel()
	st, err := w.WaitStatus(ctx, "the status to show the trouble", func(s *weirv1.GetStatusResponse) bool {
		if tr.held && s.GetTotals().GetHeldItems() > 0 {
			return true
		}
		return slices.ContainsFunc(s.GetLanes(), func(l *weirv1.Lane) bool {
			return l.GetState() == tr.state && slices.Contains(tr.reason, l.GetReason()) && l.GetNextAttempt() != nil
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	const longest = time.Hour + time.Minute // what a server asks for is bounded
	for _, l := range st.GetLanes() {
		if wait := time.Until(l.GetNextAttempt().AsTime()); l.GetNextAttempt() != nil && wait > longest {
			r.t.Errorf("lane %d waits %s, want at most %s", l.GetId(), wait, longest)
		}
	}
}

// reload makes weir read its configuration, and try again what waits.
func (r *rig) reload(w *torture.Weir) {
	r.t.Helper()
	if err := w.Signal(hangup); err != nil {
		r.t.Fatal(err)
	}
}
