package smith

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestOTLPArrivesUnchangedInEveryEncoding(t *testing.T) {
	one := payload(t, newSpan(1, 1, str("gen_ai.prompt", "héllo\n")))
	two := payload(t, newSpan(1, 2), newSpan(2, 3))
	both := slices.Concat(one, two) // concatenated requests are the merged one
	cut := len(both) / 3
	tests := []struct {
		name, encoding string
		body           []byte
	}{
		{"plain", "", both},
		{"identity", "identity", both},
		{"gzip", "gzip", zipped(t, both)},
		{"gzip of many members", "GZIP", zipped(t, both[:cut], both[cut:])},
		{"zstd", "zstd", zstdded(t, both)},
		{"zstd of many frames", "zstd", zstdded(t, both[:cut], nil, both[cut:])},
		{"zstd streamed without sizes", "zstd", zstdStream(t, both)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := start(t, Config{})
			a := c.export(tt.body, "Content-Encoding", tt.encoding)
			a.want(t, 200, "")
			if got := a.header.Get("Content-Type"); got != contentProtobuf {
				t.Errorf("Content-Type = %q, want %q", got, contentProtobuf)
			}
			var got []*tracepb.Span
			for _, sp := range s.Spans() {
				got = append(got, sp.OTLP)
			}
			want := []*tracepb.Span{newSpan(1, 1, str("gen_ai.prompt", "héllo\n")), newSpan(1, 2), newSpan(2, 3)}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
			if r := s.Requests()[0]; !bytes.Equal(r.Payload, both) || r.WireBytes != int64(len(tt.body)) {
				t.Errorf("payload differs, or wire bytes %d are not %d", r.WireBytes, len(tt.body))
			}
		})
	}
}

