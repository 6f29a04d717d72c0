package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"weir/proxy/diagnose"
)

// tenants is what the answers say about the workspace that is reached.
type tenants struct {
	named   reply // asked with the workspace of the configuration, if any
	without reply // asked without
	id      string
}

const page = "Settings > API Keys"

// key asks for a list of one project, with the workspace and, if that is
// refused, without it.
func (v *visit) key(ctx context.Context) []Check {
	if v.apiKey() == "" {
		return skip("skipped: weir has no key of its own")
	}
	q := asked{client: v.client, path: pathSessions, key: v.apiKey()}
	if v.passed["workspace_form"] {
		q.workspace = v.workspaceID()
	}
	r := v.ask(ctx, q)
	v.tenants.named = r
	if q.workspace != "" && (r.status == http.StatusForbidden || r.status == http.StatusUnauthorized) {
		q.workspace = ""
		v.tenants.without = v.ask(ctx, q)
		if v.tenants.without.status == http.StatusOK || saysOrgScoped(&v.tenants.without) {
			return good("LangSmith takes it, but not with this workspace")
		}
	}
	v.tenants.id = tenantOf(r.body)
	switch {
	case r.err != nil:
		return fail(diagnose.Network, "no answer: "+r.text(), "Try again; "+keepsTrying)
	case r.status == http.StatusOK && !r.isPage():
		return good("LangSmith takes it for reading; only a trace shows whether it may write (`weir send-test`)")
	case saysOrgScoped(&r):
		return good("LangSmith takes it, but wants a workspace")
	case r.status == http.StatusUnauthorized:
		return refusedKey(&r)
	case r.status == http.StatusForbidden && !r.isPage():
		return v.forbiddenKey(&r)
	case r.status == http.StatusNotFound:
		return fail(diagnose.EndpointPath, r.text(), "Check the path of the endpoint.")
	}
	if c := v.noAPI(&r); c != nil {
		return c
	}
	return fail(diagnose.Unknown, r.text(), "Look the answer up in LangSmith's documentation.")
}

// refusedKey judges a 401, which LangSmith gives to keys of a wrong form (public
// reports: langsmith-sdk issues 1201 and 1412, LangChain forum 2524).
func refusedKey(r *reply) []Check {
	low := strings.ToLower(string(r.body))
	switch {
	case strings.Contains(low, "v1 api key"), strings.Contains(low, "legacy api key"):
		return fail(diagnose.KeyLegacy, r.text(), "LangSmith sees a key of the old form. Make an lsv2_ key at "+page+".")
	case strings.Contains(low, "valid uuid"):
		return fail(diagnose.WorkspaceNotUUID, r.text(), "Set LANGSMITH_WORKSPACE_ID to a UUID, or remove it.")
	}
	return fail(diagnose.KeyMalformed, "the key does not count as one: "+r.text(), "Make a new key at "+page+" and set LANGSMITH_API_KEY to it.")
}

// forbiddenKey judges a 403, whose body does not tell the causes apart.
func (v *visit) forbiddenKey(r *reply) []Check {
	if strings.Contains(strings.ToLower(string(r.body)), "no plan found") {
		return fail(diagnose.PlanMissing, r.text(), "Finish the set-up at Settings > Billing.")
	}
	remedy := "It was revoked or mistyped, or belongs to another region: compare " + v.cfg.Key.From + " with " + page + "."
	if !v.cfg.Regions {
		remedy += " `weir doctor --regions` asks the other regions, which sends the key there."
	}
	return fail(diagnose.KeyRevoked, v.baseURL.Host+" does not know the key: "+r.text(), remedy)
}

// saysOrgScoped reports whether a key is refused only for want of a workspace:
// the ingest service and the older one word it differently (langsmith-sdk).
func saysOrgScoped(r *reply) bool {
	body := strings.ToLower(string(r.body))
	return r.status == http.StatusForbidden && (strings.Contains(body, "org_scoped_key_requires_workspace") || strings.Contains(body, "key is org-scoped"))
}

// tenantOf is the workspace that a list of projects is from, or nothing.
func tenantOf(body []byte) string {
	var projects []struct {
		TenantID string `json:"tenant_id"`
	}
	if json.Unmarshal(body, &projects) != nil || len(projects) == 0 {
		return ""
	}
	return projects[0].TenantID
}

