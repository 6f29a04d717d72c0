package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"weir/proxy/diagnose"
)

// DefaultBaseURL is LangSmith Cloud's US region (LangSmith docs: cloud).
const DefaultBaseURL = "https://api.smith.langchain.com"

// tracesPath is where LangSmith takes OTLP, below the base URL (LangSmith
// docs: trace-with-opentelemetry).
const tracesPath = "/otel/v1/traces"

// ParseBaseURL checks and normalises what a user wrote as the upstream.
//
// Blanks, one pair of quotes and trailing slashes around it are forgiven, as
// LangSmith's SDKs forgive them, and a default port is dropped; a path such as
// /api/v1 is kept, because self-hosted LangSmith needs it and Cloud takes it.
// Everything else that cannot work is refused with an error that says what
// would. Errors never repeat user information or a query, which may be secret.
func ParseBaseURL(raw string) (string, error) {
	s := strings.TrimSpace(raw)
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = strings.TrimSpace(s[1 : len(s)-1])
	}
	for _, flaw := range diagnose.CheckEndpoint(raw) {
		if flaw.Sure {
			return "", flawError(flaw)
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("upstream URL cannot be read; write it like %s", DefaultBaseURL)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	if p := u.Port(); (u.Scheme == "https" && p == "443") || (u.Scheme == "http" && p == "80") {
		u.Host = strings.TrimSuffix(u.Host, ":"+p)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u.String(), nil
}

// flawError is a flaw as an error.
func flawError(f diagnose.Flaw) error {
	remedy := strings.ToLower(f.Remedy[:1]) + strings.TrimSuffix(f.Remedy[1:], ".")
	return fmt.Errorf("upstream URL %s; %s", f.Says, remedy)
}

// shorten keeps a piece of the user's input fit for an error message.
func shorten(s string) string { return redactor{}.text(printable(s, 200)) }

// IsSelf reports whether the upstream base (as ParseBaseURL returns it) is one
// of weir's own listeners, so that delivered traces would come straight back
// in. Addresses are host:port as given to listen, an empty host meaning all
// interfaces; unix sockets and unreadable ones never match. It compares ports,
// loopback names, this machine's interface addresses and its host name, and
// asks no name server: a foreign name for this machine goes unnoticed.
func IsSelf(base string, listenAddrs []string) bool {
	self := machine{}
	if name, err := os.Hostname(); err == nil {
		self.name = strings.ToLower(name)
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				self.addrs = append(self.addrs, p.Addr().Unmap())
			}
		}
	}
	return self.isSelf(base, listenAddrs)
}

// machine is what IsSelf knows of the machine it runs on.
type machine struct {
	name  string
	addrs []netip.Addr
}

func (m machine) isSelf(base string, listenAddrs []string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	targets := m.targets(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."))
	if len(targets) == 0 {
		return false
	}
	for _, addr := range listenAddrs {
		host, listenPort, err := net.SplitHostPort(addr)
		if err != nil || listenPort != port {
			continue
		}
		if allInterfaces(host) {
			return true
		}
		for _, listen := range m.targets(strings.ToLower(host)) {
			if slices.Contains(targets, listen) {
				return true
			}
		}
	}
	return false
}

// allInterfaces reports whether a listener on host takes connections at every
// address of the machine.
func allInterfaces(host string) bool {
	if host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsUnspecified()
}

// loopbacks are the addresses localhost stands for.
var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// targets returns the addresses of this machine that dialling host would
// reach; none if host is elsewhere.
func (m machine) targets(host string) []netip.Addr {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return loopbacks
	}
	if m.name != "" && host == m.name {
		return slices.Concat(loopbacks, m.addrs)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	ip = ip.Unmap().WithZone("")
	switch {
	case ip.IsUnspecified(): // dialling 0.0.0.0 or [::] reaches loopback
		return loopbacks
	case ip.IsLoopback(), slices.Contains(m.addrs, ip):
		return []netip.Addr{ip}
	default:
		return nil
	}
}
