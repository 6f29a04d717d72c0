package langsmith

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"

	"weir/internal/inflight"
	"weir/proxy"
	"weir/proxy/runs"
)

// Handler serves LangSmith's REST API. Its methods may be called from any
// number of goroutines.
type Handler struct {
	cfg     Config
	sink    proxy.Sink
	spooler proxy.Spooler
	log     *slog.Logger
	metrics *metrics
	gate    *inflight.Gate
	known   *runs.Known[proxy.Caller]
	way     atomic.Pointer[way]
}

// New returns a Handler for cfg, which must be valid, that gives exports to
// sink and large attachments to spooler. It connects to nothing and registers
// its metrics, so one registerer takes one handler. The caller closes it once
// nothing is served by it any more.
func New(cfg Config, sink proxy.Sink, spooler proxy.Spooler) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	h := &Handler{
		cfg: cfg, sink: sink, spooler: spooler, log: cfg.Logger,
		gate:  inflight.NewGate(cfg.MaxInflightBytes),
		known: runs.NewKnown[proxy.Caller](cfg.MaxKnownRuns),
	}
	var err error
	h.metrics, err = newMetrics(cfg.Registerer, func() float64 { return float64(h.gate.Used()) })
	if err != nil {
		return nil, fmt.Errorf("register LangSmith API metrics: %w", err)
	}
	if err := h.SetUpstream(cfg.Upstream); err != nil {
		return nil, err
	}
	return h, nil
}

// SetUpstream has what is not taken go to u from now on. Requests under way go on
// as they are. It is not called together with Close.
func (h *Handler) SetUpstream(u Upstream) error {
	next, err := h.newWay(u)
	if err != nil {
		return err
	}
	if before := h.way.Swap(next); before != nil {
		before.info.close()
	}
	return nil
}

// Close ends what the handler does by itself and waits for it. It always
// returns nil, and may be called more than once.
func (h *Handler) Close() error {
	h.way.Load().info.close()
	return nil
}

// SetLimits puts the handler's limits on srv: header size and the time that
// headers may take. Bodies are bounded by the handler itself, per request.
func (h *Handler) SetLimits(srv *http.Server) {
	srv.MaxHeaderBytes = int(h.cfg.MaxHeaderBytes)
	srv.ReadHeaderTimeout = min(connectTimeout, h.cfg.ReceiveTimeout)
	srv.IdleTimeout = idleTimeout
}

// HTTP returns the handler of everything but OTLP: run operations are taken,
// /info is answered, the rest is passed on to LangSmith. The server that runs
// it should have had SetLimits.
func (h *Handler) HTTP() http.Handler { return http.HandlerFunc(h.serveHTTP) }

func (h *Handler) serveHTTP(w http.ResponseWriter, r *http.Request) {
	way := h.way.Load()
	t := way.route(r)
	if t.allow != "" {
		w.Header().Set("Allow", t.allow)
		writeRefusal(w, refuse(verdictMethod, reasonMethod, "method %s is not allowed here, use %s", clip(r.Method), t.allow))
		return
	}
	switch t.endpoint {
	case endpointPass:
		h.pass(way, w, r)
	case endpointInfo:
		writeBody(w, http.StatusOK, way.info.answer(r.Context()))
	case endpointSignal:
		writeRefusal(w, refuse(verdictPath, reasonPath,
			"LangSmith takes traces only, and weir does not send it metrics or logs; set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT instead of the endpoint of all signals"))
	case endpointMultipart, endpointBatch, endpointCreate, endpointUpdate, endpointFeedback, endpointFeedbackPatch:
		h.take(w, r, t)
	}
}

// turnAway counts a refusal, logs it if it is weir's own fault, and answers.
func (h *Handler) turnAway(ctx context.Context, w http.ResponseWriter, in *intake, err error) {
	r := refusalOf(err)
	h.metrics.turnedAway(in, r)
	if r.reason == reasonInternal {
		h.log.ErrorContext(ctx, "request could not be kept", slog.String("endpoint", in.endpoint.String()), slog.Any("error", err))
	}
	writeRefusal(w, r)
}
