package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"weir/internal/hostguard"
	"weir/internal/listen"
	"weir/proxy"
	"weir/proxy/admin"
	"weir/proxy/langsmith"
	"weir/proxy/native"
	"weir/proxy/otlp"
	"weir/queue"
	"weir/quota"
)

// weir is a running weir: every part of it, in the order they start.
type weir struct {
	settings *settings
	log      *slog.Logger
	metrics  metricsRegistry

	access    access
	queue     *queue.Queue
	guard     *quota.Guard
	upstream  sender
	acceptor  *proxy.Acceptor
	forwarder *proxy.Forwarder
	admin     *admin.Server
	grpc      *grpc.Server // nil: off
	health    *health.Server
	http      *http.Server    // nil: off
	native    *native.Handler // nil: off
	langsmith *langsmith.Handler

	at      listening
	serving sync.WaitGroup
	failed  chan error // cap 2: a listener that failed while serving

	reloads chan chan<- reloaded // asked for over the admin API
	ending  chan struct{}        // closed once weir is being stopped
}

// metricsRegistry is where parts register metrics and /metrics reads them.
type metricsRegistry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// startWeir starts everything. If one part cannot start, those that did are
// stopped again.
func startWeir(ctx context.Context, s *settings, logger *slog.Logger) (*weir, error) {
	return startWeirWith(ctx, s, logger, prometheus.NewRegistry())
}

func startWeirWith(ctx context.Context, s *settings, logger *slog.Logger, metrics metricsRegistry) (_ *weir, err error) {
	w := &weir{settings: s, log: logger, metrics: metrics, failed: make(chan error, 2), reloads: make(chan chan<- reloaded), ending: make(chan struct{})}
	w.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newBuildInfoGauge())
	if err := w.access.open(s, logger); err != nil {
		return nil, err
	}
	w.metrics.MustRegister(&w.access)
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for _, stop := range slices.Backward(undo) {
			stop()
		}
	}()
	if err := w.openPipeline(); err != nil {
		return nil, err
	}
	undo = append(undo, func() { _ = w.queue.Close() }, func() { _ = w.guard.Close() }, func() { _ = w.upstream.Close() })
	listeners, err := w.openListeners(ctx)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { closeAll(listeners) })
	if err := w.startAdmin(ctx); err != nil {
		return nil, err
	}
	undo = append(undo, func() {
		cut, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		_ = w.admin.Close(cut)
	})
	if err := w.serveIngest(listeners); err != nil {
		return nil, err
	}
	w.forwarder.Start(ctx)
	return w, nil
}

// openPipeline opens the buffer and puts the pipeline on top of it.
func (w *weir) openPipeline() error {
	s := w.settings
	var err error
	w.queue, err = queue.Open(queue.Config{
		Dir: s.DataDir, MaxBytes: s.BufferMaxBytes, MinFreeBytes: s.BufferMinFreeBytes, NoSync: !s.Sync,
		MaxFrameBytes: max(s.Limits.MaxMessageBytes, runsBytes(s), 1<<20),
		Owner:         "weir " + buildVersion(), DropReasons: proxy.DropReasons(), Logger: w.log,
	})
	if err != nil {
		return err
	}
	vault, unreadable, err := proxy.OpenVault(w.queue, filepath.Join(s.DataDir, "credential.key"))
	if err != nil {
		return errors.Join(err, w.queue.Close())
	}
	if len(unreadable) > 0 {
		w.log.Error("keys that callers sent cannot be read with the sealing key of the data directory; their data stays on disk",
			slog.Int("keys", len(unreadable)))
	}
	client, err := newUpstream(s, w.metrics, w.queue, w.log)
	if err != nil {
		return errors.Join(err, w.queue.Close())
	}
	if err := w.upstream.change(client); err != nil {
		return errors.Join(err, w.queue.Close()) // cannot be: it is the first
	}
	limits, err := w.openQuota(vault)
	if err != nil {
		return errors.Join(err, w.upstream.Close(), w.queue.Close())
	}
	w.acceptor = proxy.NewAcceptor(w.queue, vault, limits)
	w.forwarder = proxy.NewForwarder(w.queue, &w.upstream, vault, proxy.ForwardConfig{
		MaxRequestBytes: s.Forward.MaxRequestBytes, Linger: s.Forward.Linger, Concurrency: s.Forward.Concurrency,
		Coalesce: s.Forward.Coalesce, Quota: limits, Asker: &w.upstream, AskUsage: s.Quota.AskLangSmith, HoldMaxAge: s.Quota.HoldMaxAge,
		ProbeRegions: s.probeRegions(), Certificate: w.upstream.Certificate, StartWindow: s.startWindow(),
		Logger: w.log, Now: now,
	})
	w.metrics.MustRegister(w.forwarder.Collectors()...)
	w.metrics.MustRegister(w.queue.Collector())
	return nil
}

