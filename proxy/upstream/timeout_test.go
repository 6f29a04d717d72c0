package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy"
)

// pipeClient is a client whose connections end at a server in the same
// synctest bubble, so that waits cost no time.
func pipeClient(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	serving, stop := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Hour,
		BaseContext: func(net.Listener) context.Context { return serving },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed:
				conns.Done()
			default:
			}
		},
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	c, err := newClient(Config{
		BaseURL: "http://smith.corp.example", Encoding: EncodingIdentity,
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}, l.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		stop() // handlers that have not read the body do not see the client leave
		_ = s.Close()
		<-served
		conns.Wait()
	})
	return c
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestServersThatHangAreLeft(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	readAndHang := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		hang(w, r)
	}
	// trickle answers with one byte a second.
	trickle := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		}
	}
	tests := []struct {
		name    string
		server  http.HandlerFunc
		size    int
		want    want
		within  time.Duration
		arrived bool
	}{
		{"no answer", readAndHang, 1000, wantRetry("timeout"), DefaultTimeout, true},
		{"no answer and no reading", hang, 1 << 20, wantRetry("timeout"), DefaultTimeout + 16*time.Second, false},
		{"an endless refusal", trickle(403), 1000, wantCredential("http_403"), DefaultAnswerTimeout, false},
		{"an endless acceptance", trickle(200), 1000, wantRetry("timeout"), DefaultAnswerTimeout, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := pipeClient(t, tt.server)
				start := time.Now()
				out := send(t, c, newRequest(plainPart(noise(tt.size))))
				check(t, out, tt.want)
				if took := time.Since(start); took != tt.within {
					t.Errorf("took %v, want %v", took, tt.within)
				}
				if out.MayHaveArrived != tt.arrived || out.Exchange.Elapsed != tt.within || out.Exchange.Error == "" {
					t.Errorf("may have arrived: %v, want %v; exchange: %+v", out.MayHaveArrived, tt.arrived, out.Exchange)
				}
			})
		})
	}
}

func TestDialIsBoundedByTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := newClient(Config{BaseURL: "http://smith.corp.example", Timeout: 5 * time.Second},
			func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // always nil
		start := time.Now()
		out := send(t, c, small())
		check(t, out, wantRetry("timeout"))
		if took := time.Since(start); took != 5*time.Second || out.MayHaveArrived {
			t.Errorf("took %v, may have arrived: %v", took, out.MayHaveArrived)
		}
	})
}

func TestSlowButSteadyUploadIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 16 << 20 // 256 s at the slowest rate that is waited for
		c := pipeClient(t, func(_ http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for range size / (80 << 10) {
				<-tick.C
				_, _ = io.CopyN(io.Discard, r.Body, 80<<10)
			}
			_, _ = io.Copy(io.Discard, r.Body)
		})
		check(t, send(t, c, newRequest(plainPart(noise(size)))), wantDelivered)
	})
}

func TestFailedWriteWaitsForNoAnswerForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The write breaks, and nothing ever ends the reading side.
		c, err := newClient(Config{BaseURL: "http://smith.corp.example"},
			func(context.Context, string, string) (net.Conn, error) {
				a, _ := net.Pipe()
				return brokenPipe{a}, nil
			})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // always nil
		start := time.Now()
		out := send(t, c, small())
		check(t, out, want{kind: proxy.Retry, reason: "network", scope: proxy.ScopeUpstream})
		if took := time.Since(start); took != answerGrace {
			t.Errorf("took %v, want %v", took, answerGrace)
		}
		if !strings.Contains(out.Exchange.Error, "broken pipe") {
			t.Errorf("error %q", out.Exchange.Error)
		}
	})
}

// brokenPipe is a connection that takes nothing.
type brokenPipe struct{ net.Conn }

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }
