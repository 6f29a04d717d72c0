package diagnose_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/proxy/diagnose"
)

var update = flag.Bool("update", false, "rewrite golden files and docs/diagnosis.md")

const (
	cloud      = "https://api.smith.langchain.com/runs/multipart"
	selfHosted = "https://smith.example.com/api/v1/runs/multipart"
	goodKey    = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"
	serviceKey = "lsv2_sk_0123456789abcdef0123456789abcdef_0123456789"
	workspace  = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	forbidden  = `{"error":"Forbidden"}` + "\n"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// refusal is a case of the catalogue: what comes back, and what is known.
type refusal struct {
	name  string
	want  diagnose.Code
	facts diagnose.Facts
}

func ago(d time.Duration) time.Time { return now.Add(-d) }

func denied(status int, body, key string) diagnose.Facts {
	return diagnose.Facts{
		Time: now, URL: cloud, Status: status, Reason: fmt.Sprint("http_", status), Body: body,
		Key: diagnose.ShapeOf(key), OwnKey: true,
		History: diagnose.History{Since: ago(time.Minute)},
	}
}

func (r refusal) with(change func(*diagnose.Facts)) refusal {
	r.facts.Header = r.facts.Header.Clone() // the catalogue's own, which tests share
	change(&r.facts)
	return r
}

func status(code int) *diagnose.Reply { return &diagnose.Reply{Time: now, Status: code} }

func page(status int, titleText string) diagnose.Facts {
	f := denied(status, "<html><head><title>"+titleText+"</title></head><body></body></html>", goodKey)
	f.Header = http.Header{"Content-Type": {"text/html"}}
	return f
}

// content is a refusal of what was sent.
func content(status int, body string) diagnose.Facts {
	f := denied(status, body, goodKey)
	f.History = diagnose.History{Accepted: ago(time.Minute)}
	f.ServerDate = now
	return f
}

// way is a request without an answer.
func way(reason, text string) diagnose.Facts {
	return diagnose.Facts{Time: now, URL: cloud, Reason: reason, Error: text, Key: diagnose.ShapeOf(goodKey), OwnKey: true}
}

func limit(reason, body string) diagnose.Facts {
	f := content(http.StatusTooManyRequests, body)
	f.Reason = reason
	return f
}

// catalogue has the literal bodies that people have published, by the rows of
// the catalogue of causes.
var catalogue = slices.Concat(keyCatalogue, accessCatalogue, pathCatalogue, contentCatalogue, limitCatalogue, wayCatalogue)

var keyCatalogue = []refusal{
	{"a key copied from an example", diagnose.KeyPlaceholder, denied(403, forbidden, "<your-api-key-here>")},
	{"the old service about code as a key", diagnose.KeyPlaceholder, denied(403, `{"detail":"Forbidden"}`, "userdata.get('LANGSMITH_API_KEY')")},
	{"a key without its first letter", diagnose.KeyMalformed, denied(403, forbidden, goodKey[1:])},
	{"a key in quotes", diagnose.KeyMalformed, denied(403, forbidden, `"`+goodKey+`"`)},
	{"a caller's placeholder", diagnose.KeyPlaceholder, denied(403, forbidden, "${LANGSMITH_API_KEY}")},
	{"a key of an unknown form at a self-hosted LangSmith", diagnose.KeyMalformed, denied(403, forbidden, "company-token-0123456789")},
	{"no key", diagnose.KeyMissing, denied(401, `{"error":"Unauthorized"}`+"\n", "")},
	{"no key, to the old service", diagnose.KeyMissing, denied(401, `{"detail":"Invalid token"}`, "")},
	{"an old key", diagnose.KeyLegacy, denied(401, `{"error":"Unauthorized: Using outdated v1 api key. Please use v2 api key."}`+"\n", "ls__0123456789abcdef0123456789abcdef")},
	{"an old key, to the old service", diagnose.KeyLegacy, denied(401, `{"detail":"Using legacy API key. Please generate a new API key."}`, goodKey)},
	{"a key as a bearer token", diagnose.KeyInWrongHeader, denied(401, `{"error":"Unauthorized"}`+"\n", goodKey)},
	{"the word bearer in the key", diagnose.KeyInWrongHeader, denied(401, `{"error":"Unauthorized"}`+"\n", "Bearer "+goodKey)},
	{"a header that cannot be sent", diagnose.KeyMalformed, way("bad_header", `net/http: invalid header field value for "X-Api-Key"`)},
	{"a sealed key that does not open", diagnose.CredentialUnusable, way("credential_unreadable", "the key this data came with cannot be read")},
}

var accessCatalogue = []refusal{
	{"a key that never worked here", diagnose.RegionMismatch, denied(403, forbidden, goodKey)},
	{"a key that another region takes", diagnose.RegionMismatch, denied(403, forbidden, goodKey)},
	{"a key that no region takes", diagnose.KeyRevoked, denied(403, forbidden, goodKey)},
	{"a key that never worked at a self-hosted LangSmith", diagnose.KeyRevoked, denied(403, forbidden, goodKey)},
	{"a key that worked for days, and reads are refused, too", diagnose.KeyRevoked, denied(403, forbidden, goodKey)},
	{"a key that worked until a moment ago", diagnose.UpstreamIncident, denied(403, forbidden, goodKey)},
	{"a key that worked until a moment ago, and reads are refused, too", diagnose.KeyRevoked, denied(403, forbidden, goodKey)},
	{"403 beside 500", diagnose.UpstreamIncident, denied(403, forbidden, goodKey)},
	{"403 for several keys at once", diagnose.UpstreamIncident, denied(403, forbidden, goodKey)},
	{"403 while a limit is said to be reached", diagnose.RegionMismatch, denied(403, forbidden, goodKey)},
	{"a key that was replaced", diagnose.StaleKey, denied(403, forbidden, goodKey)},
	{"an organization's key without a workspace", diagnose.WorkspaceRequired, denied(403, `{"error":"org_scoped_key_requires_workspace","message":"This API key is org-scoped and requires workspace specification. Please provide 'X-Tenant-Id' header."}`, serviceKey)},
	{"a workspace by its name", diagnose.WorkspaceNotUUID, denied(401, `{"detail":"UUID header value was not a valid UUID"}`, goodKey)},
	{"a workspace of somebody else", diagnose.WorkspaceMismatch, denied(403, forbidden, goodKey)},
	{"a workspace that was not asked about yet", diagnose.WorkspaceMismatch, denied(403, forbidden, goodKey)},
	{"a workspace of another organization", diagnose.WorkspaceMismatch, denied(403, forbidden, serviceKey)},
	{"a workspace that is gone", diagnose.WorkspaceMismatch, denied(404, `{"error":"Workspace does not exist"}`, goodKey)},
	{"a key that may only read", diagnose.NoWritePermission, denied(403, forbidden, serviceKey)},
	{"an account without a plan", diagnose.PlanMissing, denied(403, `{"error":"Forbidden - no plan found"}`, goodKey)},
}

var pathCatalogue = []refusal{
	{"the user interface, posted to", diagnose.UIHost, page(405, "405 Not Allowed")},
	{"a self-hosted user interface", diagnose.UIHost, page(405, "405 Not Allowed")},
	{"a web site's missing page", diagnose.UIHost, page(404, "Page Not Found")},
	{"plain HTTP to a TLS port", diagnose.EndpointMalformed, content(400, "400 The plain HTTP request was sent to HTTPS port")},
	{"a doubled path", diagnose.EndpointPath, denied(404, `{"detail":"Not Found"}`, goodKey)},
	{"a path that is not there", diagnose.EndpointPath, denied(404, `{"detail":"Not Found"}`, goodKey)},
	{"a redirect to https", diagnose.Redirect, denied(301, "", goodKey)},
	{"a redirect to a login page", diagnose.IntermediaryBlock, denied(302, "", goodKey)},
	{"a block page", diagnose.IntermediaryBlock, page(403, "Access Denied")},
	{"a web page that says yes", diagnose.IntermediaryBlock, page(200, "Welcome to Hotel WiFi")},
	{"a captive portal", diagnose.IntermediaryBlock, page(511, "Network Authentication Required")},
}

var contentCatalogue = []refusal{
	{"too large for nginx", diagnose.PayloadTooLarge, page(413, "413 Request Entity Too Large")},
	{"cut at 20 MB", diagnose.PayloadTooLarge, way("reset_large_body", "write tcp: connection reset by peer")},
	{"a root with several parts", diagnose.DottedOrder, content(400, `{"detail":"dotted_order must contain a single part for root runs for run_id:0a1b"}`)},
	{"three digits of a second", diagnose.DottedOrder, content(400, `{"error":"Bad request: invalid 'dotted_order': parsing time \"20241101T100000022Z\": cannot parse \".022\" as \".000000\""}`)},
	{"a child before its parent", diagnose.DottedOrder, content(400, `{"error":"Bad request: invalid 'dotted_order': dotted_order has timestamp 2026-11-24 earlier than parent timestamp"}`)},
	{"a child before its parent, by clocks that differ", diagnose.ClockSkew, content(400, `{"detail":"dotted_order has timestamp 2026-11-24 earlier than parent timestamp"}`)},
	{"a form that was cut off", diagnose.BodyDamaged, content(422, `{"error":"Unprocessable entity: error reading multipart data: multipart: NextPart: EOF"}`+"\n")},
	{"zstd that is none", diagnose.BodyDamaged, content(422, `{"error":"Unprocessable entity: failed to decompress: Unknown frame descriptor"}`)},
	{"a project's name as its id", diagnose.SessionIDNotUUID, content(422, `{"error":"Unprocessable entity: invalid batch JSON: batch schema error post.0.session_id: Must validate one and only one schema (oneOf)"}`)},
	{"a large number", diagnose.IntegerOverflow, content(422, `{"detail":"int too big to convert"}`)},
	{"a long name", diagnose.FieldTooLong, content(422, `{"detail":"['post','items','properties','name','maxLength']: 'aaaa' is longer than 128 characters"}`)},
	{"a run that began too long ago", diagnose.StartTimeWindow, content(422, `{"error":"Unprocessable entity: start_time is outside of the allowed window of 24 hours"}`)},
	{"a run that began too long ago, by clocks that differ", diagnose.ClockSkew, content(422, `{"error":"Unprocessable entity: start_time is outside of the allowed window of 24 hours"}`)},
	{"a run that weir found too old", diagnose.StartTimeWindow, way("start_time_window", "the run began 50 h ago, and LangSmith takes none that began more than 24 h ago")},
	{"a trace of too many runs", diagnose.TraceTooManyRuns, content(400, `{"error":"Bad request: trace exceeds the maximum number of runs (25000)"}`)},
	{"a NUL in a text", diagnose.BodyDamaged, content(400, `{"error":"Bad request: null byte in value"}`)},
	{"a second update", diagnose.Duplicate, content(409, `{"error":"Conflict: payload already received: payloads already received"}`)},
	{"feedback before its run", diagnose.NotFoundYet, content(404, `{"detail":"Run not found"}`)},
	{"a frame that cannot be read", diagnose.Unreadable, way("corrupt", "decompress a frame: invalid input")},
	{"an answer that nobody knows", diagnose.Unknown, content(418, "I am a teapot")},
}

var limitCatalogue = []refusal{
	{"the month is used up", diagnose.QuotaMonth, limit("quota_month", `{"error":"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded"}`+"\n")},
	{"an organization's own limit", diagnose.QuotaUserLimit, limit("quota_user", `{"error":"usage limit monthly_longlived_traces of 5000 exceeded"}`)},
	{"the hour's events", diagnose.RateHourEvents, limit("quota_hour", `{"error":"Too many requests: tenant exceeded usage limits: events_ingested_per_hour"}`)},
	{"the hour's bytes", diagnose.RateHourBytes, limit("quota_bytes", `{"error":"Too many requests: tenant exceeded usage limits: payload_size"}`)},
	{"a firewall's 429", diagnose.RateGateway, limit("rate", "")},
	{"a throttle", diagnose.RateGateway, limit("rate", `{"detail":"Too many requests"}`)},
}

var wayCatalogue = []refusal{
	{"an expired certificate", diagnose.UpstreamCert, way("tls", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-24T12:00:00Z is after 2026-11-01T00:00:00Z")},
	{"another host's certificate", diagnose.UpstreamCert, way("tls", "tls: failed to verify certificate: x509: certificate is valid for example.com, not api.smith.langchain.com")},
	{"TLS that is re-signed", diagnose.TLSInterception, way("tls", "tls: failed to verify certificate: x509: certificate signed by unknown authority")},
	{"a name that is not known", diagnose.Network, way("dns", "lookup api.smith.langchain.com: no such host")},
	{"a refused connection", diagnose.Network, way("network", "dial tcp 127.0.0.1:443: connect: connection refused")},
	{"a gateway's trouble", diagnose.UpstreamIncident, content(503, "upstream connect error")},
}

// known is what else is known in the cases of that name.
var known = map[string]func(*diagnose.Facts){
	"a key that another region takes": func(f *diagnose.Facts) {
		f.Probes.Regions = map[string]int{"https://eu.api.smith.langchain.com": 200, "https://apac.api.smith.langchain.com": 403}
	},
	"a key that no region takes": func(f *diagnose.Facts) {
		f.Probes.Sessions, f.Probes.Regions = status(403), map[string]int{"https://eu.api.smith.langchain.com": 403, "https://apac.api.smith.langchain.com": 403}
	},
	"a key that never worked at a self-hosted LangSmith":  func(f *diagnose.Facts) { f.URL = selfHosted },
	"a key of an unknown form at a self-hosted LangSmith": func(f *diagnose.Facts) { f.URL = selfHosted },
	"a caller's placeholder":                              func(f *diagnose.Facts) { f.OwnKey = false },
	"a key as a bearer token":                             func(f *diagnose.Facts) { f.Bearer, f.OwnKey = true, false },
	"a key that worked for days, and reads are refused, too": func(f *diagnose.Facts) {
		f.History = diagnose.History{Since: ago(2 * time.Hour), Accepted: ago(5 * time.Hour)}
		f.Probes.Sessions = status(403)
	},
	"a key that worked until a moment ago": func(f *diagnose.Facts) { f.History.Accepted = ago(2 * time.Minute) },
	"a key that worked until a moment ago, and reads are refused, too": func(f *diagnose.Facts) {
		f.History.Accepted, f.Probes.Sessions = ago(2*time.Minute), status(403)
	},
	"403 beside 500": func(f *diagnose.Facts) {
		f.History.Accepted, f.History.ServerErrors, f.Probes.Sessions = ago(2*time.Minute), ago(time.Minute), status(500)
	},
	"403 for several keys at once": func(f *diagnose.Facts) {
		f.History.Accepted, f.History.OtherKeysRefused = ago(2*time.Minute), 3
	},
	"403 while a limit is said to be reached": func(f *diagnose.Facts) {
		f.Probes.Limits = &diagnose.Reply{Time: now, Status: 200, Body: `{"in_reject_set": true,"usage_limit_type":"total_unique_traces"}`}
	},
	"a key that was replaced": func(f *diagnose.Facts) {
		f.OwnKey, f.OwnHint = false, "lsv2_…cd"
		f.History.OwnAccepted, f.Probes.Sessions = ago(time.Second), status(403)
	},
	"a workspace by its name": func(f *diagnose.Facts) { f.Workspace = "my-team" },
	"a workspace of somebody else": func(f *diagnose.Facts) {
		f.Workspace, f.Probes.Sessions, f.Probes.WithoutWorkspace = workspace, status(403), status(200)
	},
	"a workspace that was not asked about yet": func(f *diagnose.Facts) { f.Workspace = workspace },
	"a workspace that is gone":                 func(f *diagnose.Facts) { f.Workspace = workspace },
	"a key that may only read":                 func(f *diagnose.Facts) { f.Probes.Sessions = status(200) },
	"the user interface, posted to":            func(f *diagnose.Facts) { f.URL = "https://eu.smith.langchain.com/runs/multipart" },
	"a self-hosted user interface": func(f *diagnose.Facts) {
		f.URL = "https://smith.example.com/runs/multipart"
		f.Probes.Info = &diagnose.Reply{Time: now, Status: 200, HTML: true}
	},
	"a web site's missing page": func(f *diagnose.Facts) {
		f.URL = "https://docs.example.com/runs/multipart"
		f.Probes.Info = &diagnose.Reply{Time: now, Status: 404, HTML: true}
	},
	"a run that began too long ago, by clocks that differ": func(f *diagnose.Facts) { f.ServerDate = ago(-25 * time.Hour) },
	"a workspace of another organization": func(f *diagnose.Facts) {
		f.Workspace, f.Probes.Sessions = workspace, status(403)
		f.Probes.WithoutWorkspace = &diagnose.Reply{Time: now, Status: 403, Body: `{"error":"org_scoped_key_requires_workspace"}`}
	},
	"plain HTTP to a TLS port": func(f *diagnose.Facts) {
		f.Reason, f.URL = "https_expected", "http://smith.example.com:443/runs/multipart"
	},
	"a doubled path":           func(f *diagnose.Facts) { f.URL = "https://smith.example.com/api/v1/api/v1/runs/multipart" },
	"a path that is not there": func(f *diagnose.Facts) { f.URL = "https://smith.example.com/langsmith/runs/multipart" },
	"a redirect to https": func(f *diagnose.Facts) {
		f.URL, f.Header = "http://smith.example.com/api/v1/runs/multipart", http.Header{"Location": {"https://smith.example.com/api/v1/runs/multipart?x=1"}}
	},
	"a redirect to a login page": func(f *diagnose.Facts) { f.Header = http.Header{"Location": {"https://login.hotel.example/?to=api"}} },
	"a block page":               func(f *diagnose.Facts) { f.Header.Set("Server", "BlueCoat") },
	"a web page that says yes":   func(f *diagnose.Facts) { f.Reason = "not_langsmith" },
	"too large for nginx":        func(f *diagnose.Facts) { f.URL, f.SentBytes = selfHosted, 29_600_000 },
	"cut at 20 MB":               func(f *diagnose.Facts) { f.SentBytes = 20_971_520 },
	"a child before its parent, by clocks that differ": func(f *diagnose.Facts) { f.ServerDate = ago(5 * time.Minute) },
	"a second update":         func(f *diagnose.Facts) { f.Reason = "duplicate" },
	"feedback before its run": func(f *diagnose.Facts) { f.Reason = "not_found_yet" },
	"zstd that is none":       func(f *diagnose.Facts) { f.Reason = "encoding" },
}

func TestEachLiteralBodyHasItsCause(t *testing.T) {
	t.Parallel()
	var golden strings.Builder
	seen := map[diagnose.Code]bool{}
	for _, r := range catalogue {
		if change := known[r.name]; change != nil {
			r = r.with(change)
		}
		d := diagnose.Diagnose(&r.facts)
		if d.Top().Code != r.want {
			t.Errorf("%s: the first cause is %s, want %s: %+v", r.name, d.Top().Code, r.want, d.Causes)
		}
		seen[r.want] = true
		fmt.Fprintf(&golden, "## %s\n", r.name)
		for _, c := range d.Causes {
			fmt.Fprintf(&golden, "%s (%s)\n", c.Code, c.Confidence)
			for _, e := range c.Evidence {
				fmt.Fprintf(&golden, "  - %s\n", e)
			}
			fmt.Fprintf(&golden, "  > %s\n", c.Remedy)
			if c.Remedy == "" || len(c.Evidence) == 0 {
				t.Errorf("%s: %s has no remedy or no evidence", r.name, c.Code)
			}
		}
		if d.Wants != nil {
			fmt.Fprintf(&golden, "  ? %s\n", d.Wants)
		}
		golden.WriteByte('\n')
	}
	same(t, filepath.Join("testdata", "diagnoses.golden"), golden.String())
	for _, code := range diagnose.Codes() {
		if !seen[code] {
			t.Errorf("no case of the catalogue is about %s", code)
		}
	}
}

func TestKeysAreNeverShown(t *testing.T) {
	t.Parallel()
	for _, r := range catalogue {
		d := diagnose.Diagnose(&r.facts)
		for _, c := range d.Causes {
			text := strings.Join(append(c.Evidence, c.Remedy), "\n")
			for _, key := range []string{goodKey, serviceKey, "userdata.get", "0123456789abcdef"} {
				if strings.Contains(text, key) {
					t.Errorf("%s: %q is shown in %q", r.name, key, text)
				}
			}
		}
	}
}

func TestHealthAndPlainOutagesAreNobodysFault(t *testing.T) {
	t.Parallel()
	for _, r := range slices.Concat(limitCatalogue, wayCatalogue) {
		d := diagnose.Diagnose(&r.facts)
		for _, c := range d.Causes {
			if strings.HasPrefix(string(c.Code), "key_") || strings.HasPrefix(string(c.Code), "workspace_") || c.Code == diagnose.RegionMismatch {
				t.Errorf("%s: blamed on %s", r.name, c.Code)
			}
		}
	}
}

// FuzzDiagnose: whatever comes back, there is a cause, and it is the same twice.
func FuzzDiagnose(f *testing.F) {
	for _, r := range catalogue {
		f.Add(r.facts.Status, r.facts.Reason, r.facts.Body, r.facts.Error, r.facts.URL, r.facts.Workspace, "key", r.facts.OwnKey)
	}
	f.Fuzz(func(t *testing.T, status int, reason, body, text, url, workspace, key string, own bool) {
		facts := &diagnose.Facts{
			Time: now, Status: status, Reason: reason, Body: body, Error: text, URL: url, Workspace: workspace,
			Key: diagnose.ShapeOf(key), OwnKey: own,
		}
		d, again := diagnose.Diagnose(facts), diagnose.Diagnose(facts)
		if len(d.Causes) == 0 || d.Top().Remedy == "" || fmt.Sprint(d) != fmt.Sprint(again) {
			t.Errorf("%+v, then %+v", d, again)
		}
	})
}

func TestTheReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "diagnosis.md")
	head, err := os.ReadFile(filepath.Join("testdata", "diagnosis.head.md"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, path, string(head)+diagnose.Reference())
}

func same(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: go test ./proxy/diagnose -update", path)
	}
}

// TestARevokedKeyIsNotHiddenForEver: some batch that is answered with 500 over and
// over makes an incident of a key that is refused, but not for hours.
func TestARevokedKeyIsNotHiddenForEver(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		since time.Duration
		want  diagnose.Code
	}{{time.Minute, diagnose.UpstreamIncident}, {2 * time.Hour, diagnose.KeyRevoked}} {
		f := denied(403, forbidden, goodKey)
		f.History = diagnose.History{Since: ago(one.since), Accepted: ago(one.since + time.Minute), ServerErrors: ago(time.Minute)}
		f.Probes.Sessions = status(403)
		d := diagnose.Diagnose(&f)
		if got := d.Top(); got.Code != one.want || got.Confidence != diagnose.Likely {
			t.Errorf("after %s: %s (%s), want %s", one.since, got.Code, got.Confidence, one.want)
		}
	}
}

// TestAnOddKeyThatWasTakenIsNotMalformed: whatever it looks like, it worked.
func TestAnOddKeyThatWasTakenIsNotMalformed(t *testing.T) {
	t.Parallel()
	f := denied(403, forbidden, "lsv2_pt_short")
	d := diagnose.Diagnose(&f)
	if got := d.Top(); got.Code != diagnose.KeyMalformed {
		t.Fatalf("a key of that shape is %s, want %s", got.Code, diagnose.KeyMalformed)
	}
	f.History = diagnose.History{Since: now, Accepted: ago(time.Second)}
	d = diagnose.Diagnose(&f)
	if got := d.Top(); got.Code != diagnose.UpstreamIncident {
		t.Errorf("taken a second before, it is %s, want %s", got.Code, diagnose.UpstreamIncident)
	}
}
