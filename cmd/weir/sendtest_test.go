package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/sendtest"
	"weir/internal/smith"
	weirv1 "weir/proto/weir/v1"
)

const testKey = "lsv2_pt_sendtest_0000000000"

// testRig is a weir before a look-alike.
type testRig struct {
	t       *testing.T
	smith   *smith.Server
	url     string
	flags   map[string]string
	weir    *weir
	running bool
}

// newRig starts a look-alike. Flags are settings by name, over those that let
// the rig run beside others.
func newRig(t *testing.T, cfg smith.Config, flags ...string) *testRig {
	t.Helper()
	r := &testRig{t: t, smith: smith.New(cfg)}
	front := httptest.NewServer(r.smith)
	t.Cleanup(func() {
		if err := r.smith.Close(); err != nil {
			t.Error(err)
		}
		front.Close()
	})
	r.url = front.URL
	r.flags = map[string]string{
		"grpc_addr": "127.0.0.1:0", "http_addr": "127.0.0.1:0", "admin_addr": "127.0.0.1:0",
		"data_dir": filepath.Join(t.TempDir(), "data"), "upstream": r.url, "forward.linger": "1ms",
	}
	for i := 0; i+1 < len(flags); i += 2 {
		r.flags[flags[i]] = flags[i+1]
	}
	return r
}

// start starts a weir; stop, or the test's end, stops it.
func (r *testRig) start() *testRig {
	r.t.Helper()
	s, err := loadSettings(configInput{
		flags:  r.flags,
		getenv: func(name string) string { return map[string]string{"LANGSMITH_API_KEY": testKey}[name] },
		cwd:    r.t.TempDir(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s.testHurry = 100
	if r.weir, err = startWeirWith(r.t.Context(), s, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		r.t.Fatal(err)
	}
	r.running = true
	r.t.Cleanup(r.stop)
	return r
}

func (r *testRig) stop() {
	if !r.running {
		return
	}
	r.running = false
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), 10*time.Second)
	defer cancel()
	if err := r.weir.shutdown(ctx); err != nil {
		r.t.Error(err)
	}
}

// test runs `weir send-test --json` and wants an exit code.
func (r *testRig) test(want int, args ...string) sendTestJSON {
	r.t.Helper()
	sys := newTestSystem(r.t, map[string]string{"LANGSMITH_API_KEY": testKey, "LANGSMITH_ENDPOINT": r.url})
	args = append([]string{"send-test", "--json"}, args...)
	if r.weir != nil {
		args = append(args, "--admin-addr", string(r.weir.at.Admin))
	}
	code := sys.execute(r.t, args...)
	var got sendTestJSON
	if err := json.Unmarshal(sys.out.Bytes(), &got); err != nil || code != want {
		r.t.Fatalf("exit code %d, want %d: %v\n%s%s", code, want, err, sys.out, sys.err)
	}
	return got
}

// sendTestJSON is what scripts read of a result.
type sendTestJSON struct {
	OK          bool   `json:"ok"`
	NeedsPerson bool   `json:"needsPerson"`
	TraceID     string `json:"traceId"`
	Project     string `json:"project"`
	Way         string `json:"way"`
	Traces      int    `json:"traces"`
	StuckAt     string `json:"stuckAt"`
	Reason      string `json:"reason"`
	Remedy      string `json:"remedy"`
	CaseID      string `json:"caseId"`
	Zstd        string `json:"zstd"`
	Steps       []struct {
		Name string `json:"name"`
		OK   bool   `json:"ok"`
		Seen string `json:"seen"`
		Took string `json:"took"`
	} `json:"steps"`
}

// says returns what a step saw.
func (r *sendTestJSON) says(step string) string {
	for _, s := range r.Steps {
		if s.Name == step {
			return s.Seen
		}
	}
	return ""
}

func TestSendTestGoesTheWholeWay(t *testing.T) {
	for _, tt := range []struct {
		args []string
		way  string
	}{
		{nil, "grpc"},
		{[]string{"--via", "http", "--project", "elsewhere"}, "http"},
		{[]string{"--via", "grpc", "--project", "elsewhere"}, "grpc"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			r := newRig(t, smith.Config{Keys: map[string]smith.Key{testKey: {}}}, "project", "configured").start()
			got := r.test(exitOK, tt.args...)
			project := "configured"
			if len(tt.args) > 0 {
				project = "elsewhere"
			}
			if !got.OK || got.Way != tt.way || got.Project != project || got.Traces != 1 || got.StuckAt != "" || got.Zstd != sendtest.ZstdProven {
				t.Errorf("result %+v", got)
			}
			spans := r.smith.Spans()
			if len(spans) != 4 || r.smith.Stats().Traces != 1 || spans[0].OTLP.GetName() != sendtest.RunName {
				t.Fatalf("%d spans of %d traces arrived, want the root and three for zstd, of one trace", len(spans), r.smith.Stats().Traces)
			}
			for _, s := range spans {
				if s.Project != project || smith.RunID(s.Trace).String() != got.TraceID {
					t.Errorf("span %q is of project %q, trace %s", s.OTLP.GetName(), s.Project, s.Trace)
				}
			}
			for _, step := range []string{"cost", "accepted", "delivered", "read_back", "zstd"} {
				if got.says(step) == "" {
					t.Errorf("step %s is missing: %+v", step, got.Steps)
				}
			}
		})
	}
}

