package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// Divider cuts payloads of one protocol between items. It may be used by any
// number of goroutines.
type Divider interface {
	// Slice returns a message with items [from, to) of payload, and the trace
	// ids in it. Items are numbered in the order they stand.
	Slice(payload []byte, from, to int) (Piece, error)
	// Split cuts payload by trace: part names, for each trace id, which of n
	// pieces its items belong to (0 <= part < n). Pieces stand in the order
	// asked for; one without items has Items 0 and no payload. Together the
	// pieces hold exactly the payload's items, in their order.
	Split(payload []byte, n int, part func(TraceID) int) ([]Piece, error)
}

// Piece is part of a payload, a message of its own.
type Piece struct {
	Payload []byte
	Items   int
	Traces  []TraceID
	Blobs   []string // ids of the blobs its items refer to (runs only)
}

// settle does what the outcome says: the one switch over the four outcomes.
// It always ends the lease.
func (f *Forwarder) settle(ctx context.Context, s *sending, req *Request, out *Outcome) error {
	switch out.Kind {
	case Delivered:
		return f.settleDelivered(s, out)
	case Retry:
		f.failed(s, out) // before the data is to be sent again
		s.lease.Return()
		return nil
	case Refused:
		return f.settleRefused(ctx, s, req, out)
	case Interrupted:
		s.lease.Return()
		return nil
	default:
		s.lease.Return()
		return fmt.Errorf("upstream returned outcome %d: no such outcome", out.Kind)
	}
}

func (f *Forwarder) settleDelivered(s *sending, out *Outcome) error {
	lane := s.lease.Lane
	if err := f.delivered(s.lane, s.traces); err != nil {
		s.lease.Return()
		return err
	}
	f.passed(s)
	items := 0
	settlements := make([]queue.Settlement, len(s.lease.Frames))
	rejected := out.RejectedItems
	for i := range s.lease.Frames {
		n := s.lease.Frames[i].Items
		items += n
		settlements[i] = queue.Settlement{Frame: i, Result: queue.ResultDelivered}
		if rejected > 0 { // which items is not known: the totals are right, the frame is a guess
			part := min(rejected, n)
			rejected -= part
			settlements[i] = queue.Settlement{Frame: i, Result: queue.ResultPartly, Delivered: n - part, Reason: reasonRejected}
		}
	}
	ages := deliveredAges(s.lease, settlements, f.cfg.Now())
	if err := s.lease.Settle(settlements...); err != nil {
		return fmt.Errorf("settle delivered data: %w", err)
	}
	f.m.settled(s.lane.Protocol, ages)
	f.cameThrough(s, lane, items)
	if out.RejectedItems > 0 {
		f.cfg.Logger.Error("the upstream says it rejected items of a request it took; they count as dropped",
			"lane", lane, "items", out.RejectedItems, "detail", sentence(out))
	}
	return nil
}

// cameThrough ends the waits that a success disproves and releases what was
// quarantined for a cause that is gone.
func (f *Forwarder) cameThrough(s *sending, lane queue.LaneID, items int) {
	f.noteDelivered(s.run, items)
	f.mu.Lock()
	s.run.lastError, s.run.storeError = "", ""
	f.growLocked(s.run)
	f.mu.Unlock()
	for _, w := range f.waits.succeeded(s.keys, s.began) {
		f.cfg.Logger.Info("the upstream takes data again", "lane", lane, "reason", w.Reason, "after", f.cfg.Now().Sub(w.Since).Round(time.Second))
	}
	if ok, _, _ := f.waits.due(s.keys); ok { // else it was refused while this was under way
		f.releaseHealed(lane, s.run)
	}
}

// noteDelivered counts what a lane has delivered.
func (f *Forwarder) noteDelivered(run *laneRun, items int) {
	if items == 0 {
		return
	}
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastDelivered = now
	run.delivered += int64(items)
}

// failed begins the wait of whatever refused, and says so.
func (f *Forwarder) failed(s *sending, out *Outcome) { f.sayWait(s, f.beginWait(s, out)) }

// begunWait is a wait that was begun and not said yet.
type begunWait struct {
	key     waitKey
	out     *Outcome
	already bool // it was waited for before
}

// beginWait begins the wait of whatever refused.
func (f *Forwarder) beginWait(s *sending, out *Outcome) begunWait {
	key := laneWait(s.lease.Lane)
	switch out.Scope {
	case ScopeUpstream:
		key = upstreamWait
	case ScopeCredential:
		key = credentialWait(s.lane)
	case ScopeAccount:
		_ = f.accounts.with(s.lane, func(account string) error {
			key = accountWait(account)
			out = f.quotaRefusal(account, out, s.fresh)
			return nil
		})
	case ScopeLane:
	}
	f.mu.Lock()
	s.run.lastError = sentence(out)
	f.mu.Unlock()
	_, already := f.waits.get(key)
	f.waits.failed(key, out, s.began)
	return begunWait{key, out, already}
}

