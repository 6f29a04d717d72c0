package upstream

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"weir/proxy"
)

// Reasons that are not the bare status ("http_503").
const (
	reasonOK          = "ok"
	reasonPartial     = "partial_success" // taken, with spans rejected
	reasonNotSmith    = "not_langsmith"   // 2xx, but a web page
	reasonCaptive     = "captive_portal"
	reasonProxy       = "proxy" // the proxy on the way refused
	reasonNetwork     = "network"
	reasonDNS         = "dns"
	reasonTLS         = "tls"
	reasonTimeout     = "timeout"
	reasonProtocol    = "protocol"         // no HTTP
	reasonLargeReset  = "reset_large_body" // connection cut under a large upload
	reasonHTTPS       = "https_expected"
	reasonEncoding    = "encoding" // told in words instead of by 415
	reasonRate        = "rate"
	reasonQuota       = "quota" // a usage limit, which one is not said
	reasonQuotaMonth  = "quota_month"
	reasonQuotaHour   = "quota_hour"
	reasonQuotaBytes  = "quota_bytes"
	reasonQuotaMinute = "quota_minute"
	reasonQuotaUser   = "quota_user"
	reasonDuplicate   = "duplicate"         // the upstream has an operation of it already
	reasonNotYet      = "not_found_yet"     // the upstream has not yet what a call is about
	reasonWindow      = "start_time_window" // a run is too old, or from the future
	reasonStopping    = "stopping"
	reasonCorrupt     = "corrupt"     // the stored part cannot be read
	reasonUnreadable  = "unreadable"  // content kept aside cannot be read now
	reasonTooLarge    = "too_large"   // larger than weir sends
	reasonBadHeader   = "bad_header"  // key, workspace or project cannot be a header
	reasonBadRequest  = "bad_request" // weir's own mistake
)

// verdict is what an answer or error means for the request.
type verdict struct {
	kind    proxy.OutcomeKind
	reason  string // empty: http_STATUS
	scope   proxy.Scope
	refusal proxy.RefusalClass
}

// The verdicts, by what they ask of the caller.
var (
	delivered = verdict{kind: proxy.Delivered}

	retryUpstream   = verdict{kind: proxy.Retry, scope: proxy.ScopeUpstream}
	retryCredential = verdict{kind: proxy.Retry, scope: proxy.ScopeCredential}
	retryAccount    = verdict{kind: proxy.Retry, scope: proxy.ScopeAccount}
	retryLane       = verdict{kind: proxy.Retry, scope: proxy.ScopeLane}

	// refusedCredential: the key, in its workspace, on its plan.
	refusedCredential = verdict{kind: proxy.Refused, scope: proxy.ScopeCredential, refusal: proxy.RefusedAccess}
	// refusedPath: the upstream does not serve this path, method or scheme:
	// every lane would fare the same, so one probe is enough for all.
	refusedPath = verdict{kind: proxy.Refused, scope: proxy.ScopeUpstream, refusal: proxy.RefusedAccess}
	// refusedLane: the headers of this lane alone.
	refusedLane = verdict{kind: proxy.Refused, scope: proxy.ScopeLane, refusal: proxy.RefusedAccess}

	refusedSize     = verdict{kind: proxy.Refused, scope: proxy.ScopeLane, refusal: proxy.RefusedSize}
	refusedContent  = verdict{kind: proxy.Refused, scope: proxy.ScopeLane, refusal: proxy.RefusedContent}
	refusedEncoding = verdict{kind: proxy.Refused, scope: proxy.ScopeUpstream, refusal: proxy.RefusedEncoding}

	refusedDuplicate = verdict{kind: proxy.Refused, scope: proxy.ScopeLane, refusal: proxy.RefusedDuplicate}
	refusedNotYet    = verdict{kind: proxy.Refused, scope: proxy.ScopeLane, refusal: proxy.RefusedNotYet}
)

// because returns v with its own reason.
func (v verdict) because(reason string) verdict {
	v.reason = reason
	return v
}

// rule maps answers with a status in [from, to] to a verdict. A rule with a
// condition applies where the condition holds; the first that applies wins.
type rule struct {
	from, to int
	when     func(*answer) bool
	verdict  verdict
}