func (v *visit) workspace(context.Context) []Check {
	named, id := &v.tenants.named, v.workspaceID()
	switch {
	case saysOrgScoped(named):
		return fail(diagnose.WorkspaceRequired, "the key is for a whole organisation: "+named.text(),
			"Set LANGSMITH_WORKSPACE_ID to the id that Settings > Workspaces shows, a UUID.")
	case id != "" && named.status != http.StatusOK:
		remedy := "Remove LANGSMITH_WORKSPACE_ID, or set it to a workspace of the key's organisation."
		if saysOrgScoped(&v.tenants.without) {
			remedy = "Set LANGSMITH_WORKSPACE_ID to a workspace of the key's organisation: without one, such a key is refused, too."
		}
		return fail(diagnose.WorkspaceMismatch, "the key may not use workspace "+id+": "+named.text(), remedy)
	case id == "" && v.tenants.id == "":
		return good("the one the key belongs to")
	case id == "":
		return good("the one the key belongs to, " + v.tenants.id)
	}
	return good("the key may use " + id)
}

// usageLimits asks whether LangSmith takes new traces. Reads go on while it does
// not, so that the other checks say nothing about it.
func (v *visit) usageLimits(ctx context.Context) []Check {
	r := v.ask(ctx, asked{client: v.client, path: pathLimits, key: v.apiKey(), workspace: v.workspaceID()})
	var told struct {
		Rejecting *bool  `json:"in_reject_set"`
		Kind      string `json:"usage_limit_type"`
		Limit     *int64 `json:"tenant_limit"`
	}
	if r.err != nil || r.status != http.StatusOK || json.Unmarshal(r.body, &told) != nil || told.Rejecting == nil {
		return good("not known: " + r.text())
	}
	if !*told.Rejecting {
		return good("LangSmith takes new traces")
	}
	cause, remedy := limitCause(told.Kind)
	seen := "LangSmith refuses new traces: " + told.Kind
	if told.Limit != nil {
		seen += fmt.Sprintf(", limit %d", *told.Limit)
	}
	return fail(cause, seen, remedy)
}

// limitCause tells LangSmith's kinds of limits (LangSmith API reference: usage
// limits info).
func limitCause(kind string) (cause diagnose.Code, remedy string) {
	const held = " weir keeps what it takes on disk."
	switch {
	case strings.HasPrefix(kind, "user_defined"):
		return diagnose.QuotaUserLimit, "Raise the limit at Settings > Usage configuration, or wait for the next month." + held
	case kind == "total_unique_traces":
		return diagnose.QuotaMonth, "The plan's traces of this month are used: add a card or raise the plan at Settings > Billing, or wait for the 1st, 00:00 UTC." + held
	case kind == "events_ingested_per_hour":
		return diagnose.RateHourEvents, "Nothing: it ends with the hour." + held
	case kind == "payload_size":
		return diagnose.RateHourBytes, "Nothing: it ends with the hour." + held
	case kind == "events_ingested_per_minute":
		return diagnose.RateGateway, "Nothing: it ends with the minute." + held
	}
	return diagnose.Unknown, "See Settings > Usage." + held
}

// regions asks LangSmith's regions for the key, all at once.
func (v *visit) regions(ctx context.Context) []Check {
	switch {
	case !v.cfg.Regions:
		return skip("not asked: --regions sends the key to LangSmith's other regions")
	case v.apiKey() == "":
		return skip("skipped: weir has no key of its own")
	}
	replies := make([]reply, len(v.cfg.RegionURLs))
	var asks sync.WaitGroup
	for i, base := range v.cfg.RegionURLs {
		asks.Go(func() { replies[i] = v.askRegion(ctx, base) })
	}
	asks.Wait()
	var seen, known []string
	for i, base := range v.cfg.RegionURLs {
		host := hostOf(base)
		seen = append(seen, host+" "+regionText(&replies[i]))
		if replies[i].status == http.StatusOK || saysOrgScoped(&replies[i]) {
			known = append(known, base)
		}
	}
	text := "the key was sent to each: " + strings.Join(seen, ", ")
	own := v.baseURL != nil && v.passed["key"]
	switch {
	case own:
		return good(text)
	case len(known) > 0:
		return fail(diagnose.RegionMismatch, text, "The key is of another region. Set LANGSMITH_ENDPOINT="+known[0])
	}
	return warn(diagnose.KeyRevoked, text, "No region takes the key: make a new one at "+page+".")
}

// askRegion asks one region, without a workspace: that of another region would
// be refused anyway.
func (v *visit) askRegion(ctx context.Context, base string) reply {
	client, err := v.connect(base)
	if err != nil {
		return reply{err: err}
	}
	r := v.ask(ctx, asked{client: client, path: pathSessions, key: v.apiKey()})
	if err := client.Close(); err != nil && r.err == nil {
		r.err = err
	}
	return r
}

func regionText(r *reply) string {
	switch {
	case r.err != nil && errors.Is(r.err, context.DeadlineExceeded):
		return "does not answer in time"
	case r.err != nil:
		return "cannot be reached"
	case r.status == http.StatusOK || saysOrgScoped(r):
		return "takes it"
	}
	return fmt.Sprintf("refuses it (%d)", r.status)
}

func hostOf(base string) string {
	if u, err := url.Parse(base); err == nil {
		return u.Host
	}
	return base
}
