package langsmith

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"weir/internal/inflate"
	"weir/internal/inflight"
	"weir/proxy"
	"weir/proxy/runs"
)

// operationBytes is what one operation takes beside its content, while it is
// held and as it is kept.
const operationBytes = int64(unsafe.Sizeof(runs.Op{})) + frameBytes

// frameBytes is more than the stored form of an operation adds to its content,
// names and paths.
const frameBytes = 160

// compression is how a request's body was compressed.
type compression uint8

const (
	encodingIdentity compression = iota
	encodingGzip
	encodingZstd
	encodingOther
)

func (e compression) String() string {
	return [...]string{"identity", "gzip", "zstd", "other"}[e]
}

// encodingOf reads a Content-Encoding, in any letter case.
func encodingOf(values []string) (e compression, ok bool) {
	if len(values) > 1 {
		return encodingOther, false
	}
	switch strings.ToLower(strings.TrimSpace(strings.Join(values, ""))) {
	case "", "identity":
		return encodingIdentity, true
	case "gzip", "x-gzip":
		return encodingGzip, true
	case "zstd":
		return encodingZstd, true
	default:
		return encodingOther, false
	}
}

// intake is one request with run operations under way.
type intake struct {
	target

	h        *Handler
	w        http.ResponseWriter
	r        *http.Request
	caller   proxy.Caller
	encoding compression
	wire     wireReader
	memory   arena

	ops       []runs.Op
	learned   []runs.Placed // creates to remember once they are durable
	blobs     []runs.Blob   // spooled, the sink's once it has accepted
	blobBytes int64         // of blobs, and of the one being spooled
	keptBytes int64
}

var intakes = sync.Pool{New: func() any { return new(intake) }}

// take serves a request with run operations.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, t target) {
	in := intakes.Get().(*intake)
	in.target, in.h, in.w, in.r = t, h, w, r
	in.memory.gate, in.memory.limit = h.gate, h.cfg.MaxMessageBytes
	defer in.end()
	receipt, began, err := in.run(r.Context())
	if err != nil {
		in.discard()
		h.turnAway(r.Context(), w, in, err)
		return
	}
	h.metrics.took(in, began)
	if receipt.Warning != "" {
		w.Header().Set("Weir-Warning", clip(receipt.Warning))
		writeJSON(w, http.StatusAccepted, map[string]string{"warning": clip(receipt.Warning)})
		return
	}
	writeBody(w, http.StatusAccepted, []byte("{}"))
}

// end forgets the request, and grants a very large one no memory beyond it.
func (in *intake) end() {
	in.memory.release()
	clear(in.ops)
	clear(in.learned)
	clear(in.blobs)
	kept := intake{memory: in.memory}
	if cap(in.ops) <= 1024 {
		kept.ops, kept.learned = in.ops[:0], in.learned[:0]
	}
	*in = kept
	intakes.Put(in)
}

// discard forgets what was spooled for a request that was not accepted.
func (in *intake) discard() {
	for _, b := range in.blobs {
		in.h.spooler.Discard(b)
	}
	in.blobs = in.blobs[:0]
}

// run is the way of a request from its headers to the disk. began is when its
// body was complete.
func (in *intake) run(ctx context.Context) (receipt proxy.Receipt, began time.Time, err error) {
	// A server that cannot set deadlines (a recorder in tests, a wrapper) has
	// bodies that cannot be slow, or limits of its own. On a refusal the
	// deadline stays: net/http reads on for a while before it answers.
	in.wire = wireReader{control: http.NewResponseController(in.w), began: time.Now(), patience: in.h.cfg.ReceiveTimeout}
	in.wire.extend()
	if err := in.check(); err != nil {
		return receipt, began, err
	}
	caller, err := in.h.cfg.Door.Read(in.r.Header.Get)
	if err != nil {
		return receipt, began, err
	}
	// The project is in the runs; a header of that name is OTLP's.
	caller.Project = ""
	in.caller = caller
	if err := in.receive(ctx); err != nil {
		return receipt, began, err
	}
	// It must not outlast the body, or it would end the wait for the disk.
	_ = in.wire.control.SetReadDeadline(time.Time{})
	began = time.Now()
	receipt, err = in.keep(ctx)
	return receipt, began, err
}

// check decides from the request's head whether it can be taken at all.
func (in *intake) check() error {
	header := in.r.Header.Values("Content-Encoding")
	encoding, known := encodingOf(header)
	in.encoding = encoding
	limit := in.maxWireBytes()
	switch {
	case !known:
		in.w.Header().Set("Accept-Encoding", "gzip, zstd, identity")
		return refuse(verdictEncoding, reasonEncoding, "content encoding %q is not supported, want gzip, zstd or identity", clip(strings.Join(header, ", ")))
	case in.r.ContentLength > limit:
		return tooLarge("the body has %d bytes, %d are allowed; send smaller batches", in.r.ContentLength, limit)
	case !in.h.gate.HasRoom(min(max(in.r.ContentLength, 1), in.h.cfg.MaxMessageBytes)):
		return in.h.gate.Pressure()
	}
	return nil
}

func (in *intake) maxWireBytes() int64 {
	limit := in.h.cfg.MaxMessageBytes + wireSlackBytes
	if in.endpoint == endpointMultipart {
		limit += in.h.cfg.MaxAttachmentBytes
	}
	return limit
}

