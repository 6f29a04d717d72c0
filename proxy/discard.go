package proxy

import (
	"context"
	"fmt"
	"time"

	"weir/proxy/runs"
	"weir/queue"
)

// reasonDiscarded is the reason of what a person has discarded.
const reasonDiscarded = "discarded"

// Discarded says what a discard did, or would do.
type Discarded struct {
	Case  CaseStatus // as it was
	Items int64
	// Bytes on disk that are freed, compressed; with those of attachments that
	// are kept in files of their own.
	Bytes       int64
	Attachments int64 // of the latter
	// AtLeast is set where there was no time to count all attachments.
	AtLeast bool
}

// quietTime bounds how long a discard waits for the requests of its lane.
const quietTime = 2 * time.Second

// weighTime bounds how long a dry run counts attachments.
const weighTime = 5 * time.Second

// DiscardCase drops what a case holds, for good: it counts as dropped by the
// reason "discarded". Of traces of which nothing can have arrived the shares of
// the quota are given back. It returns ErrNoCase and ErrCaseBusy; what is cut
// short has dropped some and kept the rest.
func (f *Forwarder) DiscardCase(ctx context.Context, p queue.Place, dryRun bool) (Discarded, error) {
	c, err := f.Case(p)
	if err != nil {
		return Discarded{}, err
	}
	out := Discarded{Case: c}
	if dryRun {
		out.Items, out.Bytes = c.Items, c.Bytes
		f.weigh(ctx, &out)
		return out, nil
	}
	end, err := f.beginCasework(p)
	if err != nil {
		return out, err
	}
	defer end()
	err = f.discard(ctx, p, &out)
	if err != nil {
		return out, fmt.Errorf("discard case %d: %w", p, err)
	}
	f.cfg.Logger.Info("a case is discarded by hand", "case", p, "lane", c.Lane, "items", out.Items)
	return out, nil
}

func (f *Forwarder) discard(ctx context.Context, p queue.Place, out *Discarded) error {
	undo := f.cases.forgetAt(p)
	defer func() {
		if f.caseHolds(p) { // it was cut short: the rest goes on as before
			undo()
		}
	}()
	// What is under way keeps its share, and the request that brought the last of
	// it into the case may not have ended.
	quiet, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	if resume, err := f.holdLane(quiet, out.Case.Lane); err == nil {
		defer resume()
	}
	var failed error
	d := queue.Discarding{Reason: reasonDiscarded, Blobs: func(descriptor string, fr queue.Frame) []string {
		lane, err := parseLane(descriptor)
		if err != nil {
			return nil // of an unknown lane: nobody knows whose shares it took
		}
		// Before it is dropped: a kill between the two must not leave a share
		// taken for ever.
		if err := f.refund(lane, fr.Traces); err != nil && failed == nil {
			failed = err
		}
		f.recent.note(fr.Traces, fateDiscarded, f.cfg.Now())
		names, bytes := frameBlobs(lane, &fr)
		out.Attachments += bytes
		out.Bytes += bytes
		return names
	}}
	out.Bytes += out.Case.Bytes
	for {
		n, err := f.q.Discard(ctx, p, d)
		out.Items += n
		if err != nil {
			return err
		}
		if !f.caseHolds(p) {
			break
		}
		if err := rest(ctx, casePause); err != nil { // somebody else has the rest in hand
			return err
		}
	}
	f.poke()
	return failed
}

// frameBlobs names the blobs of a frame of run operations, and adds up their
// bytes.
func frameBlobs(lane Lane, fr *queue.Frame) (names []string, bytes int64) {
	if lane.Protocol != ProtocolRuns {
		return nil, 0
	}
	raw, err := plain(partOf(fr))
	if err != nil {
		return nil, 0 // they stay behind until the next start
	}
	_ = runs.Scan(raw, func(op runs.Op) error { // as far as it can be read
		if op.Blob != "" {
			names = append(names, op.Blob)
			bytes += op.BlobBytes
		}
		return nil
	})
	return names, bytes
}

// weigh adds the attachments of a case to what a discard would free.
func (f *Forwarder) weigh(ctx context.Context, out *Discarded) {
	if out.Case.Of == nil || out.Case.Of.Lane.Protocol != ProtocolRuns {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, weighTime)
	defer cancel()
	err := f.eachKept(ctx, out.Case.Place, func(lane Lane, fr *queue.Frame) error {
		_, bytes := frameBlobs(lane, fr)
		out.Attachments += bytes
		out.Bytes += bytes
		return nil
	}, nil)
	out.AtLeast = err != nil
}
