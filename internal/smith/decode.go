package smith

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Request is one request whose data was taken. It is shared: read only.
type Request struct {
	// Seq counts the requests taken, from 1; Reset starts over.
	Seq  int64
	Time time.Time // arrival

	Key       APIKey
	Workspace string // where the data landed: X-Tenant-Id, or the key's own
	Project   string // Langsmith-Project header, as it came
	Method    string // of run operations
	Path      string
	UserAgent string

	ContentType string // of OTLP application/x-protobuf or application/json
	Encoding    string // Content-Encoding: identity, gzip or zstd

	Spans      int
	Operations int   // run operations
	WireBytes  int64 // body as sent
	RawBytes   int64 // uncompressed; of OTLP as protobuf
	// Payload is the ExportTraceServiceRequest in protobuf, byte by byte as it
	// came unless it came as JSON. Kept under KeepSpans only.
	Payload []byte

	source ProjectSource
	quota  quotaRules
}

// Span is a span as it was received. Its messages are shared: read only.
type Span struct {
	*Request

	// Trace is what it is billed as; see TraceID.
	Trace TraceID
	// Project is where it belongs, after Switches.OTLPProject.
	Project  string
	Resource *resourcepb.Resource
	Scope    *commonpb.InstrumentationScope
	OTLP     *tracepb.Span
}

// ID returns the ids the span carries in OTLP.
func (s *Span) ID() SpanID {
	var id SpanID
	copy(id.Trace[:], s.OTLP.GetTraceId())
	copy(id.Span[:], s.OTLP.GetSpanId())
	return id
}

// Attribute returns the span's own attribute of that name, or nil.
func (s *Span) Attribute(name string) *commonpb.AnyValue {
	return attribute(s.OTLP.GetAttributes(), name)
}

// attribute finds an attribute. Where a name is there twice the last one wins,
// as in the scan.
func attribute(list []*commonpb.KeyValue, name string) *commonpb.AnyValue {
	for _, kv := range slices.Backward(list) {
		if kv.GetKey() == name {
			return kv.GetValue()
		}
	}
	return nil
}

// spansOf lists the spans of a decoded request.
func spansOf(in *Request, msg *collectorpb.ExportTraceServiceRequest) []Span {
	spans := make([]Span, 0, in.Spans)
	for _, rs := range msg.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, sp := range ss.GetSpans() {
				s := Span{Request: in, Resource: rs.GetResource(), Scope: ss.GetScope(), OTLP: sp}
				s.Trace = TraceID(s.ID().Trace)
				if id, ok := parseUUID(s.Attribute(attrTraceID).GetStringValue()); ok {
					s.Trace = id
				}
				s.Project = projectOf(in, s.Attribute(attrProject).GetStringValue())
				spans = append(spans, s)
			}
		}
	}
	return spans
}

// projectOf decides which project a span belongs to, given its own attribute.
func projectOf[T string | []byte](in *Request, own T) string {
	switch {
	case len(own) > 0 && (in.source == AttributeFirst || in.Project == ""):
		return string(own)
	case in.Project != "":
		return in.Project
	default:
		return "default"
	}
}

// decodeSpans decodes a payload that was decoded before.
func decodeSpans(in *Request, payload []byte) ([]Span, error) {
	msg := &collectorpb.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(payload, msg); err != nil {
		return nil, fmt.Errorf("smith: decode request %d: %w", in.Seq, err)
	}
	return spansOf(in, msg), nil
}

// jsonToProto turns OTLP/JSON into protobuf. OTLP differs from protobuf's own
// JSON in that trace and span ids are hex (OTLP specification: JSON Protobuf
// Encoding).
func jsonToProto(body []byte) ([]byte, error) {
	msg := &collectorpb.ExportTraceServiceRequest{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, msg); err != nil {
		return nil, err
	}
	for _, rs := range msg.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, sp := range ss.GetSpans() {
				ids := []*[]byte{&sp.TraceId, &sp.SpanId, &sp.ParentSpanId}
				for _, l := range sp.GetLinks() {
					ids = append(ids, &l.TraceId, &l.SpanId)
				}
				for _, id := range ids {
					if err := unhex(id); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return proto.Marshal(msg)
}

// unhex repairs an id whose hex digits were read as base64. Hex digits are
// base64 digits too and ids have a multiple of four of them, so the text they
// were read from is recovered exactly.
func unhex(id *[]byte) error {
	if len(*id) == 0 {
		return nil
	}
	text := base64.StdEncoding.EncodeToString(*id)
	raw, err := hex.DecodeString(text)
	if err != nil {
		return fmt.Errorf("id %q is not hex", text)
	}
	*id = raw
	return nil
}
