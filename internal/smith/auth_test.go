package smith

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestAuthAnswersAsLangSmithDoes(t *testing.T) {
	const (
		unauthorized = "{\"error\":\"Unauthorized\"}\n"
		forbidden    = "{\"error\":\"Forbidden\"}\n"
		sessions     = "/sessions?limit=1"
	)
	tests := []struct {
		name   string
		path   string // default: the ingest path
		header []string
		status int
		body   string // "" for 200s
	}{
		{name: "personal key", header: []string{"X-Api-Key", keyA}, status: 200},
		{name: "no key", status: 401, body: unauthorized},
		{name: "empty key", header: []string{"X-Api-Key", ""}, status: 401, body: unauthorized},
		{name: "unknown key", header: []string{"X-Api-Key", "lsv2_pt_nobody"}, status: 403, body: forbidden},
		{
			name: "key of the old format", header: []string{"X-Api-Key", "ls__abcdef"}, status: 401,
			body: "{\"error\":\"Unauthorized: Using outdated v1 api key. Please use v2 api key.\"}\n",
		},
		{
			name: "workspace that is no UUID", header: []string{"X-Api-Key", keyA, "X-Tenant-Id", "1"}, status: 401,
			body: `{"detail":"UUID header value was not a valid UUID"}`,
		},
		{name: "own workspace", header: []string{"X-Api-Key", keyA, "X-Tenant-Id", tenantA}, status: 200},
		{name: "own workspace in capitals", header: []string{"X-Api-Key", keyB, "X-Tenant-Id", strings.ToUpper(tenantA)}, status: 200},
		{name: "workspace of others", header: []string{"X-Api-Key", keyA, "X-Tenant-Id", tenantB}, status: 403, body: forbidden},
		{name: "further workspace", header: []string{"X-Api-Key", keyB, "X-Tenant-Id", tenantA}, status: 200},
		{
			name: "org key without workspace", header: []string{"X-Api-Key", orgKey}, status: 403,
			body: `{"error":"org_scoped_key_requires_workspace","message":"This API key is org-scoped and ` +
				`requires workspace specification. Please provide 'X-Tenant-ID' header."}` + "\n",
		},
		{
			name: "org key without workspace, reading", path: sessions, header: []string{"X-Api-Key", orgKey}, status: 403,
			body: `{"detail":"This API key is org-scoped and requires workspace specification. Please provide 'X-Tenant-ID' header."}`,
		},
		{name: "org key with workspace", header: []string{"X-Api-Key", orgKey, "X-Tenant-Id", tenantB}, status: 200},
		{name: "read-only key writing", header: []string{"X-Api-Key", readKey}, status: 403, body: forbidden},
		{name: "read-only key reading", path: sessions, header: []string{"X-Api-Key", readKey}, status: 200},
		{name: "OAuth token", header: []string{"Authorization", "Bearer " + oauthToken}, status: 200},
		{name: "OAuth token in small letters", header: []string{"Authorization", "bearer " + oauthToken}, status: 200},
		{name: "OAuth token as a key", header: []string{"X-Api-Key", oauthToken}, status: 403, body: forbidden},
		{name: "unknown OAuth token", header: []string{"Authorization", "Bearer nobody"}, status: 403, body: forbidden},
		{name: "key as OAuth token", header: []string{"Authorization", "Bearer " + keyA}, status: 401, body: unauthorized},
		{name: "unknown key as OAuth token", header: []string{"Authorization", "Bearer lsv2_pt_x"}, status: 401, body: unauthorized},
		{name: "another scheme", header: []string{"Authorization", "Basic eDp5"}, status: 401, body: unauthorized},
		{name: "no key, reading", path: sessions, status: 401, body: unauthorized},
		{name: "no key, info", path: "/info", status: 200},
	}
	_, c := start(t, Config{Keys: knownKeys()})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			method, path := http.MethodGet, tt.path
			if path == "" {
				method, path = http.MethodPost, tracesPath
			}
			h := header(append(tt.header, "Content-Type", contentProtobuf)...)
			a := c.do(method, path, h, nil)
			if a.status != tt.status || tt.body != "" && a.body != tt.body {
				t.Errorf("answer = %d %q, want %d %q", a.status, a.body, tt.status, tt.body)
			}
		})
	}
}

func TestAnyKeyIsTakenWhereNoneIsListed(t *testing.T) {
	s, c := start(t, Config{})
	c.export(nil, "X-Api-Key", "whatever").want(t, 200, "")
	c.export(nil, "X-Api-Key", "whatever", "X-Tenant-Id", tenantB).want(t, 200, "")
	c.export(nil, "X-Api-Key", "ls__old").want(t, 401, bodyLegacyKey)
	by := s.Stats().ByWorkspace
	if by[DefaultTenant].Requests != 1 || by[tenantB].Requests != 1 {
		t.Errorf("ByWorkspace = %v, want one request in %s and one in %s", by, DefaultTenant, tenantB)
	}
}

func TestAllowAnyKeyAddsToTheListedKeys(t *testing.T) {
	_, c := start(t, Config{Keys: knownKeys(), AllowAnyKey: true})
	c.export(nil, "X-Api-Key", "whatever").want(t, 200, "")
	c.export(nil, "X-Api-Key", readKey).want(t, 403, bodyForbidden)
}

func TestKeysCanBeRevokedAndRepaired(t *testing.T) {
	s, c := start(t, Config{})
	s.RemoveKey(keyA)
	c.export(nil).want(t, 403, bodyForbidden)
	c.export(nil, "X-Api-Key", keyB).want(t, 200, "")
	s.SetKey(keyA, Key{Tenant: tenantA})
	c.export(nil).want(t, 200, "")
}

func TestRefusedRequestsLeaveNothingBehind(t *testing.T) {
	s, c := start(t, Config{Keys: knownKeys()})
	c.export(payload(t, newSpan(1, 1)), "X-Api-Key", readKey).want(t, 403, bodyForbidden)
	if got := s.Stats(); got.Taken != (Tally{}) || got.Answers[403] != 1 || len(s.Spans()) != 0 {
		t.Errorf("after a refusal: taken %+v, answers %v, %d spans", got.Taken, got.Answers, len(s.Spans()))
	}
}

func TestKeysAreShownAsHints(t *testing.T) {
	for key, want := range map[string]string{"": "", "short": "…", "elevenchars": "…", keyA: "lsv2_…A1"} {
		for _, verb := range []string{"%s", "%v", "%#v"} {
			if got := fmt.Sprintf(verb, APIKey(key)); got != want {
				t.Errorf("Sprintf(%q, APIKey(%q)) = %q, want %q", verb, key, got, want)
			}
		}
	}
}

func TestKeyValidateWantsUUIDs(t *testing.T) {
	if err := (Key{Tenant: tenantA, Workspaces: []string{tenantB}}).Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
	for _, k := range []Key{{Tenant: "mine"}, {Workspaces: []string{"1"}}, {Tenant: strings.Repeat("z", 36)}} {
		if k.Validate() == nil {
			t.Errorf("Validate(%+v) = nil, want an error", k)
		}
	}
}
