package otlp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"weir/proxy"
)

// postTo sends a request to the handler itself.
func postTo(t testing.TB, h http.Handler, method, target string, header map[string]string, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, target, body)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func TestHTTPPathsAndMethods(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{}, &fakeSink{}).HTTP()
	for target, want := range map[string]int{
		"/v1/traces":                http.StatusOK,
		"/v1/traces/":               http.StatusOK,
		"//v1//traces":              http.StatusOK,
		"/otel":                     http.StatusOK,
		"/otel/":                    http.StatusOK,
		"/otel/v1/traces":           http.StatusOK,
		"/otel//v1/traces":          http.StatusOK,
		"/api/v1/otel/v1/traces":    http.StatusOK,
		"/api/otel/v1/traces?x=y":   http.StatusOK,
		"/v1/metrics":               http.StatusNotFound,
		"/v1/traces/more":           http.StatusNotFound,
		"/v1/../v1/traces":          http.StatusNotFound,
		"/":                         http.StatusNotFound,
		"/V1/TRACES":                http.StatusNotFound,
		"/otel/v1/logs":             http.StatusNotFound,
		"/api/v1/otel/v1/traces/x/": http.StatusNotFound,
	} {
		w := postTo(t, h, http.MethodPost, target, map[string]string{"Content-Type": mediaProtobuf}, nil)
		if w.Code != want {
			t.Errorf("POST %s: status %d, want %d", target, w.Code, want)
		}
		if path, _, _ := strings.Cut(target, "?"); IsTracePath(path) != (want == http.StatusOK) {
			t.Errorf("IsTracePath(%s) disagrees", path)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead, http.MethodOptions, "BREW"} {
		w := postTo(t, h, method, "/v1/traces", nil, nil)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
			t.Errorf("%s: status %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestHTTPContentTypes(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{}, &fakeSink{}).HTTP()
	for contentType, want := range map[string]struct {
		code  int
		reply string
	}{
		mediaProtobuf:                        {http.StatusOK, mediaProtobuf},
		"Application/X-Protobuf":             {http.StatusOK, mediaProtobuf},
		mediaJSON:                            {http.StatusOK, mediaJSON},
		"application/json; charset=utf-8":    {http.StatusOK, mediaJSON},
		"application/json;charset=UTF-8; a=": {http.StatusUnsupportedMediaType, mediaJSON},
		"text/plain":                         {http.StatusUnsupportedMediaType, mediaJSON},
		"application/x-www-form-urlencoded":  {http.StatusUnsupportedMediaType, mediaJSON},
		"application/protobuf":               {http.StatusUnsupportedMediaType, mediaJSON},
		"":                                   {http.StatusUnsupportedMediaType, mediaJSON},
	} {
		body := ""
		if strings.Contains(contentType, "json") {
			body = "{}"
		}
		w := postTo(t, h, http.MethodPost, "/v1/traces", map[string]string{"Content-Type": contentType}, strings.NewReader(body))
		if w.Code != want.code || w.Header().Get("Content-Type") != want.reply {
			t.Errorf("%q: status %d as %q, want %d as %q", contentType, w.Code, w.Header().Get("Content-Type"), want.code, want.reply)
		}
		if w.Code == http.StatusOK && w.Body.String() != body {
			t.Errorf("%q: body %q", contentType, w.Body)
		}
		if w.Code == http.StatusUnsupportedMediaType && w.Header().Get("Accept-Post") == "" {
			t.Errorf("%q: it is not said what would be right", contentType)
		}
	}
}

func TestHTTPContentEncodings(t *testing.T) {
	t.Parallel()
	payload := marshal(t, requestOf(okSpan()))
	two := bytes.Repeat(payload, 2)
	pieces := func(encoding string) []byte {
		return append(compress(t, encoding, payload), compress(t, encoding, payload)...)
	}
	for name, tc := range map[string]struct {
		encoding string
		body     []byte
		code     int
		kept     []byte
	}{
		"identity":              {"identity", payload, http.StatusOK, payload},
		"GZIP":                  {"GZIP", compress(t, nameGzip, payload), http.StatusOK, payload},
		"Zstd":                  {" Zstd ", compress(t, nameZstd, payload), http.StatusOK, payload},
		"two gzip members":      {"gzip", pieces(nameGzip), http.StatusOK, two},
		"two zstd frames":       {"zstd", pieces(nameZstd), http.StatusOK, two},
		"gzip that is none":     {"gzip", payload, http.StatusBadRequest, nil},
		"zstd that is none":     {"zstd", payload, http.StatusBadRequest, nil},
		"empty gzip":            {"gzip", nil, http.StatusBadRequest, nil},
		"gzip with a cut end":   {"gzip", compress(t, nameGzip, payload)[:20], http.StatusBadRequest, nil},
		"zstd with a cut end":   {"zstd", compress(t, nameZstd, payload)[:20], http.StatusBadRequest, nil},
		"gzip and then rubbish": {"gzip", append(compress(t, nameGzip, payload), "rubbish"...), http.StatusBadRequest, nil},
		"zstd with a huge window": {
			// Magic, a header without content size, a window of 2 GiB.
			"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00}, http.StatusBadRequest, nil,
		},
		"deflate": {"deflate", payload, http.StatusUnsupportedMediaType, nil},
		"twice":   {"gzip, gzip", payload, http.StatusUnsupportedMediaType, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := &fakeSink{}
			h := newHandler(t, Config{}, sink)
			w := postTo(t, h.HTTP(), http.MethodPost, "/v1/traces",
				map[string]string{"Content-Type": mediaProtobuf, "Content-Encoding": tc.encoding}, bytes.NewReader(tc.body))
			if w.Code != tc.code {
				t.Fatalf("status %d, want %d: %q", w.Code, tc.code, w.Body)
			}
			if tc.code == http.StatusUnsupportedMediaType && w.Header().Get("Accept-Encoding") == "" {
				t.Error("it is not said what would be right")
			}
			kept := sink.exports()
			if tc.kept == nil {
				if len(kept) != 0 {
					t.Errorf("the sink was given %d exports", len(kept))
				}
			} else if len(kept) != 1 || !bytes.Equal(kept[0].Payload, tc.kept) {
				t.Errorf("the sink was given %+v, want %x", kept, tc.kept)
			}
			if used := h.gate.Used(); used != 0 {
				t.Errorf("%d bytes are still counted as in flight", used)
			}
		})
	}
}

func TestHTTPSenderThatStallsIsCutOff(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{ReceiveTimeout: 50 * time.Millisecond}, &fakeSink{})
	s := startHTTP(t, h, mediaProtobuf)
	for path, want := range map[string]struct {
		code  int
		after string
	}{
		"/v1/traces": {http.StatusServiceUnavailable, "1"},
		// net/http waits for the rest of a body even if nobody reads it.
		"/nowhere": {http.StatusNotFound, ""},
	} {
		conn := dial(t, strings.TrimPrefix(strings.TrimSuffix(s.url, "/v1/traces"), "http://"))
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nabc", path, mediaProtobuf); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_ = resp.Body.Close()
		_ = conn.Close()
		if resp.StatusCode != want.code || resp.Header.Get("Retry-After") != want.after || !resp.Close {
			t.Errorf("%s: status %d, Retry-After %q, close %v", path, resp.StatusCode, resp.Header.Get("Retry-After"), resp.Close)
		}
	}
}

