package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/proxy"
)

// passed is an answer to a request on a client's Transport.
type passed struct {
	status int
	header http.Header
	body   string
}

// pass sends a request on c's Transport.
func pass(t testing.TB, c *Client, path string, header http.Header) passed {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.BaseURL()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := c.Transport().RoundTrip(req)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("GET %s: %v", path, err)
	}
	return passed{res.StatusCode, res.Header, string(body)}
}

func TestTransportPassesOnWhatItIsGiven(t *testing.T) {
	var connections atomic.Int32
	s, caFile := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprintf(w, "not decoded; %s; %v", r.Proto, r.Header)
	}, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			connections.Add(1)
			return ctx
		}
	})
	c := newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile = caFile })
	check(t, send(t, c, smallRuns()), wantDelivered)

	res := pass(t, c, "/sessions", http.Header{"X-Api-Key": {"the caller's"}})
	want := "not decoded; HTTP/2.0; map[User-Agent:[Go-http-client/2.0] X-Api-Key:[the caller's]]"
	if res.body != want || res.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("answer %+v, want %q", res, want)
	}
	if res = pass(t, c, "/redirect", nil); res.status != http.StatusFound {
		t.Errorf("status %d, want the redirect itself", res.status)
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want one for sends and one for what is passed on", n)
	}
}

func TestTransportBoundsTheHeaderAndNotTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Minute
		c := pipeClient(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/never" {
				<-r.Context().Done()
				return
			}
			for range 100 {
				_, _ = io.WriteString(w, "a line\n")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(timeout):
				case <-r.Context().Done():
				}
			}
		})
		res := pass(t, c, "/stream", nil)
		if lines := strings.Count(res.body, "\n"); lines != 100 {
			t.Errorf("%d lines of a slow answer arrived", lines)
		}

		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.BaseURL()+"/never", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		never, err := c.Transport().RoundTrip(req)
		if err == nil {
			_ = never.Body.Close()
			t.Fatal("an answer came from nowhere")
		}
		if waited := time.Since(start); waited < c.cfg.Timeout || waited > c.cfg.Timeout+dialTimeout {
			t.Errorf("waited %v for the header, want %v", waited, c.cfg.Timeout)
		}
	})
}

func TestCloseClosesWhatReadsLeftIdle(t *testing.T) {
	left := make(chan struct{})
	base := rawServer(t, func(_ int, conn *net.TCPConn, r *bufio.Reader) {
		readRequest(r, true)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_, _ = r.ReadByte()
		close(left)
	})
	c := newTestClient(t, base, nil)
	pass(t, c, "/sessions", nil)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the connection is still open")
	}
}

func TestMetricsTellProtocolsApart(t *testing.T) {
	c := newTestClient(t, newServer(t, answers(202, "")).URL, nil)
	check(t, send(t, c, small()), wantDelivered)
	check(t, send(t, c, smallRuns()), wantDelivered)
	check(t, send(t, c, aCall("POST", "/feedback", "{}")), wantDelivered)
	for protocol, want := range map[proxy.Protocol]float64{proxy.ProtocolOTLP: 1, proxy.ProtocolRuns: 2} {
		if got := testutil.ToFloat64(c.metrics.requests.WithLabelValues(protocol.String(), "delivered", "ok")); got != want {
			t.Errorf("%s: %v requests counted, want %v", protocol, got, want)
		}
	}
}
