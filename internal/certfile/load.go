package certfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// maxFileBytes bounds a file; a bundle of every public authority has 250 KiB.
const maxFileBytes = 4 << 20

// material is what the files held at one time.
type material struct {
	pair      tls.Certificate
	leaf      *x509.Certificate
	clientCAs *x509.CertPool // nil: clients need no certificate
}

func (m *material) serverConfig(now func() time.Time, lenient bool, protocols []string) *tls.Config {
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{m.pair},
		NextProtos:   protocols,
		Time:         now,
	}
	if m.clientCAs != nil {
		cfg.ClientCAs = m.clientCAs
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		if lenient {
			cfg.ClientAuth = tls.VerifyClientCertIfGiven
		}
		// A resumed session would outlive the authority that let it in.
		cfg.SessionTicketsDisabled = true
	}
	return cfg
}

// load reads the files of cfg.
func load(cfg Config) (*material, error) {
	pair, err := LoadPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	m := &material{pair: pair, leaf: pair.Leaf}
	switch now := cfg.Now(); {
	case now.After(m.leaf.NotAfter):
		return nil, fmt.Errorf("the certificate in %s ran out on %s, and clients would refuse it: renew it", cfg.CertFile, day(m.leaf.NotAfter))
	case now.Before(m.leaf.NotBefore):
		return nil, fmt.Errorf("the certificate in %s is not valid before %s: is the clock of this machine right?", cfg.CertFile, day(m.leaf.NotBefore))
	}
	if cfg.ClientCAFile != "" {
		if m.clientCAs, err = LoadPool(cfg.ClientCAFile); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// LoadPair reads a certificate and its private key. Whether it is valid now is
// not looked at. The error names the file at fault.
func LoadPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := read(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate file: %w", err)
	}
	key, err := read(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key file: %w", err)
	}
	if bytes.Contains(key, []byte("ENCRYPTED")) {
		return tls.Certificate{}, fmt.Errorf("the key in %s is encrypted, and there is nobody to ask for its passphrase: give it unencrypted, readable by weir's user alone", keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err == nil:
		return pair, nil
	case strings.Contains(err.Error(), "does not match"):
		return tls.Certificate{}, fmt.Errorf("the key in %s is not that of the certificate in %s (the first one there must be the listener's own)", keyFile, certFile)
	case strings.Contains(err.Error(), "certificate input"): // also where the two were switched
		return tls.Certificate{}, fmt.Errorf("%s holds no certificate in PEM form: %w", certFile, err)
	case strings.Contains(err.Error(), "key input") || strings.Contains(err.Error(), "private key"):
		return tls.Certificate{}, fmt.Errorf("%s holds no private key in PEM form: %w", keyFile, err)
	default:
		return tls.Certificate{}, fmt.Errorf("%s cannot be read: %w", certFile, err)
	}
}

// LoadLeaf reads the first certificate of a file. The error names it.
func LoadLeaf(path string) (*x509.Certificate, error) {
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("certificate file: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return cert, nil
	}
	return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
}

// LoadPool reads certificates of authorities. The error names the file.
func LoadPool(path string) (*x509.CertPool, error) {
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	pool, found := x509.NewCertPool(), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s; a file of authorities holds certificates only", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d cannot be read: %w", path, found+1, err)
		}
		pool.AddCert(cert)
		found++
	}
	if found == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return pool, nil
}

// ReadableByAll says whether every user of the machine may read a file; one
// that cannot be looked at counts as not.
func ReadableByAll(path string) bool {
	const othersRead = 0o004
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&othersRead != 0
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxFileBytes>>20)
	}
	return text, nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
