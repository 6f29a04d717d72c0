// Package certtest makes certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates for localhost and 127.0.0.1. Its methods fail
// the test where they cannot do it.
type Authority struct {
	// Names are put into certificates instead.
	Names []string

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

// New returns an authority that is valid around a time.
func New(t testing.TB, name string, at time.Time) *Authority {
	t.Helper()
	a := &Authority{t: t, last: 1}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: at.AddDate(-10, 0, 0), NotAfter: at.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	a.cert = a.sign(template, template, a.key)
	return a
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// Issue returns a new certificate for servers and clients, valid for the year
// before a time, and its key, in PEM. Serial numbers count up from 2.
func (a *Authority) Issue(notAfter time.Time) (certPEM, keyPEM []byte) {
	a.t.Helper()
	key := a.newKey()
	a.last++
	names, addrs := a.Names, []net.IP(nil)
	if names == nil {
		names, addrs = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	cert := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.last), DNSNames: names, IPAddresses: addrs,
		NotBefore: notAfter.AddDate(-1, 0, 0), NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return block("CERTIFICATE", cert.Raw), block("PRIVATE KEY", der)
}

// Pair is Issue for a TLS client or server.
func (a *Authority) Pair(notAfter time.Time) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.Issue(notAfter))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte { return block("CERTIFICATE", a.cert.Raw) }

// Pool returns a pool of the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Files are paths in one directory.
type Files struct{ Cert, Key, CA string }

// Put writes a new certificate that is valid until a time, its key and the
// authority into dir, over those that are there. The files look written age ago,
// so that a second one is seen however coarse the file system's clock is.
func (a *Authority) Put(dir string, notAfter time.Time, age time.Duration) Files {
	a.t.Helper()
	cert, key := a.Issue(notAfter)
	return Files{
		Cert: Write(a.t, filepath.Join(dir, "tls.crt"), cert, age),
		Key:  Write(a.t, filepath.Join(dir, "tls.key"), key, age),
		CA:   Write(a.t, filepath.Join(dir, "ca.crt"), a.PEM(), age),
	}
}

// Write writes a file that looks written age ago, and returns its path.
func Write(t testing.TB, path string, content []byte, age time.Duration) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	return path
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
