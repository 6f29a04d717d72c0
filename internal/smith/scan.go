package smith

import (
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// TraceID identifies what LangSmith bills: the trace id of a span, or the one
// that its langsmith.trace.id attribute names (LangSmith docs:
// trace-with-opentelemetry).
type TraceID [16]byte

// String returns the id in hex.
func (t TraceID) String() string { return hex.EncodeToString(t[:]) }

// SpanID identifies a span by the ids in its OTLP form.
type SpanID struct {
	Trace [16]byte
	Span  [8]byte
}

// String returns both ids in hex, a slash between them.
func (i SpanID) String() string {
	return hex.EncodeToString(i.Trace[:]) + "/" + hex.EncodeToString(i.Span[:])
}

// ParseSpanID reads what SpanID.String writes.
func ParseSpanID(text string) (SpanID, error) {
	var id SpanID
	const traceLen, spanLen = 32, 16
	if len(text) == traceLen+1+spanLen && text[traceLen] == '/' {
		_, err1 := hex.Decode(id.Trace[:], []byte(text[:traceLen]))
		_, err2 := hex.Decode(id.Span[:], []byte(text[traceLen+1:]))
		if err1 == nil && err2 == nil {
			return id, nil
		}
	}
	return SpanID{}, fmt.Errorf("span id %q is not 32 hex digits, a slash and 16 hex digits", text)
}

// spanHead is what a scan finds out about a span.
type spanHead struct {
	id      SpanID
	billed  TraceID
	start   uint64 // Unix nanoseconds
	project []byte // langsmith.trace.session_name; points into the payload
}

// Attributes that LangSmith reads (LangSmith docs: trace-with-opentelemetry).
const (
	attrTraceID = "langsmith.trace.id"
	attrProject = "langsmith.trace.session_name"
)

// Field numbers of the OTLP trace messages (opentelemetry-proto).
const (
	fieldResourceSpans = 1 // ExportTraceServiceRequest
	fieldScopeSpans    = 2 // ResourceSpans
	fieldSpans         = 2 // ScopeSpans

	fieldTraceID    = 1 // Span
	fieldSpanID     = 2
	fieldStartTime  = 7
	fieldAttributes = 9

	fieldKey         = 1 // KeyValue
	fieldValue       = 2
	fieldStringValue = 1 // AnyValue
)

// scan walks an ExportTraceServiceRequest without decoding it and counts its
// spans. Deep, it also checks their ids and appends their heads to dst.
func scan(payload []byte, dst []spanHead, deep bool) (int, []spanHead, error) {
	n := 0
	w := walker{rest: payload}
	for w.next(fieldResourceSpans) {
		rs := walker{rest: w.value}
		for rs.next(fieldScopeSpans) {
			ss := walker{rest: rs.value}
			for ss.next(fieldSpans) {
				n++
				if !deep {
					continue
				}
				head, err := scanSpan(ss.value)
				if err != nil {
					return 0, dst, fmt.Errorf("span %d: %w", n-1, err)
				}
				dst = append(dst, head)
			}
			if ss.err != nil {
				return 0, dst, fmt.Errorf("scope_spans: %w", ss.err)
			}
		}
		if rs.err != nil {
			return 0, dst, fmt.Errorf("resource_spans: %w", rs.err)
		}
	}
	if w.err != nil {
		return 0, dst, fmt.Errorf("request: %w", w.err)
	}
	return n, dst, nil
}

// walker steps through the fields of a message.
type walker struct {
	rest  []byte
	num   protowire.Number
	typ   protowire.Type
	value []byte // of a length-delimited field
	fixed uint64 // of a fixed64 field
	err   error
}

// next steps to the next length-delimited field of that number; the wire type
// matters, as a decoder takes any other for an unknown field.
func (w *walker) next(num protowire.Number) bool {
	for w.step() {
		if w.num == num && w.typ == protowire.BytesType {
			return true
		}
	}
	return false
}

// step goes to the next field; false at the end or on an error.
func (w *walker) step() bool {
	if len(w.rest) == 0 {
		return false
	}
	num, typ, n := protowire.ConsumeTag(w.rest)
	if n < 0 {
		w.err = protowire.ParseError(n)
		return false
	}
	w.num, w.typ, w.rest = num, typ, w.rest[n:]
	switch typ {
	case protowire.BytesType:
		w.value, n = protowire.ConsumeBytes(w.rest)
	case protowire.Fixed64Type:
		w.fixed, n = protowire.ConsumeFixed64(w.rest)
	default:
		n = protowire.ConsumeFieldValue(num, typ, w.rest)
	}
	if n < 0 {
		w.err = protowire.ParseError(n)
		return false
	}
	w.rest = w.rest[n:]
	return true
}

var (
	errTraceID = errors.New("trace_id is not 16 bytes with at least one set")
	errSpanID  = errors.New("span_id is not 8 bytes with at least one set")
)

// scanSpan reads the head of one Span message.
func scanSpan(span []byte) (spanHead, error) {
	var h spanHead
	var trace, id []byte
	var billed bool
	w := walker{rest: span}
	for w.step() {
		switch {
		case w.typ == protowire.Fixed64Type && w.num == fieldStartTime:
			h.start = w.fixed
		case w.typ != protowire.BytesType:
		case w.num == fieldTraceID:
			trace = w.value
		case w.num == fieldSpanID:
			id = w.value
		case w.num == fieldAttributes:
			key, value, err := scanAttribute(w.value)
			switch {
			case err != nil:
				return h, fmt.Errorf("attribute: %w", err)
			case string(key) == attrTraceID:
				if uuid, ok := parseUUID(string(value)); ok {
					h.billed, billed = uuid, true
				}
			case string(key) == attrProject:
				h.project = value
			}
		}
	}
	if w.err != nil {
		return h, w.err
	}
	if len(trace) != len(h.id.Trace) || [16]byte(trace) == [16]byte{} {
		return h, errTraceID
	}
	if len(id) != len(h.id.Span) || [8]byte(id) == [8]byte{} {
		return h, errSpanID
	}
	h.id = SpanID{Trace: [16]byte(trace), Span: [8]byte(id)}
	if !billed {
		h.billed = h.id.Trace
	}
	return h, nil
}

// scanAttribute returns an attribute's key and, where it is one of those that
// scanSpan wants, its string value.
func scanAttribute(kv []byte) (key, value []byte, err error) {
	var anyValue []byte
	w := walker{rest: kv}
	for w.step() {
		if w.typ != protowire.BytesType {
			continue
		}
		switch w.num {
		case fieldKey:
			key = w.value
		case fieldValue:
			anyValue = w.value
		}
	}
	if w.err != nil || string(key) != attrTraceID && string(key) != attrProject {
		return key, nil, w.err
	}
	v := walker{rest: anyValue}
	for v.next(fieldStringValue) {
		value = v.value
	}
	return key, value, v.err
}
