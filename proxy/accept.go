package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/runs"
	"weir/queue"
)

var _ interface {
	Sink
	Spooler
} = (*Acceptor)(nil)

// Acceptor is the Sink and Spooler of a running weir: it decides an export's lane and
// makes it durable. It may be used by any number of goroutines.
type Acceptor struct {
	q     *queue.Queue
	vault *Vault
	gate  gate

	stopped atomic.Pointer[PressureError] // set: nothing is taken

	mu    sync.RWMutex // guards lanes
	lanes map[laneChoice]decidedLane
}

// laneChoice is what decides a lane.
type laneChoice struct {
	protocol     Protocol
	caller       Caller
	namesProject bool
}

// decidedLane is a lane with its stored form.
type decidedLane struct {
	lane       Lane
	descriptor string
}

// maxCachedLanes bounds the cache of decided lanes; callers choose its keys.
const maxCachedLanes = 4096

// Waits named to callers that are refused for now. OpenTelemetry's exporters
// give an export ten seconds by default, waits included, and drop it at once
// when told to wait for longer than is left of them: so the waits are short
// enough for several more attempts.
const (
	retryAfterFull  = 2 * time.Second
	retryAfterBusy  = time.Second
	retryAfterDrain = 2 * time.Second
)

// NewAcceptor returns a Sink that keeps exports in q and callers' keys in v, as
// far as limits lets it.
func NewAcceptor(q *queue.Queue, v *Vault, limits *Quota) *Acceptor {
	return &Acceptor{q: q, vault: v, gate: gate{Quota: limits}, lanes: map[laneChoice]decidedLane{}}
}

// Accept implements Sink.
func (a *Acceptor) Accept(ctx context.Context, e *Export) (Receipt, error) {
	if stopped := a.stopped.Load(); stopped != nil {
		return Receipt{}, stopped
	}
	if err := a.q.Refusing(); err != nil {
		return Receipt{}, pressure(err) // before anything is written about it
	}
	lane, err := a.lane(e)
	if err != nil {
		return Receipt{}, pressure(err)
	}
	own := &queue.Export{Lane: lane.descriptor, Payload: e.Payload, Items: e.Items, Traces: e.TraceIDs}
	for _, b := range e.Blobs {
		own.Blobs = append(own.Blobs, queue.Blob(b))
	}
	admitted, err := a.gate.admit(lane.lane, own, e)
	if err != nil {
		return Receipt{}, pressure(err)
	}
	if err = a.q.Append(ctx, admitted.exports...); err != nil {
		a.refused(ctx, lane.lane, admitted, err)
		return Receipt{}, pressure(err)
	}
	a.gate.inHold(lane.lane, admitted.held)
	for _, b := range admitted.discarded {
		a.q.RemoveBlob(queue.Blob(b))
	}
	return Receipt{Warning: admitted.warning}, nil
}

// refused sees to an export that the queue did not take.
func (a *Acceptor) refused(ctx context.Context, lane Lane, e *entry, err error) {
	var full *queue.FullError
	if errors.As(err, &full) && full.Reason == "held_full" {
		a.gate.press()
	}
	if ctx.Err() == nil { // else it may have been kept all the same
		a.gate.undo(lane, e)
	}
}

// Spool implements Spooler.
func (a *Acceptor) Spool(ctx context.Context, r io.Reader, maxBytes int64) (runs.Blob, error) {
	if stopped := a.stopped.Load(); stopped != nil {
		return runs.Blob{}, stopped
	}
	src := &sourceReader{r: r}
	b, err := a.q.WriteBlob(ctx, src, maxBytes)
	switch {
	case err == nil:
		return runs.Blob(b), nil
	case src.err != nil && errors.Is(err, src.err):
		return runs.Blob{}, err // the sender's
	default:
		return runs.Blob{}, pressure(err)
	}
}

// Discard implements Spooler.
func (a *Acceptor) Discard(b runs.Blob) { a.q.RemoveBlob(queue.Blob(b)) }

// sourceReader remembers how reading failed, to tell the sender's failures from
// the disk's.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Stop refuses all further exports, naming the reason draining or stopping.
// What Accept is working on is finished.
func (a *Acceptor) Stop(reason string) {
	a.stopped.Store(&PressureError{
		Reason: reason, Detail: "weir is " + reason + " and takes no new data",
		RetryAfter: retryAfterDrain, Unavailable: true,
	})
}

// Stopped is the reason given to Stop, empty while exports are taken.
func (a *Acceptor) Stopped() string {
	if e := a.stopped.Load(); e != nil {
		return e.Reason
	}
	return ""
}

// lane decides the export's lane, making the caller's key durable first, so
// that no frame can outlive the key it needs.
func (a *Acceptor) lane(e *Export) (decidedLane, error) {
	choice := laneChoice{e.Protocol, e.Caller, e.NamesProject}
	a.mu.RLock()
	decided, ok := a.lanes[choice]
	a.mu.RUnlock()
	if ok {
		return decided, nil
	}
	var fingerprint string
	if key := e.Caller.APIKey; key != "" {
		var err error
		if fingerprint, err = a.vault.Keep(key); err != nil {
			return decidedLane{}, err
		}
	}
	lane := laneOf(e, fingerprint)
	decided = decidedLane{lane, lane.descriptor()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.lanes) >= maxCachedLanes {
		clear(a.lanes)
	}
	a.lanes[choice] = decided
	return decided, nil
}

// pressure turns the queue's refusals into the sink's.
func pressure(err error) error {
	var full *queue.FullError
	switch {
	case errors.As(err, &full) && full.Reason == "busy":
		return &PressureError{Reason: full.Reason, Detail: full.Detail, RetryAfter: retryAfterBusy}
	case errors.As(err, &full):
		return &PressureError{Reason: full.Reason, Detail: full.Detail, RetryAfter: retryAfterFull}
	case errors.Is(err, queue.ErrTooManyNotes):
		return &PressureError{Reason: "credentials", Detail: "too many different keys have data waiting", RetryAfter: retryAfterFull}
	case errors.Is(err, queue.ErrTooLarge):
		return &RejectError{Reason: "too_large", Detail: err.Error() + "; send smaller batches"}
	case errors.Is(err, queue.ErrClosed):
		return &PressureError{Reason: "stopping", Detail: "weir is stopping", RetryAfter: retryAfterDrain, Unavailable: true}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		// The disk failed under a commit: nothing is known to be durable.
		return &PressureError{Reason: "disk_error", Detail: fmt.Sprintf("the data directory cannot be written: %v", err), RetryAfter: retryAfterFull}
	}
}
