// Package inflight bounds and lends the memory of requests under way.
package inflight

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy"
)

// ReasonMemory is the reason of a Gate's refusals, for metrics.
const ReasonMemory = "memory"

// retryAfter is the wait named when too much is in flight: that much is
// answered within a commit or two.
const retryAfter = time.Second

// Gate bounds the bytes that requests hold. Its methods may be called from any
// number of goroutines.
type Gate struct {
	limit int64
	used  atomic.Int64
}

// NewGate returns a gate for limit bytes.
func NewGate(limit int64) *Gate { return &Gate{limit: limit} }

// Acquire takes n bytes, unless that would exceed the limit.
func (g *Gate) Acquire(n int64) bool {
	if g.used.Add(n) > g.limit {
		g.used.Add(-n)
		return false
	}
	return true
}

// Release gives n bytes back.
func (g *Gate) Release(n int64) { g.used.Add(-n) }

// HasRoom tells whether n bytes would be granted now. It promises nothing.
func (g *Gate) HasRoom(n int64) bool { return g.used.Load()+n <= g.limit }

// Used is how many bytes are taken.
func (g *Gate) Used() int64 { return g.used.Load() }

// Pressure is the refusal of a request for which there is no room.
func (g *Gate) Pressure() error {
	return &proxy.PressureError{
		Reason:     ReasonMemory,
		Detail:     fmt.Sprintf("exports of %d bytes are in flight, of %d allowed", g.Used(), g.limit),
		RetryAfter: retryAfter,
	}
}

// MaxRetainedBuffer is the size of the largest buffer that is lent again, in
// bytes.
const MaxRetainedBuffer = 1 << 20

var buffers sync.Pool

// GetBuffer returns an empty buffer with a capacity of at least size bytes.
func GetBuffer(size int) []byte {
	if size <= MaxRetainedBuffer {
		if b, ok := buffers.Get().(*[]byte); ok && cap(*b) >= size {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, size)
}

// PutBuffer gives back a buffer that nothing refers to any more.
func PutBuffer(b []byte) {
	if cap(b) >= 1<<10 && cap(b) <= MaxRetainedBuffer {
		buffers.Put(&b)
	}
}
