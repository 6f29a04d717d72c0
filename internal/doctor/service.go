package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"weir/proxy/diagnose"
	"weir/proxy/upstream"
)

const (
	maxReplyBytes = 256 << 10
	apiPrefix     = "/api/v1"

	// The reads that are made, none of which costs a trace (LangSmith API
	// reference).
	pathInfo     = "/info"
	pathSessions = "/sessions?limit=1"
	pathLimits   = "/api/v1/workspaces/current/usage_limits"

	// skewNoticed is what tells hosts apart in a trace; the Date header and the
	// way take up to a second. skewBad puts runs outside LangSmith's windows
	// and months.
	skewNoticed, skewBad = 5 * time.Second, 2 * time.Minute
)

// reply is an answer, or why none came.
type reply struct {
	status  int
	header  http.Header
	body    []byte
	begun   time.Time // when it was asked, by this machine's clock
	elapsed time.Duration
	err     error
}

// asked is what to ask with.
type asked struct {
	client    *upstream.Client
	path      string
	key       string
	workspace string
}

// ask makes one GET on the way that weir takes. It follows no redirect.
func (v *visit) ask(ctx context.Context, a asked) reply {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Step)
	defer cancel()
	base := a.client.BaseURL()
	if strings.HasPrefix(a.path, apiPrefix+"/") {
		base = strings.TrimSuffix(base, apiPrefix)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+a.path, http.NoBody)
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("User-Agent", "weir/"+v.cfg.Version)
	req.Header.Set("Accept", "application/json")
	if a.key != "" {
		req.Header.Set("X-Api-Key", a.key)
	}
	if a.workspace != "" {
		req.Header.Set("X-Tenant-Id", a.workspace)
	}
	r := reply{begun: v.cfg.Now()}
	began := time.Now()
	res, err := a.client.Transport().RoundTrip(req)
	r.elapsed = time.Since(began)
	if err != nil {
		r.err = err
		return r
	}
	defer res.Body.Close() //nolint:errcheck // read only
	r.status, r.header = res.StatusCode, res.Header
	r.body, r.err = io.ReadAll(io.LimitReader(res.Body, maxReplyBytes))
	return r
}

// isPage reports whether a web page came.
func (r *reply) isPage() bool {
	return strings.Contains(r.header.Get("Content-Type"), "text/html") || strings.HasPrefix(strings.TrimSpace(string(r.body)), "<")
}

var titleTag = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// title is the title of a web page.
func (r *reply) title() string {
	if m := titleTag.FindSubmatch(r.body); m != nil {
		return strings.Join(strings.Fields(string(m[1])), " ")
	}
	return "untitled"
}

// text is the status and the beginning of the body.
func (r *reply) text() string {
	if r.err != nil {
		return plainError(r.err)
	}
	body := strings.Join(strings.Fields(string(r.body)), " ")
	if r.isPage() {
		body = "a web page (" + r.title() + ")"
	}
	if runes := []rune(body); len(runes) > 160 {
		body = string(runes[:159]) + "…"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.status, body))
}

func (v *visit) info(ctx context.Context) []Check {
	v.answer = v.ask(ctx, asked{client: v.client, path: pathInfo})
	if c := v.noAPI(&v.answer); c != nil {
		return c
	}
	var told struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(v.answer.body, &told) != nil || told.Version == "" {
		return warn(diagnose.IntermediaryBlock, "the answer to /info names no version: "+v.answer.text(), "Check whether the endpoint is LangSmith's.")
	}
	return good("LangSmith " + told.Version + " answers in " + msText(v.answer.elapsed))
}

// noAPI judges an answer to a call that needs no permission; nil: an API gave
// it.
func (v *visit) noAPI(r *reply) []Check {
	host := v.baseURL.Host
	switch {
	case r.err != nil:
		return fail(diagnose.Network, "no answer: "+r.text(), "Try again; "+keepsTrying)
	case r.status >= 300 && r.status <= 399:
		return v.redirected(r)
	case r.isPage() && r.status == http.StatusNotFound:
		return fail(diagnose.EndpointPath, r.text(), "Check the path of the endpoint: self-hosted LangSmith has its API below /api/v1 or /api.")
	case r.isPage() && strings.Contains(strings.ToLower(r.title()), "langsmith"):
		return fail(diagnose.UIHost, host+" answers with LangSmith's web page, not its API: "+r.text(),
			"Set LANGSMITH_ENDPOINT to the API: "+upstream.DefaultBaseURL+" or that of your region, self-hosted https://HOST/api/v1")
	case r.status >= 500 && r.status != http.StatusNetworkAuthenticationRequired:
		return fail(diagnose.UpstreamIncident, r.text(), "LangSmith, or what stands before it, has trouble: see https://status.smith.langchain.com. "+keepsTrying)
	case r.isPage() || r.status == http.StatusNetworkAuthenticationRequired:
		return fail(diagnose.IntermediaryBlock, "something between here and LangSmith answers in its place: "+r.text(),
			"Log in to the network, or have "+host+" let through.")
	case r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed:
		return fail(diagnose.EndpointPath, r.text(), "Check the path of the endpoint: "+upstream.DefaultBaseURL+", self-hosted https://HOST/api/v1")
	case r.status == http.StatusTooManyRequests:
		return warn(diagnose.RateGateway, r.text(), "Nothing: weir slows down by itself.")
	case r.status != http.StatusOK:
		return fail(diagnose.IntermediaryBlock, "/info, which needs no key, is refused: "+r.text(),
			"Ask whoever runs the gateway before "+host+" to let weir through.")
	}
	return nil
}

func (v *visit) redirected(r *reply) []Check {
	to := r.header.Get("Location")
	if u, err := url.Parse(to); err == nil {
		to = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String() // a query may hold a token
	}
	remedy := "weir follows no redirect, to keep the key from other hosts. If that is LangSmith's API, set LANGSMITH_ENDPOINT to it; if it is a login page, log in to the network."
	return fail(diagnose.Redirect, fmt.Sprintf("%d, redirected to %s", r.status, to), remedy)
}

// clock compares this machine's with the one in the answer.
func (v *visit) clock(context.Context) []Check {
	date, err := http.ParseTime(v.answer.header.Get("Date"))
	if err != nil {
		return skip("skipped: the answer has no date")
	}
	// The date is cut to seconds and was made while the request was under way.
	here := v.answer.begun.Add(v.answer.elapsed / 2)
	skew := here.Sub(date.Add(time.Second / 2))
	seen := fmt.Sprintf("%s %s LangSmith's", skew.Abs().Round(time.Second), map[bool]string{true: "behind", false: "ahead of"}[skew < 0])
	remedy := "Switch on time synchronisation (NTP): runs of hosts whose clocks differ are refused (a child before its parent), or land in another hour or month."
	switch {
	case skew.Abs() >= skewBad:
		return fail(diagnose.ClockSkew, seen, remedy)
	case skew.Abs() >= skewNoticed:
		return warn(diagnose.ClockSkew, seen, remedy)
	}
	return good("agrees with LangSmith's to a few seconds")
}
