package queue

import (
	"context"
	"fmt"
)

// Export is what Append makes durable as a whole.
type Export struct {
	// Lane is the lane's descriptor, at most 4 KiB; equal bytes are one lane.
	Lane string
	// Payload is one protocol message such that messages may be concatenated.
	Payload []byte
	// Items is the number of spans or operations in Payload.
	Items int
	// Traces are the distinct trace ids in Payload.
	Traces []TraceID
	// Blobs are what WriteBlob returned of the export's content that is too
	// large for its payload. Once Append has returned nil they are the
	// export's, as durable as the rest of it, until a settlement names them
	// (Settlement.Blobs). When it returned an error they are the caller's
	// again, who removes them or appends them with another export.
	Blobs []Blob
	// Place is where the items stand from the start: Pending, or an open case.
	// A case that is closed or released by the time of the commit is Pending.
	Place Place
	// Dropped, if set, is the reason for which the items are dropped at once,
	// at most 256 bytes: they count as accepted and as dropped, durably, and
	// nothing of the export is stored. Its blobs are removed.
	Dropped string
}

const (
	maxLaneBytes    = 4 << 10
	maxReasonBytes  = 256
	maxExportItems  = 1 << 30
	maxExportTraces = 1 << 20

	// maxAppendExports bounds the exports of one Append.
	maxAppendExports = 64
)

// Append makes exports durable, all of them or none, and returns nil once they
// are synced. It takes at most 64, whose payloads are together at most a
// quarter over MaxFrameBytes: what one request was split into. It returns
// a *FullError when there is no room, ErrTooLarge, ErrClosed, ErrNoBlob for a
// blob that is not there to be taken, or ctx.Err() if ctx ends first, in which
// case they may or may not have been kept. A part that has no room in its
// share of the cap refuses the whole call, with the reason held_full (a hold)
// or kept_full (another case). Append only reads the exports and keeps nothing
// of them after returning.
func (q *Queue) Append(ctx context.Context, exports ...*Export) error {
	if q.closing.Load() {
		return ErrClosed
	}
	blobs, err := q.checkExports(exports)
	switch {
	case err != nil || len(exports) == 0:
		return err
	case blobs > 0:
		return q.appendWithBlobs(ctx, exports)
	}
	return q.append(ctx, exports)
}

// Refusing is why every append is refused at the moment, a *FullError, or nil.
func (q *Queue) Refusing() error {
	err := q.disk.refusal()
	if err != nil {
		signal(q.keepWake)
		q.metrics.refused(err)
	}
	return err
}

// append is Append for exports that were checked.
func (q *Queue) append(ctx context.Context, exports []*Export) error {
	if err := q.Refusing(); err != nil {
		return err
	}
	r := newAppendRequest(exports)
	defer r.free()
	if err := q.compressAlone(ctx, r); err != nil {
		return err
	}
	if err := q.in.putAppend(r, q.cfg.MaxWaiting); err != nil {
		q.metrics.refused(err)
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.claim(requestAbandoned) {
			return ctx.Err()
		}
		return <-r.done // being committed: soon over, and it reads the payload
	}
}

// appendWithBlobs is append for exports that take blobs.
func (q *Queue) appendWithBlobs(ctx context.Context, exports []*Export) error {
	var blobs []Blob
	var dropped []string
	for _, e := range exports {
		blobs = append(blobs, e.Blobs...)
		for i := range e.Blobs {
			if e.Dropped != "" {
				dropped = append(dropped, e.Blobs[i].ID)
			}
		}
	}
	if err := q.blobs.take(blobs); err != nil {
		return err
	}
	if err := q.append(ctx, exports); err != nil {
		q.blobs.giveBack(blobs)
		return err
	}
	q.unlinkBlobs(dropped) // no note names them: the next start would remove them, too
	return nil
}

// checkExports refuses what could never be stored, and counts blobs.
func (q *Queue) checkExports(exports []*Export) (blobs int, err error) {
	if len(exports) > maxAppendExports {
		return 0, fmt.Errorf("append %d exports at once: at most %d are possible", len(exports), maxAppendExports)
	}
	var payload int64
	for _, e := range exports {
		if err := q.checkExport(e); err != nil {
			return 0, err
		}
		blobs += len(e.Blobs)
		payload += int64(len(e.Payload))
	}
	if limit := q.cfg.MaxFrameBytes + q.cfg.MaxFrameBytes/4; payload > limit {
		return 0, fmt.Errorf("%w: %d exports of %d bytes together, the limit is %d", ErrTooLarge, len(exports), payload, limit)
	}
	return blobs, nil
}

func (q *Queue) checkExport(e *Export) error {
	switch {
	case int64(len(e.Payload)) > q.cfg.MaxFrameBytes:
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(e.Payload), q.cfg.MaxFrameBytes)
	case len(e.Traces) > maxExportTraces:
		return fmt.Errorf("%w: %d trace ids, the limit is %d", ErrTooLarge, len(e.Traces), maxExportTraces)
	case e.Items < 0 || e.Items > maxExportItems:
		return fmt.Errorf("append an export of %d items: 0 to %d are possible", e.Items, maxExportItems)
	case len(e.Lane) > maxLaneBytes:
		return fmt.Errorf("append to a lane whose descriptor has %d bytes: at most %d are kept", len(e.Lane), maxLaneBytes)
	case len(e.Dropped) > maxReasonBytes:
		return fmt.Errorf("append an export dropped for a reason of %d bytes: at most %d are kept", len(e.Dropped), maxReasonBytes)
	}
	return nil
}
