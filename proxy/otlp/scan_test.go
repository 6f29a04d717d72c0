package otlp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"weir/internal/llmspans"
	"weir/proxy"
)

func TestScanCountsSpansAndDistinctTraces(t *testing.T) {
	t.Parallel()
	var sum Summary // used again and again: nothing may leak from one scan to the next
	for _, n := range []int{100, 1, 0, 1000, 8, 9, 10, 3} {
		payload, ids := llmspans.New(uint64(n)).Request(n)
		if err := Scan(payload, 0, &sum); err != nil {
			t.Fatalf("n=%d: %v", n, err)
		}
		if sum.Spans != n || sum.NamesProject {
			t.Errorf("n=%d: %d spans, names project %v", n, sum.Spans, sum.NamesProject)
		}
		var want []proxy.TraceID
		seen := map[proxy.TraceID]bool{}
		for _, id := range ids {
			if !seen[id.TraceID] {
				seen[id.TraceID] = true
				want = append(want, id.TraceID)
			}
		}
		if diff := cmp.Diff(want, append([]proxy.TraceID(nil), sum.TraceIDs...)); diff != "" {
			t.Errorf("n=%d: trace ids (-want +got):\n%s", n, diff)
		}
	}
}

func TestScanFindsRepeatedTracesAmongMany(t *testing.T) {
	t.Parallel()
	var spans []*trace.Span
	for round := range 3 {
		for i := range 500 {
			s := okSpan()
			s.TraceId = append([]byte{1, byte(i >> 8), byte(i)}, make([]byte, 13)...)
			s.SpanId[0] = byte(round + 1)
			spans = append(spans, s)
		}
	}
	var sum Summary
	if err := Scan(marshal(t, requestOf(spans...)), 0, &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Spans != 1500 || len(sum.TraceIDs) != 500 {
		t.Errorf("%d spans in %d traces, want 1500 in 500", sum.Spans, len(sum.TraceIDs))
	}
}

func TestScanReadsWhatLangSmithBillsAndFiles(t *testing.T) {
	t.Parallel()
	uuid := "018f4c1a-7b2d-7e3f-8a9b-0c1d2e3f4a5b"
	want := proxy.TraceID{0x01, 0x8f, 0x4c, 0x1a, 0x7b, 0x2d, 0x7e, 0x3f, 0x8a, 0x9b, 0x0c, 0x1d, 0x2e, 0x3f, 0x4a, 0x5b}
	own := proxy.TraceID(okSpan().GetTraceId())
	for name, tc := range map[string]struct {
		attributes, resource []*common.KeyValue
		id                   proxy.TraceID
		project              bool
	}{
		"nothing":                 {id: own},
		"UUID":                    {attributes: kvs(attrTraceID, uuid), id: want},
		"UUID in capitals":        {attributes: kvs(attrTraceID, strings.ToUpper(uuid)), id: want},
		"hex":                     {attributes: kvs(attrTraceID, strings.ReplaceAll(uuid, "-", "")), id: want},
		"last of two":             {attributes: append(kvs(attrTraceID, strings.Repeat("1", 32)), kvs(attrTraceID, uuid)...), id: want},
		"zero":                    {attributes: kvs(attrTraceID, strings.Repeat("0", 32)), id: own},
		"not hex":                 {attributes: kvs(attrTraceID, strings.Repeat("x", 32)), id: own},
		"misplaced dashes":        {attributes: kvs(attrTraceID, "018f4c1a7-b2d-7e3f-8a9b-0c1d2e3f4a5b"), id: own},
		"empty":                   {attributes: kvs(attrTraceID, ""), id: own},
		"a resource's id":         {resource: kvs(attrTraceID, uuid), id: own},
		"an event-like other key": {attributes: kvs("langsmith.trace.idx", uuid), id: own},
		"session name":            {attributes: kvs(attrSessionName, "p"), id: own, project: true},
		"session id":              {attributes: kvs(attrSessionID, uuid), id: own, project: true},
		"resource session name":   {resource: kvs(attrSessionName, "p"), id: own, project: true},
		"key inside a value": {id: own, attributes: []*common.KeyValue{{
			Key: "map", Value: &common.AnyValue{Value: &common.AnyValue_KvlistValue{
				KvlistValue: &common.KeyValueList{Values: append(kvs(attrTraceID, uuid), kvs(attrSessionName, "p")...)},
			}},
		}}},
		"integer": {id: own, attributes: []*common.KeyValue{{Key: attrTraceID, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: 7}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := okSpan()
			s.Attributes = tc.attributes
			req := requestOf(s)
			req.ResourceSpans[0].Resource = &resource.Resource{Attributes: tc.resource}
			var sum Summary
			if err := Scan(marshal(t, req), 0, &sum); err != nil {
				t.Fatal(err)
			}
			if len(sum.TraceIDs) != 1 || sum.TraceIDs[0] != tc.id {
				t.Errorf("trace ids %x, want %x", sum.TraceIDs, tc.id)
			}
			if sum.NamesProject != tc.project {
				t.Errorf("names project: %v, want %v", sum.NamesProject, tc.project)
			}
		})
	}
}

func TestScanSaysWhereARequestIsWrong(t *testing.T) {
	t.Parallel()
	span := func(change func(*trace.Span)) []byte {
		bad := okSpan()
		change(bad)
		req := requestOf(okSpan(), bad)
		req.ResourceSpans[0].ScopeSpans = append([]*trace.ScopeSpans{{}, {Spans: []*trace.Span{okSpan()}}}, req.ResourceSpans[0].ScopeSpans...)
		return marshal(t, req)
	}
	const path = "resource_spans[0].scope_spans[2].spans[1]"
	good := marshal(t, requestOf(okSpan()))
	for name, tc := range map[string]struct {
		payload []byte
		want    string
	}{
		"short trace id": {span(func(s *trace.Span) { s.TraceId = s.TraceId[:15] }), path + ".trace_id: 15 bytes, want 16"},
		"no trace id":    {span(func(s *trace.Span) { s.TraceId = nil }), path + ".trace_id: 0 bytes, want 16"},
		"zero trace id":  {span(func(s *trace.Span) { s.TraceId = make([]byte, 16) }), path + ".trace_id: all zero, want a random id"},
		"long span id":   {span(func(s *trace.Span) { s.SpanId = make([]byte, 9) }), path + ".span_id: 9 bytes, want 8"},
		"zero span id":   {span(func(s *trace.Span) { s.SpanId = make([]byte, 8) }), path + ".span_id: all zero, want a random id"},
		"short parent":   {span(func(s *trace.Span) { s.ParentSpanId = []byte{1} }), path + ".parent_span_id: 1 bytes, want 8, or none for a root span"},
		"link trace id": {
			span(func(s *trace.Span) { s.Links = []*trace.Span_Link{{}, {TraceId: []byte("x")}} }),
			path + ".links[1].trace_id: 1 bytes, want 16",
		},
		"link span id": {
			span(func(s *trace.Span) { s.Links = []*trace.Span_Link{{SpanId: []byte("x")}} }),
			path + ".links[0].span_id: 1 bytes, want 8",
		},
		"truncated": {good[:len(good)-1], fmt.Sprintf("resource_spans[0]: length %d at byte 1, but only %d bytes are left", len(good)-2, len(good)-3)},
		"text":      {[]byte("hello"), "field 13 at byte 3: mismatching end group marker"},
		"field 0":   {[]byte{0x02, 0x00}, "field number 0 before byte 1 is not allowed"},
		"not UTF-8": {
			raw(1, raw(2, raw(2, raw(9, raw(2, raw(1, []byte{0xff})))))),
			"resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value: not valid UTF-8",
		},
		"length over": {
			raw(1, raw(2, []byte{0x12, 0x7f, 0})),
			"resource_spans[0].scope_spans[0].spans[0]: length 127 at byte 5, but only 1 bytes are left",
		},
		"endless varint": {
			raw(1, raw(2, raw(2, append([]byte{6 << 3}, bytes.Repeat([]byte{0xff}, 11)...)))),
			"resource_spans[0].scope_spans[0].spans[0].kind: value at byte 7: variable length integer overflow",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A cap beyond the length must not disturb the offsets.
			payload := append(make([]byte, 0, len(tc.payload)+100), tc.payload...)
			var sum Summary
			err := Scan(payload, 0, &sum)
			var scan *ScanError
			if !errors.As(err, &scan) || scan.Reason != reasonMalformed {
				t.Fatalf("got %v, want a malformed ScanError", err)
			}
			if err.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", err, tc.want)
			}
		})
	}
}

