//go:build interop

package interop

import (
	"math"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// sample is an account that uses every field of the form.
func sample() spanAccount {
	attributes := []attribute{
		{Key: "string", Value: attributeValue{String: new("é 🙂")}},
		{Key: "double", Value: attributeValue{Double: new("8000000000000000")}}, // -0
		{Key: "int", Value: attributeValue{Int: new("-9223372036854775808")}},
		{Key: "bool", Value: attributeValue{Bool: new(false)}},
		{Key: "bytes", Value: attributeValue{Bytes: new("00ff")}},
		{Key: "none"},
		{Key: "array", Value: attributeValue{Array: &[]attributeValue{{String: new("")}, {}}}},
		{Key: "map", Value: attributeValue{Map: &[]attribute{{Key: "k", Value: attributeValue{Bool: new(true)}}}}},
	}
	a := spanAccount{
		TraceID: strings.Repeat("ab", 16), SpanID: strings.Repeat("cd", 8), ParentSpanID: strings.Repeat("ef", 8),
		TraceState: "a=b", Flags: 0x101, Name: "chat", Kind: 3, Start: "1700000000000000001", End: "1700000000000000002",
		Attributes: attributes, DroppedAttributes: 1, DroppedEvents: 2, DroppedLinks: 3,
		Events: []eventAccount{{Name: "event", Time: "1700000000000000001", Attributes: attributes, DroppedAttributes: 4}},
		Links: []linkAccount{{
			TraceID: strings.Repeat("01", 16), SpanID: strings.Repeat("02", 8), TraceState: "c=d",
			Flags: 0x301, Attributes: attributes, DroppedAttributes: 5,
		}},
	}
	a.Status.Code, a.Status.Message = 2, "it failed"
	a.Scope.Name, a.Scope.Version, a.Scope.SchemaURL, a.Scope.Attributes = "scope", "1", "https://scope", attributes
	a.Resource.SchemaURL, a.Resource.Attributes = "https://resource", attributes
	return a
}

// arrived returns a message as if it had come from the look-alike, and its span.
func arrived(t *testing.T, a spanAccount) (*tracepb.ResourceSpans, *tracepb.Span) {
	t.Helper()
	m, err := a.otlp()
	if err != nil {
		t.Fatal(err)
	}
	return m, m.GetScopeSpans()[0].GetSpans()[0]
}

func TestComparisonNotices(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	tests := map[string]func(rs *tracepb.ResourceSpans, span *tracepb.Span){
		"a changed name":     func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.Name = "Chat" },
		"a nanosecond":       func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.EndTimeUnixNano++ },
		"a missing parent":   func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.ParentSpanId = nil },
		"other flags":        func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.Flags = 1 },
		"a lost trace state": func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.TraceState = "" },
		"a lost status":      func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.Status = nil },
		"a lost event":       func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.Events = nil },
		"a link's state":     func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.Links[0].TraceState = "" },
		"a dropped count":    func(_ *tracepb.ResourceSpans, s *tracepb.Span) { s.DroppedLinksCount = 0 },
		"the order of attributes": func(_ *tracepb.ResourceSpans, s *tracepb.Span) {
			s.Attributes[0], s.Attributes[1] = s.Attributes[1], s.Attributes[0]
		},
		"the sign of zero": func(_ *tracepb.ResourceSpans, s *tracepb.Span) {
			s.Attributes[1].Value = &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: math.Abs(0)}}
		},
		"a whole number as a double": func(_ *tracepb.ResourceSpans, s *tracepb.Span) {
			s.Attributes[2].Value = &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: math.MinInt64}}
		},
		"an empty value that became text": func(_ *tracepb.ResourceSpans, s *tracepb.Span) {
			s.Attributes[5].Value = &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{}}
		},
		"an unknown field in a value": func(_ *tracepb.ResourceSpans, s *tracepb.Span) {
			s.Attributes[7].GetValue().GetKvlistValue().ProtoReflect().SetUnknown(unknown)
		},
		"an unknown field of a resource": func(rs *tracepb.ResourceSpans, _ *tracepb.Span) {
			rs.GetResource().ProtoReflect().SetUnknown(unknown)
		},
		"a resource's attribute": func(rs *tracepb.ResourceSpans, _ *tracepb.Span) { rs.Resource.Attributes[0].Key = "x" },
		"a resource's schema":    func(rs *tracepb.ResourceSpans, _ *tracepb.Span) { rs.SchemaUrl = "" },
		"a scope's schema":       func(rs *tracepb.ResourceSpans, _ *tracepb.Span) { rs.ScopeSpans[0].SchemaUrl = "" },
		"a scope's version":      func(rs *tracepb.ResourceSpans, _ *tracepb.Span) { rs.ScopeSpans[0].Scope.Version = "2" },
		"an attribute of an event": func(_ *tracepb.ResourceSpans, s *tracepb.Span) {
			s.Events[0].Attributes = s.Events[0].Attributes[1:]
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			m, span := arrived(t, sample())
			got := map[spanKey][]arrival{keyOf(span): {{message: m}}}
			if problems := problemsOf([]spanAccount{sample()}, got); len(problems) > 0 {
				t.Fatalf("undamaged, the comparison finds %q", problems)
			}
			damage(m, span)
			if problems := problemsOf([]spanAccount{sample()}, got); len(problems) != 1 {
				t.Errorf("damaged, the comparison finds %d problems, want 1: %q", len(problems), problems)
			}
		})
	}
}

