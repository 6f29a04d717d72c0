package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/proxy/runs"
	"weir/queue"
	"weir/quota"
)

// TraceState is what has become of data of a trace.
type TraceState string

// The states of a trace's data. They are stable words.
const (
	TracePending     TraceState = "pending"     // on disk, to be sent
	TraceHeld        TraceState = "held"        // on disk, kept back by the quota guard
	TraceQuarantined TraceState = "quarantined" // on disk, refused by the upstream
	TraceDelivered   TraceState = "delivered"   // taken by the upstream
	TracePassedOn    TraceState = "passed_on"   // only what follows on it came here, and was passed on
	TraceDropped     TraceState = "dropped"     // not kept, by the quota policy
	TraceDiscarded   TraceState = "discarded"   // dropped by a person, in this process
	TraceUnknown     TraceState = "unknown"     // nothing is known of it
)

// TracePlace is one place where a trace is, or one thing that became of it.
// Fields that do not fit the state are zero.
type TracePlace struct {
	State TraceState

	// Items of the trace that are there; AtLeast: there were too many to count.
	Items   int64
	AtLeast bool
	// Lane and Of are the lane of what is on disk; Of is nil if it is not known.
	Lane queue.LaneID
	Of   *LaneStatus
	// Since is when the oldest of it was accepted, sent or discarded, Last when
	// the latest was. Of what was delivered by an earlier process only the month
	// is known, and both are zero.
	Since, Last time.Time
	// Reason is a short stable word for why it is there, Detail says it in a
	// sentence, and Until is when that may end.
	Reason, Detail string
	Until          time.Time
	// Case is the case that it stands in.
	Case *CaseStatus
	// Account, Month and Project are what the ledger knows.
	Account string
	Month   quota.Month
	Project string
}

// Whereabouts is where a trace is: everywhere, as a trace may be in several
// places at once. No place: nothing is known of it.
type Whereabouts struct {
	Trace  TraceID
	Places []TracePlace
}

// State is that of the place that matters most: what is still on disk comes
// before what became of the rest.
func (w *Whereabouts) State() TraceState {
	for _, s := range []TraceState{
		TraceQuarantined, TraceHeld, TracePending, TraceDelivered, TraceDiscarded, TraceDropped, TracePassedOn,
	} {
		if slices.ContainsFunc(w.Places, func(p TracePlace) bool { return p.State == s }) {
			return s
		}
	}
	return TraceUnknown
}

// ParseTraceID reads a trace id: a UUID with or without hyphens, or the 32
// hexadecimal digits of OpenTelemetry, in any letter case.
func ParseTraceID(text string) (TraceID, error) {
	id, err := runs.ParseID(strings.TrimSpace(text))
	if err != nil {
		return TraceID{}, fmt.Errorf("%w: give a trace id of 32 hexadecimal digits, with or without hyphens", err)
	}
	return TraceID(id), nil
}

// findRawBytes bounds what is decompressed to count a trace's items.
const findRawBytes = 64 << 20

// Find tells where a trace is. It looks through the trace ids beside all frames
// on disk, which takes a second or two with gigabytes of them, and at the ledger.
func (f *Forwarder) Find(ctx context.Context, id TraceID) (Whereabouts, error) {
	w := Whereabouts{Trace: id}
	found := finder{f: f, id: id, at: map[standing]*TracePlace{}, left: findRawBytes}
	if err := found.look(ctx); err != nil {
		return w, fmt.Errorf("look for the trace on disk: %w", err)
	}
	known, err := f.guard.Recall(id)
	if err != nil {
		return w, fmt.Errorf("look for the trace in the ledger: %w", err)
	}
	w.Places = found.places()
	first, last, sent := f.recent.find(id, fateSent)
	for _, account := range slices.Sorted(maps.Keys(known)) {
		m := known[account]
		p := TracePlace{Account: account, Month: m.Month, Project: m.Project}
		switch {
		case m.Counted:
			p.State, p.Since, p.Last, sent = TraceDelivered, first, last, false
		case m.State == quota.Dropped:
			p.State, p.Reason = TraceDropped, f.dropReason()
			p.Detail = "The quota policy does not let it be sent; what comes of it later is dropped, too."
		case m.State == quota.Follower && len(w.Places) == 0:
			p.State = TracePassedOn
			p.Detail = "Its runs did not come through this weir. Attachments and feedback did, and were passed on; they count for nothing."
			p.Since, p.Last = first, last
		default:
			continue
		}
		w.Places = append(w.Places, p)
	}
	if sent { // and an account of another name has it by now
		w.Places = append(w.Places, TracePlace{State: TraceDelivered, Since: first, Last: last})
	}
	if first, last, ok := f.recent.find(id, fateDiscarded); ok {
		w.Places = append(w.Places, TracePlace{
			State: TraceDiscarded, Since: first, Last: last, Reason: reasonDiscarded, Detail: "Somebody discarded it: the case that it stood in, or frames of the queue.",
		})
	}
	return w, nil
}

// dropReason is the policy by which traces are dropped now.
func (f *Forwarder) dropReason() string {
	g := gate{Quota: f.Quota}
	return g.dropReason()
}

// standing is where frames stand.
type standing struct {
	lane  queue.LaneID
	place queue.Place
}

