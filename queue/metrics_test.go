package queue

import (
	"context"
	"strings"
	"testing"

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
		"weir_queue_refused_exports_total/buffer_full": 1, "weir_queue_commit_seconds": 3, "weir_queue_lanes": 1,
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
