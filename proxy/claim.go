package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"weir/queue"
	"weir/quota"
)

// What is sent is looked at once more: since it was admitted the month may have
// turned, or LangSmith or the user may have lowered the limit. That is what
// keeps a limit to the trace, whatever happened meanwhile.

const reasonMonth = "month_unconfirmed"

// accountWait is the wait of an account.
func accountWait(account string) waitKey { return waitKey("account/" + account) }

// distinctTraces are the traces of a lease's frames.
func distinctTraces(l *queue.Lease) []TraceID {
	if len(l.Frames) == 1 {
		return l.Frames[0].Traces
	}
	n := 0
	for i := range l.Frames {
		n += len(l.Frames[i].Traces)
	}
	out := make([]TraceID, 0, n)
	seen := make(map[TraceID]struct{}, n)
	for i := range l.Frames {
		for _, id := range l.Frames[i].Traces {
			if _, have := seen[id]; !have {
				seen[id] = struct{}{}
				out = append(out, id)
			}
		}
	}
	return out
}

// claim makes sure that every trace of a lease may be sent. If some must not be,
// they are held and the lease has ended.
func (f *Forwarder) claim(s *sending) (ok bool, err error) {
	s.traces = distinctTraces(s.lease)
	if len(s.traces) == 0 {
		return true, nil
	}
	err = f.accounts.with(s.lane, func(account string) (err error) {
		s.passage, err = f.guard.Claim(account, s.traces)
		return err
	})
	switch {
	case errors.Is(err, quota.ErrMonthUnconfirmed):
		s.lease.Return()
		f.waits.failed(accountWait(f.accounts.name(s.lane)), &Outcome{
			Kind: Retry, Reason: reasonMonth, Scope: ScopeAccount, RetryAfter: time.Minute, Exchange: Exchange{Error: err.Error()},
		}, s.began)
		f.pokeWatch()
		return false, nil
	case err != nil:
		s.lease.Return()
		return false, fmt.Errorf("ask the quota guard: %w", err)
	}
	verdicts, held := s.passage.Verdicts, map[TraceID]bool{}
	for i, v := range verdicts {
		// What is Releasing and stands here has left the hold already.
		if v.State == quota.Held || v.State == quota.Dropped {
			held[s.traces[i]] = true
		}
	}
	s.fresh = slices.ContainsFunc(verdicts, func(v quota.Verdict) bool { return v.State != quota.Counted })
	if len(held) == 0 {
		return true, nil
	}
	return false, f.holdBack(s, held)
}

// holdBack moves held traces of a lease into the hold. The rest is pending
// again.
func (f *Forwarder) holdBack(s *sending, held map[TraceID]bool) error {
	place, err := f.holds.place("")
	if err != nil {
		s.lease.Return()
		return err
	}
	var settlements []queue.Settlement
	for i := range s.lease.Frames {
		fr := &s.lease.Frames[i]
		if !slices.ContainsFunc(fr.Traces, func(id TraceID) bool { return held[id] }) {
			continue
		}
		settled, err := f.byTrace(s.lane, i, fr, func(id TraceID) queue.Place {
			if held[id] {
				return place
			}
			return queue.Pending
		})
		if err != nil {
			s.lease.Return()
			return err
		}
		settlements = append(settlements, settled)
	}
	err = s.lease.Settle(settlements...)
	if errors.Is(err, queue.ErrKeptFull) {
		f.press()
	}
	if err != nil {
		return fmt.Errorf("hold back what exceeds the limit: %w", err)
	}
	f.inHold(s.lane, slices.Collect(maps.Keys(held)))
	return nil
}

