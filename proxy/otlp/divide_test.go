package otlp_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/proxy/otlp"
)

// flatSpan is a span with what it hangs on.
type flatSpan struct {
	Resource *resourcepb.Resource
	Scope    string
	URLs     string
	Span     *tracepb.Span
}

func flatten(t *testing.T, payload []byte) (out []flatSpan) {
	t.Helper()
	var req collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &req); err != nil {
		t.Fatal(err)
	}
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				out = append(out, flatSpan{rs.GetResource(), ss.GetScope().GetName(), rs.GetSchemaUrl() + ss.GetSchemaUrl(), s})
			}
		}
	}
	return out
}

// nested is a request with several resources and scopes, some of them empty.
func nested(t *testing.T) []byte {
	t.Helper()
	n := byte(0)
	spans := func(count int) (out []*tracepb.Span) {
		for range count {
			n++
			out = append(out, &tracepb.Span{
				TraceId: append(make([]byte, 15), n), SpanId: append(make([]byte, 7), n), Name: string(rune('a' + n)),
			})
		}
		return out
	}
	req := &collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{
		{SchemaUrl: "r1", ScopeSpans: []*tracepb.ScopeSpans{{SchemaUrl: "s1", Spans: spans(2)}, {Spans: spans(0)}, {SchemaUrl: "s2", Spans: spans(3)}}},
		{SchemaUrl: "empty"},
		{Resource: &resourcepb.Resource{DroppedAttributesCount: 7}, ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans(1)}}},
	}}
	b, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDividerKeepsEverySpanWithItsResourceAndScope(t *testing.T) {
	payload := nested(t)
	payload = append(payload, nested(t)...) // concatenated requests are one
	all := flatten(t, payload)
	for from := range all {
		for to := from + 1; to <= len(all); to++ {
			p, err := otlp.Divider{}.Slice(payload, from, to)
			if err != nil {
				t.Fatalf("slice [%d,%d): %v", from, to, err)
			}
			if diff := cmp.Diff(all[from:to], flatten(t, p.Payload), protocmp.Transform()); diff != "" {
				t.Errorf("slice [%d,%d) (-want +got):\n%s", from, to, diff)
			}
			if p.Items != to-from || len(p.Traces) == 0 || len(p.Traces) > p.Items {
				t.Errorf("slice [%d,%d): %d items, %d traces", from, to, p.Items, len(p.Traces))
			}
		}
	}
}

func TestDividerRefusesWhatIsNotThere(t *testing.T) {
	payload := nested(t)
	for _, r := range [][2]int{{0, 0}, {0, 7}, {6, 7}, {3, 2}} {
		if p, err := (otlp.Divider{}).Slice(payload, r[0], r[1]); err == nil {
			t.Errorf("slice [%d,%d) of 6 spans gave %d items", r[0], r[1], p.Items)
		}
	}
	if _, err := (otlp.Divider{}).Slice([]byte("\x0a\xff"), 0, 1); err == nil {
		t.Error("a payload that is no message was sliced")
	}
}
