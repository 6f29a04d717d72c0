package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/hostguard"
)

// The refused counter's words for a missing or wrong token, and for a missing
// client certificate. A wrong one ends the handshake and is not counted.
const (
	reasonToken       = "token"
	reasonCertificate = "certificate"
)

// gate lets through who has what is asked for, all of it.
type gate struct {
	token       string // empty: anyone may pass
	certificate bool   // only who has shown a good one may
	refused     *prometheus.CounterVec
}

// newRefusedCounter counts what the gate and the host guard turned away.
func newRefusedCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_admin_refused_total",
		Help: "Requests to the admin port refused before they were looked at, by reason: token, certificate, host, origin, fetch_site.",
	}, []string{"reason"})
}

// wrap asks for the token before next sees a request.
func (g *gate) wrap(next http.Handler) http.Handler {
	if g.token == "" {
		return next
	}
	// Digests have one length whatever the caller sent, so that the time of
	// the comparison says nothing about the token.
	want := sha256.Sum256([]byte(g.token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(bearerToken(r)))
		if subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
			next.ServeHTTP(w, r)
			return
		}
		g.refused.WithLabelValues(reasonToken).Inc()
		detail := "this weir asks for its admin token: send Authorization: Bearer TOKEN (the command line takes --admin-token-file)"
		if r.Header.Get("Authorization") != "" {
			detail = "the token sent in Authorization is not this weir's admin token; is it the one of admin_token_file, without quotes?"
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="weir"`)
		writeRefusal(w, r, http.StatusUnauthorized, connect.NewError(connect.CodeUnauthenticated, errors.New(detail)))
	})
}

// wrapCertificate asks for a client certificate before next sees a request. The
// probes answer without: a kubelet has none. Whether one that was shown is good
// was decided in the handshake.
func (g *gate) wrapCertificate(next http.Handler) http.Handler {
	if !g.certificate {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.TLS != nil && len(r.TLS.VerifiedChains) > 0) || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		g.refused.WithLabelValues(reasonCertificate).Inc()
		const detail = "this weir asks for a client certificate: connect with one of its authority's " +
			"(the command line takes --admin-client-cert-file and --admin-client-key-file)"
		writeRefusal(w, r, http.StatusUnauthorized, connect.NewError(connect.CodeUnauthenticated, errors.New(detail)))
	})
}

// refuseForeign answers what the host guard turned away.
func (g *gate) refuseForeign(w http.ResponseWriter, r *http.Request, why hostguard.Refusal) {
	g.refused.WithLabelValues(why.Reason).Inc()
	writeRefusal(w, r, why.Status(), connect.NewError(connect.CodePermissionDenied, errors.New(why.Detail)))
}

// errorWriter answers in the form of the protocol a request speaks.
var errorWriter = connect.NewErrorWriter()

// writeRefusal answers a call in its own protocol, and anything else with the
// status and Connect's JSON error.
func writeRefusal(w http.ResponseWriter, r *http.Request, status int, refusal *connect.Error) {
	if errorWriter.IsSupported(r) {
		_ = errorWriter.Write(w, r, refusal) // the caller is gone: nobody to tell
		return
	}
	writeJSON(w, status, struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{refusal.Code().String(), refusal.Message()})
}

// bearerToken returns the token a request carries, or nothing (RFC 6750,
// section 2.1; the scheme's name in any letter case, RFC 9110).
func bearerToken(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
