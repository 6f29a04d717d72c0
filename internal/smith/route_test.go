package smith

import (
	"encoding/json"
	"net/http"
	"testing"
)

func TestPathsAreTakenWithEveryPrefixAndSpareSlashes(t *testing.T) {
	const notFoundGo, notFoundPython = "{\"error\":\"Not Found\"}\n", `{"detail":"Not Found"}`
	tests := []struct {
		path   string
		status int
		body   string
	}{
		{path: "/otel/v1/traces", status: 200},
		{path: "/api/otel/v1/traces", status: 200},
		{path: "/api/v1/otel/v1/traces", status: 200},
		{path: "//otel/v1/traces", status: 200},
		{path: "/otel//v1/traces/", status: 200},
		{path: "/api/v1//otel/v1/traces//", status: 200},
		{path: "/api/v1/api/v1/otel/v1/traces", status: 404, body: notFoundPython},
		{path: "/otel", status: 404, body: notFoundGo},
		{path: "/otel/", status: 404, body: notFoundGo},
		{path: "/otel/v1/metrics", status: 404, body: notFoundGo},
		{path: "/runs/batch/more", status: 404, body: notFoundGo},
		{path: "/v1/traces", status: 404, body: notFoundPython},
		{path: "/api", status: 404, body: notFoundPython},
		{path: "/apiotel/v1/traces", status: 404, body: notFoundPython},
		{path: "/", status: 404, body: notFoundPython},
		{path: "/OTEL/v1/traces", status: 404, body: notFoundPython},
		{path: "/__smith/stats", status: 404, body: notFoundPython},
	}
	_, c := start(t, Config{})
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			h := header("X-Api-Key", keyA, "Content-Type", contentProtobuf)
			c.do(http.MethodPost, tt.path, h, nil).want(t, tt.status, tt.body)
		})
	}
}

func TestBarePathIsASwitch(t *testing.T) {
	s, c := start(t, Config{Switches: Switches{OTLPBarePath: true}})
	h := header("X-Api-Key", keyA, "Content-Type", contentProtobuf)
	for i, path := range []string{"/otel", "/api/v1/otel/"} {
		c.do(http.MethodPost, path, h, payload(t, newSpan(1, uint64(i+1)))).want(t, 200, "")
	}
	if n := len(s.Spans()); n != 2 {
		t.Errorf("%d spans arrived, want 2", n)
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	_, c := start(t, Config{})
	a := c.do(http.MethodGet, tracesPath, header("X-Api-Key", keyA), nil)
	a.want(t, 405, "{\"error\":\"Method Not Allowed\"}\n")
	if got := a.header.Get("Allow"); got != "POST" {
		t.Errorf("Allow = %q, want POST", got)
	}
	a = c.do(http.MethodPut, "/runs/"+tenantA, header("X-Api-Key", keyA), nil)
	if got := a.header.Get("Allow"); a.status != 405 || got != "PATCH, GET" {
		t.Errorf("PUT of a run = %d, Allow = %q", a.status, got)
	}
	if a = c.do(http.MethodGet, "/runs/batch", header("X-Api-Key", keyA), nil); a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("GET of a batch = %d %q", a.status, a.body)
	}
	c.do(http.MethodPost, "/settings", header("X-Api-Key", keyA), nil).want(t, 405, `{"detail":"Method Not Allowed"}`)
	c.do(http.MethodHead, "/info", nil, nil).want(t, 200, "")
}

// get reads a JSON answer.
func get[T any](c *client, path string, pairs ...string) T {
	c.t.Helper()
	return decoded[T](c.t, c.do(http.MethodGet, path, header(pairs...), nil))
}

// decoded reads a JSON answer that must be a 200.
func decoded[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || a.status != 200 {
		t.Fatalf("answer = %d %q: %v", a.status, a.body, err)
	}
	return v
}

func TestInfoSaysWhatSDKsReadFromIt(t *testing.T) {
	_, c := start(t, Config{})
	type info struct {
		Version string `json:"version"`
		Batch   struct {
			Multipart bool `json:"use_multipart_endpoint"`
			Runs      int  `json:"size_limit"`
			Bytes     int  `json:"size_limit_bytes"`
		} `json:"batch_ingest_config"`
		Flags map[string]bool `json:"instance_flags"`
	}
	for _, path := range []string{"/info", "/api/info", "/api/v1/info/"} {
		got := get[info](c, path)
		if got.Version == "" || !got.Batch.Multipart || got.Batch.Runs != 100 || got.Batch.Bytes != 20971520 ||
			!got.Flags["zstd_compression_enabled"] || !got.Flags["gzip_body_enabled"] {
			t.Errorf("GET %s = %+v", path, got)
		}
	}
}

func TestSessionsNameTheTenant(t *testing.T) {
	type session struct {
		ID       string `json:"id"`
		TenantID string `json:"tenant_id"`
		Name     string `json:"name"`
	}
	_, c := start(t, Config{Keys: knownKeys()})
	got := get[[]session](c, "/api/v1/sessions?limit=1", "X-Api-Key", keyA)
	if len(got) != 1 || got[0].TenantID != tenantA || got[0].Name != "default" || !isUUID(got[0].ID) {
		t.Errorf("sessions = %+v, want the default project of %s", got, tenantA)
	}

	c.export(payload(t, newSpan(1, 1)), "Langsmith-Project", "chat").want(t, 200, "")
	got = get[[]session](c, "/sessions", "X-Api-Key", keyA)
	if len(got) != 2 || got[0].Name != "chat" || got[0].ID == got[1].ID {
		t.Errorf("sessions = %+v, want chat and default", got)
	}
	if got = get[[]session](c, "/sessions?limit=1&offset=1", "X-Api-Key", keyA); len(got) != 1 || got[0].Name != "default" {
		t.Errorf("sessions at offset 1 = %+v, want default", got)
	}
	if got = get[[]session](c, "/sessions", "X-Api-Key", keyB); len(got) != 1 || got[0].TenantID != tenantB {
		t.Errorf("sessions of another tenant = %+v, want its default", got)
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "offset=-1", "offset=x"} {
		if a := c.do(http.MethodGet, "/sessions?"+query, header("X-Api-Key", keyA), nil); a.status != 422 {
			t.Errorf("sessions?%s = %d, want 422", query, a.status)
		}
	}
}

func TestUsageLimitsSayThatNothingIsRefused(t *testing.T) {
	_, c := start(t, Config{})
	c.do(http.MethodGet, "/workspaces/current/usage_limits", header("X-Api-Key", keyA), nil).
		want(t, 200, `{"in_reject_set":false,"tenant_limit":null,"usage_limit_type":null}`)
}
