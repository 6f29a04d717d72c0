package smith

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestControlSetsLimits(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 7}))
	none := `"minute_events":0,"user_monthly_traces":0,"user_longlived_traces":0}`
	want := `{"default":{"monthly_traces":7,"hourly_events":8,"hourly_bytes":0,` + none + `,"tenants":{"` + tenantA +
		`":{"monthly_traces":1,"hourly_events":8,"hourly_bytes":9,` + none + `}}` + "\n"
	c.post("limits", `{"default":{"hourly_events":8},"tenants":{"`+strings.ToUpper(tenantA)+`":{"monthly_traces":1,"hourly_bytes":9}}}`).want(t, 200, want)
	c.do(http.MethodGet, "/__smith/limits", nil, nil).want(t, 200, want)
	for body, want := range map[string]string{
		`{"default":{"monthly_traces":-1}}`:    `default: monthly_traces -1 is negative; 0 is no limit`,
		`{"default":{"monthly":1}}`:            `default: json: unknown field "monthly"`,
		`{"limits":{}}`:                        `reading the body: json: unknown field "limits"`,
		`{"default":{},"tenants":{"mine":{}}}`: `tenant "mine" is not a UUID`,
		`{"default":{"hourly_events":1},"tenants":{"` + tenantB + `":{"hourly_bytes":-2}}}`: `tenants.` + tenantB + `: hourly_bytes -2 is negative`,
	} {
		var got struct{ Error string }
		a := c.post("limits", body)
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 400 || !strings.HasPrefix(got.Error, want) {
			t.Errorf("limits %s = %d %q, want 400 %s", body, a.status, got.Error, want)
		}
	}
	if got, _ := s.Limits(); got != (Limits{MonthlyTraces: 7, HourlyEvents: 8}) {
		t.Errorf("a refused call took effect: %+v", got)
	}
	c.post("limits", `{"tenants":{"`+tenantA+`":null}}`)
	if got := s.TenantUsage(tenantA).Limits; got.MonthlyTraces != 7 {
		t.Errorf("limits = %+v, want the default ones", got)
	}
}

func TestControlShowsUsage(t *testing.T) {
	_, c := start(t, quotaConfig(Limits{MonthlyTraces: 1}))
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	c.export(payload(t, newSpan(2, 1))).want(t, 429, bodyQuota)
	limits := `"limits":{"monthly_traces":1,"hourly_events":0,"hourly_bytes":0,"minute_events":0,"user_monthly_traces":0,"user_longlived_traces":0}`
	size := len(payload(t, newSpan(1, 1)))
	want := `{"now":"2026-11-23T12:00:00Z","tenants":[{"tenant":"` + tenantA + `",` + limits + `,"rejecting":"total_unique_traces",` +
		`"months":[{"month":"2026-11","traces":1,"others":0,"longlived":0}],` +
		fmt.Sprintf(`"hours":[{"start":"2026-11-23T12:00:00Z","events":1,"bytes":%d,"traces":1}],`, size) +
		`"refused":{"total_unique_traces":1},"lost":{}}]}` + "\n"
	c.do(http.MethodGet, "/__smith/usage", nil, nil).want(t, 200, want)
	c.do(http.MethodGet, "/__smith/usage?tenant="+tenantB, nil, nil).want(t, 200,
		`{"now":"2026-11-23T12:00:00Z","tenants":[{"tenant":"`+tenantB+`",`+limits+`,"months":[],"hours":[],"refused":{},"lost":{}}]}`+"\n")
	for call, body := range map[string]string{
		"traffic": `{"tenant":"x","traces":1}`, "traffic?": `{"traces":-1}`, "traffic??": `{"bytes":1099511627777}`, "traffic???": `{"trace":1}`,
	} {
		if a := c.post(call, body); a.status != 400 {
			t.Errorf("traffic %s = %d %s", body, a.status, a.body)
		}
	}
	if a := c.do(http.MethodGet, "/__smith/usage?tenant=x", nil, nil); a.status != 400 {
		t.Errorf("usage of x = %d", a.status)
	}
}
