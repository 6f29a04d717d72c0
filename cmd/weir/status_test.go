package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
)

// fakeAdmin is an admin API that answers what a test tells it.
type fakeAdmin struct {
	fakeCases
	fakeFrames
	notYet // what no fake answers

	status *weirv1.GetStatusResponse
	err    error
	token  string

	quota    *weirv1.GetQuotaResponse
	set      *weirv1.SetQuotaRequest // the last one
	setTo    *weirv1.SetQuotaResponse
	release  *weirv1.ReleaseHeldRequest // the last one
	released *weirv1.ReleaseHeldResponse

	test   *weirv1.SendTestRequest // the last one
	tested []*weirv1.SendTestResponse

	drain   []*weirv1.DrainResponse
	timeout time.Duration // of the last DrainRequest
	// hold, when set, is closed by the test after it has seen what it wants;
	// until then the stream stays open after the last message.
	hold chan struct{}
}

// notYet is one level down, so that every fake comes before it.
type notYet struct {
	weirv1connect.UnimplementedAdminServiceHandler
}

func (f *fakeAdmin) GetStatus(context.Context, *weirv1.GetStatusRequest) (*weirv1.GetStatusResponse, error) {
	return f.status, f.err
}

func (f *fakeAdmin) GetQuota(context.Context, *weirv1.GetQuotaRequest) (*weirv1.GetQuotaResponse, error) {
	if f.quota == nil {
		return &weirv1.GetQuotaResponse{}, f.err
	}
	return f.quota, f.err
}

func (f *fakeAdmin) SetQuota(_ context.Context, r *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
	f.set = r
	return f.setTo, f.err
}

func (f *fakeAdmin) ReleaseHeld(_ context.Context, r *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
	f.release = r
	return f.released, f.err
}

