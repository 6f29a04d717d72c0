package live

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	jsonType     = "application/json"
	protobufType = "application/x-protobuf"
	namePrefix   = "weir live: "
)

// uuid is a run's or a trace's id.
type uuid [16]byte

// newUUID makes an id of version 7, as LangSmith recommends.
func newUUID(at time.Time) (id uuid) {
	_, _ = rand.Read(id[:]) // never fails
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// String returns the hyphenated form.
func (id uuid) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// run is a root run, and a trace of its own.
type run struct {
	id     uuid
	name   string
	start  time.Time
	dotted string // empty: as it should be
}

func newRun(name string, start time.Time) run {
	return run{id: newUUID(time.Now()), name: namePrefix + name, start: start.UTC()}
}

// json is the run as a create.
func (r run) json(project string) []byte {
	dotted := r.dotted
	if dotted == "" {
		dotted = r.segment()
	}
	b, err := json.Marshal(map[string]any{
		"id": r.id.String(), "trace_id": r.id.String(), "dotted_order": dotted, "name": r.name, "run_type": "chain",
		"start_time": r.start.Format(time.RFC3339Nano), "end_time": r.start.Add(time.Millisecond).Format(time.RFC3339Nano),
		"session_name": project, "inputs": map[string]any{}, "outputs": map[string]any{},
	})
	if err != nil {
		panic("live: marshal a run: " + err.Error()) // text alone: cannot fail
	}
	return b
}

// segment is the run's part of a dotted_order (LangSmith docs: run data format).
func (r run) segment() string {
	return strings.Replace(r.start.Format("20060102T150405.000000Z"), ".", "", 1) + r.id.String()
}

// form writes runs as a multipart form, as the SDKs do.
func form(project string, runs ...run) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, r := range runs {
		data := r.json(project)
		part, _ := w.CreatePart(textproto.MIMEHeader{ // a buffer takes everything
			"Content-Disposition": {fmt.Sprintf("form-data; name=%q", "post."+r.id.String())},
			"Content-Type":        {jsonType},
			"Content-Length":      {strconv.Itoa(len(data))},
		})
		_, _ = part.Write(data)
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

// sendRuns posts runs in a form.
func sendRuns(project string, runs ...run) call {
	body, contentType := form(project, runs...)
	return call{path: pathMultipart, body: body, header: map[string]string{"Content-Type": contentType}, traces: len(runs)}
}

// trace is an OTLP trace.
type trace struct {
	id    uuid
	root  [8]byte
	start time.Time
}

func newTrace(start time.Time) *trace {
	t := &trace{id: newUUID(time.Now()), start: start}
	_, _ = rand.Read(t.root[:]) // never fails
	return t
}

// rootSpan is the trace's root; childSpan is one below it.
func (t *trace) rootSpan(name string, attributes ...string) *tracepb.Span {
	s := &tracepb.Span{
		TraceId: t.id[:], SpanId: t.root[:], Name: namePrefix + name, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: uint64(t.start.UnixNano()), EndTimeUnixNano: uint64(t.start.Add(time.Millisecond).UnixNano()),
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		s.Attributes = append(s.Attributes, text(attributes[i], attributes[i+1]))
	}
	return s
}

func (t *trace) childSpan(name string) *tracepb.Span {
	s := t.rootSpan(name)
	s.ParentSpanId, s.SpanId = s.GetSpanId(), make([]byte, 8)
	_, _ = rand.Read(s.SpanId) // never fails
	return s
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

// export is an OTLP request of spans.
func export(spans ...*tracepb.Span) []byte {
	b, err := proto.Marshal(&collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "weir-live")}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}},
	}}})
	if err != nil {
		panic("live: marshal spans: " + err.Error()) // only invalid UTF-8 can fail
	}
	return b
}

// exportJSON is a span as OTLP in JSON, ids in hex (OTLP specification: JSON
// Protobuf Encoding).
func exportJSON(s *tracepb.Span) []byte {
	b, err := json.Marshal(map[string]any{"resourceSpans": []any{map[string]any{"scopeSpans": []any{map[string]any{"spans": []any{map[string]any{
		"traceId": hex.EncodeToString(s.GetTraceId()), "spanId": hex.EncodeToString(s.GetSpanId()), "name": s.GetName(), "kind": 1,
		"startTimeUnixNano": strconv.FormatUint(s.GetStartTimeUnixNano(), 10), "endTimeUnixNano": strconv.FormatUint(s.GetEndTimeUnixNano(), 10),
	}}}}}}})
	if err != nil {
		panic("live: marshal a span: " + err.Error()) // text and numbers: cannot fail
	}
	return b
}

// zipped is one gzip member.
func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// zstdded is a zstd frame for each part.
func zstdded(parts ...[]byte) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic("live: zstd: " + err.Error()) // the option is sound
	}
	defer enc.Close() //nolint:errcheck // it writes to nothing
	var out []byte
	for _, p := range parts {
		out = enc.EncodeAll(p, out)
	}
	return out
}

// sendOTLP posts OTLP in an encoding; empty is none.
func sendOTLP(project, encoding string, body []byte, traces int) call {
	c := call{path: pathTraces, body: body, traces: traces, header: map[string]string{"Content-Type": protobufType}}
	if project != "" {
		c.header["Langsmith-Project"] = project
	}
	if encoding != "" {
		c.header["Content-Encoding"] = encoding
	}
	return c
}