func TestScanBoundsSpans(t *testing.T) {
	t.Parallel()
	payload, _ := llmspans.New(1).Request(11)
	var sum Summary
	if err := Scan(payload, 11, &sum); err != nil {
		t.Errorf("11 spans of 11: %v", err)
	}
	var scan *ScanError
	if err := Scan(payload, 10, &sum); !errors.As(err, &scan) || scan.Reason != reasonTooManySpans {
		t.Errorf("11 spans of 10: got %v, want too_many_spans", err)
	}
}

func TestScanBoundsDepth(t *testing.T) {
	t.Parallel()
	// request, resource spans, scope spans, span, attribute: five levels, then
	// two for each array around the innermost value, and that value.
	nested := func(arrays int, v []byte) []byte {
		for range arrays {
			v = raw(5, raw(1, v))
		}
		span := append(raw(1, bytes.Repeat([]byte{1}, 16)), raw(2, bytes.Repeat([]byte{1}, 8))...)
		return raw(1, raw(2, raw(2, append(span, raw(9, raw(2, v))...))))
	}
	var sum Summary
	if err := Scan(nested((maxDepth-6)/2, raw(1, []byte("leaf"))), 0, &sum); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	// One level more than that: an array where the innermost value was.
	err := Scan(nested((maxDepth-6)/2, raw(5, nil)), 0, &sum)
	if err == nil || !strings.Contains(err.Error(), "nest deeper than 100 levels") {
		t.Errorf("%d levels: got %v", maxDepth+1, err)
	}
}

func TestScanPassesOverWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	unknown := protowire.AppendTag(nil, 99, protowire.StartGroupType)
	unknown = protowire.AppendTag(unknown, 3, protowire.Fixed32Type)
	unknown = append(unknown, 1, 2, 3, 4)
	unknown = protowire.AppendTag(unknown, 99, protowire.EndGroupType)
	unknown = protowire.AppendTag(unknown, 1, protowire.VarintType) // resource_spans as a number
	unknown = append(unknown, 5)
	unknown = append(unknown, raw(5000, []byte{0xff})...)
	payload := append(unknown, marshal(t, requestOf(okSpan()))...)
	var sum Summary
	if err := Scan(payload, 0, &sum); err != nil || sum.Spans != 1 {
		t.Errorf("%d spans, %v", sum.Spans, err)
	}
	if err := proto.Unmarshal(payload, &tracecollector.ExportTraceServiceRequest{}); err != nil {
		t.Errorf("the same with proto.Unmarshal: %v", err)
	}
}

func TestScanDoesNotAllocate(t *testing.T) {
	payload, _ := llmspans.New(1).Request(100)
	var sum Summary
	if n := testing.AllocsPerRun(100, func() {
		if err := Scan(payload, 0, &sum); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per scan, want 0", n)
	}
}

// TestScanAgreesWithUnmarshal flips bits and cuts bytes of a request. The fuzz
// test looks further; this one always runs.
func TestScanAgreesWithUnmarshal(t *testing.T) {
	t.Parallel()
	payload := marshal(t, everyField())
	var sum Summary
	for i := range payload {
		for _, bit := range []byte{1, 0x10, 0x80} {
			flipped := bytes.Clone(payload)
			flipped[i] ^= bit
			checkAgainstUnmarshal(t, flipped, &sum)
		}
		checkAgainstUnmarshal(t, payload[:i], &sum)
	}
}

func FuzzScan(f *testing.F) {
	f.Add(marshal(f, everyField()))
	f.Add(marshal(f, requestOf(okSpan(), okSpan())))
	var sum Summary
	f.Fuzz(func(t *testing.T, payload []byte) {
		checkAgainstUnmarshal(t, payload, &sum)
	})
}

// checkAgainstUnmarshal holds Scan against proto.Unmarshal and a plain reading
// of the rules.
func checkAgainstUnmarshal(t *testing.T, payload []byte, sum *Summary) {
	t.Helper()
	err := Scan(payload, 0, sum)
	if err != nil && strings.Contains(err.Error(), "nest deeper") {
		return // stricter than proto on purpose
	}
	var req tracecollector.ExportTraceServiceRequest
	wantErr := proto.Unmarshal(payload, &req)
	want := Summary{}
	if wantErr == nil {
		wantErr = readPlainly(&req, &want)
	}
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("Scan says %v, the oracle says %v, of %x", err, wantErr, payload)
	}
	if err != nil {
		return
	}
	if sum.Spans != want.Spans || sum.NamesProject != want.NamesProject || !equalIDs(sum.TraceIDs, want.TraceIDs) {
		t.Fatalf("Scan found %d spans, ids %x, project %v; the oracle %d, %x, %v; of %x",
			sum.Spans, sum.TraceIDs, sum.NamesProject, want.Spans, want.TraceIDs, want.NamesProject, payload)
	}
}

func equalIDs(a, b []proxy.TraceID) bool {
	return len(a) == len(b) && (len(a) == 0 || cmp.Equal(append([]proxy.TraceID(nil), a...), b))
}

// readPlainly is what Scan does, done slowly and simply on a decoded request.
func readPlainly(req *tracecollector.ExportTraceServiceRequest, sum *Summary) error {
	seen := map[proxy.TraceID]bool{}
	for _, rs := range req.GetResourceSpans() {
		notePlainly(rs.GetResource().GetAttributes(), sum)
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				if err := checkPlainly(s); err != nil {
					return err
				}
				id := proxy.TraceID(s.GetTraceId())
				if o, ok := notePlainly(s.GetAttributes(), sum); ok {
					id = o
				}
				sum.Spans++
				if !seen[id] {
					seen[id] = true
					sum.TraceIDs = append(sum.TraceIDs, id)
				}
			}
		}
	}
	return nil
}

