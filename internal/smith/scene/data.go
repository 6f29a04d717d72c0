package scene

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"weir/internal/smith"
)

// Keys and workspaces that scenes use. They are made up.
const (
	GoodKey     = "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"
	newKey      = "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"
	staleKey    = "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"
	serviceKey  = "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"
	Tenant      = "5ce9e000-0000-4000-8000-00000000000a"
	otherTenant = "5ce9e000-0000-4000-8000-00000000000b"
	goneTenant  = "5ce9e000-0000-4000-8000-00000000000c"
)

// traffic is what an application sends of both kinds: three spans, three runs.
func traffic() []Request { return []Request{export(spans(3)...), batch(roots(3)...)} }

// spans makes spans, each a trace of its own, that have just ended.
func spans(n int) []*tracepb.Span {
	list := make([]*tracepb.Span, n)
	now := time.Now()
	for i := range list {
		list[i] = &tracepb.Span{
			TraceId: randomBytes(16), SpanId: randomBytes(8), Name: "ChatOpenAI",
			StartTimeUnixNano: uint64(now.Add(-time.Second).UnixNano()), EndTimeUnixNano: uint64(now.UnixNano()),
			Attributes: []*commonpb.KeyValue{text("gen_ai.operation.name", "chat")},
		}
	}
	return list
}

// text and blob are attributes.
func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func blob(key string, value []byte) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: value}}}
}

// export is an OTLP export.
func export(list ...*tracepb.Span) Request {
	body, err := proto.Marshal(&collectorpb.ExportTraceServiceRequest{
		ResourceSpans: []*tracepb.ResourceSpans{{ScopeSpans: []*tracepb.ScopeSpans{{Spans: list}}}},
	})
	if err != nil {
		panic(fmt.Sprintf("scene: encode spans: %v", err)) // they are our own
	}
	return Request{
		Method: http.MethodPost, Path: "/otel/v1/traces", Header: http.Header{"Content-Type": {"application/x-protobuf"}},
		Body: body, Items: len(list),
	}
}

// run is a run as JSON: members by name.
type run map[string]any

// roots makes runs, each a trace of its own, that have just ended.
func roots(n int) []run {
	list := make([]run, n)
	for i := range list {
		list[i] = root(time.Now().Add(-time.Second))
	}
	return list
}

// root makes a run that is a trace of its own.
func root(start time.Time) run {
	id := newID()
	return run{
		"id": id, "trace_id": id, "dotted_order": stamp(start) + id, "name": "ChatOpenAI", "run_type": "llm",
		"start_time": start.UTC().Format(time.RFC3339Nano), "end_time": start.Add(time.Second).UTC().Format(time.RFC3339Nano),
		"inputs": map[string]any{"text": "hello"}, "outputs": map[string]any{"text": "world"},
	}
}

// child makes a run below another one.
func (r run) child(start time.Time) run {
	c := root(start)
	c["trace_id"], c["parent_run_id"] = r["trace_id"], r["id"]
	c["dotted_order"] = fmt.Sprint(r["dotted_order"], ".", c["dotted_order"])
	return c
}

// with returns the run with one member set.
func (r run) with(name string, value any) run {
	r = maps.Clone(r)
	r[name] = value
	return r
}

// stamp is the time of a dotted_order (LangSmith docs: run-data-format).
func stamp(at time.Time) string {
	return strings.Replace(at.UTC().Format("20060102T150405.000000Z"), ".", "", 1)
}

// batch is a POST of new runs.
func batch(list ...run) Request {
	return call("/runs/batch", map[string]any{"post": list}, len(list))
}

// call is a POST of JSON.
func call(path string, body any, items int) Request {
	b, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("scene: encode %s: %v", path, err)) // it is our own
	}
	return Request{Method: http.MethodPost, Path: path, Header: http.Header{"Content-Type": {"application/json"}}, Body: b, Items: items}
}

// from is the requests as an application sends them that has credentials of
// its own, as pairs of headers.
func from(list []Request, pairs ...string) []Request {
	for i := range list {
		list[i].Header = list[i].Header.Clone()
		for j := 0; j < len(pairs); j += 2 {
			list[i].Header.Set(pairs[j], pairs[j+1])
		}
	}
	return list
}

// newID makes an id that no other run has.
func newID() string {
	id := smith.RunID(randomBytes(16))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// randomBytes is noise that does not compress.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := rand.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

// noise is text that compresses to about half.
func noise(n int) string { return hex.EncodeToString(randomBytes(n / 2)) }
