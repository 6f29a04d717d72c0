package proxy

import (
	"errors"
	"fmt"
	"slices"

	"weir/proxy/runs"
	"weir/queue"
)

// settle settles every frame of which all operations have met their fate, and
// remembers of the others what must not be forgotten. It ends the lease.
func (r *round) settle(damaged []int) error {
	f, lease := r.f, r.s.lease
	if err := f.delivered(r.s.lane, r.deliveredTraces()); err != nil {
		lease.Return()
		return err
	}
	r.keepGivenUp()
	settlements := r.settlements(damaged)
	final := len(settlements) // the others come back as they are, and are remembered
	if r.access() {
		settlements = append(settlements, r.refuseAll(settlements)...)
	}
	if f.keptFull.Load() && r.taken > 0 {
		// A settlement that finds no room settles nothing: leave what is to be
		// kept for another round.
		settlements = slices.DeleteFunc(settlements, func(s queue.Settlement) bool { return keeps(&s) })
		final = len(settlements)
		r.noRoom = queue.ErrKeptFull
	}
	kept := keptItems(lease, settlements)
	r.remember()
	ids, settled := make([]queue.FrameID, len(settlements)), map[int]bool{}
	for i, s := range settlements {
		ids[i] = lease.Frames[s.Frame].ID
		settled[s.Frame] = true
	}
	frames, raw := len(lease.Frames), rawBytes(lease)
	f.passed(r.s)
	ages := deliveredAges(lease, settlements, f.cfg.Now())
	err := lease.Settle(settlements...)
	switch {
	case errors.Is(err, queue.ErrKeptFull):
		f.keptFull.Store(true)
		r.noRoom = err
	case err != nil:
		return fmt.Errorf("settle run operations: %w", err)
	default:
		f.m.settled(r.s.lane.Protocol, ages)
		for _, id := range ids[:final] {
			f.attempts.forget(id)
		}
		r.convict(settled)
		if kept > 0 {
			f.kept(kept)
		}
		if kept > 0 && r.access() {
			f.relapsed(r.s.run, frames, raw)
		}
	}
	return r.conclude()
}

