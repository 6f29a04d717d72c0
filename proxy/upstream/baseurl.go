package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// DefaultBaseURL is LangSmith Cloud's US region (LangSmith docs: cloud).
const DefaultBaseURL = "https://api.smith.langchain.com"

// tracesPath is where LangSmith takes OTLP, below the base URL (LangSmith
// docs: trace-with-opentelemetry).
const tracesPath = "/otel/v1/traces"

// uiRegions are the labels before smith.langchain.com under which LangSmith
// serves its web page; the API of each is at label.api (LangSmith docs: cloud).
var uiRegions = []string{"eu", "apac", "aws", "dev", "beta"}

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
	if err := checkSpelling(s); err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	if err != nil {
		// url.Error repeats the whole input, its cause only the bad piece.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return "", fmt.Errorf("upstream URL cannot be read: %s; write it like %s", shorten(err.Error()), DefaultBaseURL)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	if err := checkParts(u); err != nil {
		return "", err
	}
	if err := checkHost(u); err != nil {
		return "", err
	}
	if err := checkPath(u); err != nil {
		return "", err
	}
	if p := u.Port(); (u.Scheme == "https" && p == "443") || (u.Scheme == "http" && p == "80") {
		u.Host = strings.TrimSuffix(u.Host, ":"+p)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u.String(), nil
}

// checkSpelling refuses what is no URL at all.
func checkSpelling(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("upstream URL is empty; write it like %s", DefaultBaseURL)
	case strings.ContainsAny(s, "<>"):
		return fmt.Errorf("upstream URL has angle brackets; write it without them, like %s", DefaultBaseURL)
	case strings.ContainsAny(s, `"'`):
		return fmt.Errorf("upstream URL has quotes inside; write it without them, like %s", DefaultBaseURL)
	case strings.ContainsAny(s, "${}"):
		return fmt.Errorf("upstream URL holds a variable that was not expanded; write the value itself, like %s", DefaultBaseURL)
	case !strings.Contains(s, "://"):
		host, _, _ := strings.Cut(s, "?")
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			host = host[at+1:]
		}
		scheme := "https"
		if name, _, _ := strings.Cut(host, ":"); name == "localhost" || strings.HasPrefix(name, "127.") {
			scheme = "http"
		}
		return fmt.Errorf("upstream URL %q has no scheme; write %s://%s", shorten(host), scheme, shorten(strings.TrimLeft(host, "/:")))
	}
	return nil
}

// checkParts refuses parts a base URL must not have.
func checkParts(u *url.URL) error {
	clean := shorten((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}).String())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("upstream URL has the scheme %q; LangSmith speaks http and https only, write https://%s", shorten(u.Scheme), shorten(u.Host))
	case u.User != nil:
		return fmt.Errorf("upstream URL carries a user name or password; write %s and give the API key as LANGSMITH_API_KEY", clean)
	case u.RawQuery != "" || u.ForceQuery:
		return fmt.Errorf("upstream URL carries a query (?...); write %s", clean)
	case u.Fragment != "":
		return fmt.Errorf("upstream URL carries a fragment (#...); write %s", clean)
	}
	return nil
}

// checkHost refuses hosts that are known not to be an API, and ports that
// cannot be dialled.
func checkHost(u *url.URL) error {
	host := strings.TrimSuffix(u.Hostname(), ".")
	if host == "" || strings.HasPrefix(host, ".") || strings.Contains(host, "..") {
		return fmt.Errorf("upstream URL %q names no host; write it like %s", shorten(u.Scheme+"://"+u.Host), DefaultBaseURL)
	}
	if strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("upstream URL %q ends its host in a colon without a port; remove the colon or add the port", shorten(u.Scheme+"://"+u.Host))
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("upstream URL has the port %s; a port is a number from 1 to 65535", shorten(p))
		}
	}
	region, isSmith := strings.CutSuffix("."+host, ".smith.langchain.com")
	region = strings.TrimPrefix(region, ".")
	switch {
	case isSmith && region == "":
		return fmt.Errorf("upstream https://%s is LangSmith's web page, not its API; write %s", host, DefaultBaseURL)
	case isSmith && slices.Contains(uiRegions, region):
		return fmt.Errorf("upstream https://%s is LangSmith's web page, not its API; write https://%s.api.smith.langchain.com", host, region)
	case isSmith && region != "api" && !strings.HasSuffix(region, ".api"):
		return fmt.Errorf("upstream https://%s is not a LangSmith API host; those are api, eu.api, apac.api and aws.api before .smith.langchain.com", host)
	case isSmith && u.Scheme == "http":
		return fmt.Errorf("upstream http://%s would send the API key unencrypted; write https://%s", host, host)
	}
	return nil
}

// checkPath refuses base URLs that already name an endpoint: weir adds it, and
// a doubled path gives a 404 that looks like an outage.
func checkPath(u *url.URL) error {
	base := func(p string) string { return shorten(u.Scheme + "://" + u.Host + strings.TrimRight(p, "/")) }
	p := "/" + strings.TrimPrefix(strings.TrimRight(u.Path, "/"), "/")
	for _, endpoint := range []string{tracesPath, "/v1/traces", "/otel/v1", "/otel", "/runs/multipart", "/runs/batch", "/runs"} {
		if rest, ok := strings.CutSuffix(p, endpoint); ok {
			return fmt.Errorf("upstream URL ends in %s, which weir adds by itself; write %s", endpoint, base(rest))
		}
	}
	if rest, ok := strings.CutSuffix(p, "/api/v1/api/v1"); ok {
		return fmt.Errorf("upstream URL has /api/v1 twice; write %s", base(rest+"/api/v1"))
	}
	if clean := path.Clean(p); clean != p {
		return fmt.Errorf("upstream URL has empty or dotted path segments; write %s", base(clean))
	}
	return nil
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