func (f *fakeAdmin) Drain(ctx context.Context, r *weirv1.DrainRequest, stream *connect.ServerStream[weirv1.DrainResponse]) error {
	f.timeout = r.GetTimeout().AsDuration()
	for _, m := range f.drain {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fakeAdmin) SendTest(_ context.Context, r *weirv1.SendTestRequest, stream *connect.ServerStream[weirv1.SendTestResponse]) error {
	f.test = r
	for _, m := range f.tested {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return f.err
}

// serve starts the fake on loopback and returns its address.
func (f *fakeAdmin) serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	path, handler := weirv1connect.NewAdminServiceHandler(f)
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if f.token != "" && r.Header.Get("Authorization") != "Bearer "+f.token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(fixedNow.Add(-d)) }

// busyStatus is a weir with every kind of trouble.
func busyStatus() *weirv1.GetStatusResponse {
	return &weirv1.GetStatusResponse{
		Version: "v0.1.0", StartedAt: ago(76 * time.Hour), DataDir: "/var/lib/weir",
		Totals: &weirv1.Totals{
			AcceptedItems: 1234567, DeliveredItems: 1200000, PendingItems: 34000, QuarantinedItems: 560, DroppedItems: 7,
			DroppedByReason: map[string]int64{"damaged": 2, "max_age": 5},
		},
		Lanes: []*weirv1.Lane{
			{
				Id: 1, Protocol: "otlp", Upstream: "https://api.smith.langchain.com", Credential: "weir's own key", Project: "chat",
				State: weirv1.LaneState_LANE_STATE_SENDING, PendingItems: 12, PendingBytes: 5120, OldestAge: durationpb.New(350 * time.Millisecond),
				DeliveredItems: 1200000,
			},
			{
				Id: 2, Protocol: "otlp", Credential: "lsv2_…9f", Workspace: "5f8c", State: weirv1.LaneState_LANE_STATE_WAITING,
				Reason: "http_503", Since: ago(95 * time.Second), PendingItems: 33988, PendingBytes: 19 << 20,
				OldestAge: durationpb.New(2 * time.Hour), NextAttempt: timestamppb.New(fixedNow.Add(42 * time.Second)),
				LastError: "503 Service Unavailable:\n\x1b[31mtry later",
			},
			{
				Id: 10, Protocol: "otlp", Credential: "lsv2_…aa", Project: "a project whose name goes on for longer than anyone would like it to",
				State: weirv1.LaneState_LANE_STATE_PARKED, Reason: "http_403", Since: ago(26 * time.Hour), QuarantinedItems: 560,
				NextAttempt: ago(time.Second),
			},
			{Id: 11, Protocol: "otlp", Credential: "weir's own key", State: weirv1.LaneState_LANE_STATE_IDLE},
		},
		Disk: &weirv1.Disk{
			UsedBytes: 25 << 20, MaxBytes: 10 << 30, FreeBytes: 200 << 20, MinFreeBytes: 256 << 20,
			Refusing: "200 MiB are free on the file system, under the floor of 256 MiB",
		},
		Upstream: &weirv1.UpstreamStatus{
			Url: "https://api.smith.langchain.com", LastDeliveredAt: ago(95 * time.Second),
			WaitingReason: "http_503", NextAttempt: timestamppb.New(fixedNow.Add(42 * time.Second)),
		},
		Cases: []*weirv1.Case{{
			Id: 3, LaneId: 10, Reason: "http_403", Status: 403, Body: "{\"error\":\"Forbidden\"}\n", RequestId: "req-1",
			OpenedAt: ago(26 * time.Hour), Items: 560, Bytes: 310 << 10,
		}},
		Problems: []string{
			"Lane 10: LangSmith refuses the key lsv2_…aa with 403; check the key and its workspace.",
			"The disk is nearly full: free some space or lower buffer_min_free.",
		},
	}
}

func quietStatus() *weirv1.GetStatusResponse {
	return &weirv1.GetStatusResponse{
		Version: "v0.1.0", StartedAt: ago(90 * time.Second), DataDir: "/home/ada/.local/state/weir", Totals: &weirv1.Totals{},
		Disk:     &weirv1.Disk{UsedBytes: 512, MaxBytes: 10 << 30, FreeBytes: 93 << 30, MinFreeBytes: 256 << 20},
		Upstream: &weirv1.UpstreamStatus{Url: "https://api.smith.langchain.com"},
	}
}

func TestStatusGolden(t *testing.T) {
	draining := quietStatus()
	draining.Draining, draining.RestampedTraces = true, 1200
	draining.Lanes = []*weirv1.Lane{{Id: 1, Protocol: "otlp", Credential: "weir's own key", State: weirv1.LaneState_LANE_STATE_IDLE}}
	tests := []struct {
		name   string
		status *weirv1.GetStatusResponse
		args   []string
		color  bool
		want   int
	}{
		{name: "busy", status: busyStatus()},
		{name: "busy-color", status: busyStatus(), color: true},
		{name: "busy-check", status: busyStatus(), args: []string{"--check"}, want: exitNeedsPerson},
		{name: "busy-json", status: busyStatus(), args: []string{"--json"}},
		{name: "busy-json-check", status: busyStatus(), args: []string{"--json", "--check"}, want: exitNeedsPerson},
		{name: "quiet", status: quietStatus()},
		{name: "quiet-check", status: quietStatus(), args: []string{"--check"}},
		{name: "quiet-json", status: quietStatus(), args: []string{"--json"}},
		{name: "draining", status: draining},
		{name: "blank", status: &weirv1.GetStatusResponse{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := (&fakeAdmin{status: tt.status}).serve(t)
			sys := newTestSystem(t, nil)
			sys.OutColor = tt.color
			args := append([]string{"status", "--admin-addr", addr}, tt.args...)
			if code := sys.execute(t, args...); code != tt.want {
				t.Errorf("exit code %d, want %d", code, tt.want)
			}
			if sys.err.Len() > 0 {
				t.Errorf("standard error: %s", sys.err)
			}
			golden(t, "testdata/status/"+tt.name+".golden", sys.out.String())
		})
	}
}

// TestStatusJSONKeepsEmptyFields pins what scripts read: camelCase names, all
// of them there, counts as strings.
func TestStatusJSONKeepsEmptyFields(t *testing.T) {
	addr := (&fakeAdmin{status: quietStatus()}).serve(t)
	sys := newTestSystem(t, nil)
	if code := sys.execute(t, "status", "--json", "--admin-addr", addr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	var got struct {
		Totals map[string]any `json:"totals"`
		Lanes  []any          `json:"lanes"`
	}
	if err := json.Unmarshal(sys.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acceptedItems", "deliveredItems", "pendingItems", "heldItems", "quarantinedItems", "droppedItems"} {
		if got.Totals[name] != "0" {
			t.Errorf("totals.%s is %v, want \"0\"", name, got.Totals[name])
		}
	}
	if got.Lanes == nil {
		t.Error("lanes is missing")
	}
}

func TestAdminCallsAreExplained(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := []struct {
		name string
		addr string
		want int
		text string
	}{
		{"nobody there", gone.Listener.Addr().String(), exitUnreachable, "no weir answers at " + gone.Listener.Addr().String()},
		{"something else there", other.Listener.Addr().String(), exitUnreachable, "is not weir's admin API"},
		{"token wanted", (&fakeAdmin{token: "secret-token"}).serve(t), exitFailed, "wants its admin token: set WEIR_ADMIN_TOKEN"},
		{"weir failed", (&fakeAdmin{err: connect.NewError(connect.CodeInternal, errors.New("disk on fire"))}).serve(t), exitFailed, ": disk on fire"},
	}
	for _, tt := range tests {
		for _, verb := range []string{"status", "drain"} {
			t.Run(tt.name+"/"+verb, func(t *testing.T) {
				sys := newTestSystem(t, nil)
				if code := sys.execute(t, verb, "--admin-addr", tt.addr); code != tt.want {
					t.Errorf("exit code %d, want %d", code, tt.want)
				}
				if !strings.HasPrefix(sys.err.String(), "weir: "+verb+": ") || !strings.Contains(sys.err.String(), tt.text) {
					t.Errorf("message %q, want one with %q", sys.err, tt.text)
				}
				if sys.out.Len() > 0 {
					t.Errorf("standard output: %s", sys.out)
				}
			})
		}
	}
}

func TestStatusSendsTheToken(t *testing.T) {
	addr := (&fakeAdmin{status: quietStatus(), token: "secret-token"}).serve(t)
	sys := newTestSystem(t, map[string]string{"WEIR_ADMIN_TOKEN": "secret-token", "WEIR_ADMIN_ADDR": addr})
	if code := sys.execute(t, "status"); code != exitOK {
		t.Errorf("exit code %d: %s", code, sys.err)
	}
}