// zstdStream compresses as a stream, whose frame does not tell its size.
func zstdStream(t *testing.T, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const jsonBody = `{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"test"},"spans":[{
	"traceId":"00000000000000000000000000ABCDEF","spanId":"0000000000000001","parentSpanId":"",
	"name":"x","kind":1,"startTimeUnixNano":"1795435200000000000","endTimeUnixNano":1795435201000000000,
	"links":[{"traceId":"0000000000000000000000000000000f","spanId":"000000000000000e"}],
	"attributes":[{"key":"n","value":{"intValue":"7"}}],"unknownField":true}]}]}]}`

func TestOTLPInJSONHasHexIDs(t *testing.T) {
	s, c := start(t, Config{})
	a := c.export([]byte(jsonBody), "Content-Type", "application/json; charset=utf-8")
	a.want(t, 200, "{}")
	want := &tracepb.Span{
		TraceId: traceID(0xabcdef), SpanId: spanID(1), Name: "x", Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: 1795435200000000000, EndTimeUnixNano: 1795435201000000000,
		Links:      []*tracepb.Span_Link{{TraceId: traceID(15), SpanId: spanID(14)}},
		Attributes: newSpan(1, 1, num("n", 7)).Attributes,
	}
	if diff := cmp.Diff(want, s.Spans()[0].OTLP, protocmp.Transform()); diff != "" {
		t.Errorf("span (-want +got):\n%s", diff)
	}
	for name, body := range map[string]string{
		"base64 ids":  `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"AAAAAAAAAAAAAAAAAAAAAQ==","spanId":"AAAAAAAAAAE="}]}]}]}`,
		"cut short":   jsonBody[:len(jsonBody)/2],
		"not an id":   strings.Replace(jsonBody, "ABCDEF", "WXYZ__", 1),
		"link no hex": strings.Replace(jsonBody, "000000000000000e", "00000000000000zz", 1),
	} {
		if a := c.export([]byte(body), "Content-Type", contentJSON); a.status != 400 {
			t.Errorf("%s: answer = %d %q, want 400", name, a.status, a.body)
		}
	}
}

func TestSwitchesDecideWhatBecomesOfABody(t *testing.T) {
	good := payload(t, newSpan(1, 1))
	stale := newSpan(1, 2)
	stale.StartTimeUnixNano = uint64(noon.Add(-24*time.Hour - 1).UnixNano())
	early := newSpan(1, 3)
	early.StartTimeUnixNano = uint64(noon.Add(24*time.Hour + 1).UnixNano())
	edge := newSpan(1, 4)
	edge.StartTimeUnixNano = uint64(noon.Add(-24 * time.Hour).UnixNano())
	tests := []struct {
		name     string
		switches Switches
		kind     string
		encoding string
		body     []byte
		status   int
		spans    int
		lost     int64
	}{
		{name: "zstd 415", switches: Switches{OTLPZstd: Unsupported}, encoding: "zstd", body: zstdded(t, good), status: 415},
		{name: "zstd lost", switches: Switches{OTLPZstd: Lost}, encoding: "zstd", body: zstdded(t, good), status: 200, lost: 1},
		{name: "gzip while zstd is lost", switches: Switches{OTLPZstd: Lost}, encoding: "gzip", body: zipped(t, good), status: 200, spans: 1},
		{name: "json 415", switches: Switches{OTLPJSON: Unsupported}, kind: contentJSON, body: []byte(jsonBody), status: 415},
		{name: "json lost", switches: Switches{OTLPJSON: Lost}, kind: contentJSON, body: []byte(jsonBody), status: 200, lost: 1},
		{name: "json while protobuf is fine", switches: Switches{OTLPJSON: Lost}, body: good, status: 200, spans: 1},
		{name: "malformed", body: good[:len(good)-1], status: 400},
		{name: "malformed lost", switches: Switches{OTLPMalformed: MalformedLost}, body: good[:len(good)-1], status: 200, lost: 1},
		{name: "damaged gzip", encoding: "gzip", body: zipped(t, good)[:20], status: 400},
		{name: "damaged gzip lost", switches: Switches{OTLPMalformed: MalformedLost}, encoding: "gzip", body: good, status: 200, lost: 1},
		{name: "damaged zstd", encoding: "zstd", body: good, status: 400},
		{name: "unknown encoding", encoding: "br", body: good, status: 415},
		{name: "unknown type", kind: "text/plain", body: good, status: 415},
		{name: "stale, window off", body: payload(t, stale), status: 200, spans: 1},
		{name: "stale, 400", switches: Switches{OTLPWindow: Window400}, body: payload(t, stale), status: 400},
		{name: "stale, 422", switches: Switches{OTLPWindow: Window422}, body: payload(t, stale), status: 422},
		{name: "early, 422", switches: Switches{OTLPWindow: Window422}, body: payload(t, early), status: 422},
		{name: "just in time", switches: Switches{OTLPWindow: Window422}, body: payload(t, edge), status: 200, spans: 1},
		{name: "one stale of two", switches: Switches{OTLPWindow: Window400}, body: payload(t, newSpan(1, 1), stale), status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := start(t, Config{Switches: tt.switches, Now: func() time.Time { return noon }})
			pairs := []string{"Content-Encoding", tt.encoding}
			if tt.kind != "" {
				pairs = append(pairs, "Content-Type", tt.kind)
			}
			a := c.export(tt.body, pairs...)
			st := s.Stats()
			if a.status != tt.status || len(s.Spans()) != tt.spans || st.Lost.Requests != tt.lost || st.DistinctSpans != int64(tt.spans) {
				t.Errorf("answer %d %q, %d spans, %d lost; want %d, %d, %d",
					a.status, a.body, len(s.Spans()), st.Lost.Requests, tt.status, tt.spans, tt.lost)
			}
			if a.status >= 400 && !strings.HasPrefix(a.body, `{"error":"`) {
				t.Errorf("body = %q, want the Go service's form", a.body)
			}
		})
	}
}

func TestWindowIsEnforcedWhateverIsKept(t *testing.T) {
	cfg := Config{Keep: KeepCounts, Switches: Switches{OTLPWindow: Window422}, Now: func() time.Time { return noon.Add(48 * time.Hour) }}
	_, c := start(t, cfg)
	c.export(payload(t, newSpan(1, 1))).want(t, 422,
		"{\"error\":\"Unprocessable entity: start_time is outside a 24-hour window of now: "+
			"span 0000000000000001 started 2026-11-23T12:00:00Z\"}\n")
}

