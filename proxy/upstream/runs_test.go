package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
	"weir/proxy/runs"
)

// runID is an id that ends in n.
func runID(n int) runs.ID {
	return runs.ID{0x01, 0x9a, 0x2b, 0x3c, 0x4d, 0x5e, 0x7f, 0x60, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, byte(n >> 8), byte(n)}
}

// someRuns are n runs of about 2 KB, with an attachment after every tenth.
func someRuns(n int) []*runs.Op {
	text := payload(n*700 + 1400)
	var ops []*runs.Op
	for i := range n {
		op := &runs.Op{
			Kind: runs.Create, ID: runID(i), Trace: runID(i),
			Body: fmt.Appendf(nil, `{"id":%q,"trace_id":%q,"name":"ChatOpenAI","run_type":"llm","start_time":"2026-11-24T10:00:00.%06dZ"}`, runID(i), runID(i), i),
		}
		op.Fields[runs.Inputs] = fmt.Appendf(nil, `{"messages":[{"role":"user","content":%q}]}`, text[i*700:i*700+1400])
		op.Fields[runs.Outputs] = fmt.Appendf(nil, `{"content":%q}`, text[i*700:i*700+500])
		op.Fields[runs.Extra] = []byte(`{"metadata":{"ls_provider":"openai"}}`)
		ops = append(ops, op)
		if i%10 == 0 {
			ops = append(ops, &runs.Op{Kind: runs.Attachment, ID: runID(i), Name: "photo", ContentType: "image/png", Data: noise(300)})
		}
	}
	return ops
}

// newRunsRequest returns a request of operations with all headers set.
func newRunsRequest(ops ...*runs.Op) *proxy.Request {
	return &proxy.Request{
		Protocol: proxy.ProtocolRuns, APIKey: testKey, Workspace: "3f2c6a0e-6f0f-4d6c-9f0f-1a2b3c4d5e6f",
		Project: "support bot", Runs: ops, Items: len(ops),
	}
}

// aCall returns a request of one call.
func aCall(method, path, body string) *proxy.Request {
	return newRunsRequest(&runs.Op{Kind: runs.Call, Method: method, Path: path, ContentType: "application/json", Body: []byte(body)})
}

// smallRuns is a request that fits into every buffer on the way.
func smallRuns() *proxy.Request {
	return newRunsRequest(&runs.Op{Kind: runs.Feedback, ID: runID(1), Body: []byte(`{"score":1}`)})
}

// readParts reads a form and returns its parts' contents by name.
func readParts(t testing.TB, contentType string, body []byte) map[string]string {
	t.Helper()
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatalf("content type %q: %v", contentType, err)
	}
	parts := map[string]string{}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatalf("form of %d bytes: %v", len(body), err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatalf("part %q: %v", p.FormName(), err)
		}
		if got, want := p.Header.Get("Content-Length"), fmt.Sprint(len(content)); got != want {
			t.Errorf("part %q has %s bytes and says %q", p.FormName(), want, got)
		}
		parts[p.FormName()] = string(content)
	}
}

// wantParts is what readParts finds of ops.
func wantParts(ops []*runs.Op) map[string]string {
	parts := map[string]string{}
	for _, op := range ops {
		name := op.Kind.String() + "." + op.ID.String()
		if op.Kind == runs.Attachment {
			parts[name+"."+op.Name] = string(op.Data)
			continue
		}
		parts[name] = string(op.Body)
		for f, v := range op.Fields {
			if v != nil {
				parts[name+"."+runs.FieldNames[f]] = string(v)
			}
		}
	}
	return parts
}

