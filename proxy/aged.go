package proxy

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"weir/proxy/runs"
)

// agedTrace is a trace of a round with a run outside the start-time window, or
// one that was moved in time.
type agedTrace struct {
	id      runs.ID
	members []int // of the round's operations: those of the trace without a fate
	outside bool  // as the callers sent it

	moved bool // before, or now
	by    int64
	fresh bool // by is to be kept
	anew  bool // it was not moved before

	ops  []runs.Op // what is sent of members; nil: as they are
	kept []int     // of members: what goes to quarantine
	why  string    // for kept
}

// aged finds the traces that have a run outside the window around now, and those
// that were moved in time, in the order of the round.
func (r *round) aged(now time.Time) ([]*agedTrace, error) {
	window := r.window.around(now)
	var found map[runs.ID]*agedTrace
	add := func(id runs.ID) *agedTrace {
		if found == nil {
			found = map[runs.ID]*agedTrace{}
		}
		if found[id] == nil {
			found[id] = &agedTrace{id: id}
		}
		return found[id]
	}
	for i := range r.ops {
		if o := &r.ops[i]; o.fate.kind == fatePending && r.outside(&o.Op, window) {
			add(o.Trace).outside = true
		}
	}
	moved, err := r.f.starts.of(r.s.traces)
	if err != nil {
		return nil, err
	}
	for id, by := range moved {
		t := add(runs.ID(id))
		t.moved, t.by = true, by
	}
	if found == nil {
		return nil, nil
	}
	var out []*agedTrace
	for i := range r.ops {
		o := &r.ops[i]
		t := found[o.Trace]
		if t == nil || o.fate.kind != fatePending || o.Kind == runs.Call {
			continue
		}
		if len(t.members) == 0 {
			out = append(out, t)
		}
		t.members = append(t.members, i)
	}
	return out, nil
}

// outside reports whether an operation cannot be sent as it is. A call goes by
// itself, so that it fails nothing but itself.
func (r *round) outside(op *runs.Op, w runs.Window) bool {
	return r.window.Enforced && (op.Kind == runs.Create || op.Kind == runs.Update) && op.StartsOutside(w)
}

// decide decides about traces. By how much they are to be moved is durable on
// return.
func (r *round) decide(traces []*agedTrace, now time.Time) error {
	w := r.f.starts
	w.deciding.Lock()
	defer w.deciding.Unlock()
	ids := make([]TraceID, len(traces))
	for i, t := range traces {
		ids[i] = TraceID(t.id)
	}
	known, err := w.of(ids)
	if err != nil {
		return err
	}
	var arrived []bool
	err = r.f.accounts.with(r.s.lane, func(account string) (err error) {
		arrived, err = r.f.guard.Arrived(account, ids)
		return err
	})
	if err != nil {
		return fmt.Errorf("ask what has arrived: %w", err)
	}
	set := map[TraceID]int64{}
	for i, t := range traces {
		if by, ok := known[ids[i]]; ok { // by another lane, a moment ago
			t.moved, t.by = true, by
		}
		if r.decideOne(t, arrived[i], now); t.fresh {
			set[ids[i]] = t.by
		}
	}
	err = w.set(set)
	if errors.Is(err, errShiftsFull) {
		for _, t := range traces {
			if t.fresh {
				t.keepAll(err.Error())
			}
		}
		return nil
	}
	return err
}

// decideOne decides about one trace. arrived: something of it may be upstream.
func (r *round) decideOne(t *agedTrace, arrived bool, now time.Time) {
	window := r.window.around(now)
	if t.moved {
		ops, bad, err := r.shifted(t, t.by, window)
		switch {
		case len(bad) == 0:
			t.ops = ops
			return
		case arrived:
			t.ops, t.kept = ops, bad
			t.why = fmt.Sprintf("the rest of its trace was sent with its times moved by %s, which does not help this one", hours(time.Duration(t.by)*time.Second))
			if err != nil {
				t.why += ": " + err.Error()
			}
			return
		}
	}
	switch {
	case arrived:
		for j, m := range t.members {
			if r.outside(&r.ops[m].Op, window) {
				t.kept = append(t.kept, j)
			}
		}
		t.why = "weir cannot move its times: part of its trace was sent with the original ones, or may have been"
	case r.f.starts.shifts == nil:
		t.keepAll("weir has no place to remember by how much it moves times, and so moves none")
	case r.window.Quarantine:
		t.keepAll("weir is told to keep such traces (start_time_window_policy is quarantine)")
	default:
		r.choose(t, now)
	}
}

