package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
	"weir/proxy/admin"
)

// fakeSource is a weir made of functions; those left out do the least.
type fakeSource struct {
	admin.Caseworker
	admin.Observer
	admin.FrameKeeper

	reload   func(context.Context) (*weirv1.ReloadResponse, error)
	logLevel *admin.LogLevel

	status func(context.Context) (*weirv1.GetStatusResponse, error)
	drain  func(context.Context, time.Duration, func(*weirv1.DrainResponse) error) error
	ready  func() (bool, []string)

	quota   func(context.Context) (*weirv1.GetQuotaResponse, error)
	set     func(*weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error)
	release func(*weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error)
	test    func(context.Context, func(*weirv1.SendTestResponse) error) error
}

func (f *fakeSource) Record(ctx context.Context) { <-ctx.Done() }

func (f *fakeSource) Reload(ctx context.Context) (*weirv1.ReloadResponse, error) {
	return f.reload(ctx)
}

func (f *fakeSource) LogLevel() *admin.LogLevel { return f.logLevel }

func (f *fakeSource) SendTest(ctx context.Context, _ *weirv1.SendTestRequest, report func(*weirv1.SendTestResponse) error) error {
	if f.test == nil {
		return report(&weirv1.SendTestResponse{Result: &weirv1.SendTestResult{Ok: true}})
	}
	return f.test(ctx, report)
}

func (f *fakeSource) Quota(ctx context.Context) (*weirv1.GetQuotaResponse, error) {
	if f.quota == nil {
		return &weirv1.GetQuotaResponse{}, nil
	}
	return f.quota(ctx)
}

func (f *fakeSource) SetQuota(_ context.Context, req *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
	if f.set == nil {
		return &weirv1.SetQuotaResponse{}, nil
	}
	return f.set(req)
}

func (f *fakeSource) ReleaseHeld(_ context.Context, req *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
	if f.release == nil {
		return &weirv1.ReleaseHeldResponse{}, nil
	}
	return f.release(req)
}

func (f *fakeSource) Status(ctx context.Context) (*weirv1.GetStatusResponse, error) {
	if f.status == nil {
		return &weirv1.GetStatusResponse{Version: "v1.2.3", Totals: &weirv1.Totals{AcceptedItems: 7}}, nil
	}
	return f.status(ctx)
}

func (f *fakeSource) Drain(ctx context.Context, timeout time.Duration, report func(*weirv1.DrainResponse) error) error {
	if f.drain == nil {
		return report(&weirv1.DrainResponse{Done: true})
	}
	return f.drain(ctx, timeout, report)
}

func (f *fakeSource) Ready() (bool, []string) {
	if f.ready == nil {
		return true, nil
	}
	return f.ready()
}

// start serves src until the test ends. What cfg leaves out gets a default.
func start(t *testing.T, cfg admin.Config, src *fakeSource) *admin.Server {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Gatherer == nil {
		cfg.Gatherer = prometheus.NewRegistry()
	}
	s, err := admin.New(cfg, src)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// answer is what matters of an HTTP response.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// ask sends one HTTP/1.1 request to s.
func ask(t *testing.T, s *admin.Server, method, path string, header http.Header, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func TestStatusOverEveryProtocol(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{})
	want := &weirv1.GetStatusResponse{Version: "v1.2.3", Totals: &weirv1.Totals{AcceptedItems: 7}}

	t.Run("Connect", func(t *testing.T) {
		got, err := admin.Dial(s.Addr().String(), "").GetStatus(t.Context(), &weirv1.GetStatusRequest{})
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("error %v, status (-want +got):\n%s", err, diff)
		}
	})
	t.Run("gRPC", func(t *testing.T) {
		got := &weirv1.GetStatusResponse{}
		err := dialGRPC(t, s).Invoke(t.Context(), weirv1connect.AdminServiceGetStatusProcedure, &weirv1.GetStatusRequest{}, got)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("error %v, status (-want +got):\n%s", err, diff)
		}
	})
	t.Run("JSON", func(t *testing.T) {
		got := ask(t, s, http.MethodPost, weirv1connect.AdminServiceGetStatusProcedure,
			http.Header{"Content-Type": {"application/json"}}, `{}`)
		var status struct {
			Version string `json:"version"`
			Totals  struct {
				AcceptedItems string `json:"acceptedItems"`
			} `json:"totals"`
		}
		if err := json.Unmarshal([]byte(got.Body), &status); err != nil || status.Version != "v1.2.3" || status.Totals.AcceptedItems != "7" {
			t.Errorf("answer %+v, decoded %+v, error %v", got, status, err)
		}
	})
}