// TestSendTestReachesSockets: listeners need no port.
func TestSendTestReachesSockets(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, smith.Config{}, "grpc_addr", "unix:"+filepath.Join(dir, "g"), "http_addr", "unix:"+filepath.Join(dir, "h")).start()
	for _, way := range []string{"grpc", "http"} {
		if got := r.test(exitOK, "--via", way, "--no-zstd"); got.Way != way {
			t.Errorf("way %s, want %s", got.Way, way)
		}
	}
	without := newRig(t, smith.Config{}, "grpc_addr", "off").start()
	if got := without.test(exitOK, "--no-zstd"); got.Way != "http" {
		t.Errorf("way %s where gRPC is off, want http", got.Way)
	}
}

// TestSendTestSettlesZstd runs under each of the look-alike's treatments, and
// looks how weir sends from then on, across a restart.
func TestSendTestSettlesZstd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sw     smith.Switches
		want   string
		sentIn string // from then on
	}{
		{"taken", smith.Switches{}, sendtest.ZstdProven, "zstd"},
		{"415", smith.Switches{OTLPZstd: smith.Unsupported}, sendtest.ZstdRefused, "gzip"},
		{"200 and lost", smith.Switches{OTLPZstd: smith.Lost}, sendtest.ZstdLost, "gzip"},
		{"first frame", smith.Switches{ZstdFrames: smith.FramesFirst}, sendtest.ZstdFirstFrame, "gzip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, smith.Config{Switches: tt.sw}).start()
			if got := r.test(exitOK); got.Zstd != tt.want {
				t.Fatalf("zstd is %s, want %s: %s", got.Zstd, tt.want, got.says("zstd"))
			}
			for _, again := range []string{"at once", "after a restart"} {
				before := len(r.smith.Requests())
				got := r.test(exitOK)
				if got.Zstd != tt.want || got.says("zstd") != "" {
					t.Errorf("%s: %s, and was tried again: %q", again, got.Zstd, got.says("zstd"))
				}
				sent := r.smith.Requests()[before:]
				if len(sent) != 1 || sent[0].Encoding != tt.sentIn {
					t.Errorf("%s: %d requests, the first in %s, want one in %s", again, len(sent), sent[0].Encoding, tt.sentIn)
				}
				r.stop()
				r.start()
			}
		})
	}
}

// TestSendTestTakesBackAVerdict: the service may change.
func TestSendTestTakesBackAVerdict(t *testing.T) {
	r := newRig(t, smith.Config{}).start()
	for _, step := range []struct {
		sw   smith.Switches
		want string
	}{
		{smith.Switches{}, sendtest.ZstdProven},
		{smith.Switches{OTLPZstd: smith.Unsupported}, sendtest.ZstdRefused},
		{smith.Switches{}, sendtest.ZstdProven},
		{smith.Switches{ZstdFrames: smith.FramesFirst}, sendtest.ZstdFirstFrame},
		{smith.Switches{}, sendtest.ZstdProven},
	} {
		r.smith.SetSwitches(step.sw)
		if got := r.test(exitOK, "--zstd"); got.Zstd != step.want {
			t.Fatalf("zstd is %s, want %s: %s", got.Zstd, step.want, got.says("zstd"))
		}
	}
}

func TestSendTestLeavesAConfiguredEncodingAlone(t *testing.T) {
	r := newRig(t, smith.Config{}, "otlp_encoding", "gzip").start()
	if got := r.test(exitOK); got.Zstd != sendtest.ZstdUnknown || got.says("zstd") != "" {
		t.Errorf("without being asked: %+v", got)
	}
	if got := r.test(exitOK, "--zstd"); got.Zstd != sendtest.ZstdProven || !strings.Contains(got.says("zstd"), "The configured encoding stays in use.") {
		t.Errorf("asked: %+v", got)
	}
	if got := newRig(t, smith.Config{}).start().test(exitOK, "--no-zstd"); got.Zstd != sendtest.ZstdUnknown || got.says("zstd") != "" {
		t.Errorf("asked not to: %+v", got)
	}
}

