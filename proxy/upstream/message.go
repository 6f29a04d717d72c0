package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"weir/proxy"
	"weir/proxy/runs"
)

// shape is what a request looks like on the wire. What an answer means may
// depend on it.
type shape uint8

const (
	shapeOTLP shape = iota
	// shapeRuns is a multipart form of run operations.
	shapeRuns
	// shapeCall is a call passed on as it came.
	shapeCall
)

// runsPath is where LangSmith takes run operations, below the base URL
// (LangSmith API reference: ingest-runs-multipart).
const runsPath = "/runs/multipart"

// maxBlobBytes is more than any blob has: a larger length is damage, and would
// overflow the sums made of it.
const maxBlobBytes = 1 << 40

// bearer is how a key begins that is sent as Authorization instead of
// X-Api-Key (an OAuth token; LangSmith SDK, Python: client.py).
const bearer = "Bearer "

// message is one request as it goes out, whatever its encoding.
type message struct {
	shape       shape
	method, url string
	contentType string
	rawBytes    int64 // of content, blobs included
	blobBytes   int64 // of it in blobs
	blobs       bool
	form        *runs.Form // shapeRuns
	call        *runs.Op   // shapeCall
}

// newMessage returns what r goes out as. The error says why it cannot.
func (c *Client) newMessage(r *proxy.Request) (message, error) {
	if r.Protocol == proxy.ProtocolOTLP {
		return message{
			method: http.MethodPost, url: c.tracesURL, contentType: protobufType, rawBytes: rawBytes(r),
		}, nil
	}
	m := message{shape: shapeRuns, method: http.MethodPost, url: c.runsURL}
	if r.Protocol != proxy.ProtocolRuns {
		m.url = c.cfg.BaseURL
		return m, fmt.Errorf("the upstream client sends OTLP and runs, not %s", r.Protocol)
	}
	if len(r.Runs) == 1 && r.Runs[0].Kind == runs.Call {
		return c.newCall(r.Runs[0])
	}
	for i, op := range r.Runs {
		if op.Kind < runs.Create || op.Kind >= runs.Call || op.BlobBytes < 0 || op.BlobBytes > maxBlobBytes {
			return m, fmt.Errorf("operation %d of %d cannot be a part of a request (%s, blob of %d bytes)", i+1, len(r.Runs), op.Kind, op.BlobBytes)
		}
		m.rawBytes += op.Size()
		if op.Blob != "" {
			m.blobs = true
			m.blobBytes += op.BlobBytes
		}
	}
	if m.blobs && c.cfg.OpenBlob == nil {
		return m, errors.New("the request has content in blobs, and the upstream client has no way to open them")
	}
	m.form = runs.NewForm(r.Runs)
	m.contentType = m.form.ContentType()
	return m, nil
}

// newCall returns what a call goes out as.
func (c *Client) newCall(op *runs.Op) (message, error) {
	m := message{
		shape: shapeCall, method: op.Method, url: c.cfg.BaseURL + op.Path,
		contentType: op.ContentType, rawBytes: int64(len(op.Body)), call: op,
	}
	// Anything but a slash after the host could make it another host, which
	// would then get the key.
	target, err := url.Parse(m.url)
	if !strings.HasPrefix(op.Path, "/") || err != nil {
		return m, fmt.Errorf("the call's path %q is no path; it must begin with a slash", shorten(op.Path))
	}
	target.Fragment, target.RawFragment = "", ""
	m.url = target.String()
	if op.Method == http.MethodConnect || op.Method == "" || !isToken(op.Method) {
		return m, fmt.Errorf("the call's method %q is none", shorten(op.Method))
	}
	if !httpguts.ValidHeaderFieldValue(op.ContentType) {
		return m, badHeader("the call's content type", op.ContentType)
	}
	return m, nil
}

// isToken reports whether s can be a method (RFC 9110, 5.6.2).
func isToken(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !httpguts.IsTokenRune(r) })
}

// rawBytes is the size of the request's message.
func rawBytes(r *proxy.Request) int64 {
	var n int64
	for _, p := range r.Parts {
		n += int64(plainBytes(p))
	}
	return n
}

// empty reports whether there is nothing to send. A call without a body is one
// all the same.
func (m *message) empty() bool {
	switch m.shape {
	case shapeRuns:
		return len(m.form.Ops) == 0
	case shapeCall:
		return false
	default:
		return m.rawBytes == 0
	}
}

// token returns a bearer key's token; ok is false for any other key. The
// scheme's letter case does not matter (RFC 9110, 11.1).
func token(key string) (token string, ok bool) {
	if len(key) < len(bearer) || !strings.EqualFold(key[:len(bearer)], bearer) {
		return "", false
	}
	return key[len(bearer):], true
}

// setAuth sets the header that carries key, if there is one.
func setAuth(h http.Header, key string) {
	if key == "" {
		return
	}
	if _, ok := token(key); ok {
		h.Set("Authorization", key)
		return
	}
	h.Set("X-Api-Key", key)
}
