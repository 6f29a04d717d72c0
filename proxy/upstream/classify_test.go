package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"weir/proxy"
)

const (
	nginx405 = "<html>\r\n<head><title>405 Not Allowed</title></head>\r\n<body>\r\n<center><h1>405 Not Allowed</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	nginx413 = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	nginxTLS = "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
	noParts  = `{"error":"Unprocessable entity: error reading multipart data: multipart: NextPart: EOF"}`
	loginWeb = "  \n<!DOCTYPE html><html><body>Please log in to the hotel's network</body></html>"
)

// Expected outcomes of the classification.
var (
	wantCredential = func(reason string) want {
		return want{proxy.Refused, reason, proxy.ScopeCredential, proxy.RefusedAccess}
	}
	wantPath = func(reason string) want {
		return want{proxy.Refused, reason, proxy.ScopeUpstream, proxy.RefusedAccess}
	}
	wantContent = func(reason string) want {
		return want{proxy.Refused, reason, proxy.ScopeLane, proxy.RefusedContent}
	}
	wantEncoding = func(reason string) want {
		return want{proxy.Refused, reason, proxy.ScopeUpstream, proxy.RefusedEncoding}
	}
	wantLimit = func(reason string) want { return want{kind: proxy.Retry, reason: reason, scope: proxy.ScopeAccount} }
	wantRate  = func(reason string) want { return want{kind: proxy.Retry, reason: reason, scope: proxy.ScopeCredential} }
	wantSize  = func(reason string) want {
		return want{proxy.Refused, reason, proxy.ScopeLane, proxy.RefusedSize}
	}
)

