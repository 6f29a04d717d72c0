package torture_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/internal/torture"
	weirv1 "weir/proto/weir/v1"
)

// TestKeysOfAWorkspaceShareTheLimit sends under weir's own key and a caller's at
// once, and rotates the former in mid-month.
func TestKeysOfAWorkspaceShareTheLimit(t *testing.T) {
	t.Parallel()
	const (
		callers, rotated = "lsv2_pt_torture_0123456789abcdef_01", "lsv2_pt_torture_0123456789abcdef_02"
		limit            = 100
	)
	r := newQuotaRig(t, smith.Config{Keys: map[string]smith.Key{UpstreamKey: {}, callers: {}, rotated: {}}}, limit)
	r.APIKeyFile = filepath.Join(r.SocketDir, "key")
	writeKey := func(key string) {
		t.Helper()
		if err := os.WriteFile(r.APIKeyFile, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeKey(UpstreamKey)
	w := r.start()
	r.known(w)
	r.send(append(singles(1, 0, 29), with(callers, singles(11, 0, 30))...)...)
	r.up.RemoveKey(UpstreamKey)
	writeKey(rotated)
	r.reload(w)
	r.send(append(singles(21, 0, 60), with(callers, singles(31, 0, 60))...)...)
	w = r.restart(w)
	r.still(w, limit, 180-limit)
	r.checkArrived(limit, 1)
	if n := r.monthly(); n != limit {
		t.Errorf("the look-alike counts %d traces, want %d", n, limit)
	}
	r.checkNeverRefused()
}

// TestLangSmithsOwnLimitIsHeard has others use half of what LangSmith takes:
// weir, which knows nothing of them, learns it by the refusal, holds, and goes
// on by itself once that is over.
func TestLangSmithsOwnLimitIsHeard(t *testing.T) {
	t.Parallel()
	const limit, others, sent = 100, 50, 80
	raise := func(r *quotaRig) {
		r.up.SetLimits(smith.Limits{MonthlyTraces: 2 * limit})
		r.move(time.Hour) // it is asked again, at the latest then
	}
	for _, tc := range []struct {
		name    string
		updates smith.QuotaUpdates
		denied  bool // usage_limits may not be read
		turn    bool // the month turns; else the limit is raised
		kills   bool
	}{
		{name: "raised"},
		{name: "raised, updates refused", updates: smith.UpdatesRefused},
		{name: "raised, usage limits denied", denied: true},
		{name: "raised, killed", kills: true},
		{name: "the month turns", turn: true, kills: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newQuotaRig(t, smith.Config{
				Limits: smith.Limits{MonthlyTraces: limit}, Switches: smith.Switches{QuotaUpdates: tc.updates},
			}, limit)
			if tc.denied {
				r.up.SetStanding(&smith.Fault{Match: "/workspaces", Status: http.StatusForbidden, Body: `{"detail":"Forbidden"}`})
			}
			r.up.AddTraffic(smith.DefaultTenant, smith.Traffic{Traces: others})
			w := r.start()
			restart := func() {
				if tc.kills {
					w = r.restart(w)
				}
			}
			r.send(paced(200, singles(1, 0, sent))...)
			q := r.waitQuota(w, "weir to hold what LangSmith refuses", func(q *sums) bool {
				return q.refused == "quota_month" && q.pending == 0 && q.reserved == 0 && q.held > 0
			})
			if n := r.monthly(); n != others+q.used || n > limit || q.used+q.held != sent {
				t.Errorf("the look-alike counts %d traces of %d; weir %+v of %d sent", n, limit, q, sent)
			}
			// Once for each time: what was under way at the first refusal, and is
			// taken after it, looks like the end of it.
			said, ended := strings.Count(w.Log(), "the upstream refuses new traces"), strings.Count(w.Log(), "the upstream takes new traces again")
			if said != ended+1 {
				t.Errorf("weir has said %d times that LangSmith refuses, and %d times that it takes traces again:\n%s", said, ended, w.Log())
			}
			restart()
			// What comes late of traces that LangSmith has goes on, or waits.
			r.send(singles(1, 1, sent)...)
			if tc.updates == smith.UpdatesTaken {
				r.waitQuota(w, "late spans to be delivered", func(q *sums) bool { return q.pending == 0 })
				r.checkArrived(int(q.used), 2)
			}
			restart()
			if tc.turn {
				r.turnMonth(w)
				restart()
				r.still(w, limit/5, q.held-limit/5)
				r.checkArrived(int(q.used)+limit/5, 2)
				return
			}
			if tc.denied {
				r.move(2 * time.Minute)
			}
			raise(r)
			restart()
			if tc.denied {
				r.up.SetLimits(smith.Limits{MonthlyTraces: 2 * limit})
				r.move(time.Hour)
			}
			r.still(w, sent, 0)
			r.checkArrived(sent, 2)
		})
	}
}

// TestAnHourIsNotOverrun stops sending before LangSmith refuses, and goes on in
// the next clock hour.
func TestAnHourIsNotOverrun(t *testing.T) {
	t.Parallel()
	const limit, sent = 20, 50
	r := newQuotaRig(t, smith.Config{Limits: smith.Limits{HourlyEvents: limit}}, 1000, "--quota-events-per-hour", "20",
		"--forward-max-request-bytes", "64KiB") // six of these spans: a request beyond the whole limit could never go
	w := r.start()
	r.send(torture.Client{Source: torture.Bulk(1, 1, 10_000), Exports: sent})
	hours := 0
	for before := 0; before < sent; hours++ {
		ctx, cancel := r.within()
		_, err := w.WaitStatus(ctx, "the hour to be used up, or nothing to be left", func(s *weirv1.GetStatusResponse) bool {
			return len(r.arrived()) > before && hourUsedUp(s)
		})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		before = len(r.arrived())
		r.moveTo(r.began.Add(time.Duration(hours+1) * time.Hour))
	}
	r.checkArrived(sent, 1)
	r.checkNeverRefused()
	if hours < 3 {
		t.Errorf("%d events took %d hours, with %d in each", sent, hours, limit)
	}
}

// TestPoliciesAtTheLimit has each of the other policies at work once.
func TestPoliciesAtTheLimit(t *testing.T) {
	t.Parallel()
	const limit, sent = 100, 300
	t.Run("drop", func(t *testing.T) {
		t.Parallel()
		r := newQuotaRig(t, smith.Config{}, limit, "--quota-policy", "drop")
		w := r.start()
		r.send(singles(1, 0, sent)...)
		w = r.restart(w)
		r.send(singles(1, 1, sent)...)
		q := r.waitQuota(w, "the limit to be used", func(q *sums) bool { return q.pending == 0 && q.used == limit })
		if q.dropped != sent-limit || q.held != 0 || q.discarded != 2*(sent-limit) {
			t.Errorf("weir says %+v, want %d traces dropped", q, sent-limit)
		}
		r.checkArrived(limit, 2)
	})
	t.Run("forward", func(t *testing.T) {
		t.Parallel()
		r := newQuotaRig(t, smith.Config{}, limit, "--quota-policy", "forward")
		w := r.start()
		r.send(singles(1, 0, sent)...)
		r.still(w, sent, 0)
		r.checkArrived(sent, 1)
	})
	t.Run("sample", func(t *testing.T) {
		t.Parallel()
		r := newQuotaRig(t, smith.Config{}, limit, "--quota-policy", "sample")
		w := r.start()
		r.send(singles(1, 0, sent)...)
		w = r.restart(w)
		r.send(singles(1, 1, sent)...)
		q := r.waitQuota(w, "nothing to be on its way", func(q *sums) bool { return q.pending == 0 && q.reserved == 0 })
		if q.used <= limit*8/10 || q.used > limit || q.dropped != sent-q.used || q.held != 0 {
			t.Errorf("weir says %+v; want between 80 and %d traces to be used and the others dropped", q, limit)
		}
		r.checkArrived(int(q.used), 2)
	})
	t.Run("pace", func(t *testing.T) {
		t.Parallel()
		end := time.Date(time.Now().UTC().Year(), time.Now().UTC().Month()+1, 1, 0, 0, 0, 0, time.UTC)
		const perDay = 10
		days := int(end.Sub(end.AddDate(0, -1, 14)) / (24 * time.Hour)) // from the 15th on
		r := newQuotaRig(t, smith.Config{}, days*perDay, "--quota-policy", "pace")
		w := r.start()
		r.known(w)
		r.send(singles(1, 0, 3*perDay-1)...)
		r.still(w, perDay, 2*perDay)
		r.kill(w)
		r.move(24 * time.Hour) // while it is down: between two clocks that move one by one there may be two days
		w = r.start()
		r.still(w, perDay+perDay/5, 2*perDay-perDay/5)
		r.send(singles(11, 0, 3*perDay)...)
		r.still(w, 2*perDay, 4*perDay)
		r.checkArrived(2*perDay, 1)
	})
}
