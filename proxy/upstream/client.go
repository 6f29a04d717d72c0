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
	runsURL   string
	userAgent string
	transport *http.Transport // for sends
	reads     *http.Transport // for what is passed on, see Transport
	codecs    *codecs
	metrics   *metrics

	closing context.Context // done when Close was called
	close   context.CancelCauseFunc
	sends   sync.WaitGroup // the sends under way

	mu          sync.Mutex // covers closed (with sends.Add) and what follows
	closed      bool
	refused     refusals // for OTLP
	proven      []Encoding
	refusedRuns refusals // for forms of run operations
}

// refusals are the encodings that the upstream does not take in requests of
// one shape.
type refusals struct {
	encodings []Encoding
	notify    func(Encoding) // nil: nobody asks
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
	reads := transport.Clone() // its own connections: a read that hangs must not count against sends
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
		runsURL:   cfg.BaseURL + runsPath,
		userAgent: "weir/" + cfg.Version,
		transport: transport,
		reads:     reads,
		codecs:    pools,
		metrics:   m,

		refused:     refusals{slices.Clone(cfg.RefusedEncodings), cfg.OnEncodingRefused},
		refusedRuns: refusals{slices.Clone(cfg.RefusedRunsEncodings), cfg.OnRunsEncodingRefused},
	}
	c.proven = slices.Clone(cfg.ProvenEncodings)
	c.closing, c.close = context.WithCancelCause(context.Background())
	return c, nil
}

// BaseURL returns the upstream's base URL in its normal form.
func (c *Client) BaseURL() string { return c.cfg.BaseURL }

// Encoding returns the encoding of the next OTLP request, never EncodingAuto.
func (c *Client) Encoding() Encoding {
	first := c.cfg.Encoding
	if first == EncodingAuto {
		first = c.automatic()
	}
	return c.taken(first, &c.refused)
}

// encoding returns the encoding to begin with for m.
func (c *Client) encoding(m *message) Encoding {
	switch {
	case m.shape == shapeOTLP:
		return c.Encoding()
	case m.shape == shapeCall, m.blobs:
		return EncodingIdentity
	default:
		// LangSmith takes zstd here (LangSmith API reference:
		// ingest-runs-multipart), and its Python SDK sends nothing else.
		return c.taken(EncodingZstd, &c.refusedRuns)
	}
}

// taken returns the encoding to use, from first on, that is not refused.
func (c *Client) taken(first Encoding, refused *refusals) Encoding {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range fallbacks[slices.Index(fallbacks, first):] {
		if !slices.Contains(refused.encodings, e) {
			return e
		}
	}
	return EncodingIdentity
}

// Close ends the sends under way as interrupted, waits for them and closes all
// connections that carry nothing. Sends that come later are interrupted at
// once; exchanges on Transport are their callers' to end. It always returns
// nil, and may be called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.close(errClosed)
	c.sends.Wait()
	c.transport.CloseIdleConnections()
	c.reads.CloseIdleConnections()
	return nil
}

// Transport returns the way to the upstream for requests that are passed on
// and not sent: with the same certificate authorities, proxy and limits on
// connecting, but with connections of its own. It bounds the wait for an
// answer's header by Config.Timeout and nothing else: answers may stream for
// as long as the request's context lets them. It sends what it is given: it
// follows no redirect, adds no credential and leaves compression alone. Close
// closes its idle connections. Any number of goroutines may use it.
func (c *Client) Transport() http.RoundTripper { return c.reads }

// Send implements proxy.Upstream. It posts OTLP to {base}/otel/v1/traces and
// run operations to {base}/runs/multipart, and makes a single runs.Call as the
// call that it is. A request goes in the encoding the upstream is believed to
// take; where that is refused, Send sends it again in the next one, and
// remembers the refusal once that was delivered (a 415 alone may come from
// anything on the way). It tries nothing else again: waiting is the caller's.
//
// Send reads r.Parts and r.Runs until it returns and not after.
func (c *Client) Send(ctx context.Context, r *proxy.Request) proxy.Outcome {
	return c.send(ctx, r, EncodingAuto)
}

