package langsmith

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/proxy"
)

func TestStatusesFollowTheRetryMatrix(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err    error
		status int
		after  string
		text   string
	}{
		"pressure":           {&proxy.PressureError{Reason: "disk_full", Detail: "no room", RetryAfter: 1500 * time.Millisecond}, 503, "2", "Service unavailable: no room"},
		"without a wait":     {&proxy.PressureError{Reason: "lanes", Detail: "busy"}, 503, "1", "Service unavailable: busy"},
		"too large":          {&proxy.RejectError{Reason: "too_large", Detail: "big"}, 413, "", "Request entity too large: big"},
		"too many spans":     {&proxy.RejectError{Reason: "too_many_spans", Detail: "many"}, 413, "", "Request entity too large: many"},
		"malformed":          {&proxy.RejectError{Reason: "malformed", Detail: "bad"}, 422, "", "Unprocessable entity: bad"},
		"canceled":           {context.Canceled, 503, "1", "Service unavailable: the request ended before it was durable; it may or may not have been kept"},
		"weir's own fault":   {errors.New("cables cut"), 503, "1", "Service unavailable: weir could not keep the request: cables cut"},
		"nothing the matter": {nil, 202, "", ""},
	} {
		s := newStage(t, Config{})
		s.sink.respond = func(context.Context, *proxy.Export) (proxy.Receipt, error) { return proxy.Receipt{}, tc.err }
		w := s.sendParts(t, jsonPart("post."+idText(1), runObject(1)))
		if w.Code != tc.status || w.Header().Get("Retry-After") != tc.after || errorOf(t, w) != tc.text {
			t.Errorf("%s: status %d, Retry-After %q: %s", name, w.Code, w.Header().Get("Retry-After"), w.Body)
		}
	}
	s := newStage(t, Config{})
	s.sink.respond = func(context.Context, *proxy.Export) (proxy.Receipt, error) {
		return proxy.Receipt{Warning: "80 % of the month is used"}, nil
	}
	if w := s.sendParts(t, jsonPart("post."+idText(1), runObject(1))); w.Code != 202 || w.Body.String() != `{"warning":"80 % of the month is used"}` {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestBodiesThatAreTooMuchOrDamaged(t *testing.T) {
	t.Parallel()
	run := jsonPart("post."+idText(1), runObject(1))
	whole := []byte(form(run))
	gz, zs := compress(t, "gzip", whole), compress(t, "zstd", whole)
	small := Config{MaxMessageBytes: 64 << 10, MaxOperations: 100, MaxAttachmentBytes: 1 << 20}
	bomb := []byte(form(run, jsonPart("post."+idText(1)+".inputs", `"`+strings.Repeat("x", 8<<20)+`"`)))
	many := strings.Repeat(run, 101)
	fields := strings.Repeat(jsonPart("post."+idText(1)+".inputs", "null"), 2)
	for name, tc := range map[string]struct {
		path, encoding string
		body           []byte
		status         int
		want           string
	}{
		"gzip cut":             {"/runs/multipart", "gzip", gz[:len(gz)-9], 422, "decompress the body (gzip): "},
		"gzip without its sum": {"/runs/multipart", "gzip", gz[:len(gz)-1], 422, "decompress the body (gzip): "},
		"zstd cut":             {"/runs/multipart", "zstd", zs[:len(zs)-9], 422, "decompress the body (zstd): "},
		"no gzip":              {"/runs/multipart", "gzip", whole, 422, "decompress the body (gzip): "},
		"no zstd":              {"/runs/batch", "zstd", whole, 422, "decompress the body (zstd): "},
		"an unknown encoding":  {"/runs/multipart", "br", whole, 415, `content encoding "br" is not supported`},
		"a gzip bomb":          {"/runs/multipart", "gzip", compress(t, "gzip", bomb), 413, "the request has more than 65536 bytes when decompressed"},
		"a zstd bomb":          {"/runs/multipart", "zstd", compress(t, "zstd", bomb), 413, "the request has more than 65536 bytes when decompressed"},
		"a batch bomb":         {"/runs/batch", "zstd", compress(t, "zstd", bomb), 413, "the request has more than 65536 bytes when decompressed"},
		"a long body":          {"/runs/batch", "", []byte(strings.Repeat(" ", 2<<20)), 413, "the body has 2097152 bytes"},
		"many operations":      {"/runs/multipart", "", []byte(form(many)), 413, "the request has more than 100 operations"},
		"a field twice":        {"/runs/multipart", "", []byte(form(run, fields)), 422, "run " + idText(1) + ": inputs: it is given twice"},
	} {
		s := newStage(t, small)
		w := s.send(t, "POST", tc.path, map[string]string{"Content-Type": formType, "Content-Encoding": tc.encoding}, strings.NewReader(string(tc.body)))
		if got := errorOf(t, w); w.Code != tc.status || !strings.Contains(got, tc.want) {
			t.Errorf("%s: status %d: %s", name, w.Code, got)
		}
	}
}

func TestMillionsOfPartsCostNoMemory(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	s := newStage(t, Config{})
	for name, text := range map[string]string{
		"runs":        jsonPart("post."+idText(1), runObject(1)),
		"attachments": filePart("attachment."+idText(1)+".a", "x/y", ""),
		"fields":      jsonPart("post."+idText(1)+".inputs", "1"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := s.send(t, "POST", "/runs/multipart", map[string]string{"Content-Type": formType}, &repeated{text: text, n: 1_000_000})
		runtime.ReadMemStats(&after)
		if w.Code != 413 && w.Code != 422 {
			t.Errorf("%s: status %d: %s", name, w.Code, w.Body)
		}
		if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 64<<20 {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
}

func TestMemoryIsRefusedBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{MaxMessageBytes: 1 << 20, MaxOperations: 10})
	all := s.cfg.MaxInflightBytes
	if !s.gate.Acquire(all) {
		t.Fatal("the gate is not empty")
	}
	defer s.gate.Release(all)
	w := s.sendParts(t, jsonPart("post."+idText(1), runObject(1)))
	if w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// serve runs the handler on a real server.
func (s *stage) serve(t testing.TB) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(s.HTTP())
	s.SetLimits(server.Config)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func TestChunkedBodiesAreTakenOverTheNetwork(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	server := s.serve(t)
	body := string(compress(t, "gzip", []byte(form(jsonPart("post."+idText(1), runObject(1)), filePart("attachment."+idText(1)+".big", "x/y", strings.Repeat("x", 3<<20))))))
	req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/api/v1/runs/multipart", io.MultiReader(strings.NewReader(body[:100]), strings.NewReader(body[100:])))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Content-Encoding", "gzip")
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if e := s.sink.only(t); resp.StatusCode != http.StatusAccepted || len(e.Blobs) != 1 || e.Blobs[0].Bytes != 3<<20 {
		t.Errorf("status %d, blobs %+v", resp.StatusCode, e.Blobs)
	}
}

func dial(t testing.TB, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestABodyThatStopsIsAnsweredInTime(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{ReceiveTimeout: 300 * time.Millisecond})
	conn := dial(t, s.serve(t))
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST /runs/multipart HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n--%s\r\n", formType, boundary); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusRequestTimeout || resp.Header.Get("Retry-After") != "1" || !resp.Close {
		t.Errorf("status %d, Retry-After %q, close %t", resp.StatusCode, resp.Header.Get("Retry-After"), resp.Close)
	}
}

func TestACallerThatGoesAwayTakesNothingDown(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	server := s.serve(t)
	run := form(jsonPart("post."+idText(1), runObject(1)))
	for range 5 {
		conn := dial(t, server)
		if _, err := fmt.Fprintf(conn, "POST /runs/multipart HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", formType, len(run), run[:len(run)/2]); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/runs/multipart", strings.NewReader(run))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("status %d", resp.StatusCode)
	}
	s.sink.only(t)
}