// dialGRPC connects a stock gRPC client, which speaks HTTP/2 only.
func dialGRPC(t *testing.T, s *admin.Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestReflectionNamesTheService(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()

	stream := grpcreflect.NewClient(&http.Client{Transport: transport}, "http://"+s.Addr().String(), connect.WithGRPC()).NewStream(t.Context())
	defer func() { _, _ = stream.Close() }()
	services, err := stream.ListServices()
	if err != nil || !slices.Contains(services, weirv1connect.AdminServiceName) {
		t.Errorf("services = %v, error %v", services, err)
	}
	files, err := stream.FileContainingSymbol(weirv1connect.AdminServiceName)
	if err != nil || len(files) == 0 {
		t.Errorf("files = %d, error %v", len(files), err)
	}
}

func TestDrainStreamsProgress(t *testing.T) {
	var gotTimeout time.Duration
	s := start(t, admin.Config{}, &fakeSource{drain: func(_ context.Context, timeout time.Duration, report func(*weirv1.DrainResponse) error) error {
		gotTimeout = timeout
		return errors.Join(
			report(&weirv1.DrainResponse{PendingItems: 5}),
			report(&weirv1.DrainResponse{PendingItems: 1, DeliveredItems: 4, Done: true, Left: []string{"one span is parked"}}))
	}})
	stream, err := admin.Dial(s.Addr().String(), "").Drain(t.Context(), &weirv1.DrainRequest{Timeout: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	var got []*weirv1.DrainResponse
	for stream.Receive() {
		got = append(got, stream.Msg())
	}
	want := []*weirv1.DrainResponse{
		{PendingItems: 5},
		{PendingItems: 1, DeliveredItems: 4, Done: true, Left: []string{"one span is parked"}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || stream.Err() != nil {
		t.Errorf("error %v, reports (-want +got):\n%s", stream.Err(), diff)
	}
	if gotTimeout != time.Minute {
		t.Errorf("timeout = %s, want 1m", gotTimeout)
	}
}

func TestErrorsHaveCodesToActOn(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want connect.Code
	}{
		{"a fault", errors.New("the disk is on fire"), connect.CodeInternal},
		{"too slow", context.DeadlineExceeded, connect.CodeDeadlineExceeded},
		{"a code of the source's own", connect.NewError(connect.CodeFailedPrecondition, errors.New("draining already")), connect.CodeFailedPrecondition},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, admin.Config{}, &fakeSource{status: func(context.Context) (*weirv1.GetStatusResponse, error) { return nil, tc.err }})
			_, err := admin.Dial(s.Addr().String(), "").GetStatus(t.Context(), &weirv1.GetStatusRequest{})
			if connect.CodeOf(err) != tc.want {
				t.Errorf("error = %v, want code %v", err, tc.want)
			}
		})
	}
	t.Run("a panic is an error of that call only", func(t *testing.T) {
		panics := true
		s := start(t, admin.Config{}, &fakeSource{status: func(context.Context) (*weirv1.GetStatusResponse, error) {
			if panics {
				panic("boom")
			}
			return &weirv1.GetStatusResponse{}, nil
		}})
		client := admin.Dial(s.Addr().String(), "")
		if _, err := client.GetStatus(t.Context(), &weirv1.GetStatusRequest{}); connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "boom") {
			t.Errorf("error = %v", err)
		}
		panics = false
		if _, err := client.GetStatus(t.Context(), &weirv1.GetStatusRequest{}); err != nil {
			t.Errorf("next call: %v", err)
		}
	})
	for _, timeout := range []*durationpb.Duration{{}, {Seconds: -1}, {Nanos: 1_000_000_000}} {
		t.Run("drain timeout "+timeout.String(), func(t *testing.T) {
			s := start(t, admin.Config{}, &fakeSource{})
			stream, err := admin.Dial(s.Addr().String(), "").Drain(t.Context(), &weirv1.DrainRequest{Timeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeInvalidArgument {
				t.Errorf("error = %v, want invalid_argument", stream.Err())
			}
		})
	}
}

func TestHealthAndReadiness(t *testing.T) {
	notReady := func() (bool, []string) { return false, []string{"the disk is full", "still starting"} }
	warned := func() (bool, []string) { return true, []string{"the upstream does not answer"} }
	asJSON := http.Header{"Accept": {"text/html, application/json;q=0.9"}}

	for _, tc := range []struct {
		name   string
		path   string
		ready  func() (bool, []string)
		header http.Header
		status int
		body   string
	}{
		{name: "alive", path: "/healthz", status: 200, body: "ok\n"},
		{name: "alive though not ready", path: "/healthz", ready: notReady, status: 200, body: "ok\n"},
		{name: "ready", path: "/readyz", status: 200, body: "ready\n"},
		{name: "ready with a warning", path: "/readyz", ready: warned, status: 200, body: "ready\n- the upstream does not answer\n"},
		{name: "not ready", path: "/readyz", ready: notReady, status: 503, body: "not ready\n- the disk is full\n- still starting\n"},
		{name: "ready as JSON", path: "/readyz", header: asJSON, status: 200, body: `{"ready":true,"reasons":[]}` + "\n"},
		{name: "not ready as JSON", path: "/readyz", ready: notReady, header: asJSON, status: 503, body: `{"ready":false,"reasons":["the disk is full","still starting"]}` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, admin.Config{Token: "s3cret"}, &fakeSource{ready: tc.ready})
			got := ask(t, s, http.MethodGet, tc.path, tc.header, "")
			if got.Status != tc.status || got.Body != tc.body {
				t.Errorf("answer = %d %q, want %d %q", got.Status, got.Body, tc.status, tc.body)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_answer", Help: "x"}, func() float64 { return 42 }))
	s := start(t, admin.Config{Gatherer: reg, Registerer: reg}, &fakeSource{})
	if got := ask(t, s, http.MethodGet, "/metrics", nil, ""); got.Status != 200 || !strings.Contains(got.Body, "weir_answer 42") {
		t.Errorf("answer = %+v", got)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("problems %v, error %v", problems, err)
	}
}

func TestIndexNamesWhatToPaste(t *testing.T) {
	s := start(t, admin.Config{Version: "v1.2.3"}, &fakeSource{})
	addr := s.Addr().String()
	got := ask(t, s, http.MethodGet, "/", nil, "")
	for _, want := range []string{
		"weir v1.2.3", "/healthz", "/readyz", "/metrics",
		"http://" + addr + weirv1connect.AdminServiceGetStatusProcedure, "grpcurl -plaintext " + addr, "weir status --admin-addr " + addr,
	} {
		if !strings.Contains(got.Body, want) {
			t.Errorf("the page does not say %q:\n%s", want, got.Body)
		}
	}
	if got := ask(t, s, http.MethodGet, "/nowhere", nil, ""); got.Status != 404 || !strings.Contains(got.Body, "see /") {
		t.Errorf("unknown path: %+v", got)
	}
	if got := got.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options = %q", got)
	}
}

func TestUnixSocket(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	start(t, admin.Config{Addr: addr}, &fakeSource{})
	got, err := admin.Dial(addr, "").GetStatus(t.Context(), &weirv1.GetStatusRequest{})
	if err != nil || got.GetVersion() != "v1.2.3" {
		t.Errorf("status %v, error %v", got, err)
	}
}

func TestToken(t *testing.T) {
	const token = "a-token"
	reg := prometheus.NewRegistry()
	s := start(t, admin.Config{Token: token, Registerer: reg}, &fakeSource{})

	for _, tc := range []struct {
		name   string
		header string
		want   int
	}{
		{"none", "", 401},
		{"right", "Bearer " + token, 200},
		{"right, other letter case of the scheme", "bearer " + token, 200},
		{"wrong", "Bearer another", 401},
		{"a prefix of it", "Bearer a-tok", 401},
		{"more than it", "Bearer a-token1", 401},
		{"without scheme", token, 401},
		{"other scheme", "Basic " + token, 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, path := range []string{"/", "/metrics"} {
				got := ask(t, s, http.MethodGet, path, http.Header{"Authorization": {tc.header}}, "")
				if got.Status != tc.want {
					t.Errorf("%s: status = %d, want %d", path, got.Status, tc.want)
				}
				if tc.want == 401 && (got.Header.Get("WWW-Authenticate") == "" || strings.Contains(got.Body, token)) {
					t.Errorf("%s: answer = %+v", path, got)
				}
			}
		})
	}

	t.Run("client", func(t *testing.T) {
		if _, err := admin.Dial(s.Addr().String(), token).GetStatus(t.Context(), &weirv1.GetStatusRequest{}); err != nil {
			t.Errorf("right token: %v", err)
		}
		_, err := admin.Dial(s.Addr().String(), "").GetStatus(t.Context(), &weirv1.GetStatusRequest{})
		if connect.CodeOf(err) != connect.CodeUnauthenticated || !strings.Contains(err.Error(), "--admin-token-file") {
			t.Errorf("no token: %v", err)
		}
		stream, err := admin.Dial(s.Addr().String(), "").Drain(t.Context(), &weirv1.DrainRequest{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Close() }()
		if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnauthenticated {
			t.Errorf("stream without token: %v", stream.Err())
		}
	})
	t.Run("gRPC client", func(t *testing.T) {
		conn := dialGRPC(t, s)
		call := func(ctx context.Context) error {
			return conn.Invoke(ctx, weirv1connect.AdminServiceGetStatusProcedure, &weirv1.GetStatusRequest{}, &weirv1.GetStatusResponse{})
		}
		if err := call(t.Context()); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "admin token") {
			t.Errorf("no token: %v", err)
		}
		if err := call(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)); err != nil {
			t.Errorf("right token: %v", err)
		}
	})
	t.Run("refusals are counted", func(t *testing.T) {
		if n, err := testutil.GatherAndCount(reg, "weir_admin_refused_total"); n != 1 || err != nil {
			t.Errorf("series = %d, error %v", n, err)
		}
	})
}

func TestForeignPagesAreRefused(t *testing.T) {
	s := start(t, admin.Config{AllowedHosts: []string{"weir"}}, &fakeSource{})
	for _, tc := range []struct {
		name   string
		header http.Header
		want   int
	}{
		{"rebound name", http.Header{"Host": {"evil.example"}}, 403},
		{"foreign origin", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"listed name", http.Header{"Host": {"weir:4319"}}, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, path := range []string{"/", "/readyz", "/metrics"} {
				if got := ask(t, s, http.MethodGet, path, tc.header, ""); got.Status != tc.want {
					t.Errorf("%s: %+v, want %d", path, got, tc.want)
				}
			}
			header := tc.header.Clone()
			header.Set("Content-Type", "application/json")
			if got := ask(t, s, http.MethodPost, weirv1connect.AdminServiceGetStatusProcedure, header, "{}"); got.Status != tc.want {
				t.Errorf("call: %+v, want %d", got, tc.want)
			}
		})
	}
}

