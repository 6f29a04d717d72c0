package llmspans

import (
	"encoding/binary"
	"math/rand/v2"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// SeqAttribute is the integer span attribute that repeats a span's number.
const SeqAttribute = "weir.test.seq"

const (
	// epochUnixNano is the start time of the first span: 2026-01-01 UTC. Times
	// do not come from a clock, or the same seed would give different bytes.
	epochUnixNano = 1_767_225_600_000_000_000
	// spanIDSeqBits is how much of a span id is the span's number; the rest
	// tells generators of different seeds apart.
	spanIDSeqBits = 48
)

// ID says which span of a generator's sequence a payload holds.
type ID struct {
	Seq     uint64 // 1 for a generator's first span
	TraceID [16]byte
	SpanID  [8]byte
}

// Generator makes requests. It is not safe for concurrent use: give every
// goroutine its own, with a seed of its own.
type Generator struct {
	rng     *rand.Rand
	text    *prose
	seed    uint64
	seq     uint64 // number of the last span made
	traces  uint64 // number of the last trace made
	service string
	// question is what the user of the current trace asked.
	question string
}

// New returns a generator whose output depends on seed alone. Generators of
// different seeds make different trace and span ids (span ids for seeds that
// differ in their lowest 16 bits).
func New(seed uint64) *Generator {
	rng := rand.New(rand.NewPCG(seed, 0x77656972))
	return &Generator{
		rng:     rng,
		text:    newProse(rng),
		seed:    seed,
		service: services[rng.IntN(len(services))],
	}
}

// Request returns a serialized OTLP ExportTraceServiceRequest with n spans
// (none if n is not positive) in traces of one to twelve spans, and the ids of
// the spans in the order in which they appear.
func (g *Generator) Request(n int) (payload []byte, ids []ID) {
	ids = make([]ID, 0, max(n, 0))
	spans := make([]*trace.Span, 0, max(n, 0))
	for len(spans) < n {
		size := min(1+g.rng.IntN(12), n-len(spans))
		spans, ids = g.appendTrace(spans, ids, size)
	}
	req := &tracecollector.ExportTraceServiceRequest{}
	if len(spans) > 0 {
		req.ResourceSpans = []*trace.ResourceSpans{{
			Resource: g.resource(),
			ScopeSpans: []*trace.ScopeSpans{{
				Scope: &common.InstrumentationScope{Name: "opentelemetry.instrumentation.openai_v2", Version: "2.3b0"},
				Spans: spans,
			}},
			SchemaUrl: "https://opentelemetry.io/schemas/1.37.0",
		}}
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		// The generator writes only UTF-8 text into string fields, and
		// nothing else can fail.
		panic("llmspans: marshal a generated request: " + err.Error())
	}
	return payload, ids
}

// Seq returns the number of the span with this id, which must have been made
// by a Generator.
func Seq(spanID [8]byte) uint64 {
	return binary.BigEndian.Uint64(spanID[:]) & (1<<spanIDSeqBits - 1)
}

// appendTrace adds one trace of size spans: a chain as root, and the calls it
// made below it.
func (g *Generator) appendTrace(spans []*trace.Span, ids []ID, size int) ([]*trace.Span, []ID) {
	g.traces++
	var traceID [16]byte
	binary.BigEndian.PutUint64(traceID[:8], g.seed^0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(traceID[8:], g.traces)

	var root [8]byte
	start := epochUnixNano + g.traces*7_919_000_003
	for i := range size {
		g.seq++
		var spanID [8]byte
		binary.BigEndian.PutUint64(spanID[:], g.seed<<spanIDSeqBits|g.seq)
		ids = append(ids, ID{Seq: g.seq, TraceID: traceID, SpanID: spanID})

		took := uint64(g.rng.IntN(4_000_000_000)) + 1_000_000
		s := &trace.Span{
			TraceId:           traceID[:],
			SpanId:            append([]byte(nil), spanID[:]...),
			Flags:             0x101,
			Kind:              trace.Span_SPAN_KIND_CLIENT,
			StartTimeUnixNano: start,
			EndTimeUnixNano:   start + took,
			Status:            &trace.Status{},
		}
		switch {
		case i == 0:
			root = spanID
			s.Kind = trace.Span_SPAN_KIND_INTERNAL
			g.fillChain(s)
		default:
			s.ParentSpanId = append([]byte(nil), root[:]...)
			g.fillCall(s)
		}
		s.Attributes = append(s.Attributes, num(SeqAttribute, int64(g.seq)))
		spans = append(spans, s)
		start += took / 3
	}
	return spans, ids
}

func (g *Generator) resource() *resource.Resource {
	return &resource.Resource{Attributes: []*common.KeyValue{
		str("service.name", g.service),
		str("service.version", "1.14.2"),
		str("telemetry.sdk.language", "python"),
		str("telemetry.sdk.name", "opentelemetry"),
		str("telemetry.sdk.version", "1.38.0"),
		str("deployment.environment.name", "production"),
		num("process.pid", int64(1000+g.seed%30000)),
		str("host.name", "ip-10-42-7-19.eu-central-1.compute.internal"),
	}}
}

func str(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func num(key string, value int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}}
}

func dbl(key string, value float64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: value}}}
}

func strs(key string, values ...string) *common.KeyValue {
	list := &common.ArrayValue{}
	for _, v := range values {
		list.Values = append(list.Values, &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}})
	}
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: list}}}
}
