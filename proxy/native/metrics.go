package native

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy/runs"
)

// ackBuckets fit a sync of the disk, 0.3 ms to 100 ms, and the wait for a full one.
var ackBuckets = []float64{0.0003, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// metrics counts what is received.
type metrics struct {
	requests   *prometheus.CounterVec // method, result
	refused    *prometheus.CounterVec // method, reason
	operations *prometheus.CounterVec // kind
	invalid    prometheus.Counter
	message    prometheus.Counter
	duration   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, inflight func() float64) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("weir_native_receive_requests_total",
			"Requests of the native API by how they came and how they ended: accepted, empty, refused (for now), rejected (for good).", "method", "result"),
		refused: counter("weir_native_receive_refused_total",
			"Requests of the native API not taken, by reason.", "method", "reason"),
		operations: counter("weir_native_receive_operations_total", "Run operations acknowledged.", "kind"),
		invalid: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_native_receive_invalid_operations_total", Help: "Run operations that were not kept because something in them is wrong.",
		}),
		message: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_native_receive_message_bytes_total", Help: "Bytes of acknowledged operations as they are kept.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "weir_native_receive_duration_seconds",
			Help:    "Time from a complete request to its answer, the wait for the disk included.",
			Buckets: ackBuckets,
		}),
	}
	if reg == nil {
		return m, nil
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_native_receive_inflight_bytes", Help: "Memory of requests of the native API that are not yet answered.",
	}, inflight)
	for _, c := range []prometheus.Collector{m.requests, m.refused, m.operations, m.invalid, m.message, m.duration, gauge} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// ended counts a request and what became of it.
func (m *metrics) ended(in *intake, r *refusal) {
	m.invalid.Add(float64(in.bad))
	switch {
	case r == nil && len(in.results) == 0:
		m.requests.WithLabelValues(in.method, "empty").Inc()
		return
	case r != nil:
		result := "rejected"
		if r.retryAfter > 0 {
			result = "refused"
		}
		m.requests.WithLabelValues(in.method, result).Inc()
		m.refused.WithLabelValues(in.method, r.reason).Inc()
		return
	}
	m.requests.WithLabelValues(in.method, "accepted").Inc()
	m.message.Add(float64(in.keptBytes))
	m.duration.Observe(time.Since(in.began).Seconds())
	for _, kind := range []runs.Kind{runs.Create, runs.Update, runs.Feedback, runs.Attachment, runs.Call} {
		if n := in.kinds[kind]; n > 0 {
			m.operations.WithLabelValues(kind.String()).Add(float64(n))
		}
	}
}
