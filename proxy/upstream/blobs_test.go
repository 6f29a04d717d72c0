package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"weir/proxy"
	"weir/proxy/runs"
)

// blobs opens contents and counts what is open.
type blobs struct {
	open   func(id string) (io.Reader, error)
	opened atomic.Int32
	closed atomic.Int32
}

func (b *blobs) openBlob(id string) (io.ReadCloser, error) {
	r, err := b.open(id)
	if err != nil {
		return nil, err
	}
	b.opened.Add(1)
	return &blob{Reader: r, closed: &b.closed}, nil
}

// allClosed fails if one is still open.
func (b *blobs) allClosed(t testing.TB) {
	t.Helper()
	if o, c := b.opened.Load(), b.closed.Load(); o != c {
		t.Errorf("%d blobs opened, %d closed", o, c)
	}
}

type blob struct {
	io.Reader
	closed *atomic.Int32
}

func (b *blob) Close() error {
	b.closed.Add(1)
	return errors.New("nobody cares")
}

// withBlob is a request of a run with a blob of n bytes between other parts.
func withBlob(n int64) *proxy.Request {
	return newRunsRequest(
		&runs.Op{Kind: runs.Create, ID: runID(1), Body: []byte(`{"name":"a"}`)},
		&runs.Op{Kind: runs.Attachment, ID: runID(1), Name: "film", ContentType: "video/mp4", Blob: "one", BlobBytes: n},
		&runs.Op{Kind: runs.Attachment, ID: runID(1), Name: "still", ContentType: "image/png", Data: []byte("png")},
	)
}

func TestBlobsGoOutWithALength(t *testing.T) {
	content := noise(3_000_000)
	tests := []struct {
		name string
		wrap func(io.Reader) io.Reader
	}{
		{"whole", func(r io.Reader) io.Reader { return r }},
		{"in halves", iotest.HalfReader},
		{"with the end beside the data", iotest.DataErrReader},
		{"byte by byte", func(r io.Reader) io.Reader { return io.MultiReader(iotest.OneByteReader(io.LimitReader(r, 1000)), r) }},
	}
	for _, tt := range tests {
		for _, size := range []int{0, 1, len(content)} {
			t.Run(fmt.Sprint(tt.name, size), func(t *testing.T) {
				rec := &recorder{answers: []http.HandlerFunc{answers(202, "")}}
				kept := &blobs{open: func(string) (io.Reader, error) { return tt.wrap(bytes.NewReader(content[:size])), nil }}
				c := newTestClient(t, newServer(t, rec.ServeHTTP).URL, func(cfg *Config) {
					cfg.OpenBlob, cfg.MaxRequestBytes = kept.openBlob, 1000 // of which blobs are no part
				})
				r := withBlob(int64(size))
				out := send(t, c, r)
				check(t, out, wantDelivered)
				kept.allClosed(t)
				req := rec.all()[0]
				if req.length != int64(len(req.body)) || req.header.Get("Content-Encoding") != "" || req.header.Get("X-Pre-Compressed-Size") != "" {
					t.Errorf("%d bytes arrived, header %v", len(req.body), req.header)
				}
				parts := readParts(t, req.header.Get("Content-Type"), req.body)
				film := "attachment." + runID(1).String() + ".film"
				if len(parts) != 3 || parts[film] != string(content[:size]) {
					t.Errorf("%d parts, film of %d bytes, want the %d kept", len(parts), len(parts[film]), size)
				}
				if out.Exchange.SentBytes != len(req.body) || out.Exchange.Encoding != "" {
					t.Errorf("exchange: %+v", out.Exchange)
				}
			})
		}
	}
}

// TestBlobsAreNotHeld: the memory for a request does not grow with its blob.
func TestBlobsAreNotHeld(t *testing.T) {
	const size = 64 << 20
	var arrived atomic.Int64
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		arrived.Store(n)
	})
	kept := &blobs{open: func(string) (io.Reader, error) { return io.LimitReader(zeros{}, size), nil }}
	c := newTestClient(t, s.URL, func(cfg *Config) { cfg.OpenBlob = kept.openBlob })
	check(t, send(t, c, withBlob(size)), wantDelivered) // connects, and fills the pools

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	check(t, send(t, c, withBlob(size)), wantDelivered)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
		t.Errorf("%d bytes allocated for a blob of %d", got, size)
	}
	if n := arrived.Load(); n < size {
		t.Errorf("%d bytes arrived", n)
	}
	kept.allClosed(t)
}

