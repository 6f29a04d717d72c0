package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"weir/internal/hostguard"
	"weir/internal/listen"
	weirv1 "weir/proto/weir/v1"
)

// Limits of a listener. People and scrapers stay far below them.
const (
	maxConnections    = 256
	maxStreams        = 64 // concurrent calls on one HTTP/2 connection
	maxHeaderBytes    = 32 << 10
	maxRequestBytes   = 1 << 20 // one message of a call, decompressed
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = time.Minute
)

// Source is the weir that is shown and steered. Its methods may be called
// from any number of goroutines.
type Source interface {
	// Status returns a consistent picture. It holds no secrets.
	Status(ctx context.Context) (*weirv1.GetStatusResponse, error)

	// Drain stops taking new data and delivers what is pending, calling
	// report now and then and once at the end with Done set. It returns when
	// everything that can go has gone, when timeout has passed (0: no
	// timeout), when report fails or when ctx ends; the latter two leave weir
	// draining. report is not called after Drain has returned.
	Drain(ctx context.Context, timeout time.Duration, report func(*weirv1.DrainResponse) error) error

	// Quota returns where every account stands, by name.
	Quota(ctx context.Context) (*weirv1.GetQuotaResponse, error)

	// SetQuota corrects count and limit of the account that req names in full.
	// The numbers are valid. Nothing of req is kept.
	SetQuota(ctx context.Context, req *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error)

	// ReleaseHeld orders a release of held traces of the account that req names
	// in full, or says what it would release.
	ReleaseHeld(ctx context.Context, req *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error)

	// SendTest sends one trace the whole way and calls report for each step that
	// has ended, and at last with the result. It returns when that is done, when
	// report fails or when ctx ends. The request is valid. One call is made at a
	// time, and report is not called after SendTest has returned.
	SendTest(ctx context.Context, req *weirv1.SendTestRequest, report func(*weirv1.SendTestResponse) error) error
	Caseworker
	Observer
	Operator
	FrameKeeper

	// Ready says whether exports would be taken now, and in sentences without
	// secrets why not, or what is wrong all the same.
	Ready() (ok bool, reasons []string)
}

// Config says where and for whom the admin API is served.
type Config struct {
	// Addr is "host:port" or "unix:PATH". Required.
	Addr string

	// MetricsAddr serves /metrics, /healthz and /readyz alone, without a
	// token, for kubelets and scrapers. Empty: not served apart.
	MetricsAddr string

	// Token is what callers must send as "Authorization: Bearer TOKEN".
	// /healthz and /readyz answer without. Required where Addr can be reached
	// from other machines; empty elsewhere asks nobody.
	Token string

	// AllowedHosts and AllowedOrigins are what hostguard.Config's Hosts and
	// Origins are.
	AllowedHosts   []string
	AllowedOrigins []string

	// Gatherer is what /metrics shows. Required.
	Gatherer prometheus.Gatherer

	// Registerer takes this package's own metrics. Nil: they are not kept.
	Registerer prometheus.Registerer

	// Logger takes what goes wrong while serving. Nil discards it.
	Logger *slog.Logger

	// Version is the running binary's, for the index page.
	Version string
}

// Validate says what is wrong with the configuration, all of it at once.
func (c Config) Validate() error {
	var errs []error
	if c.Addr == "" {
		errs = append(errs, errors.New("admin: no address to listen on"))
	}
	if c.Gatherer == nil {
		errs = append(errs, errors.New("admin: no metrics to gather"))
	}
	if c.Addr != "" && c.Token == "" && listen.Exposed(c.Addr) {
		errs = append(errs, fmt.Errorf("admin: address %s can be reached from other machines, and whoever reaches it can "+
			"read the state of this weir and stop its intake: set a token (admin_token_file), or listen on 127.0.0.1:4319 or unix:PATH", c.Addr))
	}
	if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, errors.New("admin: the token holds a space, a line break or a character outside ASCII, which a header cannot carry"))
	}
	return errors.Join(errs...)
}

// Server serves the admin API. Start it once, then Close it.
type Server struct {
	cfg     Config
	src     Source
	log     *slog.Logger
	handler http.Handler // of Addr
	metrics http.Handler // of MetricsAddr

	stopping   context.Context // ends when Close begins: streams end with it
	stop       context.CancelFunc
	failed     chan error // holds one
	serving    sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
	mu         sync.Mutex // guards what follows
	addr       net.Addr
	httpServer []*http.Server // one per listener, in order of start
}

// New returns a server that is not listening yet. It fails if the
// configuration is wrong, in particular if it would let other machines in
// without a token.
func New(cfg Config, src Source) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, src: src, log: cfg.Logger, failed: make(chan error, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	refused := newRefusedCounter()
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(refused); err != nil {
			return nil, fmt.Errorf("admin: register metrics: %w", err)
		}
	}
	gate := &gate{token: cfg.Token, refused: refused}
	guards := make([]*hostguard.Guard, 0, 2)
	for _, addr := range []string{cfg.Addr, cfg.MetricsAddr} {
		guard, err := hostguard.New(hostguard.Config{
			Listen: addr, Hosts: cfg.AllowedHosts, Origins: cfg.AllowedOrigins, Refuse: gate.refuseForeign,
		})
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		guards = append(guards, guard)
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.handler = guards[0].Wrap(s.routes(src, gate))
	s.metrics = guards[1].Wrap(s.metricsRoutes(src))
	return s, nil
}

// Handler returns the handler that is served on Addr.
func (s *Server) Handler() http.Handler { return s.handler }

// Start listens and serves until Close. If one of two listeners cannot be
// opened, neither is.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr != nil || s.stopping.Err() != nil {
		return errors.New("admin: already started")
	}
	ln, err := listen.Open(ctx, s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if s.cfg.MetricsAddr != "" {
		metrics, err := listen.Open(ctx, s.cfg.MetricsAddr)
		if err != nil {
			return fmt.Errorf("admin: metrics: %w", errors.Join(err, ln.Close()))
		}
		s.serveLocked(metrics, s.metrics)
	}
	s.serveLocked(ln, s.handler)
	s.addr = ln.Addr()
	s.serving.Go(func() { s.src.Record(s.stopping) }) //nolint:contextcheck // it ends with the server, not with its start
	return nil
}

// serveLocked serves h on ln in a goroutine that Close joins. s.mu is held.
func (s *Server) serveLocked(ln net.Listener, h http.Handler) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.httpServer = append(s.httpServer, srv)
	s.serving.Go(func() {
		err := srv.Serve(netutil.LimitListener(ln, maxConnections))
		if errors.Is(err, http.ErrServerClosed) {
			return
		}
		select {
		case s.failed <- fmt.Errorf("admin: serve on %s: %w", ln.Addr(), err):
		default: // one failure is enough to stop weir
		}
	})
}

// Addr returns the address of the admin listener, nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Failed delivers one error if a listener fails while serving.
func (s *Server) Failed() <-chan error { return s.failed }

// Close stops listening, ends streams, waits for other calls until ctx ends,
// then cuts them off. It returns when everything Start started has ended, and
// may be called more than once.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		s.stop()
		s.mu.Lock()
		servers := s.httpServer
		s.mu.Unlock()
		for _, srv := range servers {
			if err := srv.Shutdown(ctx); err != nil {
				s.closeErr = errors.Join(s.closeErr, fmt.Errorf("admin: cut off calls that were still running: %w", err), srv.Close())
			}
		}
		s.serving.Wait()
	})
	return s.closeErr
}
