package doctor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"weir/internal/smith"
	"weir/proxy/diagnose"
)

// authority is a certificate authority of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, organization string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{organization}, CommonName: "Root"},
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{t: t, cert: cert, key: key}
}

// file is the authority's certificate as a PEM file.
func (a authority) file() string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// roots trust the authority alone.
func (a authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serve serves a handler over TLS with a certificate for a name or address.
func (a authority) serve(handler http.Handler, name string, from, until time.Time) string {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(handler)
	ts.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	ts.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	ts.StartTLS()
	a.t.Cleanup(ts.Close)
	return ts.URL
}

func TestCertificatesAreJudged(t *testing.T) {
	now := time.Now()
	past, soon, later := now.AddDate(0, -1, 0), now.Add(24*time.Hour), now.AddDate(1, 0, 0)
	ca := newAuthority(t, "Corp Security")
	s := smith.New(smith.Config{})
	defer s.Close() //nolint:errcheck // it always succeeds
	tests := []struct {
		name        string
		host        string
		from, until time.Time
		caFile      bool // the configuration names the authority
		trusted     bool // the system trusts the authority
		ok          bool
		cause       diagnose.Code
		says        string
	}{
		{"public", "127.0.0.1", past, later, true, true, true, "", "issued by Corp Security (Root), until " + later.UTC().Format(time.DateOnly)},
		{"private, named by ca_file", "127.0.0.1", past, later, true, false, true, "", "ca_file vouches"},
		{"private", "127.0.0.1", past, later, false, false, false, diagnose.UpstreamCert, "--ca-file"},
		{"expired", "127.0.0.1", past, now.Add(-time.Hour), true, true, false, diagnose.UpstreamCert, "expired"},
		{"expired, named by ca_file", "127.0.0.1", past, now.Add(-time.Hour), true, false, false, diagnose.UpstreamCert, "expired"},
		{"not yet valid", "127.0.0.1", soon, later, true, true, false, diagnose.UpstreamCert, "not valid before"},
		{"for another name", "smith.corp.example", past, later, true, true, false, diagnose.UpstreamCert, "not for 127.0.0.1"},
		{"soon over", "127.0.0.1", past, soon, true, true, true, diagnose.UpstreamCert, "Renew"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := newConfig(t, ca.serve(s, tt.host, tt.from, tt.until))
			cfg.SystemRoots = x509.NewCertPool()
			if tt.trusted {
				cfg.SystemRoots = ca.roots()
			}
			if tt.caFile {
				cfg.CAFile = ca.file()
			}
			f := examine(t, cfg)
			f.wants("tls", tt.ok, tt.cause, tt.says)
			if !tt.ok {
				f.skipped("tls", "info", "key")
			} else {
				f.wants("key", true, "")
			}
		})
	}
}

func TestACAFileThatCannotBeReadIsNamed(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	cfg := newConfig(t, url)
	cfg.CAFile = filepath.Join(t.TempDir(), "none.pem")
	examine(t, cfg).wants("endpoint", false, diagnose.UpstreamCert, "none.pem")
}

func TestPlainTextWhereTLSIsWanted(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	f := examine(t, newConfig(t, strings.Replace(url, "http://", "https://", 1)))
	f.wants("tls", false, diagnose.Network, "no TLS")
}

