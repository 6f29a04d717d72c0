package smith

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
)

// ZstdFrames is how much of a body of several zstd frames is looked at.
type ZstdFrames uint8

// The possibilities of concatenated zstd frames.
const (
	// FramesAll decodes every frame, as RFC 8878 (3) has it.
	FramesAll ZstdFrames = iota
	// FramesFirst stops after the first, and never says so.
	FramesFirst
)

var framesNames = []string{"all", "first"}

// String returns the name that UnmarshalText takes.
func (f ZstdFrames) String() string { return enumName(framesNames, f) }

// MarshalText implements encoding.TextMarshaler.
func (f ZstdFrames) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText takes all or first.
func (f *ZstdFrames) UnmarshalText(text []byte) error {
	return parseEnum("zstd frames", framesNames, text, f)
}

// EmptyBatch is the answer to a batch without runs.
type EmptyBatch uint8

// The possibilities of an empty batch.
const (
	// EmptyTaken answers 202.
	EmptyTaken EmptyBatch = iota
	// Empty422 answers 422.
	Empty422
)

var emptyNames = []string{"taken", "422"}

// String returns the name that UnmarshalText takes.
func (e EmptyBatch) String() string { return enumName(emptyNames, e) }

// MarshalText implements encoding.TextMarshaler.
func (e EmptyBatch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText takes taken or 422.
func (e *EmptyBatch) UnmarshalText(text []byte) error {
	return parseEnum("answer to an empty batch", emptyNames, text, e)
}

// Delay is how long the service needs before what it took can be read.
type Delay time.Duration

// String returns the delay as a duration.
func (d Delay) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Delay) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText takes a duration that is not negative.
func (d *Delay) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("delay %q is not a duration from 0s up, such as 3s", text)
	}
	*d = Delay(v)
	return nil
}

// Attributes that make a span the run it is shown as (LangSmith docs:
// trace-with-opentelemetry).
const (
	attrName      = "langsmith.trace.name"
	attrKind      = "langsmith.span.kind"
	attrRunID     = "langsmith.span.id"
	attrParentRun = "langsmith.span.parent_id"
	attrMetadata  = "langsmith.metadata."
	attrTags      = "langsmith.span.tags"
)

// readableRuns lists the runs and spans of a workspace that can be read by now,
// in order of arrival: spans after runs. A trace other than the zero one
// confines it to that trace.
func (s *Server) readableRuns(r *request, tenant string, trace RunID) []Run {
	latest := s.cfg.Now().Add(-time.Duration(r.sw.ReadLag))
	var list []Run
	for _, run := range s.store.runsOf(tenant, nil) {
		if !run.Time.After(latest) && (trace == (RunID{}) || run.Trace == trace) {
			list = append(list, run)
		}
	}
	for _, in := range s.Requests() {
		if in.Workspace != tenant || in.Spans == 0 || in.Time.After(latest) || !holds(in.Payload, trace) {
			continue
		}
		spans, err := decodeSpans(in, in.Payload)
		if err != nil {
			continue // it was taken by the scan alone: cannot be shown
		}
		for i := range spans {
			if run := runOfSpan(&spans[i]); trace == (RunID{}) || run.Trace == trace {
				list = append(list, run)
			}
		}
	}
	return list
}

// holds reports whether a payload has spans of a trace. Most have not, and need
// no decoding. The zero trace is any.
func holds(payload []byte, trace RunID) bool {
	if trace == (RunID{}) {
		return true
	}
	_, heads, err := scan(payload, nil, true)
	return err == nil && slices.ContainsFunc(heads, func(h spanHead) bool { return h.billed == TraceID(trace) })
}

// runOfSpan is a span as the run that the service makes of it. The ids are those
// of LangChain's collector-proxy (otel_converter.go): a root is named like its
// trace, any other span by its own id behind zeros. That the service does so
// itself is our inference.
func runOfSpan(sp *Span) Run {
	at := sp.ID()
	text := func(name string) string { return sp.Attribute(name).GetStringValue() }
	run := Run{
		Trace: RunID(sp.Trace), ID: spanRun(at.Span), Project: sp.Project, Workspace: sp.Workspace, Key: sp.Key,
		Posts: 1, Seq: sp.Seq, FirstPost: sp.Seq, Time: sp.Time,
	}
	parent := sp.OTLP.GetParentSpanId()
	if len(parent) == 0 {
		run.ID = run.Trace
	} else {
		run.Parent = spanRun([8]byte(parent))
	}
	if id, ok := parseUUID(text(attrRunID)); ok {
		run.ID = id
	}
	if id, ok := parseUUID(text(attrParentRun)); ok {
		run.Parent = id
	}
	start := time.Unix(0, int64(sp.OTLP.GetStartTimeUnixNano())).UTC()
	run.DottedOrder = strings.Replace(start.Format(dottedStamp), ".", "", 1) + run.ID.String()
	metadata := Object{}.with("OTEL_TRACE_ID", hex.EncodeToString(at.Trace[:])).with("OTEL_SPAN_ID", hex.EncodeToString(at.Span[:]))
	for _, kv := range sp.OTLP.GetAttributes() {
		if name, ok := strings.CutPrefix(kv.GetKey(), attrMetadata); ok {
			metadata = metadata.with(name, plainValue(kv.GetValue()))
		}
	}
	run.Members = Object{}.
		with("name", cmp.Or(text(attrName), sp.OTLP.GetName())).
		with("run_type", cmp.Or(text(attrKind), "chain")).
		with("start_time", start).
		with("session_name", sp.Project).
		with("extra", Object{}.with("metadata", metadata))
	if end := sp.OTLP.GetEndTimeUnixNano(); end > 0 {
		run.Members = run.Members.with("end_time", time.Unix(0, int64(end)).UTC())
	}
	if tags := text(attrTags); tags != "" {
		run.Members = run.Members.with("tags", strings.Split(tags, ","))
	}
	for _, ev := range sp.OTLP.GetEvents() {
		if ev.GetName() == "exception" {
			run.Members = run.Members.with("error", attribute(ev.GetAttributes(), "exception.message").GetStringValue())
		}
	}
	return run
}

// spanRun is the id of a run that is a span.
func spanRun(span [8]byte) (id RunID) {
	copy(id[8:], span[:])
	return id
}

// plainValue is an attribute's value as JSON has it.
func plainValue(v *commonpb.AnyValue) any {
	switch v.GetValue().(type) {
	case *commonpb.AnyValue_IntValue:
		return v.GetIntValue()
	case *commonpb.AnyValue_DoubleValue:
		return v.GetDoubleValue()
	case *commonpb.AnyValue_BoolValue:
		return v.GetBoolValue()
	default:
		return v.GetStringValue()
	}
}

var errFrame = errors.New("not a zstd frame")

// firstFrame cuts a body after its first zstd frame (RFC 8878, 3.1.1).
func firstFrame(body []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(body); err != nil {
		return nil, err
	}
	const blockHeaderBytes, checksumBytes, blockRLE = 3, 4, 1
	at := h.HeaderSize
	for last := false; !last; {
		if len(body) < at+blockHeaderBytes {
			return nil, errFrame
		}
		b := int(body[at]) | int(body[at+1])<<8 | int(body[at+2])<<16
		at += blockHeaderBytes
		last = b&1 == 1
		if b>>1&3 == blockRLE {
			at++
		} else {
			at += b >> 3
		}
	}
	if h.HasCheckSum {
		at += checksumBytes
	}
	if at > len(body) {
		return nil, errFrame
	}
	return body[:at], nil
}
