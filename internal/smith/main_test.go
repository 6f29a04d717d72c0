package smith

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tracesPath = "/otel/v1/traces"
	keyA       = "lsv2_pt_aaaaaaaaaaaaaaaa_A1"
	keyB       = "lsv2_pt_bbbbbbbbbbbbbbbb_B2"
	orgKey     = "lsv2_sk_cccccccccccccccc_C3"
	readKey    = "lsv2_pt_dddddddddddddddd_D4"
	oauthToken = "eyJhbGciOiJub25lIn0.e30.x"
	tenantA    = "11111111-1111-4111-8111-111111111111"
	tenantB    = "22222222-2222-4222-8222-222222222222"
)

// noon is the clock of tests that need one.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// knownKeys are keys of every kind.
func knownKeys() map[string]Key {
	return map[string]Key{
		keyA:       {Tenant: tenantA},
		keyB:       {Tenant: tenantB, Workspaces: []string{tenantA}},
		orgKey:     {Tenant: tenantA, OrgScoped: true},
		readKey:    {Tenant: tenantA, ReadOnly: true},
		oauthToken: {Tenant: tenantA, Bearer: true},
	}
}

// start serves a look-alike over loopback until the test ends.
func start(t testing.TB, cfg Config) (*Server, *client) {
	t.Helper()
	s := New(cfg)
	ts := httptest.NewServer(s)
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		ts.Close()
		tr.CloseIdleConnections()
	})
	return s, &client{t: t, url: ts.URL, http: &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// client sends requests to a look-alike.
type client struct {
	t    testing.TB
	url  string
	http *http.Client
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// header makes request headers from pairs.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// try sends a request and returns the answer or the transport's error.
func (c *client) try(ctx context.Context, method, path string, h http.Header, body []byte) (answer, error) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	maps.Copy(req.Header, h)
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b)}, err
}

// do is try for requests that must be answered.
func (c *client) do(method, path string, h http.Header, body []byte) answer {
	c.t.Helper()
	a, err := c.try(c.t.Context(), method, path, h, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// export posts OTLP in protobuf with keyA.
func (c *client) export(body []byte, pairs ...string) answer {
	c.t.Helper()
	h := header("Content-Type", contentProtobuf, "X-Api-Key", keyA)
	maps.Copy(h, header(pairs...))
	return c.do(http.MethodPost, tracesPath, h, body)
}

// wantStatus fails the test unless a has that status.
func (a answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Fatalf("answer = %d %q, want %d %q", a.status, a.body, status, body)
	}
}

// traceID and spanID make ids from numbers.
func traceID(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 8), n) }
func spanID(n uint64) []byte  { return binary.BigEndian.AppendUint64(nil, n) }

// id is the SpanID of traceID(trace) and spanID(span).
func id(trace, span uint64) SpanID {
	return SpanID{Trace: [16]byte(traceID(trace)), Span: [8]byte(spanID(span))}
}

// newSpan makes a span that lasted a second and started at noon.
func newSpan(trace, span uint64, attrs ...*commonpb.KeyValue) *tracepb.Span {
	return &tracepb.Span{
		TraceId: traceID(trace), SpanId: spanID(span), Name: "ChatOpenAI",
		StartTimeUnixNano: uint64(noon.UnixNano()), EndTimeUnixNano: uint64(noon.Add(time.Second).UnixNano()),
		Attributes: attrs,
	}
}

// str and num make attributes.
func str(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func num(key string, value int64) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}}}
}

// message is an export request with these spans.
func message(spans ...*tracepb.Span) *collectorpb.ExportTraceServiceRequest {
	return &collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resourcepb.Resource{Attributes: []*commonpb.KeyValue{str("service.name", "app")}},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: "test"}, Spans: spans}},
	}}}
}

// payload is an export request in protobuf.
func payload(t testing.TB, spans ...*tracepb.Span) []byte {
	t.Helper()
	b, err := proto.Marshal(message(spans...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// zipped compresses each part into a gzip member of its own.
func zipped(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&out)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// zstdded compresses each part into a zstd frame of its own.
func zstdded(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = enc.Close() }()
	var out []byte
	for _, p := range parts {
		out = enc.EncodeAll(p, out)
	}
	return out
}
