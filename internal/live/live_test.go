package live

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"weir/internal/smith"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "lsv2_pt_live_0000000000000000"

// known makes testKey the only key, or one of those given.
func known(cfg smith.Config) smith.Config {
	if cfg.Keys == nil {
		cfg.Keys = map[string]smith.Key{testKey: {}}
	}
	return cfg
}

// lookAlike starts a look-alike on loopback.
func lookAlike(t *testing.T, cfg smith.Config) (*smith.Server, Config) {
	t.Helper()
	s := smith.New(known(cfg))
	front := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		front.Close()
	})
	return s, Config{BaseURL: front.URL, APIKey: testKey, Patience: 100 * time.Millisecond, FirstPause: 5 * time.Millisecond}
}

// answers are a report's, by question.
func answers(r *Report) map[string]string {
	all := map[string]string{}
	for _, a := range r.Answers {
		all[a.ID] = a.Answer
	}
	return all
}

// kindest are the answers of a look-alike whose switches are all at their zero
// value.
func kindest() map[string]string {
	all := map[string]string{
		"info_key": "open", "clock_skew": "0s", "usage_limits": "readable", "granular_usage": "http_403",
		"org_info": "http_404", "org_billing": "http_404", "unknown_workspace": "http_403", "unknown_key": "http_403",
		"no_key": "http_401", "otlp_unknown_key": "http_403", "empty_batch": "works",
		"runs_answer": "http_202", "runs_duplicate": "partial", "dotted_order": "http_400",
		"runs_window": "taken", "runs_window_mixed": "both_kept", "runs_zstd_frames": "taken",
		"otlp_answer": "http_200", "otlp_zstd": "taken", "otlp_zstd_frames": "all", "otlp_json": "taken",
		"otlp_bare_path": "http_404", "otlp_project": "header", "otlp_window": "taken", "otlp_window_mixed": "both_kept",
	}
	for _, k := range skipped {
		all[k.id] = answerSkipped
	}
	return all
}

// TestAnswersMatchTheSwitches is how we know that the questions work: the whole
// program runs against look-alikes that decide differently, and finds out how.
func TestAnswersMatchTheSwitches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  smith.Config
		skew time.Duration
		want map[string]string // in place of the kindest
	}{
		{name: "the kindest"},
		{
			"the harshest",
			smith.Config{
				Keys: map[string]smith.Key{testKey: {OrgRead: true}},
				Switches: smith.Switches{
					OTLPZstd: smith.Unsupported, OTLPJSON: smith.Unsupported, OTLPWindow: smith.Window422, OTLPProject: smith.AttributeFirst,
					RunsWindow: smith.Window400, RunsDuplicate: smith.DuplicateWhole, EmptyBatch: smith.Empty422, InfoNeedsKey: true,
				},
			},
			-time.Hour,
			map[string]string{
				"info_key": "needs_key", "granular_usage": "readable", "clock_skew": "-1h0m0s", "empty_batch": "http_422",
				"otlp_zstd": "http_415", "otlp_zstd_frames": "http_415", "otlp_json": "http_415", "otlp_project": "attribute",
				"otlp_window": "http_422", "otlp_window_mixed": "all_refused",
				"runs_duplicate": "whole", "runs_window": "http_400", "runs_window_mixed": "all_refused",
			},
		},
		{
			"the most silent",
			smith.Config{Switches: smith.Switches{
				OTLPZstd: smith.Lost, OTLPJSON: smith.Lost, OTLPBarePath: true, RunsWindow: smith.WindowLost, OTLPWindow: smith.WindowLost,
				ReadLag: smith.Delay(20 * time.Millisecond),
			}},
			0,
			map[string]string{
				"otlp_zstd": "lost", "otlp_zstd_frames": "lost", "otlp_json": "lost", "otlp_bare_path": "taken",
				"runs_window": "lost", "runs_window_mixed": "both_lost", "otlp_window": "lost", "otlp_window_mixed": "both_lost",
			},
		},
		{
			"first frames only",
			smith.Config{Switches: smith.Switches{ZstdFrames: smith.FramesFirst}},
			0,
			map[string]string{"otlp_zstd_frames": "first", "runs_zstd_frames": "http_422"},
		},
		{
			// What was never read back at all says nothing about loss.
			"nothing shows",
			smith.Config{Switches: smith.Switches{ReadLag: smith.Delay(time.Hour), OTLPBarePath: true}},
			0,
			map[string]string{
				"runs_duplicate": "unknown", "runs_window": "unknown", "runs_window_mixed": "unknown", "runs_zstd_frames": "unknown",
				"otlp_zstd": "unknown", "otlp_zstd_frames": "unknown", "otlp_json": "unknown", "otlp_bare_path": "unknown",
				"otlp_project": "unknown", "otlp_window": "unknown", "otlp_window_mixed": "unknown",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, cfg := lookAlike(t, tt.cfg)
			if tt.skew != 0 {
				if err := s.SetClockOffset(tt.skew); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			want := kindest()
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, answers(r)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if used := s.Stats().Traces; int64(r.Traces) < used || r.Traces > MaxTraces {
				t.Errorf("%d traces are said to be used, %d were, %d are allowed", r.Traces, used, MaxTraces)
			}
			var out bytes.Buffer
			if err := errors.Join(r.WriteJSON(&out), r.WriteTable(&out)); err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{testKey, smith.DefaultTenant} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("the report has %s", secret)
				}
			}
		})
	}
}

