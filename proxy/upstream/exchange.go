package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"weir/proxy"
)

// attempt is one exchange: a request in one encoding.
type attempt struct {
	client   *Client
	request  *proxy.Request
	encoding Encoding
	redact   redactor
	rawBytes int64
	arrived  bool // an earlier try, whose answer was lost, may have arrived
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
	ex.Method = http.MethodPost
	ex.URL = a.client.tracesURL
	ex.Encoding = a.encoding.header()
	ex.Elapsed = time.Since(start)
	ex.Error = a.redact.clean(ex.Error, maxErrorBytes)
	a.client.metrics.observe(&out, a.encoding, a.rawBytes)
	return out
}

func (a *attempt) exchange(ctx context.Context) proxy.Outcome {
	b, err := a.client.codecs.encode(a.request.Parts, a.encoding)
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
	ans := &answer{status: res.StatusCode, header: res.Header, encoding: a.encoding, now: time.Now()}
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
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused.Store(info.Reused) },
	})
	for again := false; ; again = true {
		req, err := a.httpRequest(ctx, b)
		if err != nil {
			return nil, err
		}
		res, err := a.client.transport.RoundTrip(req)
		if err == nil || again || !reused.Load() || !isCut(err) || b.size > largeBodyBytes || ctx.Err() != nil {
			return res, err
		}
		_, a.arrived, _ = b.progress()
		a.client.transport.CloseIdleConnections() // the others are as old
	}
}

// httpRequest makes the request that carries b.
func (a *attempt) httpRequest(ctx context.Context, b *body) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.client.tracesURL, b.reader())
	if err != nil {
		return nil, err
	}
	req.ContentLength = b.size
	req.GetBody = func() (io.ReadCloser, error) { return b.reader(), nil }
	h := req.Header
	h.Set("User-Agent", a.client.userAgent)
	h.Set("Content-Type", protobufType)
	h.Set("Accept", protobufType+", "+jsonType)
	h.Set("Accept-Encoding", "identity") // a refusal's words decide what it means
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Encoding", a.encoding.header())
	set("X-Api-Key", a.request.APIKey)
	set("X-Tenant-Id", a.request.Workspace)
	set("Langsmith-Project", a.request.Project)
	return req, nil
}

// answered judges a complete answer.
func (a *attempt) answered(ans *answer, b *body, readErr error) proxy.Outcome {
	out := classify(ans)
	out.MayHaveArrived = a.arrived && out.Kind != proxy.Delivered
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
	if errors.Is(decodeErr, errCorrupt) {
		return a.unsendable(refusedContent.because(reasonCorrupt), decodeErr)
	}
	cause := context.Cause(watched)
	out := classifyFailure(failure{err: err, cause: cause, caller: ctx, size: b.size})
	// Everything was given to the connection, so the upstream may have it.
	// Errs on the side of "may": the last bytes can still sit in a buffer.
	out.MayHaveArrived = drained
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