// destination is where data goes that does not say so itself.
func destination(s *settings) proxy.Destination {
	return proxy.Destination{UpstreamURL: s.Upstream, APIKey: s.APIKey.reveal(), Workspace: s.Workspace, Project: s.Project}
}

// ingestListeners are opened before anything is served, so that a taken port
// is found out at once.
type ingestListeners struct{ grpc, http net.Listener }

func (w *weir) openListeners(ctx context.Context) (l ingestListeners, err error) {
	s := w.settings
	if !s.GRPCAddr.off() {
		if l.grpc, err = listen.Open(ctx, string(s.GRPCAddr)); err != nil {
			return l, fmt.Errorf("grpc_addr: %w", err)
		}
		w.at.GRPC = listenAddr(listen.Address(l.grpc.Addr()))
	}
	if !s.HTTPAddr.off() {
		if l.http, err = listen.Open(ctx, string(s.HTTPAddr)); err != nil {
			closeAll(l)
			return l, fmt.Errorf("http_addr: %w", err)
		}
		w.at.HTTP = listenAddr(listen.Address(l.http.Addr()))
	}
	return l, nil
}

func closeAll(l ingestListeners) {
	for _, ln := range []net.Listener{l.grpc, l.http} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

func (w *weir) startAdmin(ctx context.Context) (err error) {
	s := w.settings
	source := &admin.Pipeline{
		Version: buildVersion(), DataDir: s.DataDir, StartedAt: now(), Acceptor: w.acceptor, Forwarder: w.forwarder, Now: now,
		Tester: w.sendTest, Reloader: w.askReload, Log: s.leveler(), LedgerDir: filepath.Join(s.DataDir, ledgerDir),
	}
	w.admin, err = admin.New(admin.Config{
		Addr: string(s.AdminAddr), MetricsAddr: string(s.MetricsAddr), Token: s.AdminToken.reveal(), TLS: w.access.admin,
		AllowedHosts: s.AllowedHosts, AllowedOrigins: s.CORS,
		Gatherer: w.metrics, Registerer: w.metrics, Logger: w.log, Version: buildVersion(),
	}, source)
	if err != nil {
		return err
	}
	if err := w.admin.Start(ctx); err != nil {
		return err
	}
	w.at.Admin = listenAddr(listen.Address(w.admin.Addr()))
	w.at.Metrics = s.MetricsAddr
	return nil
}

// serveIngest serves gRPC and HTTP on the open listeners.
func (w *weir) serveIngest(l ingestListeners) error {
	s := w.settings
	cfg := otlp.Config{
		MaxMessageBytes: s.Limits.MaxMessageBytes, MaxSpans: s.Limits.MaxSpans, MaxStreams: s.Limits.MaxStreams,
		MaxConnections: s.Limits.MaxConnections, MaxHeaderBytes: s.Limits.MaxHeaderBytes,
		ReceiveTimeout: s.Limits.ReceiveTimeout, MaxInflightBytes: s.Limits.MaxInflightBytes, Registerer: w.metrics,
		GRPCDoor: w.access.doorOf(s.GRPCAddr), HTTPDoor: w.access.doorOf(s.HTTPAddr),
	}
	handler, err := otlp.New(cfg, w.acceptor)
	if err != nil {
		return err
	}
	if l.grpc != nil {
		opts := otlp.ServerOptions(cfg, native.UnaryMethods()...)
		if secure := w.access.ingestTLS(s.GRPCAddr, "h2"); secure != nil {
			opts = append(opts, grpc.Creds(credentials.NewTLS(secure)))
		}
		w.grpc = grpc.NewServer(opts...)
		otlp.RegisterGRPC(w.grpc, handler)
		w.health = health.NewServer()
		healthpb.RegisterHealthServer(w.grpc, w.health)
		if err := w.registerNative(); err != nil {
			return err
		}
		if err := otlp.RegisterReflection(w.grpc); err != nil {
			return err
		}
		w.serve1("gRPC", func() error { return w.grpc.Serve(handler.LimitGRPC(l.grpc)) })
	}
	if l.http != nil {
		return w.serveHTTP(handler, l.http)
	}
	return nil
}

// serveHTTP serves OTLP and LangSmith's API over HTTP on ln.
func (w *weir) serveHTTP(exports *otlp.Handler, ln net.Listener) error {
	s := w.settings
	runs, err := w.newLangsmith()
	if err != nil {
		return err
	}
	w.langsmith = runs
	guard, err := hostguard.New(hostguard.Config{Listen: string(s.HTTPAddr), Hosts: s.AllowedHosts, Origins: s.CORS})
	if err != nil {
		return err
	}
	w.http = &http.Server{ //nolint:gosec // SetLimits sets the timeouts
		Handler:   guard.Wrap(routeHTTP(exports.HTTP(), runs.HTTP())),
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: s.Limits.MaxStreams},
		TLSConfig: w.access.ingestTLS(s.HTTPAddr, "h2", "http/1.1"),
		ErrorLog:  slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	exports.SetLimits(w.http)
	w.serve1("HTTP", func() error {
		if w.http.TLSConfig != nil {
			return w.http.ServeTLS(exports.LimitHTTP(ln), "", "")
		}
		return w.http.Serve(exports.LimitHTTP(ln))
	})
	return nil
}

// runsBytes is how much run data one request may hold in memory. The SDKs' own
// batches are bounded softly: 20 MiB and one run more in Python, 24 in
// JavaScript (langsmith-sdk). A frame on disk can hold 64 MiB.
func runsBytes(s *settings) int64 {
	return min(s.Limits.MaxMessageBytes+s.Limits.MaxMessageBytes/2, 64<<20)
}

// registerNative serves weir's own API for runs on the gRPC server.
func (w *weir) registerNative() error {
	s := w.settings
	cfg := native.Config{MaxMessageBytes: s.Limits.MaxMessageBytes, Door: w.access.doorOf(s.GRPCAddr), Registerer: w.metrics, Logger: w.log}
	cfg.MaxInflightBytes = max(s.Limits.MaxInflightBytes, cfg.LeastInflightBytes())
	handler, err := native.New(cfg, w.acceptor)
	if err != nil {
		return err
	}
	native.Register(w.grpc, handler)
	w.native = handler
	return nil
}

// passUpstream is where what weir does not take goes.
func (w *weir) passUpstream() langsmith.Upstream {
	c := w.upstream.now.Load()
	return langsmith.Upstream{BaseURL: c.BaseURL(), Transport: c.Transport()}
}

// newLangsmith makes the receiver of LangSmith's own API.
func (w *weir) newLangsmith() (*langsmith.Handler, error) {
	s := w.settings
	cfg := langsmith.Config{
		Door:            w.access.doorOf(s.HTTPAddr),
		Upstream:        w.passUpstream(),
		MaxMessageBytes: runsBytes(s), MaxAttachmentBytes: s.Limits.MaxAttachmentBytes, MaxHeaderBytes: s.Limits.MaxHeaderBytes,
		ReceiveTimeout: s.Limits.ReceiveTimeout, ReadTimeout: s.RequestTimeout, Registerer: w.metrics, Logger: w.log,
	}
	cfg.MaxInflightBytes = max(s.Limits.MaxInflightBytes, cfg.LeastInflightBytes())
	if s.LendKey {
		cfg.LendKey = func() (key, workspace string) {
			d := w.forwarder.Destination()
			return d.APIKey, d.Workspace
		}
	}
	return langsmith.New(cfg, w.acceptor, w.acceptor)
}

// routeHTTP gives exports of OTLP to one handler and everything else to the
// other.
func routeHTTP(exports, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if otlp.IsTracePath(r.URL.Path) {
			exports.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// serve1 runs one server until it is stopped, and reports it if it fails.
func (w *weir) serve1(name string, serve func() error) {
	w.serving.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			w.failed <- fmt.Errorf("serve %s: %w", name, err)
		}
	})
}

