package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"weir/proxy/diagnose"
	"weir/queue"
)

// gather is what a pipeline's metrics say, by name.
func (r *rig) gather() map[string]*dto.MetricFamily {
	r.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	for _, c := range append(r.f.Collectors(), r.q.Collector()) {
		if err := reg.Register(c); err != nil {
			r.t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]*dto.MetricFamily{}
	for _, f := range families {
		out[f.GetName()] = f
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		r.t.Errorf("problems %v, error %v", problems, err)
	}
	return out
}

// values is one family, by its labels' values.
func values(f *dto.MetricFamily) map[string]float64 {
	out := map[string]float64{}
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetValue())
		}
		out[strings.Join(labels, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
	}
	return out
}

// TestDeliveryIsMeasuredFromAcceptance delivers by a clock that is an hour
// ahead, once as a whole and once with one item that is refused.
func TestDeliveryIsMeasuredFromAcceptance(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	r.reopen(func() { r.cfg.Now = func() time.Time { return time.Now().Add(time.Hour) } })
	r.f.Start(t.Context())
	r.accept(Caller{}, "a", "b")
	r.allDelivered(2)
	up.set(func(_ *Request, lines []string) Outcome {
		if slices.Contains(lines, "bad") {
			return refused(RefusedContent, 422)
		}
		return delivered(nil, nil)
	})
	r.accept(Caller{}, "c", "bad", "d")
	r.until("the rest", func(t queue.Totals) bool { return t.Delivered == 4 && t.Quarantined == 1 })

	got := r.gather()
	took := got["weir_forward_delivery_seconds"].GetMetric()
	if len(took) != 1 || took[0].GetHistogram().GetSampleCount() != 2 {
		t.Fatalf("delivery was measured as %v, want both frames", took)
	}
	if mean := took[0].GetHistogram().GetSampleSum() / 2; mean < 3600 || mean > 3700 {
		t.Errorf("delivery took %v s, want an hour", mean)
	}
	items, frames := got["weir_forward_request_items"].GetMetric()[0].GetHistogram(), got["weir_forward_request_frames"].GetMetric()[0].GetHistogram()
	if n := uint64(up.count()); items.GetSampleCount() != n || frames.GetSampleCount() != n || items.GetSampleSum() < 5 {
		t.Errorf("sizes of %d and %d requests with %v items, want of %d", items.GetSampleCount(), frames.GetSampleCount(), items.GetSampleSum(), n)
	}
	if at := values(got["weir_forward_last_delivered_timestamp_seconds"])[""]; at < float64(time.Now().Add(59*time.Minute).Unix()) {
		t.Errorf("last delivered at %v, want about an hour from now", at)
	}
	if got := values(got["weir_quarantine_opened_cases_total"]); len(got) != 1 {
		t.Errorf("cases opened are %v, want one", got)
	}
}

func TestLanesAndWaitsAreCountedByState(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	before := r.gather()
	if before["weir_forward_last_delivered_timestamp_seconds"] != nil {
		t.Error("there is a time of delivery, and nothing was delivered")
	}
	for i := range 3 {
		r.accept(Caller{Project: fmt.Sprint("p", i)}, "x")
	}
	up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "http_503", Scope: ScopeUpstream}
	})
	if diff := cmp.Diff(map[string]float64{"idle": 0, "sending": 3, "waiting": 0, "parked": 0}, values(r.gather()["weir_forward_lanes"])); diff != "" {
		t.Errorf("lanes before anything is sent (-want +got):\n%s", diff)
	}
	r.f.Start(t.Context())
	<-up.arrived
	r.until("the wait", func(queue.Totals) bool { return r.f.waits.count()[ScopeUpstream.String()] == 1 })
	got := r.gather()
	if diff := cmp.Diff(map[string]float64{"idle": 0, "sending": 0, "waiting": 3, "parked": 0}, values(got["weir_forward_lanes"])); diff != "" {
		t.Errorf("lanes in an outage (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]float64{"upstream": 1, "account": 0, "credential": 0, "lane": 0}, values(got["weir_forward_waits"])); diff != "" {
		t.Errorf("waits in an outage (-want +got):\n%s", diff)
	}
	if up, was := values(got["weir_forward_upstream_up"])[""], values(before["weir_forward_upstream_up"])[""]; up != 0 || was != 1 {
		t.Errorf("up is %v after %v, want 0 after 1", up, was)
	}
}

// TestSeriesAreBoundedWhateverCallersSend has a thousand lanes with names that
// are no labels, and as many keys and workspaces as are taken.
func TestSeriesAreBoundedWhateverCallersSend(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	send := func(n int) {
		for i := range n {
			c := Caller{Project: fmt.Sprintf("p\xff\"}\n%d", i)}
			if i%4 == 0 {
				c.APIKey, c.Workspace = fmt.Sprintf("lsv2_pt_key_of_a_caller_%04d", i%64), fmt.Sprintf("\xfe\xff%d", i)
			}
			r.accept(c, "x")
		}
	}
	send(8)
	few := r.gather()
	send(1000)
	many := r.gather()
	if n := values(many["weir_queue_lanes"])[""]; n < 1000 {
		t.Fatalf("%v lanes, want a thousand", n)
	}
	var total int
	for name, f := range many {
		n := len(f.GetMetric())
		total += n
		if !strings.HasPrefix(name, "weir_quota_") && n != len(few[name].GetMetric()) {
			t.Errorf("%s has %d series with a thousand lanes, %d with eight", name, n, len(few[name].GetMetric()))
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "of_a_caller") {
					t.Errorf("%s names a key: %s", name, l)
				}
			}
		}
	}
	if most := 12 * (maxQuotaSeries + 1); total > most {
		t.Errorf("%d series, want at most %d", total, most)
	}
}

func TestCausesAreThoseOfTheCatalogue(t *testing.T) {
	for code, want := range map[diagnose.Code]string{diagnose.KeyRevoked: "key_revoked", "of_a_later_version": "unknown", "\xff": "unknown", "": "unknown"} {
		if got := causeLabel(code); got != want {
			t.Errorf("the label of %q is %q, want %q", code, got, want)
		}
	}
	if !slices.Equal(slices.Sorted(maps.Values(laneStateNames)), []string{"idle", "parked", "sending", "waiting"}) {
		t.Errorf("names of states are %v", laneStateNames)
	}
}
