package doctor

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/proxy/diagnose"
)

func TestAllIsWell(t *testing.T) {
	s := smith.New(smith.Config{Keys: map[string]smith.Key{goodKey: {}}})
	defer s.Close() //nolint:errcheck // it always succeeds
	var seen witness
	cfg := newConfig(t, serve(t, seen.wrap(s)))
	f := examine(t, cfg)
	if bad := f.bad(); len(bad) > 0 {
		t.Errorf("checks that need a person: %v in %+v", bad, f.all)
	}
	f.wants("info", true, "", "LangSmith 0.")
	f.wants("key", true, "", "takes it")
	f.wants("usage_limits", true, "", "takes new traces")
	f.wants("clock", true, "")
	for _, r := range seen.all() {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s was sent; the doctor only reads", r.Method, r.URL)
		}
		if r.URL.Path == pathInfo && r.Header.Get("X-Api-Key") != "" {
			t.Error("/info was asked with a key, which it does not need")
		}
	}
	if left, err := os.ReadDir(cfg.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
}

func TestKeysAreToldApart(t *testing.T) {
	keys := map[string]smith.Key{
		goodKey: {Tenant: smith.DefaultTenant},
		orgKey:  {OrgScoped: true, Workspaces: []string{otherOne}},
	}
	legacy := "ls__0123456789abcdef0123456789abcdef"
	tests := []struct {
		name, key, workspace string
		check                string
		cause                diagnose.Code
		says                 string
	}{
		{"unknown", strings.Replace(goodKey, "fedcba98", "00000000", 1), "", "key", diagnose.KeyRevoked, "--regions"},
		{"unknown, with a workspace", strings.Replace(goodKey, "fedcba98", "00000000", 1), otherOne, "key", diagnose.KeyRevoked, "does not know the key"},
		{"organisation's, no workspace", orgKey, "", "workspace", diagnose.WorkspaceRequired, "LANGSMITH_WORKSPACE_ID"},
		{"organisation's, foreign workspace", orgKey, "99999999-2222-4333-8444-555555555555", "workspace", diagnose.WorkspaceMismatch, "without one, such a key is refused"},
		{"personal, foreign workspace", goodKey, otherOne, "workspace", diagnose.WorkspaceMismatch, "Remove LANGSMITH_WORKSPACE_ID"},
		{"workspace is a number", goodKey, "1", "workspace_form", diagnose.WorkspaceNotUUID, "not a UUID"},
		{"legacy", legacy, "", "key_form", diagnose.KeyLegacy, "ls__"},
		{"placeholder", "<your-api-key>", "", "key_form", diagnose.KeyPlaceholder, "placeholder"},
		{"Bearer", "Bearer " + goodKey, "", "key_form", diagnose.KeyInWrongHeader, "Bearer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, url := newSmith(t, smith.Config{Keys: keys})
			cfg := newConfig(t, url)
			cfg.Key.Text, cfg.Workspace = tt.key, Value{Text: tt.workspace, From: "environment variable LANGSMITH_WORKSPACE_ID"}
			f := examine(t, cfg)
			f.wants(tt.check, false, tt.cause, tt.says)
			if bad := f.bad(); !slices.Equal(bad, []string{tt.check}) {
				t.Errorf("checks that need a person: %v, want %s alone", bad, tt.check)
			}
		})
	}
}

func TestGoodPairsOfKeyAndWorkspacePass(t *testing.T) {
	for _, key := range []string{orgKey, goodKey} {
		_, url := newSmith(t, smith.Config{Keys: map[string]smith.Key{key: {OrgScoped: key == orgKey, Workspaces: []string{otherOne}}}})
		cfg := newConfig(t, url)
		cfg.Key.Text, cfg.Workspace = key, Value{Text: otherOne, From: "environment variable LANGSMITH_WORKSPACE_ID"}
		f := examine(t, cfg)
		f.wants("workspace", true, "", otherOne)
		if bad := f.bad(); len(bad) > 0 {
			t.Errorf("checks that need a person: %v", bad)
		}
	}
}

