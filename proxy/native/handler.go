package native

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"weir/internal/inflight"
	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/runs"
)

// Handler serves weir.v1.IngestService. Its methods may be called from any
// number of goroutines.
type Handler struct {
	cfg     Config
	sink    proxy.Sink
	log     *slog.Logger
	metrics *metrics
	gate    *inflight.Gate
	known   *runs.Known[proxy.Caller]

	slots    chan struct{} // one taken by each open stream
	stopping chan struct{} // closed: streams end

	mu      sync.Mutex     // guards what follows
	closed  bool           // stopping is closed, and no reader begins
	readers sync.WaitGroup // of streams; each ends with its stream
}

// New returns a Handler for cfg, which must be valid, that gives exports to
// sink. It registers its metrics, so one registerer takes one handler. The
// caller closes it.
func New(cfg Config, sink proxy.Sink) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	h := &Handler{
		cfg: cfg, sink: sink, log: cfg.Logger,
		gate:  inflight.NewGate(cfg.MaxInflightBytes),
		known: runs.NewKnown[proxy.Caller](cfg.MaxKnownRuns),
		slots: make(chan struct{}, cfg.MaxStreams), stopping: make(chan struct{}),
	}
	var err error
	if h.metrics, err = newMetrics(cfg.Registerer, func() float64 { return float64(h.gate.Used()) }); err != nil {
		return nil, fmt.Errorf("register native API metrics: %w", err)
	}
	return h, nil
}

// Close ends the open streams, each once it has answered what it has read, and
// waits for them; streams that come later end at once. Without it a server's
// GracefulStop waits for as long as a client keeps a stream open. It always
// returns nil, and may be called more than once.
func (h *Handler) Close() error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.stopping)
	}
	h.mu.Unlock()
	h.readers.Wait()
	return nil
}

// startReader runs the reader of a stream, unless the handler is closed.
func (h *Handler) startReader(read func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.readers.Go(read)
	return true
}

// intake is one request under way.
type intake struct {
	*converter

	method    string // for metrics
	began     time.Time
	payload   []byte
	kinds     [runs.Call + 1]int
	keptBytes int
	charged   int64
	warning   string // of the sink
}

func newIntake(method string) *intake {
	return &intake{method: method, began: time.Now(), converter: &converter{}}
}

// ingest takes a request of its own call.
func (h *Handler) ingest(ctx context.Context, in *intake, message []byte) (*weirv1.IngestResponse, error) {
	caller, err := h.callerOf(ctx)
	if err != nil {
		return nil, err
	}
	var req weirv1.IngestRequest
	if err := h.decode(in, message, &req); err != nil {
		return nil, err
	}
	find := func(id runs.ID) (runs.Placed, bool) { return h.known.Find(caller, id) }
	if err := h.read(in, req.GetOperations(), find); err != nil {
		return nil, err
	}
	receipt, err := h.keep(ctx, caller, []*intake{in})
	if err != nil {
		return nil, err
	}
	return &weirv1.IngestResponse{Results: in.results, Warning: clip(receipt.Warning)}, nil
}

// read makes a payload of a request's operations.
func (h *Handler) read(in *intake, operations []*weirv1.Operation, find func(runs.ID) (runs.Placed, bool)) error {
	if len(operations) > h.cfg.MaxOperations {
		return invalid(reasonTooMany, "the request has %d operations, %d are allowed; send fewer at a time", len(operations), h.cfg.MaxOperations)
	}
	in.converter = newConverter(in.began, find)
	for i, operation := range operations {
		in.convert(i, operation)
	}
	if in.bad > 0 && in.bad == len(operations) {
		r := invalid(reasonMalformed, "no operation of the request could be taken; the first: %s", in.results[0].GetError().GetMessage())
		for _, result := range in.results[:min(len(in.results), maxViolations)] {
			r.violations = append(r.violations, result.GetError().GetViolations()...)
		}
		return r
	}
	for i := range in.ops {
		op := &in.ops[i]
		in.payload = runs.Append(in.payload, op)
		in.kinds[op.Kind]++
	}
	in.keptBytes = len(in.payload)
	if size := int64(len(in.payload)); size > h.cfg.MaxMessageBytes {
		return invalid(reasonTooLarge, "the operations take %d bytes to keep, %d are allowed; send fewer at a time", size, h.cfg.MaxMessageBytes)
	}
	return nil
}

// keep makes the operations of some requests durable, as one export.
func (h *Handler) keep(ctx context.Context, caller proxy.Caller, requests []*intake) (proxy.Receipt, error) {
	e := &proxy.Export{Protocol: proxy.ProtocolRuns, Caller: caller}
	var ops []runs.Op
	for _, in := range requests {
		if len(requests) == 1 {
			e.Payload = in.payload
		} else {
			e.Payload = append(e.Payload, in.payload...)
		}
		e.Items += len(in.ops)
		if len(requests) == 1 {
			ops = in.ops
		} else {
			ops = append(ops, in.ops...)
		}
	}
	if e.Items == 0 {
		return proxy.Receipt{}, nil
	}
	e.TraceIDs, e.Marks = proxy.TracesOf(ops)
	receipt, err := h.sink.Accept(ctx, e)
	if err != nil {
		return receipt, err
	}
	for _, in := range requests {
		h.known.Add(caller, in.learned)
	}
	return receipt, nil
}

// turnAway counts a refusal, and logs it if it is weir's own fault.
func (h *Handler) turnAway(ctx context.Context, in *intake, err error) *refusal {
	r := refusalOf(err)
	h.metrics.ended(in, r)
	if r.reason == reasonInternal {
		h.log.ErrorContext(ctx, "operations could not be kept", slog.String("method", in.method), slog.Any("error", err))
	}
	return r
}

// callerOf returns what a call's metadata says. The project is in the runs; a
// header of that name is OTLP's.
func (h *Handler) callerOf(ctx context.Context) (proxy.Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	caller, err := h.cfg.Door.Read(func(name string) string {
		if values := md[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	})
	caller.Project = ""
	return caller, err
}
