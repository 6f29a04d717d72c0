package langsmith

import (
	"encoding/json"
	"net/http"
	"strconv"

	"weir/internal/callerheaders"
)

const mediaJSON = "application/json"

// errorBody is an error in the form of both of LangSmith's backends: the one
// that takes runs has an error, the other a detail, and its SDKs print either.
type errorBody struct {
	Error  string `json:"error"`
	Detail string `json:"detail,omitempty"`
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		body = []byte("{}") // the code says the essential
	}
	writeBody(w, code, body)
}

func writeBody(w http.ResponseWriter, code int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", mediaJSON)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body) // a sender that has gone will ask again
}

// writeRefusal answers a request that was not taken.
func writeRefusal(w http.ResponseWriter, r *refusal) {
	if after := r.retryAfterSeconds(); after != "" {
		w.Header().Set("Retry-After", after)
	}
	if r.http == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", callerheaders.Challenge)
	}
	writeJSON(w, r.http, errorBody{Error: clip(r.prefix + r.message)})
}
