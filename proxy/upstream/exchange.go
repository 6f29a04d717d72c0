package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"weir/proxy"
)

// attempt is one exchange: a request in one encoding.
type attempt struct {
	client   *Client
	request  *proxy.Request
	message  message
	encoding Encoding
	redact   redactor
	arrived  bool // an earlier try, whose answer was lost, may have arrived
}

// method and url are the request's, fit to be kept and shown.
func (a *attempt) method() string { return a.redact.clean(a.message.method, maxMethodBytes) }

func (a *attempt) url() string {
	if a.message.shape != shapeCall {
		return a.message.url
	}
	return a.redact.clean(a.message.url, maxURLBytes)
}

// run does the exchange and classifies how it ended. When it returns, nothing
// reads the request's parts any more.
func (a *attempt) run(ctx context.Context) proxy.Outcome {
	a.client.metrics.inFlight.Inc()
	defer a.client.metrics.inFlight.Dec()
	start := time.Now()
	out := a.exchange(ctx)
	ex := &out.Exchange
	ex.Time = start
	ex.Method = a.message.method
	ex.URL = a.url()
	ex.Encoding = a.encoding.header()
	ex.Elapsed = time.Since(start)
	ex.Error = a.redact.clean(ex.Error, maxErrorBytes)
	a.client.metrics.observe(&out, a)
	return out
}

// encode makes the request's body.
func (a *attempt) encode() (*body, error) {
	m, codecs := &a.message, a.client.codecs
	switch {
	case m.shape == shapeCall:
		return codecs.streamBytes(m.call.Body), nil
	case m.blobs:
		return codecs.streamForm(m.form, m.form.Size(), a.client.cfg.OpenBlob), nil
	case m.shape == shapeRuns:
		return codecs.encodeForm(m.form, a.encoding)
	default:
		return codecs.encode(a.request.Parts, a.encoding)
	}
}

func (a *attempt) exchange(ctx context.Context) proxy.Outcome {
	b, err := a.encode()
	if err != nil {
		return a.unsendable(refusedContent.because(reasonCorrupt), err)
	}
	defer b.release()

	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := a.client.cfg.Timeout + time.Duration(b.size/minBytesPerSecond)*time.Second
	watch := time.AfterFunc(timeout, func() { cancel(errTimeout) })
	defer watch.Stop()

	res, err := a.roundTrip(watched, b)
	if err != nil {
		return a.failed(ctx, watched, b, err)
	}
	defer res.Body.Close() //nolint:errcheck // read only; all that matters has been read
	// From here on the answer is on its way, and slow ones must not hold a
	// worker: a body is a few kilobytes, and worth seconds, not minutes.
	if watch.Stop() {
		watch.Reset(a.client.cfg.AnswerTimeout)
	}
	ans := &answer{shape: a.message.shape, status: res.StatusCode, header: res.Header, encoding: a.encoding, now: time.Now()}
	var readErr error
	ans.body, readErr = readBody(res.Body)
	if readErr != nil && context.Cause(watched) == errTimeout { //nolint:errorlint // the sentinel itself
		readErr = errAnswerTimeout
	}
	if readErr != nil && res.StatusCode < 300 {
		// Half an answer is no acknowledgement (RFC 9112, 8): a gateway may
		// have begun it for an upstream that then died. Sending twice is
		// allowed, losing is not. An error is one whatever is missing of it.
		out := a.failed(ctx, watched, b, fmt.Errorf("%w: %w", errCutOff, readErr))
		out.MayHaveArrived = true // it did not say no
		a.describe(&out, ans, b)
		return out
	}
	return a.answered(ans, b, readErr)
}

// roundTrip sends b and returns the answer's header. A connection that had been
// idle may have been closed by the other side just when it was taken, which
// says nothing about the upstream: then, once, the request goes again at once
// on a new connection. (net/http does this by itself for some requests, and
// for a POST only where it is sure that nothing was written.)
func (a *attempt) roundTrip(ctx context.Context, b *body) (*http.Response, error) {
	var reused atomic.Bool
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused.Store(info.Reused) },
	}
	if b.size == 0 {
		trace.WroteHeaders = b.wroteEmpty
	}
	ctx = httptrace.WithClientTrace(ctx, trace)
	for again := false; ; again = true {
		req, err := a.httpRequest(ctx, b)
		if err != nil {
			return nil, err
		}
		res, err := a.client.transport.RoundTrip(req)
		if err == nil || again || !reused.Load() || !isCut(err) || ctx.Err() != nil {
			return res, err
		}
		sent, drained, readErr := b.progress()
		if readErr != nil || b.size > largeBodyBytes && sent > deadAfterBytes {
			return nil, err
		}
		a.arrived = drained
		a.client.transport.CloseIdleConnections() // the others are as old
	}
}

