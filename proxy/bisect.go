package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"weir/queue"
)

// bisect finds the items that make the upstream refuse a request, delivers the
// rest and quarantines the guilty. A request with k bad items of n takes
// O(k log n) requests. When nothing at all is taken it stops after about two
// log n requests: the fault is then not in single items, everything is
// quarantined together and the lane waits.
func (f *Forwarder) bisect(ctx context.Context, s *sending, req *Request, first *Outcome, d Divider) error {
	b := &bisection{
		f: f, ctx: ctx, s: s, req: req, divider: d, refusal: first,
		budget: 2*bits.Len(uint(req.Items)) + 8,
	}
	b.patience = b.budget
	var settlements []queue.Settlement
	for i := range s.lease.Frames {
		fr := &s.lease.Frames[i]
		settled, err := b.frame(i, fr)
		if err != nil {
			s.lease.Return()
			return fmt.Errorf("isolate what the upstream refuses: %w", err)
		}
		if settled.Result != 0 {
			settlements = append(settlements, settled)
		}
		if b.stopped() {
			break
		}
	}
	return b.finish(settlements)
}

// bisection is one search for guilty items.
type bisection struct {
	f       *Forwarder
	ctx     context.Context //nolint:containedctx // the search is one call
	s       *sending
	req     *Request
	divider Divider

	refusal   *Outcome // the latest refusal of content
	trouble   *Outcome // an outcome that ended the search: retry, interrupted, access
	budget    int      // refusals left until the search gives up
	patience  int
	delivered int // items
	gaveUp    bool
}

func (b *bisection) stopped() bool { return b.trouble != nil || b.gaveUp }

// frame sends one frame, cutting it as far as it is refused.
func (b *bisection) frame(i int, fr *queue.Frame) (queue.Settlement, error) {
	if len(b.s.lease.Frames) > 1 {
		if out := b.try(partOf(fr), fr.Items); out == nil {
			return queue.Settlement{}, nil
		} else if out.Kind == Delivered {
			return queue.Settlement{Frame: i, Result: queue.ResultDelivered}, nil
		}
		if fr.Items == 1 {
			return b.keep(i)
		}
	}
	raw, err := plain(partOf(fr))
	if err != nil {
		return queue.Settlement{}, err
	}
	var verdict cutVerdict
	if err := b.cut(raw, 0, fr.Items, &verdict); err != nil {
		return queue.Settlement{}, err
	}
	if verdict.delivered == 0 && len(verdict.guilty) == 0 {
		return queue.Settlement{}, nil
	}
	return b.replace(i, raw, &verdict)
}

// keep quarantines a frame of a single item.
func (b *bisection) keep(i int) (queue.Settlement, error) {
	place, err := b.f.cases.open(b.s.lease.Lane, b.refusal, false)
	return queue.Settlement{Frame: i, Result: queue.ResultKept, Place: place}, err
}

// cutVerdict is what became of a frame's items: those neither delivered nor
// guilty are still pending.
type cutVerdict struct {
	delivered int
	guilty    []int    // single items, by number
	pending   [][2]int // ranges
}

// cut sends the halves of items [from, to), which were refused as a whole.
func (b *bisection) cut(raw []byte, from, to int, v *cutVerdict) error {
	if to-from == 1 {
		v.guilty = append(v.guilty, from)
		return nil
	}
	mid := from + (to-from)/2
	for _, half := range [][2]int{{from, mid}, {mid, to}} {
		if b.stopped() {
			v.pending = append(v.pending, half)
			continue
		}
		piece, err := b.divider.Slice(raw, half[0], half[1])
		if err != nil {
			return err
		}
		out := b.try(Part{Payload: piece.Payload, RawBytes: len(piece.Payload)}, piece.Items)
		switch {
		case out == nil:
			v.pending = append(v.pending, half)
		case out.Kind == Delivered:
			v.delivered += piece.Items
		default:
			if err := b.cut(raw, half[0], half[1], v); err != nil {
				return err
			}
		}
	}
	return nil
}