func TestRefusalsOfOldFormsAreRead(t *testing.T) {
	for body, cause := range map[string]diagnose.Code{
		`{"error":"Unauthorized: Using outdated v1 api key. Please use v2 api key."}`: diagnose.KeyLegacy,
		`{"detail":"Using legacy API key. Please generate a new API key."}`:           diagnose.KeyLegacy,
		`{"error":"Unauthorized"}`:                            diagnose.KeyMalformed,
		`{"detail":"UUID header value was not a valid UUID"}`: diagnose.WorkspaceNotUUID,
		`{"detail":"Invalid token"}`:                          diagnose.KeyMalformed,
	} {
		f := examine(t, newConfig(t, serve(t, infoThen(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(body))
		}))))
		f.wants("key", false, cause)
	}
	f := examine(t, newConfig(t, serve(t, infoThen(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"error":"Forbidden - no plan found"}`))
	}))))
	f.wants("key", false, diagnose.PlanMissing, "Billing")
}

// infoThen answers /info as LangSmith does, and all else by rest.
func infoThen(rest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathInfo {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"version":"0.16.14"}`))
			return
		}
		rest(w, r)
	}
}

func TestWhatIsNotTheAPIGetsNoKey(t *testing.T) {
	page := func(status int, title string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<!doctype html><html><head><title>" + title + "</title></head></html>"))
		}
	}
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		cause   diagnose.Code
		says    string
	}{
		{"web page", page(200, "LangSmith"), diagnose.UIHost, "https://api.smith.langchain.com"},
		{"captive portal", page(200, "Welcome to Hotel Wi-Fi"), diagnose.IntermediaryBlock, "Welcome to Hotel Wi-Fi"},
		{"block page", page(403, "Access denied"), diagnose.IntermediaryBlock, "Access denied"},
		{"login wanted", page(511, "Login"), diagnose.IntermediaryBlock, "Log in"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example.com/sso?token=SECRET", http.StatusFound)
		}, diagnose.Redirect, "https://login.example.com/sso"},
		{"wrong path", answer(404, `{"detail":"Not Found"}`), diagnose.EndpointPath, "Not Found"},
		{"wrong path at a web server", page(404, "404"), diagnose.EndpointPath, "/api/v1"},
		{"incident", answer(502, "bad gateway"), diagnose.UpstreamIncident, "502"},
		{"incident with a page", page(503, "503"), diagnose.UpstreamIncident, "503"},
		{"gateway's own login", answer(401, `{"message":"no"}`), diagnose.IntermediaryBlock, "gateway"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen witness
			f := examine(t, newConfig(t, serve(t, seen.wrap(tt.handler))))
			f.wants("info", false, tt.cause, tt.says)
			f.skipped("info", "key", "workspace", "usage_limits", "clock")
			for _, r := range seen.all() {
				if r.Header.Get("X-Api-Key") != "" {
					t.Errorf("%s got the key", r.URL)
				}
			}
			for _, c := range f.all {
				if strings.Contains(c.Seen+c.Remedy, "SECRET") {
					t.Errorf("%s shows the query: %+v", c.Name, c)
				}
			}
		})
	}
}

func TestClocksThatDifferAreNoticed(t *testing.T) {
	tests := []struct {
		ahead time.Duration // of this machine
		ok    bool
		cause diagnose.Code
		says  string
	}{
		{0, true, "", "agrees"},
		{20 * time.Second, true, diagnose.ClockSkew, "20s ahead of"},
		{-time.Hour, false, diagnose.ClockSkew, "behind LangSmith's"},
	}
	for _, tt := range tests {
		_, url := newSmith(t, smith.Config{})
		cfg := newConfig(t, url)
		cfg.Now = func() time.Time { return time.Now().Add(tt.ahead) }
		examine(t, cfg).wants("clock", tt.ok, tt.cause, tt.says)
	}
}

