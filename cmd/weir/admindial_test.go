package main

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/certfile/certtest"
)

// serveWith answers anything over TLS with a certificate, which may be one that
// no weir would start with.
func serveWith(t *testing.T, pair tls.Certificate) (hostPort string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestCommandsReachAWeirOverTLS(t *testing.T) {
	soon := time.Now().AddDate(0, 0, 30)
	ca, other := certtest.New(t, "weir's", time.Now()), certtest.New(t, "another", time.Now())
	dir := t.TempDir()
	files := ca.Put(dir, soon, time.Hour)
	otherCA := certtest.Write(t, filepath.Join(dir, "other.crt"), other.PEM(), 0)
	client := ca.Put(t.TempDir(), soon, time.Hour)
	stranger := other.Put(t.TempDir(), soon, time.Hour)

	secure := newGuarded(t, nil, "admin_tls_cert_file", files.Cert, "admin_tls_key_file", files.Key)
	mutual := newGuarded(t, nil, "admin_tls_cert_file", files.Cert, "admin_tls_key_file", files.Key, "admin_tls_client_ca_file", files.CA)
	plain := newGuarded(t, nil)
	expired := serveWith(t, ca.Pair(time.Now().AddDate(0, 0, -1)))
	named := certtest.New(t, "weir's", time.Now())
	named.Names = []string{"weir.internal"}
	elsewhere := serveWith(t, named.Pair(soon))
	namedCA := certtest.Write(t, filepath.Join(dir, "named.crt"), named.PEM(), 0)

	at := func(g *guarded) string { return string(g.weir.at.Admin) }
	localhost := func(g *guarded) string {
		_, port, err := net.SplitHostPort(at(g))
		if err != nil {
			t.Fatal(err)
		}
		return "localhost:" + port
	}
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		code int
		says string
	}{
		{"by its authority", []string{"--admin-addr=https://" + at(secure), "--admin-ca-file=" + files.CA}, nil, exitOK, ""},
		{"by name", []string{"--admin-addr=https://" + localhost(secure) + "/", "--admin-ca-file=" + files.CA}, nil, exitOK, ""},
		{"an authority means TLS", []string{"--admin-addr=" + at(secure), "--admin-ca-file=" + files.CA}, nil, exitOK, ""},
		{"by weir's own configuration", nil, map[string]string{
			"WEIR_ADMIN_ADDR": at(secure), "WEIR_ADMIN_TLS_CERT_FILE": files.Cert, "WEIR_ADMIN_TLS_KEY_FILE": files.Key,
		}, exitOK, ""},
		{"by another weir's configuration", nil, map[string]string{
			"WEIR_ADMIN_ADDR": at(secure), "WEIR_ADMIN_TLS_CERT_FILE": stranger.Cert, "WEIR_ADMIN_TLS_KEY_FILE": stranger.Key,
		}, exitUnreachable, "--admin-ca-file"},
		{"unknown authority", []string{"--admin-addr=https://" + at(secure)}, nil, exitUnreachable, "name the file of its authority with --admin-ca-file"},
		{"other authority", []string{"--admin-addr=https://" + at(secure), "--admin-ca-file=" + otherCA}, nil, exitUnreachable, "an authority that is not trusted here"},
		{"expired", []string{"--admin-addr=https://" + expired, "--admin-ca-file=" + files.CA}, nil, exitUnreachable, "is not valid now"},
		{"other name", []string{"--admin-addr=https://" + elsewhere, "--admin-ca-file=" + namedCA}, nil, exitUnreachable, "is for another name"},
		{"plain to TLS", []string{"--admin-addr=" + at(secure)}, nil, exitUnreachable, "speaks TLS: call it as --admin-addr=https://" + at(secure)},
		{"TLS to plain", []string{"--admin-addr=https://" + at(plain)}, nil, exitUnreachable, "speaks no TLS: call it as --admin-addr=http://" + at(plain)},
		{"http is plain", []string{"--admin-addr=http://" + at(plain)}, nil, exitOK, ""},
		{"certificate missing", []string{"--admin-addr=https://" + at(mutual), "--admin-ca-file=" + files.CA}, nil, exitFailed, "asks for a client certificate"},
		{"certificate shown", []string{
			"--admin-addr=https://" + at(mutual), "--admin-ca-file=" + files.CA, "--admin-client-cert-file=" + client.Cert, "--admin-client-key-file=" + client.Key,
		}, nil, exitOK, ""},
		{"key left out", []string{"--admin-addr=https://" + at(mutual), "--admin-client-cert-file=" + client.Cert}, nil, exitUsage, "admin_client_key_file is not: give both"},
		{"no such file", []string{"--admin-addr=https://" + at(secure), "--admin-ca-file=/nowhere"}, nil, exitUsage, "admin_ca_file (flag --admin-ca-file)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sys := newTestSystem(t, tt.env)
			code := sys.execute(t, append([]string{"status"}, tt.args...)...)
			if code != tt.code || !strings.Contains(sys.err.String(), tt.says) {
				t.Errorf("exit code %d, want %d; message %q, want it to say %q", code, tt.code, sys.err, tt.says)
			}
		})
	}
}

// TestTurnedAwayInTheHandshake looks at the words: whether the alert or the end
// of the connection comes first is up to the network.
func TestTurnedAwayInTheHandshake(t *testing.T) {
	err := &net.OpError{Op: "remote error", Err: textError("tls: expired certificate")}
	got := tlsTrouble("https://weir:4319", err)
	for _, part := range []string{"https://weir:4319", "(expired certificate)", "--admin-client-cert-file"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q lacks %q", got, part)
		}
	}
	if got := tlsTrouble("weir:4319", textError("connection refused")); got != "" {
		t.Errorf("another error: %q", got)
	}
}

type textError string

func (e textError) Error() string { return string(e) }
