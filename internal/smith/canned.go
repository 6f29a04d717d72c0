package smith

import (
	"net/http"
	"slices"
	"strings"
)

// Canned is a ready-made fault: an answer LangSmith, or something in front of
// it, is known to give. Its name is what the control API and ParseChaos take.
type Canned string

// The canned faults. Bodies are as people have published them unless noted.
const (
	// MonthlyQuota is the 429 of a plan whose traces are used up, sent without
	// Retry-After (LangSmith docs: usage limits; many published logs).
	MonthlyQuota Canned = "monthly_quota"
	// MonthlyQuotaOld is the same as the Python service used to say it.
	MonthlyQuotaOld Canned = "monthly_quota_old"
	// UserLimit is the 429 of a limit that the organization set itself.
	UserLimit Canned = "user_limit"
	// Throttled is a 429 for the rate of requests.
	Throttled Canned = "throttled"
	// GatewayRate is the 429 of a load balancer: its body is empty.
	GatewayRate Canned = "gateway_rate"
	// Unauthorized is the 401 for a missing key.
	Unauthorized Canned = "unauthorized"
	// LegacyKey is the 401 for a key of the format before lsv2_.
	LegacyKey Canned = "legacy_key"
	// BadWorkspaceID is the 401 for an X-Tenant-Id that is not a UUID.
	BadWorkspaceID Canned = "bad_workspace_id"
	// Forbidden is the 403 for an unknown key, a wrong region, a wrong
	// workspace or a missing permission: the body does not say which.
	Forbidden Canned = "forbidden"
	// NoPlan is the 403 of an organization without a plan.
	NoPlan Canned = "no_plan"
	// OrgScoped is the 403 for an org-wide key that names no workspace.
	OrgScoped Canned = "org_scoped"
	// UIHost is what the host of the web interface answers to a POST.
	UIHost Canned = "ui_host"
	// CaptivePortal is a web page where the service should be, with a 200.
	CaptivePortal Canned = "captive_portal"
	// HTML413 is nginx's page for a body that is too large.
	HTML413 Canned = "html_413"
	// HTML502 is nginx's page when the service behind it is gone.
	HTML502 Canned = "html_502"
	// Unavailable is a 503 without a body.
	Unavailable Canned = "unavailable"
	// ServerError is a 500 of the Go service; its wording is our guess.
	ServerError Canned = "server_error"
	// LostAnswer takes the data, then breaks the connection off.
	LostAnswer Canned = "lost_answer"
)

// canned holds the faults by name; reads go through Canned.Fault.
var canned = map[Canned]Fault{
	MonthlyQuota:    {Match: MatchIngest, Status: http.StatusTooManyRequests, Body: bodyMonthlyQuota},
	MonthlyQuotaOld: {Match: MatchIngest, Status: http.StatusTooManyRequests, Body: bodyMonthlyOld},
	UserLimit:       {Match: MatchIngest, Status: http.StatusTooManyRequests, Body: bodyUserLimit},
	Throttled:       {Status: http.StatusTooManyRequests, Body: bodyThrottled},
	GatewayRate:     {Status: http.StatusTooManyRequests},
	Unauthorized:    {Status: http.StatusUnauthorized, Body: bodyUnauthorized},
	LegacyKey:       {Status: http.StatusUnauthorized, Body: bodyLegacyKey},
	BadWorkspaceID:  {Status: http.StatusUnauthorized, Body: bodyBadWorkspaceID},
	Forbidden:       {Status: http.StatusForbidden, Body: bodyForbidden},
	NoPlan:          {Status: http.StatusForbidden, Body: bodyNoPlan},
	OrgScoped:       {Status: http.StatusForbidden, Body: bodyOrgScopedGo},
	UIHost:          nginxFault(http.StatusMethodNotAllowed, page405),
	CaptivePortal: nginxFault(http.StatusOK,
		"<html><head><title>Sign in to the network</title></head><body>Please accept the terms.</body></html>"),
	HTML413:     nginxFault(http.StatusRequestEntityTooLarge, page413),
	HTML502:     nginxFault(http.StatusBadGateway, page502),
	Unavailable: {Status: http.StatusServiceUnavailable},
	ServerError: {Status: http.StatusInternalServerError, Body: `{"error":"Internal server error"}` + "\n"},
	LostAnswer:  {Match: MatchIngest, Stage: StageStored, Reset: true},
}

// nginxFault answers with one of nginx's pages.
func nginxFault(status int, html string) Fault {
	a := page(status, html)
	return Fault{Status: a.status, Header: a.header, Body: string(a.body)}
}

// Fault returns the fault that c names, striking once. Quota faults and
// LostAnswer match requests with traces only, the others every request. A name
// that is none of CannedFaults gives a fault that strikes without effect.
func (c Canned) Fault() Fault {
	f := canned[c]
	f.Name = string(c)
	f.Header = f.Header.Clone()
	return f
}

// CannedFaults returns every name, sorted.
func CannedFaults() []Canned {
	names := make([]Canned, 0, len(canned))
	for c := range canned {
		names = append(names, c)
	}
	slices.Sort(names)
	return names
}

// joinCanned lists the names for an error message.
func joinCanned() string {
	var names []string
	for _, c := range CannedFaults() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}
