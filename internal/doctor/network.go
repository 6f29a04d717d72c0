package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"

	"weir/proxy/diagnose"
)

const keepsTrying = "weir keeps what it takes on disk, and sends it once the way is open."

// proxies are the HTTP proxies that the environment names.
type proxies struct {
	find  func(*url.URL) (*url.URL, error)
	named []Value // the variables that are set, NO_PROXY last
}

func proxiesOf(env func(string) string) proxies {
	var p proxies
	first := func(names ...string) string {
		for _, name := range names {
			if text := env(name); text != "" {
				p.named = append(p.named, Value{Text: text, From: name})
				return text
			}
		}
		return ""
	}
	cfg := httpproxy.Config{
		HTTPSProxy: first("HTTPS_PROXY", "https_proxy"),
		HTTPProxy:  first("HTTP_PROXY", "http_proxy"),
		NoProxy:    first("NO_PROXY", "no_proxy"),
		CGI:        env("REQUEST_METHOD") != "",
	}
	p.find = cfg.ProxyFunc()
	return p
}

// of is the proxy on the way to target, or nil.
func (p proxies) of(target *url.URL) (*url.URL, error) { return p.find(target) }

// variable is the one that names the proxy for a scheme, or excepts from it.
func (p proxies) variable(name string) (Value, bool) {
	for _, v := range p.named {
		if strings.EqualFold(v.From, name) {
			return v, true
		}
	}
	return Value{}, false
}

func (v *visit) httpProxy(context.Context) []Check {
	name := strings.ToUpper(v.baseURL.Scheme) + "_PROXY"
	set, isSet := v.proxy.variable(name)
	via, err := v.proxy.of(v.baseURL)
	switch {
	case err != nil:
		return fail(diagnose.Network, set.From+": "+err.Error(), "Mend "+set.From+", such as http://proxy.example:3128")
	case via != nil:
		v.via = via
		return good((&url.URL{Scheme: via.Scheme, Host: via.Host}).String() + " (environment variable " + set.From + ")")
	case !isSet:
		return good("none")
	}
	if _, err := url.Parse(set.Text); err != nil || strings.ContainsAny(set.Text, " <>") {
		return warn(diagnose.Network, set.From+" cannot be read and is ignored", "Mend it, such as http://proxy.example:3128")
	}
	return good("none: " + set.From + " is not for this host")
}

// target is the host and port that is dialled: the endpoint's, or the proxy's.
func (v *visit) target() (host, port, whose string) {
	u, whose := v.baseURL, ""
	if v.via != nil {
		u, whose = v.via, " (the proxy)"
	}
	port = u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return u.Hostname(), port, whose
}

func (v *visit) dns(ctx context.Context) []Check {
	host, _, whose := v.target()
	if _, err := netip.ParseAddr(host); err == nil {
		return good(host + " is an address" + whose)
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Step)
	defer cancel()
	addrs, err := v.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		reason := "the name server does not answer: " + err.Error()
		remedy := "Check the network, the VPN and the machine's name server. " + keepsTrying
		if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
			reason = "no such host"
			remedy = "Check the name's spelling, and whether it is known in this network. " + keepsTrying
		}
		return fail(diagnose.Network, host+whose+": "+reason, remedy)
	}
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.Unmap().String())
	}
	const most = 3
	if len(texts) > most {
		texts = append(texts[:most], fmt.Sprintf("and %d more", len(addrs)-most))
	}
	return good(host + whose + " is " + strings.Join(texts, ", "))
}

func (v *visit) tcp(ctx context.Context) []Check {
	host, port, whose := v.target()
	addr := net.JoinHostPort(host, port)
	d := net.Dialer{Timeout: v.cfg.Step, Resolver: v.cfg.Resolver}
	began := time.Now()
	conn, err := d.DialContext(ctx, "tcp", addr)
	took := time.Since(began)
	if err == nil {
		seen := fmt.Sprintf("%s%s answers from %s in %s", addr, whose, conn.RemoteAddr(), msText(took))
		_ = conn.Close()
		return good(seen)
	}
	var reason string
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = "the connection is refused: nothing listens there, or a firewall says no"
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		reason = "no answer within " + v.cfg.Step.String() + ": a firewall swallows it, or the host is down"
	default:
		reason = err.Error()
	}
	remedy := "Check the host and port, the firewall and the VPN"
	if v.via == nil {
		remedy += ", or whether this network needs HTTPS_PROXY"
	}
	return fail(diagnose.Network, addr+whose+": "+reason, remedy+". "+keepsTrying)
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
