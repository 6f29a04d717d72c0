package certfile_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/certfile"
	"weir/internal/certfile/certtest"
)

var testNow = time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)

// clock is a time that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// rig is an identity with its files, and how long ago they were written.
type rig struct {
	t   *testing.T
	dir string
	cfg certfile.Config
	age time.Duration
	clk *clock
	log bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), age: time.Hour, clk: &clock{testNow}}
	r.cfg = certfile.Config{
		CertFile: filepath.Join(r.dir, "tls.crt"), KeyFile: filepath.Join(r.dir, "tls.key"),
		Now: r.clk.now, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	return r
}

// put writes a pair, newer than the one before.
func (r *rig) put(cert, key []byte) {
	r.t.Helper()
	r.age -= time.Second
	certtest.Write(r.t, r.cfg.CertFile, cert, r.age)
	certtest.Write(r.t, r.cfg.KeyFile, key, r.age)
}

func (r *rig) open() *certfile.Identity {
	r.t.Helper()
	id, err := certfile.Open(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// shake makes a handshake over loopback and returns what each side says of it,
// the client after it has read a byte: with TLS 1.3 it hears late of a refusal.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	done := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		conn := tls.Server(raw, server)
		err = conn.HandshakeContext(t.Context())
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		done <- errors.Join(err, conn.Close())
	}()
	raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	defer func() { _ = conn.Close() }()
	if clientErr = conn.HandshakeContext(t.Context()); clientErr == nil {
		state = conn.ConnectionState()
		_, clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	return state, <-done, clientErr
}

func trusting(a *certtest.Authority, r *rig) *tls.Config {
	return &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", Time: r.clk.now, MinVersion: tls.VersionTLS12}
}

func serialShown(t *testing.T, id *certfile.Identity, client *tls.Config) int64 {
	t.Helper()
	state, _, err := shake(t, id.ServerConfig(false, "h2"), client)
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.Int64()
}

func TestARenewedCertificateIsShownWithoutARestart(t *testing.T) {
	ca, r := certtest.New(t, "a", testNow), newRig(t)
	r.put(ca.Issue(testNow.AddDate(0, 0, 1)))
	id := r.open()
	if got := serialShown(t, id, trusting(ca, r)); got != 2 {
		t.Fatalf("certificate %d is shown", got)
	}
	r.put(ca.Issue(testNow.AddDate(0, 0, 90)))
	if got := serialShown(t, id, trusting(ca, r)); got != 2 {
		t.Errorf("the files were looked at again at once (certificate %d)", got)
	}
	r.clk.at = r.clk.at.Add(time.Second)
	if got := serialShown(t, id, trusting(ca, r)); got != 3 || !id.NotAfter().Equal(testNow.AddDate(0, 0, 90)) {
		t.Errorf("certificate %d is shown, until %v", got, id.NotAfter())
	}
	r.put(ca.Issue(testNow.AddDate(0, 0, 90)))
	if err := id.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := serialShown(t, id, trusting(ca, r)); got != 4 {
		t.Errorf("after Reload certificate %d is shown", got)
	}
}

func TestBadFilesLeaveTheCertificateInUse(t *testing.T) {
	ca, r := certtest.New(t, "a", testNow), newRig(t)
	r.put(ca.Issue(testNow.AddDate(0, 0, 90)))
	id := r.open()
	expired, expiredKey := ca.Issue(testNow.AddDate(0, 0, -1))
	good, goodKey := ca.Issue(testNow.AddDate(0, 0, 90))
	for _, tt := range []struct {
		name      string
		cert, key []byte
		says      string
	}{
		{"expired", expired, expiredKey, "ran out on 2026-11-19"},
		{"half replaced", good, expiredKey, "is not that of the certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.put(tt.cert, tt.key)
			r.log.Reset()
			for range 2 { // said once
				r.clk.at = r.clk.at.Add(time.Second)
				if got := serialShown(t, id, trusting(ca, r)); got != 2 {
					t.Errorf("certificate %d is shown", got)
				}
			}
			if got := r.log.String(); strings.Count(got, tt.says) != 1 {
				t.Errorf("log %q, want it to say %q once", got, tt.says)
			}
			if err := id.Reload(); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Reload: %v", err)
			}
		})
	}
	r.put(good, goodKey)
	r.clk.at = r.clk.at.Add(time.Second)
	if got := serialShown(t, id, trusting(ca, r)); got != 4 {
		t.Errorf("once the files are good, certificate %d is shown", got)
	}
	r.log.Reset()
	r.clk.at = testNow.AddDate(0, 0, 91)
	if _, _, err := shake(t, id.ServerConfig(false), trusting(ca, r)); err == nil || !strings.Contains(r.log.String(), "has run out") {
		t.Errorf("a certificate that runs out while it is in use: client %v, log %q", err, r.log.String())
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	ca := certtest.New(t, "a", testNow)
	cert, key := ca.Issue(testNow.AddDate(0, 0, 90))
	_, otherKey := ca.Issue(testNow.AddDate(0, 0, 90))
	expired, expiredKey := ca.Issue(testNow.AddDate(0, 0, -1))
	early, earlyKey := ca.Issue(testNow.AddDate(2, 0, 0))
	for _, tt := range []struct {
		name          string
		cert, key, ca []byte
		says          []string
	}{
		{"all well", cert, key, ca.PEM(), nil},
		{"no certificate", nil, key, nil, []string{"tls.crt", "no such file"}},
		{"no key", cert, nil, nil, []string{"tls.key", "no such file"}},
		{"another's key", cert, otherKey, nil, []string{"the key in", "is not that of the certificate in", "tls.crt"}},
		{"swapped", key, cert, nil, []string{"tls.crt", "no certificate"}},
		{"text", []byte("x"), key, nil, []string{"tls.crt", "no certificate in PEM form"}},
		{"no key in the key file", cert, []byte("x"), nil, []string{"tls.key", "no private key"}},
		{"encrypted", cert, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), nil, []string{"is encrypted"}},
		{"expired", expired, expiredKey, nil, []string{"ran out on 2026-11-19", "renew it"}},
		{"not yet valid", early, earlyKey, nil, []string{"is not valid before 2027-11-20", "clock"}},
		{"no authority", cert, key, []byte("x"), []string{"ca.crt", "no certificate in PEM form"}},
		{"a key among authorities", cert, key, append(ca.PEM(), key...), []string{"ca.crt", "PRIVATE KEY"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			for name, content := range map[string][]byte{"tls.crt": tt.cert, "tls.key": tt.key, "ca.crt": tt.ca} {
				if content != nil {
					certtest.Write(t, filepath.Join(r.dir, name), content, 0)
				}
			}
			if tt.ca != nil {
				r.cfg.ClientCAFile = filepath.Join(r.dir, "ca.crt")
			}
			_, err := certfile.Open(r.cfg)
			if (err == nil) != (len(tt.says) == 0) {
				t.Fatalf("error %v", err)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	ca, other := certtest.New(t, "a", testNow), certtest.New(t, "b", testNow)
	r := newRig(t)
	r.put(ca.Issue(testNow.AddDate(0, 0, 90)))
	r.cfg.ClientCAFile = certtest.Write(t, filepath.Join(r.dir, "ca.crt"), ca.PEM(), time.Hour)
	id := r.open()
	pair := func(a *certtest.Authority, until time.Time) []tls.Certificate {
		return []tls.Certificate{a.Pair(until)}
	}
	right := pair(ca, testNow.AddDate(0, 0, 1))
	for _, tt := range []struct {
		name            string
		certs           []tls.Certificate
		strict, lenient bool
	}{
		{"none", nil, false, true},
		{"of the authority", right, true, true},
		{"of another", pair(other, testNow.AddDate(0, 0, 1)), false, false},
		{"expired", pair(ca, testNow.AddDate(0, 0, -1)), false, false},
		{"that this process shows to itself", id.ClientConfig().Certificates, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for lenient, want := range map[bool]bool{false: tt.strict, true: tt.lenient} {
				client := trusting(ca, r)
				// Whatever the server asks for: a wrong one is shown too.
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(tt.certs) == 0 {
						return &tls.Certificate{}, nil
					}
					return &tt.certs[0], nil
				}
				_, serverErr, clientErr := shake(t, id.ServerConfig(lenient), client)
				if got := serverErr == nil && clientErr == nil; got != want {
					t.Errorf("lenient %v: let in %v, want %v (server: %v; client: %v)", lenient, got, want, serverErr, clientErr)
				}
			}
		})
	}
	t.Run("the process itself", func(t *testing.T) {
		if _, serverErr, clientErr := shake(t, id.ServerConfig(false), id.ClientConfig()); serverErr != nil || clientErr != nil {
			t.Errorf("server: %v; client: %v", serverErr, clientErr)
		}
		another := newRig(t)
		another.put(ca.Issue(testNow.AddDate(0, 0, 90)))
		if _, _, err := shake(t, another.open().ServerConfig(false), id.ClientConfig()); err == nil {
			t.Error("another server of the same authority was taken for this one")
		}
	})
	t.Run("authority replaced", func(t *testing.T) {
		certtest.Write(t, filepath.Join(r.dir, "ca.crt"), other.PEM(), time.Minute)
		r.clk.at = r.clk.at.Add(time.Second)
		client := trusting(ca, r)
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &right[0], nil }
		if _, err, _ := shake(t, id.ServerConfig(false), client); err == nil {
			t.Error("a client of the authority before was let in")
		}
	})
}

