package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
)

// pipeListener hands out in-memory connections, so that a server can run on
// the test's own clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// drainSource is a source whose Drain is the test's.
type drainSource struct {
	Source
	drain func(context.Context, func(*weirv1.DrainResponse) error) error
}

func (s *drainSource) Drain(ctx context.Context, _ time.Duration, report func(*weirv1.DrainResponse) error) error {
	return s.drain(ctx, report)
}

// drainCase is one test of a drain call; it runs in a bubble of its own.
type drainCase func(t *testing.T, b *bubble)

// bubble is a place with its own clock, where a server meets a client without
// a network between them.
type bubble struct {
	http2 bool // gRPC over HTTP/2, else Connect over HTTP/1.1
}

// overBothVersions runs test for HTTP/1.1 and for HTTP/2.
func overBothVersions(t *testing.T, test drainCase) {
	t.Helper()
	t.Run("HTTP/1.1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, &bubble{http2: false}) })
	})
	t.Run("HTTP/2", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, &bubble{http2: true}) })
	})
}

// serve starts a server whose Drain is drain, until the test ends.
func (b *bubble) serve(t *testing.T, drain func(context.Context, func(*weirv1.DrainResponse) error) error,
) (*Server, weirv1connect.AdminServiceClient) {
	t.Helper()
	return b.serveSource(t, &drainSource{drain: drain})
}

// serveSource starts a server that shows src, until the test ends. Nothing is
// recorded.
func (b *bubble) serveSource(t *testing.T, src Source) (*Server, weirv1connect.AdminServiceClient) {
	t.Helper()
	s, err := New(Config{Addr: "unix:unused", Gatherer: prometheus.NewRegistry()}, src)
	if err != nil {
		t.Fatal(err)
	}
	ln := newPipeListener()
	s.mu.Lock()
	s.serveLocked(ln, s.handler)
	s.mu.Unlock()

	protocols := new(http.Protocols)
	protocols.SetHTTP1(!b.http2)
	protocols.SetUnencryptedHTTP2(b.http2)
	transport := &http.Transport{DialContext: ln.dial, Protocols: protocols}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	// Without compression: it would take long to fill the windows with gzip.
	opts := []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)}
	if b.http2 {
		opts = append(opts, connect.WithGRPC())
	}
	return s, weirv1connect.NewAdminServiceClient(&http.Client{Transport: transport}, "http://localhost", opts...)
}

// call starts a drain and closes the stream with the test.
func call(t *testing.T, client weirv1connect.AdminServiceClient) *connect.ServerStreamForClient[weirv1.DrainResponse] {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Drain(ctx, &weirv1.DrainRequest{})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel() // a stream closed early would be read to its end
		_ = stream.Close()
	})
	return stream
}

// untilCancelled is a drain that has something to send for ever.
func untilCancelled(ctx context.Context, report func(*weirv1.DrainResponse) error) error {
	if err := report(&weirv1.DrainResponse{PendingItems: 1}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestQuietDrainOutlivesTheTimeouts(t *testing.T) {
	const quiet = 10 * time.Minute // far beyond every timeout of the server
	overBothVersions(t, func(t *testing.T, b *bubble) {
		_, client := b.serve(t, func(ctx context.Context, report func(*weirv1.DrainResponse) error) error {
			if err := report(&weirv1.DrainResponse{PendingItems: 1}); err != nil {
				return err
			}
			select {
			case <-time.After(quiet):
				return report(&weirv1.DrainResponse{Done: true})
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		stream := call(t, client)
		done := false
		for stream.Receive() {
			done = stream.Msg().GetDone()
		}
		if err := stream.Err(); err != nil || !done {
			t.Errorf("done = %t, error %v", done, err)
		}
	})
}

func TestReaderThatStopsReadingIsCutOff(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		result := make(chan error, 1)
		_, client := b.serve(t, func(ctx context.Context, report func(*weirv1.DrainResponse) error) error {
			big := &weirv1.DrainResponse{Left: []string{strings.Repeat("x", 512<<10)}}
			for ctx.Err() == nil {
				if err := report(big); err != nil {
					result <- err
					return err
				}
			}
			result <- ctx.Err()
			return ctx.Err()
		})
		begin := time.Now()
		call(t, client).Receive() // one message, then nothing more is read
		if err := <-result; err == nil {
			t.Error("the drain ended well")
		}
		if took := time.Since(begin); took < writeTimeout || took > 2*writeTimeout {
			t.Errorf("cut off after %s, want about %s", took, writeTimeout)
		}
	})
}

func TestCloseEndsADrain(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		s, client := b.serve(t, untilCancelled)
		stream := call(t, client)
		if !stream.Receive() {
			t.Fatalf("no first report: %v", stream.Err())
		}
		closed := make(chan error, 1)
		go func() { closed <- s.Close(t.Context()) }()
		if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
			t.Errorf("error = %v, want unavailable", stream.Err())
		}
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestCloseCutsOffWhatWillNotEnd(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		release := make(chan struct{})
		s, client := b.serve(t, func(_ context.Context, report func(*weirv1.DrainResponse) error) error {
			err := report(&weirv1.DrainResponse{PendingItems: 1})
			<-release // deaf to its context
			return err
		})
		stream := call(t, client)
		if !stream.Receive() {
			t.Fatalf("no first report: %v", stream.Err())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want the deadline", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("took %s, want 1m", took)
		}
		close(release)
		s.closeErr = nil // seen; the test's own cleanup closes again
	})
}

func TestCancelledCallReachesTheSource(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		seen := make(chan error, 1)
		_, client := b.serve(t, func(ctx context.Context, report func(*weirv1.DrainResponse) error) error {
			err := untilCancelled(ctx, report)
			seen <- err
			return err
		})
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.Drain(ctx, &weirv1.DrainRequest{})
		if err != nil {
			t.Fatal(err)
		}
		stream.Receive()
		cancel()
		if err := <-seen; !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
		_ = stream.Close()
	})
}

func TestOneFailedListenerIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Addr: "unix:unused", Gatherer: prometheus.NewRegistry()}, &drainSource{})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipeListener()
		s.mu.Lock()
		s.serveLocked(ln, s.handler)
		s.mu.Unlock()
		if err := ln.Close(); err != nil { // as if the system took it away
			t.Fatal(err)
		}
		if err := <-s.Failed(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("failure = %v", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}