func TestInvalidIDsAreMalformed(t *testing.T) {
	for name, change := range map[string]func(*tracepb.Span){
		"short trace id": func(s *tracepb.Span) { s.TraceId = s.TraceId[:15] },
		"no trace id":    func(s *tracepb.Span) { s.TraceId = nil },
		"zero trace id":  func(s *tracepb.Span) { s.TraceId = make([]byte, 16) },
		"long span id":   func(s *tracepb.Span) { s.SpanId = append(s.SpanId, 1) },
		"no span id":     func(s *tracepb.Span) { s.SpanId = nil },
		"zero span id":   func(s *tracepb.Span) { s.SpanId = make([]byte, 8) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := newSpan(1, 2)
			change(bad)
			s, c := start(t, Config{})
			a := c.export(payload(t, newSpan(1, 1), bad))
			if a.status != 400 || !strings.Contains(a.body, "span 1: ") || s.Stats().Taken.Spans != 0 {
				t.Errorf("answer = %d %q with %d spans taken, want 400 naming span 1", a.status, a.body, s.Stats().Taken.Spans)
			}
		})
	}
}

func TestSpansBelongToTheProjectTheSwitchSays(t *testing.T) {
	plain, named := newSpan(1, 1), newSpan(1, 2, str("langsmith.trace.session_name", "own"))
	tests := []struct {
		name   string
		source ProjectSource
		header string
		want   []string
	}{
		{"nothing names it", HeaderFirst, "", []string{"default", "own"}},
		{"header first", HeaderFirst, "head", []string{"head", "head"}},
		{"attribute first", AttributeFirst, "head", []string{"head", "own"}},
		{"attribute first without header", AttributeFirst, "", []string{"default", "own"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := start(t, Config{Switches: Switches{OTLPProject: tt.source}})
			c.export(payload(t, plain, named), "Langsmith-Project", tt.header).want(t, 200, "")
			want := map[string]int64{}
			for i, sp := range s.Spans() {
				if sp.Project != tt.want[i] {
					t.Errorf("span %d is in %q, want %q", i, sp.Project, tt.want[i])
				}
				want[tt.want[i]]++
			}
			if diff := cmp.Diff(want, s.Stats().ByProject); diff != "" {
				t.Errorf("ByProject (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTracesAreCountedAsLangSmithBillsThem(t *testing.T) {
	s, c := start(t, Config{})
	billed := "0000000000000000-0000"
	c.export(payload(t,
		newSpan(1, 1), newSpan(1, 2),
		newSpan(2, 3, str("langsmith.trace.id", "00000000-0000-0000-0000-000000000001")),
		newSpan(3, 4, str("langsmith.trace.id", billed)), // not a UUID: does not count
	)).want(t, 200, "")
	st := s.Stats()
	if st.Traces != 2 || st.DistinctSpans != 4 {
		t.Errorf("%d traces of %d spans, want 2 of 4", st.Traces, st.DistinctSpans)
	}
	if got := s.Spans()[2].Trace; got != TraceID(traceID(1)) {
		t.Errorf("span 3 is billed as %s", got)
	}
}

func TestBodiesBeyondTheLimitsAre413(t *testing.T) {
	big := payload(t, newSpan(1, 1, str("x", strings.Repeat("x", 1<<20))))
	small := Config{MaxBodyBytes: 64 << 10, MaxRawBytes: 512 << 10}
	chunked := func(t *testing.T, _ *client) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tracesPath, io.MultiReader(bytes.NewReader(big)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header("X-Api-Key", keyA, "Content-Type", contentProtobuf)
		req.ContentLength = -1
		rec := httptest.NewRecorder()
		New(small).ServeHTTP(rec, req)
		return answer{rec.Code, rec.Header(), rec.Body.String()}
	}
	tests := []struct {
		name string
		send func(*testing.T, *client) answer
	}{
		{"as sent, size known", func(_ *testing.T, c *client) answer {
			return c.export(big[:small.MaxBodyBytes+1])
		}},
		{"as sent, size unknown", chunked},
		{"gzip bomb", func(t *testing.T, c *client) answer { return c.export(zipped(t, big), "Content-Encoding", "gzip") }},
		{"zstd bomb", func(t *testing.T, c *client) answer { return c.export(zstdded(t, big), "Content-Encoding", "zstd") }},
		{"zstd bomb of many frames", func(t *testing.T, c *client) answer {
			return c.export(zstdded(t, big[:400<<10], big[400<<10:]), "Content-Encoding", "zstd")
		}},
		{"zstd bomb without size", func(t *testing.T, c *client) answer { return c.export(zstdStream(t, big), "Content-Encoding", "zstd") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := start(t, small)
			a := tt.send(t, c)
			a.want(t, 413, page413)
			if a.header.Get("Content-Type") != "text/html" || a.header.Get("Server") != "nginx" {
				t.Errorf("header = %v, want nginx's", a.header)
			}
			if n := s.Stats().Taken.Requests; n != 0 {
				t.Errorf("%d requests taken, want none", n)
			}
		})
	}
}

func TestABodyThatEndsEarlyIsNotTaken(t *testing.T) {
	s, c := start(t, Config{Switches: Switches{OTLPMalformed: MalformedLost}})
	conn := dial(t, c)
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Type: %s\r\n"+
		"Content-Length: 1000\r\n\r\n%s", tracesPath, keyA, contentProtobuf, payload(t, newSpan(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitRequests(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitAnswers(t.Context(), 400, 1); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Taken.Requests != 0 || st.Lost.Requests != 0 {
		t.Errorf("taken %+v, lost %+v; want neither", st.Taken, st.Lost)
	}
}

// dial opens a bare connection to a look-alike.
func dial(t *testing.T, c *client) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestEmptyRequestsAreTaken(t *testing.T) {
	s, c := start(t, Config{})
	c.export(nil).want(t, 200, "")
	c.export(zipped(t, nil), "Content-Encoding", "gzip").want(t, 200, "")
	if st := s.Stats(); st.Taken.Requests != 2 || st.Taken.Spans != 0 || len(s.Spans()) != 0 {
		t.Errorf("taken = %+v with %d spans", st.Taken, len(s.Spans()))
	}
}

func TestInvalidUTF8IsMalformed(t *testing.T) {
	body := payload(t, newSpan(1, 1))
	body = bytes.Replace(body, []byte("ChatOpenAI"), []byte("Chat\xff\xfe\xfd\xfc\xfbI"), 1)
	_, c := start(t, Config{})
	if a := c.export(body); a.status != 400 {
		t.Errorf("answer = %d, want 400", a.status)
	}
}

func TestScanAgreesWithTheDecoder(t *testing.T) {
	msg := message(newSpan(1, 1), newSpan(2, 2))
	msg.ResourceSpans = append(msg.ResourceSpans, &tracepb.ResourceSpans{}, message(newSpan(3, 3)).ResourceSpans[0])
	body, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body,
		0x08, 0x01, // field 1 as a number: an unknown field
		0x9b, 0x06, 0x9c, 0x06) // an empty group, number 99
	n, heads, err := scan(body, nil, true)
	if err != nil || n != 3 || len(heads) != 3 || heads[2].id != id(3, 3) || heads[2].start != uint64(noon.UnixNano()) {
		t.Errorf("scan = %d, %+v, %v", n, heads, err)
	}
	if n, heads, err = scan(body, nil, false); n != 3 || len(heads) != 0 || err != nil {
		t.Errorf("shallow scan = %d, %+v, %v", n, heads, err)
	}
	for cut := range body[:len(body)-6] {
		var got, want error
		_, _, got = scan(body[:cut], nil, false)
		if want = proto.Unmarshal(body[:cut], message()); got != nil && want == nil {
			t.Fatalf("scan of the first %d bytes = %v, the decoder takes them", cut, got)
		}
	}
}