// TestAllQuestionsFitTheBudget adds up what they may cost.
func TestAllQuestionsFitTheBudget(t *testing.T) {
	sum, seen := 0, map[string]bool{}
	for _, q := range questions() {
		sum += q.budget
		if seen[q.id] || q.text == "" {
			t.Errorf("question %q is there twice, or without a text", q.id)
		}
		seen[q.id] = true
	}
	if sum > MaxTraces {
		t.Errorf("all questions may cost %d traces, more than %d", sum, MaxTraces)
	}
}

// TestBudgetsHold whatever a question does: of itself, and of all together.
func TestBudgetsHold(t *testing.T) {
	s, cfg := lookAlike(t, smith.Config{})
	session, err := newSession(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer session.transport.CloseIdleConnections()
	greedy := &asker{session: session, left: 2}
	for range 5 {
		greedy.do(t.Context(), sendRuns(cfg.Project, newRun("greedy", time.Now())))
	}
	if n := s.Stats().Traces; n != 2 || greedy.over == nil {
		t.Errorf("a question for 2 traces sent %d; %v", n, greedy.over)
	}
	rich := &asker{session: session, left: 100}
	for range 50 {
		rich.do(t.Context(), sendOTLP(cfg.Project, "", export(newTrace(time.Now()).rootSpan("rich")), 1))
	}
	if n := s.Stats().Traces; n != MaxTraces || session.spent != MaxTraces {
		t.Errorf("%d traces were sent, and %d counted; %d are allowed", n, session.spent, MaxTraces)
	}
}

func TestNothingIsSentWithoutAKeyThatIsTaken(t *testing.T) {
	s, cfg := lookAlike(t, smith.Config{})
	for _, tt := range []struct{ name, base, key, says string }{
		{"no key", cfg.BaseURL, " ", "LANGSMITH_API_KEY is not set"},
		{"no URL", "langsmith", testKey, `the endpoint "langsmith" is no URL`},
		{"wrong key", cfg.BaseURL, "lsv2_pt_wrong_0000000000000000", `refuses the key (403 {"error":"Forbidden"}); nothing was sent`},
		{"nobody there", "http://127.0.0.1:1", testKey, "ask http://127.0.0.1:1"},
	} {
		r, err := Run(t.Context(), Config{BaseURL: tt.base, APIKey: tt.key})
		if err == nil || !strings.Contains(err.Error(), tt.says) || r != nil && len(r.Answers) > 0 || strings.Contains(err.Error(), testKey) {
			t.Errorf("%s: %+v, %v", tt.name, r, err)
		}
	}
	if n := s.Stats().Taken.Requests; n != 0 {
		t.Errorf("%d requests were taken", n)
	}
}

func TestWhatWasFoundOutIsKeptWhenItIsCutShort(t *testing.T) {
	_, cfg := lookAlike(t, smith.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.Said = func(a Answer) {
		if a.ID == "usage_limits" {
			cancel()
		}
	}
	r, err := Run(ctx, cfg)
	if !errors.Is(err, context.Canceled) || len(r.Answers) != 3 || r.Traces != 0 {
		t.Errorf("%d answers, %v", len(r.Answers), err)
	}
}