func TestSendTestSaysWhereItStuck(t *testing.T) {
	long := smith.Switches{ReadLag: smith.Delay(time.Hour)}
	for _, tt := range []struct {
		name    string
		cfg     smith.Config
		flags   []string
		fault   *smith.Fault
		code    int
		stuckAt string
		reason  string
		seen    string
		remedy  string
	}{
		{
			"wrong key",
			smith.Config{Keys: map[string]smith.Key{"lsv2_pt_other_0000000000000": {}}},
			nil, nil,
			exitNeedsPerson, "delivered", "http_403", `LangSmith refused the trace (http_403: {"error":"Forbidden"}); weir keeps it in case`, "Copy the whole key",
		},
		{
			"month used up at LangSmith",
			smith.Config{Limits: smith.Limits{MonthlyTraces: 1}},
			nil, nil,
			exitNeedsPerson, "delivered", "held", "weir holds the trace on disk", "`weir quota` shows the limit",
		},
		{
			"month used up by weir's limit",
			smith.Config{},
			[]string{"quota_traces", "1"},
			nil,
			exitNeedsPerson, "delivered", "held", "weir holds the trace on disk", "`weir quota` shows the limit",
		},
		{
			"dropped by policy",
			smith.Config{},
			[]string{"quota_traces", "1", "quota_policy", "drop"},
			nil,
			exitNeedsPerson, "delivered", "dropped", "weir dropped the trace", "`weir quota`",
		},
		{
			"upstream down",
			smith.Config{},
			nil, &smith.Fault{Match: "/otel", Status: 503, Count: smith.Forever},
			exitFailed, "delivered", "http_503", "has not sent it within 2s: its lane waits (http_503)", "It goes out by itself",
		},
		{
			"not shown yet",
			smith.Config{Switches: long},
			nil, nil,
			exitFailed, "read_back", "not_read_back", "does not show it after 2s: it is slow, or has lost it", "a longer --timeout",
		},
		{
			"reads refused",
			smith.Config{},
			nil, &smith.Fault{Match: "/runs", Status: 403, Body: `{"detail":"Forbidden"}`, Count: smith.Forever},
			exitNeedsPerson, "read_back", "http_403", `does not let this key read it back (403: {"detail":"Forbidden"})`, "Look for trace",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.cfg, tt.flags...)
			if tt.cfg.Limits.MonthlyTraces > 0 {
				r.smith.AddTraffic(smith.DefaultTenant, smith.Traffic{Traces: 1})
			}
			r.start()
			if strings.HasPrefix(tt.reason, "held") && tt.flags != nil || tt.reason == "dropped" {
				r.test(exitOK, "--no-zstd") // the one trace that the limit has
			}
			if tt.fault != nil {
				r.smith.SetStanding(tt.fault)
			}
			got := r.test(tt.code, "--timeout", "2s", "--no-zstd")
			if got.OK || got.StuckAt != tt.stuckAt || got.Reason != tt.reason || !strings.Contains(got.says(tt.stuckAt), tt.seen) || !strings.Contains(got.Remedy, tt.remedy) {
				t.Errorf("result %+v", got)
			}
			if got.NeedsPerson != (tt.code == exitNeedsPerson) || (got.CaseID != "0") != (tt.reason == "http_403" && tt.stuckAt == "delivered") {
				t.Errorf("needs a person %t, case %s", got.NeedsPerson, got.CaseID)
			}
			if strings.Contains(got.says(tt.stuckAt)+got.Remedy, testKey) {
				t.Error("the key shows")
			}
		})
	}
}

// TestSendTestWaitsForSlowReads: what is taken is shown later.
func TestSendTestWaitsForSlowReads(t *testing.T) {
	r := newRig(t, smith.Config{Switches: smith.Switches{ReadLag: smith.Delay(300 * time.Millisecond)}}).start()
	got := r.test(exitOK)
	if got.Zstd != sendtest.ZstdProven {
		t.Errorf("zstd is %s: %s", got.Zstd, got.says("zstd"))
	}
	for _, s := range got.Steps {
		took, err := time.ParseDuration(s.Took)
		if s.Name == "read_back" && (err != nil || took < 100*time.Millisecond) {
			t.Errorf("reading back took %s", s.Took)
		}
	}
}