// choose moves a trace of which nothing was sent so that its newest time is now.
func (r *round) choose(t *agedTrace, now time.Time) {
	var newest time.Time
	root := false
	for _, m := range t.members {
		o := &r.ops[m]
		if o.Kind != runs.Create && o.Kind != runs.Update {
			continue
		}
		root = root || o.Kind == runs.Create && o.ID == t.id
		span, err := o.Span()
		if err != nil {
			t.keepAll("weir cannot move its trace's times: " + err.Error())
			return
		}
		for _, at := range []time.Time{span.Start, span.End} {
			if at.After(newest) {
				newest = at
			}
		}
	}
	by := now.Unix() - newest.Unix()
	switch {
	case !root:
		// Who began the trace may have sent its root with the original times.
		t.keepAll("weir cannot move its times: the trace's root run is not there, and may have been sent with the original ones")
		return
	case by > math.MaxInt32 || by < -math.MaxInt32:
		t.keepAll("weir cannot move its times: " + errShiftTooFar.Error())
		return
	}
	ops, bad, err := r.shifted(t, by, r.window.around(now))
	switch {
	case err != nil:
		t.keepAll("weir cannot move its trace's times: " + err.Error())
	case len(bad) > 0:
		t.keepAll("weir cannot move its times: the runs of its trace lie further apart than the window is long")
	default:
		t.ops, t.by, t.fresh, t.anew, t.moved = ops, by, true, !t.moved, true
	}
}

// keepAll has all of a trace go to quarantine.
func (t *agedTrace) keepAll(why string) {
	t.ops, t.fresh, t.anew, t.why = nil, false, false, why
	t.kept = t.kept[:0]
	for j := range t.members {
		t.kept = append(t.kept, j)
	}
}

// shifted moves a trace's operations. bad are those that cannot be moved, of
// which err names one, or are outside the window all the same.
func (r *round) shifted(t *agedTrace, by int64, window runs.Window) (ops []runs.Op, bad []int, err error) {
	ops = make([]runs.Op, len(t.members))
	for j, m := range t.members {
		o := &r.ops[m].Op
		op, serr := o.Restamp(by)
		switch {
		case serr != nil && o.Kind == runs.Feedback:
			op = *o // it is no part of the tree
		case serr != nil:
			err = serr
			bad = append(bad, j)
		case r.outside(&op, window):
			bad = append(bad, j)
		}
		ops[j] = op
	}
	return ops, bad, err
}

// apply does what was decided about a trace.
func (r *round) apply(t *agedTrace, now time.Time) {
	kept := make([]bool, len(t.members))
	for _, j := range t.kept {
		kept[j] = true
	}
	if t.ops != nil {
		for j, m := range t.members {
			if o := &r.ops[m]; !kept[j] {
				original := o.Op
				o.original, o.Op = &original, t.ops[j]
			}
		}
	}
	if len(t.kept) == 0 {
		return
	}
	out := r.windowOutcome(t, now)
	place, err := r.f.openCase(r.s, out, false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = out
	if err != nil {
		if r.noRoom == nil {
			r.noRoom = err
		}
		return
	}
	for _, j := range t.kept {
		o := &r.ops[t.members[j]]
		o.fate = fate{kind: fateKept, place: place}
		if o.Kind == runs.Create {
			r.guilty[o.ID] = place // its later operations follow it
		}
	}
}

// windowOutcome is the refusal of what weir itself keeps back of a trace.
func (r *round) windowOutcome(t *agedTrace, now time.Time) *Outcome {
	out := &Outcome{Kind: Refused, Reason: reasonWindow, Scope: ScopeLane, Refusal: RefusedContent}
	out.Exchange.Time = now
	run, start := t.id, time.Time{}
	window := r.window.around(now)
	for _, j := range t.kept {
		o := &r.ops[t.members[j]]
		if r.outside(&o.Op, window) {
			if span, err := o.Span(); err == nil {
				run, start = o.ID, span.Start
				break
			}
		}
	}
	what := fmt.Sprintf("trace %s lies outside the start-time window", t.id)
	switch {
	case start.After(now):
		what = fmt.Sprintf("run %s starts at %s, %s from now (is the clock right of the machine that it comes from?)",
			run, start.UTC().Format(time.RFC3339), hours(start.Sub(now)))
	case !start.IsZero():
		what = fmt.Sprintf("run %s started at %s, %s ago", run, start.UTC().Format(time.RFC3339), hours(now.Sub(start)))
	}
	out.Exchange.Error = fmt.Sprintf("%s; LangSmith is said to refuse what starts more than %s from now, and the whole request with it, so weir did not send it; %s",
		what, hours(r.window.Span), t.why)
	return out
}

// hours writes a span of time, to a tenth of an hour.
func hours(d time.Duration) string {
	return strings.TrimSuffix(strconv.FormatFloat(d.Hours(), 'f', 1, 64), ".0") + " h"
}