// rules is the whole table. The meanings of LangSmith's statuses are from its
// API reference (ingest-runs-multipart) and public reports of what it answers;
// none has been verified against the live service. What is not LangSmith's own
// (proxies, gateways, nginx before self-hosted LangSmith) is judged by HTTP.
var rules = []rule{
	// A page instead of an API: nothing was taken, whatever the status says.
	{200, 299, (*answer).isHTML, retryUpstream.because(reasonNotSmith)},
	{200, 299, rejectsSpans, delivered.because(reasonPartial)},
	{200, 299, nil, delivered.because(reasonOK)},

	// A redirect is a wrong base URL. It is not followed: the key would go along.
	{300, 399, nil, refusedPath},

	{400, 400, speaksTLS, refusedPath.because(reasonHTTPS)},
	{400, 400, blamesEncoding, refusedEncoding.because(reasonEncoding)},
	{400, 400, blamesStart, refusedContent.because(reasonWindow)},
	{400, 400, nil, refusedContent},
	{401, 403, nil, refusedCredential},
	// What a call names may come later: feedback overtakes its run.
	{404, 404, callMissesThing, refusedNotYet.because(reasonNotYet)},
	// A route that does not exist concerns everybody; a thing that does not
	// exist (a deleted workspace) concerns who named it.
	{404, 404, namesThing, refusedCredential},
	{404, 406, nil, refusedPath},
	{407, 407, nil, retryUpstream.because(reasonProxy)},
	{408, 408, nil, retryUpstream},
	// Which of several operations it has, and whether it took the others, is
	// not documented.
	{409, 409, isRuns, refusedDuplicate.because(reasonDuplicate)},
	{409, 409, nil, refusedContent}, // unknown for OTLP, whose spans have no operation to repeat
	{410, 410, callMissesThing, refusedContent},
	{410, 410, namesThing, refusedCredential},
	{410, 411, nil, refusedPath},
	{413, 413, nil, refusedSize},
	{414, 414, nil, refusedPath},
	{415, 415, nil, refusedEncoding},
	{421, 421, nil, retryUpstream}, // this connection is for another host; the next is not
	{422, 422, blamesEncoding, refusedEncoding.because(reasonEncoding)},
	{422, 422, blamesStart, refusedContent.because(reasonWindow)},
	{425, 425, nil, retryUpstream},
	{426, 426, nil, refusedPath},
	{429, 429, isQuota, retryAccount.because(reasonQuota)}, // refined by quotaReason
	{429, 429, nil, retryCredential.because(reasonRate)},
	{431, 431, nil, refusedLane}, // the project name is the only header of arbitrary size
	{451, 451, nil, refusedPath},
	{499, 499, nil, retryUpstream}, // nginx: the client of a hop on the way has gone
	{511, 511, nil, retryUpstream.because(reasonCaptive)},
	{400, 499, nil, refusedContent},
}

// classify judges a complete answer. It is pure, and total: what no rule names
// (5xx, and numbers HTTP does not know) is the upstream's trouble and waits.
func classify(a *answer) proxy.Outcome {
	v := retryUpstream
	for _, r := range rules {
		if a.status >= r.from && a.status <= r.to && (r.when == nil || r.when(a)) {
			v = r.verdict
			break
		}
	}
	if v.reason == reasonQuota {
		v.reason = quotaReason(a.text())
	}
	out := v.outcome(a.status)
	if v.kind == proxy.Retry {
		out.RetryAfter, _ = ParseRetryAfter(a.header.Get("Retry-After"), a.date(), a.now)
	}
	return out
}

// outcome makes an outcome of v; status names the reason if v does not.
func (v verdict) outcome(status int) proxy.Outcome {
	reason := v.reason
	if reason == "" {
		reason = statusReason(status)
	}
	return proxy.Outcome{Kind: v.kind, Reason: reason, Scope: v.scope, Refusal: v.refusal}
}

// statusReason names a status. Reasons become metric labels, so statuses that
// nobody defined share one: the server must not choose how many there are.
func statusReason(status int) string {
	switch {
	case http.StatusText(status) != "",
		status == 499,                  // nginx
		status >= 520 && status <= 530, // Cloudflare
		status == 561:                  // AWS load balancer
		return "http_" + strconv.Itoa(status)
	default:
		return "http_other"
	}
}

