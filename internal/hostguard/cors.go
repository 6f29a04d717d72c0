package hostguard

import "net/http"

// preflightMaxAge is how many seconds a browser may remember a preflight; two
// hours is the longest Chromium takes.
const preflightMaxAge = "7200"

// allowCrossOrigin tells the browser that a listed origin may read the answer
// (Fetch standard, CORS protocol). It reports true when the request was a
// preflight and is answered. Check has passed the request already.
//
// Credentials are never allowed: weir's callers name themselves in headers,
// not by cookies.
func (g *Guard) allowCrossOrigin(w http.ResponseWriter, r *http.Request) bool {
	if !g.anyOrigin && len(g.origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	method := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || method == "" {
		return false
	}
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", method)
	if headers := r.Header.Get("Access-Control-Request-Headers"); headers != "" {
		h.Set("Access-Control-Allow-Headers", headers)
	}
	h.Set("Access-Control-Max-Age", preflightMaxAge)
	w.WriteHeader(http.StatusNoContent)
	return true
}
