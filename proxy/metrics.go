package proxy

import "github.com/prometheus/client_golang/prometheus"

// forwardMetrics counts what became of what was sent.
type forwardMetrics struct {
	outcomes    *prometheus.CounterVec
	items       *prometheus.CounterVec
	quarantined prometheus.Counter
	storeErrors prometheus.Counter
}

func newForwardMetrics() *forwardMetrics {
	return &forwardMetrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_forward_requests_total", Help: "Requests sent upstream, by outcome and reason.",
		}, []string{"outcome", "reason"}),
		items: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_forward_items_total", Help: "Spans and run operations in requests sent upstream, by outcome.",
		}, []string{"outcome"}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_forward_quarantined_items_total", Help: "Items moved into quarantine.",
		}),
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_forward_store_errors_total", Help: "Times the buffer could not be read or settled.",
		}),
	}
}

func (m *forwardMetrics) count(o *Outcome, items int) {
	m.outcomes.WithLabelValues(o.Kind.String(), o.Reason).Inc()
	m.items.WithLabelValues(o.Kind.String()).Add(float64(items))
}

// Collectors returns the forwarder's metrics, to be registered once.
func (f *Forwarder) Collectors() []prometheus.Collector {
	return []prometheus.Collector{f.m.outcomes, f.m.items, f.m.quarantined, f.m.storeErrors}
}
