package admin

import (
	"context"
	"net"
	"net/http"
	"time"

	"weir/internal/listen"
	"weir/proto/weir/v1/weirv1connect"
)

// dialTimeout bounds how long a connection to a weir may take to open.
const dialTimeout = 5 * time.Second

// Dial returns a client of the weir whose admin listener is at addr,
// "host:port" or "unix:PATH", that sends token if there is one. An address as
// one listens on it ("0.0.0.0:4319", ":4319") means this machine.
//
// Nothing is connected before the first call, and no connection stays open
// between calls, so there is nothing to close. A weir that does not answer is
// an error of code connect.CodeUnavailable. How long a call may take is its
// context's business. Proxies of the environment are not used, redirects not
// followed.
func Dial(addr, token string) weirv1connect.AdminServiceClient {
	network, target := listen.Reachable(addr)
	host := target
	if network == "unix" {
		host = "localhost"
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	var transport http.RoundTripper = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		},
		DisableKeepAlives: true,
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
	return weirv1connect.NewAdminServiceClient(client, "http://"+host)
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
