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
	// UnauthorizedOld is the same as the Python service used to say it.
	UnauthorizedOld Canned = "unauthorized_old"
	// LegacyKey is the 401 for a key of the format before lsv2_.
	LegacyKey Canned = "legacy_key"
	// LegacyKeyOld is the same as the Python service used to say it.
	LegacyKeyOld Canned = "legacy_key_old"
	// BadWorkspaceID is the 401 for an X-Tenant-Id that is not a UUID.
	BadWorkspaceID Canned = "bad_workspace_id"
	// Forbidden is the 403 for an unknown key, a wrong region, a wrong
	// workspace or a missing permission: the body does not say which.
	Forbidden Canned = "forbidden"
	// ForbiddenOld is the same as the Python service used to say it.
	ForbiddenOld Canned = "forbidden_old"
	// NoPlan is the 403 of an organization without a plan.
	NoPlan Canned = "no_plan"
	// OrgScoped is the 403 for an org-wide key that names no workspace.
	OrgScoped Canned = "org_scoped"
	// UIHost is what the host of the web interface answers to a POST.
	UIHost Canned = "ui_host"
	// UIPage is what it answers to a GET, of /info too.
	UIPage Canned = "ui_page"
	// DocsPage is the 404 page of the documentation's host.
	DocsPage Canned = "docs_page"
	// CaptivePortal is a web page where the service should be, with a 200.
	CaptivePortal Canned = "captive_portal"
	// PortalRedirect is a captive portal that sends everybody to its own page.
	PortalRedirect Canned = "portal_redirect"
	// PortalLogin is a captive portal that says what it is (RFC 6585: 511).
	PortalLogin Canned = "portal_login"
	// BlockPage is the 403 page of a company's web filter; its wording is our
	// own.
	BlockPage Canned = "block_page"
	// CloudArmor is the 403 page of Google's load balancer, behind which
	// LangSmith Cloud is; that it words a refusal so is our guess.
	CloudArmor Canned = "cloud_armor"
	// Moved, Found and PermanentRedirect are the 301, 302 and 308 of a front end
	// that wants https. Fault.Redirect may lead elsewhere.
	Moved             Canned = "moved"
	Found             Canned = "found"
	PermanentRedirect Canned = "permanent_redirect"
	// WAFRate is the 429 page of a gateway or web application firewall.
	WAFRate Canned = "waf_rate"
	// IntTooBig is the 422 for an integer beyond 64 bits.
	IntTooBig Canned = "int_too_big"
	// BodyDamaged is the 422 for a multipart body that something on the way has
	// cut short or rewritten.
	BodyDamaged Canned = "body_damaged"
	// BodyUndecodable is the 422 for a body that something on the way has
	// decompressed or compressed again.
	BodyUndecodable Canned = "body_undecodable"
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
	UnauthorizedOld: {Status: http.StatusUnauthorized, Body: bodyUnauthorizedOld},
	LegacyKeyOld:    {Status: http.StatusUnauthorized, Body: bodyLegacyKeyOld},
	ForbiddenOld:    {Status: http.StatusForbidden, Body: bodyForbiddenOld},
	LegacyKey:       {Status: http.StatusUnauthorized, Body: bodyLegacyKey},
	BadWorkspaceID:  {Status: http.StatusUnauthorized, Body: bodyBadWorkspaceID},
	Forbidden:       {Status: http.StatusForbidden, Body: bodyForbidden},
	NoPlan:          {Status: http.StatusForbidden, Body: bodyNoPlan},
	OrgScoped:       {Status: http.StatusForbidden, Body: bodyOrgScopedGo},
	UIHost:          nginxFault(http.StatusMethodNotAllowed, page405),
	UIPage:          htmlFault(http.StatusOK, "nginx", pageUI),
	DocsPage:        htmlFault(http.StatusNotFound, "nginx", pageDocs),
	PortalRedirect: redirectFault(http.StatusFound, "http://portal.invalid/login",
		htmlFault(http.StatusFound, "lighttpd", pagePortal)),
	PortalLogin:       htmlFault(http.StatusNetworkAuthenticationRequired, "lighttpd", pagePortal),
	BlockPage:         htmlFault(http.StatusForbidden, "corporate-webfilter", pageBlocked),
	CloudArmor:        cloudArmor(),
	Moved:             redirectFault(http.StatusMovedPermanently, "https", nginxFault(http.StatusMovedPermanently, page301)),
	Found:             redirectFault(http.StatusFound, "https", nginxFault(http.StatusFound, page302)),
	PermanentRedirect: redirectFault(http.StatusPermanentRedirect, "https", nginxFault(http.StatusPermanentRedirect, page308)),
	WAFRate:           nginxFault(http.StatusTooManyRequests, page429),
	IntTooBig:         {Match: MatchIngest, Status: http.StatusUnprocessableEntity, Body: bodyIntTooBig},
	BodyDamaged:       {Match: MatchIngest, Status: http.StatusUnprocessableEntity, Body: bodyDamaged},
	BodyUndecodable:   {Match: MatchIngest, Status: http.StatusUnprocessableEntity, Body: bodyUndecodable},
	CaptivePortal:     nginxFault(http.StatusOK, pagePortal),
	HTML413:           nginxFault(http.StatusRequestEntityTooLarge, page413),
	HTML502:           nginxFault(http.StatusBadGateway, page502),
	Unavailable:       {Status: http.StatusServiceUnavailable},
	ServerError:       {Status: http.StatusInternalServerError, Body: `{"error":"Internal server error"}` + "\n"},
	LostAnswer:        {Match: MatchIngest, Stage: StageStored, Reset: true},
}

// nginxFault answers with one of nginx's pages.
func nginxFault(status int, html string) Fault {
	a := page(status, html)
	return Fault{Status: a.status, Header: a.header, Body: string(a.body)}
}

// htmlFault answers with a page of some other server.
func htmlFault(status int, server, html string) Fault {
	return Fault{Status: status, Header: http.Header{"Content-Type": {contentHTML}, "Server": {server}}, Body: html}
}

// redirectFault is f leading elsewhere.
func redirectFault(status int, base string, f Fault) Fault {
	f.Status, f.Redirect = status, base
	return f
}

// cloudArmor is Google's page: without a Server header, but with a Via.
func cloudArmor() Fault {
	return Fault{
		Status: http.StatusForbidden, Header: http.Header{"Content-Type": {"text/html; charset=UTF-8"}, "Via": {"1.1 google"}},
		Body: pageArmor,
	}
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
