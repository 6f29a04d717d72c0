package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"weir/proxy/diagnose"
	"weir/proxy/upstream"
)

// soonExpired is how near a certificate's end is worth a word.
const soonExpired = 7 * 24 * time.Hour

// publicIssuers are the organisations under which the certificates of public
// web services are issued. A certificate of LangSmith Cloud from anybody else
// means that something on the way decrypts.
var publicIssuers = []string{
	"Google Trust Services", "Let's Encrypt", "DigiCert", "Amazon", "Sectigo", "GlobalSign", "Cloudflare", "Entrust",
	"ZeroSSL", "IdenTrust", "GoDaddy", "Microsoft", "SSL Corp", "Buypass", "Internet Security Research Group",
}

// errSeen ends a handshake whose certificates have been seen, before anything
// is sent.
var errSeen = errors.New("seen")

// tls looks at the certificate that is shown on the way weir takes.
func (v *visit) tls(ctx context.Context) []Check {
	if v.baseURL.Scheme != "https" {
		if isLoopback(v.baseURL.Hostname()) {
			return good("none: the endpoint is on this machine")
		}
		return warn(diagnose.EndpointMalformed, "none: the key and the traces travel unencrypted", "Use https:// where the endpoint has it.")
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Step)
	defer cancel()
	chain, err := v.certificates(ctx)
	if err != nil {
		return fail(diagnose.Network, "no TLS with "+v.baseURL.Host+": "+plainError(err),
			"Check whether the endpoint speaks TLS (https://) and what stands between: a proxy, a firewall. "+keepsTrying)
	}
	return v.judge(chain)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// certificates returns what the server shows, unverified. Nothing is sent but
// the handshake, and the CONNECT to a proxy.
func (v *visit) certificates(ctx context.Context) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	toProxy := v.via != nil && v.via.Scheme == "https"
	transport := &http.Transport{
		Proxy:               http.ProxyURL(v.via),
		DialContext:         (&net.Dialer{Timeout: v.cfg.Step, Resolver: v.cfg.Resolver}).DialContext,
		TLSHandshakeTimeout: v.cfg.Step,
		DisableKeepAlives:   true,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, //nolint:gosec // looked at by judge; the handshake ends here
			VerifyConnection: func(cs tls.ConnectionState) error {
				if toProxy {
					toProxy = false
					return v.verifyProxy(cs)
				}
				chain = cs.PeerCertificates
				return errSeen
			},
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := transport.RoundTrip(req)
	if err == nil {
		_ = res.Body.Close() // cannot be: errSeen comes before
	}
	if len(chain) > 0 {
		return chain, nil
	}
	return nil, err
}

// verifyProxy checks the certificate of an https:// proxy, which may be sent a
// password.
func (v *visit) verifyProxy(cs tls.ConnectionState) error {
	roots, err := upstream.Roots(v.cfg.CAFile)
	if err != nil {
		return err
	}
	return v.verify(cs.PeerCertificates, v.via.Hostname(), roots)
}

func (v *visit) verify(chain []*x509.Certificate, host string, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: v.cfg.Now()})
	return err
}

// judge says what a chain of certificates means.
func (v *visit) judge(chain []*x509.Certificate) []Check {
	leaf, host := chain[0], v.baseURL.Hostname()
	issuer := nameOf(leaf)
	seen := fmt.Sprintf("issued by %s, until %s", issuer, leaf.NotAfter.UTC().Format(time.DateOnly))
	cloud := strings.HasSuffix(host, ".langchain.com")
	err := v.verify(chain, host, v.systemRoots())
	private := false
	if unknownAuthority(err) && v.cfg.CAFile != "" {
		roots, rootsErr := upstream.Roots(v.cfg.CAFile)
		if rootsErr != nil {
			return fail(diagnose.UpstreamCert, rootsErr.Error(), "Mend or remove ca_file.")
		}
		if withFile := v.verify(chain, host, roots); withFile == nil || !unknownAuthority(withFile) {
			private, err = true, withFile
		}
	}
	if err != nil {
		return v.badCertificate(leaf, seen, err, cloud)
	}
	foreign := cloud && (private || !isPublic(leaf))
	switch {
	case foreign:
		return warn(diagnose.TLSInterception, seen+": that is no public authority, so something on the way decrypts what is sent",
			"If that is your network's own inspection, nothing; else find out who "+issuer+" is before sending a key.")
	case leaf.NotAfter.Sub(v.cfg.Now()) < soonExpired:
		return warn(diagnose.UpstreamCert, seen, "Renew the certificate of "+host+".")
	case private:
		return good(seen + "; ca_file vouches for it, the system does not")
	}
	return good(seen)
}

// badCertificate says why weir will not talk to the server.
func (v *visit) badCertificate(leaf *x509.Certificate, seen string, err error, cloud bool) []Check {
	host := v.baseURL.Hostname()
	if unknownAuthority(err) {
		if cloud {
			return fail(diagnose.TLSInterception, seen+": an authority that this machine does not trust; LangSmith's is public, so something on the way decrypts",
				"Get the certificate of that authority from whoever runs the network and name it with --ca-file, or have "+host+" excepted from inspection.")
		}
		return fail(diagnose.UpstreamCert, seen+": an authority that this machine does not trust",
			"Name the authority's certificate, a PEM file, with --ca-file.")
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return fail(diagnose.UpstreamCert, seen+": not for "+host+" ("+plainError(name)+")",
			"Check the endpoint's spelling, and whether a login page or a proxy answers in its place.")
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		now := v.cfg.Now()
		if now.Before(leaf.NotBefore) {
			return fail(diagnose.UpstreamCert, fmt.Sprintf("issued by %s, not valid before %s", nameOf(leaf), leaf.NotBefore.UTC().Format(time.DateOnly)),
				"Check this machine's clock, which says "+now.UTC().Format(time.DateOnly)+".")
		}
		return fail(diagnose.UpstreamCert, seen+": expired",
			"Renew the certificate of "+host+"; or, if it is not that old, check this machine's clock, which says "+now.UTC().Format(time.DateOnly)+".")
	}
	return fail(diagnose.UpstreamCert, seen+": "+plainError(err), "Mend the certificate of "+host+".")
}

func unknownAuthority(err error) bool {
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}

func isPublic(leaf *x509.Certificate) bool {
	name := nameOf(leaf)
	for _, public := range publicIssuers {
		if strings.Contains(strings.ToLower(name), strings.ToLower(public)) {
			return true
		}
	}
	return false
}

// nameOf is the issuer as a person would call it.
func nameOf(leaf *x509.Certificate) string {
	issuer := leaf.Issuer
	switch {
	case len(issuer.Organization) > 0 && issuer.CommonName != "" && issuer.CommonName != issuer.Organization[0]:
		return issuer.Organization[0] + " (" + issuer.CommonName + ")"
	case len(issuer.Organization) > 0:
		return issuer.Organization[0]
	case issuer.CommonName != "":
		return issuer.CommonName
	}
	return "nobody named"
}

// plainError is an error's text without the URL that net/http puts before it.
func plainError(err error) string {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return err.Error()
}
