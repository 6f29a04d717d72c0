package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"weir/proxy"
)

const (
	askTimeout     = 10 * time.Second
	maxAnswerBytes = 1 << 20
	apiPrefix      = "/api/v1"
)

var _ proxy.Asker = (*Client)(nil)

// Ask implements proxy.Asker. It follows no redirect, and asks over connections
// of its own, so that an answer that hangs does not count against sends. Errors
// hold no key.
func (c *Client) Ask(ctx context.Context, q *proxy.Question) proxy.Answer {
	redact := newRedactor(q.APIKey)
	fail := func(err error) proxy.Answer {
		text := redact.clean(err.Error(), maxErrorBytes)
		return proxy.Answer{Err: fmt.Errorf("ask the upstream for %s: %s", cut(q.Path, maxErrorBytes), text)}
	}
	if ctx.Err() != nil || !c.begin() {
		return fail(errClosed)
	}
	defer c.sends.Done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)() //nolint:contextcheck // the client's own end, beside the caller's

	method, body := http.MethodGet, io.Reader(http.NoBody)
	if q.Body != nil {
		method, body = http.MethodPost, bytes.NewReader(q.Body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.askURL(q), body)
	if err != nil {
		return fail(err)
	}
	h := req.Header
	if q.Body != nil {
		h.Set("Content-Type", jsonType)
	}
	h.Set("User-Agent", c.userAgent)
	h.Set("Accept", jsonType)
	setAuth(h, q.APIKey)
	if q.Workspace != "" {
		h.Set("X-Tenant-Id", q.Workspace)
	}
	res, err := c.reads.RoundTrip(req)
	if err != nil {
		return fail(err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return fail(err)
	}
	out := proxy.Answer{Status: res.StatusCode, Body: text}
	if t, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		out.Date = t
	}
	return out
}

// askURL is the URL of a question. The paths of newer calls begin with /api/v1,
// which a base URL may already end in.
func (c *Client) askURL(q *proxy.Question) string {
	base := c.cfg.BaseURL
	if q.Base != "" {
		base = strings.TrimRight(q.Base, "/")
	}
	if strings.HasPrefix(q.Path, apiPrefix+"/") {
		base = strings.TrimSuffix(base, apiPrefix)
	}
	return base + q.Path
}
