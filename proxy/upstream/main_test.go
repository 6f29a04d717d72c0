package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"weir/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKey has the shape of a LangSmith key.
const testKey = "lsv2_pt_0123456789abcdef0123456789abcdef_fedcba98yz"

// newTestClient returns a client for base that is closed with the test. No
// proxy from the environment gets in the way.
func newTestClient(t testing.TB, base string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{BaseURL: base, Version: "1.2.3", Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// newServer starts an HTTP server that ends with the test.
func newServer(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// newTLSServer starts an HTTPS server and writes the certificate that signed
// it to a file.
func newTLSServer(t testing.TB, h http.HandlerFunc, change func(*httptest.Server)) (s *httptest.Server, caFile string) {
	t.Helper()
	s = httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // failed handshakes are what some tests want
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if change != nil {
		change(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return s, caFile
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// payload returns n bytes that look like traces: words that repeat, between
// ids that do not.
func payload(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "gen_ai.prompt.%d.content=please summarise the attached report; span=%016x;", r.IntN(9), r.Uint64())
	}
	return b.Bytes()[:n]
}

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// plainPart and zstdPart make stored parts of data.
func plainPart(data []byte) proxy.Part { return proxy.Part{Payload: data, RawBytes: len(data)} }

func zstdPart(t testing.TB, data []byte) proxy.Part {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return proxy.Part{Payload: enc.EncodeAll(data, nil), Zstd: true, RawBytes: len(data)}
}

// newRequest returns a request of parts with all headers set.
func newRequest(parts ...proxy.Part) *proxy.Request {
	return &proxy.Request{
		Protocol: proxy.ProtocolOTLP, APIKey: testKey, Workspace: "3f2c6a0e-6f0f-4d6c-9f0f-1a2b3c4d5e6f",
		Project: "support bot", Parts: parts, Items: 10,
	}
}

// small is a request that fits into every buffer on the way.
func small() *proxy.Request { return newRequest(plainPart([]byte("one small span"))) }

// decode undoes a content encoding.
func decode(t testing.TB, encoding string, body []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	switch encoding {
	case "gzip":
		gz, err := gzip.NewReader(r)
		if err != nil {
			t.Fatalf("gzip: %v", err)
		}
		gz.Multistream(false) // one member is what weir promises
		r = gz
	case "zstd":
		dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatalf("zstd: %v", err)
		}
		defer dec.Close()
		r = dec
	case "":
	default:
		t.Fatalf("Content-Encoding %q", encoding)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decode %s: %v", encoding, err)
	}
	return plain
}

// want is what a test expects of an outcome.
type want struct {
	kind    proxy.OutcomeKind
	reason  string
	scope   proxy.Scope
	refusal proxy.RefusalClass
}

func check(t testing.TB, out proxy.Outcome, w want) {
	t.Helper()
	got := want{out.Kind, out.Reason, out.Scope, out.Refusal}
	if got != w {
		t.Errorf("outcome = %v, want %v; exchange: %+v", got, w, out.Exchange)
	}
}

func (w want) String() string {
	return fmt.Sprintf("%s %s scope=%s refusal=%d", w.kind, w.reason, w.scope, w.refusal)
}

// The expected outcomes that several tests share.
var (
	wantDelivered = want{kind: proxy.Delivered, reason: "ok"}
	wantStopping  = want{kind: proxy.Interrupted, reason: "stopping"}
)

func wantRetry(reason string) want {
	return want{kind: proxy.Retry, reason: reason, scope: proxy.ScopeUpstream}
}

// send sends r with a context that ends with the test.
func send(t testing.TB, c *Client, r *proxy.Request) proxy.Outcome {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return c.Send(ctx, r)
}
