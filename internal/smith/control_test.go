package smith

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// post sends JSON to the control API.
func (c *client) post(call, body string) answer {
	c.t.Helper()
	return c.do(http.MethodPost, "/__smith/"+call, header("Content-Type", contentJSON), []byte(body))
}

func TestControlListsItsCalls(t *testing.T) {
	_, c := start(t, Config{Control: true})
	help := c.do(http.MethodGet, "/__smith/", nil, nil)
	for call := range controls {
		if method, name, _ := strings.Cut(call, " "); name != "" && !strings.Contains(help.body, name) {
			t.Errorf("the help does not mention %s %s", method, name)
		}
	}
	a := c.do(http.MethodGet, "/__smith/nothing", nil, nil)
	a.want(t, 404, "{\"error\":\"no GET /__smith/nothing; GET /__smith/ lists the calls\"}\n")
}

func TestControlRefusesWebPages(t *testing.T) {
	s, c := start(t, Config{Control: true})
	a := c.do(http.MethodPost, "/__smith/reset", header("Origin", "https://example.com"), nil)
	if a.status != 403 {
		t.Errorf("answer = %d %q, want 403", a.status, a.body)
	}
	s.SetStanding(&Fault{Status: 500})
	c.do(http.MethodGet, "/__smith/stats", nil, nil) // faults do not strike here
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("control calls were counted: %d", n)
	}
}

