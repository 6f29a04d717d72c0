package torture_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"weir/internal/smith"
	"weir/internal/torture"
	weirv1 "weir/proto/weir/v1"
)

// quotaRig is a rig whose clocks can be moved.
type quotaRig struct {
	*rig

	clock string    // the file that moves weir's
	began time.Time // in the middle of a month, ten minutes into an hour
	moved time.Duration
}

// newQuotaRig prepares a scenario with a monthly limit of weir's own.
func newQuotaRig(t *testing.T, cfg smith.Config, limit int, args ...string) *quotaRig {
	t.Helper()
	r := &quotaRig{rig: newRig(t, cfg, append([]string{"--quota-traces", strconv.Itoa(limit)}, args...)...)}
	bin, err := movable()
	if err != nil {
		t.Fatal(err)
	}
	r.clock = filepath.Join(r.SocketDir, "clock")
	r.Binary, r.Env = bin, append(r.Env, "WEIR_TEST_CLOCK="+r.clock)
	now := time.Now().UTC()
	r.began = time.Date(now.Year(), now.Month(), 15, 12, 10, 0, 0, time.UTC)
	r.move(r.began.Sub(now))
	return r
}

// move moves both clocks on. The look-alike's goes first: this machine's may be
// behind the service's, and never jumps an hour ahead of it.
func (r *quotaRig) move(by time.Duration) {
	r.t.Helper()
	r.moved += by
	err := errors.Join(
		r.up.SetClockOffset(r.moved), os.WriteFile(r.clock+".new", []byte(r.moved.String()), 0o600), os.Rename(r.clock+".new", r.clock),
	)
	if err != nil {
		r.t.Fatal(err)
	}
}

// moveTo moves both clocks to a time.
func (r *quotaRig) moveTo(at time.Time) {
	r.t.Helper()
	r.move(at.Sub(time.Now().Add(r.moved)))
}

// turnMonth moves both clocks beyond the next month's turn and the time in which
// held traces are released then.
func (r *quotaRig) turnMonth(w *torture.Weir) {
	r.t.Helper()
	turn := time.Date(r.began.Year(), r.began.Month()+1, 1, 0, 1, 0, 0, time.UTC)
	r.moveTo(turn)
	r.waitQuota(w, "the month to turn", func(q *sums) bool { return q.month == turn.Format("2006-01") })
	r.moveTo(turn.Add(10 * time.Minute))
}

// restart kills weir and starts it again.
func (r *quotaRig) restart(w *torture.Weir) *torture.Weir {
	r.t.Helper()
	r.kill(w)
	return r.start()
}

// known sends one trace and waits until weir knows whose its key is: it asks
// again after a while by its clock.
func (r *quotaRig) known(w *torture.Weir) {
	r.t.Helper()
	r.send(torture.Client{Source: torture.Traces(900, 1, 0), Exports: 1})
	r.waitQuota(w, "the first trace to be delivered", func(q *sums) bool { return q.pending == 0 && q.used == 1 })
	r.move(2 * time.Minute)
	r.waitQuota(w, "the tenant to be known", func(q *sums) bool { return q.accounts == 1 && !q.provisional })
}

// sums are the figures of all accounts together.
type sums struct {
	month                               string
	used, reserved, held, dropped       int64
	accounts                            int
	provisional                         bool
	refused                             string
	releases                            int
	pending, accepted, total, discarded int64 // items, of weir status
}

// quota reads weir's figures.
func (r *quotaRig) quota(w *torture.Weir) (*sums, error) {
	ctx, cancel := r.within()
	defer cancel()
	out, _, err := r.Command(ctx, "quota", "show", "--json")
	if err != nil {
		return nil, err
	}
	var answer weirv1.GetQuotaResponse
	if err := protojson.Unmarshal(out, &answer); err != nil {
		return nil, err
	}
	st, err := w.Status(ctx)
	if err != nil {
		return nil, err
	}
	t := st.GetTotals()
	q := &sums{
		accounts: len(answer.GetScopes()), pending: t.GetPendingItems(), accepted: t.GetAcceptedItems(), discarded: t.GetDroppedItems(),
		total: t.GetDeliveredItems() + t.GetPendingItems() + t.GetHeldItems() + t.GetQuarantinedItems() + t.GetDroppedItems(),
	}
	for _, s := range answer.GetScopes() {
		q.month = s.GetMonth()
		q.used += int64(s.GetTracesUsed())
		q.reserved += int64(s.GetTracesReserved())
		q.held += int64(s.GetTracesHeld())
		q.dropped += int64(s.GetTracesDropped())
		q.provisional = q.provisional || s.GetProvisional()
		q.refused += s.GetRefusedReason()
		q.releases += len(s.GetReleases())
	}
	return q, nil
}

