package certfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"time"
)

// errOther ends a handshake with a server that is not the expected one.
var errOther = errors.New("the certificate is another than that of weir's own files")

// ClientConfig returns the TLS settings by which this process calls its own
// listener, whatever the name: the certificate in use is taken and no other,
// and a client certificate that only this process has is shown where one is
// asked for.
func (i *Identity) ClientConfig() *tls.Config {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection takes its place, and is stricter
		VerifyConnection: func(state tls.ConnectionState) error {
			if !state.PeerCertificates[0].Equal(i.held.Load().leaf) {
				return errOther
			}
			return nil
		},
	}
	if i.self != nil {
		cfg.Certificates = []tls.Certificate{*i.self}
	}
	return cfg
}

// newSelf makes a client certificate that lives as long as the process and
// signs nothing. Its key is in memory alone.
func newSelf() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "weir itself"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