func TestMetricsPortHasNothingElse(t *testing.T) {
	// The port is chosen by hand: Server names only the admin listener's.
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, admin.Config{MetricsAddr: addr, Token: "s3cret"}, &fakeSource{})
	for path, want := range map[string]int{
		"/metrics": 200, "/healthz": 200, "/readyz": 200,
		"/": 404, weirv1connect.AdminServiceGetStatusProcedure: 404,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status = %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestNewRefusesWhatWouldBeUnsafeOrUseless(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, tc := range []struct {
		name string
		cfg  admin.Config
		want string // "": fine
	}{
		{"loopback without token", admin.Config{Addr: "127.0.0.1:4319", Gatherer: reg}, ""},
		{"socket without token", admin.Config{Addr: "unix:/run/weir.sock", Gatherer: reg}, ""},
		{"exposed with token", admin.Config{Addr: "0.0.0.0:4319", Token: "x", Gatherer: reg}, ""},
		{"exposed without token", admin.Config{Addr: "0.0.0.0:4319", Gatherer: reg}, "set a token (admin_token_file), or listen on 127.0.0.1:4319"},
		{"all addresses without token", admin.Config{Addr: ":4319", Gatherer: reg}, "set a token"},
		{"token with a line break", admin.Config{Addr: "127.0.0.1:0", Token: "x\n", Gatherer: reg}, "a line break"},
		{"no address", admin.Config{Gatherer: reg}, "no address"},
		{"no metrics", admin.Config{Addr: "127.0.0.1:0"}, "no metrics"},
		{"bad host", admin.Config{Addr: "127.0.0.1:0", Gatherer: reg, AllowedHosts: []string{"a:1"}}, `allowed host "a:1"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := admin.New(tc.cfg, &fakeSource{})
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("error = %v, want none", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error = %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func TestStartIsUndoneWhenOneListenerFails(t *testing.T) {
	socket := "unix:" + filepath.Join(t.TempDir(), "s")
	cfg := admin.Config{Addr: socket, MetricsAddr: "unix:" + filepath.Join(t.TempDir(), "missing", "s"), Gatherer: prometheus.NewRegistry()}
	s, err := admin.New(cfg, &fakeSource{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Fatalf("error = %v, want one about metrics", err)
	}
	start(t, admin.Config{Addr: socket}, &fakeSource{}) // the address is free again
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:1", "unix:/nonexistent/weir.sock", "no port"} {
		_, err := admin.Dial(addr, "").GetStatus(t.Context(), &weirv1.GetStatusRequest{})
		if connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%s: error = %v, want unavailable", addr, err)
		}
	}
}

func TestDialTakesTheListenAddress(t *testing.T) {
	s := start(t, admin.Config{Addr: "0.0.0.0:0", Token: "t"}, &fakeSource{})
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{":" + port, "0.0.0.0:" + port} {
		if _, err := admin.Dial(addr, "t").GetStatus(t.Context(), &weirv1.GetStatusRequest{}); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