func TestClassifyAnswers(t *testing.T) {
	const json, html = "application/json", "text/html; charset=utf-8"
	tests := []struct {
		name        string
		status      int
		contentType string
		body        string
		want        want
	}{
		{"200 empty", 200, "", "", wantDelivered},
		{"200 protobuf", 200, "application/x-protobuf", "", wantDelivered},
		{"200 JSON", 200, json, "{}", wantDelivered},
		{"200 JSON of its own kind", 200, json, `{"message":"ok"}`, wantDelivered},
		{"200 damaged protobuf", 200, "application/x-protobuf", "\xff\xff", wantDelivered},
		{"202", 202, json, "null", wantDelivered},
		{"204", 204, "", "", wantDelivered},
		{"200 text", 200, "text/plain", "ok", wantDelivered},
		{"200 web page", 200, html, "<p>welcome", wantRetry("not_langsmith")},
		{"200 XHTML", 200, "application/xhtml+xml", "<html/>", wantRetry("not_langsmith")},
		{"200 web page without a type", 200, "", loginWeb, wantRetry("not_langsmith")},
		{"200 web page called text", 200, "text/plain", "\ufeff<HTML>", wantRetry("not_langsmith")},
		{"204 of type HTML", 204, html, "", wantRetry("not_langsmith")},
		{"200 partial success", 200, json, `{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}`, want{kind: proxy.Delivered, reason: "partial_success"}},
		{"200 warning only", 200, json, `{"partialSuccess":{"errorMessage":"80 % of the quota is used"}}`, wantDelivered},
		{"200 negative partial success", 200, json, `{"partialSuccess":{"rejectedSpans":"-3"}}`, wantDelivered},

		{"301", 301, html, "", wantPath("http_301")},
		{"302", 302, "", "", wantPath("http_302")},
		{"304", 304, "", "", wantPath("http_304")},
		{"307", 307, "", "", wantPath("http_307")},
		{"308", 308, "", "", wantPath("http_308")},

		{"400 dotted order", 400, json, `{"error":"Bad request: invalid 'dotted_order': ... for run_id:1 trace_id:1"}` + "\n", wantContent("http_400")},
		{"400 empty", 400, "", "", wantContent("http_400")},
		{"400 plain HTTP to nginx's TLS port", 400, html, nginxTLS, wantPath("https_expected")},
		{"400 plain HTTP to Go's TLS port", 400, "text/plain", "Client sent an HTTP request to an HTTPS server.\n", wantPath("https_expected")},
		{"400 blames the compression", 400, json, `{"error":"failed to decompress body"}`, wantEncoding("encoding")},
		{"401", 401, json, `{"error":"Unauthorized"}` + "\n", wantCredential("http_401")},
		{"401 older", 401, json, `{"detail":"Invalid token"}`, wantCredential("http_401")},
		{"401 workspace is no UUID", 401, json, `{"detail":"UUID header value was not a valid UUID"}`, wantCredential("http_401")},
		{"402", 402, "", "", wantCredential("http_402")},
		{"403", 403, json, `{"error":"Forbidden"}` + "\n", wantCredential("http_403")},
		{"403 older", 403, json, `{"detail":"Forbidden"}`, wantCredential("http_403")},
		{"403 workspace missing", 403, json, `{"error":"org_scoped_key_requires_workspace","message":"This API key is org-scoped"}`, wantCredential("http_403")},
		{"403 no plan", 403, json, `{"error":"Forbidden - no plan found"}`, wantCredential("http_403")},
		{"403 block page", 403, html, "<html>blocked", wantCredential("http_403")},
		{"404 route, Python", 404, json, `{"detail":"Not Found"}`, wantPath("http_404")},
		{"404 route, Go", 404, "text/plain", "404 page not found\n", wantPath("http_404")},
		{"404 page", 404, html, "<html>", wantPath("http_404")},
		{"404 thing", 404, json, `{"detail":"Workspace not found"}`, wantCredential("http_404")},
		{"405 web page's host", 405, html, nginx405, wantPath("http_405")},
		{"406", 406, "", "", wantPath("http_406")},
		{"407", 407, html, "", wantRetry("proxy")},
		{"408", 408, "", "", wantRetry("http_408")},
		{"409", 409, json, `{"error":"Conflict: payload already received: payloads already received"}`, wantContent("http_409")},
		{"410", 410, "", "", wantPath("http_410")},
		{"410 thing", 410, json, `{"error":"project was deleted"}`, wantCredential("http_410")},
		{"411", 411, "", "", wantPath("http_411")},
		{"412", 412, "", "", wantContent("http_412")},
		{"413 nginx", 413, html, nginx413, wantSize("http_413")},
		{"414", 414, "", "", wantPath("http_414")},
		{"415", 415, "", "", wantEncoding("http_415")},
		{"418", 418, "", "", wantContent("http_418")},
		{"421", 421, "", "", wantRetry("http_421")},
		{"422", 422, json, `{"error":"Unprocessable entity: invalid batch JSON: batch schema error"}`, wantContent("http_422")},
		{"422 blames the compression", 422, json, `{"error":"Unprocessable entity: failed to decompress: Unknown frame descriptor"}`, wantEncoding("encoding")},
		{"422 takes zstd for protobuf", 422, json, `{"error":"proto: cannot parse invalid wire-format data"}`, wantEncoding("encoding")},
		{"425", 425, "", "", wantRetry("http_425")},
		{"426", 426, "", "", wantPath("http_426")},
		{"431", 431, "", "", want{proxy.Refused, "http_431", proxy.ScopeLane, proxy.RefusedAccess}},
		{"451", 451, "", "", wantPath("http_451")},
		{"499", 499, "", "", wantRetry("http_499")},
		{"4xx nobody knows", 477, "", "", wantContent("http_other")},

		{"429 monthly", 429, json, `{"error":"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded"}` + "\n", wantLimit("quota_month")},
		{"429 monthly, older", 429, json, `{"detail":"Monthly unique traces usage limit exceeded"}`, wantLimit("quota_month")},
		{"429 by its name", 429, json, `{"error":"tenant exceeded usage limits: total_unique_traces"}`, wantLimit("quota_month")},
		{"429 set by the organisation", 429, json, `{"error":"usage limit monthly_longlived_traces of 5000 exceeded"}`, wantLimit("quota_user")},
		{"429 set by the user", 429, json, `{"error":"user_defined_monthly_traces"}`, wantLimit("quota_user")},
		{"429 hourly events", 429, json, `{"error":"Too many requests: tenant exceeded usage limits: Hourly events usage limit exceeded"}`, wantLimit("quota_hour")},
		{"429 hourly events by name", 429, json, `{"error":"events_ingested_per_hour"}`, wantLimit("quota_hour")},
		{"429 hourly bytes", 429, json, `{"error":"tenant exceeded usage limits: payload_size"}`, wantLimit("quota_bytes")},
		{"429 by the minute", 429, json, `{"error":"events_ingested_per_minute"}`, wantLimit("quota_minute")},
		{"429 some limit", 429, json, `{"error":"tenant exceeded usage limits"}`, wantLimit("quota")},
		{"429 rate", 429, json, `{"detail":"Too many requests"}`, wantRate("rate")},
		{"429 empty", 429, "", "", wantRate("rate")},
		{"429 page", 429, html, "<html>slow down", wantRate("rate")},

		{"500", 500, json, `{"error":"Internal server error"}`, wantRetry("http_500")},
		{"501", 501, "", "", wantRetry("http_501")},
		{"502", 502, html, "<html>", wantRetry("http_502")},
		{"503", 503, "", "", wantRetry("http_503")},
		{"504", 504, "", "", wantRetry("http_504")},
		{"505", 505, "", "", wantRetry("http_505")},
		{"511 captive portal", 511, html, loginWeb, wantRetry("captive_portal")},
		{"530 Cloudflare", 530, html, "", wantRetry("http_530")},
		{"599", 599, "", "", wantRetry("http_other")},
		{"beyond HTTP", 999, "", "", wantRetry("http_other")},
		{"below HTTP", 101, "", "", wantRetry("http_101")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &answer{status: tt.status, header: http.Header{}, body: []byte(tt.body), encoding: EncodingZstd, now: time.Now()}
			if tt.contentType != "" {
				a.header.Set("Content-Type", tt.contentType)
			}
			check(t, classify(a), tt.want)
		})
	}
}

