package main

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// object is a JSON object of the account.
type object map[string]any

// accountOf says what a span is in OTLP, taken from the SDK's own view of it.
func accountOf(s sdktrace.ReadOnlySpan) object {
	sc, scope := s.SpanContext(), s.InstrumentationScope()
	parent := ""
	if s.Parent().SpanID().IsValid() {
		parent = s.Parent().SpanID().String()
	}
	events := []object{}
	for _, e := range s.Events() {
		events = append(events, object{
			"name": e.Name, "time": nanos(e.Time.UnixNano()), "attributes": attributes(e.Attributes),
			"dropped_attributes": e.DroppedAttributeCount,
		})
	}
	links := []object{}
	for _, l := range s.Links() {
		links = append(links, object{
			"trace_id": l.SpanContext.TraceID().String(), "span_id": l.SpanContext.SpanID().String(),
			"trace_state": "", // the exporter leaves it out
			"flags":       flags(l.SpanContext, l.SpanContext), "attributes": attributes(l.Attributes),
			"dropped_attributes": l.DroppedAttributeCount,
		})
	}
	return object{
		"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String(), "parent_span_id": parent,
		"trace_state": sc.TraceState().String(), "flags": flags(sc, s.Parent()),
		"name": s.Name(), "kind": int(s.SpanKind()),
		"start": nanos(s.StartTime().UnixNano()), "end": nanos(s.EndTime().UnixNano()),
		"attributes": attributes(s.Attributes()), "dropped_attributes": s.DroppedAttributes(),
		"events": events, "dropped_events": s.DroppedEvents(),
		"links": links, "dropped_links": s.DroppedLinks(),
		"status": object{"code": statusCode(s.Status().Code), "message": s.Status().Description},
		"scope": object{
			"name": scope.Name, "version": scope.Version, "schema_url": scope.SchemaURL,
			"attributes": attributes(scope.Attributes.ToSlice()),
		},
		"resource": object{"schema_url": s.Resource().SchemaURL(), "attributes": attributes(s.Resource().Attributes())},
	}
}

func nanos(n int64) string { return strconv.FormatInt(n, 10) }

// flags are the W3C trace flags, and whether the parent is remote.
func flags(sc, parent trace.SpanContext) int {
	const hasIsRemote, isRemote = 0x100, 0x200
	f := int(sc.TraceFlags()) | hasIsRemote
	if parent.IsRemote() {
		f |= isRemote
	}
	return f
}

// statusCode is OTLP's number, which differs from the API's.
func statusCode(c codes.Code) int {
	switch c {
	case codes.Ok:
		return 1
	case codes.Error:
		return 2
	default:
		return 0
	}
}

func attributes(list []attribute.KeyValue) []object {
	out := []object{}
	for _, kv := range list {
		out = append(out, object{"key": string(kv.Key), "value": value(kv.Value)})
	}
	return out
}

func value(v attribute.Value) object {
	switch v.Type() {
	case attribute.EMPTY:
		return object{}
	case attribute.BOOL:
		return object{"bool": v.AsBool()}
	case attribute.INT64:
		return object{"int": nanos(v.AsInt64())}
	case attribute.FLOAT64:
		return object{"double": fmt.Sprintf("%016x", math.Float64bits(v.AsFloat64()))}
	case attribute.STRING:
		return object{"string": v.AsString()}
	case attribute.BYTESLICE:
		if len(v.AsByteSlice()) == 0 && os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/json" {
			return object{} // this SDK's JSON has an empty value there
		}
		return object{"bytes": hex.EncodeToString(v.AsByteSlice())}
	case attribute.MAP:
		return object{"map": attributes(v.AsMap())}
	case attribute.SLICE:
		return array(v.AsSlice(), func(e attribute.Value) attribute.Value { return e })
	case attribute.BOOLSLICE:
		return array(v.AsBoolSlice(), attribute.BoolValue)
	case attribute.INT64SLICE:
		return array(v.AsInt64Slice(), attribute.Int64Value)
	case attribute.FLOAT64SLICE:
		return array(v.AsFloat64Slice(), attribute.Float64Value)
	case attribute.STRINGSLICE:
		return array(v.AsStringSlice(), attribute.StringValue)
	default:
		panic(fmt.Sprintf("attribute type %s is new: teach it to the account", v.Type()))
	}
}

func array[T any](list []T, of func(T) attribute.Value) object {
	values := []object{}
	for _, e := range list {
		values = append(values, value(of(e)))
	}
	return object{"array": values}
}
