package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"weir/proxy/diagnose"
)

// errPlain marks an upstream that shows no certificate.
var errPlain = errors.New("the upstream's URL begins with http://: it shows no certificate")

// Certificate reads the certificate that the upstream shows, without trusting it
// and without sending anything. It goes straight to the upstream, not by an HTTP
// proxy, and takes ten seconds at most.
func (c *Client) Certificate(ctx context.Context) (*diagnose.Certificate, error) {
	u, err := url.Parse(c.cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("read the upstream's certificate: %w", err)
	}
	if u.Scheme != "https" {
		return nil, errPlain
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "443")
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: &tls.Config{
		ServerName: u.Hostname(), MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // it is only looked at, and verified below; nothing is sent
	}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("read the upstream's certificate: %w", err)
	}
	defer conn.Close()                                           //nolint:errcheck // nothing was sent
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates //nolint:forcetypeassert // of a tls.Dialer
	if len(shown) == 0 {
		return nil, errors.New("read the upstream's certificate: it shows none")
	}
	leaf := shown[0]
	out := &diagnose.Certificate{Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), NotAfter: leaf.NotAfter}
	if err := verify(shown, u.Hostname(), c.transport.TLSClientConfig.RootCAs, time.Now()); err != nil {
		out.Error = err.Error()
	} else {
		out.Trusted = true
	}
	return out, nil
}

// verify checks a chain as a connection would; roots nil: the system's.
func verify(shown []*x509.Certificate, host string, roots *x509.CertPool, now time.Time) error {
	between := x509.NewCertPool()
	for _, cert := range shown[1:] {
		between.AddCert(cert)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: now})
	return err
}