func TestComparisonCounts(t *testing.T) {
	m, span := arrived(t, sample())
	other := sample()
	other.SpanID = strings.Repeat("99", 8)
	tests := map[string]struct {
		sent []spanAccount
		got  map[spanKey][]arrival
		want string
	}{
		"a span that never arrived":   {[]spanAccount{sample()}, nil, "arrived 0 times"},
		"a span that arrived twice":   {[]spanAccount{sample()}, map[spanKey][]arrival{keyOf(span): {{message: m}, {message: m}}}, "arrived 2 times"},
		"a span that nobody sent":     {nil, map[spanKey][]arrival{keyOf(span): {{message: m}}}, "never sent"},
		"a span told twice":           {[]spanAccount{sample(), sample()}, map[spanKey][]arrival{keyOf(span): {{message: m}}}, "accounted for twice"},
		"another span in one's place": {[]spanAccount{other}, map[spanKey][]arrival{keyOf(span): {{message: m}}}, "arrived 0 times"},
		"an account that is no account": {
			[]spanAccount{{TraceID: "xyz"}}, nil, "account of a span",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if problems := strings.Join(problemsOf(tt.sent, tt.got), "\n"); !strings.Contains(problems, tt.want) {
				t.Errorf("the comparison finds %q, want something with %q", problems, tt.want)
			}
		})
	}
}

func TestRequestsComeApartWithoutLoss(t *testing.T) {
	first, second := sample(), sample()
	second.SpanID, second.Scope.Name = strings.Repeat("77", 8), "other scope"
	var payload []byte // requests joined byte by byte are their merged message
	for _, a := range []spanAccount{first, second} {
		m, _ := arrived(t, a)
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		payload = protowire.AppendBytes(protowire.AppendTag(payload, 1, protowire.BytesType), raw)
	}
	got, err := soleSpans(payload)
	if err != nil || len(got) != 2 {
		t.Fatalf("soleSpans() = %d messages, %v, want 2", len(got), err)
	}
	for i, a := range []spanAccount{first, second} {
		want, _ := arrived(t, a)
		if diff := different(want, got[i]); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(payload, 999, protowire.VarintType), 1)
	if _, err := soleSpans(unknown); err == nil {
		t.Error("soleSpans() takes a request with an unknown field for one without")
	}
}
