package upstream

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// errRevoked is what a reader of a body gets once the send has ended.
var errRevoked = errors.New("the send has ended")

// body is one request body, ready to be read any number of times: once, and
// again for each connection the transport finds dead before the request got
// anywhere.
//
// The transport may still be reading after it has returned an answer (an early
// 403, a timeout). What a body reads from is not its own (stored parts in a
// mapped file, pooled buffers), so a send ends with release, after which no
// reader touches that memory again.
type body struct {
	size     int64 // bytes on the wire
	encoding Encoding
	open     func() partReader

	mu       sync.Mutex // held while copying, so that release waits for it; covers all below
	released bool
	readers  []*bodyReader // to be closed by release
	sent     int64         // bytes the latest reader has given out
	drained  bool          // some reader has given out everything
	err      error         // why the stored parts could not be decoded
	buffers  []*bytes.Buffer
	pool     *codecs
}

// partReader is a source of body bytes; close gives its decoder back.
type partReader interface {
	io.Reader
	close()
}

// reader opens the body from its start.
func (b *body) reader() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &bodyReader{body: b}
	if !b.released {
		r.src = b.open()
		b.readers = append(b.readers, r)
	}
	b.sent = 0
	return r
}

// hold makes b's content what buf, one of its buffers, has.
func (b *body) hold(buf *bytes.Buffer) {
	b.size = int64(buf.Len())
	b.open = func() partReader { return &segmentReader{rest: [][]byte{buf.Bytes()}} }
}

// wroteEmpty notes that a body without a byte, which nobody reads, has gone out
// with the request's header.
func (b *body) wroteEmpty() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drained = true
}

// progress returns the bytes given out by the latest reader, whether any
// reader gave out the whole body, and why decoding failed, if it did.
func (b *body) progress() (sent int64, drained bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent, b.drained, b.err
}

// release takes the body away from every reader and returns its buffers. When
// it returns, nothing reads the request's parts any more.
func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return
	}
	b.released = true
	for _, r := range b.readers {
		r.closeLocked()
	}
	b.readers = nil
	for _, buf := range b.buffers {
		b.pool.putBuffer(buf)
	}
	b.buffers = nil
}

// bodyReader is one pass over a body. Its state is covered by body.mu.
type bodyReader struct {
	body *body
	src  partReader // nil: closed
	n    int64
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.src == nil {
		return 0, errRevoked
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.src.Read(p)
	r.n += int64(n)
	b.sent = r.n
	if r.n == b.size {
		b.drained = true
	}
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract is the bare io.EOF
		b.err = err
	}
	return n, err
}

// Close implements io.Closer.
func (r *bodyReader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closeLocked()
	return nil
}

func (r *bodyReader) closeLocked() {
	if r.src != nil {
		r.src.close()
		r.src = nil
	}
}

// segmentReader reads byte slices one after the other, without joining them.
type segmentReader struct{ rest [][]byte }

func (s *segmentReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && len(s.rest) > 0 {
		c := copy(p[n:], s.rest[0])
		n += c
		// The slice of slices belongs to this reader, the bytes do not.
		if s.rest[0] = s.rest[0][c:]; len(s.rest[0]) == 0 {
			s.rest = s.rest[1:]
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *segmentReader) close() { s.rest = nil }
