package main

import (
	"errors"
	"fmt"
	"net/netip"

	"weir/proxy/upstream"
)

// checkRunnable refuses configurations whose values are fine one by one and
// which weir must not run with all the same.
func checkRunnable(s *settings) error {
	if s.GRPCAddr.off() && s.HTTPAddr.off() {
		return errors.New("grpc_addr and http_addr are both off: there is nowhere to take traces; give one an address")
	}
	return errors.Join(checkUpstream(s), checkExposure(s))
}

// checkExposure refuses to lend weir's own key to other machines, or to let
// them administer it, without being told to or how to tell them apart. A loopback address and a unix
// socket are reachable by this machine alone; anything else counts as open.
func checkExposure(s *settings) error {
	errs := []error{s.checkFiles()}
	switch {
	case s.AdminAddr.isURL():
		errs = append(errs, fmt.Errorf(
			"admin_addr %s (%s): weir listens on an address, such as 0.0.0.0:4319, with admin_tls_cert_file for TLS; a URL is for commands that call it",
			s.AdminAddr, s.from("admin_addr")))
	case !s.AdminAddr.local() && s.AdminToken == "" && !s.Access.AdminTLS.mutual():
		errs = append(errs, fmt.Errorf(
			"admin_addr %s (%s): other machines can reach it, and without a token each of them could stop this weir and read its state; "+
				"listen on 127.0.0.1 or unix:PATH, or set WEIR_ADMIN_TOKEN or admin_token_file, or ask for client certificates with admin_tls_client_ca_file "+
				"(metrics_addr serves health and metrics without)",
			s.AdminAddr, s.from("admin_addr")))
	}
	if token := s.Access.IngestToken; token != "" && (token == s.AdminToken || token == s.APIKey) {
		errs = append(errs, fmt.Errorf(
			"ingest_token (%s): it is also the admin token or the API key, and every application that sends would have that; take another, such as weir_ and 32 random characters",
			s.from("ingest_token")))
	}
	if s.APIKey == "" || s.InsecureIngest || s.Access.IngestToken != "" || s.Access.TLS.mutual() {
		return errors.Join(errs...)
	}
	for _, l := range s.ingestListeners() {
		if l.addr.local() {
			continue
		}
		errs = append(errs, fmt.Errorf(
			"%s %s (%s): other machines can reach it, and whatever they send without a key of its own would go out under weir's key %s (%s); "+
				"listen on 127.0.0.1 or unix:PATH, or ask callers for a token (WEIR_INGEST_TOKEN or ingest_token_file) or a client certificate (tls_client_ca_file), "+
				"or accept that with --insecure-ingest where the network keeps strangers away",
			l.name, l.addr, s.from(l.name), s.APIKey, s.from("api_key")))
	}
	return errors.Join(errs...)
}

// checkUpstream notices an upstream that is this weir itself. It happens when
// an application and weir share an environment in which LANGSMITH_ENDPOINT
// points at weir.
func checkUpstream(s *settings) error {
	for _, l := range []struct {
		name string
		addr listenAddr
	}{
		{"http_addr", s.HTTPAddr},
		{"grpc_addr", s.GRPCAddr},
		{"admin_addr", s.AdminAddr},
		{"metrics_addr", s.MetricsAddr},
	} {
		if !l.addr.off() && upstream.IsSelf(s.Upstream, []string{string(l.addr)}) {
			return fmt.Errorf(
				"upstream %s (%s) is this weir's own %s: data would go in circles; "+
					"name LangSmith with --upstream or WEIR_UPSTREAM, such as %s, which wins over the LANGSMITH_ENDPOINT that applications use",
				s.Upstream, s.from("upstream"), l.name, upstream.DefaultBaseURL)
		}
	}
	return nil
}

// isUnspecified reports whether a listener on host takes connections to any
// of the machine's addresses.
func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || (err == nil && ip.IsUnspecified())
}
