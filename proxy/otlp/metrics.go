package otlp

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// transport is how an export came, named as OTEL_EXPORTER_OTLP_PROTOCOL does.
type transport uint8

const (
	transportGRPC transport = iota
	transportHTTPProtobuf
	transportHTTPJSON
	transports
)

func (t transport) String() string {
	return [transports]string{"grpc", "http/protobuf", "http/json"}[t]
}

// compression is how an export was compressed.
type compression uint8

const (
	encodingIdentity compression = iota
	encodingGzip
	encodingZstd
	encodingOther
	compressions
)

func (e compression) String() string {
	return [compressions]string{"identity", "gzip", "zstd", "other"}[e]
}

// result is how a request ended.
type result uint8

const (
	resultAccepted result = iota // durable, acknowledged
	resultEmpty                  // nothing to keep, acknowledged
	resultRefused                // come again
	resultRejected               // do not come again
	results
)

func (r result) String() string {
	return [results]string{"accepted", "empty", "refused", "rejected"}[r]
}

// ackBuckets fit a sync of the disk, 0.3 ms to 100 ms, and the wait for a full one.
var ackBuckets = []float64{0.0003, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// metrics counts what is received. Counters of the hot path are resolved once,
// because looking one up by label costs more than scanning a span.
type metrics struct {
	requests [transports][compressions][results]prometheus.Counter
	spans    [transports]prometheus.Counter
	message  [transports]prometheus.Counter
	wire     [transports]prometheus.Counter
	duration [transports]prometheus.Observer

	refused            *prometheus.CounterVec // transport, reason
	connections        *prometheus.GaugeVec   // listener
	refusedConnections *prometheus.CounterVec // listener
}

func newMetrics(reg prometheus.Registerer, inflight func() float64) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_receive_requests_total",
		Help: "OTLP export requests by how they came and how they ended: accepted, empty, refused (for now), rejected (for good).",
	}, []string{"transport", "encoding", "result"})
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_receive_spans_total",
		Help: "Spans acknowledged.",
	}, []string{"transport"})
	message := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_receive_message_bytes_total",
		Help: "Bytes of export messages after decompression.",
	}, []string{"transport"})
	wire := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_receive_wire_bytes_total",
		Help: "Bytes as they came: request bodies over HTTP, everything read from connections over gRPC.",
	}, []string{"transport"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "weir_receive_duration_seconds",
		Help:    "Time from a complete message to its answer, the wait for the disk included.",
		Buckets: ackBuckets,
	}, []string{"transport"})
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receive_refused_total",
			Help: "Export requests not taken, by reason; whether for now or for good is in weir_receive_requests_total.",
		}, []string{"transport", "reason"}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_receive_connections",
			Help: "Open connections.",
		}, []string{"listener"}),
		refusedConnections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receive_refused_connections_total",
			Help: "Connections closed at once because the listener had as many as it may.",
		}, []string{"listener"}),
	}
	for t := range transports {
		for e := range compressions {
			for r := range results {
				m.requests[t][e][r] = requests.WithLabelValues(t.String(), e.String(), r.String())
			}
		}
		m.spans[t] = spans.WithLabelValues(t.String())
		m.message[t] = message.WithLabelValues(t.String())
		m.wire[t] = wire.WithLabelValues(t.String())
		m.duration[t] = duration.WithLabelValues(t.String())
	}
	if reg == nil {
		return m, nil
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_receive_inflight_bytes",
		Help: "Bytes of messages that have arrived and are not yet answered.",
	}, inflight)
	for _, c := range []prometheus.Collector{requests, spans, message, wire, duration, m.refused, m.connections, m.refusedConnections, gauge} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// origin is how a request came.
type origin struct {
	transport transport
	encoding  compression
}

// took counts a request that was acknowledged.
func (m *metrics) took(o origin, spans, messageBytes int, began time.Time) {
	r := resultAccepted
	if spans == 0 {
		r = resultEmpty
	}
	m.requests[o.transport][o.encoding][r].Inc()
	m.spans[o.transport].Add(float64(spans))
	m.message[o.transport].Add(float64(messageBytes))
	m.duration[o.transport].Observe(time.Since(began).Seconds())
}

// turnedAway counts a request that was not.
func (m *metrics) turnedAway(o origin, reason string, retryable bool) {
	r := resultRejected
	if retryable {
		r = resultRefused
	}
	m.requests[o.transport][o.encoding][r].Inc()
	m.refused.WithLabelValues(o.transport.String(), reason).Inc()
}
