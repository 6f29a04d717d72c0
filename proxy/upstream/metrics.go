package upstream

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy"
)

// metrics are the client's metrics. One exchange counts once; a send that
// falls back to another encoding is two exchanges.
type metrics struct {
	requests *prometheus.CounterVec
	wire     *prometheus.CounterVec
	raw      *prometheus.CounterVec
	encoded  *prometheus.CounterVec
	answers  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	rejected prometheus.Counter
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_upstream_requests_total",
			Help: "Exchanges with the upstream by protocol, outcome (delivered, retry, refused, interrupted) and reason.",
		}, []string{"protocol", "outcome", "reason"}),
		wire: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_upstream_sent_bytes_total",
			Help: "Request body bytes given to the connection, as encoded.",
		}, []string{"protocol", "encoding"}),
		raw: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_upstream_delivered_raw_bytes_total",
			Help: "Uncompressed bytes of the requests that were delivered.",
		}, []string{"protocol", "encoding"}),
		encoded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_upstream_delivered_bytes_total",
			Help: "Bytes of the requests that were delivered, as encoded.",
		}, []string{"protocol", "encoding"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_upstream_responses_total",
			Help: "Exchanges with the upstream by HTTP status; none where no answer came, other for statuses that nobody has defined.",
		}, []string{"code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weir_upstream_request_duration_seconds",
			Help:    "Time of an exchange with the upstream, encoding the body included.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"outcome"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_upstream_rejected_spans_total",
			Help: "Spans the upstream said it rejected in requests it took (OTLP partial success).",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_upstream_requests_in_flight",
			Help: "Exchanges with the upstream under way.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	err := errors.Join(register(reg, &m.requests), register(reg, &m.wire), register(reg, &m.raw), register(reg, &m.encoded), register(reg, &m.answers),
		register(reg, &m.duration), register(reg, &m.rejected), register(reg, &m.inFlight))
	if err != nil {
		return nil, fmt.Errorf("register upstream metrics: %w", err)
	}
	return m, nil
}

// register registers *c, or makes *c the collector that an earlier client
// registered, so that counters go on over a reload.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	var already prometheus.AlreadyRegisteredError
	if !errors.As(err, &already) {
		return err
	}
	existing, ok := already.ExistingCollector.(C)
	if !ok {
		return err
	}
	*c = existing
	return nil
}

// observe counts an exchange that ended in out.
func (m *metrics) observe(out *proxy.Outcome, a *attempt) {
	kind, protocol, encoding := out.Kind.String(), a.request.Protocol.String(), string(a.encoding)
	m.requests.WithLabelValues(protocol, kind, out.Reason).Inc()
	m.duration.WithLabelValues(kind).Observe(out.Exchange.Elapsed.Seconds())
	m.wire.WithLabelValues(protocol, encoding).Add(float64(out.Exchange.SentBytes))
	m.answers.WithLabelValues(codeLabel(out.Exchange.Status)).Inc()
	if out.Kind == proxy.Delivered {
		m.encoded.WithLabelValues(protocol, encoding).Add(float64(out.Exchange.SentBytes))
		m.raw.WithLabelValues(protocol, encoding).Add(float64(a.message.rawBytes))
	}
}

// codeLabel is a status as a label. The server does not choose how many there
// are.
func codeLabel(status int) string {
	if status == 0 {
		return "none"
	}
	return strings.TrimPrefix(statusReason(status), "http_")
}