// stopListeners stops taking requests and waits for those under way until ctx
// is done, then cuts them off.
func (w *weir) stopListeners(ctx context.Context) {
	var stops sync.WaitGroup
	if w.health != nil {
		w.health.Shutdown()
	}
	if w.grpc != nil {
		stops.Go(func() {
			cut := context.AfterFunc(ctx, w.grpc.Stop)
			defer cut()
			w.grpc.GracefulStop()
		})
	}
	if w.native != nil {
		stops.Go(func() { _ = w.native.Close() }) // it always succeeds; ends streams, for which GracefulStop waits
	}
	if w.http != nil {
		stops.Go(func() {
			if w.http.Shutdown(ctx) != nil {
				_ = w.http.Close()
			}
		})
	}
	stops.Wait()
	w.serving.Wait()
	if w.langsmith != nil {
		_ = w.langsmith.Close() // it always succeeds
	}
}

// otherSecret reports whether two values are secrets that differ, which their
// texts need not show.
func otherSecret(now, then value) bool {
	a, isSecret := now.(secretValue)
	b, isToo := then.(secretValue)
	return isSecret && isToo && *a.to != *b.to
}

// apply takes from next what can change while weir runs. It returns the names
// of the settings that changed, and of those that would need a restart.
func (s *settings) apply(next *settings) (changed, fixed []string) {
	for i := range table {
		st := &table[i]
		if secret, ok := strings.CutSuffix(st.name, fileSuffix); ok && lookup(secret) != nil {
			continue // what it holds is looked at
		}
		now, then := st.bind(s).String(), st.bind(next).String()
		if now == then && !otherSecret(st.bind(s), st.bind(next)) {
			continue
		}
		switch {
		case st.name == "api_key":
			s.APIKey = next.APIKey
		case st.name == "ingest_token":
			s.Access.IngestToken = next.Access.IngestToken
		case st.name == "workspace":
			s.Workspace = next.Workspace
		case st.name == "project":
			s.Project = next.Project
		case st.name == "upstream":
			s.Upstream = next.Upstream
		case st.name == "ca_file":
			s.CAFile = next.CAFile
		case st.name == "log_level":
			s.LogLevel = next.LogLevel
			s.leveler().Configure(next.LogLevel)
		case st.name == "start_time_window", st.name == "start_time_window_hours", st.name == "start_time_window_policy":
			// Taken below, all at once.
		case st.group == groupQuota && !atStart(st.name):
			// Taken below, all at once.
		default:
			fixed = append(fixed, st.name)
			continue
		}
		changed = append(changed, st.name)
	}
	s.StartTime = next.StartTime
	s.takeQuota(next)
	return changed, fixed
}
