package sendtest

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"weir/proxy"
)

// The names of a test's runs.
const (
	RunName    = "weir send-test"
	nameFrame1 = RunName + ": zstd, first frame"
	nameFrame2 = RunName + ": zstd, second frame"
	nameGzip   = RunName + ": gzip"
)

// idTail ends the id of every test trace, so that one is known when seen: it is
// "weir" in ASCII.
const idTail = "weir"

// trace is a test trace.
type trace struct {
	id      proxy.TraceID
	root    [8]byte
	start   time.Time
	version string
}

// newTrace makes a trace with an id that is a UUID of version 7, as LangSmith
// recommends (LangSmith SDK: _uuid.py).
func newTrace(now time.Time, version string) *trace {
	t := &trace{start: now, version: version}
	_, _ = rand.Read(t.id[:]) // never fails
	_, _ = rand.Read(t.root[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(t.id[:6], ms[2:])
	t.id[6] = t.id[6]&0x0f | 0x70
	t.id[8] = t.id[8]&0x3f | 0x80
	copy(t.id[len(t.id)-len(idTail):], idTail)
	return t
}

// uuid is the trace's id as LangSmith writes it.
func (t *trace) uuid() string {
	h := hex.EncodeToString(t.id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// span is an export request with one span of the trace: the root, or a child of
// it by any other name.
func (t *trace) span(name string) []byte {
	sp := &tracepb.Span{
		TraceId: t.id[:], SpanId: t.root[:], Name: name, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: uint64(t.start.UnixNano()), EndTimeUnixNano: uint64(t.start.Add(time.Millisecond).UnixNano()),
		Attributes: []*commonpb.KeyValue{
			text("langsmith.span.kind", "chain"),
			text("langsmith.metadata.weir", "send-test"),
			text("langsmith.metadata.weir_version", t.version),
		},
	}
	if name != RunName {
		sp.ParentSpanId = t.root[:]
		sp.SpanId = make([]byte, len(t.root))
		_, _ = rand.Read(sp.SpanId) // never fails
	}
	b, err := proto.Marshal(&collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "weir")}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{sp}}},
	}}})
	if err != nil {
		panic("sendtest: marshal a span: " + err.Error()) // only invalid UTF-8 can fail, and there is none
	}
	return b
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}
