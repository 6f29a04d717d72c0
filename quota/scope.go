package quota

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// scope is what a guard knows of an account besides its ledger. It is kept as a
// note of the ledger.
type scope struct {
	Upstream    string `json:"upstream,omitempty"`    // of the account
	Provisional bool   `json:"provisional,omitempty"` // its tenant is not known

	// Since is when the account was first seen.
	Since time.Time `json:"since,omitzero"`
	Month Month     `json:"month"` // what the fields of the month are about

	// Override is a limit set by hand in place of the configured one.
	Override *int64 `json:"override,omitempty"`
	// Others is what to add to the ledger's count this month: what others sent,
	// as LangSmith reported it or a person set it.
	Others int64 `json:"others,omitempty"`
	// Refused is set while LangSmith refuses new traces.
	Refused *Refusal `json:"refused,omitempty"`
	// Cleared is the refusal that ended last; nil: none this month.
	Cleared *Refusal `json:"cleared,omitempty"`
	// Smith is the monthly limit that LangSmith itself named; nil: none.
	Smith *int64 `json:"smith,omitempty"`
	// Told is the highest threshold that was said this month, in percent.
	Told int `json:"told,omitempty"`
	// Day is where PolicyPace stands.
	Day paceDay `json:"day"`
	// Window is the hour's count.
	Window window `json:"window"`
	// Orders are the releases to be done.
	Orders    []Order `json:"orders,omitempty"`
	LastOrder int64   `json:"lastOrder,omitempty"`

	warned time.Time // when callers were last told that the limit is reached
	reply  string    // said in the next reply
	saved  time.Time
	dirty  bool
}

// Refusal is LangSmith's refusal of new traces.
type Refusal struct {
	Kind  Kind      `json:"kind"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"` // when it should end by itself
	// Trial: how many traces beyond those counted may be sent to see whether it
	// is over, where LangSmith cannot be asked.
	Trial int64 `json:"trial,omitempty"`
	// Last is when data was last refused, and Relapses how often that was soon
	// after LangSmith had said that it takes data.
	Last     time.Time `json:"last"`
	Relapses int       `json:"relapses,omitempty"`
}

// Kind says which limit LangSmith says was reached.
type Kind string

// The kinds of limit, as weir's reasons name them.
const (
	KindMonth  Kind = "quota_month"
	KindUser   Kind = "quota_user"   // a monthly limit that the organization set
	KindHour   Kind = "quota_hour"   // events in an hour
	KindBytes  Kind = "quota_bytes"  // bytes in an hour
	KindMinute Kind = "quota_minute" // events in a minute
	KindOther  Kind = "quota"        // a limit that was not named
)

// Monthly reports whether the limit is one of the month.
func (k Kind) Monthly() bool { return k == KindMonth || k == KindUser }

// paceDay is the share of the month that PolicyPace gives to one day.
type paceDay struct {
	Day  Day   `json:"day"`
	Most int64 `json:"most"` // used at most by the end of the day
	// Ordered is the last day for which a release of held traces was ordered.
	Ordered Day `json:"ordered,omitempty"`
}

const scopeNotes = "scope/"

func (s *scope) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("quota: marshal a scope: " + err.Error()) // numbers, strings and times: cannot fail
	}
	return b
}

// scope finds or begins what is known of an account. g.mu is held.
func (g *Guard) scope(account string) *scope {
	if s := g.scopes[account]; s != nil {
		g.turnScope(s)
		return s
	}
	s := &scope{Month: g.clock.month, Since: g.cfg.Now()}
	if b := g.ledger.Note(scopeNotes + account); b != nil {
		if json.Unmarshal(b, s) != nil {
			*s = scope{Month: g.clock.month, Since: g.cfg.Now()} // of a later version
		}
	}
	g.scopes[account] = s
	s.notAfter(g.clock.month)
	g.turnScope(s)
	return s
}

// adopt takes over what is known of an account that turned out to be this one.
func (s *scope) adopt(old *scope) {
	s.Window.add(old.Window.Events, old.Window.Bytes)
	s.Window.events += old.Window.events
	s.Window.bytes += old.Window.bytes
	s.Others = max(s.Others, old.Others)
	s.Told = max(s.Told, old.Told)
	if s.Since.IsZero() || !old.Since.IsZero() && old.Since.Before(s.Since) {
		s.Since = old.Since
	}
	if s.Refused == nil {
		s.Refused = old.Refused
	}
	if s.Override == nil {
		s.Override = old.Override
	}
	if s.Smith == nil {
		s.Smith = old.Smith
	}
	if s.Day.Day == 0 {
		s.Day = old.Day
	}
	for _, o := range old.Orders {
		same := func(have Order) bool { return have.Reason == o.Reason }
		if len(s.Orders) >= maxOrders || o.Reason != ReasonAsked && slices.ContainsFunc(s.Orders, same) {
			continue
		}
		s.LastOrder++
		o.ID = s.LastOrder
		s.Orders = append(s.Orders, o)
	}
}

// notAfter corrects a month that this clock had been ahead for.
func (s *scope) notAfter(month Month) {
	if s.Month <= month {
		return
	}
	s.Month, s.dirty = month, true
	for i := range s.Orders {
		s.Orders[i].Month = min(s.Orders[i].Month, month)
	}
}

// turnScope forgets what was of an earlier month.
func (g *Guard) turnScope(s *scope) {
	if s.Month >= g.clock.month {
		return
	}
	s.Month, s.Others, s.Told, s.reply = g.clock.month, 0, 0, ""
	s.Day = paceDay{Ordered: s.Day.Ordered} // what the old month had left is nothing to the new one
	if s.Refused != nil && s.Refused.Kind.Monthly() {
		s.Refused = nil
	}
	s.Cleared = nil
	s.dirty = true
}

// save writes a scope that has changed. g.mu is held.
func (g *Guard) save(account string, s *scope) error {
	s.dirty, s.saved = false, g.cfg.Now()
	if err := g.ledger.SetNote(scopeNotes+account, s.encode()); err != nil {
		return fmt.Errorf("keep what is known of account %s: %w", account, err)
	}
	return nil
}
