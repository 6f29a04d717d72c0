package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/proxy"
)

// received is one request as a test server saw it.
type received struct {
	method, path string
	header       http.Header
	length       int64
	body         []byte
}

// recorder is a server that keeps what it received and answers by script: the
// n-th request gets answers[n], the last answer goes on.
type recorder struct {
	mu       sync.Mutex
	requests []received
	answers  []http.HandlerFunc
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	n := min(len(s.requests), len(s.answers)-1)
	s.requests = append(s.requests, received{r.Method, r.URL.RequestURI(), r.Header, r.ContentLength, body})
	s.mu.Unlock()
	s.answers[n](w, r)
}

func (s *recorder) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// encodings lists the Content-Encoding of each request received.
func (s *recorder) encodings() []string {
	var out []string
	for _, r := range s.all() {
		out = append(out, r.header.Get("Content-Encoding"))
	}
	return out
}

// answers gives every request a code and a body.
func answers(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func TestSendPostsWhatLangSmithExpects(t *testing.T) {
	data := payload(200_000)
	for _, prefix := range []string{"", "/api/v1", "/base/api"} {
		for _, e := range []Encoding{EncodingAuto, EncodingZstd, EncodingGzip, EncodingIdentity} {
			t.Run(prefix+"/"+string(e), func(t *testing.T) {
				rec := &recorder{answers: []http.HandlerFunc{answers(200, "")}}
				c := newTestClient(t, newServer(t, rec.ServeHTTP).URL+prefix+"/", func(cfg *Config) { cfg.Encoding = e })
				r := newRequest(zstdPart(t, data), plainPart(data))

				out := send(t, c, r)
				check(t, out, wantDelivered)
				got := rec.all()
				if len(got) != 1 {
					t.Fatalf("%d requests arrived, want 1", len(got))
				}
				encoding := string(e)
				if e == EncodingAuto {
					encoding = "gzip"
				} else if e == EncodingIdentity {
					encoding = ""
				}
				req := got[0]
				if req.method != "POST" || req.path != prefix+"/otel/v1/traces" {
					t.Errorf("%s %s, want POST %s/otel/v1/traces", req.method, req.path, prefix)
				}
				wantHeader := http.Header{
					"Content-Type": {"application/x-protobuf"}, "X-Api-Key": {testKey}, "X-Tenant-Id": {r.Workspace},
					"Langsmith-Project": {"support bot"}, "User-Agent": {"weir/1.2.3"}, "Accept-Encoding": {"identity"},
					"Accept": {"application/x-protobuf, application/json"}, "Content-Length": {fmt.Sprint(req.length)},
				}
				if encoding != "" {
					wantHeader.Set("Content-Encoding", encoding)
				}
				if diff := cmp.Diff(wantHeader, req.header); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
				if plain := decode(t, encoding, req.body); !bytes.Equal(plain, append(bytes.Clone(data), data...)) {
					t.Errorf("%d bytes arrived, not the %d sent", len(plain), 2*len(data))
				}
				ex := out.Exchange
				if ex.SentBytes != len(req.body) || ex.Encoding != encoding || ex.Status != 200 || ex.Method != "POST" ||
					ex.URL != c.BaseURL()+"/otel/v1/traces" || ex.Elapsed <= 0 || ex.Time.IsZero() || ex.ServerDate.IsZero() {
					t.Errorf("exchange is not filled in: %+v", ex)
				}
			})
		}
	}
}

func TestSendLeavesOutWhatIsNotSet(t *testing.T) {
	rec := &recorder{answers: []http.HandlerFunc{answers(200, "{}")}}
	c := newTestClient(t, newServer(t, rec.ServeHTTP).URL, nil)
	check(t, send(t, c, &proxy.Request{Protocol: proxy.ProtocolOTLP, Parts: small().Parts}), wantDelivered)
	for _, name := range []string{"X-Api-Key", "X-Tenant-Id", "Langsmith-Project"} {
		if v, ok := rec.all()[0].header[name]; ok {
			t.Errorf("%s: %q was sent, want no header", name, v)
		}
	}
}

// takes answers 200 to the encodings listed and code with body to others.
func takes(code int, body string, encodings ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(encodings, r.Header.Get("Content-Encoding")) {
			return
		}
		answers(code, body)(w, r)
	}
}