func TestClassifyAnswersToRuns(t *testing.T) {
	wantDuplicate := want{proxy.Refused, "duplicate", proxy.ScopeLane, proxy.RefusedDuplicate}
	wantNotYet := want{proxy.Refused, "not_found_yet", proxy.ScopeLane, proxy.RefusedNotYet}
	tests := []struct {
		status     int
		body       string
		runs, call want
	}{
		{202, "{}", wantDelivered, wantDelivered},
		{200, "", wantDelivered, wantDelivered},
		{200, `{"partialSuccess":{"rejectedSpans":"3"}}`, wantDelivered, wantDelivered}, // OTLP's word alone
		{200, loginWeb, wantRetry("not_langsmith"), wantRetry("not_langsmith")},
		{301, "", wantPath("http_301"), wantPath("http_301")},
		{400, `{"error":"Bad request: invalid 'dotted_order': invalid timestamp"}`, wantContent("http_400"), wantContent("http_400")},
		{400, `{"error":"start_time is outside a 24-hour window"}`, wantContent("start_time_window"), wantContent("start_time_window")},
		{422, `{"detail":"Start time is too far in the past"}`, wantContent("start_time_window"), wantContent("start_time_window")},
		{422, `{"detail":"start_time must be an ISO 8601 timestamp"}`, wantContent("http_422"), wantContent("http_422")},
		{401, `{"detail":"Invalid token"}`, wantCredential("http_401"), wantCredential("http_401")},
		{403, `{"error":"Forbidden"}`, wantCredential("http_403"), wantCredential("http_403")},
		{403, `{"error":"org_scoped_key_requires_workspace"}`, wantCredential("http_403"), wantCredential("http_403")},
		{404, "404 page not found\n", wantPath("http_404"), wantPath("http_404")},
		{404, `{"detail":"Not Found"}`, wantPath("http_404"), wantPath("http_404")},
		{404, "", wantPath("http_404"), wantPath("http_404")},
		{404, `{"detail":"Run not found"}`, wantCredential("http_404"), wantNotYet},
		{404, `{"error":"feedback does not exist"}`, wantCredential("http_404"), wantNotYet},
		{404, `{"detail":"Workspace not found"}`, wantCredential("http_404"), wantCredential("http_404")},
		{404, `{"detail":"Tenant not found"}`, wantCredential("http_404"), wantCredential("http_404")},
		{405, nginx405, wantPath("http_405"), wantPath("http_405")},
		{409, `{"error":"Conflict: payload already received: payloads already received"}`, wantDuplicate, wantDuplicate},
		{409, `{"detail":"Run already exists"}`, wantDuplicate, wantDuplicate},
		{409, "", wantDuplicate, wantDuplicate},
		{410, `{"detail":"Run was deleted"}`, wantCredential("http_410"), wantContent("http_410")},
		{410, "", wantPath("http_410"), wantPath("http_410")},
		{413, nginx413, wantSize("http_413"), wantSize("http_413")},
		{415, "", wantEncoding("http_415"), wantEncoding("http_415")},
		{422, `{"error":"Unprocessable entity: invalid batch JSON: batch schema error post.0.session_id"}`, wantContent("http_422"), wantContent("http_422")},
		{422, noParts, wantEncoding("encoding"), wantContent("http_422")},
		{422, `{"error":"Unprocessable entity: failed to decompress: Unknown frame descriptor"}`, wantEncoding("encoding"), wantContent("http_422")},
		{429, `{"error":"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded"}`, wantLimit("quota_month"), wantLimit("quota_month")},
		{429, "", wantRate("rate"), wantRate("rate")},
		{431, "", want{proxy.Refused, "http_431", proxy.ScopeLane, proxy.RefusedAccess}, want{proxy.Refused, "http_431", proxy.ScopeLane, proxy.RefusedAccess}},
		{500, `{"error":"Internal server error"}`, wantRetry("http_500"), wantRetry("http_500")},
		{502, "<html>", wantRetry("http_502"), wantRetry("http_502")},
		{503, "", wantRetry("http_503"), wantRetry("http_503")},
		{504, "", wantRetry("http_504"), wantRetry("http_504")},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d %.40s", tt.status, tt.body), func(t *testing.T) {
			a := &answer{shape: shapeRuns, status: tt.status, header: http.Header{}, body: []byte(tt.body), encoding: EncodingZstd}
			if strings.HasPrefix(tt.body, "{") {
				a.header.Set("Content-Type", "application/json")
			}
			check(t, classify(a), tt.runs)
			a.shape, a.encoding = shapeCall, EncodingIdentity
			check(t, classify(a), tt.call)
		})
	}
}

