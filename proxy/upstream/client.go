package upstream

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"weir/proxy"
)

// Client sends requests to one LangSmith. It implements proxy.Upstream; all
// its methods may be called from any number of goroutines.
type Client struct {
	cfg       *Config
	tracesURL string
	userAgent string
	transport *http.Transport
	codecs    *codecs
	metrics   *metrics

	closing context.Context // done when Close was called
	close   context.CancelCauseFunc
	sends   sync.WaitGroup // the sends under way

	mu      sync.Mutex // covers closed (with sends.Add) and refused
	closed  bool
	refused []Encoding // the encodings the upstream does not take
}

var _ proxy.Upstream = (*Client)(nil)

// New returns a client for cfg. It connects to nothing. The error names every
// field that is wrong and what would be right. The caller closes the client.
func New(cfg Config) (*Client, error) { return newClient(cfg, nil) }

// newClient is New with the means to connect; nil: TCP.
func newClient(config Config, dial dialFunc) (*Client, error) {
	cfg, err := config.prepared()
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg, dial)
	if err != nil {
		return nil, err
	}
	pools, err := newCodecs()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:       cfg,
		tracesURL: cfg.BaseURL + tracesPath,
		userAgent: "weir/" + cfg.Version,
		transport: transport,
		codecs:    pools,
		metrics:   m,
		refused:   slices.Clone(cfg.RefusedEncodings),
	}
	c.closing, c.close = context.WithCancelCause(context.Background())
	return c, nil
}

// BaseURL returns the upstream's base URL in its normal form.
func (c *Client) BaseURL() string { return c.cfg.BaseURL }

// Encoding returns the encoding of the next request, never EncodingAuto.
func (c *Client) Encoding() Encoding {
	first := c.cfg.Encoding
	if first == EncodingAuto {
		first = EncodingGzip
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range fallbacks[slices.Index(fallbacks, first):] {
		if !slices.Contains(c.refused, e) {
			return e
		}
	}
	return EncodingIdentity
}

// Close ends the sends under way as interrupted, waits for them and closes all
// connections. Sends that come later are interrupted at once. It always
// returns nil, and may be called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.close(errClosed)
	c.sends.Wait()
	c.transport.CloseIdleConnections()
	return nil
}

// Send implements proxy.Upstream. It sends r in the encoding the upstream is
// believed to take; where that is refused, it sends r again in the next one,
// and remembers the refusal once that was delivered (a 415 alone may come from
// anything on the way). It tries nothing else again: waiting is the caller's.
//
// Send reads r.Parts until it returns and not after.
func (c *Client) Send(ctx context.Context, r *proxy.Request) proxy.Outcome {
	if ctx.Err() != nil || !c.begin() {
		return verdict{kind: proxy.Interrupted, reason: reasonStopping}.outcome(0)
	}
	defer c.sends.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closing, func() { cancel(errClosed) })() //nolint:contextcheck // the client's own end, beside the caller's

	a := attempt{client: c, request: r, encoding: c.Encoding(), redact: newRedactor(r.APIKey), rawBytes: rawBytes(r)}
	if out, ok := a.check(); !ok {
		return out
	}
	var refused []Encoding
	for {
		out := a.run(ctx)
		next := slices.Index(fallbacks, a.encoding) + 1
		if out.Kind == proxy.Refused && out.Refusal == proxy.RefusedEncoding && next < len(fallbacks) {
			refused = append(refused, a.encoding)
			a.encoding = fallbacks[next]
			continue
		}
		if out.Kind == proxy.Delivered {
			c.remember(refused)
		}
		return out
	}
}

// begin enters a send; false when the client is closed.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.sends.Add(1) // under mu, so that Close cannot have begun to wait
	return true
}

// remember notes that the upstream does not take these encodings.
func (c *Client) remember(encodings []Encoding) {
	for _, e := range encodings {
		c.mu.Lock()
		known := slices.Contains(c.refused, e)
		if !known {
			c.refused = append(c.refused, e)
		}
		c.mu.Unlock()
		if f := c.cfg.OnEncodingRefused; !known && f != nil {
			f(e)
		}
	}
}

// rawBytes is the size of the request's message.
func rawBytes(r *proxy.Request) int64 {
	var n int64
	for _, p := range r.Parts {
		n += int64(plainBytes(p))
	}
	return n
}

// check refuses requests that cannot be sent; ok is true for all others.
func (a *attempt) check() (out proxy.Outcome, ok bool) {
	r := a.request
	limit := a.client.cfg.MaxRequestBytes
	var v verdict
	var err error
	switch {
	case r.Protocol != proxy.ProtocolOTLP:
		v, err = refusedContent.because(reasonBadRequest), fmt.Errorf("the upstream client sends OTLP only, not %s", r.Protocol)
	case a.rawBytes == 0:
		v, err = refusedContent.because(reasonBadRequest), fmt.Errorf("the request is empty: %d parts without content", len(r.Parts))
	case a.rawBytes > limit:
		v, err = refusedSize.because(reasonTooLarge), fmt.Errorf("the request has %d bytes uncompressed, the limit is %d", a.rawBytes, limit)
	case !httpguts.ValidHeaderFieldValue(r.APIKey):
		v, err = refusedCredential.because(reasonBadHeader), badHeader("the API key", r.APIKey)
	case !httpguts.ValidHeaderFieldValue(r.Workspace):
		v, err = refusedLane.because(reasonBadHeader), badHeader("the workspace id", r.Workspace)
	case !httpguts.ValidHeaderFieldValue(r.Project):
		v, err = refusedLane.because(reasonBadHeader), badHeader("the project name", r.Project)
	default:
		return proxy.Outcome{}, true
	}
	out = a.unsendable(v, err)
	ex := &out.Exchange
	ex.Time, ex.Method, ex.URL = time.Now(), http.MethodPost, a.client.tracesURL
	a.client.metrics.requests.WithLabelValues(out.Kind.String(), out.Reason).Inc()
	return out, false
}

// badHeader says what keeps value out of a header, without saying the value.
func badHeader(what, value string) error {
	if strings.ContainsAny(value, "\r\n") {
		return fmt.Errorf("%s contains a line break and cannot be sent; remove it where it is set", what)
	}
	return fmt.Errorf("%s contains a control character and cannot be sent; remove it where it is set", what)
}
