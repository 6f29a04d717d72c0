package proxy

import (
	"context"
	"fmt"
	"sync"

	"weir/proxy/runs"
	"weir/queue"
)

// Run operations have an order: an update must not overtake its create. So a
// lane of them is sent in rounds, one at a time: a round leases the lane's
// oldest frames, plans its operations into requests (plan.go), sends those that
// do not depend on each other at the same time, and settles each frame of which
// every operation has met its fate. What has none stays pending, first in line
// for the next round.

// round is one lease of a lane of run operations on its way.
type round struct {
	f   *Forwarder
	s   *sending
	ctx context.Context //nolint:containedctx // a round is one call
	req *Request        // what all requests of the round have in common
	ops []roundOp
	raw [][]byte // decompressed frames, which ops refer to

	mu      sync.Mutex  // guards what follows, and the fates of ops
	trouble *Outcome    // an outcome that ends the round; the first one
	refusal *Outcome    // the latest refusal of content
	noRoom  error       // no case could be had: what is refused stays pending
	taken   int         // operations delivered in this round
	window  StartWindow // of the upstream, for this round
	// unrecorded: the ledger does not know of something that may have arrived.
	unrecorded bool
	gaveUp     map[int]*Outcome // frames of which all that is pending goes into quarantine
	// guilty are the runs whose create was refused in this round. They join
	// those of the lane once their frame is settled.
	guilty map[runs.ID]queue.Place
}

// roundOp is one operation of a round.
type roundOp struct {
	runs.Op

	frame  int // in the lease
	number int // in the frame

	// group is set once a request with it was begun: nothing new may be folded
	// into it then. lost: the answer to one was lost, so that a 409 means that
	// it arrived.
	group requestGroup
	lost  bool
	// young: its frame has not waited for as long as frames are to wait for
	// updates; it goes only as an update of a create that has.
	young bool
	// original is what the caller sent, where Op has its times moved: that is
	// what stays on disk.
	original *runs.Op

	fate fate
}

// fate is what became of an operation.
type fate struct {
	kind    fateKind
	place   queue.Place // fateKept
	follows bool        // fateKept: because its run's create is
}

type fateKind uint8

const (
	fatePending fateKind = iota
	fateDelivered
	fateKept
)

// sendRound sends a lease of run operations and settles it.
func (f *Forwarder) sendRound(ctx context.Context, s *sending, req *Request) error {
	r := &round{
		f: f, s: s, ctx: ctx, req: req, window: *f.starts.window.Load(),
		gaveUp: map[int]*Outcome{}, guilty: map[runs.ID]queue.Place{},
	}
	weight := min(rawBytes(s.lease), maxPlainBytes)
	if err := f.plain.Acquire(ctx, weight); err != nil {
		s.lease.Return()
		return nil // weir is stopping
	}
	defer f.plain.Release(weight)
	damaged := r.read()
	if err := f.attempts.reach(s.lease); err != nil {
		s.lease.Return()
		return fmt.Errorf("note how far the lane has been attempted: %w", err)
	}
	waves, err := r.waves()
	if err != nil {
		s.lease.Return()
		return err
	}
	if len(waves) == 0 && len(damaged) == 0 && !r.over() && !r.done() {
		f.pauseLane(s) // all of it is young
	}
	r.sendAll(waves)
	if err := r.settle(damaged); err != nil {
		return err
	}
	if r.window.Enforced && r.trouble != nil && !r.unrecorded {
		f.attempts.rest(s.lease.Lane)
	}
	return nil
}

// waves is what is to be sent; nothing if the round has to end first.
func (r *round) waves() ([][]batch, error) {
	if ok, err := r.meetWindow(); err != nil || !ok {
		return nil, err
	}
	waves := plan(r.ops, r.limits())
	if len(waves) > 0 {
		if err := r.f.attempts.stir(r.s.lease.Lane); err != nil {
			return nil, fmt.Errorf("note that the lane is being sent: %w", err)
		}
	}
	return waves, nil
}

// done reports whether every operation has its fate already.
func (r *round) done() bool {
	for i := range r.ops {
		if r.ops[i].fate.kind == fatePending {
			return false
		}
	}
	return true
}

// limits bound the round's requests.
func (r *round) limits() planLimits {
	return planLimits{
		maxOps: maxRequestOps, maxBytes: min(maxRequestRunBytes, r.f.requestBytes(r.s.run)), project: r.req.Project,
	}
}

// read decompresses and scans the lease's frames. Frames that cannot be read
// are returned: they have no operations in the round.
func (r *round) read() (damaged []int) {
	known := r.f.attempts.of(r.s.lease)
	now := r.f.cfg.Now()
	r.raw = make([][]byte, len(r.s.lease.Frames))
	for i := range r.s.lease.Frames {
		fr := &r.s.lease.Frames[i]
		raw, err := plain(partOf(fr))
		if err == nil {
			r.raw[i] = raw
			age := now.Sub(fr.AcceptedAt)
			err = r.scan(i, known[i], age >= 0 && age < r.f.window())
		}
		if err != nil {
			r.f.noteError(r.s.lease.Lane, fmt.Errorf("read a frame of run operations: %w", err))
			for len(r.ops) > 0 && r.ops[len(r.ops)-1].frame == i {
				r.ops = r.ops[:len(r.ops)-1]
			}
			damaged = append(damaged, i)
		}
	}
	return damaged
}

// scan adds frame i's operations to the round.
func (r *round) scan(i int, known *attempt, young bool) error {
	n := 0
	err := runs.Scan(r.raw[i], func(op runs.Op) error {
		o := roundOp{Op: op, frame: i, number: n, young: young}
		known.apply(&o)
		n++
		r.ops = append(r.ops, o)
		return nil
	})
	if err == nil && n != r.s.lease.Frames[i].Items {
		err = fmt.Errorf("it holds %d operations, %d were counted", n, r.s.lease.Frames[i].Items)
	}
	return err
}

