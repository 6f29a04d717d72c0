package upstream

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	// maxReadBytes is how much of an answer's body is read, maxKeptBytes how
	// much of it is kept. LangSmith's error bodies are a line or two.
	maxReadBytes = 64 << 10
	maxKeptBytes = 4 << 10

	// maxKeptHeaderBytes bounds the kept headers, names and values together;
	// maxHeaderValueBytes one value.
	maxKeptHeaderBytes  = 8 << 10
	maxHeaderValueBytes = 1 << 10

	maxRequestIDBytes = 200
	maxErrorBytes     = 1 << 10
	maxMethodBytes    = 32
	maxURLBytes       = 2 << 10
)

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

// keptHeaders are the response headers that help to understand an answer: who
// answered, when, how to find it in their log, and what to wait for. Cookies
// and the like are never kept.
var keptHeaders = []string{
	"Content-Type", "Content-Length", "Content-Encoding", "Date", "Server", "Via", "Location", "Allow",
	"Retry-After", "Ratelimit", "Ratelimit-Policy", "Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset",
	"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Www-Authenticate", "Proxy-Authenticate",
	"X-Request-Id", "X-Correlation-Id", "X-Amzn-Requestid", "X-Amzn-Trace-Id", "X-Amz-Cf-Id",
	"X-Cloud-Trace-Context", "Cf-Ray", "X-Datadog-Trace-Id", "Traceparent", "X-Cache", "X-Served-By",
}

// requestIDHeaders carry the id under which the other side logged the request,
// the most specific first.
var requestIDHeaders = []string{
	"X-Request-Id", "X-Correlation-Id", "X-Amzn-Requestid", "X-Amzn-Trace-Id", "X-Amz-Cf-Id",
	"X-Cloud-Trace-Context", "Cf-Ray", "X-Datadog-Trace-Id",
}

// answer is a complete answer of the upstream, as classify judges it. It is
// what came over the wire: it may hold the key.
type answer struct {
	shape    shape // of the request it answers
	status   int
	header   http.Header
	body     []byte
	encoding Encoding // of the request it answers
	now      time.Time
}

// date is the upstream's own clock, zero if it named none.
func (a *answer) date() time.Time {
	t, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// mediaType is the content type without parameters, in lower case.
func (a *answer) mediaType() string {
	v := a.header.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(v); err == nil {
		return t
	}
	v, _, _ = strings.Cut(v, ";")
	return strings.ToLower(strings.TrimSpace(v))
}

// isHTML reports whether the answer is a web page, whatever it calls itself:
// LangSmith's API answers JSON, protobuf or nothing, so a page comes from
// something else (a user interface, a captive portal, a gateway).
func (a *answer) isHTML() bool {
	switch a.mediaType() {
	case "text/html", "application/xhtml+xml":
		return true
	case protobufType, jsonType:
		return false
	}
	start := bytes.ToLower(bytes.TrimLeft(a.body[:min(len(a.body), 512)], "\ufeff \t\r\n"))
	return bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html"))
}

// text is the body as people can read it. An error in protobuf is a
// google.rpc.Status (OTLP specification: OTLP/HTTP response), of which the
// message is the readable part.
func (a *answer) text() string {
	if a.mediaType() != protobufType {
		return string(a.body)
	}
	if a.status < 300 {
		_, message, _ := a.partialSuccess()
		return message
	}
	var s status.Status
	if err := proto.Unmarshal(a.body, &s); err == nil && s.GetMessage() != "" {
		return s.GetMessage()
	}
	return string(a.body)
}

// partialSuccess reads the OTLP answer to a request that was taken: how many
// spans the upstream rejected all the same, and its warning. ok is false when
// the answer says neither. Nobody has verified whether LangSmith uses it.
func (a *answer) partialSuccess() (rejected int64, message string, ok bool) {
	var res tracecollector.ExportTraceServiceResponse
	var err error
	switch a.mediaType() {
	case protobufType:
		err = proto.Unmarshal(a.body, &res)
	case jsonType:
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(a.body, &res)
	default:
		return 0, "", false
	}
	if err != nil || res.GetPartialSuccess() == nil {
		return 0, "", false
	}
	ps := res.GetPartialSuccess()
	rejected = max(ps.GetRejectedSpans(), 0)
	return rejected, ps.GetErrorMessage(), rejected > 0 || ps.GetErrorMessage() != ""
}

// readBody reads the body up to its limit. A body that goes on beyond it is
// complete as far as weir cares; one that breaks off is an error.
func readBody(r io.Reader) ([]byte, error) {
	var buf bytes.Buffer
	_, err := io.Copy(&buf, io.LimitReader(r, maxReadBytes))
	return buf.Bytes(), err
}

// kept returns the headers of the answer that may be kept, without secrets.
func (a *answer) kept(r redactor) http.Header {
	out := make(http.Header)
	left := maxKeptHeaderBytes
	for _, name := range keptHeaders {
		for _, value := range a.header.Values(name) {
			if name == "Location" {
				value = plainLocation(value)
			}
			value = r.clean(value, maxHeaderValueBytes)
			if left -= len(name) + len(value); left < 0 {
				return out
			}
			out.Add(name, value)
		}
	}
	return out
}

// plainLocation drops what may be secret from a redirect's target.
func plainLocation(value string) string {
	u, err := url.Parse(value)
	if err != nil {
		value, _, _ = strings.Cut(value, "?")
		return value
	}
	if u.RawQuery != "" {
		u.RawQuery = hidden
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	s := u.String()
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// requestID returns the id to quote to the upstream's support, or "".
func (a *answer) requestID(r redactor) string {
	i := slices.IndexFunc(requestIDHeaders, func(name string) bool { return a.header.Get(name) != "" })
	if i < 0 {
		return ""
	}
	return r.clean(a.header.Get(requestIDHeaders[i]), maxRequestIDBytes)
}

// errCutOff marks an answer that ended before its end.
var errCutOff = errors.New("the answer broke off")
