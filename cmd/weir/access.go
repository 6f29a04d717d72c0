package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/callerheaders"
	"weir/internal/certfile"
)

// access is who a running weir is to those who connect, and what it asks of
// them.
type access struct {
	ingest *certfile.Identity // nil: no TLS
	admin  *certfile.Identity // nil: no TLS
	door   *callerheaders.Door
	token  atomic.Pointer[secret] // what door asks for
}

// setToken has callers asked for another token.
func (a *access) setToken(token secret) {
	a.token.Store(&token)
	a.door.SetToken(token.reveal())
}

// open reads the certificates.
func (a *access) open(s *settings, logger *slog.Logger) (err error) {
	a.door = callerheaders.NewDoor("")
	a.setToken(s.Access.IngestToken)
	open := func(name string, f tlsFiles) (*certfile.Identity, error) {
		if !f.on() {
			return nil, nil
		}
		id, err := certfile.Open(certfile.Config{CertFile: f.Cert, KeyFile: f.Key, ClientCAFile: f.ClientCA, Logger: logger, Now: now})
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", name, s.from(name), err)
		}
		return id, nil
	}
	a.ingest, err = open("tls_cert_file", s.Access.TLS)
	if err != nil {
		return err
	}
	a.admin, err = open("admin_tls_cert_file", s.Access.AdminTLS)
	return err
}

// reread reads the certificates again. Where one is wrong, the one before stays
// in use.
func (a *access) reread() error {
	var errs []error
	for _, id := range []*certfile.Identity{a.ingest, a.admin} {
		if id != nil {
			errs = append(errs, id.Reload())
		}
	}
	return errors.Join(errs...)
}

// doorOf is the door at a listener. Who can open a unix socket is this user and
// has nothing to show.
func (a *access) doorOf(addr listenAddr) *callerheaders.Door {
	if _, isSocket := addr.socket(); isSocket {
		return a.door.Trusting()
	}
	return a.door
}

// ingestTLS are the TLS settings of a listener that takes data, nil for none.
func (a *access) ingestTLS(addr listenAddr, protocols ...string) *tls.Config {
	if _, isSocket := addr.socket(); isSocket || a.ingest == nil {
		return nil
	}
	return a.ingest.ServerConfig(false, protocols...)
}

// ownTLS is how this process calls its own listeners, nil for without TLS.
func (a *access) ownTLS() *tls.Config {
	if a.ingest == nil {
		return nil
	}
	return a.ingest.ClientConfig()
}

var certificateDesc = prometheus.NewDesc("weir_tls_certificate_expiry_timestamp_seconds",
	"When the certificate in use runs out, by listener: ingest, admin. Absent where a listener has no TLS.", []string{"listener"}, nil)

// Describe implements prometheus.Collector.
func (a *access) Describe(out chan<- *prometheus.Desc) { out <- certificateDesc }

// Collect implements prometheus.Collector.
func (a *access) Collect(out chan<- prometheus.Metric) {
	for listener, id := range map[string]*certfile.Identity{"ingest": a.ingest, "admin": a.admin} {
		if id != nil {
			out <- prometheus.MustNewConstMetric(certificateDesc, prometheus.GaugeValue, float64(id.NotAfter().Unix()), listener)
		}
	}
}

// checkReload refuses what a running weir must not take, and reads the
// certificates again.
func (w *weir) checkReload(next *settings) error {
	// What cannot change while weir runs stays as it is, so that next alone
	// does not say how open weir would be.
	trial := *w.settings
	trial.apply(next)
	return errors.Join(checkUpstream(next), checkExposure(&trial), w.access.reread())
}
