package quota

import (
	"errors"
	"slices"
	"time"
)

// Reason says why held data is released.
type Reason string

// The reasons of a release.
const (
	ReasonMonth   Reason = "month_turned"
	ReasonLimit   Reason = "limit_raised"
	ReasonCleared Reason = "langsmith_takes_traces"
	ReasonAsked   Reason = "asked_for"
	ReasonDay     Reason = "new_day"
	ReasonTrial   Reason = "trial"
)

// Order is a release of held traces that is to be done.
type Order struct {
	ID int64 `json:"id"` // unique in the account
	// Month is when it was given: what is left of it when the month turns is the
	// business of the month's own order.
	Month Month `json:"month"`
	// Most is how many traces to release, negative for as many as there is room
	// for. There is never more released than that.
	Most int64 `json:"most"`
	// Project confines it to one project; nil: all.
	Project *string `json:"project,omitempty"`
	// Oldest takes the oldest first instead of the newest. Traces that show an
	// error come before others either way.
	Oldest bool      `json:"oldest,omitempty"`
	Reason Reason    `json:"reason"`
	After  time.Time `json:"after,omitzero"` // not before
}

// maxOrders bounds the orders of an account that were asked for and wait; beside
// them there is one of each other reason.
const maxOrders = 16

// ErrTooManyOrders is returned while too many releases wait to be done.
var ErrTooManyOrders = errors.New("too many releases wait to be done")

// order adds an order, which takes the place of one with the same reason that
// nobody asked for. g.mu is held.
func (g *Guard) order(account string, s *scope, o Order) error {
	if g.ledger.Totals(account).Held == 0 && o.Reason != ReasonAsked {
		return nil
	}
	if o.Reason != ReasonAsked {
		s.Orders = slices.DeleteFunc(s.Orders, func(old Order) bool { return old.Reason == o.Reason })
	}
	if len(s.Orders) >= maxOrders && o.Reason == ReasonAsked {
		return ErrTooManyOrders
	}
	s.LastOrder++
	o.ID, o.Month = s.LastOrder, g.clock.month
	s.Orders = append(s.Orders, o)
	return g.save(account, s)
}

// Ask orders a release. It returns ErrTooManyOrders if too many wait.
func (g *Guard) Ask(account string, o Order) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	o.Reason, o.After = ReasonAsked, time.Time{}
	return g.order(account, g.scope(account), o)
}

// Due lists the orders of an account that are due, and when the next one will
// be, zero if none waits.
func (g *Guard) Due(account string) (due []Order, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.scopes[account] == nil {
		return nil, time.Time{} // it has become part of another
	}
	s := g.scope(account)
	now := g.cfg.Now()
	g.dailyOrder(account, s)
	for _, o := range s.Orders {
		switch {
		case !o.After.After(now), o.After.After(now.Add(g.cfg.TurnJitter)): // the latter: the clock was set back
			due = append(due, o)
		case next.IsZero() || o.After.Before(next):
			next = o.After
		}
	}
	return due, next
}

// dailyOrder orders the release of a new day's share under PolicyPace. g.mu is
// held.
func (g *Guard) dailyOrder(account string, s *scope) {
	if g.cfg.Policy != PolicyPace {
		return
	}
	limit := g.limit(s)
	if limit < 0 {
		return
	}
	most := g.pace(account, s, limit-s.Others)
	before := s.Day.Ordered
	if before == s.Day.Day {
		return
	}
	s.Day.Ordered, s.dirty = s.Day.Day, true
	if before == 0 {
		return // pacing began today
	}
	share := max(most-g.ledger.Totals(account).Used(), 0)
	_ = g.order(account, s, Order{Most: int64(g.cfg.HoldReleaseShare * float64(share)), Reason: ReasonDay}) // tried again tomorrow
}

// Choice says which of some held traces to let go.
type Choice struct {
	IDs  []TraceID
	Most int64 // at most so many; negative for all
	// OnlyFailed passes over traces that show no error.
	OnlyFailed bool
	// Project passes over traces of other projects; nil: all.
	Project *string
	Month   Month // of the order
}

