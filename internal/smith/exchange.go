package smith

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// exchange is one request on its way to an answer.
type exchange struct {
	w     http.ResponseWriter
	r     *request
	fault *Fault // nil: none
}

// carryOut answers a request that a fault strikes.
func (s *Server) carryOut(ctx context.Context, x *exchange) {
	f := x.fault
	var own *reply // the service's answer, once it is known
	switch f.Stage {
	case StageRead:
		if err := holdBody(x.r.Request); err != nil {
			s.breakOff()
		}
	case StageHeaders: // nothing yet
	case StageStored, StageAnswer:
		a := s.respond(x.r)
		own = &a
	}
	if !s.wait(ctx, f.Latency) || f.Hang && !s.hang(ctx) {
		s.breakOff()
	}
	if f.Reset && f.Stage != StageAnswer {
		s.reset(x)
		return
	}
	var answer reply
	switch {
	case f.Status != 0:
		answer = faultReply(f)
	case own != nil:
		answer = *own
	default:
		answer = s.respond(x.r)
	}
	s.send(ctx, x, answer)
}

// holdBody reads the body into memory, so that the request can still be dealt
// with after a pause during which the client must not be blocked. A body that
// is too large is read as far as the limit and keeps its error.
func holdBody(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failingReader{err}))
	case err != nil:
		return err
	default:
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil
}

// failingReader fails every read with its error.
type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// hang waits for Release; false means that there is nobody left to answer.
func (s *Server) hang(ctx context.Context) bool {
	select {
	case <-s.released():
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}

// faultReply is the answer that a fault with a status gives.
func faultReply(f *Fault) reply {
	a := reply{status: f.Status, header: http.Header{}, body: []byte(f.Body)}
	if f.Body != "" {
		a.header.Set("Content-Type", contentJSON)
	}
	return a
}

// breakOff ends the exchange without an answer. It does not return.
func (s *Server) breakOff() {
	s.store.answered(0)
	panic(http.ErrAbortHandler)
}

// reset breaks the connection off with a TCP RST where the protocol lets it.
func (s *Server) reset(x *exchange) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		s.breakOff() // HTTP/2: becomes RST_STREAM
	}
	s.store.answered(0)
	defer func() { _ = conn.Close() }()
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // discard what is queued and send RST on close
	}
}

// send writes an answer, shaped by the fault where there is one.
func (s *Server) send(ctx context.Context, x *exchange, a reply) {
	h := x.w.Header()
	maps.Copy(h, a.header)
	h.Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
	if a.status == http.StatusRequestEntityTooLarge || x.fault != nil && x.fault.Stage == StageHeaders {
		// Else net/http would read on for a while before it lets the answer
		// out. The connection cannot be used again: the body is still on it.
		h.Set("Connection", "close")
		_ = http.NewResponseController(x.w).EnableFullDuplex() // HTTP/1 only, and needed only there
	}
	if x.fault != nil {
		s.sendShaped(ctx, x, a)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	s.store.answered(a.status)
	x.w.WriteHeader(a.status)
	_, _ = x.w.Write(a.body) // the client's loss if it has left; HEAD drops it
}

// sendShaped is send for an answer that a fault adds to, paces or cuts off.
func (s *Server) sendShaped(ctx context.Context, x *exchange, a reply) {
	f, h := x.fault, x.w.Header()
	for name, values := range f.Header {
		h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	if f.Redirect != "" {
		h.Set("Location", redirectTo(f.Redirect, x.r.Request))
	}
	if v := retryAfter(f.RetryAfter, s.cfg.Now()); v != "" {
		h.Set("Retry-After", v)
	}
	size := max(int64(len(a.body)), f.BodyBytes)
	bodyless := a.status == http.StatusNoContent || a.status == http.StatusNotModified
	if !bodyless {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	s.store.answered(a.status)
	x.w.WriteHeader(a.status)
	if bodyless || x.r.Method == http.MethodHead {
		return
	}
	body := io.LimitReader(io.MultiReader(bytes.NewReader(a.body), filler{}), size)
	switch {
	case f.Reset: // StageAnswer: all was announced, half is sent
		_, _ = io.CopyN(x.w, body, size/2)
		_ = http.NewResponseController(x.w).Flush()
		panic(http.ErrAbortHandler)
	case f.BytesPerSecond > 0:
		s.trickle(ctx, x, body)
	default:
		_, _ = io.Copy(x.w, body)
	}
}

// redirectTo resolves Fault.Redirect for a request.
func redirectTo(base string, r *http.Request) string {
	if base == "https" {
		base = "https://" + r.Host
	}
	return strings.TrimSuffix(base, "/") + r.URL.RequestURI()
}

// trickle writes body at a steady pace, or breaks off when nobody waits for it.
func (s *Server) trickle(ctx context.Context, x *exchange, body io.Reader) {
	bytesPerSecond := x.fault.BytesPerSecond
	const ticksPerSecond = 20
	chunk := int64(max(1, bytesPerSecond/ticksPerSecond))
	pause := time.Duration(chunk) * time.Second / time.Duration(bytesPerSecond)
	for {
		n, err := io.CopyN(x.w, body, chunk)
		if n == 0 && err != nil {
			return
		}
		if http.NewResponseController(x.w).Flush() != nil || !s.wait(ctx, pause) {
			panic(http.ErrAbortHandler)
		}
	}
}

// filler is an endless supply of one letter.
type filler struct{}

func (filler) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// retryAfter resolves the "date+30s" form of Fault.RetryAfter.
func retryAfter(text string, now time.Time) string {
	after, ok := strings.CutPrefix(text, "date")
	if !ok {
		return text
	}
	d, err := time.ParseDuration(after)
	if err != nil {
		return text
	}
	return now.Add(d).UTC().Format(http.TimeFormat)
}
