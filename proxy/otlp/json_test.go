package otlp

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/internal/llmspans"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decodeJSON goes the way of an OTLP/JSON request: to binary, through the
// scan; and decodes what came out.
func decodeJSON(t *testing.T, text []byte) *tracecollector.ExportTraceServiceRequest {
	t.Helper()
	payload, err := appendJSON(nil, text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var req tracecollector.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &req); err != nil {
		t.Fatalf("%v in what became of %s", err, text)
	}
	return &req
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func intKV(key string, v int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v}}}
}

func anyKV(key string, v *common.AnyValue) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: v}
}

func TestJSONOfTheSpecification(t *testing.T) {
	t.Parallel()
	want := &tracecollector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource: &resource.Resource{Attributes: kvs("service.name", "my.service")},
		ScopeSpans: []*trace.ScopeSpans{{
			Scope: &common.InstrumentationScope{
				Name: "my.library", Version: "1.0.0",
				Attributes: kvs("my.scope.attribute", "some scope attribute"),
			},
			Spans: []*trace.Span{{
				TraceId:           unhex(t, "5b8efff798038103d269b633813fc60c"),
				SpanId:            unhex(t, "eee19b7ec3c1b174"),
				ParentSpanId:      unhex(t, "eee19b7ec3c1b173"),
				Name:              "I'm a server span",
				StartTimeUnixNano: 1544712660000000000,
				EndTimeUnixNano:   1544712661000000000,
				Kind:              trace.Span_SPAN_KIND_SERVER,
				Attributes:        kvs("my.span.attr", "some value"),
			}},
		}},
	}}}
	got := decodeJSON(t, readFile(t, "testdata/spec-example.json"))
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJSONOfTheJavaScriptExporter(t *testing.T) {
	t.Parallel()
	str := func(s string) *common.AnyValue {
		return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
	}
	want := &tracecollector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{
			anyKV("service.name", str("caf\u00e9")),
			anyKV("telemetry.sdk.language", str("nodejs")),
			intKV("process.pid", 4711),
			anyKV("process.command_args", &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{
				Values: []*common.AnyValue{str("/usr/bin/node"), str("app.js")},
			}}}),
		}},
		ScopeSpans: []*trace.ScopeSpans{{
			Scope: &common.InstrumentationScope{Name: "openai-instrumentation", Version: "0.5.2"},
			Spans: []*trace.Span{{
				TraceId:           unhex(t, "6ef4b4a1f7cde29b0b7b1e2f87a5b1d0"),
				SpanId:            unhex(t, "8b1a9953c4611296"),
				ParentSpanId:      unhex(t, "f01e1d2c3b4a5968"),
				Name:              "chat gpt-4o",
				Kind:              trace.Span_SPAN_KIND_CLIENT,
				StartTimeUnixNano: 1767225600123000000,
				EndTimeUnixNano:   1767225601456000128,
				Attributes: []*common.KeyValue{
					intKV("gen_ai.usage.input_tokens", 1024),
					anyKV("gen_ai.request.temperature", &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: 0.7}}),
					anyKV("stream", &common.AnyValue{Value: &common.AnyValue_BoolValue{}}),
					anyKV("emoji", str("\U0001f600 cut \ufffd")),
					anyKV("empty", &common.AnyValue{}),
					anyKV("map", &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{
						Values: []*common.KeyValue{intKV("n", -9007199254740993)},
					}}}),
				},
				Events: []*trace.Span_Event{{
					Name: "exception", TimeUnixNano: 1767225601000000000, Attributes: kvs("exception.type", "Error"),
				}},
				Status: &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: "boom"},
				Links: []*trace.Span_Link{{
					TraceId: unhex(t, "0102030405060708090a0b0c0d0e0f10"), SpanId: unhex(t, "0102030405060708"),
					DroppedAttributesCount: 1,
				}},
				Flags: 257,
			}},
		}},
	}}}
	got := decodeJSON(t, readFile(t, "testdata/js-exporter.json"))
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// span wraps JSON members into a request of one span.
func spanJSON(members string) []byte {
	return []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{` + members + `}]}]}]}`)
}

func TestJSONIsGenerousInWhatItAccepts(t *testing.T) {
	t.Parallel()
	value := func(v string) string { return `"attributes":[{"key":"k","value":` + v + `}]` }
	double := func(f float64) *trace.Span {
		return &trace.Span{Attributes: []*common.KeyValue{anyKV("k", &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: f}})}}
	}
	data := func(b string) *trace.Span {
		return &trace.Span{Attributes: []*common.KeyValue{anyKV("k", &common.AnyValue{Value: &common.AnyValue_BytesValue{BytesValue: []byte(b)}})}}
	}
	for name, tc := range map[string]struct {
		members string
		want    *trace.Span
	}{
		"snake_case":           {`"trace_state":"a=b","start_time_unix_nano":5`, &trace.Span{TraceState: "a=b", StartTimeUnixNano: 5}},
		"enum by name":         {`"kind":"SPAN_KIND_SERVER","status":{"code":"STATUS_CODE_OK"}`, &trace.Span{Kind: 2, Status: &trace.Status{Code: 1}}},
		"enum as string":       {`"kind":"3"`, &trace.Span{Kind: 3}},
		"enum of the future":   {`"kind":77`, &trace.Span{Kind: 77}},
		"time as number":       {`"startTimeUnixNano":1767225600123000000`, &trace.Span{StartTimeUnixNano: 1767225600123000000}},
		"time with exponent":   {`"startTimeUnixNano":1.5e9`, &trace.Span{StartTimeUnixNano: 1_500_000_000}},
		"largest time":         {`"startTimeUnixNano":"18446744073709551615"`, &trace.Span{StartTimeUnixNano: math.MaxUint64}},
		"count as string":      {`"droppedLinksCount":"7","flags":"257"`, &trace.Span{DroppedLinksCount: 7, Flags: 257}},
		"smallest integer":     {value(`{"intValue":"-9223372036854775808"}`), &trace.Span{Attributes: []*common.KeyValue{intKV("k", math.MinInt64)}}},
		"integer as 5.0":       {value(`{"intValue":5.0}`), &trace.Span{Attributes: []*common.KeyValue{intKV("k", 5)}}},
		"whole double":         {value(`{"doubleValue":5}`), double(5)},
		"double as string":     {value(`{"doubleValue":"-2.5e-3"}`), double(-0.0025)},
		"infinity":             {value(`{"doubleValue":"-Infinity"}`), double(math.Inf(-1))},
		"NaN":                  {value(`{"doubleValue":"NaN"}`), double(math.NaN())},
		"base64":               {value(`{"bytesValue":"+/8="}`), data("\xfb\xff")},
		"base64 for URLs":      {value(`{"bytesValue":"-_8"}`), data("\xfb\xff")},
		"no bytes":             {value(`{"bytesValue":""}`), data("")},
		"ids in either case":   {`"spanId":"AbCdEf0123456789"`, &trace.Span{SpanId: []byte("\xab\xcd\xef\x01\x23\x45\x67\x89")}},
		"empty parent":         {`"parentSpanId":""`, &trace.Span{}},
		"null":                 {`"name":null,"attributes":null,"status":null`, &trace.Span{}},
		"unknown names":        {`"x":{"a":[1,-2.5e+3,"\u0041",true,false,null,{}],"b":{}},"name":"n","y":[],"z":""`, &trace.Span{Name: "n"}},
		"white space":          {" \"name\" : \n\t\"n\" , \"events\" : [ ] ,\"attributes\" : [ { } , { } ] \r", &trace.Span{Name: "n", Attributes: []*common.KeyValue{{}, {}}}},
		"escapes":              {`"name":"\"\\\/\b\f\n\r\t\u20ac\ud83d\ude00"`, &trace.Span{Name: "\"\\/\b\f\n\r\t\u20ac\U0001f600"}},
		"escaped name":         {`"n\u0061me":"n"`, &trace.Span{Name: "n"}},
		"halves of surrogates": {`"name":"\udc00\ud800\ud800x\ud83dx"`, &trace.Span{Name: "\ufffd\ufffd\ufffdx\ufffdx"}},
		"long value":           {`"name":"` + strings.Repeat("x", 70_000) + `"`, &trace.Span{Name: strings.Repeat("x", 70_000)}},
		"empty array and kvlist": {
			`"attributes":[{"value":{"arrayValue":{}}},{"value":{"kvlistValue":{"values":[]}}}]`,
			&trace.Span{Attributes: []*common.KeyValue{
				anyKV("", &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{}}}),
				anyKV("", &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{}}}),
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := decodeJSON(t, spanJSON(tc.members))
			if diff := cmp.Diff(requestOf(tc.want), got, protocmp.Transform(), cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestJSONSaysWhereARequestIsWrong(t *testing.T) {
	t.Parallel()
	const path = "resourceSpans[0].scopeSpans[0].spans[0]."
	deep := strings.Repeat(`{"arrayValue":{"values":[`, 60) + strings.Repeat(`]}}`, 60)
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":            {"", "the JSON text ends at byte 0, want an object"},
		"array":              {"[]", `found "[]" at byte 0, want an object`},
		"cut":                {`{"resourceSpans":[`, "resourceSpans[0]: the JSON text ends at byte 18, want an object"},
		"more":               {`{} {}`, `found "{}" at byte 3, want the end of the request`},
		"object, not array":  {`{"resourceSpans":{}}`, `resourceSpans[0]: found "{}}" at byte 17, want an array`},
		"trailing comma":     {`{"resourceSpans":[],}`, `found "}" at byte 20, want a name in double quotes`},
		"missing comma":      {`{"resourceSpans":[{}{}]}`, `resourceSpans[1]: found "{}]}" at byte 20, want ',' or ']'`},
		"missing colon":      {`{"resourceSpans"[]}`, `found "[]}" at byte 16, want ':'`},
		"null element":       {`{"resourceSpans":[null]}`, `resourceSpans[0]: found "null]}" at byte 18, want an object`},
		"base64 id":          {string(spanJSON(`"traceId":"W47/95gDgQPSabYzgT/GDA=="`)), path + `traceId: "W47/95gDgQPSabYzgT/GDA==" is not hex; OTLP/JSON writes ids in hex, not in base64`},
		"id as number":       {string(spanJSON(`"traceId":5`)), path + `traceId: found "5}]}]}]}" at byte 54, want a string`},
		"time as fraction":   {string(spanJSON(`"startTimeUnixNano":1.5`)), path + `startTimeUnixNano: found "1.5}]}]}]}" at byte 64, want an integer from 0 to 2^64-1`},
		"negative time":      {string(spanJSON(`"startTimeUnixNano":-1`)), path + `startTimeUnixNano: found "-1}]}]}]}" at byte 64, want an integer from 0 to 2^64-1`},
		"long bits":          {string(spanJSON(`"startTimeUnixNano":{"low":1}`)), path + `startTimeUnixNano: found "{\"low\":1}}]}]}]}" at byte 64, want an integer from 0 to 2^64-1`},
		"unknown kind":       {string(spanJSON(`"kind":"CLIENT"`)), path + `kind: found "\"CLIENT\"}]}]}]}" at byte 51, want the integer of an enum value`},
		"count too large":    {string(spanJSON(`"droppedLinksCount":4294967296`)), path + `droppedLinksCount: found "4294967296}]}]}]}" at byte 64, want an integer from 0 to 2^32-1`},
		"count by exponent":  {string(spanJSON(`"droppedLinksCount":1e10`)), path + `droppedLinksCount: found "1e10}]}]}]}" at byte 64, want an integer from 0 to 2^32-1`},
		"integer too large":  {string(spanJSON(`"attributes":[{"value":{"intValue":1e19}}]`)), path + `attributes[0].value.intValue: found "1e19}}]}]}]}]}" at byte 79, want an integer of 64 bits`},
		"leading zero":       {string(spanJSON(`"attributes":[{"value":{"intValue":01}}]`)), path + `attributes[0].value.intValue: found "01}}]}]}]}]}" at byte 79, want an integer of 64 bits`},
		"text as boolean":    {string(spanJSON(`"attributes":[{"value":{"boolValue":"true"}}]`)), path + `attributes[0].value.boolValue: found "\"true\"}}]}]}]}]}" at byte 80, want true or false`},
		"bad escape":         {string(spanJSON(`"name":"\x"`)), path + `name: found "\\x\"}]}]}]}" at byte 52, want a string`},
		"control character":  {string(spanJSON("\"name\":\"a\nb\"")), path + `name: found "\nb\"}]}]}]}" at byte 53, want a string`},
		"not base64":         {string(spanJSON(`"attributes":[{"value":{"bytesValue":"*"}}]`)), path + "attributes[0].value.bytesValue: not base64: illegal base64 data at input byte 0"},
		"unknown unfinished": {`{"x":[1,2`, `the JSON text ends at byte 9, want ',' or ']'`},
		"unknown word":       {`{"x":nil}`, `found "nil}" at byte 5, want a value`},
		"unknown too deep":   {`{"x":` + strings.Repeat("[", 2000), "an unknown value nests deeper than 1000 levels"},
		"too deep": {
			string(spanJSON(`"attributes":[{"value":` + deep + `}]`)),
			path + "attributes[0].value." + strings.Repeat("arrayValue.values[0].", 47) + "arrayValue: messages nest deeper than 100 levels",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := appendJSON(nil, []byte(tc.text))
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

func TestJSONOfRealRequestsIsTheirBinaryForm(t *testing.T) {
	t.Parallel()
	payload, _ := llmspans.New(2).Request(50)
	var req tracecollector.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &req); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*tracecollector.ExportTraceServiceRequest{&req, everyField(), {}} {
		if diff := cmp.Diff(m, decodeJSON(t, toJSON(t, m)), protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// toJSON writes OTLP/JSON with the help of protobuf's own mapping.
func toJSON(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	decoder := json.NewDecoder(strings.NewReader(string(b)))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	hexIDs(t, tree)
	b, err = json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hexIDs turns the base64 of ids into hex. Only OTLP's own names are keys
// here, whatever the attributes are called.
func hexIDs(t testing.TB, tree any) {
	t.Helper()
	switch v := tree.(type) {
	case []any:
		for _, e := range v {
			hexIDs(t, e)
		}
	case map[string]any:
		for key, e := range v {
			if key != "traceId" && key != "spanId" && key != "parentSpanId" {
				hexIDs(t, e)
				continue
			}
			text, ok := e.(string)
			if !ok {
				t.Fatalf("%s is %v", key, e)
			}
			id, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			v[key] = hex.EncodeToString(id)
		}
	}
}

// FuzzJSON: what is taken for JSON is JSON, and becomes well-formed protobuf.
func FuzzJSON(f *testing.F) {
	for _, name := range []string{"testdata/spec-example.json", "testdata/js-exporter.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	var sum Summary
	f.Fuzz(func(t *testing.T, text []byte) {
		payload, err := appendJSON(nil, text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("took %q for JSON", text)
		}
		checkAgainstUnmarshal(t, payload, &sum)
		var req tracecollector.ExportTraceServiceRequest
		if err := proto.Unmarshal(payload, &req); err != nil && !strings.Contains(err.Error(), "UTF-8") {
			t.Fatalf("%q became %x: %v", text, payload, err)
		}
	})
}

// FuzzJSONRoundTrip: any request survives being written as JSON.
func FuzzJSONRoundTrip(f *testing.F) {
	f.Add(marshal(f, everyField()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var req tracecollector.ExportTraceServiceRequest
		if proto.Unmarshal(payload, &req) != nil {
			return
		}
		binary, err := appendJSON(nil, toJSON(t, &req))
		if err != nil {
			if strings.Contains(err.Error(), "nest deeper") {
				return
			}
			t.Fatal(err)
		}
		var got tracecollector.ExportTraceServiceRequest
		if err := proto.Unmarshal(binary, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&req, &got, protocmp.Transform(), protocmp.IgnoreUnknown(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