// waitQuota waits until weir's figures meet a condition, and checks that
// everything accepted is somewhere.
func (r *quotaRig) waitQuota(w *torture.Weir, what string, met func(*sums) bool) *sums {
	r.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		q, err := r.quota(w)
		if err != nil {
			r.t.Fatal(err)
		}
		if met(q) {
			if q.accepted != q.total {
				r.t.Errorf("conservation: %d items were accepted, %d are accounted for", q.accepted, q.total)
			}
			return q
		}
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("waiting for %s: %+v; the look-alike: %+v\n%s", what, q, r.up.Usage(), w.Log())
		}
	}
}

// still waits until nothing is on its way, and expects so many traces to be
// used and held.
func (r *quotaRig) still(w *torture.Weir, used, held int64) {
	r.t.Helper()
	r.waitQuota(w, "used="+strconv.FormatInt(used, 10)+" held="+strconv.FormatInt(held, 10)+" and nothing pending", func(q *sums) bool {
		return q.pending == 0 && q.reserved == 0 && q.used == used && q.held == held
	})
}

// arrived are the traces that have reached the look-alike, with how many spans
// of each.
func (r *quotaRig) arrived() map[[16]byte]int {
	traces := map[[16]byte]int{}
	for id := range r.up.SpanIDs() {
		traces[id.Trace]++
	}
	return traces
}

// checkArrived expects so many traces to have arrived, each with so many spans.
func (r *quotaRig) checkArrived(traces, spans int) {
	r.t.Helper()
	got := r.arrived()
	if len(got) != traces {
		r.t.Errorf("%d traces have arrived, want %d", len(got), traces)
	}
	for id, n := range got {
		if n != spans {
			r.t.Errorf("%d spans of trace %x have arrived, want %d", n, id, spans)
		}
	}
}

// checkNeverRefused expects that the look-alike refused nothing for a limit.
func (r *quotaRig) checkNeverRefused() {
	r.t.Helper()
	for _, u := range r.up.Usage() {
		if len(u.Refused)+len(u.Lost) > 0 {
			r.t.Errorf("the look-alike has refused requests: %v, lost %v", u.Refused, u.Lost)
		}
	}
}

// monthly is what the look-alike counts of its present month.
func (r *quotaRig) monthly() int64 { return r.up.MonthlyTraces(smith.DefaultTenant, r.up.Now()) }

// singles are clients that send so many traces altogether, one an export.
func singles(seed uint64, part uint8, traces int) []torture.Client {
	half := traces / 2
	return []torture.Client{
		{Source: torture.Traces(seed, 1, part), Exports: half},
		{Source: torture.Traces(seed+1, 1, part), Exports: traces - half, HTTP: true, Gzip: rand.IntN(2) == 0},
	}
}

// with has clients send a key of their own.
func with(key string, clients []torture.Client) []torture.Client {
	clients = slices.Clone(clients)
	for i := range clients {
		clients[i].APIKey = key
	}
	return clients
}

// hourUsedUp reports whether nothing is left to send, or what is waits for the
// next hour.
func hourUsedUp(s *weirv1.GetStatusResponse) bool {
	if nothingPending(s) {
		return true
	}
	// weir's own count says so, or LangSmith if it was asked meanwhile.
	return slices.ContainsFunc(s.GetLanes(), func(l *weirv1.Lane) bool {
		return l.GetReason() == "hour_limit" || l.GetReason() == "quota_hour"
	})
}
