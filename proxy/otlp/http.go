package otlp

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"weir/internal/inflight"
	"weir/proxy"
)

// Media types of OTLP/HTTP.
const (
	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"
)

// tracePaths are where exports are taken: OTLP's own path, LangSmith's, the
// one of a self-hosted LangSmith, and what exporters make of them. Python's
// LangSmith SDK posts to the bare /otel (LangSmith docs: trace-with-
// opentelemetry; langsmith-sdk, otel client).
var tracePaths = map[string]bool{
	"/v1/traces":             true,
	"/otel/v1/traces":        true,
	"/otel":                  true,
	"/api/v1/otel/v1/traces": true,
	"/api/otel/v1/traces":    true,
}

// IsTracePath tells whether HTTP takes exports at a path, doubled and trailing
// slashes aside.
func IsTracePath(path string) bool { return tracePaths[tidy(path)] }

// HTTP returns the handler of OTLP/HTTP. Anything but a POST to one of the
// trace paths is answered 404 or 405. The server that runs it should have had
// SetLimits.
func (h *Handler) HTTP() http.Handler { return http.HandlerFunc(h.serveHTTP) }

// tidy takes doubled and trailing slashes out of a path. Nothing else is
// cleaned: no client sends dots by mistake.
func tidy(path string) string {
	if strings.Contains(path, "//") || (len(path) > 1 && strings.HasSuffix(path, "/")) {
		return "/" + strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
	}
	return path
}

// post is one HTTP request under way.
type post struct {
	intake
	h       *Handler
	w       http.ResponseWriter
	r       *http.Request
	origin  origin
	json    bool   // the answer is JSON
	body    []byte // decompressed; its capacity is what was charged for
	buffer  []byte // what body is the front of; belongs to a pool
	charged int64  // bytes taken from the gate
}

var posts = sync.Pool{New: func() any { return new(post) }}

func (h *Handler) serveHTTP(w http.ResponseWriter, r *http.Request) {
	p := posts.Get().(*post)
	p.h, p.w, p.r = h, w, r
	defer p.end()
	receipt, err := p.take(r.Context())
	if err != nil {
		p.refuse(r.Context(), err)
		return
	}
	p.reply(receipt)
}

// take is the way of an export from its headers to the disk.
func (p *post) take(ctx context.Context) (proxy.Receipt, error) {
	// A server that cannot set deadlines (a recorder in tests, a wrapper) has
	// bodies that cannot be slow, or limits of its own. On a refusal the
	// deadline stays: net/http reads on for a while before it answers.
	control := http.NewResponseController(p.w)
	_ = control.SetReadDeadline(time.Now().Add(p.h.cfg.ReceiveTimeout))
	if err := p.route(); err != nil {
		return proxy.Receipt{}, err
	}
	caller, err := p.h.cfg.HTTPDoor.Read(p.r.Header.Get)
	if err != nil {
		return proxy.Receipt{}, err
	}
	if err := p.receive(ctx); err != nil {
		return proxy.Receipt{}, err
	}
	// It must not outlast the body, or it would end the wait for the disk.
	_ = control.SetReadDeadline(time.Time{})
	return p.keep(ctx, caller)
}

func (p *post) end() {
	p.h.gate.Release(p.charged)
	inflight.PutBuffer(p.buffer)
	p.intake.release()
	*p = post{intake: p.intake}
	posts.Put(p)
}

// route decides from the request's head whether it can be an export at all,
// and how its body is to be read.
func (p *post) route() error {
	media, _, mediaErr := mime.ParseMediaType(p.r.Header.Get("Content-Type"))
	p.origin.transport = transportHTTPProtobuf
	if media == mediaJSON {
		p.origin.transport = transportHTTPJSON
	}
	p.json = media != mediaProtobuf // who did not send protobuf reads JSON rather
	compression, known := encodingOf(p.r.Header.Get("Content-Encoding"))
	if len(p.r.Header.Values("Content-Encoding")) > 1 {
		compression, known = encodingOther, false
	}
	p.origin.encoding = compression

	switch {
	case !tracePaths[tidy(p.r.URL.Path)]:
		return &refusalError{refuse(verdictPath, reasonPath, "nothing is served at this path; traces go to /v1/traces")}
	case p.r.Method != http.MethodPost:
		p.w.Header().Set("Allow", http.MethodPost)
		return &refusalError{refuse(verdictMethod, reasonMethod, "method %s is not allowed here, use POST", clip(p.r.Method))}
	case mediaErr != nil || (media != mediaProtobuf && media != mediaJSON):
		p.w.Header().Set("Accept-Post", mediaProtobuf+", "+mediaJSON)
		return &refusalError{refuse(verdictUnsupported, reasonMediaType, "content type %q is not supported, want %s or %s",
			clip(p.r.Header.Get("Content-Type")), mediaProtobuf, mediaJSON)}
	case !known:
		p.w.Header().Set("Accept-Encoding", "gzip, zstd, identity")
		return &refusalError{refuse(verdictUnsupported, reasonEncoding, "content encoding %q is not supported, want gzip, zstd or identity",
			clip(strings.Join(p.r.Header.Values("Content-Encoding"), ", ")))}
	case p.r.ContentLength > p.h.cfg.MaxWireBytes:
		return p.tooLarge("the body has %d bytes, %d are allowed; lower the exporter's batch size", p.r.ContentLength, p.h.cfg.MaxWireBytes)
	case !p.h.gate.HasRoom(max(p.r.ContentLength, 1)):
		return p.h.gate.Pressure()
	}
	return nil
}