func TestHTTPWaitForTheDiskIsNotBoundByTheReceiveTimeout(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{ReceiveTimeout: time.Second}, &fakeSink{respond: func(ctx context.Context, _ *proxy.Export) (proxy.Receipt, error) {
		select {
		case <-ctx.Done():
			return proxy.Receipt{}, ctx.Err()
		case <-time.After(1200 * time.Millisecond):
			return proxy.Receipt{}, nil
		}
	}})
	s := startHTTP(t, h, mediaProtobuf)
	if a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(okSpan()))}); !a.ok {
		t.Errorf("%+v", a)
	}
}

func TestHTTPBodyThatIsCutOffIsRejected(t *testing.T) {
	t.Parallel()
	sink := &fakeSink{}
	h := newHandler(t, Config{}, sink)
	payload := marshal(t, requestOf(okSpan()))
	w := postTo(t, h.HTTP(), http.MethodPost, "/v1/traces", map[string]string{"Content-Type": mediaJSON},
		io.MultiReader(bytes.NewReader(payload), &failingReader{}))
	var st spb.Status
	if err := protojson.Unmarshal(w.Body.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusBadRequest || !strings.Contains(st.GetMessage(), "read the body: ") || len(sink.exports()) != 0 {
		t.Errorf("status %d, %q", w.Code, st.GetMessage())
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestHTTPLargeBodyIsRefusedByItsAnnouncement(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{MaxMessageBytes: 10 << 10}, &fakeSink{})
	body := &countingReader{r: bytes.NewReader(make([]byte, 11<<10))}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/traces", body)
	req.Header.Set("Content-Type", mediaProtobuf)
	req.ContentLength = 11 << 10
	w := httptest.NewRecorder()
	h.HTTP().ServeHTTP(w, req)
	if w.Code != http.StatusRequestEntityTooLarge || body.n != 0 {
		t.Errorf("status %d after reading %d bytes", w.Code, body.n)
	}
}

func TestHTTPWireSizeIsBoundedWhateverItsEncoding(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 40<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, encoding := range []string{nameIdentity, nameGzip, nameZstd} {
		h := newHandler(t, Config{MaxWireBytes: 32 << 10}, &fakeSink{})
		body := io.MultiReader(bytes.NewReader(compress(t, encoding, noise))) // hides the length
		w := postTo(t, h.HTTP(), http.MethodPost, "/v1/traces",
			map[string]string{"Content-Type": mediaProtobuf, "Content-Encoding": encoding}, body)
		if w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: status %d", encoding, w.Code)
		}
	}
}

func TestHTTPIsRefusedUnreadWhenTooMuchIsInFlight(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{MaxMessageBytes: 10 << 10, MaxInflightBytes: 21 << 10}, &fakeSink{})
	if !h.gate.Acquire(20 << 10) {
		t.Fatal("the gate is closed")
	}
	body := &countingReader{r: bytes.NewReader(make([]byte, 2<<10))}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/traces", body)
	req.Header.Set("Content-Type", mediaProtobuf)
	req.ContentLength = 2 << 10
	w := httptest.NewRecorder()
	h.HTTP().ServeHTTP(w, req)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || body.n != 0 {
		t.Errorf("status %d after reading %d bytes", w.Code, body.n)
	}
}

