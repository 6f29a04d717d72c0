package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"weir/proxy"
)

// TestGoawayBeforeTheAnswerIsSentAgain: a server that is being replaced sends
// GOAWAY without having taken the stream; the request goes out again on a new
// connection, and nothing is reported as failed.
func TestGoawayBeforeTheAnswerIsSentAgain(t *testing.T) {
	var connections atomic.Int32
	s, caFile := newTLSServer(t, answers(200, ""), func(s *httptest.Server) {
		s.TLS.NextProtos = []string{"h2"}
		s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
			"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) { serveHTTP2(t, conn, connections.Add(1) <= 2) },
		}
	})
	c := newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile = caFile })
	check(t, send(t, c, newRequest(plainPart(noise(20_000)))), wantDelivered)
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// serveHTTP2 takes one request on a connection and answers 200 or, to refuse
// it, with GOAWAY.
func serveHTTP2(t *testing.T, conn net.Conn, refuse bool) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Errorf("preface: %v", err)
		return
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Errorf("settings: %v", err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return // the client has left
		}
		h := frame.Header()
		switch {
		case refuse && h.Type == http2.FrameHeaders:
			err = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		case !refuse && h.Type == http2.FrameData && h.Flags.Has(http2.FlagDataEndStream):
			const status200 = "\x88" // its place in HPACK's static table
			err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: []byte(status200), EndStream: true, EndHeaders: true})
		}
		if err != nil {
			t.Errorf("answer: %v", err)
		}
	}
}

// connectProxy is a small HTTP proxy that only knows CONNECT.
type connectProxy struct {
	code    int // the answer; 200 connects
	mu      sync.Mutex
	targets []string
	headers []http.Header
	tunnels sync.WaitGroup
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.targets = append(p.targets, r.Method+" "+r.Host)
	p.headers = append(p.headers, r.Header)
	p.mu.Unlock()
	if p.code != http.StatusOK {
		w.WriteHeader(p.code)
		return
	}
	target, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	for _, pipe := range []struct {
		to   net.Conn
		from io.Reader
	}{{target, buf}, {client, target}} {
		p.tunnels.Go(func() {
			_, _ = io.Copy(pipe.to, pipe.from)
			_ = pipe.to.Close()
		})
	}
}

func TestProxyCarriesTheTunnelAndNotTheKey(t *testing.T) {
	rec := &recorder{answers: []http.HandlerFunc{answers(200, "")}}
	s, caFile := newTLSServer(t, rec.ServeHTTP, nil)
	p := &connectProxy{code: http.StatusOK}
	t.Cleanup(p.tunnels.Wait)
	via := newServer(t, p.ServeHTTP)
	proxyURL, err := url.Parse(strings.Replace(via.URL, "http://", "http://someone:PASSWORD@", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile, cfg.Proxy = caFile, http.ProxyURL(proxyURL) })
	check(t, send(t, c, newRequest(plainPart(noise(100_000)))), wantDelivered)

	host := strings.TrimPrefix(s.URL, "https://")
	if len(p.targets) != 1 || p.targets[0] != "CONNECT "+host {
		t.Errorf("the proxy was asked for %q, want CONNECT %s", p.targets, host)
	}
	if p.headers[0].Get("Proxy-Authorization") == "" {
		t.Error("the proxy did not get its password")
	}
	if shown := fmt.Sprint(p.headers); strings.Contains(shown, testKey) {
		t.Errorf("the proxy saw the key: %s", shown)
	}
	if got := rec.all(); len(got) != 1 || got[0].header.Get("Proxy-Authorization") != "" {
		t.Error("the upstream got the proxy's password, or no request")
	}
}

func TestProxyTroubleIsNotTheUpstreams(t *testing.T) {
	s, caFile := newTLSServer(t, answers(200, ""), nil)
	gone := httptest.NewServer(nil)
	gone.Close()
	tests := []struct {
		name, proxy, says string
	}{
		{"password wanted", newServer(t, (&connectProxy{code: 407}).ServeHTTP).URL, "407 Proxy Authentication Required; put the proxy's user and password into HTTPS_PROXY"},
		{"forbidden", newServer(t, (&connectProxy{code: 403}).ServeHTTP).URL, "403 Forbidden; check HTTPS_PROXY"},
		{"not there", gone.URL, "proxyconnect"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proxyURL, err := url.Parse(strings.Replace(tt.proxy, "http://", "http://someone:SECRET@", 1))
			if err != nil {
				t.Fatal(err)
			}
			c := newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile, cfg.Proxy = caFile, http.ProxyURL(proxyURL) })
			out := send(t, c, small())
			check(t, out, wantRetry("proxy"))
			hasNoSecrets(t, out)
			if out.MayHaveArrived || !strings.Contains(out.Exchange.Error, tt.says) {
				t.Errorf("error %q, may have arrived: %v", out.Exchange.Error, out.MayHaveArrived)
			}
		})
	}
}

