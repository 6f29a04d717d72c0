package quota

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// monthNote is the note of the month that was agreed on.
const monthNote = "month"

// agree takes this clock's word for the first month, for something is counted
// in it.
func (g *Guard) agree() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.clock.first {
		return nil
	}
	g.clock.first = false
	return g.turn(g.clock.month)
}

// Observe notes an answer of the upstream: its Date, zero if it had none, and
// when it came. It confirms the month.
func (g *Guard) Observe(date time.Time) error {
	g.mu.Lock()
	g.clock.observe(date, g.cfg.Now())
	g.mu.Unlock()
	return g.Advance()
}

// NeedsDate reports whether a month can only turn once an answer has come.
func (g *Guard) NeedsDate() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, confirmed := g.clock.due(g.cfg.Now())
	return !confirmed
}

// Advance turns the month if that is due, orders what follows from it, and
// keeps counters that have changed for a while. Cheap when nothing is due.
func (g *Guard) Advance() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	month, _ := g.clock.due(now)
	if agreed := g.clock.first && g.clock.heard(); agreed || month != g.clock.month {
		g.clock.first = g.clock.first && !agreed
		if err := g.turn(month); err != nil {
			return err
		}
	}
	g.keep(now)
	return nil
}

// keepEvery is how long a change of a counter may wait to be kept.
const keepEvery = 5 * time.Second

// keep writes one of the scopes that have changed for a while. g.mu is held.
func (g *Guard) keep(now time.Time) {
	past := func(t time.Time, d time.Duration) bool { return now.Sub(t) >= d || now.Before(t) }
	if !past(g.kept, time.Second) {
		return
	}
	g.kept = now
	for account, s := range g.scopes {
		if s.dirty && past(s.saved, keepEvery) {
			_ = g.save(account, s) // tried again, and at the end
			return
		}
	}
}

// turn begins a month, or corrects the first one. g.mu is held.
func (g *Guard) turn(month Month) error {
	if err := g.ledger.Turn(month); err != nil {
		return fmt.Errorf("begin the month %s: %w", month, err)
	}
	before := g.clock.month
	g.clock.month = month
	var errs []error
	if !g.clock.first {
		errs = append(errs, g.ledger.SetNote(monthNote, binary.BigEndian.AppendUint16(nil, uint16(month))))
	}
	if month <= before || before == 0 {
		for _, s := range g.scopes {
			s.notAfter(month)
		}
		return errors.Join(errs...)
	}
	errs = append(errs, g.turnUnderWay(month, g.cfg.Now()))
	for account, s := range g.scopes {
		g.turnScope(s)
		if g.ledger.Totals(account).Held == 0 {
			continue
		}
		after := g.cfg.Now().Add(time.Duration(g.cfg.Random() * float64(g.cfg.TurnJitter)))
		errs = append(errs, g.order(account, s, Order{Most: g.turnRelease(s), Reason: ReasonMonth, After: after}))
	}
	return errors.Join(errs...)
}