// SendAs is Send in one encoding and no other: what is refused for its encoding
// stays refused, and nothing is remembered of it. EncodingAuto is Send.
func (c *Client) SendAs(ctx context.Context, r *proxy.Request, e Encoding) proxy.Outcome {
	return c.send(ctx, r, e)
}

// send is SendAs.
func (c *Client) send(ctx context.Context, r *proxy.Request, only Encoding) proxy.Outcome {
	if ctx.Err() != nil || !c.begin() {
		return verdict{kind: proxy.Interrupted, reason: reasonStopping}.outcome(0)
	}
	defer c.sends.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closing, func() { cancel(errClosed) })() //nolint:contextcheck // the client's own end, beside the caller's

	a := attempt{client: c, request: r, redact: newRedactor(r.APIKey)}
	var err error
	if a.message, err = c.newMessage(r); err != nil {
		return a.refuse(refusedContent.because(reasonBadRequest), err)
	}
	if v, err := a.check(); err != nil {
		return a.refuse(v, err)
	}
	if only != EncodingAuto {
		a.encoding = only
		return a.run(ctx)
	}
	a.encoding = c.encoding(&a.message)
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
			c.remember(a.message.shape, refused)
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

// remember notes that the upstream does not take these encodings in requests
// of a shape.
func (c *Client) remember(s shape, encodings []Encoding) {
	known := &c.refused
	if s != shapeOTLP {
		known = &c.refusedRuns
	}
	for _, e := range encodings {
		c.mu.Lock()
		news := !slices.Contains(known.encodings, e)
		if news {
			known.encodings = append(known.encodings, e)
		}
		c.mu.Unlock()
		if news && known.notify != nil {
			known.notify(e)
		}
	}
}

// check returns why the request cannot be sent, nil for those that can.
func (a *attempt) check() (verdict, error) {
	r, m, cfg := a.request, &a.message, a.client.cfg
	held := m.rawBytes - m.blobBytes
	switch {
	case m.empty():
		return refusedContent.because(reasonBadRequest), fmt.Errorf("the request is empty: %d parts and operations without content", len(r.Parts)+len(r.Runs))
	case held > cfg.MaxRequestBytes:
		return refusedSize.because(reasonTooLarge), fmt.Errorf("the request has %d bytes uncompressed, the limit is %d", held, cfg.MaxRequestBytes)
	case cfg.MaxBlobBytes > 0 && m.blobBytes > cfg.MaxBlobBytes:
		return refusedSize.because(reasonTooLarge), fmt.Errorf("the request has attachments of %d bytes, the limit is %d", m.blobBytes, cfg.MaxBlobBytes)
	case !httpguts.ValidHeaderFieldValue(r.APIKey):
		return refusedCredential.because(reasonBadHeader), badHeader("the API key", r.APIKey)
	case !httpguts.ValidHeaderFieldValue(r.Workspace):
		return refusedLane.because(reasonBadHeader), badHeader("the workspace id", r.Workspace)
	case m.shape == shapeOTLP && !httpguts.ValidHeaderFieldValue(r.Project):
		return refusedLane.because(reasonBadHeader), badHeader("the project name", r.Project)
	default:
		return verdict{}, nil
	}
}

// refuse is the outcome of a request that is not sent.
func (a *attempt) refuse(v verdict, err error) proxy.Outcome {
	out := a.unsendable(v, err)
	ex := &out.Exchange
	ex.Time, ex.Method, ex.URL = time.Now(), a.method(), a.url()
	ex.Error = a.redact.clean(ex.Error, maxErrorBytes)
	a.client.metrics.requests.WithLabelValues(a.request.Protocol.String(), out.Kind.String(), out.Reason).Inc()
	return out
}

// badHeader says what keeps value out of a header, without saying the value.
func badHeader(what, value string) error {
	if strings.ContainsAny(value, "\r\n") {
		return fmt.Errorf("%s contains a line break and cannot be sent; remove it where it is set", what)
	}
	return fmt.Errorf("%s contains a control character and cannot be sent; remove it where it is set", what)
}