func TestControlShowsStatsWithoutKeys(t *testing.T) {
	_, c := start(t, Config{Control: true, Keys: map[string]Key{keyA: {Tenant: tenantA}, "lsv2_other_key_A1": {Tenant: tenantA}}})
	body := payload(t, newSpan(1, 1))
	c.export(body, "Langsmith-Project", "chat").want(t, 200, "")
	c.export(body, "X-Api-Key", "lsv2_other_key_A1").want(t, 200, "")
	got := c.do(http.MethodGet, "/__smith/stats", nil, nil).body
	size := len(body)
	tally := fmt.Sprintf(`{"requests":2,"spans":2,"wire_bytes":%d,"raw_bytes":%d}`, 2*size, 2*size)
	want := `{"requests":2,"answers":{"200":2},"faults":{},"taken":` + tally +
		`,"lost":{"requests":0,"spans":0,"wire_bytes":0,"raw_bytes":0},"distinct_spans":1,"duplicates":1,"traces":1,"forgotten":0,` +
		`"by_key":{"lsv2_…A1":` + tally + `},"by_workspace":{"` + tenantA + `":` + tally + `},"by_encoding":{"identity":` + tally +
		`},"by_project":{"chat":1,"default":1},"runs":{"posts":0,"patches":0,"feedback":0,"attachments":0,"attachment_bytes":0,` +
		`"distinct":0,"distinct_feedback":0,"duplicates":{},"conflicts":0,"forgotten":0,"log_dropped":0,"by_path":{}}}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestControlShowsSpansAsOTLPJSON(t *testing.T) {
	s, c := start(t, Config{Control: true, Now: func() time.Time { return noon }})
	sp := newSpan(1, 2, num("n", 7), str("s", "<a&b>"))
	sp.ParentSpanId, sp.Kind = spanID(9), tracepb.Span_SPAN_KIND_CLIENT
	sp.Links = []*tracepb.Span_Link{{TraceId: traceID(3), SpanId: spanID(4)}}
	c.export(payload(t, newSpan(1, 1), sp)).want(t, 200, "")
	got := c.do(http.MethodGet, "/__smith/spans?limit=1", nil, nil).body
	var view struct{ Spans []spanView }
	if err := json.Unmarshal([]byte(got), &view); err != nil || len(view.Spans) != 1 {
		t.Fatalf("%v in %s", err, got)
	}
	v := view.Spans[0]
	if v.Key != "lsv2_…A1" || v.Workspace != DefaultTenant || v.Project != "default" || v.Request != 1 || !v.Time.Equal(noon) {
		t.Errorf("span came as %+v", v)
	}
	// What the control API shows can be sent back in: it is OTLP/JSON.
	again := fmt.Sprintf(`{"resourceSpans":[{"resource":%s,"scopeSpans":[{"scope":%s,"spans":[%s]}]}]}`, v.Resource, v.Scope, v.Span)
	c.export([]byte(again), "Content-Type", contentJSON).want(t, 200, "{}")
	if got := s.Requests()[1].Payload; !bytes.Equal(got, payload(t, sp)) {
		t.Errorf("the span changed on its way through JSON: %s", v.Span)
	}
	for _, limit := range []string{"-1", "x", "10001"} {
		if a := c.do(http.MethodGet, "/__smith/spans?limit="+limit, nil, nil); a.status != 400 {
			t.Errorf("limit=%s: answer = %d, want 400", limit, a.status)
		}
	}
}

func TestControlListsIDs(t *testing.T) {
	_, c := start(t, Config{Control: true, Keep: KeepIDs})
	c.export(payload(t, newSpan(2, 1), newSpan(1, 3), newSpan(1, 2), newSpan(1, 3))).want(t, 200, "")
	c.do(http.MethodGet, "/__smith/ids", nil, nil).want(t, 200, ""+
		"00000000000000000000000000000001/0000000000000002 1\n"+
		"00000000000000000000000000000001/0000000000000003 2\n"+
		"00000000000000000000000000000002/0000000000000001 1\n")
}

func TestControlWaits(t *testing.T) {
	s, c := start(t, Config{Control: true})
	done := make(chan answer, 1)
	go func() { done <- c.do(http.MethodGet, "/__smith/wait?spans=1&requests=1", nil, nil) }()
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	if a := <-done; a.status != 200 || !strings.Contains(a.body, `"distinct_spans":1`) {
		t.Errorf("wait = %d %q", a.status, a.body)
	}
	a := c.do(http.MethodGet, "/__smith/wait?spans=9&timeout=1ms", nil, nil)
	if a.status != 408 || !strings.Contains(a.body, "waiting for 9 spans: 1 spans in 1 requests have arrived") {
		t.Errorf("wait in vain = %d %q", a.status, a.body)
	}
	for _, query := range []string{"timeout=1", "timeout=-1s", "timeout=11m", "spans=x", "requests=-1"} {
		if a := c.do(http.MethodGet, "/__smith/wait?"+query, nil, nil); a.status != 400 {
			t.Errorf("wait?%s = %d, want 400", query, a.status)
		}
	}
	if n := len(s.store.waiters); n != 0 {
		t.Errorf("%d waits are left over", n)
	}
}

func TestControlScriptsFaults(t *testing.T) {
	s, c := start(t, Config{Control: true})
	a := c.post("faults", `{"script":[
		{"use":"monthly_quota","count":2},
		{"status":503,"body":"{}","header":{"X-A":"b"},"retry_after":"3","latency":"1ms","stage":"stored","match":"ingest",
		 "body_bytes":5,"bytes_per_second":1000000,"name":"mine"},
		{"use":"lost_answer","count":-1,"match":""}],
		"standing":{"use":"html_502","status":504},"chaos":"500=1"}`)
	if a.status != 200 {
		t.Fatalf("answer = %d %q", a.status, a.body)
	}
	var shown faultsView
	if err := json.Unmarshal([]byte(a.body), &struct {
		*faultsView
		Known []string
	}{faultsView: &shown}); err != nil || len(shown.Script) != 3 || *shown.Chaos != "500=1" || len(shown.Standing) == 0 {
		t.Errorf("faults = %s (%v)", a.body, err)
	}
	c.export(nil).want(t, 429, bodyMonthlyQuota)
	c.export(nil).want(t, 429, bodyMonthlyQuota)
	a = c.export(payload(t, newSpan(1, 1)))
	a.want(t, 503, "{}xxx")
	if a.header.Get("X-A") != "b" || a.header.Get("Retry-After") != "3" || s.Stats().DistinctSpans != 1 {
		t.Errorf("header = %v, %d spans", a.header, s.Stats().DistinctSpans)
	}
	if _, err := c.try(t.Context(), http.MethodGet, "/info", nil, nil); err == nil {
		t.Error("/info was answered although the fault matches everything")
	}
	c.do(http.MethodDelete, "/__smith/faults", nil, nil).want(t, 204, "")
	c.export(nil).want(t, 200, "")

	c.post("faults", `{"standing":{"use":"html_502","status":504}}`)
	c.export(nil).want(t, 504, page502)
	c.post("faults", `{"chaos":""}`)
	c.export(nil).want(t, 504, page502) // what a body does not name stays
	c.post("faults", `{"standing":null,"chaos":"500=1"}`)
	c.export(nil).want(t, 500, "{\"error\":\"Internal Server Error\"}\n")
}

func TestControlSaysWhatIsWrongWithAFault(t *testing.T) {
	s, c := start(t, Config{Control: true})
	for body, want := range map[string]string{
		`{"script":[{"use":"nope"}]}`:                `script[0]: use "nope" is not known; use one of bad_workspace_id, `,
		`{"script":[{},{"status":99}]}`:              `script[1]: status 99 is not from 200 to 599`,
		`{"script":[{"count":-2}]}`:                  `script[0]: count -2 is neither positive nor -1, which is forever`,
		`{"script":[{"latency":"5"}]}`:               `script[0]: latency "5" is not a duration, such as 250ms`,
		`{"script":[{"body_bytes":-1}]}`:             `script[0]: body_bytes -1 and bytes_per_second 0 must not be negative`,
		`{"script":[{"stage":"late"}]}`:              `reading the body: stage "late" is not known; use one of read, headers, stored, answer`,
		`{"script":[{"retryAfter":"1"}]}`:            `reading the body: json: unknown field "retryAfter"`,
		`{"standing":{"statuz":1}}`:                  `standing: json: unknown field "statuz"`,
		`{"standing":{"status":1}}`:                  `standing: status 1 is not from 200 to 599`,
		`{"script":[{"status":503}],"chaos":"boom"}`: `chaos: "boom" has no share`,
		`{} {}`: `reading the body: something follows the JSON value`,
		`[`:     `reading the body: `,
		`{"chaos":"` + strings.Repeat("x", maxControlBytes) + `"}`: `reading the body: http: request body too large`,
	} {
		a := c.post("faults", body)
		var got struct{ Error string }
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 400 || !strings.HasPrefix(got.Error, want) {
			t.Errorf("faults %.40s = %d %q, want 400 %s", body, a.status, got.Error, want)
		}
	}
	if left := s.PendingFaults(); len(left) != 0 {
		t.Errorf("a refused call took effect: %v", left)
	}
}

func TestControlShowsFaultsAsItTakesThem(t *testing.T) {
	faults := []Fault{
		{Name: "x", Match: "/otel", Count: 2, Stage: StageHeaders, Latency: time.Second, Hang: true, Reset: true},
		{Method: "GET", Count: 1, For: time.Minute, Every: 3, Status: 302, Redirect: "https"},
		{Count: Forever, Status: 429, RetryAfter: "1", Body: "b", BodyBytes: 3, BytesPerSecond: 4, Header: http.Header{"A": {"b"}}},
	}
	for _, c := range CannedFaults() {
		faults = append(faults, c.Fault().Times(1))
	}
	for _, want := range faults {
		got, err := viewFault(want).fault()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.label(), diff)
		}
	}
}

func TestControlReleasesHangs(t *testing.T) {
	s, c := start(t, Config{Control: true})
	s.Script(Fault{Hang: true})
	done := make(chan answer, 1)
	go func() { done <- c.export(nil) }()
	if err := s.WaitRequests(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	// The request may not hang yet, so release until it has been let go.
	for released := false; !released; {
		c.post("release", "").want(t, 204, "")
		select {
		case a := <-done:
			a.want(t, 200, "")
			released = true
		default:
		}
	}
}

func TestControlSetsSwitchesAndKeys(t *testing.T) {
	s, c := start(t, Config{Control: true})
	c.post("switches", `{"otlp_zstd":"lost","otlp_window":"422"}`)
	c.post("switches", `{"otlp_json":"415","otlp_malformed":"lost","otlp_project":"attribute","otlp_bare_path":true,
		"runs_zstd":"415","runs_window":"400","runs_duplicate":"whole","runs_max":7,"feedback_order":"run_first","extra_update":"replace",
		"auth_wording":"old","revoked_key":"401","quota_wording":"old","name_max":128,"big_integers":"422","nul_bytes":"400","cut_bytes":20971520,
		"quota_updates":"refused","quota_otlp":"lost","usage_lag":"1h",
		"zstd_frames":"first","read_lag":"3s","empty_batch":"422","info_needs_key":true}`).want(t, 200,
		`{"otlp_zstd":"lost","otlp_json":"415","otlp_malformed":"lost","otlp_window":"422","otlp_project":"attribute","otlp_bare_path":true,`+
			`"runs_zstd":"415","runs_window":"400","runs_duplicate":"whole","runs_max":7,"feedback_order":"run_first","extra_update":"replace",`+
			`"auth_wording":"old","revoked_key":"401","quota_wording":"old","name_max":128,"big_integers":"422","nul_bytes":"400","cut_bytes":20971520,`+
			`"quota_updates":"refused","quota_otlp":"lost","usage_lag":"1h0m0s",`+
			`"zstd_frames":"first","read_lag":"3s","empty_batch":"422","info_needs_key":true}`+"\n")
	want := Switches{
		Lost, Unsupported, MalformedLost, Window422, AttributeFirst, true,
		Unsupported, Window400, DuplicateWhole, 7, FeedbackRunFirst, ExtraReplace,
		WordingOld, Revoked401, WordingOld, 128, Check422, Check400, 20 << 20,
		UpdatesRefused, QuotaOTLPLost, Lag(time.Hour),
		FramesFirst, Delay(3 * time.Second), Empty422, true,
	}
	if got := s.currentSwitches(); got != want {
		t.Errorf("switches = %+v, want %+v", got, want)
	}
	if a := c.post("switches", `{"otlp_zstd":"maybe"}`); a.status != 400 || s.currentSwitches() != want {
		t.Errorf("a wrong switch = %d %q", a.status, a.body)
	}

	s.SetSwitches(Switches{})
	c.post("keys", `{"`+keyA+`":null,"`+keyB+`":{"tenant":"`+tenantB+`","read_only":true}}`).want(t, 204, "")
	c.export(nil).want(t, 403, bodyForbidden)
	c.export(nil, "X-Api-Key", keyB).want(t, 403, bodyForbidden)
	a := c.post("keys", `{"`+keyA+`":{"tenant":"mine"}}`)
	if a.status != 400 || strings.Contains(a.body, keyA) {
		t.Errorf("a tenant that is no UUID = %d %q, want 400 without the key", a.status, a.body)
	}
}

func TestControlResets(t *testing.T) {
	s, c := start(t, Config{Control: true})
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	c.post("reset", "").want(t, 204, "")
	if st := s.Stats(); st.Requests != 0 || len(s.Spans()) != 0 {
		t.Errorf("after reset: %+v", st)
	}
}

func TestEnumsAreReadAsWritten(t *testing.T) {
	if got, want := Keep(9).String(), "unknown(9)"; got != want {
		t.Errorf("Keep(9) = %q, want %q", got, want)
	}
	var k Keep
	if err := k.UnmarshalText([]byte("none")); err == nil || err.Error() != `keep "none" is not known; use one of spans, ids, counts` {
		t.Errorf("UnmarshalText(none) = %v", err)
	}
	for i, name := range keepNames {
		text, err := Keep(i).MarshalText()
		if err != nil || string(text) != name || k.UnmarshalText(text) != nil || k != Keep(i) {
			t.Errorf("keep %d is written %q and read %s", i, text, k)
		}
	}
}
