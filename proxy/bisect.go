package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/zstd"

	"weir/queue"
)

// bisect finds the items that make the upstream refuse a request, delivers the
// rest and quarantines the guilty. A request with k bad items of n takes
// O(k log n) requests. When about two log n requests in a row are refused, and
// so are single items from all over the frame, it stops: the fault is then not
// in single items, the frame it stopped at is quarantined whole, and the lane
// waits with the others, which may be innocent.
func (f *Forwarder) bisect(ctx context.Context, s *sending, req *Request, first *Outcome, d Divider) error {
	b := &bisection{
		f: f, ctx: ctx, s: s, req: req, divider: d, refusal: first,
		budget: patienceFor(req.Items),
	}
	b.patience = b.budget
	var settlements []queue.Settlement
	for i := range s.lease.Frames {
		if settled := b.frame(i, &s.lease.Frames[i]); settled.Result != 0 {
			settlements = append(settlements, settled)
		}
		if b.gaveUp && b.delivered == 0 {
			settlements = slices.DeleteFunc(settlements, func(s queue.Settlement) bool { return s.Frame == i })
			if whole := b.keep(i); whole.Result != 0 {
				settlements = append(settlements, whole)
			}
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
	noRoom    error // no case could be had: what is guilty stays pending
}

func (b *bisection) stopped() bool { return b.trouble != nil || b.gaveUp || b.noRoom != nil }

// frame sends one frame, cutting it as far as it is refused.
func (b *bisection) frame(i int, fr *queue.Frame) queue.Settlement {
	if len(b.s.lease.Frames) > 1 {
		if out := b.try(partOf(fr), fr.Items, fr.Traces); out == nil {
			return queue.Settlement{}
		} else if out.Kind == Delivered {
			return queue.Settlement{Frame: i, Result: queue.ResultDelivered}
		}
		if fr.Items == 1 {
			return b.keep(i)
		}
	}
	settled, err := b.divide(i, fr)
	if err != nil { // it would fail the same way the next time
		b.f.noteError(b.s.lease.Lane, fmt.Errorf("isolate what the upstream refuses: %w", err))
		return b.keep(i)
	}
	return settled
}

// divide sends a refused frame in pieces.
func (b *bisection) divide(i int, fr *queue.Frame) (queue.Settlement, error) {
	raw, err := plain(partOf(fr))
	if err != nil {
		return queue.Settlement{}, err
	}
	v := make(cutVerdict, fr.Items)
	if err := b.cut(raw, 0, fr.Items, v); err != nil {
		return queue.Settlement{}, err
	}
	if v.count(itemPending) == fr.Items {
		return queue.Settlement{}, nil
	}
	return b.replace(i, raw, v)
}

// keep quarantines a frame as a whole.
func (b *bisection) keep(i int) queue.Settlement {
	place := b.place()
	if place == queue.Pending {
		return queue.Settlement{}
	}
	return queue.Settlement{Frame: i, Result: queue.ResultKept, Place: place}
}

// place is the case of what is guilty. If none can be had, the guilty stay
// pending and the search ends; what was delivered must be settled all the same.
func (b *bisection) place() queue.Place {
	place, err := b.f.openCase(b.s, b.refusal, false)
	if err != nil {
		b.noRoom = err
		return queue.Pending
	}
	return place
}

// patienceFor is how many refusals in a row are put up with in a search among n
// before single ones are tried, from all over.
func patienceFor(n int) int { return 2*bits.Len(uint(n)) + 4 }

// maxSamples is how many single ones are tried then. If none of them is taken,
// it is not single ones that are at fault.
const maxSamples = 12

// itemFate is what became of an item.
type itemFate uint8

const (
	itemPending itemFate = iota
	itemDelivered
	itemGuilty
)

// cutVerdict is what became of a frame's items, by number.
type cutVerdict []itemFate

// which lists items [from, to) of a fate, in ranges.
func (v cutVerdict) which(fate itemFate, from, to int) (out [][2]int) {
	for i := from; i < to; i++ {
		switch {
		case v[i] != fate:
		case len(out) > 0 && out[len(out)-1][1] == i:
			out[len(out)-1][1]++
		default:
			out = append(out, [2]int{i, i + 1})
		}
	}
	return out
}

// set says what became of the items in ranges.
func (v cutVerdict) set(ranges [][2]int, fate itemFate) {
	for _, r := range ranges {
		for i := r[0]; i < r[1]; i++ {
			v[i] = fate
		}
	}
}

// count is how many items have a fate.
func (v cutVerdict) count(fate itemFate) (n int) {
	for _, f := range v {
		if f == fate {
			n++
		}
	}
	return n
}

// cut sends the halves of items [from, to), which were refused as a whole.
func (b *bisection) cut(raw []byte, from, to int, v cutVerdict) error {
	if to-from == 1 {
		v[from] = itemGuilty
		return nil
	}
	mid := from + (to-from)/2
	for _, half := range [][2]int{{from, mid}, {mid, to}} {
		ranges := v.which(itemPending, half[0], half[1]) // some may have gone alone
		if len(ranges) == 0 || b.stopped() {
			continue
		}
		piece, err := b.part(raw, ranges, queue.Pending)
		if err != nil {
			return err
		}
		out := b.try(Part{Payload: piece.Payload, RawBytes: len(piece.Payload)}, piece.Items, piece.Traces)
		switch {
		case out == nil:
			continue
		case out.Kind == Delivered:
			v.set(ranges, itemDelivered)
			continue
		case piece.Items == 1:
			v.set(ranges, itemGuilty)
			continue
		}
		if err := b.sample(raw, v); err != nil {
			return err
		}
		if err := b.cut(raw, half[0], half[1], v); err != nil {
			return err
		}
	}
	return nil
}

// sample tries single items from all over the frame once patience has run out.
// If none is taken the search is given up.
func (b *bisection) sample(raw []byte, v cutVerdict) error {
	if b.budget > 0 || b.stopped() {
		return nil
	}
	var left []int
	for n, fate := range v {
		if fate == itemPending {
			left = append(left, n)
		}
	}
	before := b.delivered
	for _, n := range spread(left, maxSamples) {
		piece, err := b.divider.Slice(raw, n, n+1)
		if err != nil {
			return err
		}
		out := b.try(Part{Payload: piece.Payload, RawBytes: len(piece.Payload)}, 1, piece.Traces)
		switch {
		case out == nil:
			return nil
		case out.Kind == Delivered:
			v[n] = itemDelivered
		default:
			v[n] = itemGuilty
		}
	}
	b.gaveUp = b.delivered == before
	return nil
}

// spread picks at most n of list, evenly.
func spread(list []int, n int) []int {
	if len(list) <= n {
		return list
	}
	out := make([]int, n)
	for i := range out {
		out[i] = list[(2*i+1)*len(list)/(2*n)]
	}
	return out
}

// try sends part of the request. It returns nil when the search has to stop
// without an answer about this part.
func (b *bisection) try(p Part, items int, traces []TraceID) *Outcome {
	r := *b.req
	r.Parts, r.Items = []Part{p}, items
	one := sentRequest{events: int64(items), bytes: int64(p.RawBytes), traces: traces}
	if full, ok := b.f.take(b.s.lane, &one); !ok {
		b.trouble = &full
		return nil
	}
	out := b.f.up.Send(b.ctx, &r)
	b.f.m.count(&out, &r, one.bytes)
	err := b.f.sent(b.s, &one, &out)
	if err == nil && out.Kind == Delivered {
		err = b.f.delivered(b.s.lane, traces)
	}
	if err != nil { // it is sent again, rather than not counted
		b.trouble = &Outcome{Kind: Retry, Reason: "not_settled", Scope: ScopeLane, Exchange: Exchange{Error: err.Error()}}
		return nil
	}
	switch {
	case out.Kind == Delivered:
		b.delivered += items
		b.budget = b.patience
		return &out
	case out.Kind == Refused && (out.Refusal == RefusedContent || out.Refusal == RefusedSize):
		b.refusal = &out
		b.budget--
		return &out
	default:
		b.trouble = &out
		return nil
	}
}

// replace settles a cut frame: the guilty items live on in quarantine, those
// without an answer as pending.
func (b *bisection) replace(i int, raw []byte, v cutVerdict) (queue.Settlement, error) {
	s := queue.Settlement{Frame: i, Result: queue.ResultReplaced, Delivered: v.count(itemDelivered)}
	if guilty := v.which(itemGuilty, 0, len(v)); len(guilty) > 0 {
		part, err := b.part(raw, guilty, b.place())
		if err != nil {
			return s, err
		}
		s.Parts = append(s.Parts, part)
	}
	if pending := v.which(itemPending, 0, len(v)); len(pending) > 0 {
		part, err := b.part(raw, pending, queue.Pending)
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
	f, lane := b.f, b.s.lease.Lane
	if b.delivered > 0 && f.keptFull.Load() {
		// A settlement that finds no room settles nothing, and what was
		// delivered would be sent again: leave the guilty for another lease.
		settlements = withoutQuarantine(settlements)
		b.noRoom = queue.ErrKeptFull
	}
	troubled := b.trouble != nil && b.trouble.Kind != Interrupted
	if troubled {
		f.failed(b.s, b.trouble) // before what is left is to be sent again
	}
	kept := keptItems(b.s.lease, settlements)
	f.passed(b.s)
	ages := deliveredAges(b.s.lease, settlements, f.cfg.Now())
	err := b.s.lease.Settle(settlements...)
	if err == nil {
		f.m.settled(b.s.lane.Protocol, ages)
	}
	switch {
	case errors.Is(err, queue.ErrKeptFull): // pending again, and the lane waits below
		f.keptFull.Store(true)
		b.noRoom = err
	case err != nil:
		return fmt.Errorf("settle isolated data: %w", err)
	case kept > 0:
		f.kept(kept)
	}
	switch {
	case troubled:
	case b.gaveUp || b.noRoom != nil:
		f.failed(b.s, &Outcome{Kind: Refused, Reason: b.refusal.Reason, Scope: ScopeLane, Exchange: b.refusal.Exchange})
	case b.delivered > 0:
		f.cameThrough(b.s, lane, b.delivered)
	}
	if b.noRoom != nil && !errors.Is(b.noRoom, queue.ErrKeptFull) {
		return fmt.Errorf("quarantine isolated data: %w", b.noRoom)
	}
	return nil
}

// withoutQuarantine leaves pending what settlements would quarantine.
func withoutQuarantine(settlements []queue.Settlement) []queue.Settlement {
	for i := range settlements {
		for j := range settlements[i].Parts {
			settlements[i].Parts[j].Place = queue.Pending
		}
	}
	return slices.DeleteFunc(settlements, func(s queue.Settlement) bool { return s.Result == queue.ResultKept })
}

// keptItems counts what settlements quarantine of a lease.
func keptItems(l *queue.Lease, settlements []queue.Settlement) (items int) {
	for i := range settlements {
		s := &settlements[i]
		if s.Result == queue.ResultKept {
			items += l.Frames[s.Frame].Items
		}
		for j := range s.Parts {
			if s.Parts[j].Place != queue.Pending {
				items += s.Parts[j].Items
			}
		}
	}
	return items
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