// rawServer accepts connections and leaves each to serve, which must return.
func rawServer(t testing.TB, serve func(n int, conn *net.TCPConn, r *bufio.Reader)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close() //nolint:errcheck // a test's end of a connection
				tcp, ok := conn.(*net.TCPConn)
				if !ok {
					t.Errorf("accepted a %T", conn)
					return
				}
				serve(n, tcp, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest reads a request up to the end of its header or, with body, whole.
func readRequest(r *bufio.Reader, body bool) {
	req, err := http.ReadRequest(r)
	if err == nil && body {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

// reset makes the close of conn a reset.
func reset(conn *net.TCPConn) { _ = conn.SetLinger(0) }

// TestEarlyAnswerWinsOverTheBrokenUpload: the server answers and closes while
// the upload goes on. The write fails, but the answer is what counts. Nothing
// may read the stored parts afterwards.
func TestEarlyAnswerWinsOverTheBrokenUpload(t *testing.T) {
	const rounds = 20
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("kept open %v", kept), func(t *testing.T) {
			base := rawServer(t, func(_ int, conn *net.TCPConn, r *bufio.Reader) {
				readRequest(r, false)
				_, _ = io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"+`{"error":"Forbidden"}`)
				if kept { // never reads the body, never closes first
					<-t.Context().Done()
				}
			})
			c := newTestClient(t, base, func(cfg *Config) { cfg.Encoding = EncodingIdentity })
			for range rounds {
				data := noise(6 << 20)
				out := send(t, c, newRequest(plainPart(data)))
				check(t, out, wantCredential("http_403"))
				if out.Exchange.Body != `{"error":"Forbidden"}` || out.MayHaveArrived {
					t.Errorf("body %q, may have arrived: %v", out.Exchange.Body, out.MayHaveArrived)
				}
				clear(data) // the race detector sees a transport that reads on
			}
		})
	}
}

func TestEarlyAnswerOverTLS(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", h2), func(t *testing.T) {
			s, caFile := newTLSServer(t, answers(403, `{"error":"Forbidden"}`), func(s *httptest.Server) { s.EnableHTTP2 = h2 })
			c := newTestClient(t, s.URL, func(cfg *Config) { cfg.CAFile, cfg.Encoding = caFile, EncodingIdentity })
			for range 15 {
				data := noise(6 << 20)
				out := send(t, c, newRequest(plainPart(data)))
				check(t, out, wantCredential("http_403"))
				clear(data)
			}
		})
	}
}

func TestConnectionEndsWithoutAnAnswer(t *testing.T) {
	// More than the sockets of both sides buffer, less than what counts as too large.
	large := func() *proxy.Request { return newRequest(plainPart(noise(18 << 20))) }
	huge := func() *proxy.Request { return newRequest(plainPart(noise(22 << 20))) }
	tests := []struct {
		name    string
		request func() *proxy.Request
		serve   func(int, *net.TCPConn, *bufio.Reader)
		want    want
		arrived bool
	}{
		{"reset at once", large, func(_ int, c *net.TCPConn, _ *bufio.Reader) { reset(c) }, wantRetry("network"), false},
		{"reset under the upload", large, func(_ int, c *net.TCPConn, r *bufio.Reader) { readRequest(r, false); reset(c) }, wantRetry("network"), false},
		{"reset under a huge upload", huge, func(_ int, c *net.TCPConn, r *bufio.Reader) { readRequest(r, false); reset(c) }, wantSize("reset_large_body"), false},
		{"reset after the upload", large, func(_ int, c *net.TCPConn, r *bufio.Reader) { readRequest(r, true); reset(c) }, wantRetry("network"), true},
		{"closed after the upload", small, func(_ int, _ *net.TCPConn, r *bufio.Reader) { readRequest(r, true) }, wantRetry("network"), true},
		{"half a status line", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 20")
		}, wantRetry("protocol"), true},
		{"half a header", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: ")
		}, wantRetry("network"), true},
		{"half a body", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
		}, wantRetry("network"), true},
		{"half a chunked body", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{")
		}, wantRetry("network"), true},
		{"half a refusal", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{\"error\":\"Forb")
		}, wantCredential("http_403"), false},
		{"no HTTP", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n")
		}, wantRetry("protocol"), true},
		{"endless header", small, func(_ int, c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "X-More: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, wantRetry("protocol"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClient(t, rawServer(t, tt.serve), func(cfg *Config) { cfg.Encoding = EncodingIdentity })
			out := send(t, c, tt.request())
			check(t, out, tt.want)
			if out.MayHaveArrived != tt.arrived {
				t.Errorf("may have arrived: %v, want %v (sent %d; %s)", out.MayHaveArrived, tt.arrived, out.Exchange.SentBytes, out.Exchange.Error)
			}
			if out.Exchange.Error == "" {
				t.Error("nothing says what happened")
			}
		})
	}
}

