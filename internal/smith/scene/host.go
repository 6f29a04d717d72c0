package scene

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/smith"
)

// Host is a look-alike on a loopback address of its own, as regions and
// neighbours of LangSmith have hosts of their own.
type Host struct {
	*smith.Server

	scheme, addr string
	certificate  atomic.Pointer[tls.Certificate] // nil: plain HTTP
	serving      sync.WaitGroup

	mu  sync.Mutex   // guards srv
	srv *http.Server // nil while connections are refused
}

// hostOption changes a host before it listens.
type hostOption func(*Host)

// withCertificate has the host speak TLS.
func withCertificate(c *tls.Certificate) hostOption {
	return func(h *Host) {
		h.scheme = "https"
		h.certificate.Store(c)
	}
}

// StartHosts starts n servers, each configured as by configure and on an address
// of its own: 127.0.0.2, 127.0.0.3 and so on. The caller closes them.
func StartHosts(ctx context.Context, n int, configure func(i int) smith.Config) ([]*Host, error) {
	var hosts []*Host
	for i := range n {
		h, err := startHost(ctx, i, configure(i))
		if err != nil {
			for _, other := range hosts {
				err = errors.Join(err, other.Close())
			}
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// startHost starts the i-th server of a scene.
func startHost(ctx context.Context, i int, cfg smith.Config, with ...hostOption) (*Host, error) {
	const first = 2
	h := &Host{Server: smith.New(cfg), scheme: "http", addr: fmt.Sprintf("127.0.0.%d:0", first+i)}
	for _, option := range with {
		option(h)
	}
	if err := h.Listen(ctx); err != nil {
		return nil, errors.Join(err, h.Server.Close())
	}
	return h, nil
}

// URL is the host's base URL. It stays the same over Refuse and Listen.
func (h *Host) URL() string { return h.scheme + "://" + h.addr }

// Listen opens the host's port, unless it is open.
func (h *Host) Listen(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.srv != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.addr)
	if err != nil {
		return fmt.Errorf("open the host's port: %w", err)
	}
	h.addr = l.Addr().String()
	srv := &http.Server{
		Handler: h.Server, ReadHeaderTimeout: time.Minute,
		// Broken connections and bad certificates are this server's trade.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	serve := srv.Serve
	if h.certificate.Load() != nil {
		srv.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.certificate.Load(), nil },
		}
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	h.srv = srv
	h.serving.Go(func() { _ = serve(l) }) // ends with Refuse or Close
	return nil
}

// Refuse closes the host's port and every connection to it, until Listen.
func (h *Host) Refuse() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.srv == nil {
		return nil
	}
	err := h.srv.Close()
	h.srv = nil
	return err
}

// SetCertificate replaces the certificate of a host that speaks TLS; the next
// connection sees it.
func (h *Host) SetCertificate(c *tls.Certificate) { h.certificate.Store(c) }

// Close ends the host. It may be called more than once.
func (h *Host) Close() error {
	err := errors.Join(h.Server.Close(), h.Refuse())
	h.serving.Wait()
	return err
}
