package admin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"weir/internal/certfile"
	"weir/internal/certfile/certtest"
	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
	"weir/proxy/admin"
)

// secured is an admin listener over TLS, and its authority.
type secured struct {
	*admin.Server

	t  *testing.T
	ca *certtest.Authority
}

// startTLS serves over TLS; mutual: clients need a certificate.
func startTLS(t *testing.T, cfg admin.Config, mutual bool) *secured {
	t.Helper()
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	id := certfile.Config{CertFile: files.Cert, KeyFile: files.Key}
	if mutual {
		id.ClientCAFile = files.CA
	}
	var err error
	if cfg.TLS, err = certfile.Open(id); err != nil {
		t.Fatal(err)
	}
	return &secured{start(t, cfg, &fakeSource{}), t, ca}
}

// client trusts the authority, and shows certs whatever it is asked for.
func (s *secured) client(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: s.ca.Pool(), MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		},
	}
}

// get asks for a path, over HTTP/2 or 1.1.
func (s *secured) get(path string, http2 bool, header http.Header, cfg *tls.Config) (answer, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+s.Addr().String()+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	req.Host = header.Get("Host")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: http2, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if want := map[bool]int{true: 2, false: 1}[http2]; resp.ProtoMajor != want {
		s.t.Errorf("%s was answered over %s", path, resp.Proto)
	}
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// status makes a call by the command line's client.
func (s *secured) status(addr, token string, cfg *tls.Config) error {
	_, err := admin.DialTLS(addr, token, cfg).GetStatus(s.t.Context(), &weirv1.GetStatusRequest{})
	return err
}

// grpcStatus makes the same call by grpc-go.
func (s *secured) grpcStatus(token string, cfg *tls.Config) error {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := s.t.Context()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return conn.Invoke(ctx, weirv1connect.AdminServiceGetStatusProcedure, &weirv1.GetStatusRequest{}, &weirv1.GetStatusResponse{})
}

func TestEveryProtocolWorksOverTLS(t *testing.T) {
	s := startTLS(t, admin.Config{Token: "t"}, false)
	for _, http2 := range []bool{false, true} {
		got, err := s.get("/metrics", http2, http.Header{"Authorization": {"Bearer t"}}, s.client())
		if err != nil || got.Status != http.StatusOK {
			t.Errorf("HTTP/2 %v: %+v, %v", http2, got, err)
		}
		got, err = s.get("/metrics", http2, nil, s.client())
		if err != nil || got.Status != http.StatusUnauthorized {
			t.Errorf("HTTP/2 %v without the token: %+v, %v", http2, got, err)
		}
	}
	if err := s.status(s.Addr().String(), "t", s.client()); err != nil {
		t.Errorf("Connect: %v", err)
	}
	if err := s.grpcStatus("t", s.client()); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	if err := s.grpcStatus("", s.client()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("gRPC without the token: %v", err)
	}
	stream, err := admin.DialTLS(s.Addr().String(), "t", s.client()).Drain(t.Context(), &weirv1.DrainRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if !stream.Receive() || !stream.Msg().GetDone() {
		t.Errorf("stream: %v", stream.Err())
	}
}

func TestForeignPagesAreRefusedOverTLS(t *testing.T) {
	s := startTLS(t, admin.Config{AllowedHosts: []string{"weir.internal"}}, false)
	for name, tc := range map[string]struct {
		header http.Header
		want   int
	}{
		"rebound name":   {http.Header{"Host": {"evil.example"}}, http.StatusForbidden},
		"foreign origin": {http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		"own origin":     {http.Header{"Host": {"weir.internal:4319"}, "Origin": {"https://weir.internal:4319"}}, http.StatusOK},
	} {
		for _, http2 := range []bool{false, true} {
			if got, err := s.get("/metrics", http2, tc.header, s.client()); err != nil || got.Status != tc.want {
				t.Errorf("%s, HTTP/2 %v: %+v, %v; want %d", name, http2, got, err, tc.want)
			}
		}
	}
}

func TestClientCertificateIsAskedFor(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := startTLS(t, admin.Config{Registerer: reg}, true)
	tomorrow := time.Now().AddDate(0, 0, 1)
	right := s.client(s.ca.Pair(tomorrow))

	for name, err := range map[string]error{"Connect": s.status(s.Addr().String(), "", right), "gRPC": s.grpcStatus("", right)} {
		if err != nil {
			t.Errorf("%s with the right certificate: %v", name, err)
		}
	}
	t.Run("none", func(t *testing.T) {
		err := s.status(s.Addr().String(), "", s.client())
		if connect.CodeOf(err) != connect.CodeUnauthenticated || !strings.Contains(err.Error(), "--admin-client-cert-file") {
			t.Errorf("Connect: %v", err)
		}
		if err := s.grpcStatus("", s.client()); status.Code(err) != codes.Unauthenticated {
			t.Errorf("gRPC: %v", err)
		}
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401, "/": 401, "/healthz/": 401, "//readyz": 401} {
			if got, err := s.get(path, true, nil, s.client()); err != nil || got.Status != want {
				t.Errorf("%s: %+v, %v; want %d", path, got, err, want)
			}
		}
		const want = `# HELP weir_admin_refused_total Requests to the admin port refused before they were looked at, by reason: token, certificate, host, origin, fetch_site.
# TYPE weir_admin_refused_total counter
weir_admin_refused_total{reason="certificate"} 6
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "weir_admin_refused_total"); err != nil {
			t.Error(err)
		}
	})
	for name, pair := range map[string]tls.Certificate{
		"of another authority": certtest.New(t, "weir's", time.Now()).Pair(tomorrow),
		"expired":              s.ca.Pair(time.Now().AddDate(0, 0, -1)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.status(s.Addr().String(), "", s.client(pair)); connect.CodeOf(err) != connect.CodeUnavailable {
				t.Errorf("Connect: %v", err)
			}
			if err := s.grpcStatus("", s.client(pair)); status.Code(err) != codes.Unavailable {
				t.Errorf("gRPC: %v", err)
			}
			if got, err := s.get("/healthz", false, nil, s.client(pair)); err == nil {
				t.Errorf("health: %+v; a wrong certificate ends the handshake", got)
			}
		})
	}
}

func TestTokenAndCertificateAreBothAskedFor(t *testing.T) {
	s := startTLS(t, admin.Config{Token: "t"}, true)
	right := s.client(s.ca.Pair(time.Now().AddDate(0, 0, 1)))
	for name, tc := range map[string]struct {
		token string
		cfg   *tls.Config
		want  bool
	}{
		"both":        {"t", right, true},
		"token":       {"t", s.client(), false},
		"certificate": {"", right, false},
	} {
		if err := s.status(s.Addr().String(), tc.token, tc.cfg); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTLSAndPlainMixedUp(t *testing.T) {
	s := startTLS(t, admin.Config{}, false)
	if err := s.status(s.Addr().String(), "", nil); !errors.Is(err, admin.ErrTLSExpected) || connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("plain to TLS: %v", err)
	}
	plain := start(t, admin.Config{}, &fakeSource{})
	if err := s.status(plain.Addr().String(), "", s.client()); !errors.Is(err, http.ErrSchemeMismatch) {
		t.Errorf("TLS to plain: %v", err)
	}
}

func TestExposedWithClientCertificatesNeedsNoToken(t *testing.T) {
	for mutual, want := range map[bool]bool{true: true, false: false} {
		ca := certtest.New(t, "weir's", time.Now())
		files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
		cfg := certfile.Config{CertFile: files.Cert, KeyFile: files.Key}
		if mutual {
			cfg.ClientCAFile = files.CA
		}
		id, err := certfile.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = admin.Config{Addr: "0.0.0.0:4319", TLS: id, Gatherer: prometheus.NewRegistry()}.Validate()
		if (err == nil) != want {
			t.Errorf("mutual %v: %v", mutual, err)
		}
	}
}

func TestSocketIsItsUsersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ca := certtest.New(t, "weir's", time.Now())
	files := ca.Put(t.TempDir(), time.Now().AddDate(0, 0, 30), time.Hour)
	id, err := certfile.Open(certfile.Config{CertFile: files.Cert, KeyFile: files.Key, ClientCAFile: files.CA})
	if err != nil {
		t.Fatal(err)
	}
	start(t, admin.Config{Addr: "unix:" + path, Token: "t", TLS: id}, &fakeSource{})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, error %v", info.Mode(), err)
	}
	// Who can open it has neither a token nor a certificate to show.
	if _, err := admin.Dial("unix:"+path, "").GetStatus(t.Context(), &weirv1.GetStatusRequest{}); err != nil {
		t.Error(err)
	}
}

func TestFailedHandshakesAreNoWarnings(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 1} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		s := startTLS(t, admin.Config{Logger: logger}, false)
		_, err := s.get("/healthz", false, nil, &tls.Config{RootCAs: certtest.New(t, "another", time.Now()).Pool(), MinVersion: tls.VersionTLS12})
		if err == nil {
			t.Error("a server of another authority was taken")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if got := strings.Count(log.String(), "level=DEBUG msg=\"http: TLS handshake error"); got != want || strings.Contains(log.String(), "WARN") {
			t.Errorf("at %v: %s", level, log.String())
		}
	}
}
