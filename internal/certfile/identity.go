package certfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often, at most, the files are looked at for a change.
const lookEvery = time.Second

// Config names the files of one listener, all in PEM.
type Config struct {
	// CertFile holds the listener's certificate and those between it and its
	// authority. KeyFile holds its private key, not encrypted. Both required.
	CertFile, KeyFile string

	// ClientCAFile holds the authorities whose client certificates are taken.
	// Empty: clients need none.
	ClientCAFile string

	// Logger is told when files were read again, could not be, or when the
	// certificate in use has run out. Nil discards it.
	Logger *slog.Logger

	// Now is the clock that certificates are judged by. Nil: the machine's.
	Now func() time.Time
}

// Identity is who a listener is and, where there is a ClientCAFile, whom it
// lets in. Its methods may be called from any number of goroutines.
type Identity struct {
	cfg  Config
	self *tls.Certificate // what this process shows to itself; nil: clients need none
	held atomic.Pointer[material]

	mu     sync.Mutex // guards what follows, and is held while files are read
	looked time.Time
	seen   [3]stamp
	said   *x509.Certificate // that it has run out was logged
}

// Open reads the files. It fails if they make no certificate that a client
// could accept now; the error names the file and says what to do.
func Open(cfg Config) (*Identity, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return nil, errors.New("TLS needs a certificate file and a key file")
	}
	i := &Identity{cfg: cfg}
	if i.AsksClients() {
		var err error
		if i.self, err = newSelf(); err != nil {
			return nil, fmt.Errorf("make a client certificate for this process: %w", err)
		}
	}
	if err := i.Reload(); err != nil {
		return nil, err
	}
	return i, nil
}

// Reload reads the files now, changed or not. If they are wrong, what was read
// before stays in use. Connections that are open stay as they are.
func (i *Identity) Reload() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.readLocked()
}

// readLocked reads the files. i.mu is held.
func (i *Identity) readLocked() error {
	// Before they are read: what changes meanwhile is noticed the next time.
	i.seen, i.looked = i.stamps(), i.cfg.Now()
	m, err := load(i.cfg)
	if err != nil {
		return err
	}
	if i.self != nil {
		m.clientCAs.AddCert(i.self.Leaf)
	}
	i.held.Store(m)
	return nil
}

// ServerConfig returns the TLS settings of a server with these protocols
// (ALPN), most preferred first: TLS 1.2 at least, 1.3 where both can, the
// certificate as it is when a client connects.
//
// With a ClientCAFile a client that shows a certificate must show a good one.
// One that shows none is turned away too, or, if lenient, let in for the server
// to judge by tls.ConnectionState.VerifiedChains.
func (i *Identity) ServerConfig(lenient bool, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			i.look()
			return i.held.Load().serverConfig(i.cfg.Now, lenient, protocols), nil
		},
	}
}

// AsksClients says whether clients need a certificate.
func (i *Identity) AsksClients() bool { return i.cfg.ClientCAFile != "" }

// NotAfter is when the certificate in use runs out.
func (i *Identity) NotAfter() time.Time { return i.held.Load().leaf.NotAfter }

// look reads the files again if they have changed. Who connects while somebody
// else looks does not wait for it.
func (i *Identity) look() {
	if !i.mu.TryLock() {
		return
	}
	defer i.mu.Unlock()
	now := i.cfg.Now()
	if since := now.Sub(i.looked); since >= 0 && since < lookEvery {
		return
	}
	i.looked = now
	if i.stamps() != i.seen {
		if err := i.readLocked(); err != nil {
			i.cfg.Logger.Error("the changed TLS files were not taken; the certificate read before stays in use", slog.Any("error", err))
		} else {
			i.cfg.Logger.Info("TLS files read again", slog.String("certificate", i.cfg.CertFile), slog.Time("not_after", i.NotAfter()))
		}
	}
	if leaf := i.held.Load().leaf; now.After(leaf.NotAfter) && i.said != leaf {
		i.said = leaf
		i.cfg.Logger.Error("the TLS certificate in use has run out and clients will refuse it; put a new one into its files",
			slog.String("certificate", i.cfg.CertFile), slog.Time("not_after", leaf.NotAfter))
	}
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// stamps are those of all files, zero for those that are not there.
func (i *Identity) stamps() (out [3]stamp) {
	for n, path := range []string{i.cfg.CertFile, i.cfg.KeyFile, i.cfg.ClientCAFile} {
		// Stat follows the links by which mounted secrets are replaced.
		if info, err := os.Stat(path); err == nil {
			out[n] = stamp{info.ModTime(), info.Size()}
		}
	}
	return out
}