// try sends part of the request. It returns nil when the search has to stop
// without an answer about this part.
func (b *bisection) try(p Part, items int) *Outcome {
	r := *b.req
	r.Parts, r.Items = []Part{p}, items
	out := b.f.up.Send(b.ctx, &r)
	b.f.m.count(&out, items)
	switch {
	case out.Kind == Delivered:
		b.delivered += items
		b.budget = b.patience
		return &out
	case out.Kind == Refused && (out.Refusal == RefusedContent || out.Refusal == RefusedSize):
		b.refusal = &out
		b.budget--
		if b.budget <= 0 {
			b.gaveUp = true
			return nil
		}
		return &out
	default:
		b.trouble = &out
		return nil
	}
}

// replace settles a cut frame: the guilty items live on in quarantine, those
// without an answer as pending.
func (b *bisection) replace(i int, raw []byte, v *cutVerdict) (queue.Settlement, error) {
	s := queue.Settlement{Frame: i, Result: queue.ResultReplaced, Delivered: v.delivered}
	if len(v.guilty) > 0 {
		place, err := b.f.cases.open(b.s.lease.Lane, b.refusal, false)
		if err != nil {
			return s, err
		}
		ranges := make([][2]int, len(v.guilty))
		for j, n := range v.guilty {
			ranges[j] = [2]int{n, n + 1}
		}
		part, err := b.part(raw, ranges, place)
		if err != nil {
			return s, err
		}
		s.Parts = append(s.Parts, part)
	}
	if len(v.pending) > 0 {
		part, err := b.part(raw, v.pending, queue.Pending)
		if err != nil {
			return s, err
		}
		s.Parts = append(s.Parts, part)
	}
	if len(s.Parts) == 0 {
		s.Result = queue.ResultDelivered
	}
	return s, nil
}

// part joins ranges of a frame's items into one part: messages concatenate.
func (b *bisection) part(raw []byte, ranges [][2]int, place queue.Place) (queue.Part, error) {
	out := queue.Part{Place: place}
	seen := map[TraceID]bool{}
	for _, r := range ranges {
		p, err := b.divider.Slice(raw, r[0], r[1])
		if err != nil {
			return out, err
		}
		out.Payload = append(out.Payload, p.Payload...)
		out.Items += p.Items
		for _, id := range p.Traces {
			if !seen[id] {
				seen[id] = true
				out.Traces = append(out.Traces, id)
			}
		}
	}
	return out, nil
}

// finish settles the lease by what the search found.
func (b *bisection) finish(settlements []queue.Settlement) error {
	f := b.f
	if b.gaveUp && b.delivered == 0 {
		// Nothing was taken: the settlements found so far are single items of
		// a request that is refused as a whole.
		err := f.quarantine(b.s, b.refusal, false)
		f.failed(b.s, &Outcome{Kind: Refused, Reason: b.refusal.Reason, Scope: ScopeLane, Exchange: b.refusal.Exchange})
		return err
	}
	err := b.s.lease.Settle(settlements...)
	if errors.Is(err, queue.ErrKeptFull) {
		err = nil // pending again, and the lane waits below
		b.gaveUp = true
	}
	if err != nil {
		return fmt.Errorf("settle isolated data: %w", err)
	}
	switch {
	case b.trouble != nil && b.trouble.Kind != Interrupted:
		f.failed(b.s, b.trouble)
	case b.gaveUp:
		f.failed(b.s, &Outcome{Kind: Refused, Reason: b.refusal.Reason, Scope: ScopeLane, Exchange: b.refusal.Exchange})
	case b.delivered > 0:
		f.cameThrough(b.s, b.s.lease.Lane, b.delivered)
	}
	return nil
}

// plain is a part's payload, decompressed.
func plain(p Part) ([]byte, error) {
	if !p.Zstd {
		return p.Payload, nil
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(p.RawBytes)+1<<20))
	if err != nil {
		return nil, fmt.Errorf("decompress a frame: %w", err)
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(p.Payload, make([]byte, 0, p.RawBytes))
	if err != nil {
		return nil, fmt.Errorf("decompress a frame: %w", err)
	}
	return raw, nil
}
