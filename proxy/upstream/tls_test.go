package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTLSNeedsATrustedAuthority(t *testing.T) {
	s, caFile := newTLSServer(t, answers(200, ""), nil)
	out := send(t, newTestClient(t, s.URL, nil), small())
	check(t, out, wantRetry("tls"))
	if out.MayHaveArrived || !strings.Contains(out.Exchange.Error, "unknown authority") {
		t.Errorf("error %q, may have arrived: %v", out.Exchange.Error, out.MayHaveArrived)
	}
	check(t, send(t, newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile = caFile }), small()), wantDelivered)

	other := strings.Replace(s.URL, "127.0.0.1", "localhost", 1) // not in the certificate
	check(t, send(t, newTestClient(t, other, func(cfg *Config) { cfg.CAFile = caFile }), small()), wantRetry("tls"))
}

func TestTLSBelow12IsRefused(t *testing.T) {
	s, caFile := newTLSServer(t, answers(200, ""), func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	check(t, send(t, newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile = caFile }), small()), wantRetry("tls"))
}

func TestMixingUpTLSAndPlain(t *testing.T) {
	secure, _ := newTLSServer(t, answers(200, ""), nil)
	plainURL := strings.Replace(secure.URL, "https://", "http://", 1)
	check(t, send(t, newTestClient(t, plainURL, nil), small()), wantPath("https_expected"))

	plain := newServer(t, answers(200, ""))
	secureURL := strings.Replace(plain.URL, "http://", "https://", 1)
	check(t, send(t, newTestClient(t, secureURL, nil), small()), wantRetry("tls"))
}

func TestCAFileErrorsSayWhatIsWrong(t *testing.T) {
	s, good := newTLSServer(t, answers(200, ""), nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	raw := s.Certificate().Raw
	tests := []struct {
		name string
		data []byte
		says string
	}{
		{"empty", []byte(" \n"), "is empty"},
		{"a private key", block("PRIVATE KEY", der), "PRIVATE KEY but no certificate"},
		{"DER", raw, "DER form"},
		{"text", []byte("trust me"), "no PEM certificate"},
		{"second certificate damaged", append(block("CERTIFICATE", raw), block("CERTIFICATE", raw[:50])...), "certificate 2 cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "corp-ca.pem")
			writeFile(t, file, tt.data)
			_, err := New(Config{BaseURL: s.URL, CAFile: file})
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want it to say %q and name the file", err, tt.says)
			}
		})
	}
	if _, err := New(Config{BaseURL: s.URL, CAFile: filepath.Join(good, "none.pem")}); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("missing file: %v", err)
	}
}

func TestHTTP2IsUsedWhereOffered(t *testing.T) {
	var protos sync.Map
	s, caFile := newTLSServer(t, func(_ http.ResponseWriter, r *http.Request) {
		protos.Store(r.Proto, true)
		_, _ = io.Copy(io.Discard, r.Body)
	}, func(s *httptest.Server) { s.EnableHTTP2 = true })
	c := newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile = caFile })
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() { check(t, send(t, c, newRequest(plainPart(noise(500_000)))), wantDelivered) })
	}
	senders.Wait()
	protos.Range(func(proto, _ any) bool {
		if proto != "HTTP/2.0" {
			t.Errorf("a request came as %s", proto)
		}
		return true
	})
}
