// Package hostguard keeps web pages away from weir's local HTTP listeners.
//
// A listener on localhost is open to every page in the user's browser. Two
// tricks matter. With DNS rebinding a page's own name comes to resolve to
// 127.0.0.1, so that the browser takes weir for the page's own server; such
// requests carry the foreign name in Host. With cross-site requests a page
// posts to http://127.0.0.1 without needing to read the answer; browsers mark
// those with Origin or Sec-Fetch-Site. The guard refuses both, and answers
// CORS for the origins that were listed on purpose.
//
// It is no substitute for authentication: a program, unlike a page, can send
// whatever headers it likes.
package hostguard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// The stable words of Refusal.Reason, for metrics.
const (
	// ReasonHost: the Host header names a machine that is not this one.
	ReasonHost = "host"
	// ReasonOrigin: a page of an origin that is not listed sent the request.
	ReasonOrigin = "origin"
	// ReasonFetchSite: the browser marked the request as cross-site and
	// named no origin.
	ReasonFetchSite = "fetch_site"
)

// maxQuoted bounds how much of a caller's header is repeated in a refusal.
const maxQuoted = 100

// Config says what a Guard lets through besides loopback. The zero value is
// right for a listener on loopback that serves programs only.
type Config struct {
	// Listen is the listener's address as configured, "host:port" or
	// "unix:PATH". Its host is accepted in Host. May be empty.
	Listen string

	// Hosts are further names or addresses accepted in Host, without port:
	// "weir", "weir.internal". Matched whole and in any letter case.
	Hosts []string

	// Origins are the web origins whose pages may call the listener, as
	// browsers send them: "https://app.example", "http://localhost:3000".
	// "*" lists every origin, "null" those of sandboxed pages and files.
	Origins []string

	// Refuse answers a refused request in the protocol's own error shape;
	// the status should be Refusal.Status. Nil answers {"error": "..."}.
	Refuse func(w http.ResponseWriter, r *http.Request, why Refusal)
}

// Refusal says why a request was refused.
type Refusal struct {
	// Reason is one of the Reason constants.
	Reason string
	// Detail is a sentence for a person: what was wrong and what to set. It
	// repeats at most 100 bytes of the request, quoted.
	Detail string
}

// Status is the HTTP status a refusal is answered with: 403, which neither
// browsers nor exporters retry.
func (Refusal) Status() int { return http.StatusForbidden }

// Guard checks requests. It holds no state and may be used by any number of
// goroutines.
type Guard struct {
	hosts     map[string]bool // canonical host names and addresses
	origins   map[string]bool // canonical origins
	anyOrigin bool
	refuse    func(http.ResponseWriter, *http.Request, Refusal)
}