func TestSendFallsBackToAnEncodingTheUpstreamTakes(t *testing.T) {
	tests := []struct {
		name     string
		encoding Encoding
		answer   http.HandlerFunc
		want     want
		sent     []string
		next     Encoding
		refused  []Encoding
	}{
		{"zstd refused", EncodingZstd, takes(415, "", "gzip", ""), wantDelivered, []string{"zstd", "gzip"}, EncodingGzip, []Encoding{EncodingZstd}},
		{"gzip refused", EncodingAuto, takes(415, "", ""), wantDelivered, []string{"gzip", ""}, EncodingIdentity, []Encoding{EncodingGzip}},
		{"both refused", EncodingZstd, takes(415, "", ""), wantDelivered, []string{"zstd", "gzip", ""}, EncodingIdentity, []Encoding{EncodingZstd, EncodingGzip}},
		{"refused in words", EncodingZstd, takes(422, `{"error":"failed to decompress: Unknown frame descriptor"}`, "gzip"), wantDelivered, []string{"zstd", "gzip"}, EncodingGzip, []Encoding{EncodingZstd}},
		{"no encoding is right", EncodingZstd, answers(415, "no protobuf here"), wantEncoding("http_415"), []string{"zstd", "gzip", ""}, EncodingZstd, nil},
		{"refused for another reason", EncodingZstd, answers(403, ""), wantCredential("http_403"), []string{"zstd"}, EncodingZstd, nil},
		{"not delivered afterwards", EncodingZstd, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Content-Encoding") == "zstd" {
				answers(415, "")(w, r)
				return
			}
			answers(503, "")(w, r)
		}, wantRetry("http_503"), []string{"zstd", "gzip"}, EncodingZstd, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{answers: []http.HandlerFunc{tt.answer}}
			var refused []Encoding
			c := newTestClient(t, newServer(t, rec.ServeHTTP).URL, func(cfg *Config) {
				cfg.Encoding = tt.encoding
				cfg.OnEncodingRefused = func(e Encoding) { refused = append(refused, e) }
			})
			check(t, send(t, c, newRequest(zstdPart(t, payload(5000)))), tt.want)
			if diff := cmp.Diff(tt.sent, rec.encodings()); diff != "" {
				t.Errorf("encodings tried (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.refused, refused); diff != "" {
				t.Errorf("remembered (-want +got):\n%s", diff)
			}
			if got := c.Encoding(); got != tt.next {
				t.Errorf("next encoding %q, want %q", got, tt.next)
			}
			if tt.want.kind != proxy.Delivered {
				return
			}
			before := len(rec.all())
			check(t, send(t, c, small()), wantDelivered)
			if n := len(rec.all()) - before; n != 1 {
				t.Errorf("the next send took %d requests, want 1: the refusal is remembered", n)
			}
			if diff := cmp.Diff(tt.refused, refused); diff != "" {
				t.Errorf("reported again (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRememberedRefusalsOutliveTheClient(t *testing.T) {
	rec := &recorder{answers: []http.HandlerFunc{answers(200, "")}}
	c := newTestClient(t, newServer(t, rec.ServeHTTP).URL, func(cfg *Config) {
		cfg.Encoding, cfg.RefusedEncodings = EncodingZstd, []Encoding{EncodingZstd}
	})
	check(t, send(t, c, small()), wantDelivered)
	if diff := cmp.Diff([]string{"gzip"}, rec.encodings()); diff != "" {
		t.Errorf("encodings tried (-want +got):\n%s", diff)
	}
}

func TestSendNeverFollowsARedirect(t *testing.T) {
	stolen := &recorder{answers: []http.HandlerFunc{answers(200, "")}}
	elsewhere := newServer(t, stolen.ServeHTTP)
	for _, code := range []int{301, 302, 303, 307, 308} {
		c := newTestClient(t, newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", strings.Replace(elsewhere.URL, "http://", "http://user:SECRET@", 1)+"/in?key="+testKey)
			w.WriteHeader(code)
		}).URL, nil)
		out := send(t, c, small())
		check(t, out, wantPath(fmt.Sprintf("http_%d", code)))
		if !strings.Contains(out.Exchange.Error, elsewhere.URL+"/in?") {
			t.Errorf("%d: error %q does not say where to", code, out.Exchange.Error)
		}
		hasNoSecrets(t, out)
	}
	if n := len(stolen.all()); n != 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

// hasNoSecrets fails if any part of the outcome shows the key.
func hasNoSecrets(t testing.TB, out proxy.Outcome) {
	t.Helper()
	shown, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{testKey, testKey[:10], "SECRET"} {
		if bytes.Contains(shown, []byte(secret)) {
			t.Errorf("%q shows in %s", secret, shown)
		}
	}
}

func TestExchangeKeepsWhatHelpsAndNoSecrets(t *testing.T) {
	c := newTestClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Request-Id", "req-"+r.Header.Get("X-Api-Key"))
		h.Set("Www-Authenticate", `Key realm="`+r.Header.Get("X-Api-Key")+`"`)
		h.Set("Set-Cookie", "session=SECRET")
		h.Set("Server", "nginx")
		h.Set("Via", strings.Repeat("v", 5000))
		w.WriteHeader(403)
		fmt.Fprintf(w, `{"error":"Forbidden","key":%q}`+"\n", r.Header.Get("X-Api-Key"))
	}).URL, nil)
	out := send(t, c, small())
	check(t, out, wantCredential("http_403"))
	hasNoSecrets(t, out)
	ex := out.Exchange
	if want := `{"error":"Forbidden","key":"lsv2_…yz"}` + "\n"; ex.Body != want {
		t.Errorf("body %q, want %q", ex.Body, want)
	}
	if ex.RequestID != "req-lsv2_…yz" {
		t.Errorf("request id %q", ex.RequestID)
	}
	if ex.Header.Get("Server") != "nginx" || ex.Header.Get("Set-Cookie") != "" || len(ex.Header.Get("Via")) != maxHeaderValueBytes {
		t.Errorf("headers kept: %v", ex.Header)
	}
}

