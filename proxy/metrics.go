package proxy

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// forwardMetrics counts what became of what was sent.
type forwardMetrics struct {
	outcomes    *prometheus.CounterVec
	items       *prometheus.CounterVec
	quarantined prometheus.Counter
	storeErrors prometheus.Counter
	coalesced   prometheus.Counter
	presumed    prometheus.Counter
	duplicates  prometheus.Counter
	restamped   prometheus.Counter

	sentBytes atomic.Int64 // of requests, as encoded
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
		coalesced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_forward_coalesced_operations_total", Help: "Updates of runs that left as part of their create.",
		}),
		presumed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_forward_presumed_operations_total", Help: "Run operations that count as delivered because a 409 followed a lost answer.",
		}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_forward_duplicate_operations_total", Help: "Run operations that the upstream said it has already (409); they are kept in quarantine.",
		}),
		restamped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_restamped_traces_total", Help: "Traces whose times were moved, because they lay outside the upstream's start-time window.",
		}),
	}
}

func (m *forwardMetrics) count(o *Outcome, items int) {
	m.outcomes.WithLabelValues(o.Kind.String(), o.Reason).Inc()
	m.items.WithLabelValues(o.Kind.String()).Add(float64(items))
	m.sentBytes.Add(int64(o.Exchange.SentBytes))
}

// Collectors returns the forwarder's metrics, to be registered once.
func (f *Forwarder) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		f.m.outcomes, f.m.items, f.m.quarantined, f.m.storeErrors, f.m.coalesced, f.m.presumed, f.m.duplicates, f.m.restamped,
		newQuotaCollector(f.QuotaStatus), newCaseCollector(f.Quarantine),
	}
}
