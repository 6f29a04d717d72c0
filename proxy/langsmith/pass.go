package langsmith

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/callerheaders"
)

// errTooSlow ends a request to which the upstream says nothing.
var errTooSlow = errors.New("no answer from LangSmith within the time allowed")

// way is the way of what is passed on: the upstream, and what it says of itself.
type way struct {
	h      *Handler
	base   *url.URL
	info   *serverInfo
	passer *httputil.ReverseProxy
}

// newWay returns the way to an upstream: what is passed on goes there and back as
// it is, streaming both ways.
func (h *Handler) newWay(u Upstream) (*way, error) {
	base, err := u.parse()
	if err != nil {
		return nil, err
	}
	y := &way{h: h, base: base}
	y.info = newServerInfo(u.Transport, base, limits{operations: h.cfg.MaxOperations, bytes: h.cfg.MaxMessageBytes})
	y.passer = &httputil.ReverseProxy{
		Rewrite:       y.rewrite,
		Transport:     &patientTransport{u.Transport, h.cfg.ReadTimeout},
		FlushInterval: -1,
		BufferPool:    copyBuffers{},
		ErrorHandler:  y.failed,
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		ModifyResponse: func(*http.Response) error {
			h.metrics.passed.WithLabelValues("answered").Inc()
			return nil
		},
	}
	return y, nil
}

// lend marks the context of a request to which weir's key may be lent.
type lend struct{}

// pass passes a request on. weir's own token goes no further than this.
func (h *Handler) pass(y *way, w http.ResponseWriter, r *http.Request) {
	mayBorrow, err := h.cfg.Door.Strip(r.Header)
	if err == nil && h.cfg.LendKey != nil && !hasCredentials(r.Header) {
		if !mayBorrow {
			err = &callerheaders.TokenError{Reason: callerheaders.ReasonTokenMissing}
		}
		r = r.WithContext(context.WithValue(r.Context(), lend{}, true))
	}
	if err != nil {
		h.metrics.passed.WithLabelValues("refused").Inc()
		writeRefusal(w, refusalOf(err))
		return
	}
	y.passer.ServeHTTP(w, r)
}

// rewrite turns a request to weir into the same to the upstream. ReverseProxy
// has taken the hop-by-hop headers out, and the forwarding ones, which would
// tell where the caller is.
func (y *way) rewrite(p *httputil.ProxyRequest) {
	h := y.h
	out := p.Out.URL
	out.Scheme, out.Host = y.base.Scheme, y.base.Host
	prefix := y.prefixFor(p.In.URL.EscapedPath())
	out.RawPath = prefix + p.In.URL.EscapedPath()
	if path, err := url.PathUnescape(out.RawPath); err == nil {
		out.Path = path
	}
	out.RawQuery = p.In.URL.RawQuery // as it came, even where Go would not parse it
	p.Out.Host = y.base.Host
	if p.In.Context().Value(lend{}) != nil {
		key, workspace := h.cfg.LendKey()
		if key != "" {
			p.Out.Header.Set("X-Api-Key", key)
		}
		if workspace != "" && p.In.Header.Get("X-Tenant-Id") == "" {
			p.Out.Header.Set("X-Tenant-Id", workspace)
		}
	}
}

// hasCredentials tells whether a request says itself who is asking, in any of
// the ways that SDKs have (LangSmith SDK, client.py _headers).
func hasCredentials(header http.Header) bool {
	for _, name := range []string{"X-Api-Key", "Authorization", "X-Service-Key", "Cookie"} {
		if header.Get(name) != "" {
			return true
		}
	}
	return false
}

// prefixFor is what comes before a request's path at the upstream: the base
// URL's own path, unless the request's begins with it. SDKs take /api/v1 or
// /api off the end of an endpoint and then call /api/v1/... or /v2/... from
// the root (client.py _get_openapi_base_url), so that it comes off here too.
func (y *way) prefixFor(path string) string {
	base := y.base.EscapedPath()
	if _, ok := below(path, base); ok {
		return ""
	}
	for _, end := range prefixes {
		if root, ok := strings.CutSuffix(base, end); ok && (strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/v2/")) {
			return root
		}
	}
	return base
}

