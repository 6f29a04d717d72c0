package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/queue"
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
	opened      *prometheus.CounterVec
	probes      *prometheus.CounterVec

	requestItems, requestBytes, requestFrames prometheus.Histogram
	took                                      *prometheus.HistogramVec

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
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_quarantine_opened_cases_total", Help: "Cases opened, by the cause that was thought of at first (docs/diagnosis.md).",
		}, []string{"cause"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_diagnosis_probes_total", Help: "Questions put to the upstream to tell causes apart, by probe and result: answered, failed.",
		}, []string{"probe", "result"}),
		requestItems: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_forward_request_items", Help: "Spans or run operations in a request sent upstream.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 9),
		}),
		requestBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_forward_request_bytes", Help: "Uncompressed bytes of a request sent upstream.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 9),
		}),
		requestFrames: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_forward_request_frames", Help: "Stored frames joined in a request of spans sent upstream.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weir_forward_delivery_seconds",
			Help:    "Time from a frame's acceptance to its settlement as delivered, at least in part, by protocol of the data.",
			Buckets: deliveryBuckets,
		}, []string{"protocol"}),
	}
}

// deliveryBuckets reach from a request that went at once to a month's hold.
var deliveryBuckets = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 6 * 3600, 86400, 7 * 86400, 31 * 86400}

// count counts a request that was sent: its outcome, and how large it was.
func (m *forwardMetrics) count(o *Outcome, r *Request, bytes int64) {
	m.outcomes.WithLabelValues(o.Kind.String(), o.Reason).Inc()
	m.items.WithLabelValues(o.Kind.String()).Add(float64(r.Items))
	m.requestItems.Observe(float64(r.Items))
	m.requestBytes.Observe(float64(bytes))
	if len(r.Parts) > 0 {
		m.requestFrames.Observe(float64(len(r.Parts)))
	}
	m.sentBytes.Add(int64(o.Exchange.SentBytes))
}

// settled notes how long what was delivered took, by the ages its frames had.
func (m *forwardMetrics) settled(p Protocol, ages []time.Duration) {
	if len(ages) == 0 {
		return
	}
	took := m.took.WithLabelValues(p.String()) // once for the request
	for _, age := range ages {
		took.Observe(age.Seconds())
	}
}

// deliveredAges is how long ago the frames were accepted of which settlements
// deliver something. A clock that was set back makes none younger than 0.
func deliveredAges(l *queue.Lease, settlements []queue.Settlement, now time.Time) []time.Duration {
	ages := make([]time.Duration, 0, len(settlements))
	for i := range settlements {
		s := &settlements[i]
		if s.Result == queue.ResultDelivered || s.Delivered > 0 {
			ages = append(ages, max(now.Sub(l.Frames[s.Frame].AcceptedAt), 0))
		}
	}
	return ages
}

// Collectors returns the forwarder's metrics, to be registered once.
func (f *Forwarder) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		f.m.outcomes, f.m.items, f.m.quarantined, f.m.storeErrors, f.m.coalesced, f.m.presumed, f.m.duplicates, f.m.restamped,
		f.m.opened, f.m.probes, f.m.requestItems, f.m.requestBytes, f.m.requestFrames, f.m.took,
		newQuotaCollector(f.QuotaStatus), newCaseCollector(f.caseTallies), newLaneCollector(f),
	}
}