// New returns a guard. It fails if an entry of Hosts or Origins could never
// match, and says what the entry should look like.
func New(cfg Config) (*Guard, error) {
	g := &Guard{hosts: map[string]bool{}, origins: map[string]bool{}, refuse: cfg.Refuse}
	if g.refuse == nil {
		g.refuse = refuseJSON
	}
	if host := listenHost(cfg.Listen); host != "" {
		g.hosts[host] = true
	}
	var errs []error
	for _, entry := range cfg.Hosts {
		host, err := parseHostEntry(entry)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		g.hosts[host] = true
	}
	for _, entry := range cfg.Origins {
		if entry == "*" {
			g.anyOrigin = true
			continue
		}
		origin, err := parseOrigin(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("allowed origin %q: %w", entry, err))
			continue
		}
		g.origins[origin] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

// Wrap returns a handler that passes requests the guard accepts on to next,
// refuses the others, and answers the CORS preflights of listed origins
// itself.
func (g *Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := g.Check(r); why != nil {
			g.refuse(w, r, *why)
			return
		}
		if g.allowCrossOrigin(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Check returns nil if the request may pass, else why it may not. Requests
// over a unix socket always pass: no page can open one, and Host means
// nothing there.
func (g *Guard) Check(r *http.Request) *Refusal {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local != nil && strings.HasPrefix(local.Network(), "unix") {
		return nil
	}
	if !g.hostAllowed(r.Host, local) {
		return &Refusal{Reason: ReasonHost, Detail: fmt.Sprintf(
			"Host %s is not a name of this weir; use localhost or 127.0.0.1, or list the name in allowed_hosts",
			quote(r.Host))}
	}
	return g.checkOrigin(r)
}

// hostAllowed says whether a Host header names this machine.
func (g *Guard) hostAllowed(header string, local net.Addr) bool {
	if header == "" {
		return true // HTTP/1.0 health checks; no browser leaves it out
	}
	host, ok := splitHost(header)
	if !ok {
		return false
	}
	if g.hosts[host] || isLoopbackName(host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	localIP, ok := addrIP(local)
	if !ok {
		return false
	}
	// Behind address translation (a published container port, a service
	// address) a peer names an address this machine does not know it has.
	// Rebinding needs a name, so any literal address is harmless where
	// connections from elsewhere are taken at all.
	return ip == localIP || !localIP.IsLoopback()
}

// checkOrigin refuses what a page of an unlisted origin sent. Programs send
// none of these headers.
func (g *Guard) checkOrigin(r *http.Request) *Refusal {
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		if len(origins) == 1 && g.originAllowed(origins[0], r.Host) {
			return nil
		}
		return &Refusal{Reason: ReasonOrigin, Detail: fmt.Sprintf(
			"pages of origin %s may not call this weir; list the origin in cors if they should",
			quote(strings.Join(origins, ", ")))}
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
		return nil
	default:
		if g.anyOrigin || isNavigation(r) {
			return nil
		}
		return &Refusal{Reason: ReasonFetchSite, Detail: fmt.Sprintf(
			"the browser marks this request as %s; open the address directly, or list the page's origin in cors",
			quote(site))}
	}
}

// originAllowed says whether an Origin header is listed or is the listener's
// own. The scheme of the listener's own origin is not compared: TLS may end
// in front of weir, and Host has been checked before.
func (g *Guard) originAllowed(header, host string) bool {
	if g.anyOrigin {
		return true
	}
	origin, err := parseOrigin(header)
	if err != nil {
		return false
	}
	if g.origins[origin] {
		return true
	}
	for _, scheme := range []string{"http", "https"} {
		if own, err := parseOrigin(scheme + "://" + host); err == nil && own == origin {
			return true
		}
	}
	return false
}

// isNavigation tells a person following a link to a page of weir from a page
// loading weir's answers into itself: the former cannot be read by the page
// that holds the link, and reading changes nothing.
func isNavigation(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		r.Header.Get("Sec-Fetch-Dest") == "document"
}

// isLoopbackName says whether a canonical name always means this machine
// (RFC 6761, section 6.3).
func isLoopbackName(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// splitHost returns the canonical host of a Host header, without port.
func splitHost(header string) (string, bool) {
	host := header
	if h, port, err := net.SplitHostPort(header); err == nil {
		if !isPort(port) {
			return "", false
		}
		host = h
	} else if strings.HasPrefix(header, "[") && strings.HasSuffix(header, "]") {
		host = header[1 : len(header)-1]
	}
	return canonicalHost(host)
}

// canonicalHost lower-cases a name, drops the root's dot, and writes
// addresses in one way (no zone, no IPv4 in IPv6).
func canonicalHost(host string) (string, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().WithZone("").String(), true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || strings.ContainsFunc(host, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`/\@:?#[]%"<>*`, c)
	}) {
		return "", false
	}
	return host, true
}

// parseHostEntry checks an entry of Config.Hosts.
func parseHostEntry(entry string) (string, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")
	canonical, ok := canonicalHost(host)
	if !ok {
		return "", fmt.Errorf("allowed host %q: want a bare name or address such as %q, without scheme, port or wildcard", entry, "weir.internal")
	}
	return canonical, nil
}

// parseOrigin returns an origin in one way of writing: lower case, without
// the scheme's default port.
func parseOrigin(s string) (string, error) {
	if s == "null" {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New(`want scheme, host and port only, such as "https://app.example" or "http://localhost:3000"`)
	}
	host, ok := canonicalHost(u.Hostname())
	if !ok {
		return "", errors.New("the host is not a name or address")
	}
	port := u.Port()
	switch {
	case port == "", u.Scheme == "http" && port == "80", u.Scheme == "https" && port == "443":
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return u.Scheme + "://" + host, nil
	default:
		return u.Scheme + "://" + net.JoinHostPort(host, port), nil
	}
}

// listenHost returns the canonical host of a configured listen address, or
// nothing if it names none.
func listenHost(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return ""
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return ""
	}
	canonical, _ := canonicalHost(host)
	return canonical
}

// addrIP returns the address of a connection's end, without zone.
func addrIP(a net.Addr) (netip.Addr, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip := tcp.AddrPort().Addr()
	return ip.Unmap().WithZone(""), ip.IsValid()
}

// isPort says whether s is empty or decimal digits.
func isPort(s string) bool {
	return len(s) <= 5 && !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// quote quotes a caller's header for a message, cut to a bounded length.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// refuseJSON is the default answer to a refused request.
func refuseJSON(w http.ResponseWriter, _ *http.Request, why Refusal) {
	body, err := json.Marshal(map[string]string{"error": why.Detail})
	if err != nil { // a map of strings always marshals
		body = []byte(`{"error":"refused"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(why.Status())
	_, _ = w.Write(append(body, '\n')) // the caller is gone: nobody to tell
}