// failed answers a request that the upstream did not.
func (y *way) failed(w http.ResponseWriter, r *http.Request, err error) {
	h := y.h
	const meanwhile = "runs and feedback are taken by weir meanwhile and sent when LangSmith is back; reads have to wait for it"
	slow := errors.Is(err, errTooSlow) || errors.Is(err, context.DeadlineExceeded)
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		slow = true
	}
	switch {
	case r.Context().Err() != nil && !slow:
		h.metrics.passed.WithLabelValues("canceled").Inc()
		w.WriteHeader(http.StatusServiceUnavailable) // nobody hears it
	case slow:
		h.metrics.passed.WithLabelValues("timeout").Inc()
		writeJSON(w, http.StatusGatewayTimeout, errorBody{
			Error:  fmt.Sprintf("Gateway timeout: LangSmith at %s did not answer weir within %s", y.base.Host, h.cfg.ReadTimeout),
			Detail: meanwhile,
		})
	default:
		h.metrics.passed.WithLabelValues("unreachable").Inc()
		writeJSON(w, http.StatusBadGateway, errorBody{
			Error:  clip(fmt.Sprintf("Bad gateway: weir cannot reach LangSmith at %s: %s", y.base.Host, withoutSecrets(err.Error(), r))),
			Detail: meanwhile,
		})
	}
}

// withoutSecrets takes what a request brings as credentials out of a text.
func withoutSecrets(text string, r *http.Request) string {
	for _, name := range []string{"X-Api-Key", "Authorization", "X-Service-Key", "Cookie"} {
		for _, value := range r.Header.Values(name) {
			for word := range strings.FieldsSeq(value) {
				if len(word) > len("Bearer") {
					text = strings.ReplaceAll(text, word, "(secret)")
				}
			}
		}
	}
	return text
}

// patientTransport ends a request once nothing has happened for a while: the
// upstream neither takes more of the body nor answers. After the headers of
// the answer it lets it take its time.
type patientTransport struct {
	http.RoundTripper

	patience time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t *patientTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{patience: t.patience, cancel: cancel}
	w.timer = time.AfterFunc(t.patience, w.expire)
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &watchedBody{r.Body, w}
	}
	resp, err := t.RoundTripper.RoundTrip(r)
	w.over.Store(true)
	w.timer.Stop()
	if errors.Is(context.Cause(ctx), errTooSlow) {
		// The answer may have come at the last moment, but its body is lost.
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, errTooSlow
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	// Upgraded connections are written to as well.
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &answeredConn{conn, cancel}
	} else {
		resp.Body = &answeredBody{resp.Body, cancel}
	}
	return resp, nil
}

// watch is the time that a request has left.
type watch struct {
	patience time.Duration
	timer    *time.Timer
	cancel   context.CancelCauseFunc
	over     atomic.Bool // the answer has come
}

func (w *watch) expire() {
	if !w.over.Load() {
		w.cancel(errTooSlow)
	}
}

// watchedBody grants more time whenever it is read from, and takes none while
// the caller lets it wait. It may be read after the answer has come.
type watchedBody struct {
	io.ReadCloser

	watch *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.watch.timer.Stop() {
		defer b.watch.timer.Reset(b.watch.patience)
	}
	return b.ReadCloser.Read(p)
}

// answeredBody frees what watches a request once its answer is closed.
type answeredBody struct {
	io.ReadCloser

	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (b *answeredBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

type answeredConn struct {
	io.ReadWriteCloser

	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (c *answeredConn) Close() error {
	err := c.ReadWriteCloser.Close()
	c.cancel(nil)
	return err
}

// copyBuffers lends buffers to a ReverseProxy.
type copyBuffers struct{}

const copyBufferBytes = 32 << 10

var copying = sync.Pool{New: func() any { b := make([]byte, copyBufferBytes); return &b }}

// Get implements httputil.BufferPool.
func (copyBuffers) Get() []byte { return *copying.Get().(*[]byte) }

// Put implements httputil.BufferPool.
func (copyBuffers) Put(b []byte) { copying.Put(&b) }
