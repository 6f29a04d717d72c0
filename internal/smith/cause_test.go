package smith

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRefusedAccessInTheOldWords(t *testing.T) {
	s, c := start(t, Config{Keys: knownKeys(), Switches: Switches{AuthWording: WordingOld}})
	for _, tt := range []struct {
		key, workspace string
		status         int
		body           string
	}{
		{keyA, "", 200, ""},
		{"", "", 401, `{"detail":"Invalid token"}`},
		{"lsv2_pt_nobody", "", 403, `{"detail":"Forbidden"}`},
		{"ls__abcdef", "", 401, `{"detail":"Using legacy API key. Please generate a new API key."}`},
		{keyA, "1", 401, `{"detail":"UUID header value was not a valid UUID"}`},
		{keyA, tenantB, 403, `{"detail":"Forbidden"}`},
	} {
		c.export(nil, "X-Api-Key", tt.key, "X-Tenant-Id", tt.workspace).want(t, tt.status, tt.body)
	}
	s.SetSwitches(Switches{})
	c.export(nil, "X-Api-Key", "lsv2_pt_nobody").want(t, 403, bodyForbidden)
}

func TestARevokedKeyIs403Or401AndAnUnknownOneAlways403(t *testing.T) {
	s, c := start(t, Config{Keys: knownKeys()})
	c.export(nil).want(t, 200, "")
	s.RemoveKey(keyA)
	c.export(nil).want(t, 403, "{\"error\":\"Forbidden\"}\n")
	s.SetSwitches(Switches{RevokedKey: Revoked401})
	c.export(nil).want(t, 401, "{\"error\":\"Unauthorized\"}\n")
	c.export(nil, "X-Api-Key", "lsv2_pt_nobody").want(t, 403, bodyForbidden)
	s.SetKeys(map[string]Key{keyB: {}})
	c.export(nil).want(t, 403, bodyForbidden)
	c.export(nil, "X-Api-Key", orgKey).want(t, 403, bodyForbidden)
	c.export(nil, "X-Api-Key", keyB).want(t, 200, "")
}

func TestAKeyWithoutAPlanReadsAndDoesNotWrite(t *testing.T) {
	_, c := start(t, Config{Keys: map[string]Key{keyA: {NoPlan: true}}})
	c.export(nil).want(t, 403, "{\"error\":\"Forbidden - no plan found\"}\n")
	if a := c.do(http.MethodGet, "/sessions?limit=1", header("X-Api-Key", keyA), nil); a.status != 200 {
		t.Errorf("sessions = %d %q, want 200", a.status, a.body)
	}
}

func TestRunValuesAreCheckedWhereASwitchSaysSo(t *testing.T) {
	const big = "18446744073709551616" // 2^64
	long := strings.Repeat("é", 129)
	tests := []struct {
		name     string
		switches Switches
		run      string
		status   int
		body     string
	}{
		{"a long name", Switches{}, runJSON([]int{1}, "name", `"`+long+`"`), 202, ""},
		{"a name of 128", Switches{NameMax: 128}, runJSON([]int{1}, "name", `"`+long[2:]+`"`), 202, ""},
		{
			"a name of 129",
			Switches{NameMax: 128},
			runJSON([]int{1}, "name", `"`+long+`"`), 422,
			`{"detail":"['post', 'items', 'properties', 'name', 'maxLength']: '` + long + `' is longer than 128 characters"}`,
		},
		{
			"a name with quotes",
			Switches{NameMax: 6},
			runJSON([]int{1}, "name", `"Read<['x']>"`), 422,
			`{"detail":"['post', 'items', 'properties', 'name', 'maxLength']: \"Read<['x']>\" is longer than 6 characters"}`,
		},
		{"an integer of 65 bits", Switches{}, runJSON([]int{1}, "inputs", `{"n":[`+big+`]}`), 202, ""},
		{
			"an integer of 65 bits, checked",
			Switches{BigIntegers: Check422},
			runJSON([]int{1}, "inputs", `{"n":[`+big+`]}`), 422,
			`{"detail":"int too big to convert"}`,
		},
		{
			"a negative one",
			Switches{BigIntegers: Check422},
			runJSON([]int{1}, "extra", `{"n":-9223372036854775809}`), 422,
			`{"detail":"int too big to convert"}`,
		},
		{
			"64 bits, floats and digits in text",
			Switches{BigIntegers: Check422},
			runJSON([]int{1}, "inputs", `{"n":18446744073709551615,"m":-9223372036854775808,"f":1e99,"s":"`+big+`"}`), 202, "",
		},
		{"a NUL", Switches{}, runJSON([]int{1}, "inputs", `{"s":"a\u0000"}`), 202, ""},
		{
			"a NUL, checked",
			Switches{NULBytes: Check400},
			runJSON([]int{1}, "inputs", `{"s":"a\u0000"}`), 400,
			`{"error":"Bad request: run ` + rid(1).String() + `: inputs has a NUL character"}` + "\n",
		},
		{"the text of one", Switches{NULBytes: Check400}, runJSON([]int{1}, "inputs", `{"s":"a\\u0000"}`), 202, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := clock()
			cfg.Switches = tt.switches
			s, c := start(t, cfg)
			a := c.runs(http.MethodPost, "/runs/batch", []byte(`{"post":[`+runJSON([]int{9})+`,`+tt.run+`]}`))
			if a.status != tt.status || tt.body != "" && a.body != tt.body {
				t.Errorf("answer = %d %q, want %d %q", a.status, a.body, tt.status, tt.body)
			}
			want := 2
			if tt.status != 202 {
				want = 0
			}
			if n := len(s.Runs()); n != want {
				t.Errorf("%d runs were taken, want %d", n, want)
			}
		})
	}
}

