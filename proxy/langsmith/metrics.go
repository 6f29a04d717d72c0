package langsmith

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy/runs"
)

// ackBuckets fit a sync of the disk, 0.3 ms to 100 ms, and the wait for a full one.
var ackBuckets = []float64{0.0003, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// metrics counts what is received and what is passed on.
type metrics struct {
	requests   *prometheus.CounterVec   // endpoint, encoding, result
	refused    *prometheus.CounterVec   // endpoint, reason
	operations *prometheus.CounterVec   // kind
	message    *prometheus.CounterVec   // endpoint
	wire       *prometheus.CounterVec   // endpoint
	duration   *prometheus.HistogramVec // endpoint
	passed     *prometheus.CounterVec   // result
}

func newMetrics(reg prometheus.Registerer, inflight func() float64) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("weir_runs_receive_requests_total",
			"Requests with run operations by how they came and how they ended: accepted, empty, refused (for now), rejected (for good).",
			"endpoint", "encoding", "result"),
		refused: counter("weir_runs_receive_refused_total",
			"Requests with run operations not taken, by reason; whether for now or for good is in weir_runs_receive_requests_total.",
			"endpoint", "reason"),
		operations: counter("weir_runs_receive_operations_total", "Run operations acknowledged.", "kind"),
		message: counter("weir_runs_receive_message_bytes_total",
			"Bytes of acknowledged operations as they are kept, large attachments included.", "endpoint"),
		wire: counter("weir_runs_receive_wire_bytes_total", "Bytes of request bodies as they came.", "endpoint"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weir_runs_receive_duration_seconds",
			Help:    "Time from a complete request to its answer, the wait for the disk included.",
			Buckets: ackBuckets,
		}, []string{"endpoint"}),
		passed: counter("weir_passed_requests_total",
			"Requests passed on to LangSmith, by how that ended: answered, unreachable, timeout, canceled, or refused by weir for want of its ingest token.", "result"),
	}
	if reg == nil {
		return m, nil
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_runs_receive_inflight_bytes",
		Help: "Memory of requests with run operations that are not yet answered.",
	}, inflight)
	for _, c := range []prometheus.Collector{m.requests, m.refused, m.operations, m.message, m.wire, m.duration, m.passed, gauge} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// took counts a request that was acknowledged.
func (m *metrics) took(in *intake, began time.Time) {
	e := in.endpoint.String()
	result := "accepted"
	if len(in.ops) == 0 {
		result = "empty"
	}
	m.requests.WithLabelValues(e, in.encoding.String(), result).Inc()
	m.message.WithLabelValues(e).Add(float64(in.keptBytes))
	m.duration.WithLabelValues(e).Observe(time.Since(began).Seconds())
	var kinds [runs.Call + 1]int
	for i := range in.ops {
		kinds[in.ops[i].Kind]++
	}
	for k, n := range kinds {
		if n > 0 {
			m.operations.WithLabelValues(runs.Kind(k).String()).Add(float64(n))
		}
	}
}

// turnedAway counts a request that was not.
func (m *metrics) turnedAway(in *intake, r *refusal) {
	result := "rejected"
	if r.retryable {
		result = "refused"
	}
	e := in.endpoint.String()
	m.requests.WithLabelValues(e, in.encoding.String(), result).Inc()
	m.refused.WithLabelValues(e, r.reason).Inc()
}
