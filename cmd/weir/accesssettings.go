package main

import (
	"errors"
	"fmt"

	"weir/internal/certfile"
)

// accessSettings say who weir is to those who connect, and what they must show.
type accessSettings struct {
	IngestToken secret
	TLS         tlsFiles // of grpc_addr and http_addr
	AdminTLS    tlsFiles // of admin_addr

	// What commands show to a running weir's admin listener, and trust.
	AdminCAFile, AdminCertFile, AdminKeyFile string
}

// tlsFiles are the files of a TLS listener, absolute; empty: not set.
type tlsFiles struct{ Cert, Key, ClientCA string }

// on reports whether the listener speaks TLS.
func (f tlsFiles) on() bool { return f.Cert != "" }

// mutual reports whether clients need a certificate.
func (f tlsFiles) mutual() bool { return f.on() && f.ClientCA != "" }

func accessTable() []setting {
	file := func(name, what, help string, field func(*settings) *string) setting {
		return setting{
			name: name, group: groupSecurity, placeholder: "FILE", help: help,
			bind: func(s *settings) value { return pathValue{textValue{to: field(s), what: what}} },
		}
	}
	const pem = "a PEM file"
	return []setting{
		{
			name: "ingest_token", group: groupSecurity, onlyEnv: true,
			help:    "Token that lets callers without a LangSmith key of their own send under weir's.",
			moreEnv: []string{"WEIR_INGEST_TOKEN"},
			bind: func(s *settings) value {
				return secretValue{to: &s.Access.IngestToken, what: "a token such as weir_..."}
			},
		},
		secretFile("ingest_token", groupSecurity, "File that holds the ingest token."),
		file("tls_cert_file", pem, "Certificate of the gRPC and the HTTP listener, which then speak TLS.",
			func(s *settings) *string { return &s.Access.TLS.Cert }),
		file("tls_key_file", pem, "Private key of the certificate in tls_cert_file.",
			func(s *settings) *string { return &s.Access.TLS.Key }),
		file("tls_client_ca_file", pem, "Authorities of client certificates; the gRPC and the HTTP listener then ask every caller for one.",
			func(s *settings) *string { return &s.Access.TLS.ClientCA }),
		file("admin_tls_cert_file", pem, "Certificate of the admin listener, which then speaks TLS.",
			func(s *settings) *string { return &s.Access.AdminTLS.Cert }),
		file("admin_tls_key_file", pem, "Private key of the certificate in admin_tls_cert_file.",
			func(s *settings) *string { return &s.Access.AdminTLS.Key }),
		file("admin_tls_client_ca_file", pem, "Authorities of client certificates; the admin listener then asks everybody for one, but on /healthz and /readyz.",
			func(s *settings) *string { return &s.Access.AdminTLS.ClientCA }),
		file("admin_ca_file", pem, "Authorities that commands trust when they call the admin listener over TLS, instead of the system's.",
			func(s *settings) *string { return &s.Access.AdminCAFile }),
		file("admin_client_cert_file", pem, "Client certificate that commands show to the admin listener.",
			func(s *settings) *string { return &s.Access.AdminCertFile }),
		file("admin_client_key_file", pem, "Private key of the certificate in admin_client_cert_file.",
			func(s *settings) *string { return &s.Access.AdminKeyFile }),
	}
}

// checkFiles refuses files that make nothing without others.
func (s *settings) checkFiles() error {
	a := &s.Access
	var errs []error
	for _, pair := range []struct{ certName, keyName, caName, cert, key, ca string }{
		{"tls_cert_file", "tls_key_file", "tls_client_ca_file", a.TLS.Cert, a.TLS.Key, a.TLS.ClientCA},
		{"admin_tls_cert_file", "admin_tls_key_file", "admin_tls_client_ca_file", a.AdminTLS.Cert, a.AdminTLS.Key, a.AdminTLS.ClientCA},
		{"admin_client_cert_file", "admin_client_key_file", "", a.AdminCertFile, a.AdminKeyFile, ""},
	} {
		lacks := func(name, other string) {
			errs = append(errs, fmt.Errorf("%s (%s) is set and %s is not: give both", name, s.from(name), other))
		}
		switch {
		case pair.cert != "" && pair.key == "":
			lacks(pair.certName, pair.keyName)
		case pair.key != "" && pair.cert == "":
			lacks(pair.keyName, pair.certName)
		case pair.ca != "" && pair.cert == "":
			lacks(pair.caName, pair.certName)
		}
	}
	return errors.Join(errs...)
}

// warnAccess warns of private keys that anybody can read, and of tokens that
// would cross a network as they are.
func (l *loader) warnAccess() {
	a := &l.out.Access
	for _, key := range []struct{ name, path string }{
		{"tls_key_file", a.TLS.Key}, {"admin_tls_key_file", a.AdminTLS.Key}, {"admin_client_key_file", a.AdminKeyFile},
	} {
		if certfile.ReadableByAll(key.path) {
			l.out.warnings = append(l.out.warnings, fmt.Sprintf(
				"%s (%s) holds a private key and every user of this machine can read it: run `chmod 600 %s`", key.path, key.name, key.path))
		}
	}
	l.warnOpen()
}

// warnOpen warns of secrets that would cross a network as they are.
func (l *loader) warnOpen() {
	s := l.out
	warn := func(name string, addr listenAddr, what, files string) {
		s.warnings = append(s.warnings, fmt.Sprintf(
			"%s %s can be reached from other machines and has no TLS: %s can be read on the way, unless something in front of weir ends TLS; set %s",
			name, addr, what, files))
	}
	if !s.AdminAddr.local() && s.AdminToken != "" && !s.Access.AdminTLS.on() && !s.AdminAddr.isURL() {
		warn("admin_addr", s.AdminAddr, "the admin token", "admin_tls_cert_file and admin_tls_key_file")
	}
	if s.Access.IngestToken == "" || s.Access.TLS.on() {
		return
	}
	for _, l := range s.ingestListeners() {
		if !l.addr.local() {
			warn(l.name, l.addr, "the ingest token", "tls_cert_file and tls_key_file")
		}
	}
}

// namedAddr is a listener's address and the setting that has it.
type namedAddr struct {
	name string
	addr listenAddr
}

// ingestListeners are where data is taken.
func (s *settings) ingestListeners() []namedAddr {
	return []namedAddr{{"grpc_addr", s.GRPCAddr}, {"http_addr", s.HTTPAddr}}
}