// sayWait explains a wait, and logs it if it is new and no case says it.
func (f *Forwarder) sayWait(s *sending, b begunWait) {
	out := b.out
	if out.Kind == Refused && out.Refusal == RefusedAccess && f.cases.mayRelease(s.lease.Lane, healsWithLane) {
		return // its case was said
	}
	d := diagnose.Diagnose(f.facts(s.lane, s.as, out))
	cause, remedy := explained(&d)
	f.waits.explain(b.key, cause, remedy)
	if w, ok := f.waits.get(b.key); ok && !b.already {
		f.cfg.Logger.Warn("the upstream does not take data; it stays on disk and is tried again",
			"reason", out.Reason, "cause", cause, "detail", sentence(out), "scope", out.Scope.String(), "next", w.Until)
	}
}

// settleRefused quarantines what is refused, after isolating it where only
// part of the request can be guilty.
func (f *Forwarder) settleRefused(ctx context.Context, s *sending, req *Request, out *Outcome) error {
	divider := f.dividers[s.lane.Protocol]
	switch {
	case out.Refusal == RefusedSize && req.Items > 1 && divider != nil:
		return f.settleTooLarge(s, req, out, divider)
	case out.Refusal == RefusedContent && req.Items > 1 && divider != nil:
		return f.bisect(ctx, s, req, out, divider)
	case out.Refusal == RefusedSize || out.Refusal == RefusedContent:
		return f.quarantine(s, out, false)
	default:
		return f.quarantine(s, out, true)
	}
}

// settleTooLarge makes smaller requests of a lane whose request was too large:
// fewer frames, and if it was one frame already, that frame in two halves.
func (f *Forwarder) settleTooLarge(s *sending, req *Request, out *Outcome, d Divider) error {
	if n := len(s.lease.Frames); n > 1 {
		f.shrink(s.run, rawBytes(s.lease))
		s.lease.Return()
		return nil
	}
	parts, err := halve(req, d)
	if err != nil { // it would fail the same way the next time
		f.noteError(s.lease.Lane, fmt.Errorf("halve a frame that is too large: %w", err))
		return f.quarantine(s, out, false)
	}
	if err := s.lease.Settle(queue.Settlement{Result: queue.ResultReplaced, Parts: parts}); err != nil {
		return fmt.Errorf("halve a frame that is too large: %w", err)
	}
	return nil
}

// halve cuts a request of one part in two.
func halve(req *Request, d Divider) ([]queue.Part, error) {
	raw, err := plain(req.Parts[0])
	if err != nil {
		return nil, err
	}
	var parts []queue.Part
	for _, cut := range [][2]int{{0, req.Items / 2}, {req.Items / 2, req.Items}} {
		p, err := d.Slice(raw, cut[0], cut[1])
		if err != nil {
			return nil, err
		}
		parts = append(parts, queue.Part{Payload: p.Payload, Items: p.Items, Traces: p.Traces})
	}
	return parts, nil
}

// quarantine moves the whole lease into the lane's case for the refusal. heals
// says that the case is released as soon as a request of the lane comes
// through; whoever refused is waited for then. Without room to keep more, the
// data stays pending and the lane waits.
func (f *Forwarder) quarantine(s *sending, out *Outcome, heals bool) error {
	var wait begunWait
	if heals {
		wait = f.beginWait(s, out) // first: a case that nothing waits for is probed at once
	}
	place, err := f.openCase(s, out, heals)
	if heals {
		f.sayWait(s, wait)
	}
	if err != nil {
		f.failed(s, &Outcome{Kind: Refused, Reason: out.Reason, Scope: ScopeLane, Exchange: out.Exchange})
		s.lease.Return()
		if errors.Is(err, queue.ErrKeptFull) {
			return nil
		}
		return err
	}
	settlements := make([]queue.Settlement, len(s.lease.Frames))
	items := 0
	for i := range s.lease.Frames {
		items += s.lease.Frames[i].Items
		settlements[i] = queue.Settlement{Frame: i, Result: queue.ResultKept, Place: place}
	}
	frames, raw := len(s.lease.Frames), rawBytes(s.lease)
	err = s.lease.Settle(settlements...)
	if errors.Is(err, queue.ErrKeptFull) {
		f.keptFull.Store(true)
		f.failed(s, &Outcome{Kind: Refused, Reason: "quarantine_full", Scope: ScopeLane, Exchange: out.Exchange})
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine refused data: %w", err)
	}
	f.kept(items)
	if heals {
		f.relapsed(s.run, frames, raw)
	}
	return nil
}

// kept counts items that have gone into quarantine. Their case has been said.
func (f *Forwarder) kept(items int) {
	f.keptFull.Store(false)
	f.m.quarantined.Add(float64(items))
}