// receive reads the body into operations.
func (in *intake) receive(ctx context.Context) error {
	in.wire.r = http.MaxBytesReader(in.w, in.r.Body, in.maxWireBytes())
	err := in.read(ctx)
	in.h.metrics.wire.WithLabelValues(in.endpoint.String()).Add(float64(in.wire.n))
	if err == nil {
		return nil
	}
	var (
		tooLong *http.MaxBytesError
		ready   *refusal
		timeout interface{ Timeout() bool }
	)
	broken := in.wire.err
	switch {
	case errors.As(broken, &tooLong):
		return tooLarge("the body has more than %d bytes; send smaller batches", tooLong.Limit)
	case errors.As(broken, &timeout) && timeout.Timeout():
		in.w.Header().Set("Connection", "close")
		return refuse(verdictSlow, reasonSlow, "the body did not arrive within %s and one second more for each %d bytes", in.h.cfg.ReceiveTimeout, leastBytesPerSec)
	case ctx.Err() != nil:
		return context.Canceled
	case broken != nil && !errors.Is(broken, io.EOF):
		return malformed("read the body: %v", broken)
	case errors.As(err, &ready):
		return err
	}
	if damage, ok := errors.AsType[*decompressError](err); ok {
		return refuse(verdictMalformed, reasonBadCompression, "decompress the body (%s): %v", in.encoding, damage.cause)
	}
	return err // of the sink's kind, or about the runs
}

// read decompresses the body and takes the operations out of it.
func (in *intake) read(ctx context.Context) error {
	body := io.Reader(&in.wire)
	open := map[compression]func(io.Reader) (io.ReadCloser, error){encodingGzip: inflate.Gzip, encodingZstd: inflate.Zstd}[in.encoding]
	if open != nil {
		d, err := open(body)
		if err != nil {
			return &decompressError{err}
		}
		defer func() { _ = d.Close() }() // only gives a decoder back
		body = damageReader{d}
	}
	if in.endpoint == endpointMultipart {
		return in.readMultipart(ctx, body)
	}
	text, err := in.memory.takeAll(body)
	if err != nil {
		return err
	}
	switch in.endpoint {
	case endpointBatch:
		return in.readBatch(text)
	case endpointCreate:
		return in.readCreate(text)
	case endpointUpdate:
		return in.readUpdate(text)
	default:
		return in.readFeedback(text)
	}
}

// add takes one operation.
func (in *intake) add(op *runs.Op) error {
	if len(in.ops) == in.h.cfg.MaxOperations {
		return refuse(verdictTooLarge, reasonTooMany, "the request has more than %d operations; send smaller batches", in.h.cfg.MaxOperations)
	}
	if len(in.ops) == cap(in.ops) {
		room := max(64, len(in.ops))
		if err := in.memory.charge(int64(room) * operationBytes); err != nil {
			return err
		}
		in.ops = slices.Grow(in.ops, room)
	}
	in.ops = append(in.ops, *op)
	return nil
}

// chargeCopy charges for a body that is not a part of what was read.
func (in *intake) chargeCopy(body, text []byte) error {
	if len(body) == 0 || &body[0] == &text[0] {
		return nil
	}
	return in.memory.charge(int64(cap(body)))
}

// keep makes the operations durable.
func (in *intake) keep(ctx context.Context) (proxy.Receipt, error) {
	if len(in.ops) == 0 {
		return proxy.Receipt{}, nil
	}
	size := int64(0)
	for i := range in.ops {
		op := &in.ops[i]
		in.keptBytes += op.Size()
		size += op.Size() - op.BlobBytes + frameBytes + int64(len(op.Name)+len(op.ContentType)+len(op.Path))
	}
	if err := in.memory.charge(size); err != nil {
		return proxy.Receipt{}, err
	}
	traces, marks := proxy.TracesOf(in.ops)
	payload := inflight.GetBuffer(int(size))
	for i := range in.ops {
		payload = runs.Append(payload, &in.ops[i])
	}
	defer inflight.PutBuffer(payload)
	if int64(len(payload)) > in.h.cfg.MaxMessageBytes {
		return proxy.Receipt{}, tooLarge("the request takes %d bytes to keep, large attachments aside, and %d are allowed; send smaller batches", len(payload), in.h.cfg.MaxMessageBytes)
	}
	if len(in.blobs) > 0 {
		// Whether the sink has the blobs must be known, whatever the caller does.
		ctx = context.WithoutCancel(ctx)
	}
	receipt, err := in.h.sink.Accept(ctx, &proxy.Export{
		Protocol: proxy.ProtocolRuns,
		Caller:   in.caller,
		Payload:  payload,
		Items:    len(in.ops),
		TraceIDs: traces,
		Marks:    marks,
		Blobs:    in.blobs,
	})
	if err != nil {
		return receipt, err
	}
	in.h.known.Add(in.caller, in.learned)
	return receipt, nil
}

// wireReader reads a body as it comes. It counts, remembers why reading ended,
// and lets a body go on that keeps coming.
type wireReader struct {
	r        io.Reader
	control  *http.ResponseController
	began    time.Time
	patience time.Duration
	n        int64
	next     int64 // the n at which there is more time
	err      error
}

func (w *wireReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.n += int64(n)
	if w.n >= w.next {
		w.extend()
	}
	if err != nil {
		w.err = err
	}
	return n, err
}

// extend sets the deadline by what has come so far.
func (w *wireReader) extend() {
	w.next = w.n + 16*leastBytesPerSec
	earned := time.Duration(w.n/leastBytesPerSec) * time.Second
	_ = w.control.SetReadDeadline(w.began.Add(w.patience + earned))
}

// decompressError is a body that is not what its Content-Encoding says.
type decompressError struct{ cause error }

func (e *decompressError) Error() string { return e.cause.Error() }

// damageReader marks the errors of a decompressor.
type damageReader struct{ r io.Reader }

func (d damageReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &decompressError{err}
	}
	return n, err
}