func notePlainly(attributes []*common.KeyValue, sum *Summary) (id proxy.TraceID, found bool) {
	for _, kv := range attributes {
		switch kv.GetKey() {
		case attrSessionName, attrSessionID:
			sum.NamesProject = true
		case attrTraceID:
			if o, ok := parseTraceID([]byte(kv.GetValue().GetStringValue())); ok {
				id, found = o, true
			}
		}
	}
	return id, found
}

func checkPlainly(s *trace.Span) error {
	zero := make([]byte, 16)
	switch {
	case len(s.GetTraceId()) != 16 || bytes.Equal(s.GetTraceId(), zero):
		return errors.New("trace id")
	case len(s.GetSpanId()) != 8 || bytes.Equal(s.GetSpanId(), zero[:8]):
		return errors.New("span id")
	case len(s.GetParentSpanId()) != 0 && len(s.GetParentSpanId()) != 8:
		return errors.New("parent id")
	}
	for _, l := range s.GetLinks() {
		if n := len(l.GetTraceId()); n != 0 && n != 16 {
			return errors.New("link trace id")
		}
		if n := len(l.GetSpanId()); n != 0 && n != 8 {
			return errors.New("link span id")
		}
	}
	return nil
}

// everyField returns a small request with every field of OTLP traces in it.
func everyField() *tracecollector.ExportTraceServiceRequest {
	list := &common.KeyValueList{Values: kvs("k", "v")}
	array := &common.ArrayValue{Values: []*common.AnyValue{
		{Value: &common.AnyValue_BoolValue{BoolValue: true}},
		{Value: &common.AnyValue_IntValue{IntValue: -7}},
		{Value: &common.AnyValue_DoubleValue{DoubleValue: 0.5}},
		{Value: &common.AnyValue_BytesValue{BytesValue: []byte{0xff}}},
		{Value: &common.AnyValue_KvlistValue{KvlistValue: list}},
	}}
	attributes := append(kvs(attrTraceID, "018f4c1a-7b2d-7e3f-8a9b-0c1d2e3f4a5b"),
		&common.KeyValue{Key: "a", Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: array}}})
	return &tracecollector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource: &resource.Resource{
			Attributes: kvs("service.name", "s"), DroppedAttributesCount: 1,
			EntityRefs: []*common.EntityRef{{SchemaUrl: "u", Type: "t", IdKeys: []string{"i"}, DescriptionKeys: []string{"d"}}},
		},
		SchemaUrl: "u",
		ScopeSpans: []*trace.ScopeSpans{{
			Scope:     &common.InstrumentationScope{Name: "n", Version: "1", Attributes: kvs("k", "v"), DroppedAttributesCount: 2},
			SchemaUrl: "u",
			Spans: []*trace.Span{{
				TraceId: []byte("0123456789abcdef"), SpanId: []byte("01234567"), ParentSpanId: []byte("76543210"),
				TraceState: "a=b", Flags: 257, Name: "chat", Kind: trace.Span_SPAN_KIND_CLIENT,
				StartTimeUnixNano: 1_767_225_600_000_000_000, EndTimeUnixNano: 1_767_225_601_000_000_000,
				Attributes: attributes, DroppedAttributesCount: 3,
				Events:             []*trace.Span_Event{{TimeUnixNano: 5, Name: "e", Attributes: kvs("k", "\u00e9"), DroppedAttributesCount: 4}},
				DroppedEventsCount: 5,
				Links: []*trace.Span_Link{{
					TraceId: []byte("fedcba9876543210"), SpanId: []byte("abcdefgh"), TraceState: "c=d",
					Attributes: kvs("k", "v"), DroppedAttributesCount: 6, Flags: 256,
				}},
				DroppedLinksCount: 7,
				Status:            &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: "m"},
			}},
		}},
	}}}
}

// okSpan returns a span with valid ids and little else.
func okSpan() *trace.Span {
	return &trace.Span{
		TraceId: []byte("0123456789abcdef"),
		SpanId:  []byte("01234567"),
		Name:    "chat",
	}
}

func requestOf(spans ...*trace.Span) *tracecollector.ExportTraceServiceRequest {
	return &tracecollector.ExportTraceServiceRequest{
		ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{{Spans: spans}}}},
	}
}

func kvs(key, value string) []*common.KeyValue {
	return []*common.KeyValue{{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}}
}

// raw is one length-delimited field.
func raw(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