func TestHTTPHeaderSizeIsBounded(t *testing.T) {
	t.Parallel()
	s := startHTTP(t, newHandler(t, Config{MaxHeaderBytes: 4 << 10}, &fakeSink{}), mediaProtobuf)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 16<<10))
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// FuzzHTTPHandler: whatever is sent, the answer is one that OTLP allows, and
// nothing stays counted as in flight.
func FuzzHTTPHandler(f *testing.F) {
	payload := marshal(f, everyField())
	f.Add("/v1/traces", mediaProtobuf, "", payload)
	f.Add("/otel", mediaProtobuf, nameGzip, compress(f, nameGzip, payload))
	f.Add("/otel/v1/traces/", mediaProtobuf, nameZstd, compress(f, nameZstd, payload))
	f.Add("/v1/traces", mediaJSON+"; charset=utf-8", "", toJSON(f, everyField()))
	f.Add("/v1/traces", mediaJSON, nameGzip, compress(f, nameGzip, []byte("{}")))
	f.Add("/v1/metrics", "text/plain", "br", []byte("x"))
	allowed := map[int]bool{
		http.StatusOK: true, http.StatusBadRequest: true, http.StatusNotFound: true,
		http.StatusRequestEntityTooLarge: true, http.StatusUnsupportedMediaType: true,
	}
	h, err := New(Config{MaxMessageBytes: 1 << 20, MaxSpans: 1000}, discard{})
	if err != nil {
		f.Fatal(err)
	}
	handler := h.HTTP()
	f.Fuzz(func(t *testing.T, path, contentType, encoding string, body []byte) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		req.URL.Path = path
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if !allowed[w.Code] {
			t.Errorf("status %d", w.Code)
		}
		if got := w.Header().Get("Content-Type"); got != mediaJSON && got != mediaProtobuf {
			t.Errorf("content type %q", got)
		}
		if used := h.gate.Used(); used != 0 {
			t.Errorf("%d bytes are still counted as in flight", used)
		}
	})
}
