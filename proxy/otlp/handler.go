package otlp

import (
	"context"
	"fmt"
	"log/slog"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"weir/internal/inflight"
	"weir/proxy"
)

// Handler receives exports over gRPC and HTTP, applies the limits they share
// and hands them to a sink. It owns no goroutine and may be used by any number
// of them.
type Handler struct {
	cfg     Config
	sink    proxy.Sink
	log     *slog.Logger
	metrics *metrics
	gate    *inflight.Gate
}

// New returns a Handler for cfg, which must be valid, that gives exports to
// sink. It registers its metrics, so one registerer takes one handler.
func New(cfg Config, sink proxy.Sink) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	h := &Handler{cfg: cfg, sink: sink, log: cfg.Logger, gate: inflight.NewGate(cfg.MaxInflightBytes)}
	m, err := newMetrics(cfg.Registerer, func() float64 { return float64(h.gate.Used()) })
	if err != nil {
		return nil, fmt.Errorf("register OTLP receiver metrics: %w", err)
	}
	h.metrics = m
	return h, nil
}

// intake is what one request needs while it is checked and kept; both
// transports reuse it.
type intake struct {
	summary Summary
	export  proxy.Export
}

// release forgets the request, and grants a very large one no memory beyond it.
func (in *intake) release() {
	in.export = proxy.Export{}
	in.summary.forget()
	if cap(in.summary.TraceIDs) > maxRetainedIDs {
		in.summary = Summary{}
	}
}

// forget lets go of the strings of the last request.
func (sum *Summary) forget() {
	clear(sum.marks)
	sum.Marks, sum.marks = nil, sum.marks[:0]
}

// admit checks a complete message and makes it durable. The caller has charged
// its bytes to the gate.
func (h *Handler) admit(ctx context.Context, in *intake, caller proxy.Caller, payload []byte) (proxy.Receipt, error) {
	if err := Scan(payload, h.cfg.MaxSpans, &in.summary); err != nil {
		return proxy.Receipt{}, err
	}
	if in.summary.Spans == 0 {
		return proxy.Receipt{}, nil
	}
	in.export = proxy.Export{
		Protocol:     proxy.ProtocolOTLP,
		Caller:       caller,
		Payload:      payload,
		Items:        in.summary.Spans,
		TraceIDs:     in.summary.TraceIDs,
		Marks:        in.summary.Marks,
		NamesProject: in.summary.NamesProject,
	}
	return h.sink.Accept(ctx, &in.export)
}

// turnAway counts a refusal, logs it if it is weir's own fault, and returns it.
func (h *Handler) turnAway(ctx context.Context, o origin, err error) *refusal {
	r := refusalOf(err)
	h.metrics.turnedAway(o, r.reason, r.retryable)
	if r.reason == reasonInternal {
		h.log.ErrorContext(ctx, "export could not be kept", slog.String("transport", o.transport.String()), slog.Any("error", err))
	}
	if o.transport == transportGRPC && r.retryable {
		r.trail(ctx)
	}
	return r
}

// warned returns the answer to an export that was taken whole, with a text for
// the application's log: partial_success with nothing rejected (OTLP
// specification, Partial Success).
func warned(warning string) proto.Message {
	return &tracecollector.ExportTraceServiceResponse{
		PartialSuccess: &tracecollector.ExportTracePartialSuccess{ErrorMessage: clip(warning)},
	}
}
