package smith

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// usage reads granular usage with keyB, which may.
func (c *client) usage(query string) answer {
	c.t.Helper()
	return c.do(http.MethodGet, "/api/v1/orgs/current/billing/granular-usage?"+query, header("X-Api-Key", keyB), nil)
}

const day = "start_time=2026-11-23T00:00:00Z&end_time=2026-11-24T00:00:00Z"

func bucket(at, tenant, traces string) string {
	return `{"time_bucket":"` + at + `","dimensions":{"workspace_id":"` + tenant + `"},"traces":` + traces + `}`
}

func TestUsageReadsLag(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{}))
	move := func(d time.Duration) {
		t.Helper()
		if err := s.SetClockOffset(d); err != nil {
			t.Fatal(err)
		}
	}
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	move(30 * time.Minute)
	c.export(payload(t, newSpan(1, 2), newSpan(2, 1))).want(t, 200, "") // one of them is new
	move(60 * time.Minute)
	s.AddTraffic(tenantB, Traffic{Traces: 5})
	ask := day + "&workspace_ids=" + tenantA + "&workspace_ids=" + tenantB + "&group_by=workspace"
	want := func(rows string) {
		t.Helper()
		c.usage(ask).want(t, 200, `{"stride":{"days":0,"hours":1},"usage":[`+rows+`]}`)
	}
	want("")
	move(DefaultLag - time.Second)
	want("")
	move(DefaultLag)
	want(bucket("2026-11-23T12:00:00Z", tenantA, "1"))
	move(30*time.Minute + DefaultLag)
	want(bucket("2026-11-23T12:00:00Z", tenantA, "2"))
	c.post("switches", `{"usage_lag":"0s"}`)
	want(bucket("2026-11-23T12:00:00Z", tenantA, "2") + "," + bucket("2026-11-23T13:00:00Z", tenantB, "5"))
	c.post("switches", `{"usage_lag":"3h"}`)
	want("")
}

func TestUsageReadsAreByHourOrDayAndWithinTheRange(t *testing.T) {
	cfg := quotaConfig(Limits{})
	cfg.Switches.UsageLag = -1
	s, c := start(t, cfg)
	s.AddTraffic(tenantA, Traffic{Traces: 1})
	if err := s.SetClockOffset(24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	s.AddTraffic(tenantA, Traffic{Traces: 2})
	of := "&workspace_ids=" + tenantA
	c.usage("start_time=2026-11-01&end_time=2026-12-01"+of).want(t, 200, `{"stride":{"days":1,"hours":0},"usage":[`+
		bucket("2026-11-23T00:00:00Z", tenantA, "1")+","+bucket("2026-11-24T00:00:00Z", tenantA, "2")+"]}")
	c.usage(day+of).want(t, 200, `{"stride":{"days":0,"hours":1},"usage":[`+bucket("2026-11-23T12:00:00Z", tenantA, "1")+"]}")
	c.usage("start_time=2026-11-23T12:00:00Z&end_time=2026-11-24T12:00:00Z"+of).want(t, 200,
		`{"stride":{"days":0,"hours":1},"usage":[`+bucket("2026-11-23T12:00:00Z", tenantA, "1")+"]}")
	c.usage(day+"&workspace_ids="+tenantB).want(t, 200, `{"stride":{"days":0,"hours":1},"usage":[]}`)
}

func TestUsageReadsNeedTheOrganizationsPermission(t *testing.T) {
	cfg := quotaConfig(Limits{})
	cfg.Keys[orgKey] = Key{OrgScoped: true, OrgRead: true, ReadOnly: true}
	_, c := start(t, cfg)
	path := "/orgs/current/billing/granular-usage?" + day + "&workspace_ids=" + tenantA
	c.do(http.MethodGet, path, header("X-Api-Key", keyA), nil).want(t, 403, `{"detail":"Forbidden"}`)
	c.do(http.MethodGet, path, nil, nil).want(t, 401, bodyUnauthorized)
	c.do(http.MethodGet, path, header("X-Api-Key", orgKey), nil).want(t, 200, `{"stride":{"days":0,"hours":1},"usage":[]}`)
	for query, want := range map[string]string{
		"":  `{"detail":"start_time: Field required"}`,
		day: `{"detail":"workspace_ids: Field required"}`,
		"start_time=x&end_time=2026-12-01&workspace_ids=" + tenantA:          `{"detail":"start_time: must be an ISO 8601 timestamp"}`,
		"start_time=2026-12-01&end_time=2026-12-01&workspace_ids=" + tenantA: `{"detail":"end_time must be after start_time"}`,
		"start_time=2026-11-01&end_time=2026-12-03&workspace_ids=" + tenantA: `{"detail":"the range must not exceed 31 days"}`,
		day + "&workspace_ids=x":                           `{"detail":"workspace_ids: Input should be a valid UUID"}`,
		day + "&group_by=project&workspace_ids=" + tenantA: `{"detail":"group_by: the look-alike groups by workspace only"}`,
	} {
		c.usage(query).want(t, 422, want)
	}
}

// The SDKs learn the workspace of a key from a project of it.
func TestAProjectOfAnEmptyWorkspaceNamesItsTenant(t *testing.T) {
	_, c := start(t, quotaConfig(Limits{}))
	a := c.do(http.MethodGet, "/sessions?limit=1", header("X-Api-Key", keyA), nil)
	var rows []struct {
		Tenant string `json:"tenant_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &rows); err != nil || a.status != 200 || len(rows) != 1 || rows[0].Tenant != tenantA {
		t.Errorf("sessions = %d %s, want one of %s", a.status, a.body, tenantA)
	}
}
