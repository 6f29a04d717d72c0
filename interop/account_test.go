//go:build interop

package interop

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// spanAccount is a span as an application's SDK had it; README.md describes
// the form. Numbers of 64 bits are text, because JSON's numbers lose digits.
type spanAccount struct {
	TraceID           string         `json:"trace_id"`
	SpanID            string         `json:"span_id"`
	ParentSpanID      string         `json:"parent_span_id"`
	TraceState        string         `json:"trace_state"`
	Flags             uint32         `json:"flags"`
	Name              string         `json:"name"`
	Kind              int32          `json:"kind"`
	Start             string         `json:"start"`
	End               string         `json:"end"`
	Attributes        []attribute    `json:"attributes"`
	DroppedAttributes uint32         `json:"dropped_attributes"`
	Events            []eventAccount `json:"events"`
	DroppedEvents     uint32         `json:"dropped_events"`
	Links             []linkAccount  `json:"links"`
	DroppedLinks      uint32         `json:"dropped_links"`
	Status            struct {
		Code    int32  `json:"code"`
		Message string `json:"message"`
	} `json:"status"`
	Scope struct {
		Name       string      `json:"name"`
		Version    string      `json:"version"`
		SchemaURL  string      `json:"schema_url"`
		Attributes []attribute `json:"attributes"`
	} `json:"scope"`
	Resource struct {
		SchemaURL  string      `json:"schema_url"`
		Attributes []attribute `json:"attributes"`
	} `json:"resource"`
}

type eventAccount struct {
	Name              string      `json:"name"`
	Time              string      `json:"time"`
	Attributes        []attribute `json:"attributes"`
	DroppedAttributes uint32      `json:"dropped_attributes"`
}

type linkAccount struct {
	TraceID           string      `json:"trace_id"`
	SpanID            string      `json:"span_id"`
	TraceState        string      `json:"trace_state"`
	Flags             uint32      `json:"flags"`
	Attributes        []attribute `json:"attributes"`
	DroppedAttributes uint32      `json:"dropped_attributes"`
}

type attribute struct {
	Key   string         `json:"key"`
	Value attributeValue `json:"value"`
}

// attributeValue has at most one field set; none is OTLP's empty value.
type attributeValue struct {
	String *string           `json:"string"`
	Bool   *bool             `json:"bool"`
	Int    *string           `json:"int"`
	Double *string           `json:"double"` // the 64 bits in hex, so that NaN and -0 count, too
	Bytes  *string           `json:"bytes"`  // hex
	Array  *[]attributeValue `json:"array"`
	Map    *[]attribute      `json:"map"`
}

// otlp returns the message that should arrive for this span, in the form of
// soleSpans.
func (a *spanAccount) otlp() (*tracepb.ResourceSpans, error) {
	d := &decoder{}
	span := &tracepb.Span{
		TraceId: d.hex(a.TraceID), SpanId: d.hex(a.SpanID), ParentSpanId: d.hex(a.ParentSpanID),
		TraceState: a.TraceState, Flags: a.Flags, Name: a.Name, Kind: tracepb.Span_SpanKind(a.Kind),
		StartTimeUnixNano: d.nanos(a.Start), EndTimeUnixNano: d.nanos(a.End),
		Attributes: d.attributes(a.Attributes), DroppedAttributesCount: a.DroppedAttributes,
		DroppedEventsCount: a.DroppedEvents, DroppedLinksCount: a.DroppedLinks,
		Status: &tracepb.Status{Code: tracepb.Status_StatusCode(a.Status.Code), Message: a.Status.Message},
	}
	for _, e := range a.Events {
		span.Events = append(span.Events, &tracepb.Span_Event{
			Name: e.Name, TimeUnixNano: d.nanos(e.Time),
			Attributes: d.attributes(e.Attributes), DroppedAttributesCount: e.DroppedAttributes,
		})
	}
	for _, l := range a.Links {
		span.Links = append(span.Links, &tracepb.Span_Link{
			TraceId: d.hex(l.TraceID), SpanId: d.hex(l.SpanID), TraceState: l.TraceState, Flags: l.Flags,
			Attributes: d.attributes(l.Attributes), DroppedAttributesCount: l.DroppedAttributes,
		})
	}
	message := &tracepb.ResourceSpans{
		Resource:  &resourcepb.Resource{Attributes: d.attributes(a.Resource.Attributes)},
		SchemaUrl: a.Resource.SchemaURL,
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{
				Name: a.Scope.Name, Version: a.Scope.Version, Attributes: d.attributes(a.Scope.Attributes),
			},
			SchemaUrl: a.Scope.SchemaURL,
			Spans:     []*tracepb.Span{span},
		}},
	}
	return normal(message), d.err
}

// decoder reads the texts of an account and keeps the first error.
type decoder struct{ err error }

func (d *decoder) keep(err error, what, text string) {
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("account of a span: %s %.80q: %w", what, text, err)
	}
}

func (d *decoder) hex(text string) []byte {
	raw, err := hex.DecodeString(text)
	d.keep(err, "hex", text)
	return raw
}

func (d *decoder) nanos(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	d.keep(err, "time", text)
	return n
}

func (d *decoder) attributes(list []attribute) []*commonpb.KeyValue {
	var out []*commonpb.KeyValue
	for _, a := range list {
		out = append(out, &commonpb.KeyValue{Key: a.Key, Value: d.value(a.Value)})
	}
	return out
}

func (d *decoder) value(v attributeValue) *commonpb.AnyValue {
	switch {
	case v.String != nil:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: *v.String}}
	case v.Bool != nil:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: *v.Bool}}
	case v.Int != nil:
		n, err := strconv.ParseInt(*v.Int, 10, 64)
		d.keep(err, "int", *v.Int)
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: n}}
	case v.Double != nil:
		bits := append(make([]byte, 8), d.hex(*v.Double)...)
		f := math.Float64frombits(binary.BigEndian.Uint64(bits[len(bits)-8:]))
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: f}}
	case v.Bytes != nil:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: d.hex(*v.Bytes)}}
	case v.Array != nil:
		array := &commonpb.ArrayValue{}
		for _, e := range *v.Array {
			array.Values = append(array.Values, d.value(e))
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: array}}
	case v.Map != nil:
		list := &commonpb.KeyValueList{Values: d.attributes(*v.Map)}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: list}}
	default:
		return &commonpb.AnyValue{}
	}
}
