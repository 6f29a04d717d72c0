package queue

import (
	"context"
	"runtime"
	"slices"
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

// maxPooledBytes is the largest buffer kept for reuse.
const maxPooledBytes = 8 << 20

// appendRequest is one Append on its way through the committer.
type appendRequest struct {
	parts       []exportPart
	one         [1]exportPart // what parts is in as a rule
	storedBytes int64         // estimate of what it adds to a group
	state       atomic.Int32
	done        chan error // cap 1
}

// exportPart is one export of a request.
type exportPart struct {
	export *Export
	at     runKey // of export, for as long as the export may be gone
	zstd   []byte // set when the caller compressed the payload
	stands Place  // the committer's: at.place, or Pending if that is no open case
}

// runKey is what exports have in common that may share a frame. Exports that
// are dropped have an empty one, and no frame.
type runKey struct {
	lane  string
	place Place
}

var (
	appendRequests = sync.Pool{New: func() any { return &appendRequest{done: make(chan error, 1)} }}
	zstdBuffers    = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
)

func newAppendRequest(exports []*Export) *appendRequest {
	r := appendRequests.Get().(*appendRequest)
	if r.parts == nil {
		r.parts = r.one[:0]
	}
	for _, e := range exports {
		r.parts = append(r.parts, exportPart{export: e})
	}
	r.state.Store(requestWaiting)
	return r
}

// free returns the request to the pool, unless it was abandoned: it then still
// waits in the inbox, and the committer drops it.
func (r *appendRequest) free() {
	if r.state.Load() == requestAbandoned {
		return
	}
	for i := range r.parts {
		if z := r.parts[i].zstd; z != nil && cap(z) <= maxPooledBytes {
			b := z[:0]
			zstdBuffers.Put(&b)
		}
	}
	clear(r.parts)
	r.parts, r.storedBytes = r.parts[:0], 0
	appendRequests.Put(r)
}

func (r *appendRequest) claim(state int32) bool {
	return r.state.CompareAndSwap(requestWaiting, state)
}

// estimate fills in what the committer may know before it has claimed the
// request: afterwards an abandoned request's exports are not weir's to read.
func (r *appendRequest) estimate() {
	for i := range r.parts {
		p := &r.parts[i]
		if p.export.Dropped == "" {
			p.at = runKey{p.export.Lane, p.export.Place}
		}
		r.storedBytes += p.storedBytes()
	}
}

// droppedBytes is about what counting a dropped export takes of a journal
// record.
const droppedBytes = 64

// storedBytes estimates what the part takes on disk.
func (p *exportPart) storedBytes() int64 {
	e := p.export
	if e.Dropped != "" {
		return droppedBytes
	}
	n := len(p.zstd)
	if p.zstd == nil {
		n = len(e.Payload) / 4 // as LLM spans compress
	}
	return int64(n) + frameHeaderBytes + 16*int64(len(e.Traces)) + blobNoteBytes*int64(len(e.Blobs))
}

// compressAlone compresses large exports in their caller's goroutine.
func (q *Queue) compressAlone(ctx context.Context, r *appendRequest) error {
	large := func(e *Export) bool { return len(e.Payload) >= compressAloneBytes && e.Dropped == "" }
	if !slices.ContainsFunc(r.parts, func(p exportPart) bool { return large(p.export) }) {
		return nil
	}
	select {
	case q.compressing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-q.compressing }()
	for i := range r.parts {
		if p := &r.parts[i]; large(p.export) {
			buf := *zstdBuffers.Get().(*[]byte)
			p.zstd = q.enc.EncodeAll(p.export.Payload, buf[:0])
		}
	}
	return nil
}

// change is a request to journal events, with the frames that some of them
// replace, in one transaction.
type change struct {
	events []event
	frames []int    // of the lease, that the events settle
	parts  []Part   // new frames, in lane
	blobs  []string // to be removed once this is durable
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
	r.estimate()
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

// Bounds of one group besides its bytes. Badger takes transactions of at most
// 15 % of a memtable (1.2 MiB), and counts values under inlineBytes in full:
// 1,024 small frames and their keys stay below that, and journal records count
// by their keys alone.
const (
	maxGroupParts    = 512 // frames that replace others
	maxGroupRuns     = 512 // exports that may need a frame of their own
	maxGroupEvents   = 8192
	maxPartsRawBytes = 8 << 20
	maxBesideBytes   = 16 << 20 // a larger append begins a group
)

// take removes up to maxBytes of appends, and changes up to the bounds of a
// group. final also shuts the inbox, once it is empty.
func (in *inbox) take(g *group, maxBytes int64, final bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n, events, parts, raw := 0, 0, 0, 0
	for ; n < len(in.changes); n++ {
		c := in.changes[n]
		events += len(c.events)
		parts += len(c.parts)
		raw += c.rawBytes()
		if n > 0 && (events > maxGroupEvents || parts > maxGroupParts || raw > maxPartsRawBytes) {
			break
		}
	}
	g.changes, in.changes = moveFirst(g.changes[:0], in.changes, n)
	n = 0
	var bytes int64
	if raw > maxPartsRawBytes { // a giant was split: that is enough for one transaction
		maxBytes = 0
	}
	var last runKey
	for runs := 0; n < len(in.appends) && maxBytes > 0 && (n == 0 || bytes < maxBytes); n++ {
		r := in.appends[n]
		for i := range r.parts {
			if at := r.parts[i].at; runs == 0 || at != last {
				last = at
				runs++
			}
		}
		if n > 0 && (runs > maxGroupRuns || r.storedBytes > maxBesideBytes) {
			break
		}
		bytes += r.storedBytes
	}
	g.appends, in.appends = moveFirst(g.appends[:0], in.appends, n)
	if final && len(g.appends) == 0 && len(g.changes) == 0 {
		in.shut = true
	}
}

// moveFirst moves the first n elements of from to the end of to.
func moveFirst[T any](to, from []T, n int) (_, rest []T) {
	to = append(to, from[:n]...)
	kept := copy(from, from[n:])
	clear(from[kept:])
	return to, from[:kept]
}

func (c *change) rawBytes() (n int) {
	for i := range c.parts {
		n += len(c.parts[i].Payload)
	}
	return n
}
