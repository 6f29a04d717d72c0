package otlp

import trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"

// The message types of an ExportTraceServiceRequest, field by field as the
// OTLP 1.11 protos number them.
var requestType, anyValueType = newSchema()

func newSchema() (request, anyValue *messageType) {
	anyValue = &messageType{}
	attribute := &messageType{} // a KeyValue whose key the scan wants to see
	attribute.set(1, kindString, "key").hook = hookKey
	describeKeyValue(attribute, anyValue)
	describeAnyValue(anyValue)

	span := newSpanType(attribute, anyValue)

	scope := &messageType{}
	scope.set(1, kindString, "name")
	scope.set(2, kindString, "version")
	scope.embed(3, "attributes[]", newKeyValueType(anyValue))
	scope.set(4, kindVarint, "dropped_attributes_count")

	scopeSpans := &messageType{}
	scopeSpans.embed(1, "scope", scope)
	scopeSpans.embed(2, "spans[]", span).hook = hookSpan
	scopeSpans.set(3, kindString, "schema_url")

	entity := &messageType{}
	entity.set(1, kindString, "schema_url")
	entity.set(2, kindString, "type")
	entity.set(3, kindString, "id_keys[]")
	entity.set(4, kindString, "description_keys[]")

	resource := &messageType{}
	resource.embed(1, "attributes[]", attribute).hook = hookResourceAttribute
	resource.set(2, kindVarint, "dropped_attributes_count")
	resource.embed(3, "entity_refs[]", entity)

	resourceSpans := &messageType{}
	resourceSpans.embed(1, "resource", resource)
	resourceSpans.embed(2, "scope_spans[]", scopeSpans)
	resourceSpans.set(3, kindString, "schema_url")

	request = &messageType{}
	request.embed(1, "resource_spans[]", resourceSpans).hook = hookResourceSpans
	return request, anyValue
}

func newSpanType(attribute, anyValue *messageType) *messageType {
	keyValue := newKeyValueType(anyValue)

	event := &messageType{}
	event.set(1, kindFixed64, "time_unix_nano")
	event.set(2, kindString, "name").hook = hookEventName
	event.embed(3, "attributes[]", keyValue)
	event.set(4, kindVarint, "dropped_attributes_count")

	link := &messageType{}
	link.id(1, "trace_id", hookLinkTraceID)
	link.id(2, "span_id", hookLinkSpanID)
	link.set(3, kindString, "trace_state")
	link.embed(4, "attributes[]", keyValue)
	link.set(5, kindVarint, "dropped_attributes_count")
	link.set(6, kindFixed32, "flags")

	status := &messageType{}
	status.set(2, kindString, "message")
	code := status.set(3, kindVarint, "code")
	code.json, code.enum = jsonEnum, trace.Status_StatusCode_value

	span := &messageType{}
	span.id(1, "trace_id", hookTraceID)
	span.id(2, "span_id", hookSpanID)
	span.set(3, kindString, "trace_state")
	span.id(4, "parent_span_id", hookParentID)
	span.set(5, kindString, "name")
	kind := span.set(6, kindVarint, "kind")
	kind.json, kind.enum = jsonEnum, trace.Span_SpanKind_value
	span.set(7, kindFixed64, "start_time_unix_nano")
	span.set(8, kindFixed64, "end_time_unix_nano")
	span.embed(9, "attributes[]", attribute).hook = hookSpanAttribute
	span.set(10, kindVarint, "dropped_attributes_count")
	span.embed(11, "events[]", event)
	span.set(12, kindVarint, "dropped_events_count")
	span.embed(13, "links[]", link).hook = hookLink
	span.set(14, kindVarint, "dropped_links_count")
	span.embed(15, "status", status).hook = hookStatus
	span.set(16, kindFixed32, "flags")
	return span
}

func newKeyValueType(anyValue *messageType) *messageType {
	m := &messageType{}
	m.set(1, kindString, "key")
	describeKeyValue(m, anyValue)
	return m
}

func describeKeyValue(m, anyValue *messageType) {
	m.embed(2, "value", anyValue)
	m.set(3, kindVarint, "key_strindex").json = jsonInt32
}

func describeAnyValue(m *messageType) {
	array := &messageType{}
	array.embed(1, "values[]", m)
	list := &messageType{}
	list.embed(1, "values[]", newKeyValueType(m))

	m.set(1, kindString, "string_value")
	m.set(2, kindVarint, "bool_value").json = jsonBool
	m.set(3, kindVarint, "int_value").json = jsonInt64
	m.set(4, kindFixed64, "double_value").json = jsonDouble
	m.embed(5, "array_value", array)
	m.embed(6, "kvlist_value", list)
	m.set(7, kindBytes, "bytes_value")
	m.set(8, kindVarint, "string_value_strindex").json = jsonInt32
}