func TestSendPostsRunsAsAForm(t *testing.T) {
	ops := someRuns(30)
	var content int64
	for _, op := range ops {
		content += op.Size()
	}
	for _, prefix := range []string{"", "/api/v1"} {
		for _, refused := range [][]Encoding{nil, {EncodingZstd}, {EncodingZstd, EncodingGzip}} {
			t.Run(fmt.Sprint(prefix, refused), func(t *testing.T) {
				rec := &recorder{answers: []http.HandlerFunc{answers(202, "{}")}}
				c := newTestClient(t, newServer(t, rec.ServeHTTP).URL+prefix, func(cfg *Config) {
					cfg.RefusedRunsEncodings = refused
					cfg.Encoding, cfg.RefusedEncodings = EncodingGzip, []Encoding{EncodingGzip} // for OTLP alone
				})
				r := newRunsRequest(ops...)
				out := send(t, c, r)
				check(t, out, wantDelivered)
				got := rec.all()
				if len(got) != 1 {
					t.Fatalf("%d requests arrived, want 1", len(got))
				}
				req := got[0]
				if req.method != "POST" || req.path != prefix+"/runs/multipart" {
					t.Errorf("%s %s, want POST %s/runs/multipart", req.method, req.path, prefix)
				}
				wantHeader := http.Header{
					"Content-Type": {req.header.Get("Content-Type")}, "X-Api-Key": {testKey}, "X-Tenant-Id": {r.Workspace},
					"User-Agent": {"weir/1.2.3"}, "Accept-Encoding": {"identity"}, "Accept": {"application/json"},
					"Content-Length": {fmt.Sprint(len(req.body))},
				}
				encoding := []string{"zstd", "gzip", ""}[len(refused)]
				if encoding != "" {
					wantHeader["Content-Encoding"] = []string{encoding}
					wantHeader["X-Pre-Compressed-Size"] = []string{fmt.Sprint(content)}
					wantHeader["X-Post-Compressed-Size"] = []string{fmt.Sprint(len(req.body))}
				}
				if diff := cmp.Diff(wantHeader, req.header); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(wantParts(ops), readParts(t, req.header.Get("Content-Type"), decode(t, encoding, req.body))); diff != "" {
					t.Errorf("parts (-want +got):\n%s", diff)
				}
				ex := out.Exchange
				if ex.SentBytes != len(req.body) || ex.Encoding != encoding || ex.Status != 202 || ex.Method != "POST" || ex.URL != c.BaseURL()+"/runs/multipart" {
					t.Errorf("exchange is not filled in: %+v", ex)
				}
			})
		}
	}
}

func TestRunsFallBackToAnEncodingTheUpstreamTakes(t *testing.T) {
	tests := []struct {
		name    string
		answer  http.HandlerFunc
		want    want
		sent    []string
		refused []Encoding
	}{
		{"zstd refused", takes(415, "", "gzip", ""), wantDelivered, []string{"zstd", "gzip"}, []Encoding{EncodingZstd}},
		{"both refused", takes(415, "", ""), wantDelivered, []string{"zstd", "gzip", ""}, []Encoding{EncodingZstd, EncodingGzip}},
		{"the form is not found under it", takes(422, noParts, ""), wantDelivered, []string{"zstd", "gzip", ""}, []Encoding{EncodingZstd, EncodingGzip}},
		{"the form is not found in any", answers(422, noParts), wantContent("http_422"), []string{"zstd", "gzip", ""}, nil},
		{"refused for another reason", answers(422, `{"error":"batch schema error"}`), wantContent("http_422"), []string{"zstd"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{answers: []http.HandlerFunc{tt.answer}}
			var refused []Encoding
			c := newTestClient(t, newServer(t, rec.ServeHTTP).URL, func(cfg *Config) {
				cfg.OnRunsEncodingRefused = func(e Encoding) { refused = append(refused, e) }
				cfg.OnEncodingRefused = func(e Encoding) { t.Errorf("%s remembered for OTLP", e) }
			})
			check(t, send(t, c, newRunsRequest(someRuns(3)...)), tt.want)
			if diff := cmp.Diff(tt.sent, rec.encodings()); diff != "" {
				t.Errorf("encodings tried (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.refused, refused); diff != "" {
				t.Errorf("remembered (-want +got):\n%s", diff)
			}
			if got := c.Encoding(); got != EncodingGzip {
				t.Errorf("OTLP goes out in %s, want gzip as before", got)
			}
			if tt.want.kind == proxy.Delivered {
				before := len(rec.all())
				check(t, send(t, c, smallRuns()), wantDelivered)
				if n := len(rec.all()) - before; n != 1 {
					t.Errorf("the next send took %d requests, want 1", n)
				}
			}
		})
	}
}

func TestSendMakesCallsAsTheyCame(t *testing.T) {
	tests := []struct{ method, path, contentType, body, wantPath string }{
		{"PATCH", "/runs/019a2b3c-4d5e-7f60-8192-a3b4c5d6e701", "application/json", `{"outputs":{}}`, ""},
		{"POST", "/feedback?x=1&y=%2F", "application/json", `{"score":1}`, ""},
		{"POST", "/feedback", "application/json; charset=utf-8", strings.Repeat("long ", 10_000), ""},
		{"DELETE", "/feedback/019a2b3c-4d5e-7f60-8192-a3b4c5d6e701", "", "", ""},
		{"POST", "/feedback/tokens", "", "", ""},
		{"POST", "/a%20b#c", "text/plain", "x", "/a%20b"},
		{"POST", "//elsewhere.example/x", "text/plain", "x", ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			rec := &recorder{answers: []http.HandlerFunc{answers(200, "{}")}}
			c := newTestClient(t, newServer(t, rec.ServeHTTP).URL+"/api/v1", nil)
			r := aCall(tt.method, tt.path, tt.body)
			r.Runs[0].ContentType = tt.contentType
			out := send(t, c, r)
			check(t, out, wantDelivered)
			req := rec.all()[0]
			wantPath := tt.path
			if tt.wantPath != "" {
				wantPath = tt.wantPath
			}
			if req.method != tt.method || req.path != "/api/v1"+wantPath || string(req.body) != tt.body || req.length != int64(len(tt.body)) {
				t.Errorf("arrived as %s %s with %d bytes, said to be %d", req.method, req.path, len(req.body), req.length)
			}
			wantHeader := http.Header{
				"X-Api-Key": {testKey}, "X-Tenant-Id": {r.Workspace}, "User-Agent": {"weir/1.2.3"}, "Accept-Encoding": {"identity"}, "Accept": {"application/json"},
			}
			if tt.contentType != "" {
				wantHeader.Set("Content-Type", tt.contentType)
			}
			if tt.body != "" || tt.method == "POST" {
				wantHeader.Set("Content-Length", fmt.Sprint(len(tt.body)))
			}
			if diff := cmp.Diff(wantHeader, req.header); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if ex := out.Exchange; ex.Method != tt.method || ex.URL != c.BaseURL()+wantPath || ex.Encoding != "" || ex.SentBytes != len(tt.body) {
				t.Errorf("exchange is not filled in: %+v", ex)
			}
		})
	}
}