// deliveredTraces are the traces of which the upstream has taken something.
func (r *round) deliveredTraces() (out []TraceID) {
	seen := map[TraceID]bool{}
	for i := range r.ops {
		id := TraceID(r.ops[i].Trace)
		if r.ops[i].fate.kind == fateDelivered && !r.ops[i].Trace.IsZero() && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// conclude tells the lane how the round went.
func (r *round) conclude() error {
	f := r.f
	switch {
	case r.trouble != nil && r.trouble.Kind != Interrupted:
		f.noteDelivered(r.s.run, r.taken)
		f.failed(r.s, r.trouble)
	case r.noRoom != nil:
		f.noteDelivered(r.s.run, r.taken)
		f.failed(r.s, &Outcome{Kind: Refused, Reason: "quarantine_full", Scope: ScopeLane, Exchange: r.why().Exchange})
	case r.taken > 0:
		f.cameThrough(r.s, r.s.lease.Lane, r.taken)
	}
	if r.noRoom != nil && !errors.Is(r.noRoom, queue.ErrKeptFull) {
		return fmt.Errorf("quarantine run operations: %w", r.noRoom)
	}
	return nil
}

// why is the refusal to name for what is kept.
func (r *round) why() *Outcome {
	switch {
	case r.access():
		return r.trouble
	case r.refusal != nil:
		return r.refusal
	default:
		return &Outcome{Kind: Refused, Reason: reasonUnreadable}
	}
}

// access reports whether the round ended because the upstream would refuse
// every request of the lane.
func (r *round) access() bool {
	return r.trouble != nil && r.trouble.Kind == Refused && (r.trouble.Refusal == RefusedAccess || r.trouble.Refusal == RefusedEncoding)
}

// reasonUnreadable is the reason of a case with frames that hold no operations.
const reasonUnreadable = "unreadable"

// frameOps is the operations of frame i.
func (r *round) frameOps(i int) []roundOp {
	from, _ := slices.BinarySearchFunc(r.ops, i, func(o roundOp, frame int) int { return o.frame - frame })
	to := from
	for to < len(r.ops) && r.ops[to].frame == i {
		to++
	}
	return r.ops[from:to]
}

// settlements are those of the frames that are done with.
func (r *round) settlements(damaged []int) []queue.Settlement {
	var out []queue.Settlement
	unsettled := map[runs.ID]bool{}
	for i := range r.s.lease.Frames {
		if slices.Contains(damaged, i) {
			place, err := r.f.openCase(r.s, &Outcome{
				Kind: Refused, Reason: reasonUnreadable, Exchange: Exchange{Error: "the frame holds no run operations that can be read"},
			}, false)
			if err != nil {
				r.noRoom = err
				continue
			}
			out = append(out, queue.Settlement{Frame: i, Result: queue.ResultKept, Place: place})
			continue
		}
		ops := r.frameOps(i)
		if r.followsIn(ops, unsettled) {
			r.unsettled(ops, unsettled)
			continue
		}
		s, done := settlementOf(i, ops)
		if !done {
			r.unsettled(ops, unsettled)
			continue
		}
		out = append(out, s)
	}
	return out
}

// unsettled notes the runs whose create was to be kept, in a frame that stays
// pending: it is tried again, so nothing may follow it yet.
func (r *round) unsettled(ops []roundOp, to map[runs.ID]bool) {
	for i := range ops {
		if ops[i].Kind == runs.Create && ops[i].fate.kind == fateKept {
			to[ops[i].ID] = true
		}
	}
}

// followsIn reports whether an operation follows the create of one of the runs.
func (r *round) followsIn(ops []roundOp, creates map[runs.ID]bool) bool {
	return slices.ContainsFunc(ops, func(o roundOp) bool { return o.fate.follows && creates[o.ID] })
}

// keepGivenUp keeps what is pending of the frames that the round gave up.
func (r *round) keepGivenUp() {
	for i, out := range r.gaveUp {
		place, err := r.f.openCase(r.s, out, false)
		if err != nil {
			r.noRoom = err
			return
		}
		r.refusal = out
		ops := r.frameOps(i)
		for j := range ops {
			if o := &ops[j]; o.fate.kind == fatePending {
				o.fate = fate{kind: fateKept, place: place}
				if o.Kind == runs.Create {
					r.guilty[o.ID] = place
				}
			}
		}
	}
}

// convict has later operations follow the creates that were kept for good.
func (r *round) convict(settled map[int]bool) {
	for i := range r.ops {
		o := &r.ops[i]
		if place, guilty := r.guilty[o.ID]; guilty && o.Kind == runs.Create && settled[o.frame] {
			r.f.guilty.add(r.s.lease.Lane, o.ID, place)
		}
	}
}

// settlementOf settles a frame by the fates of its operations, if all have one.
func settlementOf(frame int, ops []roundOp) (s queue.Settlement, done bool) {
	s = queue.Settlement{Frame: frame, Result: queue.ResultDelivered}
	for i := range ops {
		o := &ops[i]
		switch o.fate.kind {
		case fatePending:
			return s, false
		case fateDelivered:
			s.Delivered++
			if o.Blob != "" {
				s.Blobs = append(s.Blobs, o.Blob)
			}
		case fateKept:
			part := partAt(&s, o.fate.place)
			part.Payload = runs.Append(part.Payload, o.asSent())
			part.Items++
			if !o.Trace.IsZero() && !slices.Contains(part.Traces, TraceID(o.Trace)) {
				part.Traces = append(part.Traces, TraceID(o.Trace))
			}
		}
	}
	switch {
	case len(s.Parts) == 0:
		s.Delivered = 0
	case s.Delivered == 0 && len(s.Parts) == 1: // it may stay as it is
		s = queue.Settlement{Frame: frame, Result: queue.ResultKept, Place: s.Parts[0].Place}
	default:
		s.Result = queue.ResultReplaced
	}
	return s, true
}

// asSent is the operation as its caller sent it.
func (o *roundOp) asSent() *runs.Op {
	if o.original != nil {
		return o.original
	}
	return &o.Op
}

// partAt is the part of a settlement that goes to place.
func partAt(s *queue.Settlement, place queue.Place) *queue.Part {
	for i := range s.Parts {
		if s.Parts[i].Place == place {
			return &s.Parts[i]
		}
	}
	s.Parts = append(s.Parts, queue.Part{Place: place})
	return &s.Parts[len(s.Parts)-1]
}

// keeps reports whether a settlement puts anything into a case.
func keeps(s *queue.Settlement) bool { return s.Result == queue.ResultKept || len(s.Parts) > 0 }

// refuseAll quarantines the frames of a round that ended because access was
// refused, in a case that is released when the cause is gone: those of which
// nothing has met its fate. The others go on from where they are.
func (r *round) refuseAll(settled []queue.Settlement) (out []queue.Settlement) {
	place := queue.Pending
	for i := range r.s.lease.Frames {
		untouched := !slices.ContainsFunc(settled, func(s queue.Settlement) bool { return s.Frame == i }) &&
			!slices.ContainsFunc(r.frameOps(i), func(o roundOp) bool { return o.fate.kind != fatePending || o.young })
		if !untouched {
			continue
		}
		if place == queue.Pending {
			var err error
			if place, err = r.f.openCase(r.s, r.trouble, true); err != nil {
				r.noRoom = err
				return nil
			}
		}
		out = append(out, queue.Settlement{Frame: i, Result: queue.ResultKept, Place: place})
	}
	return out
}

// remember keeps what the round has found out about the lease's frames. Those
// that are then settled are forgotten.
func (r *round) remember() {
	known := r.f.attempts.of(r.s.lease)
	for i := range r.s.lease.Frames {
		learned := false
		ops := r.frameOps(i)
		for j := range ops {
			if ops[j].group != groupNone {
				known[i].learn(&ops[j])
				learned = true
			}
		}
		if learned {
			r.f.attempts.remember(r.s.lease.Frames[i].ID, known[i])
		}
	}
}