func TestClassifyBlamesNoEncodingWhereNoneWasUsed(t *testing.T) {
	a := &answer{status: 400, header: http.Header{}, body: []byte("failed to decompress attribute; invalid wire-format data"), encoding: EncodingIdentity}
	check(t, classify(a), wantContent("http_400"))
	a.encoding, a.body = EncodingGzip, []byte("invalid wire-format data")
	check(t, classify(a), wantContent("http_400"))
}

func TestClassifyReadsRetryAfterByTheServersClock(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	server := now.Add(48 * time.Hour)
	a := &answer{status: 503, header: http.Header{}, now: now}
	a.header.Set("Date", server.Format(http.TimeFormat))
	a.header.Set("Retry-After", server.Add(20*time.Second).Format(http.TimeFormat))
	if got := classify(a).RetryAfter; got != 20*time.Second {
		t.Errorf("RetryAfter = %v, want 20s", got)
	}
	a.status = 403
	if got := classify(a).RetryAfter; got != 0 {
		t.Errorf("RetryAfter of a refusal = %v, want none", got)
	}
}

func TestAnswerTextReadsProtobuf(t *testing.T) {
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	header := http.Header{"Content-Type": {"application/x-protobuf"}}
	limit := &answer{status: 429, header: header, body: marshal(&status.Status{Code: 8, Message: "Monthly unique traces usage limit exceeded"})}
	check(t, classify(limit), wantLimit("quota_month"))

	partial := &answer{status: 200, header: header, body: marshal(&tracecollector.ExportTraceServiceResponse{
		PartialSuccess: &tracecollector.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "too old"},
	})}
	check(t, classify(partial), want{kind: proxy.Delivered, reason: "partial_success"})
	if got := partial.text(); got != "too old" {
		t.Errorf("text = %q, want the message", got)
	}
}