func TestExchangeIsBounded(t *testing.T) {
	c := newTestClient(t, newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 40 {
			w.Header().Add("Via", strings.Repeat("v", 1000))
		}
		w.WriteHeader(500)
		// The key straddles both limits: what is kept and what is read.
		_, _ = io.WriteString(w, strings.Repeat("x", maxKeptBytes-20)+testKey)
		_, _ = io.WriteString(w, strings.Repeat(testKey, 3000))
	}).URL, nil)
	out := send(t, c, small())
	check(t, out, wantRetry("http_500"))
	hasNoSecrets(t, out)
	size := 0
	for name, values := range out.Exchange.Header {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > maxKeptHeaderBytes || size < maxKeptHeaderBytes/2 {
		t.Errorf("%d bytes of headers kept, want about %d", size, maxKeptHeaderBytes)
	}
	if n := len(out.Exchange.Body); n > maxKeptBytes || n < maxKeptBytes-100 {
		t.Errorf("%d bytes of body kept, want about %d", n, maxKeptBytes)
	}
}

func TestPartialSuccessIsDeliveredAndReported(t *testing.T) {
	tests := []struct {
		name, body string
		rejected   int
	}{
		{"some", `{"partialSuccess":{"rejectedSpans":"3","errorMessage":"key ` + testKey + `"}}`, 3},
		{"as a number, unknown fields", `{"partialSuccess":{"rejectedSpans":3,"errorMessage":"x"},"also":1}`, 3},
		{"more than were sent", `{"partialSuccess":{"rejectedSpans":"4000000000"}}`, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			c := newTestClient(t, newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, tt.body)
			}).URL, func(cfg *Config) {
				cfg.Registerer = reg
			})
			out := send(t, c, small())
			check(t, out, want{kind: proxy.Delivered, reason: "partial_success"})
			hasNoSecrets(t, out)
			if out.RejectedItems != tt.rejected || testutil.ToFloat64(c.metrics.rejected) != float64(tt.rejected) {
				t.Errorf("reported %d, counted %v, want %d", out.RejectedItems, testutil.ToFloat64(c.metrics.rejected), tt.rejected)
			}
			if want := fmt.Sprintf("rejected %d of 10 spans", tt.rejected); !strings.Contains(out.Exchange.Error, want) {
				t.Errorf("error %q does not say %q", out.Exchange.Error, want)
			}
		})
	}
}