func (p *post) tooLarge(format string, args ...any) error {
	return &refusalError{refuse(verdictTooLarge, reasonTooLarge, format, args...)}
}

// receive reads the body into p.body.
func (p *post) receive(ctx context.Context) error {
	wire := &countingReader{r: http.MaxBytesReader(p.w, p.r.Body, p.h.cfg.MaxWireBytes)}
	err := p.read(wire)
	p.h.metrics.wire[p.origin.transport].Add(float64(wire.n))
	if err == nil {
		return nil
	}
	var (
		tooLong *http.MaxBytesError
		refusal *refusalError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &refusal):
		return err
	case errors.As(wire.err, &tooLong):
		return p.tooLarge("the body has more than %d bytes; lower the exporter's batch size", tooLong.Limit)
	case errors.As(wire.err, &timeout) && timeout.Timeout():
		p.w.Header().Set("Connection", "close")
		return &refusalError{refuse(verdictSlow, reasonSlow, "the body did not arrive within %s", p.h.cfg.ReceiveTimeout)}
	case ctx.Err() != nil:
		return context.Canceled
	case wire.err != nil && !errors.Is(wire.err, io.EOF):
		return &refusalError{refuse(verdictMalformed, reasonMalformed, "read the body: %v", wire.err)}
	default:
		return &refusalError{refuse(verdictMalformed, reasonBadCompression, "decompress the body (%s): %v", p.origin.encoding, err)}
	}
}

// read decompresses wire into p.body, charging memory before it is used.
func (p *post) read(wire io.Reader) error {
	body, err := decode(p.origin.encoding, wire)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only gives a decoder back
	limit := int(p.h.cfg.MaxMessageBytes)
	expected := 64 << 10
	if p.origin.encoding == encodingIdentity && p.r.ContentLength >= 0 {
		expected = int(min(p.r.ContentLength+1, inflight.MaxRetainedBuffer)) // +1: room to meet the end in
	}
	if err := p.grow(min(expected, limit+1)); err != nil {
		return err
	}
	for {
		if len(p.body) == cap(p.body) {
			if err := p.grow(min(2*cap(p.body), limit+1)); err != nil {
				return err
			}
		}
		n, err := body.Read(p.body[len(p.body):cap(p.body)])
		p.body = p.body[:len(p.body)+n]
		switch {
		case len(p.body) > limit:
			return p.tooLarge("the body has more than %d bytes when decompressed; lower the exporter's batch size", limit)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// grow gives p.body a capacity of size bytes.
func (p *post) grow(size int) error {
	if err := p.charge(size - int(p.charged)); err != nil {
		return err
	}
	larger := inflight.GetBuffer(size)
	p.body = append(larger[:0:size], p.body...)
	inflight.PutBuffer(p.buffer)
	p.buffer = larger
	return nil
}

func (p *post) charge(n int) error {
	if n <= 0 {
		return nil
	}
	if !p.h.gate.Acquire(int64(n)) {
		return &refusalError{refusalOf(p.h.gate.Pressure())}
	}
	p.charged += int64(n)
	return nil
}

// keep checks the message and makes it durable.
func (p *post) keep(ctx context.Context, caller proxy.Caller) (proxy.Receipt, error) {
	began := time.Now()
	payload := p.body
	if p.origin.transport == transportHTTPJSON {
		// The binary form is smaller than the text, except in theory.
		if err := p.charge(len(p.body)); err != nil {
			return proxy.Receipt{}, err
		}
		binary, err := appendJSON(inflight.GetBuffer(len(p.body)), p.body)
		defer inflight.PutBuffer(binary)
		if err != nil {
			return proxy.Receipt{}, err
		}
		payload = binary
	}
	receipt, err := p.h.admit(ctx, &p.intake, caller, payload)
	if err == nil {
		p.h.metrics.took(p.origin, p.summary.Spans, len(p.body), began)
	}
	return receipt, err
}

// countingReader counts what is read and remembers why reading ended.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}
