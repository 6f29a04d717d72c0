package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"weir/internal/certfile/certtest"
	"weir/internal/llmspans"
	"weir/internal/smith"
	weirv1 "weir/proto/weir/v1"
)

const (
	ingestToken = "weir_0123456789ingest"
	staleToken  = "weir_9876543210stale"
)

// witness is a look-alike that notes the head of every request.
type witness struct {
	*smith.Server

	mu    sync.Mutex
	heads []string
	keys  map[string]int
}

// ServeHTTP implements http.Handler.
func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.heads = append(w.heads, fmt.Sprintf("%s %s %v", r.Method, r.RequestURI, r.Header))
	if strings.HasPrefix(r.URL.Path, "/sessions") || r.Method == http.MethodPost {
		w.keys[r.Header.Get("X-Api-Key")]++
	}
	w.mu.Unlock()
	w.Server.ServeHTTP(rw, r)
}

func (w *witness) seen() (heads string, keys []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return strings.Join(w.heads, "\n"), keys
}

// sharedText is text that a running weir may still write.
type sharedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// guarded is a weir that asks for an ingest token, before a witness.
type guarded struct {
	t       *testing.T
	weir    *weir
	witness *witness
	log     *sharedText
	tls     *tls.Config // of clients; nil: plain
	span    byte
}

// newGuarded starts one. Flags are settings by name.
func newGuarded(t *testing.T, client *tls.Config, flags ...string) *guarded {
	t.Helper()
	g := &guarded{t: t, tls: client, log: new(sharedText)}
	g.witness = &witness{Server: smith.New(smith.Config{Keys: map[string]smith.Key{ownKey: {}, callerKey: {}}}), keys: map[string]int{}}
	front := httptest.NewServer(g.witness)
	t.Cleanup(func() { _ = g.witness.Close(); front.Close() })
	in := configInput{
		flags: map[string]string{
			"grpc_addr": "127.0.0.1:0", "http_addr": "127.0.0.1:0", "admin_addr": "127.0.0.1:0",
			"data_dir": filepath.Join(t.TempDir(), "data"), "upstream": front.URL, "forward.linger": "0s",
		},
		getenv: envOf(map[string]string{"LANGSMITH_API_KEY": ownKey, "WEIR_INGEST_TOKEN": ingestToken}),
		cwd:    t.TempDir(),
	}
	for i := 0; i+1 < len(flags); i += 2 {
		in.flags[flags[i]] = flags[i+1]
	}
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	s.testHurry = 100
	logger := slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if g.weir, err = startWeirWith(t.Context(), s, logger, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := g.weir.shutdown(ctx); err != nil {
			t.Error(err)
		}
		if strings.Contains(g.log.String(), ingestToken) || strings.Contains(g.log.String(), staleToken) {
			t.Errorf("a token is in the log:\n%s", g.log)
		}
	})
	return g
}

// ways are those by which data comes in: each sends something and returns how
// it was refused, in its protocol's form, or nothing.
func (g *guarded) ways() map[string]func(header, value string) string {
	return map[string]func(header, value string) string{
		"OTLP over gRPC": g.exportGRPC, "OTLP over HTTP": g.exportHTTP, "LangSmith": g.batch, "native": g.native,
	}
}

func (g *guarded) payload() []byte {
	g.span++
	payload, _ := llmspans.New(uint64(g.span)).Request(1)
	return payload
}

func (g *guarded) onConn(header, value string, call func(ctx context.Context, conn *grpc.ClientConn) error) string {
	g.t.Helper()
	creds := insecure.NewCredentials()
	if g.tls != nil {
		creds = credentials.NewTLS(g.tls)
	}
	conn, err := grpc.NewClient("passthrough:///"+string(g.weir.at.GRPC), grpc.WithTransportCredentials(creds))
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := g.t.Context()
	if header != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, header, value)
	}
	st := status.Convert(call(ctx, conn))
	return refusalIn(st)
}

// refusalIn is a status in brief, with its reason.
func refusalIn(st *status.Status) string {
	if st.Code() == codes.OK {
		return ""
	}
	out := st.Code().String()
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			out += " " + info.GetReason()
		}
	}
	return out
}