func TestSendRefusesWhatCannotBeSent(t *testing.T) {
	rec := &recorder{answers: []http.HandlerFunc{answers(200, "")}}
	url := newServer(t, rec.ServeHTTP).URL
	change := func(f func(*proxy.Request)) *proxy.Request {
		r := small()
		f(r)
		return r
	}
	tests := []struct {
		name    string
		request *proxy.Request
		want    want
		says    string
	}{
		{"line break in the key", change(func(r *proxy.Request) { r.APIKey += "\n" }), wantCredential("bad_header"), "the API key contains a line break"},
		{"NUL in the key", change(func(r *proxy.Request) { r.APIKey += "\x00" }), wantCredential("bad_header"), "the API key contains a control character"},
		{"line break in the workspace", change(func(r *proxy.Request) { r.Workspace = "a\r\nX-Evil: 1" }), want{proxy.Refused, "bad_header", proxy.ScopeLane, proxy.RefusedAccess}, "the workspace id"},
		{"line break in the project", change(func(r *proxy.Request) { r.Project = "a\nb" }), want{proxy.Refused, "bad_header", proxy.ScopeLane, proxy.RefusedAccess}, "the project name"},
		{"nothing in it", newRequest(), wantContent("bad_request"), "empty"},
		{"unknown protocol", change(func(r *proxy.Request) { r.Protocol = 99 }), wantContent("bad_request"), "protocol-99"},
		{"too large", newRequest(plainPart(make([]byte, 1001))), wantSize("too_large"), "the limit is 1000"},
		{"damaged", newRequest(plainPart([]byte("good")), proxy.Part{Payload: []byte("bad"), Zstd: true, RawBytes: 30}), wantContent("corrupt"), "part 2 of 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClient(t, url, func(cfg *Config) { cfg.MaxRequestBytes = 1000 })
			out := send(t, c, tt.request)
			check(t, out, tt.want)
			hasNoSecrets(t, out)
			if !strings.Contains(out.Exchange.Error, tt.says) || out.MayHaveArrived {
				t.Errorf("error %q, may have arrived: %v; want %q and not", out.Exchange.Error, out.MayHaveArrived, tt.says)
			}
		})
	}
	if n := len(rec.all()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestSendNoticesDamageWhileStreaming(t *testing.T) {
	c := newTestClient(t, newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}).URL, func(cfg *Config) { cfg.Encoding = EncodingIdentity })
	part := zstdPart(t, payload(3_000_000))
	part.Payload = part.Payload[:len(part.Payload)-100]
	check(t, send(t, c, newRequest(part)), wantContent("corrupt"))
}