func TestClassifyFailures(t *testing.T) {
	op := func(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }
	sys := func(e syscall.Errno) error { return os.NewSyscallError("write", e) }
	tests := []struct {
		name string
		err  error
		size int64
		want want
	}{
		{"connection refused", op("dial", sys(syscall.ECONNREFUSED)), 10, wantRetry("network")},
		{"no route", op("dial", sys(syscall.EHOSTUNREACH)), 10, wantRetry("network")},
		{"dial timeout", op("dial", os.ErrDeadlineExceeded), 10, wantRetry("timeout")},
		{"name unknown", op("dial", &net.DNSError{Err: "no such host", Name: "api.smith.langchain.com", IsNotFound: true}), 10, wantRetry("dns")},
		{"name server slow", &net.DNSError{Err: "i/o timeout", IsTimeout: true}, 10, wantRetry("dns")},
		{"unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, 10, wantRetry("tls")},
		{"expired certificate", x509.CertificateInvalidError{Reason: x509.Expired}, 10, wantRetry("tls")},
		{"certificate of another host", fmt.Errorf("handshake: %w", x509.HostnameError{Certificate: &x509.Certificate{}}), 10, wantRetry("tls")},
		{"not TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, 10, wantRetry("tls")},
		{"TLS alert", op("remote error", tls.AlertError(40)), 10, wantRetry("tls")},
		{"HTTP on a TLS port", errors.New("http: server gave HTTP response to HTTPS client"), 10, wantRetry("tls")},
		{"TLS handshake timeout", errors.New("net/http: TLS handshake timeout"), 10, wantRetry("tls")},
		{"proxy unreachable", op("proxyconnect", sys(syscall.ECONNREFUSED)), 10, wantRetry("proxy")},
		{"proxy refuses", fmt.Errorf("connect: %w", &proxyError{code: 407, status: "407 Proxy Authentication Required"}), 10, wantRetry("proxy")},
		{"not HTTP", errors.New(`malformed HTTP response "SSH-2.0"`), 10, wantRetry("protocol")},
		{"endless headers", errors.New("net/http: server response headers exceeded 65536 bytes; aborted"), 10, wantRetry("protocol")},
		{"reset, small body", op("write", sys(syscall.ECONNRESET)), 20_000_000, wantRetry("network")},
		{"reset, large body", op("write", sys(syscall.ECONNRESET)), 20_000_001, wantSize("reset_large_body")},
		{"broken pipe, large body", op("write", sys(syscall.EPIPE)), 30_000_000, wantSize("reset_large_body")},
		{"end of file, large body", fmt.Errorf("http: %w", io.EOF), 30_000_000, wantSize("reset_large_body")},
		{"half an answer, large body", io.ErrUnexpectedEOF, 30_000_000, wantSize("reset_large_body")},
		{"stream reset, large body", http2.StreamError{StreamID: 1, Code: http2.ErrCodeInternal}, 30_000_000, wantSize("reset_large_body")},
		{"GOAWAY, large body", errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=0"), 30_000_000, wantSize("reset_large_body")},
		{"refused, large body", op("dial", sys(syscall.ECONNREFUSED)), 30_000_000, wantRetry("network")},
		{"unknown", errors.New("something else"), 10, wantRetry("network")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, classifyFailure(failure{err: tt.err, caller: t.Context(), size: tt.size}), tt.want)

			stopped, cancel := context.WithCancel(t.Context())
			cancel()
			check(t, classifyFailure(failure{err: tt.err, cause: context.Canceled, caller: stopped, size: tt.size}), wantStopping)
			check(t, classifyFailure(failure{err: tt.err, cause: errTimeout, caller: t.Context(), size: tt.size}), wantRetry("timeout"))
		})
	}
}

func TestRulesAreInOrder(t *testing.T) {
	// A rule without a condition hides every later one for the same status.
	for i, hidden := range rules {
		for _, r := range rules[:i] {
			if r.when == nil && r.from <= hidden.from && r.to >= hidden.to {
				t.Errorf("rule %d (%d-%d) is never reached: %d-%d comes before", i, hidden.from, hidden.to, r.from, r.to)
			}
		}
	}
}

func TestReasonsAreAFixedSet(t *testing.T) {
	seen := map[string]bool{}
	for code := range 2000 {
		reason := classify(&answer{status: code, header: http.Header{}}).Reason
		if seen[reason] = true; strings.ToLower(reason) != reason || strings.ContainsAny(reason, " -") {
			t.Errorf("reason %q is no metric label", reason)
		}
	}
	if len(seen) > 90 {
		t.Errorf("a server can choose among %d reasons", len(seen))
	}
}