// rejectsSpans reports an OTLP partial success that left spans out.
func rejectsSpans(a *answer) bool {
	if a.shape != shapeOTLP {
		return false
	}
	rejected, _, _ := a.partialSuccess()
	return rejected > 0
}

// isRuns reports whether the answer is to run operations.
func isRuns(a *answer) bool { return a.shape != shapeOTLP }

// callMissesThing reports whether a call was about something that LangSmith
// does not have ("Run not found"), other than where the key may write.
func callMissesThing(a *answer) bool {
	return a.shape == shapeCall && namesThing(a) && !containsAny(a.text(), "workspace", "tenant", "organization", "api key")
}

// lostAnswer reports whether what answers says that whom it passed a request
// of run operations to may have taken it (RFC 9110, 15.6.3 and 15.6.5; 520 and
// 524 are Cloudflare's). For spans, which may come twice, it does not matter.
func lostAnswer(a *answer) bool {
	switch a.status {
	case http.StatusBadGateway, http.StatusGatewayTimeout, 520, 524:
		return isRuns(a)
	default:
		return false
	}
}

// speaksTLS recognises how nginx, Go and Apache servers answer plain HTTP on a
// TLS port: the base URL says http where it should say https.
func speaksTLS(a *answer) bool {
	return containsAny(a.text(), "plain http request was sent to https port",
		"http request to an https server", "speaking plain http to an ssl-enabled server port")
}

// blamesEncoding recognises a server that names the request's encoding as the
// fault without saying 415. The first is LangSmith's own wording for a damaged
// zstd body; a server that ignores Content-Encoding says that it finds no
// protobuf or no parts. (Of a form that was cut off on the way it says the same;
// to send that again in another encoding is no loss.)
func blamesEncoding(a *answer) bool {
	if a.encoding.header() == "" {
		return false
	}
	text := a.text()
	return containsAny(text, "decompress", "unknown frame descriptor", "content-encoding", "content encoding") ||
		a.encoding == EncodingZstd && containsAny(text, "wire-format", "wire format", "illegal wiretype") ||
		a.shape == shapeRuns && containsAny(text, "multipart: nextpart", "boundary character")
}

// blamesStart recognises an upstream that finds a start too far from now. How
// LangSmith words that is not known: these are words that it could hardly do
// without (LangSmith data migration tool, PR 98 and 152).
func blamesStart(a *answer) bool {
	text := a.text()
	return containsAny(text, "start_time", "start time", "start-time") &&
		containsAny(text, "window", "hours", "too old", "in the past", "in the future", "too far")
}

// namesThing tells a 404 about some thing from one about the route. Both
// generations of LangSmith answer unknown routes with "Not Found" or a page.
func namesThing(a *answer) bool {
	var body struct {
		Error  string `json:"error"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(a.body, &body) != nil {
		return false
	}
	what := strings.ToLower(strings.Trim(body.Error+body.Detail, " .\n"))
	return what != "" && what != "not found" && !strings.Contains(what, "page not found") && !strings.Contains(what, "no route")
}

// isQuota tells a plan's usage limit from a gateway's request rate.
func isQuota(a *answer) bool {
	return containsAny(a.text(), "usage limit", "usage_limit", "usagelimit", "user_defined_", "events_ingested_per_", "total_unique_traces")
}

// quotaKinds maps words in a quota 429 to its kind; the first match wins. Only
// the monthly sentence has been seen in public ("Monthly unique traces usage
// limit exceeded"); the others are the names LangSmith's API gives its limits.
var quotaKinds = []struct {
	words  *regexp.Regexp
	reason string
}{
	{regexp.MustCompile(`(?i)user_defined|monthly_(?:longlived_)?traces`), reasonQuotaUser},
	{regexp.MustCompile(`(?i)month|total_unique_traces`), reasonQuotaMonth},
	{regexp.MustCompile(`(?i)minute`), reasonQuotaMinute},
	{regexp.MustCompile(`(?i)payload|bytes?\b`), reasonQuotaBytes},
	{regexp.MustCompile(`(?i)hour`), reasonQuotaHour},
}

func quotaReason(text string) string {
	for _, k := range quotaKinds {
		if k.words.MatchString(text) {
			return k.reason
		}
	}
	return reasonQuota
}

// containsAny reports whether s contains one of the lower-case words, in any
// letter case.
func containsAny(s string, words ...string) bool {
	s = strings.ToLower(s)
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