// byTrace settles a frame by where each of its traces belongs now.
func (f *Forwarder) byTrace(lane Lane, i int, fr *queue.Frame, to func(TraceID) queue.Place) (queue.Settlement, error) {
	divider := f.dividers[lane.Protocol]
	if divider == nil {
		return queue.Settlement{}, fmt.Errorf("split a frame by trace: data of protocol %s cannot be cut", lane.Protocol)
	}
	raw, err := plain(partOf(fr))
	if err != nil {
		return queue.Settlement{}, err
	}
	places := []queue.Place{queue.Pending}
	at := map[queue.Place]int{queue.Pending: 0}
	for _, id := range fr.Traces {
		if p := to(id); at[p] == 0 && p != queue.Pending {
			at[p] = len(places)
			places = append(places, p)
		}
	}
	pieces, err := divider.Split(raw, len(places), func(id TraceID) int { return at[to(id)] })
	if err != nil {
		return queue.Settlement{}, fmt.Errorf("split a frame by trace: %w", err)
	}
	s := queue.Settlement{Frame: i, Result: queue.ResultReplaced}
	for n := range pieces {
		if pieces[n].Items > 0 {
			s.Parts = append(s.Parts, queue.Part{
				Payload: pieces[n].Payload, Items: pieces[n].Items, Traces: pieces[n].Traces, Place: places[n],
			})
		}
	}
	if len(s.Parts) != 1 {
		return s, nil
	}
	if place := s.Parts[0].Place; place != queue.Pending { // all of it: as it is
		return queue.Settlement{Frame: i, Result: queue.ResultKept, Place: place}, nil
	}
	return queue.Settlement{Frame: i, Result: queue.ResultPending}, nil
}

// take counts a request against the hour's limits. If it does not fit, the
// outcome says until when to wait; else sent must follow.
func (f *Forwarder) take(lane Lane, r *sentRequest) (out Outcome, ok bool) {
	var until time.Time
	_ = f.accounts.with(lane, func(account string) error {
		r.taken, until, ok = f.guard.Take(account, r.events, r.bytes)
		return nil
	})
	if ok {
		return Outcome{}, true
	}
	wait := max(until.Sub(f.cfg.Now()), time.Second)
	return Outcome{
		Kind: Retry, Reason: reasonHour, Scope: ScopeAccount, RetryAfter: wait,
		Exchange: Exchange{Error: "this hour's events or bytes are used up; sending goes on with the next hour"},
	}, false
}

// reasonHour is the reason of waits for the next hour that weir keeps by itself.
const reasonHour = "hour_limit"

// sent notes what a request's outcome says about the key and the quota, before
// its data is settled: events and bytes that did not arrive are given back, and
// traces that may have are never given back.
func (f *Forwarder) sent(s *sending, r *sentRequest, out *Outcome) error {
	f.judge(s, out)
	var observed error
	if out.Exchange.Status != 0 {
		if err := f.guard.Observe(out.Exchange.ServerDate); err != nil {
			observed = fmt.Errorf("turn the month: %w", err)
		}
	}
	arrived, unknown := out.Kind == Delivered, out.MayHaveArrived || out.Kind == Interrupted
	return errors.Join(observed, f.accounts.with(s.lane, func(account string) error {
		f.guard.Landed(account, r.taken, arrived || unknown, out.Exchange.ServerDate)
		if arrived || !unknown {
			return nil // what was delivered is counted once it is known what
		}
		return f.guard.Attempted(account, r.traces)
	}))
}

// sentRequest is what one request had.
type sentRequest struct {
	events, bytes int64
	traces        []TraceID
	taken         quota.Taken
}

// passed tells the guard that nothing of a lease is under way any more, and that
// what has become of it was told. Before a settlement, so that who sees one does
// not find the traces under way still. May be called again.
func (f *Forwarder) passed(s *sending) {
	if s.passage != nil {
		f.guard.Ended(s.passage)
	}
}

// delivered counts traces of which the upstream has taken something. It comes
// before their data is forgotten.
func (f *Forwarder) delivered(lane Lane, traces []TraceID) error {
	if len(traces) == 0 {
		return nil
	}
	err := f.accounts.with(lane, func(account string) error { return f.guard.Delivered(account, traces) })
	if err != nil {
		return fmt.Errorf("count delivered traces: %w", err)
	}
	f.recent.note(traces, fateSent, f.cfg.Now())
	return nil
}