// finder looks for one trace on disk.
type finder struct {
	f    *Forwarder
	id   TraceID
	at   map[standing]*TracePlace
	left int64 // bytes that may still be decompressed
}

// look goes through all frames.
func (d *finder) look(ctx context.Context) error {
	lanes := (&holder{f: d.f}).lanes()
	var failed error
	err := d.f.q.EachFrame(ctx, queue.FrameFilter{}, func(m queue.FrameMeta) bool {
		if !slices.Contains(m.Traces, d.id) {
			return true
		}
		key := standing{m.Lane, m.Place}
		p := d.at[key]
		if p == nil {
			p = &TracePlace{Lane: m.Lane, Since: m.AcceptedAt, Last: m.AcceptedAt}
			d.at[key] = p
		}
		if m.AcceptedAt.Before(p.Since) {
			p.Since = m.AcceptedAt
		}
		if m.AcceptedAt.After(p.Last) {
			p.Last = m.AcceptedAt
		}
		n, exact, err := d.count(lanes[m.Lane], &m)
		failed = err
		p.Items += n
		p.AtLeast = p.AtLeast || !exact
		return failed == nil
	})
	return errors.Join(err, failed)
}

// count counts the trace's items in a frame. One at least is there.
func (d *finder) count(lane Lane, m *queue.FrameMeta) (items int64, exact bool, err error) {
	if len(m.Traces) == 1 && lane.Protocol != ProtocolRuns { // operations need not name their trace
		return int64(m.Items), true, nil
	}
	divider := d.f.dividers[lane.Protocol]
	if divider == nil || d.left <= 0 {
		return 1, false, nil
	}
	n, err := d.countIn(divider, m.ID)
	switch {
	case errors.Is(err, queue.ErrClosed):
		return 0, false, err
	case err != nil || n == 0:
		return 1, false, nil //nolint:nilerr // settled, moved or damaged meanwhile: it was there
	}
	return n, true, nil
}

// countIn counts the trace's items in a frame that is read for it.
func (d *finder) countIn(divider Divider, id queue.FrameID) (int64, error) {
	fr, err := d.f.q.ReadFrame(id)
	if err != nil {
		return 0, err
	}
	d.left -= int64(fr.RawBytes)
	raw, err := plain(partOf(&fr))
	if err != nil {
		return 0, err
	}
	pieces, err := divider.Split(raw, 2, func(id TraceID) int {
		if id == d.id {
			return 1
		}
		return 0
	})
	if err != nil {
		return 0, err
	}
	return int64(pieces[1].Items), nil
}

// places says of each place why the trace is there: what is pending first, then
// what is kept.
func (d *finder) places() []TracePlace {
	if len(d.at) == 0 {
		return nil
	}
	f := d.f
	stats, cases := f.q.Snapshot()
	lanes := make(map[queue.LaneID]*LaneStatus, len(stats.Lanes))
	for i := range stats.Lanes {
		l := f.laneStatus(stats.Lanes[i])
		lanes[l.ID] = &l
	}
	byPlace := make(map[queue.Place]queue.Case, len(cases))
	for _, c := range cases {
		byPlace[c.Place] = c
	}
	keys := slices.SortedFunc(maps.Keys(d.at), func(a, b standing) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.lane, b.lane))
	})
	out := make([]TracePlace, 0, len(keys))
	for _, key := range keys {
		p := d.at[key]
		p.Of = lanes[key.lane]
		c, kept := byPlace[key.place]
		switch {
		case !kept: // pending, or released meanwhile
			f.explainPending(p)
		case c.Kind == queue.CaseHold:
			f.explainHeld(p, &c)
		default:
			s := f.caseStatus(c, p.Of)
			top := s.Diagnosis.Top()
			p.State, p.Case, p.Reason, p.Detail, p.Until = TraceQuarantined, &s, string(top.Code), top.Remedy, s.NextProbe
		}
		out = append(out, *p)
	}
	return out
}

// explainPending says what pending data waits for.
func (f *Forwarder) explainPending(p *TracePlace) {
	p.State = TracePending
	l := p.Of
	if l == nil {
		return
	}
	p.Project = l.Project
	if l.State != LaneWaiting && l.State != LaneParked {
		p.Detail = "It is on its way, or about to be."
		return
	}
	p.Reason, p.Detail, p.Until = l.Reason, l.LastError, l.NextAttempt
}

// explainHeld says why data is held.
func (f *Forwarder) explainHeld(p *TracePlace, c *queue.Case) {
	p.State, p.Reason = TraceHeld, reasonHold
	var d holdData
	if json.Unmarshal(c.Data, &d) == nil {
		p.Project = d.Project
	}
	if p.Of == nil {
		return
	}
	p.Account = f.accounts.name(p.Of.Lane)
	for _, s := range f.guard.Status() {
		if s.Account != p.Account {
			continue
		}
		p.Month = s.Month
		switch {
		case s.Refused != nil:
			p.Detail = "LangSmith refuses new traces of this account."
			p.Until = s.Refused.Until
		case s.Limit >= 0:
			p.Detail = fmt.Sprintf("The limit of %d traces a month leaves no room for it.", s.Limit)
			p.Until = s.Month.End()
		default:
			p.Detail = "It is held until there is room in the month."
		}
	}
}