func TestSendRefusesRunsThatCannotBeSent(t *testing.T) {
	rec := &recorder{answers: []http.HandlerFunc{answers(202, "")}}
	url := newServer(t, rec.ServeHTTP).URL
	change := func(f func(*proxy.Request)) *proxy.Request {
		r := smallRuns()
		f(r)
		return r
	}
	call := func(method, path, contentType string) *proxy.Request {
		r := aCall(method, path, "{}")
		r.Runs[0].ContentType = contentType
		return r
	}
	blob := func(n int64) *runs.Op { return &runs.Op{Kind: runs.Attachment, ID: runID(1), Blob: "b", BlobBytes: n} }
	tests := []struct {
		name    string
		request *proxy.Request
		want    want
		says    string
	}{
		{"nothing in it", newRunsRequest(), wantContent("bad_request"), "empty"},
		{"a call among others", newRunsRequest(smallRuns().Runs[0], aCall("POST", "/x", "").Runs[0]), wantContent("bad_request"), "operation 2 of 2"},
		{"an unknown kind", newRunsRequest(&runs.Op{}), wantContent("bad_request"), "unknown"},
		{"too large", change(func(r *proxy.Request) { r.Runs[0].Body = make([]byte, 1001) }), wantSize("too_large"), "the limit is 1000"},
		{"a call that is too large", aCall("POST", "/x", strings.Repeat("x", 1001)), wantSize("too_large"), "the limit is 1000"},
		{"blobs that are too large", newRunsRequest(blob(2_000), blob(3_001)), wantSize("too_large"), "5001 bytes, the limit is 5000"},
		{"a blob of less than nothing", newRunsRequest(blob(-1)), wantContent("bad_request"), "-1"},
		{"a blob beyond sense", newRunsRequest(blob(1 << 62)), wantContent("bad_request"), "operation 1 of 1"},
		{"line break in the token", change(func(r *proxy.Request) { r.APIKey = "Bearer " + testKey + "\n" }), wantCredential("bad_header"), "the API key contains a line break"},
		{"line break in the workspace", change(func(r *proxy.Request) { r.Workspace = "a\nb" }), want{proxy.Refused, "bad_header", proxy.ScopeLane, proxy.RefusedAccess}, "the workspace id"},
		{"a path that names another host", call("POST", "@elsewhere.example/x", ""), wantContent("bad_request"), "slash"},
		{"a path that makes another port", call("POST", "1/x", ""), wantContent("bad_request"), "slash"},
		{"no path", call("POST", "", ""), wantContent("bad_request"), "slash"},
		{"a path with a line break", call("POST", "/x\r\nX-Evil: 1", ""), wantContent("bad_request"), "no path"},
		{"a path with half an escape", call("POST", "/%zz"+testKey, ""), wantContent("bad_request"), "no path"},
		{"no method", call("", "/x", ""), wantContent("bad_request"), "method"},
		{"two methods", call("GET /\r\nPOST", "/x", ""), wantContent("bad_request"), "method"},
		{"a tunnel", call("CONNECT", "/x", ""), wantContent("bad_request"), "method"},
		{"a line break in the type", call("POST", "/x", "a\nb"), wantContent("bad_request"), "content type contains a line break"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClient(t, url, func(cfg *Config) {
				cfg.MaxRequestBytes, cfg.MaxBlobBytes = 1000, 5000
				cfg.OpenBlob = func(string) (io.ReadCloser, error) { return nil, errors.New("no blob is to be opened") }
			})
			out := send(t, c, tt.request)
			check(t, out, tt.want)
			hasNoSecrets(t, out)
			if !strings.Contains(out.Exchange.Error, tt.says) || out.MayHaveArrived || out.Exchange.URL == "" {
				t.Errorf("error %q, may have arrived: %v; want %q and not", out.Exchange.Error, out.MayHaveArrived, tt.says)
			}
		})
	}
	t.Run("blobs without a way to them", func(t *testing.T) {
		out := send(t, newTestClient(t, url, nil), newRunsRequest(blob(1)))
		check(t, out, wantContent("bad_request"))
	})
	if n := len(rec.all()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestTheProjectIsNoHeaderOfRuns(t *testing.T) {
	rec := &recorder{answers: []http.HandlerFunc{answers(202, "")}}
	r := smallRuns()
	r.Project = "a\nb" // no header can hold it, and none has to
	check(t, send(t, newTestClient(t, newServer(t, rec.ServeHTTP).URL, nil), r), wantDelivered)
}

func TestKeysGoWhereTheyBelong(t *testing.T) {
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"
	tests := []struct{ key, apiKey, authorization, hint string }{
		{testKey, testKey, "", "lsv2_…yz"},
		{"Bearer " + jwt, "", "Bearer " + jwt, "Bearer eyJhb…Jl"},
		{"bearer " + jwt, "", "bearer " + jwt, "Bearer eyJhb…Jl"},
		{"Bearer" + testKey, "Bearer" + testKey, "", "Beare…yz"},
		{"Basic " + jwt, "Basic " + jwt, "", "Basic…Jl"},
	}
	for _, tt := range tests {
		for _, r := range []*proxy.Request{small(), smallRuns(), aCall("POST", "/feedback", "{}")} {
			rec := &recorder{answers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				key := r.Header.Get("X-Api-Key")
				if t, ok := token(r.Header.Get("Authorization")); ok {
					key = "Bearer " + t
				}
				w.WriteHeader(403)
				_, _ = io.WriteString(w, key)
			}}}
			r.APIKey = tt.key
			out := send(t, newTestClient(t, newServer(t, rec.ServeHTTP).URL, nil), r)
			check(t, out, wantCredential("http_403"))
			h := rec.all()[0].header
			if h.Get("X-Api-Key") != tt.apiKey || h.Get("Authorization") != tt.authorization {
				t.Errorf("%s with key %q: X-Api-Key %q, Authorization %q", r.Protocol, tt.key, h.Get("X-Api-Key"), h.Get("Authorization"))
			}
			if out.Exchange.Body != tt.hint {
				t.Errorf("kept %q, want %q", out.Exchange.Body, tt.hint)
			}
		}
	}
}

func TestTheKeyDoesNotShowInACallsURL(t *testing.T) {
	c := newTestClient(t, newServer(t, answers(500, "")).URL, nil)
	for _, path := range []string{"/x?key=" + testKey, "/" + testKey + "/x", "/" + strings.Repeat("long/", 5000)} {
		out := send(t, c, aCall("POST", path, "{}"))
		hasNoSecrets(t, out)
		if len(out.Exchange.URL) > maxURLBytes {
			t.Errorf("%d bytes of URL kept", len(out.Exchange.URL))
		}
	}
}