// sendAll sends the plan, wave by wave, until something ends the round.
func (r *round) sendAll(waves [][]batch) {
	for _, w := range waves {
		var others sync.WaitGroup
		if r.s.probe && r.s.turn%2 == 1 {
			// A batch that fails by itself, but looks like an outage, must not
			// be the only probe for ever.
			w[0], w[len(w)-1] = w[len(w)-1], w[0]
		}
		for i := range w {
			if r.over() {
				break
			}
			b := &w[i]
			if r.s.probe || i == len(w)-1 {
				r.try(b.units, newPatience(b.units))
				continue
			}
			select {
			case r.f.slots <- struct{}{}:
				others.Go(func() {
					defer func() { <-r.f.slots; r.f.poke() }()
					r.try(b.units, newPatience(b.units))
				})
			default: // no more at a time: in this goroutine
				r.try(b.units, newPatience(b.units))
			}
		}
		others.Wait()
		if r.over() {
			return
		}
	}
}

// over reports whether the round has to end.
func (r *round) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble != nil || r.noRoom != nil || r.ctx.Err() != nil
}

// following leaves out the units whose run is in quarantine, where they follow
// it: LangSmith would take an update of a run it has not, and forget it later.
func (r *round) following(units []unit) []unit {
	var out []unit
	for _, u := range units {
		if u.op.Kind == runs.Create || u.op.Kind == runs.Feedback {
			out = append(out, u)
			continue
		}
		r.mu.Lock()
		place, ok := r.guilty[u.op.ID]
		r.mu.Unlock()
		if !ok {
			place, ok = r.f.guilty.place(r.s.lease.Lane, u.op.ID)
		}
		if !ok {
			out = append(out, u)
			continue
		}
		r.keepAt(u.members, fate{kind: fateKept, place: place, follows: true})
	}
	return out
}

// post sends units as one request.
func (r *round) post(units []unit) *Outcome {
	req := *r.req
	req.Items = 0
	for i := range units {
		u := &units[i]
		req.Runs = append(req.Runs, &u.op)
		for j := range u.attachments {
			req.Runs = append(req.Runs, &r.ops[u.attachments[j]].Op)
		}
		req.Items += len(u.members)
	}
	one := sentOf(units)
	if full, ok := r.f.take(r.s.lane, one); !ok {
		return &full
	}
	out := r.f.up.Send(r.ctx, &req)
	r.f.m.count(&out, &req, one.bytes)
	r.attempted(units, &out)
	if err := r.f.sent(r.s, one, &out); err != nil {
		r.mu.Lock()
		r.unrecorded = true
		r.mu.Unlock()
		return &Outcome{Kind: Retry, Reason: "not_settled", Scope: ScopeLane, Exchange: Exchange{Error: err.Error()}}
	}
	return &out
}

// sentOf is what a request with units counts for: a create and an update are an
// event each (LangSmith docs: usage and billing).
func sentOf(units []unit) *sentRequest {
	one := &sentRequest{events: int64(len(units))}
	seen := map[TraceID]bool{}
	for i := range units {
		one.bytes += units[i].op.Size()
		if id := TraceID(units[i].op.Trace); !units[i].op.Trace.IsZero() && !seen[id] {
			seen[id] = true
			one.traces = append(one.traces, id)
		}
	}
	return one
}

// attempted notes that a request with units was begun, and how it ended.
func (r *round) attempted(units []unit, out *Outcome) {
	lane := r.s.lease.Lane
	group, lost := groupApart, out.MayHaveArrived || out.Kind == Interrupted
	if out.Kind == Retry || out.Kind == Interrupted {
		group = r.f.attempts.newGroup()
	}
	key := r.key(units)
	again := lost && r.f.attempts.wasLost(lane, key)
	r.mu.Lock()
	before := false // something of it may have arrived in other company
	for _, u := range units {
		for _, m := range u.members {
			before = before || r.ops[m].lost
			r.ops[m].group = group
			r.ops[m].lost = r.ops[m].lost || lost
		}
	}
	r.mu.Unlock()
	if lost && !before && !again {
		// Else the lost answer may have been a 409 about a part of it.
		r.f.attempts.lostRequest(lane, key)
	}
}

// delivered notes that units were taken, and returns how many operations that is.
func (r *round) delivered(units []unit) (items int) {
	for i := range units {
		if u := &units[i]; u.op.Kind == runs.Create {
			r.f.guilty.acquit(r.s.lease.Lane, u.op.ID)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range units {
		for _, m := range u.members {
			r.ops[m].fate = fate{kind: fateDelivered}
		}
		items += len(u.members)
		if extra := len(u.members) - len(u.attachments) - 1; extra > 0 {
			r.f.m.coalesced.Add(float64(extra))
		}
	}
	r.taken += items
	return items
}

// end notes an outcome that ends the round.
func (r *round) end(out *Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble == nil || r.trouble.Kind == Interrupted {
		r.trouble = out
	}
}

// keep quarantines a unit for a refusal. heals: the case is released by itself.
func (r *round) keep(u unit, out *Outcome, heals bool) {
	place, err := r.f.openCase(r.s, out, heals)
	if err == nil {
		r.keepAt(u.members, fate{kind: fateKept, place: place})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = out
	if err != nil && r.noRoom == nil {
		r.noRoom = err
	}
	if err == nil && u.op.Kind == runs.Create && out.Refusal != RefusedDuplicate {
		r.guilty[u.op.ID] = place
	}
}

// keepAt puts operations into an open case.
func (r *round) keepAt(members []int, f fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range members {
		r.ops[m].fate = f
	}
}