func TestSpansWithANULAreRefusedWhereASwitchSaysSo(t *testing.T) {
	for _, keep := range []Keep{KeepSpans, KeepCounts} {
		s, c := start(t, Config{Keep: keep, Switches: Switches{NULBytes: Check422}})
		c.export(payload(t, newSpan(1, 1, str("input", "plain")))).want(t, 200, "")
		c.export(payload(t, newSpan(1, 2), newSpan(1, 3, str("input", "a\x00")))).
			want(t, 422, "{\"error\":\"Unprocessable entity: span 0000000000000003 has a NUL character\"}\n")
		if n := s.Stats().Taken.Spans; n != 1 {
			t.Errorf("%s: %d spans were taken, want 1", keep, n)
		}
	}
}

func TestABodyBeyondTheCutHasItsConnectionReset(t *testing.T) {
	s, c := start(t, Config{Switches: Switches{CutBytes: 1000}})
	text := strings.Repeat("x", 900)
	small := payload(t, newSpan(1, 1, str("input", text)))
	for _, chunked := range []bool{false, true} {
		body := io.Reader(bytes.NewReader(payload(t, newSpan(1, 2, str("input", text+text)))))
		if chunked {
			body = io.MultiReader(body) // its length is not known
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+tracesPath, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header("Content-Type", contentProtobuf, "X-Api-Key", keyA)
		res, err := c.http.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("chunked %t: error %v, want a reset", chunked, err)
		}
	}
	if n := s.Stats().Taken.Spans; n != 0 {
		t.Errorf("%d spans of cut bodies were taken", n)
	}
	s.SetSwitches(Switches{CutBytes: int64(len(small))})
	c.export(small).want(t, 200, "")
	s.SetSwitches(Switches{CutBytes: int64(len(small)) - 1})
	if _, err := c.try(t.Context(), http.MethodPost, tracesPath, header("Content-Type", contentProtobuf, "X-Api-Key", keyA), small); err == nil {
		t.Error("a body one byte too large was taken")
	}
}

func TestTheMonthInTheOldWords(t *testing.T) {
	for path, kind := range map[string]string{tracesPath: contentProtobuf, "/runs/batch": contentJSON} {
		cfg := clock()
		cfg.Limits.MonthlyTraces, cfg.Switches.QuotaWording = 1, WordingOld
		s, c := start(t, cfg)
		s.AddTraffic(DefaultTenant, Traffic{Traces: 1})
		body := payload(t, newSpan(1, 1))
		if kind == contentJSON {
			body = []byte(`{"post":[` + runJSON([]int{1}) + `]}`)
		}
		c.do(http.MethodPost, path, header("Content-Type", kind, "X-Api-Key", keyA), body).
			want(t, 429, `{"detail":"Monthly unique traces usage limit exceeded"}`)
	}
}

