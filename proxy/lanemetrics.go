package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// laneCollector shows what the lanes are doing and what is waited for, read
// anew for each scrape. Lanes are counted by state, not named: callers choose
// projects, so that names would make series without end.
type laneCollector struct {
	f *Forwarder

	lanes, waits, up, delivered *prometheus.Desc
}

func newLaneCollector(f *Forwarder) *laneCollector {
	return &laneCollector{
		f: f,
		lanes: prometheus.NewDesc("weir_forward_lanes",
			"Lanes, by state: idle, sending (or about to), waiting (for an outage or a limit to end), parked (refused, probed now and then).",
			[]string{"state"}, nil),
		waits: prometheus.NewDesc("weir_forward_waits",
			"Pauses in force, by whose they are: upstream (network, 5xx), account (a limit), credential (a key that is refused), lane.",
			[]string{"scope"}, nil),
		up: prometheus.NewDesc("weir_forward_upstream_up",
			"0 while everything waits because the network or the upstream fails, else 1.", nil, nil),
		delivered: prometheus.NewDesc("weir_forward_last_delivered_timestamp_seconds",
			"When the upstream last took something, in Unix time; absent until it does in this process.", nil, nil),
	}
}

// laneStateNames are the states as labels.
var laneStateNames = map[LaneState]string{
	LaneIdle: "idle", LaneSending: "sending", LaneWaiting: "waiting", LaneParked: "parked",
}

// Describe implements prometheus.Collector.
func (c *laneCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.lanes, c.waits, c.up, c.delivered} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *laneCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	states := map[LaneState]int{}
	lanes := c.f.q.Lanes()
	for i := range lanes {
		states[c.f.laneStatus(lanes[i]).State]++
	}
	for state, name := range laneStateNames {
		gauge(c.lanes, float64(states[state]), name)
	}
	waits := c.f.waits.count()
	for _, scope := range []Scope{ScopeUpstream, ScopeAccount, ScopeCredential, ScopeLane} {
		gauge(c.waits, float64(waits[scope.String()]), scope.String())
	}
	up := 1.0
	if waits[ScopeUpstream.String()] > 0 {
		up = 0
	}
	gauge(c.up, up)
	c.f.mu.Lock()
	last := c.f.lastDelivered
	c.f.mu.Unlock()
	if !last.IsZero() {
		gauge(c.delivered, float64(last.UnixNano())/float64(time.Second))
	}
}

// count counts the waits in force by the name of their scope.
func (w *waits) count() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, one := range w.m {
		out[one.Scope]++
	}
	return out
}