// httpRequest makes the request that carries b.
func (a *attempt) httpRequest(ctx context.Context, b *body) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, a.message.method, a.message.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if b.size > 0 {
		req.Body = b.reader()
		req.ContentLength = b.size
		req.GetBody = func() (io.ReadCloser, error) { return b.reader(), nil }
	}
	h := req.Header
	h.Set("User-Agent", a.client.userAgent)
	h.Set("Accept-Encoding", "identity") // a refusal's words decide what it means
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Type", a.message.contentType)
	set("Content-Encoding", a.encoding.header())
	setAuth(h, a.request.APIKey)
	set("X-Tenant-Id", a.request.Workspace)
	if a.message.shape == shapeOTLP {
		h.Set("Accept", protobufType+", "+jsonType)
		set("Langsmith-Project", a.request.Project)
		return req, nil
	}
	h.Set("Accept", jsonType)
	if a.encoding != EncodingIdentity {
		// As the Python SDK says it: content alone, then the whole body.
		h.Set("X-Pre-Compressed-Size", strconv.FormatInt(a.message.rawBytes, 10))
		h.Set("X-Post-Compressed-Size", strconv.FormatInt(b.size, 10))
	}
	return req, nil
}

// answered judges a complete answer.
func (a *attempt) answered(ans *answer, b *body, readErr error) proxy.Outcome {
	out := classify(ans)
	out.MayHaveArrived = out.Kind != proxy.Delivered && (a.arrived || lostAnswer(ans))
	a.describe(&out, ans, b)
	ex := &out.Exchange
	switch {
	case readErr != nil:
		ex.Error = fmt.Errorf("%w: %w", errCutOff, readErr).Error()
	case out.Reason == reasonNotSmith:
		ex.Error = "the answer is a web page, not LangSmith's API: check the upstream URL, or the network's login page"
	case ex.Status >= 300 && ex.Status <= 399 && ex.Header.Get("Location") != "":
		ex.Error = fmt.Sprintf("redirected to %q; weir follows no redirect, to keep the API key from other hosts: set the upstream URL to where it leads",
			ex.Header.Get("Location"))
	case out.Reason == reasonPartial:
		a.rejectedSpans(ans, &out)
	}
	return out
}

// rejectedSpans puts a partial success into the outcome.
func (a *attempt) rejectedSpans(ans *answer, out *proxy.Outcome) {
	n, message, _ := ans.partialSuccess()
	rejected := int(min(n, int64(max(a.request.Items, 1))))
	message = a.redact.clean(message, maxErrorBytes)
	out.RejectedItems = rejected
	out.Exchange.Error = fmt.Sprintf("the upstream took the request but rejected %d of %d spans: %s", rejected, a.request.Items, message)
	a.client.metrics.rejected.Add(float64(rejected))
}

// failed judges an exchange without a complete answer.
func (a *attempt) failed(ctx, watched context.Context, b *body, err error) proxy.Outcome {
	sent, drained, decodeErr := b.progress()
	switch {
	case errors.Is(decodeErr, errCorrupt):
		return a.unsendable(refusedContent.because(reasonCorrupt), decodeErr)
	case errors.Is(decodeErr, errUnreadable):
		return a.unsendable(retryLane.because(reasonUnreadable), decodeErr)
	}
	cause := context.Cause(watched)
	out := classifyFailure(failure{err: err, cause: cause, caller: ctx, size: b.size})
	// Everything was given to the connection, so the upstream may have it.
	// Errs on the side of "may": the last bytes can still sit in a buffer.
	out.MayHaveArrived = drained || a.arrived
	out.Exchange.SentBytes = int(sent)
	switch {
	case cause == nil || errors.Is(err, cause):
		out.Exchange.Error = err.Error()
	default:
		out.Exchange.Error = fmt.Sprintf("%v (%v)", cause, err)
	}
	return out
}

// unsendable is the outcome of a request that never reached a connection.
func (a *attempt) unsendable(v verdict, err error) proxy.Outcome {
	out := v.outcome(0)
	out.Exchange.Error = err.Error()
	return out
}

// describe fills in what the answer says, made safe to keep.
func (a *attempt) describe(out *proxy.Outcome, ans *answer, b *body) {
	sent, _, _ := b.progress()
	ex := &out.Exchange
	ex.Status = ans.status
	ex.Header = ans.kept(a.redact)
	ex.Body = a.redact.clean(ans.text(), maxKeptBytes)
	ex.RequestID = ans.requestID(a.redact)
	ex.ServerDate = ans.date()
	ex.SentBytes = int(sent)
}