// TestSendTestFindsNoVerdictWithoutAControl: what is only slow is not lost.
func TestSendTestFindsNoVerdictWithoutAControl(t *testing.T) {
	r := newRig(t, smith.Config{}).start()
	r.test(exitOK, "--no-zstd")
	r.smith.SetStanding(&smith.Fault{Match: "/otel", Status: 503, Count: smith.Forever})
	if got := r.test(exitFailed, "--zstd", "--timeout", "1s"); got.Zstd != sendtest.ZstdUnknown {
		t.Errorf("zstd is %s", got.Zstd)
	}
}

func TestSendTestGoesPastWeir(t *testing.T) {
	r := newRig(t, smith.Config{Keys: map[string]smith.Key{testKey: {}}})
	got := r.test(exitOK, "--direct", "--project", "p")
	if !got.OK || got.Way != "direct" || len(r.smith.Spans()) == 0 || r.smith.Spans()[0].Project != "p" || !strings.Contains(got.says("cost"), "weir does not count it") {
		t.Errorf("result %+v", got)
	}
	if got.Zstd != sendtest.ZstdProven || !strings.Contains(got.says("zstd"), "That is not kept: only a running weir keeps that") {
		t.Errorf("zstd is %s: %s", got.Zstd, got.says("zstd"))
	}
	r.smith.RemoveKey(testKey)
	if got := r.test(exitNeedsPerson, "--direct"); got.StuckAt != "delivered" || got.Reason != "http_403" {
		t.Errorf("with a revoked key: %+v", got)
	}
	r.smith.SetStanding(&smith.Fault{Match: "/otel", Status: 502, Count: smith.Forever})
	if got := r.test(exitFailed, "--direct"); got.Reason != "http_502" {
		t.Errorf("with a broken upstream: %+v", got)
	}
}

// took is what varies in a golden file.
var (
	tookPattern  = regexp.MustCompile(` +\d+[.\d]*(ms|s) {2}`)
	tracePattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{4}77656972`)
)

func TestSendTestShowsEachStep(t *testing.T) {
	r := newRig(t, smith.Config{Keys: map[string]smith.Key{testKey: {}}}, "project", "demo").start()
	for _, tt := range []struct {
		name  string
		color bool
		code  int
	}{
		{"well", false, exitOK},
		{"again-color", true, exitOK},
		{"refused", false, exitNeedsPerson},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.code != exitOK {
				r.smith.RemoveKey(testKey)
			}
			sys := newTestSystem(t, nil)
			sys.OutColor = tt.color
			if code := sys.execute(t, "send-test", "--admin-addr", string(r.weir.at.Admin)); code != tt.code || sys.err.Len() > 0 {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, sys.err)
			}
			out := tookPattern.ReplaceAllString(sys.out.String(), "     TOOK  ")
			golden(t, "testdata/sendtest/"+tt.name+".golden", tracePattern.ReplaceAllString(out, "TRACE"))
		})
	}
}

func TestSendTestNeedsAWeirOrSaysHowElse(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fake := &fakeAdmin{tested: []*weirv1.SendTestResponse{{Step: &weirv1.SendTestStep{Name: "cost", Ok: true}}}}
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	off := newRig(t, smith.Config{}, "http_addr", "off").start()
	stopping := newRig(t, smith.Config{}).start()
	stopping.weir.acceptor.Stop("draining")
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--admin-addr", gone}, exitUnreachable, "or test the way to LangSmith without it: weir send-test --direct"},
		{[]string{"--admin-addr", other.Listener.Addr().String()}, exitUnreachable, "is not weir's admin API"},
		{[]string{"--admin-addr", fake.serve(t)}, exitFailed, "weir ended the call before the test was done"},
		{[]string{"--admin-addr", string(off.weir.at.Admin), "--via", "http"}, exitFailed, "does not listen that way (http)"},
		{[]string{"--admin-addr", string(stopping.weir.at.Admin)}, exitFailed, "weir is draining and takes no trace"},
		{[]string{"--direct"}, exitUsage, "there is no key; set LANGSMITH_API_KEY"},
		{[]string{"--direct", "--via", "grpc"}, exitUsage, "give one of them"},
		{[]string{"--timeout", "1ms"}, exitUsage, "--timeout 1ms is not from 1s to 10m0s"},
		{[]string{"--via", "pigeon"}, exitUsage, "--via"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			sys := newTestSystem(t, nil)
			if code := sys.execute(t, append([]string{"send-test"}, tt.args...)...); code != tt.code || !strings.Contains(sys.err.String(), tt.says) {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, sys.err)
			}
		})
	}
}
