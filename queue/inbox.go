package queue

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// compressAloneBytes is the size from which an export is compressed by its own
// caller instead of joining its group: the ratio loses little, the committer
// copies nothing and the work spreads over the cores.
const compressAloneBytes = 48 << 10

func compressors() int { return runtime.GOMAXPROCS(0) }

// States of an append request. A request leaves requestWaiting exactly once.
const (
	requestWaiting int32 = iota
	requestTaken         // the committer reads the payload; done will be sent
	requestAbandoned
)

type appendRequest struct {
	export *Export
	zstd   []byte // set when the caller compressed the payload
	state  atomic.Int32
	done   chan error // cap 1
}

var (
	appendRequests = sync.Pool{New: func() any { return &appendRequest{done: make(chan error, 1)} }}
	zstdBuffers    = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
)

func newAppendRequest(e *Export) *appendRequest {
	r := appendRequests.Get().(*appendRequest)
	r.export = e
	r.state.Store(requestWaiting)
	return r
}

// free returns the request to the pool, unless it was abandoned: the committer
// may then still look at its state.
func (r *appendRequest) free() {
	if r.zstd != nil {
		b := r.zstd[:0]
		zstdBuffers.Put(&b)
		r.zstd = nil
	}
	if r.state.Load() == requestAbandoned {
		return
	}
	r.export = nil
	appendRequests.Put(r)
}

func (r *appendRequest) claim(state int32) bool {
	return r.state.CompareAndSwap(requestWaiting, state)
}

// storedBytes estimates what the request adds to a group.
func (r *appendRequest) storedBytes() int64 {
	if r.zstd != nil {
		return int64(len(r.zstd))
	}
	return int64(len(r.export.Payload)) / 4
}

// compressAlone compresses a large export in its caller's goroutine.
func (q *Queue) compressAlone(ctx context.Context, r *appendRequest) error {
	select {
	case q.compressing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-q.compressing }()
	buf := *zstdBuffers.Get().(*[]byte)
	r.zstd = q.enc.EncodeAll(r.export.Payload, buf[:0])
	return nil
}

// change is a request to journal events, with the frames that some of them
// replace, in one transaction.
type change struct {
	events []event
	parts  []Part // new frames, in lane
	lane   LaneID
	atMS   int64
	done   chan error // cap 1
}

// inbox holds what waits for the committer. Its zero value needs its channels.
type inbox struct {
	wake   chan struct{} // cap 1: a change waits
	urgent chan struct{} // cap 1: something that should not linger waits

	mu      sync.Mutex // guards the fields below; leaf lock
	appends []*appendRequest
	changes []*change
	shut    bool
}

func (in *inbox) putAppend(r *appendRequest, limit int) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.shut {
		return ErrClosed
	}
	if len(in.appends) >= limit {
		return &FullError{Reason: "busy", Detail: "too many exports wait for the disk"}
	}
	in.appends = append(in.appends, r)
	signal(in.urgent)
	return nil
}

func (in *inbox) putChange(c *change, urgent bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.shut {
		return ErrClosed
	}
	in.changes = append(in.changes, c)
	if urgent {
		signal(in.urgent)
	}
	signal(in.wake)
	return nil
}

// take removes up to maxBytes of appends and every change. final also shuts
// the inbox, once it is empty.
func (in *inbox) take(g *group, maxBytes int64, final bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	g.changes = append(g.changes[:0], in.changes...)
	clear(in.changes)
	in.changes = in.changes[:0]
	n := 0
	var bytes int64
	for n < len(in.appends) && (n == 0 || bytes < maxBytes) {
		bytes += in.appends[n].storedBytes()
		n++
	}
	g.appends = append(g.appends[:0], in.appends[:n]...)
	rest := copy(in.appends, in.appends[n:])
	clear(in.appends[rest:])
	in.appends = in.appends[:rest]
	if final && len(g.appends) == 0 && len(g.changes) == 0 {
		in.shut = true
	}
}