// connectProxy is an HTTP proxy that leads to one place, wherever one asks for.
type connectProxy struct {
	to    string
	mu    sync.Mutex
	hosts []string
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.hosts = append(p.hosts, r.Host)
	p.mu.Unlock()
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	var d net.Dialer
	far, err := d.DialContext(r.Context(), "tcp", p.to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close() //nolint:errcheck // a test's
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close() //nolint:errcheck // a test's
	_, _ = near.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	pump(near, buffered.Reader, far)
}

// pump carries bytes both ways until both ends are done.
func pump(near net.Conn, fromNear *bufio.Reader, far net.Conn) {
	var ways sync.WaitGroup
	ways.Go(func() { _, _ = io.Copy(far, fromNear); _ = far.Close() })
	ways.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
	ways.Wait()
}

func TestTheWayThroughAProxyIsChecked(t *testing.T) {
	now := time.Now()
	s := smith.New(smith.Config{})
	defer s.Close() //nolint:errcheck // it always succeeds
	tests := []struct {
		name    string
		issuer  string
		trusted bool
		caFile  bool
		ok      bool
		cause   diagnose.Code
		says    string
	}{
		{"an honest one", "Google Trust Services", true, true, true, "", "Google Trust Services"},
		{"one that reads along, unknown", "Zscaler Inc.", false, false, false, diagnose.TLSInterception, "Zscaler Inc."},
		{"one that reads along, in ca_file", "Zscaler Inc.", false, true, true, diagnose.TLSInterception, "decrypts"},
		{"one that reads along, in the system", "Corp Security", true, true, true, diagnose.TLSInterception, "Corp Security"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ca := newAuthority(t, tt.issuer)
			target := strings.TrimPrefix(ca.serve(s, "api.smith.langchain.com", now.AddDate(0, -1, 0), now.AddDate(1, 0, 0)), "https://")
			proxy := &connectProxy{to: target}
			proxyURL := serve(t, proxy.ServeHTTP)
			cfg := newConfig(t, "https://api.smith.langchain.com")
			cfg.Environ = append(cfg.Environ, "HTTPS_PROXY="+strings.Replace(proxyURL, "http://", "http://user:PASSWORD@", 1))
			cfg.SystemRoots = x509.NewCertPool()
			if tt.trusted {
				cfg.SystemRoots = ca.roots()
			}
			if tt.caFile {
				cfg.CAFile = ca.file()
			}
			f := examine(t, cfg)
			f.wants("http_proxy", true, "", proxyURL, "HTTPS_PROXY")
			f.wants("tcp", true, "", "(the proxy)")
			f.wants("tls", tt.ok, tt.cause, tt.says)
			if tt.ok {
				f.wants("key", true, "")
			}
			for _, c := range f.all {
				if strings.Contains(c.Seen+c.Remedy, "PASSWORD") {
					t.Errorf("%s shows the proxy's password: %+v", c.Name, c)
				}
			}
			for _, host := range proxy.hosts {
				if host != "api.smith.langchain.com:443" {
					t.Errorf("the proxy was asked for %s", host)
				}
			}
		})
	}
}

func TestAProxyThatRefusesIsNamed(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) })
	cfg := newConfig(t, "https://api.smith.langchain.com")
	cfg.Environ = append(cfg.Environ, "HTTPS_PROXY="+url)
	examine(t, cfg).wants("tls", false, diagnose.Network, "Proxy Authentication Required")
}

func TestProxiesThatAreNotUsedAreExplained(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	cfg := newConfig(t, url)
	cfg.Environ = append(cfg.Environ, "HTTP_PROXY=http://127.0.0.1:9")
	f := examine(t, cfg) // loopback is never behind a proxy
	f.wants("http_proxy", true, "", "not for this host")
	f.wants("info", true, "")

	cfg.Environ = append(cfg.Environ, "HTTP_PROXY=<proxy>")
	examine(t, cfg).wants("http_proxy", true, diagnose.Network, "ignored")
}

func TestAnUnencryptedWayIsNoticed(t *testing.T) {
	proxy := &connectProxy{}
	cfg := newConfig(t, "http://smith.corp.example")
	cfg.Environ = append(cfg.Environ, "HTTP_PROXY="+serve(t, proxy.ServeHTTP))
	examine(t, cfg).wants("tls", true, diagnose.EndpointMalformed, "unencrypted", "https://")

	_, url := newSmith(t, smith.Config{})
	examine(t, newConfig(t, url)).wants("tls", true, "", "on this machine")
}

// nameServer answers every question with a code.
func nameServer(t *testing.T, code dnsmessage.RCode) *net.Resolver {
	t.Helper()
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.RCode, m.Additionals = true, code, nil
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestNamesThatCannotBeResolved(t *testing.T) {
	for code, says := range map[dnsmessage.RCode]string{
		dnsmessage.RCodeNameError:     "no such host",
		dnsmessage.RCodeServerFailure: "name server does not answer",
	} {
		cfg := newConfig(t, "https://smith.corp.invalid")
		cfg.Resolver = nameServer(t, code)
		f := examine(t, cfg)
		f.wants("dns", false, diagnose.Network, "smith.corp.invalid", says)
		f.skipped("dns", "tcp", "tls", "info", "key")
	}
}

func TestAPortWhereNothingListens(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	f := examine(t, newConfig(t, "http://"+addr))
	f.wants("tcp", false, diagnose.Network, addr, "refused")
	f.skipped("tcp", "tls", "info", "key")
}
