package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"weir/internal/certfile"
	"weir/internal/listen"
	"weir/proto/weir/v1/weirv1connect"
	"weir/proxy/admin"
)

// dialAdmin prepares calls to the admin listener; nothing is sent yet. It fails
// if a file that it needs cannot be used.
func (s *settings) dialAdmin() (weirv1connect.AdminServiceClient, error) {
	addr, secure := string(s.AdminAddr), s.Access.AdminTLS.on() || s.Access.AdminCAFile != "" || s.Access.AdminCertFile != ""
	if scheme, rest, ok := strings.Cut(addr, "://"); ok {
		addr, secure = rest, scheme == "https"
	}
	if _, isSocket := s.AdminAddr.socket(); isSocket || !secure {
		return admin.Dial(addr, s.AdminToken.reveal()), nil
	}
	cfg, err := s.clientTLS(addr, s.Access.AdminTLS)
	if err != nil {
		return nil, err
	}
	return admin.DialTLS(addr, s.AdminToken.reveal(), cfg), nil
}

// clientTLS are the settings of a client of the listener at addr: what it shows
// and whom it trusts. Without authorities of its own it takes the certificate
// in the files of own, by any name, for that is the weir of this configuration;
// and else what the system trusts.
func (s *settings) clientTLS(addr string, own tlsFiles) (*tls.Config, error) {
	if err := s.checkFiles(); err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.Access.AdminCertFile != "" {
		pair, err := certfile.LoadPair(s.Access.AdminCertFile, s.Access.AdminKeyFile)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("admin_client_cert_file (%s): %w", s.from("admin_client_cert_file"), err)}
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if s.Access.AdminCAFile != "" {
		pool, err := certfile.LoadPool(s.Access.AdminCAFile)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("admin_ca_file (%s): %w", s.from("admin_ca_file"), err)}
		}
		cfg.RootCAs = pool
		return cfg, nil
	}
	if !own.on() {
		return cfg, nil
	}
	leaf, err := certfile.LoadLeaf(own.Cert)
	if err != nil {
		return cfg, nil //nolint:nilerr // the files are the server's; who calls may lack the right to read them
	}
	_, target := listen.Reachable(addr)
	host, _, _ := net.SplitHostPort(target)
	cfg.InsecureSkipVerify = true // VerifyConnection does it
	cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyOwn(state, leaf, host) }
	return cfg, nil
}

// verifyOwn takes a server that shows leaf, and otherwise asks what crypto/tls
// would.
func verifyOwn(state tls.ConnectionState, leaf *x509.Certificate, host string) error {
	shown := state.PeerCertificates
	if shown[0].Equal(leaf) {
		return nil
	}
	opts := x509.VerifyOptions{DNSName: host, Intermediates: x509.NewCertPool()}
	for _, cert := range shown[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := shown[0].Verify(opts)
	return err
}

// tlsTrouble says what is wrong with the TLS, or the lack of it, between a
// command and the weir at addr, and what to do; empty if the error is another.
func tlsTrouble(addr listenAddr, err error) string {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		other   x509.HostnameError
	)
	_, bare, isURL := strings.Cut(string(addr), "://")
	if !isURL {
		bare = string(addr)
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, admin.ErrTLSExpected):
		return fmt.Sprintf("what answers at %s speaks TLS: call it as --admin-addr=https://%s", addr, bare)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("what answers at %s speaks no TLS: call it as --admin-addr=http://%s, or give it a certificate (admin_tls_cert_file)", addr, bare)
	case errors.As(err, &unknown):
		return fmt.Sprintf("the certificate of what answers at %s comes from an authority that is not trusted here: name the file of its authority with --admin-ca-file", addr)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of what answers at %s is not valid now (%s): renew it, and check the clocks of both machines", addr, invalid.Detail)
	case errors.As(err, &other):
		return fmt.Sprintf("the certificate of what answers at %s is for another name (%s): call it by a name that is in its certificate",
			addr, strings.TrimPrefix(other.Error(), "x509: "))
	case strings.Contains(err.Error(), "remote error: tls:"):
		_, alert, _ := strings.Cut(err.Error(), "remote error: tls:")
		return fmt.Sprintf("what answers at %s turned this client away in the TLS handshake (%s): "+
			"give a client certificate of its authority that has not run out, with --admin-client-cert-file and --admin-client-key-file", addr, strings.TrimSpace(alert))
	default:
		return ""
	}
}
