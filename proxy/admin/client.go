package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"weir/internal/listen"
	"weir/proto/weir/v1/weirv1connect"
)

// dialTimeout bounds how long a connection to a weir may take to open, and
// handshakeTimeout how long TLS on it may.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
)

// ErrTLSExpected is in the error of a call without TLS to a listener that has
// it. The other way round the error holds http.ErrSchemeMismatch.
var ErrTLSExpected = errors.New("the listener speaks TLS, and was called without")

// Dial returns a client of the weir whose admin listener is at addr,
// "host:port" or "unix:PATH", that sends token if there is one. An address as
// one listens on it ("0.0.0.0:4319", ":4319") means this machine.
//
// Nothing is connected before the first call, and no connection stays open
// between calls, so there is nothing to close. A weir that does not answer is
// an error of code connect.CodeUnavailable. How long a call may take is its
// context's business. Proxies of the environment are not used, redirects not
// followed.
func Dial(addr, token string) weirv1connect.AdminServiceClient { return DialTLS(addr, token, nil) }

// DialTLS is Dial over TLS, with secure as its settings; nil: without TLS. The
// server's name is addr's host unless secure has another.
func DialTLS(addr, token string, secure *tls.Config) weirv1connect.AdminServiceClient {
	network, target := listen.Reachable(addr)
	scheme, host := "http://", target
	if network == "unix" {
		host = "localhost"
	} else if secure != nil {
		scheme = "https://"
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	var transport http.RoundTripper = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		},
		TLSClientConfig:     secure,
		TLSHandshakeTimeout: handshakeTimeout,
		DisableKeepAlives:   true,
	}
	if scheme == "http://" {
		transport = &plainTransport{transport}
	}
	if token != "" {
		transport = &bearerTransport{next: transport, token: token}
	}
	client := &http.Client{
		Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return weirv1connect.NewAdminServiceClient(client, scheme+host)
}

// plainTransport notices a listener that speaks TLS.
type plainTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t *plainTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Content-Type") != "" {
		return resp, err
	}
	// What net/http answers, and has answered since Go 1.12 (server.go).
	said := []byte("Client sent an HTTP request to an HTTPS server")
	start, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(said))))
	if err == nil && bytes.Equal(start, said) {
		_ = resp.Body.Close()
		return nil, ErrTLSExpected
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	return resp, nil
}

// bearerTransport adds the token to every request.
type bearerTransport struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (t *bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+t.token)
	return t.next.RoundTrip(r)
}
