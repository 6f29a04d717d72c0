package otlp

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"weir/proxy"
)

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// spanNames are the spans of a payload, each with where it hangs, in order.
func spanNames(t testing.TB, payload []byte) (out []string) {
	t.Helper()
	var req tracecollector.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &req); err != nil {
		t.Fatal(err)
	}
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				out = append(out, fmt.Sprintf("%s/%s/%s", rs.GetSchemaUrl(), ss.GetSchemaUrl(), s.GetName()))
			}
		}
	}
	return out
}

// TestSplitGroupsSpansByTrace assigns the traces of a random request to pieces.
func TestSplitGroupsSpansByTrace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "pieces")
		want := make([][]string, n)
		req := &tracecollector.ExportTraceServiceRequest{}
		number := 0
		for r := range rapid.IntRange(0, 3).Draw(rt, "resources") {
			rs := &trace.ResourceSpans{SchemaUrl: fmt.Sprint("r", r), Resource: &resource.Resource{Attributes: []*common.KeyValue{text("service.name", "x")}}}
			for s := range rapid.IntRange(0, 3).Draw(rt, "scopes") {
				ss := &trace.ScopeSpans{SchemaUrl: fmt.Sprint("s", s)}
				for range rapid.IntRange(0, 4).Draw(rt, "spans") {
					number++
					span := okSpan()
					span.Name = fmt.Sprint("span", number)
					id := byte(rapid.IntRange(1, 6).Draw(rt, "trace"))
					span.TraceId = append(make([]byte, 15), id)
					if rapid.IntRange(0, 3).Draw(rt, "override") == 0 {
						id += 100
						span.Attributes = append(span.Attributes, text(attrTraceID, fmt.Sprintf("%032x", int(id))))
					}
					k := int(id) % n
					want[k] = append(want[k], fmt.Sprintf("r%d/s%d/%s", r, s, span.Name))
					ss.Spans = append(ss.Spans, span)
				}
				rs.ScopeSpans = append(rs.ScopeSpans, ss)
			}
			req.ResourceSpans = append(req.ResourceSpans, rs)
		}
		payload := marshal(t, req)
		pieces, err := Divider{}.Split(payload, n, func(id proxy.TraceID) int { return int(id[15]) % n })
		if err != nil {
			rt.Fatal(err)
		}
		for k := range pieces {
			if got := spanNames(t, pieces[k].Payload); !slices.Equal(got, want[k]) || pieces[k].Items != len(want[k]) {
				rt.Fatalf("piece %d has %d items, %v, want %v", k, pieces[k].Items, got, want[k])
			}
			for _, id := range pieces[k].Traces {
				if int(id[15])%n != k {
					rt.Fatalf("piece %d has trace %x", k, id)
				}
			}
		}
	})
}

func TestSplitKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("later"))
	one, two := okSpan(), okSpan()
	two.TraceId = append(make([]byte, 15), 9)
	rs := marshal(t, &trace.ResourceSpans{ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{one, two}}}})
	payload := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), append(rs, unknown...))
	pieces, err := Divider{}.Split(append(payload, payload...), 2, func(id proxy.TraceID) int { return int(id[15] % 2) })
	if err != nil {
		t.Fatal(err)
	}
	for k := range pieces {
		if n := slices.Index(pieces[k].Payload, 'l'); pieces[k].Items > 0 && n < 0 {
			t.Errorf("piece %d lost a field: %q", k, pieces[k].Payload)
		}
	}
	if pieces[0].Items+pieces[1].Items != 4 {
		t.Errorf("%d and %d spans, want 4", pieces[0].Items, pieces[1].Items)
	}
}

func TestMarksSayWhatSpansSayOfTheirTraces(t *testing.T) {
	t.Parallel()
	span := func(id byte, edit func(*trace.Span)) *trace.Span {
		s := okSpan()
		s.TraceId = append(make([]byte, 15), id)
		if edit != nil {
			edit(s)
		}
		return s
	}
	named := func(name string) func(*trace.Span) {
		return func(s *trace.Span) { s.Attributes = append(s.Attributes, text(attrSessionName, name)) }
	}
	req := &tracecollector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{
		{Resource: &resource.Resource{Attributes: []*common.KeyValue{text(attrSessionName, "of-resource")}}, ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{
			span(1, nil), span(2, nil), span(2, named("own")),
		}}}},
		{ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{
			span(3, nil),
			span(4, func(s *trace.Span) { s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR} }),
			span(5, func(s *trace.Span) { s.Events = []*trace.Span_Event{{Name: "exception"}} }),
			span(6, named("six")),
		}}}},
	}}
	payload := marshal(t, req)
	var sum Summary
	for range 2 { // it can be used again
		if err := Scan(payload, 0, &sum); err != nil {
			t.Fatal(err)
		}
	}
	want := []proxy.TraceMark{{Project: "of-resource"}, {Project: "own"}, {}, {Failed: true}, {Failed: true}, {Project: "six"}}
	if diff := cmp.Diff(want, sum.Marks); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	if err := Scan(marshal(t, requestOf(okSpan())), 0, &sum); err != nil || sum.Marks != nil {
		t.Errorf("marks of a span that says nothing: %v, %v", sum.Marks, err)
	}
	long := okSpan()
	long.Attributes = append(long.Attributes, text(attrSessionName, string(make([]byte, 1<<20))))
	if err := Scan(marshal(t, requestOf(long)), 0, &sum); err != nil || len(sum.Marks[0].Project) > maxProjectBytes {
		t.Errorf("a name of %d bytes is kept (%v)", len(sum.Marks[0].Project), err)
	}
}

// FuzzSplit: what passes the scan can be cut, and loses nothing.
func FuzzSplit(f *testing.F) {
	f.Add(marshal(f, everyField()))
	f.Add(marshal(f, requestOf(okSpan(), okSpan())))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var sum Summary
		if Scan(payload, 0, &sum) != nil {
			return
		}
		pieces, err := Divider{}.Split(payload, 3, func(id proxy.TraceID) int { return int(id[15]) % 3 })
		if err != nil {
			t.Fatal(err)
		}
		spans, traces := 0, 0
		for k := range pieces {
			if pieces[k].Items == 0 {
				continue
			}
			var part Summary
			if err := Scan(pieces[k].Payload, 0, &part); err != nil {
				t.Fatalf("piece %d: %v", k, err)
			}
			if part.Spans != pieces[k].Items || len(part.TraceIDs) != len(pieces[k].Traces) {
				t.Fatalf("piece %d: %d spans of %d traces, it says %d of %d", k, part.Spans, len(part.TraceIDs), pieces[k].Items, len(pieces[k].Traces))
			}
			spans += part.Spans
			traces += len(part.TraceIDs)
		}
		if spans != sum.Spans || traces != len(sum.TraceIDs) {
			t.Fatalf("%d spans of %d traces became %d of %d", sum.Spans, len(sum.TraceIDs), spans, traces)
		}
	})
}

// BenchmarkSplit cuts a request of 100 spans in two.
func BenchmarkSplit(b *testing.B) {
	req := requestOf()
	for i := range 100 {
		s := okSpan()
		s.TraceId = append(make([]byte, 15), byte(i/10+1))
		s.Attributes = append(s.Attributes, text("gen_ai.prompt", string(make([]byte, 2000))))
		req.ResourceSpans[0].ScopeSpans[0].Spans = append(req.ResourceSpans[0].ScopeSpans[0].Spans, s)
	}
	payload := marshal(b, req)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Divider{}).Split(payload, 2, func(id proxy.TraceID) int { return int(id[15] % 2) }); err != nil {
			b.Fatal(err)
		}
	}
}
