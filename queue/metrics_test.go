package queue

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestCollectorReportsEveryMetricOfItsTable(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	mustAppend(t, q, export("a", 10, 1, 2))
	mustAppend(t, q, export("a", 10, 3))
	l := leaseAllOf(t, q, laneID(q, "a"))[0]
	if err := l.Settle(Settlement{Frame: 0, Result: ResultDropped, Reason: "policy"}); err != nil {
		t.Fatal(err)
	}
	q.metrics.refused(&FullError{Reason: "buffer_full"})
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(q.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Metric{}
	values := map[string]float64{}
	for _, f := range families {
		m := Metric{Name: f.GetName(), Help: f.GetHelp(), Type: strings.ToLower(f.GetType().String())}
		for _, series := range f.GetMetric() {
			key := m.Name
			m.Labels = nil
			for _, label := range series.GetLabel() {
				m.Labels = append(m.Labels, label.GetName())
				key += "/" + label.GetValue()
			}
			values[key] = series.GetGauge().GetValue() + series.GetCounter().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
		got[m.Name] = m
	}
	want := map[string]Metric{}
	for _, m := range Metrics() {
		want[m.Name] = m
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-table +collected):\n%s", diff)
	}
	for key, n := range map[string]float64{
		"weir_queue_items/pending": 1, "weir_queue_accepted_items_total": 3, "weir_queue_dropped_items_total/policy": 2,
		"weir_queue_refused_exports_total/buffer_full": 1, "weir_queue_commit_failures_total": 0, "weir_queue_commit_seconds": 3, "weir_queue_lanes": 1,
	} {
		if values[key] != n {
			t.Errorf("%s is %v, want %v", key, values[key], n)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Gather(); err != nil {
		t.Errorf("scraped after Close: %v", err)
	}
	if err := q.Append(context.Background(), export("a", 1, 9)); err == nil {
		t.Error("append after Close")
	}
}

// TestCompressionIsCounted accepts a megabyte that compresses well and checks
// that both sizes are told, also of data that has gone meanwhile.
func TestCompressionIsCounted(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	one := export("a", 10, 1)
	one.Payload = []byte(strings.Repeat("a span looks like another ", 40_000))
	mustAppend(t, q, one)
	got := gathered(t, q)
	raw, stored := got["weir_queue_accepted_raw_bytes_total"], got["weir_queue_accepted_stored_bytes_total"]
	if raw != float64(len(one.Payload)) || stored < frameHeaderBytes || stored > raw/10 {
		t.Errorf("%v bytes are stored as %v, want %d as at most a tenth", raw, stored, len(one.Payload))
	}
	if err := leaseAllOf(t, q, laneID(q, "a"))[0].Settle(Settlement{Result: ResultDelivered}); err != nil {
		t.Fatal(err)
	}
	if after := gathered(t, q); after["weir_queue_accepted_raw_bytes_total"] != raw || after["weir_queue_accepted_stored_bytes_total"] != stored {
		t.Errorf("a settlement changed what was accepted: %v and %v", raw, stored)
	}
}

// TestAgesAreOfTheOldest has data in each state and looks at the ages an hour
// later.
func TestAgesAreOfTheOldest(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	cfg := smallConfig(t.TempDir())
	cfg.now = func() time.Time { return now }
	q := mustOpen(t, cfg)
	ages := func() [3]float64 {
		got := gathered(t, q)
		return [3]float64{
			got["weir_queue_oldest_age_seconds/pending"], got["weir_queue_oldest_age_seconds/held"],
			got["weir_queue_oldest_age_seconds/quarantined"],
		}
	}
	if got := ages(); got != [3]float64{} {
		t.Errorf("ages of nothing are %v, want 0", got)
	}
	mustAppend(t, q, export("a", 10, 1))
	place, err := q.OpenCase(Case{Lane: laneID(q, "a"), Kind: CaseQuarantine})
	if err != nil {
		t.Fatal(err)
	}
	if err := leaseAllOf(t, q, laneID(q, "a"))[0].Settle(Settlement{Result: ResultKept, Place: place}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	mustAppend(t, q, export("b", 10, 2))
	now = now.Add(time.Hour)
	mustAppend(t, q, export("c", 10, 3))
	if got, want := ages(), [3]float64{3600, 0, 7200}; got != want {
		t.Errorf("ages are %v, want %v", got, want)
	}
	now = now.Add(-48 * time.Hour) // the clock is set back
	if got := ages(); got != [3]float64{} {
		t.Errorf("ages by a clock that was set back are %v, want none below 0", got)
	}
}

// TestDropsThatMayComeAreThereBefore: what an alert looks at must have been 0.
func TestDropsThatMayComeAreThereBefore(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.DropReasons = []string{"policy", "age"}
	q := mustOpen(t, cfg)
	const policy, age = "weir_queue_dropped_items_total/policy", "weir_queue_dropped_items_total/age"
	before := gathered(t, q)
	for _, name := range []string{policy, age} {
		if n, there := before[name]; !there || n != 0 {
			t.Errorf("%s is %v, there: %t; want 0", name, n, there)
		}
	}
	mustAppend(t, q, export("a", 10, 1))
	if err := leaseAllOf(t, q, laneID(q, "a"))[0].Settle(Settlement{Result: ResultDropped, Reason: "policy"}); err != nil {
		t.Fatal(err)
	}
	if after := gathered(t, q); after[policy] != 1 || after[age] != 0 {
		t.Errorf("drops are %v and %v, want 1 and 0", after[policy], after[age])
	}
}

func TestReasonsOfDropsAreFewAndFitToBeLabels(t *testing.T) {
	counts := map[string]int64{"\xff\xfe": 1_000_000}
	for i := range 1000 {
		counts[strings.Repeat("x", i+1)] = int64(i + 1)
	}
	got := boundedReasons(counts)
	var sum, want int64
	for reason, n := range got {
		sum += n
		if !utf8.ValidString(reason) {
			t.Errorf("%q is no label", reason)
		}
	}
	for _, n := range counts {
		want += n
	}
	if len(got) != maxReasons+1 || sum != want || got["\uFFFD"] != 1_000_000 {
		t.Errorf("%d reasons with %d items, want %d with %d", len(got), sum, maxReasons+1, want)
	}
}

// gathered is what the collector of a queue says, "name/label" to value.
func gathered(t *testing.T, q *Queue) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(q.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			key := f.GetName()
			for _, label := range series.GetLabel() {
				key += "/" + label.GetValue()
			}
			out[key] = series.GetGauge().GetValue() + series.GetCounter().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return out
}
