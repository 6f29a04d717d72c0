package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"weir/proxy/runs"
	"weir/queue"
	"weir/quota"
)

// Releasing goes in two steps. First the guard lets go of traces, as many as
// there is room for: they are Releasing then, and what comes of them meanwhile
// joins the hold, so that no update goes ahead of its create. Then everything
// the hold has of them moves out (sweep), and they are ordinary admitted traces
// again. Either step can be cut short anywhere and is taken up by the next start.

const (
	holdTick = time.Second
	// releaseBatch is how many traces are on their way out of the hold at once.
	releaseBatch = 20_000
	// sweepBytes bounds what is moved in one step.
	sweepBytes = 8 << 20
	// expireEvery is how often held data is looked at for its age.
	expireEvery = time.Minute
)

// holder keeps the holds: it does the releases that are due, and drops what has
// been held for too long. One goroutine runs it.
type holder struct {
	f       *Forwarder
	expired time.Time // when held data was last looked at for its age
	swept   bool      // what an earlier process left was looked at
	reason  string    // of the drops that are being made
}

// run works until ctx is done.
func (h *holder) run(ctx context.Context) {
	tick := time.NewTicker(holdTick)
	defer tick.Stop()
	var last time.Time
	for {
		if err := h.round(ctx); err != nil && ctx.Err() == nil {
			h.f.noteHoldError(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.f.holdWake:
		}
		now := h.f.cfg.Now()
		if gap := now.Sub(last); !last.IsZero() && (gap > 10*holdTick || gap < 0) {
			h.f.poke() // the clock was set: timers do not know
		}
		last = now
	}
}

// round does what is due.
func (h *holder) round(ctx context.Context) error {
	f := h.f
	if err := f.guard.Advance(); err != nil {
		return err
	}
	for _, l := range f.q.Lanes() { // what is only held is sent by nobody, and has an account, too
		if lane, err := parseLane(l.Descriptor); err == nil {
			f.accounts.name(lane)
		}
	}
	if !h.swept {
		if err := h.takeUp(ctx); err != nil {
			return err
		}
		h.swept = true
	}
	stranded := f.stranded.Swap(false)
	for _, account := range f.accounts.all() {
		if stranded {
			if err := h.sweep(ctx, account); err != nil {
				f.stranded.Store(true)
				return err
			}
		}
		due, _ := f.guard.Due(account)
		for _, o := range due {
			err := h.release(ctx, account, o)
			if errors.Is(err, quota.ErrMonthUnconfirmed) {
				continue // the order stands
			}
			if err != nil {
				h.swept = false // what was let go of is still there
				return fmt.Errorf("release held traces: %w", err)
			}
		}
	}
	return h.expire(ctx)
}

// takeUp goes on where an earlier process stopped, and restores what a ledger
// has lost.
func (h *holder) takeUp(ctx context.Context) error {
	f := h.f
	if !f.guard.Whole() {
		if err := h.restore(ctx); err != nil {
			return fmt.Errorf("restore the ledger from what is on disk: %w", err)
		}
		if err := f.guard.Restored(); err != nil {
			return err
		}
	}
	for _, account := range f.accounts.all() {
		var ids []TraceID
		if err := f.guard.Releasing(account, func(id TraceID) bool { ids = append(ids, id); return true }); err != nil {
			return err
		}
		if err := h.sweep(ctx, account); err != nil {
			return err
		}
		if err := f.guard.Released(account, ids); err != nil {
			return err
		}
	}
	return nil
}

// restore tells the guard of all traces that have data on disk.
func (h *holder) restore(ctx context.Context) error {
	f := h.f
	lanes := h.lanes()
	var failed error
	err := f.q.EachFrame(ctx, queue.FrameFilter{}, func(m queue.FrameMeta) bool {
		lane, ok := lanes[m.Lane]
		if !ok || len(m.Traces) == 0 {
			return true
		}
		failed = f.accounts.with(lane, func(account string) error {
			return f.guard.Restore(account, m.Traces, f.holds.has(m.Place))
		})
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// lanes are the lanes with data, by number.
func (h *holder) lanes() map[queue.LaneID]Lane {
	out := map[queue.LaneID]Lane{}
	for _, l := range h.f.q.Lanes() {
		if lane, err := parseLane(l.Descriptor); err == nil {
			out[l.ID] = lane
		}
	}
	return out
}

// ofAccount are the lanes whose data counts for an account.
func (h *holder) ofAccount(account string) map[queue.LaneID]Lane {
	out := h.lanes()
	for id, lane := range out {
		if h.f.accounts.name(lane) != account {
			delete(out, id)
		}
	}
	return out
}

// release does one order.
func (h *holder) release(ctx context.Context, account string, o quota.Order) error {
	lanes := h.ofAccount(account)
	left := o.Most
	total := 0
	for _, onlyFailed := range []bool{true, false} { // what shows an error comes first
		for left != 0 {
			ids, err := h.releaseSome(ctx, account, lanes, &letGo{order: o, most: left, onlyFailed: onlyFailed})
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				break
			}
			total += len(ids)
			if left > 0 {
				left -= int64(len(ids))
			}
		}
	}
	if total > 0 {
		h.f.cfg.Logger.Info("held traces are released", "account", account, "traces", total, "reason", string(o.Reason))
	}
	return h.f.guard.Done(account, o.ID)
}

// releaseSome does one pass of an order, and returns which traces it released.
func (h *holder) releaseSome(ctx context.Context, account string, lanes map[queue.LaneID]Lane, p *letGo) ([]TraceID, error) {
	guard, most := h.f.guard, min(p.most, releaseBatch)
	if p.most >= 0 {
		if err := guard.Spend(account, p.order.ID, most); err != nil {
			return nil, err
		}
	}
	ids, err := h.letGo(ctx, account, lanes, p)
	if p.most >= 0 {
		err = errors.Join(err, guard.Spend(account, p.order.ID, int64(len(ids))-most))
	}
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	if err := h.sweep(ctx, account); err != nil {
		return nil, err
	}
	return ids, guard.Released(account, ids)
}

// letGo is one pass over the hold.
type letGo struct {
	order      quota.Order
	most       int64
	onlyFailed bool
}

// letGo has the guard let go of a batch of held traces, in the order's order.
func (h *holder) letGo(ctx context.Context, account string, lanes map[queue.LaneID]Lane, p *letGo) (ids []TraceID, err error) {
	f := h.f
	most := int64(releaseBatch)
	if p.most >= 0 {
		most = min(most, p.most)
	}
	places := f.holds.of(p.order.Project)
	filter := queue.FrameFilter{Newest: !p.order.Oldest, Places: func(at queue.Place) bool { return slices.Contains(places, at) }}
	var failed error
	err = f.q.EachFrame(ctx, filter, func(m queue.FrameMeta) bool {
		if _, ours := lanes[m.Lane]; !ours {
			return true
		}
		traces := slices.Clone(m.Traces)
		var moved []bool
		moved, failed = f.guard.Release(account, &quota.Choice{
			IDs: traces, Most: most - int64(len(ids)), OnlyFailed: p.onlyFailed, Project: p.order.Project, Month: p.order.Month,
		})
		for i, yes := range moved {
			if yes {
				ids = append(ids, traces[i])
			}
		}
		return failed == nil && int64(len(ids)) < most
	})
	if err == nil {
		err = failed
	}
	return ids, err
}

// sweep moves out of the hold what is not held any more: what is released
// becomes pending, what is dropped is dropped. It ends when it finds no more.
func (h *holder) sweep(ctx context.Context, account string) error {
	for {
		found, moved, err := h.sweepOnce(ctx, account)
		if err != nil || found == 0 {
			return err
		}
		if moved > 0 {
			continue
		}
		// The queue has them in hand, to copy them elsewhere.
		pause := time.NewTimer(sweepPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// sweepPause is how long frames that are being copied are left alone.
const sweepPause = 20 * time.Millisecond

func (h *holder) sweepOnce(ctx context.Context, account string) (seen, moved int, err error) {
	f := h.f
	lanes := h.ofAccount(account)
	type standing struct {
		lane  queue.LaneID
		place queue.Place
	}
	found := map[standing]map[queue.FrameID]bool{}
	var failed error
	err = f.q.EachFrame(ctx, queue.FrameFilter{Places: f.holds.has}, func(m queue.FrameMeta) bool {
		if _, ours := lanes[m.Lane]; !ours {
			return true
		}
		var states []quota.State
		if states, failed = f.guard.States(account, m.Traces); failed != nil {
			return false
		}
		if slices.Contains(states, quota.Unknown) {
			// It was held for another account, before weir's own key was replaced.
			if failed = f.guard.Restore(account, slices.Clone(m.Traces), true); failed != nil {
				return false
			}
		}
		if slices.ContainsFunc(states, leavesHold) {
			at := standing{m.Lane, m.Place}
			if found[at] == nil {
				found[at] = map[queue.FrameID]bool{}
			}
			found[at][m.ID] = true
			seen++
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return 0, 0, err
	}
	for at, frames := range found {
		n, err := h.sweepFrames(ctx, account, lanes[at.lane], queue.LeaseOptions{
			Lane: at.lane, Place: at.place, MaxRawBytes: sweepBytes, Only: frames,
		})
		moved += n
		if err != nil {
			return seen, moved, err
		}
	}
	return seen, moved, nil
}

// leavesHold reports whether data of a trace in the state has no business in the
// hold. Of what is unknown nothing was ever let go.
func leavesHold(s quota.State) bool { return s != quota.Held && s != quota.Unknown }

// sweepFrames moves what leaves the hold of the frames that the options name.
func (h *holder) sweepFrames(ctx context.Context, account string, lane Lane, o queue.LeaseOptions) (moved int, err error) {
	for ctx.Err() == nil {
		lease, err := h.f.q.Lease(o)
		if lease == nil || err != nil {
			return moved, err
		}
		n := len(lease.Frames)
		for i := range lease.Frames {
			delete(o.Only, lease.Frames[i].ID)
		}
		if err := h.sweepLease(account, lane, o.Place, lease); err != nil {
			lease.Return()
			return moved, err
		}
		moved += n
	}
	return moved, ctx.Err()
}

func (h *holder) sweepLease(account string, lane Lane, hold queue.Place, lease *queue.Lease) error {
	var settlements []queue.Settlement
	for i := range lease.Frames {
		fr := &lease.Frames[i]
		states, err := h.f.guard.States(account, fr.Traces)
		if err != nil {
			return err
		}
		stays, drops := map[TraceID]bool{}, 0
		for n, s := range states {
			if s == quota.Dropped {
				drops++
			}
			stays[fr.Traces[n]] = !leavesHold(s) || s == quota.Dropped
		}
		if drops > 0 && drops == len(fr.Traces) {
			settlements = append(settlements, queue.Settlement{
				Frame: i, Result: queue.ResultDropped, Reason: cmp.Or(h.reason, reasonHoldAge), Blobs: blobsOf(lane, fr),
			})
			continue
		}
		s, err := h.separate(lane, i, fr, func(id TraceID) queue.Place {
			if stays[id] {
				return hold
			}
			return queue.Pending
		}, states)
		if err != nil {
			return err
		}
		settlements = append(settlements, s)
	}
	if err := lease.Settle(settlements...); err != nil {
		return fmt.Errorf("move data out of the hold: %w", err)
	}
	return nil
}

// separate settles a held frame. Where it has traces to drop beside others, they
// become frames of their own, which are dropped when they are met again.
func (h *holder) separate(lane Lane, i int, fr *queue.Frame, to func(TraceID) queue.Place, states []quota.State) (queue.Settlement, error) {
	dropped := map[TraceID]bool{}
	for n, s := range states {
		if s == quota.Dropped {
			dropped[fr.Traces[n]] = true
		}
	}
	if len(dropped) == 0 {
		return h.f.byTrace(lane, i, fr, to)
	}
	raw, err := plain(partOf(fr))
	if err != nil {
		return queue.Settlement{}, err
	}
	const pending, stays, drops = 0, 1, 2
	var hold queue.Place
	pieces, err := h.f.dividers[lane.Protocol].Split(raw, 3, func(id TraceID) int {
		switch p := to(id); {
		case dropped[id]:
			hold = p
			return drops
		case p != queue.Pending:
			hold = p
			return stays
		default:
			return pending
		}
	})
	if err != nil {
		return queue.Settlement{}, fmt.Errorf("split a frame by trace: %w", err)
	}
	s := queue.Settlement{Frame: i, Result: queue.ResultReplaced}
	for n := range pieces {
		if pieces[n].Items == 0 {
			continue
		}
		part := queue.Part{Payload: pieces[n].Payload, Items: pieces[n].Items, Traces: pieces[n].Traces}
		if n != pending {
			part.Place = hold
		}
		s.Parts = append(s.Parts, part)
	}
	return s, nil
}

// blobsOf are the blobs that a frame of run operations refers to.
func blobsOf(lane Lane, fr *queue.Frame) (out []string) {
	if lane.Protocol != ProtocolRuns {
		return nil
	}
	raw, err := plain(partOf(fr))
	if err != nil {
		return nil // they stay behind until the next start
	}
	_ = runs.Scan(raw, func(op runs.Op) error {
		if op.Blob != "" {
			out = append(out, op.Blob)
		}
		return nil
	})
	return out
}

// expire drops what has been held for too long.
func (h *holder) expire(ctx context.Context) error {
	f := h.f
	now := f.cfg.Now()
	pressed := f.pressed.Swap(false)
	if !pressed && now.Sub(h.expired) < expireEvery && !now.Before(h.expired) {
		return nil
	}
	h.expired = now
	limit := now.Add(-f.cfg.HoldMaxAge)
	lanes := h.lanes()
	old := map[string][]TraceID{}
	var freed, wanted int64
	h.reason = reasonHoldAge
	if pressed {
		h.reason = reasonHoldFull
		wanted = f.q.Stats().MaxHeld / 20
	}
	err := f.q.EachFrame(ctx, queue.FrameFilter{Places: f.holds.has}, func(m queue.FrameMeta) bool {
		lane, ok := lanes[m.Lane]
		if !ok {
			return true
		}
		if !m.AcceptedAt.Before(limit) && freed >= wanted {
			return false // segments stand in order, nearly: the next round sees the rest
		}
		freed += m.Bytes
		account := f.accounts.name(lane)
		old[account] = append(old[account], m.Traces...)
		return true
	})
	if err != nil {
		return err
	}
	for account, ids := range old {
		if err := f.guard.DropHeld(account, ids); err != nil {
			return err
		}
		f.cfg.Logger.Warn("held traces are dropped: they are too old, or the hold is full", "account", account, "traces", len(ids))
		if err := h.sweep(ctx, account); err != nil {
			return err
		}
	}
	return nil
}