// zeros is an endless content.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestBlobsThatAreNotWhatTheyWere(t *testing.T) {
	content := func(n int) func(string) (io.Reader, error) {
		return func(string) (io.Reader, error) { return bytes.NewReader(make([]byte, n)), nil }
	}
	fails := func(err error) func(string) (io.Reader, error) {
		return func(string) (io.Reader, error) { return nil, err }
	}
	unreadable := want{kind: proxy.Retry, reason: "unreadable", scope: proxy.ScopeLane}
	tests := []struct {
		name string
		open func(string) (io.Reader, error)
		want want
		says string
	}{
		{"shorter", content(1<<20 - 1), wantContent("corrupt"), `"film" is 1 bytes shorter than the 1048576 recorded`},
		{"empty", content(0), wantContent("corrupt"), "1048576 bytes shorter"},
		{"longer", content(1<<20 + 1), wantContent("corrupt"), "longer than the 1048576 bytes recorded"},
		{"gone", fails(&fs.PathError{Op: "open", Path: "one", Err: fs.ErrNotExist}), wantContent("corrupt"), "not exist"},
		{"not to be opened", fails(errors.New("too many open files")), unreadable, "too many open files"},
		{"not to be read", func(string) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(make([]byte, 9000)), iotest.ErrReader(io.ErrUnexpectedEOF)), nil
		}, unreadable, "unexpected EOF"},
		{"not to be read at its end", func(string) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotest.ErrReader(errors.New("input/output error"))), nil
		}, unreadable, "input/output error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var whole atomic.Int32
			s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err == nil && r.URL.Path == "/runs/multipart" && r.ContentLength > 1<<20 {
					whole.Add(1)
				}
			})
			kept := &blobs{open: tt.open}
			c := newTestClient(t, s.URL, func(cfg *Config) { cfg.OpenBlob = kept.openBlob })
			check(t, send(t, c, smallRuns()), wantDelivered) // a reused connection is no reason to try twice
			out := send(t, c, withBlob(1<<20))
			check(t, out, tt.want)
			if !strings.Contains(out.Exchange.Error, tt.says) || out.MayHaveArrived {
				t.Errorf("error %q, may have arrived: %v; want %q and not", out.Exchange.Error, out.MayHaveArrived, tt.says)
			}
			if kept.opened.Load() > 1 {
				t.Errorf("opened %d times", kept.opened.Load())
			}
			kept.allClosed(t)
			check(t, send(t, c, smallRuns()), wantDelivered)
			if n := whole.Load(); n != 0 {
				t.Errorf("%d requests arrived whole", n)
			}
		})
	}
}

// TestBlobsAreOpenedAgainForANewConnection: an idle connection that had died is
// no failure, whatever the size of what was to go over it.
func TestBlobsAreOpenedAgainForANewConnection(t *testing.T) {
	const ok = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	tests := []struct {
		name string
		size int64
		die  func(*net.TCPConn, *bufio.Reader)
		want want
		open int32
	}{
		{"reset at the first byte", 1 << 20, func(c *net.TCPConn, r *bufio.Reader) { _, _ = r.ReadByte(); reset(c) }, wantDelivered, 2},
		{"closed after the request", 1 << 20, func(_ *net.TCPConn, r *bufio.Reader) { readRequest(r, true) }, wantDelivered, 2},
		{"reset at the first byte, large", 30_000_000, func(c *net.TCPConn, r *bufio.Reader) { _, _ = r.ReadByte(); reset(c) }, wantDelivered, 2},
		{"cut under the upload, large", 50_000_000, func(_ *net.TCPConn, r *bufio.Reader) {
			_, _ = io.CopyN(io.Discard, r, 20_000_000)
		}, wantSize("reset_large_body"), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var arrived atomic.Int64
			base := rawServer(t, func(n int, conn *net.TCPConn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				k, _ := io.Copy(io.Discard, req.Body)
				arrived.Store(k)
				_, _ = io.WriteString(conn, ok)
				if n == 0 {
					tt.die(conn, r)
				}
			})
			kept := &blobs{open: func(string) (io.Reader, error) { return io.LimitReader(zeros{}, tt.size), nil }}
			c := newTestClient(t, base, func(cfg *Config) { cfg.OpenBlob = kept.openBlob })
			check(t, send(t, c, smallRuns()), wantDelivered)
			out := send(t, c, withBlob(tt.size))
			check(t, out, tt.want)
			if tt.want == wantDelivered && arrived.Load() < tt.size {
				t.Errorf("%d bytes arrived of %d", arrived.Load(), tt.size)
			}
			if n := kept.opened.Load(); n < 1 || n > tt.open {
				t.Errorf("opened %d times, want at most %d", n, tt.open)
			}
			kept.allClosed(t)
		})
	}
}

func TestAnEarlyAnswerEndsTheBlob(t *testing.T) {
	base := rawServer(t, func(_ int, conn *net.TCPConn, r *bufio.Reader) {
		readRequest(r, false)
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
	})
	kept := &blobs{open: func(string) (io.Reader, error) { return io.LimitReader(zeros{}, 1<<30), nil }}
	c := newTestClient(t, base, func(cfg *Config) { cfg.OpenBlob = kept.openBlob })
	out := send(t, c, withBlob(1<<30))
	check(t, out, wantSize("http_413"))
	if out.MayHaveArrived || out.Exchange.SentBytes > 100<<20 {
		t.Errorf("may have arrived: %v, %d bytes sent", out.MayHaveArrived, out.Exchange.SentBytes)
	}
	kept.allClosed(t)
}