// Release lets go of held traces, in their order, while there is room for them,
// and reports which. They are then Releasing, until Released is called. It
// returns ErrMonthUnconfirmed where it is not known which month's room there is.
func (g *Guard) Release(account string, what *Choice) ([]bool, error) {
	c, err := g.claim(account, false)
	if err != nil {
		return nil, err
	}
	if !c.confirmed {
		return nil, ErrMonthUnconfirmed // what there is room for depends on it
	}
	if c.Month != what.Month {
		return make([]bool, len(what.IDs)), nil
	}
	if c.shared {
		g.claims.Lock()
		defer g.claims.Unlock()
		g.relimit(c)
	}
	return g.ledger.Move(&Selection{
		Account: account, Month: c.Month, At: c.At, IDs: what.IDs, From: Held, To: Releasing,
		Limits: c.Limits, Most: what.Most, OnlyFailed: what.OnlyFailed, Project: what.Project,
	})
}

// Released says that nothing of the traces is in the hold any more.
func (g *Guard) Released(account string, ids []TraceID) error {
	return g.move(account, ids, Releasing, Reserved)
}

// DropHeld has held traces dropped: what is still there of them, and what comes
// of them later.
func (g *Guard) DropHeld(account string, ids []TraceID) error {
	return g.move(account, ids, Held, Dropped)
}

func (g *Guard) move(account string, ids []TraceID, from, to State) error {
	g.mu.Lock()
	month, now := g.clock.month, g.cfg.Now()
	g.mu.Unlock()
	_, err := g.ledger.Move(&Selection{
		Account: account, Month: month, At: now, IDs: ids, From: from, To: to, Limits: Limits{Traces: -1}, Most: -1,
	})
	return err
}

// Releasing calls fn for the traces that are being released.
func (g *Guard) Releasing(account string, fn func(TraceID) bool) error {
	return g.ledger.Each(account, Releasing, fn)
}

// Spend takes so many traces off an order, durably: before they are let go of, so
// that a release that is cut short never lets go of more than was ordered. What
// was not used is given back as a negative number.
func (g *Guard) Spend(account string, id, traces int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	for i := range s.Orders {
		if o := &s.Orders[i]; o.ID == id && o.Most >= 0 && traces != 0 {
			o.Most = max(o.Most-traces, 0)
			return g.save(account, s)
		}
	}
	return nil
}

// Done ends an order.
func (g *Guard) Done(account string, id int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	n := len(s.Orders)
	s.Orders = slices.DeleteFunc(s.Orders, func(o Order) bool { return o.ID == id })
	if len(s.Orders) == n {
		return nil
	}
	return g.save(account, s)
}

// SetLimit replaces the configured monthly limit of an account; 0 is no limit,
// nil the configured one again. It outlives a restart.
func (g *Guard) SetLimit(account string, traces *int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	before := g.limit(s)
	s.Override = traces
	after := g.limit(s)
	if higher(before, after) {
		s.Told, s.Day = 0, paceDay{}
		if err := g.order(account, s, Order{Most: -1, Reason: ReasonLimit}); err != nil {
			return err
		}
	}
	return g.save(account, s)
}

// higher reports whether a limit is higher than before; negative is none.
func higher(before, after int64) bool { return before >= 0 && (after < 0 || after > before) }

// SetUsed corrects the count of the month: so many traces of the account have
// been taken, by weir and by others.
func (g *Guard) SetUsed(account string, traces int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	t := g.ledger.Totals(account)
	before := s.Others
	s.Others = traces - t.Counted - t.Next
	g.tell(account, false)
	if s.Others < before {
		if err := g.order(account, s, Order{Most: -1, Reason: ReasonLimit}); err != nil {
			return err
		}
	}
	return g.save(account, s)
}

// turnRelease is how many held traces the month's turn lets go, negative for
// all. g.mu is held.
func (g *Guard) turnRelease(s *scope) int64 {
	limit := g.limit(s)
	if limit < 0 {
		return -1
	}
	return int64(g.cfg.HoldReleaseShare * float64(limit))
}