func TestOldTLSIsRefused(t *testing.T) {
	ca, r := certtest.New(t, "a", testNow), newRig(t)
	r.put(ca.Issue(testNow.AddDate(0, 0, 90)))
	id := r.open()
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		client := trusting(ca, r)
		client.MinVersion, client.MaxVersion = tls.VersionTLS10, version
		state, _, err := shake(t, id.ServerConfig(false), client)
		if got := err == nil && state.Version == version; got != want {
			t.Errorf("%s: %v, want %v (%v)", tls.VersionName(version), got, want, err)
		}
	}
	if state, _, err := shake(t, id.ServerConfig(false, "h2", "http/1.1"), func() *tls.Config {
		client := trusting(ca, r)
		client.NextProtos = []string{"h2", "http/1.1"}
		return client
	}()); err != nil || state.NegotiatedProtocol != "h2" || state.Version != tls.VersionTLS13 {
		t.Errorf("protocol %q, %s, %v", state.NegotiatedProtocol, tls.VersionName(state.Version), err)
	}
}

func TestReadableByAll(t *testing.T) {
	path := certtest.Write(t, filepath.Join(t.TempDir(), "tls.key"), []byte("x"), 0)
	if certfile.ReadableByAll(path) {
		t.Error("a file of mode 0600 counts as readable by all")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if !certfile.ReadableByAll(path) || certfile.ReadableByAll(path+".none") {
		t.Error("wrong")
	}
}
