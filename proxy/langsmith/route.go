package langsmith

import (
	"net/http"
	"strings"
)

// endpoint is what a path and its method ask for.
type endpoint uint8

const (
	endpointPass endpoint = iota // everything else
	endpointMultipart
	endpointBatch
	endpointCreate        // POST /runs
	endpointUpdate        // PATCH /runs/{id}
	endpointFeedback      // POST /feedback
	endpointFeedbackPatch // PATCH /feedback/{id}
	endpointInfo
	endpointSignal // OTLP metrics or logs
)

func (e endpoint) String() string {
	return [...]string{"pass", "multipart", "batch", "create", "update", "feedback", "feedback_patch", "info", "signal"}[e]
}

// target is where a request goes.
type target struct {
	endpoint endpoint
	path     string // below the base, without doubled slashes
	id       string // of the run or feedback that the path names
	allow    string // the methods to use instead, set if this one is not allowed
}

// prefixes are what may stand before a path of LangSmith's: SDKs are
// configured with and without them (helm chart, frontend/config-map.yaml).
var prefixes = [...]string{"/api/v1", "/api"}

// tidy takes doubled and trailing slashes out of a path. Nothing else is
// cleaned: no client sends dots by mistake.
func tidy(path string) string {
	if strings.Contains(path, "//") || (len(path) > 1 && strings.HasSuffix(path, "/")) {
		return "/" + strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
	}
	return path
}

// below takes prefix off path where path is at or below it.
func below(path, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, prefix)
	if !ok || prefix == "" || (rest != "" && rest[0] != '/') {
		return path, false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}

// route decides where a request goes.
func (y *way) route(r *http.Request) target {
	path, based := below(tidy(r.URL.Path), y.base.Path)
	if !based {
		for _, p := range prefixes {
			if rest, ok := below(path, p); ok {
				path = rest
				break
			}
		}
	}
	t := target{path: path}
	post, patch := r.Method == http.MethodPost, r.Method == http.MethodPatch
	id, isRun := strings.CutPrefix(path, "/runs/")
	feedback, isFeedback := strings.CutPrefix(path, "/feedback/")
	switch {
	case path == "/runs/multipart":
		t.only(endpointMultipart, post, http.MethodPost)
	case path == "/runs/batch":
		t.only(endpointBatch, post, http.MethodPost)
	case path == "/info":
		t.only(endpointInfo, r.Method == http.MethodGet || r.Method == http.MethodHead, "GET, HEAD")
	case path == "/runs" && post:
		t.endpoint = endpointCreate
	case path == "/feedback" && post:
		t.endpoint = endpointFeedback
	case isRun && patch && !strings.Contains(id, "/"):
		t.endpoint, t.id = endpointUpdate, id
	case isFeedback && patch && !strings.Contains(feedback, "/"):
		t.endpoint, t.id = endpointFeedbackPatch, feedback
	case isSignal(path):
		t.endpoint = endpointSignal
	}
	return t
}

func (t *target) only(e endpoint, allowed bool, allow string) {
	t.endpoint = e
	if !allowed {
		t.allow = allow
	}
}

// isSignal tells whether OTLP sends something other than traces to a path.
// LangSmith takes traces only, and an application's metrics and logs are not
// to be sent to it because an endpoint was set for all signals.
func isSignal(path string) bool {
	path = strings.TrimPrefix(path, "/otel")
	return path == "/v1/metrics" || path == "/v1/logs"
}
