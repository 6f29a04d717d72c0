package proxy

import (
	"context"
	"fmt"
	"time"

	"weir/queue"
)

const (
	// moveBytes and moveFrames bound what is moved to another lane at a time.
	moveBytes  = 8 << 20
	moveFrames = 64
	// casePause is how long data is left alone that others have in hand.
	casePause = 20 * time.Millisecond
)

// mover moves the data of a case to the lane of weir's own key. Each step is one
// transaction in which old frames go and new ones come, so that it can be cut
// short anywhere. The oldest goes first, and nothing of the old lane is sent
// meanwhile: an update cannot overtake its create from one lane in the other.
type mover struct {
	f        *Forwarder
	c        *CaseStatus
	from, to Lane
}

// move moves everything, and returns the items that came from the case and those
// that waited behind it.
func (m *mover) move(ctx context.Context) (items, waiting int64, err error) {
	resume, err := m.f.holdLane(ctx, m.c.Lane)
	if err != nil {
		return 0, 0, err
	}
	defer resume()
	began := m.f.cfg.Now()
	for m.f.caseHolds(m.c.Place) {
		n, err := m.moveFrom(ctx, m.c.Place, time.Time{})
		items += n
		if err == nil && n == 0 {
			err = rest(ctx, casePause) // the queue has the rest in hand, to copy it elsewhere
		}
		if err != nil {
			return items, 0, err
		}
	}
	m.f.cases.forgetAt(m.c.Place)
	if err := m.f.q.CloseCase(m.c.Place); err != nil {
		return items, 0, err
	}
	if m.c.healing() == healsWithLane {
		waiting, err = m.moveFrom(ctx, queue.Pending, began)
	}
	for _, l := range m.f.q.Lanes() {
		if l.Descriptor == m.to.descriptor() {
			m.f.tryAtOnce(l.ID, m.to)
		}
	}
	return items, waiting, err
}

// moveFrom moves what of the lane stands at a place; with a time, what was
// accepted before it.
func (m *mover) moveFrom(ctx context.Context, p queue.Place, before time.Time) (items int64, err error) {
	for ctx.Err() == nil {
		lease, err := m.f.q.Lease(queue.LeaseOptions{
			Lane: m.c.Lane, Place: p, MaxRawBytes: moveBytes, MaxFrames: moveFrames, InOrder: true,
		})
		if lease == nil || err != nil {
			return items, err
		}
		n, more, err := m.step(lease, before)
		items += n
		if err != nil || !more {
			return items, err
		}
	}
	return items, ctx.Err()
}

// step moves a lease. It reports whether there may be more to move.
func (m *mover) step(lease *queue.Lease, before time.Time) (items int64, more bool, err error) {
	defer lease.Return()
	settlements := make([]queue.Settlement, 0, len(lease.Frames))
	more = true
	for i := range lease.Frames {
		fr := &lease.Frames[i]
		if !before.IsZero() && fr.AcceptedAt.After(before) {
			more = false
			break
		}
		raw, err := plain(partOf(fr))
		if err != nil {
			return 0, false, err
		}
		// Before the data has left the account, or a kill would leave its share
		// taken for good. It is decided about anew when it is sent.
		if err := m.f.giveBack(m.from, m.to, fr.Traces); err != nil {
			return 0, false, err
		}
		settlements = append(settlements, queue.Settlement{Frame: i, Result: queue.ResultReplaced, Parts: []queue.Part{{
			Payload: raw, Items: fr.Items, Traces: fr.Traces, Lane: m.to.descriptor(),
		}}})
		items += int64(fr.Items)
	}
	if err := lease.Settle(settlements...); err != nil {
		return 0, false, fmt.Errorf("move data to the lane of weir's own key: %w", err)
	}
	return items, more, nil
}

// giveBack takes back what traces have reserved with the account of a lane, if it
// is not the one they go to.
func (f *Forwarder) giveBack(from, to Lane, ids []TraceID) error {
	if len(ids) == 0 || f.accounts.name(from) == f.accounts.name(to) {
		return nil
	}
	return f.refund(from, ids)
}

// refund takes back what traces of a lane have reserved, as far as nothing of
// them can have arrived.
func (f *Forwarder) refund(lane Lane, ids []TraceID) error {
	err := f.accounts.with(lane, func(account string) error { return f.guard.GiveBack(account, ids) })
	if err != nil {
		return fmt.Errorf("give back shares of the quota: %w", err)
	}
	return nil
}

// caseHolds reports whether something stands in a case.
func (f *Forwarder) caseHolds(p queue.Place) bool {
	c, _, ok := f.q.Case(p)
	return ok && c.Frames > 0
}

// rest waits for d, or until ctx is done.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// holdLane has nothing of a lane sent until resume is called, and waits until
// what is under way has ended.
func (f *Forwarder) holdLane(ctx context.Context, id queue.LaneID) (resume func(), err error) {
	run := f.lane(id)
	f.mu.Lock()
	run.moving++
	f.mu.Unlock()
	resume = func() {
		f.mu.Lock()
		run.moving--
		f.mu.Unlock()
		f.poke()
	}
	for {
		f.mu.Lock()
		quiet := run.sending == 0 && !run.entering
		f.mu.Unlock()
		if quiet {
			return resume, nil
		}
		if err := rest(ctx, casePause); err != nil {
			resume()
			return nil, err
		}
	}
}

// enter reports whether a send of a lane may begin; leave says that it has, or
// that it will not.
func (f *Forwarder) enter(run *laneRun) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	run.entering = run.moving == 0
	return run.entering
}

func (f *Forwarder) leave(run *laneRun) {
	f.mu.Lock()
	defer f.mu.Unlock()
	run.entering = false
}