func TestFaultsByMethodShareAndTime(t *testing.T) {
	now := noon
	s, c := start(t, Config{Now: func() time.Time { return now }})
	probe := func() int { return c.do(http.MethodGet, "/info", nil, nil).status }
	s.Script(Fault{Method: http.MethodPost, Count: Forever, Status: 405})
	if got := []int{probe(), c.export(nil).status}; !slices.Equal(got, []int{200, 405}) {
		t.Errorf("by method: %v", got)
	}
	s.ClearFaults()
	s.Script(Fault{Every: 3, Count: Forever, Status: 500}, Fault{Every: 2, Count: 2, Status: 403})
	if got := []int{probe(), probe(), probe(), probe(), probe(), probe()}; !slices.Equal(got, []int{500, 403, 200, 500, 403, 200}) {
		t.Errorf("by share: %v", got)
	}
	s.ClearFaults()
	s.Script(Fault{For: time.Minute, Status: 503})
	got := []int{probe(), probe()}
	now = now.Add(59 * time.Second)
	got = append(got, probe(), len(s.PendingFaults()))
	now = now.Add(time.Second)
	got = append(got, len(s.PendingFaults()), probe())
	if want := []int{503, 503, 503, 1, 0, 200}; !slices.Equal(got, want) {
		t.Errorf("by time: %v, want %v", got, want)
	}
}

func TestRedirectsLeadWhereTheySay(t *testing.T) {
	s, c := start(t, Config{})
	elsewhere := Found.Fault()
	elsewhere.Redirect = "https://other.example/"
	s.Script(Moved.Fault(), PermanentRedirect.Fault(), elsewhere)
	host := strings.TrimPrefix(c.url, "http://")
	for _, want := range []string{"https://" + host, "https://" + host, "https://other.example"} {
		if got := c.do(http.MethodGet, "/sessions?limit=1", nil, nil).header.Get("Location"); got != want+"/sessions?limit=1" {
			t.Errorf("Location = %q, want it at %s", got, want)
		}
	}
}

// TestSituations plays each one, for the paths that a probe asks.
func TestSituations(t *testing.T) {
	want := map[Situation][]string{ // ingest twice, sessions twice, usage_limits, info twice
		Incident:         {"403", "403", "500", "500", "500", "500", "500"},
		IncidentFlipping: {"403", "503", "500", "200", "500", "200", "500"},
		UISite:           {"405", "405", "200 page", "200 page", "200 page", "200 page", "200 page"},
		UserLimitUnknown: {"429", "429", "200", "200", `200 {"in_reject_set":true,"usage_limit_type":"user_defined_unknown","tenant_limit":null}`, "200", "200"},
		LimitsDenied:     {"200", "200", "200", "200", `403 {"error":"Forbidden"}`, "200", "200"},
	}
	for _, name := range Situations() {
		t.Run(string(name), func(t *testing.T) {
			s, c := start(t, Config{})
			s.Script(name.Faults()...)
			for i, path := range []string{tracesPath, tracesPath, "/sessions", "/sessions", usageLimitsPath, "/info", "/info"} {
				method := http.MethodGet
				if path == tracesPath {
					method = http.MethodPost
				}
				status, rest, _ := strings.Cut(want[name][i], " ")
				a := c.do(method, path, header("X-Api-Key", keyA, "Content-Type", contentProtobuf), nil)
				if strconv.Itoa(a.status) != status {
					t.Errorf("%s %s, call %d = %d, want %s", method, path, i, a.status, status)
				}
				if rest == "page" && a.header.Get("Content-Type") != contentHTML || rest != "" && rest != "page" && strings.TrimSpace(a.body) != rest {
					t.Errorf("%s %s = %q (%s), want %s", method, path, a.body, a.header.Get("Content-Type"), rest)
				}
			}
			s.ClearFaults()
			c.export(nil).want(t, 200, "")
		})
	}
}

func TestControlPlaysSituations(t *testing.T) {
	s, c := start(t, Config{Control: true})
	if a := c.post("faults", `{"situation":"incident"}`); a.status != 200 || len(s.PendingFaults()) != 2 {
		t.Errorf("incident = %d, %d faults", a.status, len(s.PendingFaults()))
	}
	c.export(nil).want(t, 403, bodyForbidden)
	if a := c.post("faults", `{"situation":"war"}`); a.status != 400 || !strings.Contains(a.body, "use one of incident, incident_flipping, ") {
		t.Errorf("an unknown situation = %d %q", a.status, a.body)
	}
}