func TestSendIsInterrupted(t *testing.T) {
	t.Run("before it begins", func(t *testing.T) {
		c := newTestClient(t, "http://127.0.0.1:1", nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		check(t, c.Send(ctx, small()), wantStopping)
	})
	for _, how := range []string{"by its caller", "by Close"} {
		t.Run(how, func(t *testing.T) {
			arrived := make(chan struct{})
			s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				close(arrived)
				<-r.Context().Done()
			})
			c := newTestClient(t, s.URL, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan proxy.Outcome)
			go func() { done <- c.Send(ctx, small()) }()
			<-arrived
			if how == "by Close" {
				if err := c.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			} else {
				cancel()
			}
			out := <-done
			check(t, out, wantStopping)
			if !out.MayHaveArrived {
				t.Error("the request had arrived, and the outcome denies it")
			}
		})
	}
	t.Run("after Close", func(t *testing.T) {
		c := newTestClient(t, "http://127.0.0.1:1", nil)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, send(t, c, small()), wantStopping)
	})
}

func TestMetricsCountEachExchange(t *testing.T) {
	reg := prometheus.NewRegistry()
	rec := &recorder{answers: []http.HandlerFunc{answers(415, ""), answers(200, ""), answers(429, ""), answers(403, "")}}
	url := newServer(t, rec.ServeHTTP).URL
	set := func(cfg *Config) { cfg.Registerer, cfg.Encoding = reg, EncodingZstd }
	c := newTestClient(t, url, set)
	check(t, send(t, c, newRequest(plainPart(payload(1000)))), wantDelivered)
	check(t, send(t, c, small()), wantRate("rate"))

	reloaded := newTestClient(t, url, set) // shares the registry
	check(t, send(t, reloaded, small()), wantCredential("http_403"))

	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP weir_upstream_requests_total Exchanges with the upstream by protocol, outcome (delivered, retry, refused, interrupted) and reason.
# TYPE weir_upstream_requests_total counter
weir_upstream_requests_total{outcome="delivered",protocol="otlp",reason="ok"} 1
weir_upstream_requests_total{outcome="refused",protocol="otlp",reason="http_403"} 1
weir_upstream_requests_total{outcome="refused",protocol="otlp",reason="http_415"} 1
weir_upstream_requests_total{outcome="retry",protocol="otlp",reason="rate"} 1
# HELP weir_upstream_delivered_raw_bytes_total Uncompressed bytes of the requests that were delivered.
# TYPE weir_upstream_delivered_raw_bytes_total counter
weir_upstream_delivered_raw_bytes_total{encoding="gzip",protocol="otlp"} 1000
# HELP weir_upstream_requests_in_flight Exchanges with the upstream under way.
# TYPE weir_upstream_requests_in_flight gauge
weir_upstream_requests_in_flight 0
`), "weir_upstream_requests_total", "weir_upstream_delivered_raw_bytes_total", "weir_upstream_requests_in_flight")
	if err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics lint: %v, %v", problems, err)
	}
}

func TestNewNamesEveryMistake(t *testing.T) {
	_, err := New(Config{BaseURL: "ftp://x", Encoding: "brotli", Timeout: -1, Concurrency: -2, RefusedEncodings: []Encoding{"auto"}})
	if err == nil {
		t.Fatal("New took a wrong configuration")
	}
	for _, s := range []string{`"ftp"`, `"brotli"`, "timeout is negative", "concurrency is negative", `"auto"`} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %s", err, s)
		}
	}
}

func TestSendMayBeCalledFromManyGoroutines(t *testing.T) {
	data := payload(60_000)
	var mu sync.Mutex
	wrong := 0
	c := newTestClient(t, newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(decode(t, r.Header.Get("Content-Encoding"), body), data) {
			mu.Lock()
			wrong++
			mu.Unlock()
		}
	}).URL, func(cfg *Config) { cfg.Concurrency = 16 })
	part := zstdPart(t, data)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for range 20 {
				check(t, send(t, c, newRequest(part)), wantDelivered)
			}
		})
	}
	senders.Wait()
	if wrong > 0 {
		t.Errorf("%d bodies arrived damaged", wrong)
	}
}