// TestIdleConnectionThatDiedIsNoFailure: the other side gives up idle
// connections, and weir notices only by using one.
func TestIdleConnectionThatDiedIsNoFailure(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	tests := []struct {
		name    string
		request func() *proxy.Request
		die     func(*net.TCPConn, *bufio.Reader)
		fresh   string // the answer on a connection that did not die
		want    want
		arrived bool
	}{
		{"reset at the first byte", small, func(c *net.TCPConn, r *bufio.Reader) { _, _ = r.ReadByte(); reset(c) }, ok, wantDelivered, false},
		{"closed at the first byte", small, func(_ *net.TCPConn, r *bufio.Reader) { _, _ = r.ReadByte() }, ok, wantDelivered, false},
		{
			"closed under the upload", func() *proxy.Request { return newRequest(plainPart(noise(4 << 20))) },
			func(_ *net.TCPConn, r *bufio.Reader) { readRequest(r, false) }, ok, wantDelivered, false,
		},
		{"closed after the request", small, func(_ *net.TCPConn, r *bufio.Reader) { readRequest(r, true) }, ok, wantDelivered, false},
		{
			"closed after the request, then unavailable", small, func(_ *net.TCPConn, r *bufio.Reader) { readRequest(r, true) },
			"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", wantRetry("http_503"), true,
		},
		{"closed after the request, twice", small, func(_ *net.TCPConn, r *bufio.Reader) { readRequest(r, true) }, "", wantRetry("network"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var connections atomic.Int32
			base := rawServer(t, func(n int, conn *net.TCPConn, r *bufio.Reader) {
				connections.Add(1)
				readRequest(r, true)
				if n > 0 {
					_, _ = io.WriteString(conn, tt.fresh)
					return
				}
				_, _ = io.WriteString(conn, ok)
				tt.die(conn, r)
			})
			c := newTestClient(t, base, nil)
			check(t, send(t, c, small()), wantDelivered)
			out := send(t, c, tt.request())
			check(t, out, tt.want)
			if out.MayHaveArrived != tt.arrived {
				t.Errorf("may have arrived: %v, want %v", out.MayHaveArrived, tt.arrived)
			}
			if n := connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

func TestHugeErrorBodyIsCutOff(t *testing.T) {
	written := make(chan int64, 1)
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		var total int64
		block := []byte(strings.Repeat("trouble ", 8192))
		for total < 100<<20 {
			n, err := w.Write(block)
			total += int64(n)
			if err != nil {
				break
			}
		}
		written <- total
	})
	out := send(t, newTestClient(t, s.URL, nil), small())
	check(t, out, wantRetry("http_500"))
	if len(out.Exchange.Body) != maxKeptBytes {
		t.Errorf("%d bytes kept, want %d", len(out.Exchange.Body), maxKeptBytes)
	}
	if n := <-written; n >= 100<<20 {
		t.Errorf("all %d bytes of the error were taken", n)
	}
}

func TestDialFailures(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want want
	}{
		{"name unknown", &net.DNSError{Err: "no such host", Name: "smith.corp.example", IsNotFound: true}, wantRetry("dns")},
		{"unreachable", &net.OpError{Op: "dial", Err: fmt.Errorf("no route to host")}, wantRetry("network")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newClient(Config{BaseURL: "http://smith.corp.example", Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }},
				func(context.Context, string, string) (net.Conn, error) { return nil, tt.err })
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() //nolint:errcheck // always nil
			out := send(t, c, small())
			check(t, out, tt.want)
			if out.MayHaveArrived || out.Exchange.Error != tt.err.Error() {
				t.Errorf("error %q, may have arrived: %v", out.Exchange.Error, out.MayHaveArrived)
			}
		})
	}
}