func TestUsedUpPlansAreToldByTheirKind(t *testing.T) {
	s, url := newSmith(t, smith.Config{Limits: smith.Limits{MonthlyTraces: 5}})
	s.AddTraffic(smith.DefaultTenant, smith.Traffic{Traces: 5})
	f := examine(t, newConfig(t, url))
	f.wants("usage_limits", false, diagnose.QuotaMonth, "total_unique_traces", "limit 5", "Billing")
	f.wants("key", true, "") // reads go on

	for kind, cause := range map[string]diagnose.Code{
		"user_defined_monthly_traces": diagnose.QuotaUserLimit, "events_ingested_per_hour": diagnose.RateHourEvents,
		"payload_size": diagnose.RateHourBytes, "events_ingested_per_minute": diagnose.RateGateway, "of_tomorrow": diagnose.Unknown,
	} {
		f := examine(t, newConfig(t, serve(t, infoThen(func(w http.ResponseWriter, r *http.Request) {
			body := "[]"
			if r.URL.Path == pathLimits {
				body = `{"in_reject_set":true,"usage_limit_type":"` + kind + `","tenant_limit":null}`
			}
			_, _ = w.Write([]byte(body))
		}))))
		f.wants("usage_limits", false, cause, kind)
	}
}

func TestRegionsAreAskedOnlyOnRequest(t *testing.T) {
	_, us := newSmith(t, smith.Config{Keys: map[string]smith.Key{orgKey: {}}})
	eu := smith.New(smith.Config{Keys: map[string]smith.Key{goodKey: {}}})
	defer eu.Close() //nolint:errcheck // it always succeeds
	var seen witness
	euURL := serve(t, seen.wrap(eu))

	cfg := newConfig(t, us)
	cfg.RegionURLs = []string{us, euURL}
	f := examine(t, cfg)
	if c := f.get("regions"); !c.Skipped || !strings.Contains(c.Seen, "--regions") {
		t.Errorf("regions = %+v, want it skipped", c)
	}
	if n := len(seen.all()); n > 0 {
		t.Errorf("%d requests went to another region without being asked for", n)
	}

	cfg.Regions = true
	f = examine(t, cfg)
	f.wants("regions", false, diagnose.RegionMismatch, "the key was sent to each", "LANGSMITH_ENDPOINT="+euURL)

	cfg.Key.Text = orgKey
	examine(t, cfg).wants("regions", true, "", "takes it")

	cfg.Key.Text = strings.Replace(goodKey, "fedcba98", "00000000", 1)
	examine(t, cfg).wants("regions", true, diagnose.KeyRevoked, "No region takes the key")
}

func TestAnInterruptEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	var last string
	err := Run(ctx, newConfig(t, url), func(c Check) { last = c.Name })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want it interrupted", err)
	}
	if last != "tls" {
		t.Errorf("the last check reported is %s, want tls, the one before the interrupt", last)
	}
}

func TestEachStepAndTheWholeAreBounded(t *testing.T) {
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	cfg := newConfig(t, url)
	cfg.Step = 500 * time.Millisecond
	examine(t, cfg).wants("info", false, diagnose.Network, "no answer")

	cfg = newConfig(t, serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	cfg.DataDir = filepath.Join(cfg.DataDir, "none") // whose disk may be slow
	cfg.Total, cfg.Regions, cfg.RegionURLs = time.Second, true, []string{}
	f := examine(t, cfg)
	f.wants("info", false, diagnose.Network)
	f.skipped("the time is up", "regions")
}

// Whatever answers say, no key and no password is repeated.
func TestNothingShowsASecret(t *testing.T) {
	cfg := newConfig(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathInfo {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = w.Write([]byte(`{"version":"1","error":"key ` + r.Header.Get("X-Api-Key") + ` of lsv2_sk_ffffffffffffffffffffffff via https://me:PASSWORD@x"}`))
	}))
	cfg.Environ = append(cfg.Environ, "LANGCHAIN_API_KEY=lsv2_pt_ffffffffffffffffffffffff_OTHER", "LANGSMITH_APIKEY=sk-proj-ABCDEFGHIJKLMNOP")
	cfg.Problems = []string{"weir.yaml:3: bad " + goodKey, "http://user:PASSWORD@proxy"}
	for _, c := range examine(t, cfg).all {
		for _, secret := range []string{goodKey[8:30], "ffffffffffff", "PASSWORD", "GHIJKLMNOP", "OTHER"} {
			if strings.Contains(c.Seen+c.Remedy, secret) {
				t.Errorf("%s shows %s: %+v", c.Name, secret, c)
			}
		}
	}
}
