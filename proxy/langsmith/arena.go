package langsmith

import (
	"errors"
	"io"
	"sync"

	"weir/internal/inflight"
)

// chunkBytes is the size of an arena's chunks.
const chunkBytes = 256 << 10

// arena holds what a request keeps in memory until it is durable. What it has
// handed out stays where it is. Memory is charged to the gate before it is
// used.
type arena struct {
	gate    *inflight.Gate
	chunks  [][]byte // of chunkBytes, or of one thing that is larger
	charged int64
	bytes   int64 // handed out
	limit   int64 // of bytes
}

// chunks holds chunks of chunkBytes.
var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunkBytes); return &b }}

// release gives everything back.
func (a *arena) release() {
	for i := range a.chunks {
		putChunk(a.chunks[i])
	}
	clear(a.chunks)
	a.gate.Release(a.charged)
	*a = arena{chunks: a.chunks[:0]}
}

func putChunk(b []byte) {
	if cap(b) == chunkBytes {
		b = b[:0]
		chunks.Put(&b)
	}
}

// charge takes memory from the gate until release.
func (a *arena) charge(n int64) error {
	if n <= 0 {
		return nil
	}
	if !a.gate.Acquire(n) {
		return a.gate.Pressure()
	}
	a.charged += n
	return nil
}

// uncharge gives n bytes back before release.
func (a *arena) uncharge(n int64) {
	a.gate.Release(n)
	a.charged -= n
}

// take reads exactly n bytes from r. It returns io.ErrUnexpectedEOF if r has
// fewer, and believes in n only as far as bytes come.
func (a *arena) take(r io.Reader, n int64) ([]byte, error) {
	if n > a.limit-a.bytes {
		return nil, tooLarge("the request has more than %d bytes when decompressed, large attachments aside; send smaller batches", a.limit)
	}
	a.bytes += n
	if n <= chunkBytes {
		b, err := a.room(int(n))
		if err != nil {
			return nil, err
		}
		_, err = io.ReadFull(r, b)
		if errors.Is(err, io.EOF) && n > 0 {
			err = io.ErrUnexpectedEOF
		}
		return b, err
	}
	a.chunks = append(a.chunks, nil)
	b, err := a.grow(nil, chunkBytes)
	for int64(len(b)) < n && err == nil {
		if len(b) == cap(b) {
			if b, err = a.grow(b, min(2*int64(cap(b)), n)); err != nil {
				break
			}
		}
		var m int
		m, err = r.Read(b[len(b):cap(b):cap(b)][:min(int64(cap(b)-len(b)), n-int64(len(b)))])
		b = b[:len(b)+m]
	}
	switch {
	case int64(len(b)) == n:
		return b, nil
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	default:
		return nil, err
	}
}

// takeAll reads r to its end.
func (a *arena) takeAll(r io.Reader) ([]byte, error) {
	a.chunks = append(a.chunks, nil)
	b, err := a.grow(nil, chunkBytes)
	for err == nil {
		if len(b) == cap(b) {
			if b, err = a.grow(b, min(2*int64(cap(b)), a.limit+1)); err != nil {
				break
			}
		}
		var m int
		m, err = r.Read(b[len(b):cap(b)])
		b = b[:len(b)+m]
		if int64(len(b)) > a.limit {
			return nil, tooLarge("the request has more than %d bytes when decompressed; send smaller batches", a.limit)
		}
	}
	a.bytes += int64(len(b))
	if errors.Is(err, io.EOF) {
		return b, nil
	}
	return nil, err
}

// grow gives b, the last chunk, a capacity of size bytes.
func (a *arena) grow(b []byte, size int64) ([]byte, error) {
	if err := a.charge(size); err != nil {
		return nil, err
	}
	larger := newChunk(size)
	larger = append(larger, b...)
	a.uncharge(int64(cap(b)))
	putChunk(b)
	a.chunks[len(a.chunks)-1] = larger[:cap(larger)] // there is no room left in it
	return larger, nil
}

func newChunk(size int64) []byte {
	if size == chunkBytes {
		return (*chunks.Get().(*[]byte))[:0]
	}
	return make([]byte, 0, size)
}

// room returns n bytes to be written to, n at most chunkBytes.
func (a *arena) room(n int) ([]byte, error) {
	last := len(a.chunks) - 1
	if last < 0 || cap(a.chunks[last])-len(a.chunks[last]) < n {
		if err := a.charge(chunkBytes); err != nil {
			return nil, err
		}
		a.chunks = append(a.chunks, newChunk(chunkBytes))
		last++
	}
	c := a.chunks[last]
	a.chunks[last] = c[:len(c)+n]
	return c[len(c) : len(c)+n : len(c)+n], nil
}
