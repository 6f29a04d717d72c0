package proxy

import (
	"context"
	"fmt"
	"slices"

	"weir/queue"
	"weir/quota"
)

// TraceState is where a trace stands.
type TraceState uint8

// The states of a trace that was taken.
const (
	// TraceUnknown: nothing is known of it.
	TraceUnknown TraceState = iota
	// TracePending: on disk, to be sent.
	TracePending
	// TraceHeld: kept back by the quota guard.
	TraceHeld
	// TraceQuarantined: refused, and kept in a case.
	TraceQuarantined
	// TraceDelivered: the upstream has taken it.
	TraceDelivered
	// TraceDropped: not kept, by the policy.
	TraceDropped
)

// Whereabouts is where a trace stands, and why.
type Whereabouts struct {
	State TraceState
	// Lane is the lane it waits in, set where it is pending or quarantined.
	Lane *LaneStatus
	// Case is the case that keeps it, set where it is quarantined.
	Case *CaseStatus
}

// Whereabouts finds out where a trace of a single export stands that was taken
// under weir's own key, in any workspace and project of weir's own. It looks
// through what is on disk, newest first.
func (f *Forwarder) Whereabouts(ctx context.Context, id TraceID) (Whereabouts, error) {
	account := f.accounts.name(Lane{Upstream: refUpstream, Credential: refKey, Workspace: refWorkspace})
	state, err := f.traceState(account, id)
	if err != nil || state == quota.Counted {
		return Whereabouts{State: TraceDelivered}, err // counted before it is forgotten
	}
	var at *queue.FrameMeta
	err = f.q.EachFrame(ctx, queue.FrameFilter{Newest: true}, func(m queue.FrameMeta) bool {
		if slices.Contains(m.Traces, id) {
			m.Traces = nil // valid during the call only
			at = &m
		}
		return at == nil
	})
	if err != nil {
		return Whereabouts{}, fmt.Errorf("look for trace %x: %w", id, err)
	}
	if at != nil {
		return f.whereabouts(at), nil
	}
	if state, err = f.traceState(account, id); err != nil { // it may have gone meanwhile
		return Whereabouts{}, err
	}
	switch state {
	case quota.Counted:
		return Whereabouts{State: TraceDelivered}, nil
	case quota.Dropped:
		return Whereabouts{State: TraceDropped}, nil
	case quota.Held:
		return Whereabouts{State: TraceHeld}, nil
	case quota.Reserved, quota.Releasing:
		return Whereabouts{State: TracePending}, nil // on its way from one place to another
	default:
		return Whereabouts{}, nil
	}
}

func (f *Forwarder) traceState(account string, id TraceID) (quota.State, error) {
	states, err := f.guard.States(account, []quota.TraceID{id})
	if err != nil || len(states) != 1 {
		return quota.Unknown, err
	}
	return states[0], nil
}

// whereabouts says where a frame stands.
func (f *Forwarder) whereabouts(m *queue.FrameMeta) Whereabouts {
	w := Whereabouts{State: TracePending}
	s := f.Status(nil)
	for i := range s.Lanes {
		if s.Lanes[i].ID == m.Lane {
			w.Lane = &s.Lanes[i]
		}
	}
	switch {
	case m.Place == queue.Pending:
	case f.holds.has(m.Place):
		w.State = TraceHeld
	default:
		w.State = TraceQuarantined
		for i := range s.Cases {
			if s.Cases[i].Place == m.Place {
				w.Case = &s.Cases[i]
			}
		}
	}
	return w
}