func (g *guarded) exportGRPC(header, value string) string {
	g.t.Helper()
	var req collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(g.payload(), &req); err != nil {
		g.t.Fatal(err)
	}
	return g.onConn(header, value, func(ctx context.Context, conn *grpc.ClientConn) error {
		const method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
		return conn.Invoke(ctx, method, &req, new(collectorpb.ExportTraceServiceResponse))
	})
}

func (g *guarded) native(header, value string) string {
	g.t.Helper()
	g.span++
	req := &weirv1.IngestRequest{Operations: []*weirv1.Operation{{Operation: &weirv1.Operation_Create{Create: &weirv1.Run{
		Id: fmt.Sprintf("019a0000-0000-7000-8000-0000000000%02x", g.span), Name: "native", RunType: "chain",
	}}}}}
	return g.onConn(header, value, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := weirv1.NewIngestServiceClient(conn).Ingest(ctx, req)
		return err
	})
}

// http makes a request to the HTTP listener.
func (g *guarded) http(method, path, contentType, header, value string, body []byte) (int, string, http.Header) {
	g.t.Helper()
	base := "http://"
	if g.tls != nil {
		base = "https://"
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, base+string(g.weir.at.HTTP)+path, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if header != "" {
		req.Header.Set(header, value)
		req.Host = req.Header.Get("Host")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: g.tls, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}

func (g *guarded) exportHTTP(header, value string) string {
	g.t.Helper()
	code, text, _ := g.http(http.MethodPost, "/v1/traces", "application/x-protobuf", header, value, g.payload())
	if code == http.StatusOK {
		return ""
	}
	var st spb.Status
	if err := proto.Unmarshal([]byte(text), &st); err != nil {
		g.t.Errorf("the refusal is no status: %q", text)
	}
	return fmt.Sprintf("%d %s", code, refusalIn(status.FromProto(&st)))
}

func (g *guarded) batch(header, value string) string {
	g.t.Helper()
	g.span++
	id := fmt.Sprintf("019a0000-0000-7000-8000-0000000001%02x", g.span)
	body := fmt.Sprintf(`{"post":[{"id":%q,"trace_id":%q,"dotted_order":"%sZ%s","name":"n","run_type":"chain","start_time":%q}]}`,
		id, id, time.Now().UTC().Format("20060102T150405000000"), id, time.Now().UTC().Format(time.RFC3339))
	code, text, head := g.http(http.MethodPost, "/runs/batch", "application/json", header, value, []byte(body))
	if code == http.StatusAccepted {
		return ""
	}
	if !strings.HasPrefix(text, `{"error":"Unauthorized: `) || head.Get("WWW-Authenticate") == "" {
		g.t.Errorf("the refusal is not as LangSmith's: %q, %v", text, head)
	}
	return fmt.Sprint(code)
}

func TestIngestTokenInEveryProtocol(t *testing.T) {
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	trusting := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	for name, g := range map[string]*guarded{
		"plain": newGuarded(t, nil),
		"TLS":   newGuarded(t, trusting, "tls_cert_file", files.Cert, "tls_key_file", files.Key),
	} {
		t.Run(name, func(t *testing.T) {
			g.t = t
			missing := map[string]string{
				"OTLP over gRPC": "Unauthenticated TOKEN_MISSING", "native": "Unauthenticated TOKEN_MISSING",
				"OTLP over HTTP": "401 Unauthenticated TOKEN_MISSING", "LangSmith": "401",
			}
			for way, send := range g.ways() {
				wrong := strings.ReplaceAll(missing[way], "MISSING", "WRONG")
				for _, tc := range []struct{ header, value, want string }{
					{"", "", missing[way]},
					{"x-api-key", staleToken, wrong},
					{"authorization", "Bearer " + staleToken, wrong},
					{"x-weir-token", "another", wrong},
					{"x-api-key", ingestToken, ""},
					{"authorization", "Bearer " + ingestToken, ""},
					{"x-weir-token", ingestToken, ""},
					{"x-api-key", callerKey, ""},
				} {
					if got := send(tc.header, tc.value); got != tc.want {
						t.Errorf("%s with %s %q: refused with %q, want %q", way, tc.header, tc.value, got, tc.want)
					}
				}
			}
			g.delivered(8, 8)
		})
	}
}

// delivered waits until spans and runs have arrived, and looks at what came with
// them.
func (g *guarded) delivered(spans, runs int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	if err := g.witness.WaitSpans(ctx, spans); err != nil {
		g.t.Fatal(err)
	}
	if err := g.witness.WaitRuns(ctx, runs); err != nil {
		g.t.Fatal(err)
	}
	heads, keys := g.witness.seen()
	if diff := cmp.Diff([]string{callerKey, ownKey}, keys); diff != "" {
		g.t.Errorf("keys that reached the upstream (-want +got):\n%s", diff)
	}
	if strings.Contains(heads, "weir_") || strings.Contains(strings.ToLower(heads), "x-weir-token") {
		g.t.Errorf("a token reached the upstream:\n%s", heads)
	}
}

func TestTokenIsTakenOutOfWhatIsPassedOn(t *testing.T) {
	const read = "/sessions?limit=1"
	for _, lend := range []string{"false", "true"} {
		t.Run("lend_key "+lend, func(t *testing.T) {
			g := newGuarded(t, nil, "lend_key", lend)
			lent := map[string]int{"false": http.StatusForbidden, "true": http.StatusOK}[lend]
			anonymous := map[string]int{"false": http.StatusForbidden, "true": http.StatusUnauthorized}[lend]
			for _, tc := range []struct {
				header, value string
				want          int
			}{
				{"x-api-key", callerKey, http.StatusOK},
				{"x-api-key", ingestToken, lent},
				{"authorization", "Bearer " + ingestToken, lent},
				{"x-weir-token", ingestToken, lent},
				{"x-api-key", staleToken, http.StatusUnauthorized},
				{"", "", anonymous},
			} {
				code, text, _ := g.http(http.MethodGet, read, "", tc.header, tc.value, nil)
				if code != tc.want && (code/100 != 4 || tc.want != http.StatusForbidden) {
					t.Errorf("%s %q: %d %s, want %d", tc.header, tc.value, code, text, tc.want)
				}
			}
			heads, _ := g.witness.seen()
			if strings.Contains(heads, "weir_") || strings.Contains(strings.ToLower(heads), "x-weir-token") {
				t.Errorf("a token reached the upstream:\n%s", heads)
			}
		})
	}
}

func TestForeignPagesCannotSendOverTLS(t *testing.T) {
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	g := newGuarded(t, &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, "tls_cert_file", files.Cert, "tls_key_file", files.Key)
	for header, value := range map[string]string{"Host": "evil.example", "Origin": "https://evil.example"} {
		if code, text, _ := g.http(http.MethodPost, "/v1/traces", "application/x-protobuf", header, value, g.payload()); code != http.StatusForbidden {
			t.Errorf("%s %s: %d %s", header, value, code, text)
		}
	}
}

func TestIngestByClientCertificate(t *testing.T) {
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	pair := ca.Pair(time.Now().AddDate(0, 0, 1))
	client := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	g := newGuarded(t, client, "tls_cert_file", files.Cert, "tls_key_file", files.Key, "tls_client_ca_file", files.CA)
	for way, send := range g.ways() {
		if got := send("x-weir-token", ingestToken); got != "" {
			t.Errorf("%s with the right certificate: %s", way, got)
		}
	}
	for name, certs := range map[string][]tls.Certificate{"no": nil, "a wrong": {certtest.New(t, "weir's", time.Now()).Pair(time.Now().AddDate(0, 0, 1))}} {
		g.tls = &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12, Certificates: certs}
		if got := g.exportGRPC("x-weir-token", ingestToken); got != codes.Unavailable.String() {
			t.Errorf("gRPC with %s certificate: %s", name, got)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+string(g.weir.at.HTTP)+"/info", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Transport{TLSClientConfig: g.tls, DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("HTTP with %s certificate: %s", name, res.Status)
		}
	}
}

func TestReloadTakesAnotherTokenAndCertificate(t *testing.T) {
	ca := certtest.New(t, "weir's", time.Now())
	dir := t.TempDir()
	files := ca.Put(dir, time.Now().AddDate(0, 0, 30), time.Hour)
	tokenFile := certtest.Write(t, filepath.Join(dir, "token"), []byte(ingestToken+"\n"), 0)
	var serial string
	client := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12, VerifyConnection: func(s tls.ConnectionState) error {
		serial = s.PeerCertificates[0].SerialNumber.String()
		return nil
	}}
	g := newGuarded(t, client, "tls_cert_file", files.Cert, "tls_key_file", files.Key, "ingest_token_file", tokenFile)
	if got := g.batch("x-api-key", ingestToken); got != "" || serial != "2" {
		t.Fatalf("before: refused with %q, certificate %s", got, serial)
	}
	ca.Put(dir, time.Now().AddDate(0, 0, 60), time.Minute)
	certtest.Write(t, tokenFile, []byte(staleToken), 0)
	g.weir.reload()
	if got := g.batch("x-api-key", staleToken); got != "" || serial != "3" {
		t.Errorf("the new token is refused with %q, certificate %s", got, serial)
	}
	if got := g.batch("x-api-key", ingestToken); got != "401" {
		t.Errorf("the token before is answered %q", got)
	}
	// With files that make no certificate nothing is taken.
	certtest.Write(t, files.Key, []byte("x"), 0)
	certtest.Write(t, tokenFile, []byte(ingestToken), 0)
	g.weir.reload()
	if got := g.batch("x-api-key", staleToken); got != "" || serial != "3" {
		t.Errorf("after a reload that failed: refused with %q, certificate %s", got, serial)
	}
	if !strings.Contains(g.log.String(), "the configuration was not reloaded") {
		t.Error("the log does not say so")
	}
}

func TestReloadOpensNothing(t *testing.T) {
	in := inputIn(t)
	env := map[string]string{"WEIR_GRPC_ADDR": "0.0.0.0:4317", "WEIR_INGEST_TOKEN": ingestToken, "LANGSMITH_API_KEY": ownKey}
	in.getenv = envOf(env)
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	w := &weir{settings: s}
	for name, change := range map[string]func(){
		"the token is gone":                     func() { delete(env, "WEIR_INGEST_TOKEN") },
		"and the address would need a restart":  func() { env["WEIR_GRPC_ADDR"] = "127.0.0.1:4317"; delete(env, "WEIR_INGEST_TOKEN") },
		"the token is the key, which all have":  func() { env["WEIR_INGEST_TOKEN"] = ownKey },
		"the token is there, the key another's": nil,
	} {
		env["WEIR_GRPC_ADDR"], env["WEIR_INGEST_TOKEN"] = "0.0.0.0:4317", ingestToken
		if change != nil {
			change()
		}
		next, err := s.reload()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.checkReload(next); (err == nil) != (change == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSendTestFindsItsWayIn(t *testing.T) {
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	g := newGuarded(t, nil, "tls_cert_file", files.Cert, "tls_key_file", files.Key, "tls_client_ca_file", files.CA)
	for _, way := range []string{"grpc", "http"} {
		sys := newTestSystem(t, nil)
		if code := sys.execute(t, "send-test", "--via", way, "--admin-addr", string(g.weir.at.Admin)); code != exitOK {
			t.Errorf("send-test by %s: exit code %d\n%s%s", way, code, sys.out, sys.err)
		}
	}
}

func TestImportFindsItsWayIn(t *testing.T) {
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	g := newGuarded(t, nil, "tls_cert_file", files.Cert, "tls_key_file", files.Key)
	const id = "019a0000-0000-7000-8000-00000000000a"
	body := fmt.Sprintf(`{"post":[{"id":%q,"trace_id":%q,"dotted_order":"20261120T120000000000Z%s","name":"n","run_type":"chain"}]}`, id, id, id)
	text, err := json.Marshal(envelope{
		Version: 1, Endpoint: "runs/batch", Headers: map[string]string{"Content-Type": "application/json"},
		Body: base64.StdEncoding.EncodeToString([]byte(body)),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certtest.Write(t, filepath.Join(dir, "trace.json"), text, 0)
	// The configuration of the weir that runs: its own certificate is trusted.
	env := map[string]string{"WEIR_TLS_CERT_FILE": files.Cert, "WEIR_TLS_KEY_FILE": files.Key}
	run := func(want int) {
		t.Helper()
		sys := newTestSystem(t, env)
		if code := sys.execute(t, "import", dir, "--http-addr", string(g.weir.at.HTTP)); code != want {
			t.Errorf("exit code %d, want %d\n%s%s", code, want, sys.out, sys.err)
		}
	}
	run(exitFailed)
	env["WEIR_INGEST_TOKEN"] = ingestToken
	run(exitOK)
}
