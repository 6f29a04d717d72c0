package live

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// freeQuestions cost no trace.
var freeQuestions = []question{
	{id: "info_key", text: "Does /info want a key?", sw: "info_needs_key", ask: askInfo},
	{id: "clock_skew", text: "How far is the Date header from this machine's clock?", ask: askSkew},
	{id: "usage_limits", text: "May this key read usage_limits?", ask: askLimits},
	{id: "granular_usage", text: "May this key read granular-usage?", ask: askUsage},
	{id: "org_info", text: "Which fields has /orgs/current/info?", ask: askFields("/api/v1/orgs/current/info")},
	{id: "org_billing", text: "Which fields has /orgs/current/billing?", ask: askFields("/api/v1/orgs/current/billing")},
	{id: "unknown_workspace", text: "What is answered for a workspace that does not exist?", ask: askWorkspace},
	{id: "unknown_key", text: "What is answered to a well-formed key that does not exist?", ask: askUnknownKey},
	{id: "no_key", text: "What is answered without a key?", ask: askNoKey},
	{id: "otlp_unknown_key", text: "Does the OTLP endpoint look at the key before it answers?", ask: askOTLPKey},
	{id: "empty_batch", text: "Is an empty batch a free probe of the right to write?", sw: "empty_batch", ask: askEmptyBatch},
}

// strangeKey has the form of a key, and is none.
const strangeKey = "lsv2_pt_00000000000000000000000000000000_0000000000"

func askInfo(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathInfo, noKey: true})
	if a.status != http.StatusOK {
		return found("needs_key", "without a key: %s", a.word())
	}
	var info struct {
		Version string         `json:"version"`
		Flags   map[string]any `json:"instance_flags"`
	}
	if json.Unmarshal(a.body, &info) != nil {
		return found(answerUnknown, "the answer is not JSON")
	}
	return found("open", "version %s, zstd_compression_enabled %v, gzip_body_enabled %v",
		info.Version, info.Flags["zstd_compression_enabled"], info.Flags["gzip_body_enabled"])
}

func askSkew(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathInfo})
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return found("no_date", "%s without a Date", a.word())
	}
	// A Date has whole seconds, cut off: what is less than two says nothing.
	skew := date.Add(time.Second / 2).Sub(a.sent.Add(a.got.Sub(a.sent) / 2))
	if skew.Abs() < 2*time.Second {
		skew = 0
	}
	return found(skew.Round(5*time.Second).String(), "the server's clock less this machine's, to five seconds")
}

func askLimits(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathLimits})
	var u struct {
		Rejecting *bool  `json:"in_reject_set"`
		Type      string `json:"usage_limit_type"`
		Limit     *int64 `json:"tenant_limit"`
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &u) != nil || u.Rejecting == nil {
		return found(a.word(), "%s", a.text())
	}
	limit := "none"
	if u.Limit != nil {
		b, _ := json.Marshal(*u.Limit) // a number
		limit = string(b)
	}
	return found("readable", "in_reject_set %t, usage_limit_type %q, tenant_limit %s", *u.Rejecting, u.Type, limit)
}

func askUsage(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathSessions})
	var sessions []struct {
		Tenant string `json:"tenant_id"`
	}
	if json.Unmarshal(a.body, &sessions) != nil || len(sessions) == 0 {
		return found(answerUnknown, "the workspace has no project that would name it")
	}
	now := time.Now().UTC()
	query := url.Values{
		"start_time": {now.Add(-48 * time.Hour).Format(time.RFC3339)}, "end_time": {now.Format(time.RFC3339)},
		"workspace_ids": {sessions[0].Tenant}, "group_by": {"workspace"},
	}
	a = q.do(ctx, call{path: pathUsage + "?" + query.Encode()})
	q.exchanges[len(q.exchanges)-1].Path = pathUsage // the query names the workspace
	if a.status == http.StatusOK {
		return found("readable", "")
	}
	return found(a.word(), "%s", strings.ReplaceAll(a.text(), sessions[0].Tenant, "WORKSPACE"))
}

// askFields lists the names of an answer's fields, and no value.
func askFields(path string) func(context.Context, *asker) finding {
	return func(ctx context.Context, q *asker) finding {
		a := q.do(ctx, call{path: path})
		var fields map[string]json.RawMessage
		if a.status != http.StatusOK || json.Unmarshal(a.body, &fields) != nil {
			return found(a.word(), "%s", a.text())
		}
		return found("readable", "%s", strings.Join(slices.Sorted(maps.Keys(fields)), " "))
	}
}

func askWorkspace(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathSessions, header: map[string]string{"X-Tenant-Id": newUUID(time.Now()).String()}})
	return found(a.word(), "%s", refusalText(&a))
}

func askUnknownKey(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathSessions, key: strangeKey})
	return found(a.word(), "%s", refusalText(&a))
}

func askNoKey(ctx context.Context, q *asker) finding {
	a := q.do(ctx, call{path: pathSessions, noKey: true})
	return found(a.word(), "%s", refusalText(&a))
}

// refusalText is the body of a refusal; other bodies are the user's own.
func refusalText(a *answer) string {
	if a.ok() {
		return ""
	}
	return a.text()
}

// askOTLPKey sends a span under a key that does not exist: nobody pays for it.
func askOTLPKey(ctx context.Context, q *asker) finding {
	c := sendOTLP(q.cfg.Project, "", export(newTrace(time.Now()).rootSpan("nobody's")), 0)
	c.key = strangeKey
	a := q.do(ctx, c)
	return found(a.word(), "%s", a.text())
}

func askEmptyBatch(ctx context.Context, q *asker) finding {
	empty := call{path: pathBatch, body: []byte(`{"post":[],"patch":[]}`), header: map[string]string{"Content-Type": jsonType}}
	own := q.do(ctx, empty)
	empty.key = strangeKey
	strange := q.do(ctx, empty)
	switch {
	case !own.ok():
		return found(own.word(), "%s", own.text())
	case strange.ok():
		return found("takes_any_key", "%s for this key, %s for one that does not exist", own.word(), strange.word())
	default:
		return found("works", "%s for this key, %s for one that does not exist", own.word(), strange.word())
	}
}
