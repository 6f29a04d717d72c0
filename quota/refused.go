package quota

import "time"

// UsageLimits is what LangSmith itself says of an account (LangSmith API
// reference: workspaces/current/usage_limits).
type UsageLimits struct {
	Rejecting bool
	Type      string // events_ingested_per_hour, total_unique_traces, ...
	Limit     *int64 // of the tenant; nil if it names none
}

// kindOf maps LangSmith's names of limits to kinds (LangSmith's generated
// clients: usage_limit_type).
func kindOf(usageLimitType string) Kind {
	switch usageLimitType {
	case "total_unique_traces":
		return KindMonth
	case "events_ingested_per_hour":
		return KindHour
	case "payload_size":
		return KindBytes
	case "events_ingested_per_minute":
		return KindMinute
	case "user_defined_monthly_traces", "user_defined_monthly_longlived_traces", "user_defined_unknown":
		return KindUser
	default:
		return KindOther
	}
}

// clockLag is how far clocks that are set may be apart.
const clockLag = time.Hour

// isNextMonths reports whether the upstream's month has just turned and weir's
// has not yet. That a limit does not refuse any more is said of the new month
// then: it ends with the old one, and the turn says what is released. Where the
// clocks are further apart one of them is wrong, and what LangSmith does counts.
// g.mu is held.
func (g *Guard) isNextMonths() bool {
	server, end := g.upstreamTime(), g.clock.month.End()
	return !server.Before(end) && server.Sub(end) < clockLag
}

// Refused notes that the upstream refused data of the account for a limit, and
// returns when that should end by itself.
func (g *Guard) Refused(account string, k Kind) (until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused(account, k, true)
}

// LangSmith refuses a request whose new traces do not all fit, and need not say
// then that it refuses: one trace alone would still fit. What it says is
// therefore not believed at once, and ever later, if data was refused soon after
// it was believed the last time.
const (
	relapseWithin = 2 * time.Hour
	believeFirst  = 10 * time.Second
	believeCap    = time.Hour
)

// disbelief is for how long after the last refusal it is not believed that it
// has ended.
func (r *Refusal) disbelief() time.Duration {
	if r.Relapses == 0 {
		return 0
	}
	return min(believeFirst<<min(r.Relapses-1, 9), believeCap)
}

// refused notes a refusal: of data, or one that was only spoken of. g.mu is held.
func (g *Guard) refused(account string, k Kind, data bool) time.Time {
	s := g.scope(account)
	own, up := g.cfg.Now(), g.upstreamTime()
	local := own.Sub(up) // between the clocks
	switch {
	case k.Monthly():
		r := Refusal{Since: own}
		switch {
		case s.Refused != nil:
			r = *s.Refused
		case s.Cleared != nil && data && own.Sub(s.Cleared.Last) < relapseWithin:
			r.Relapses = s.Cleared.Relapses + 1
		}
		if s.Refused == nil {
			g.say(account, Event{Kind: EventRefused, Refused: k})
		}
		r.Kind, r.Until, r.Trial = k, max(g.clock.month, MonthOf(up)).End().Add(local), 0
		if data {
			r.Last = own
		}
		s.Refused = &r
		_ = g.save(account, s) // without it, LangSmith says so again after a restart
		return s.Refused.Until
	case k == KindMinute:
		return own.Add(time.Minute)
	default:
		return hourEnd(hourOf(up)).Add(local)
	}
}

// Refusing is LangSmith's refusal of the account's new traces; ok is false if
// there is none.
func (g *Guard) Refusing(account string) (r Refusal, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.scope(account); s.Refused != nil {
		return *s.Refused, true
	}
	return Refusal{}, false
}

// Reported notes what LangSmith says of the account's limits. kind is that of
// the limit that it enforces, empty if none; until is when that should end.
func (g *Guard) Reported(account string, u UsageLimits) (kind Kind, until time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	k := kindOf(u.Type)
	before := g.limit(s)
	if k.Monthly() || u.Limit == nil {
		if !sameLimit(s.Smith, u.Limit) {
			s.Smith, s.dirty = u.Limit, true
		}
	}
	if u.Rejecting {
		return k, g.refused(account, k, false), nil
	}
	if s.Refused == nil {
		if higher(before, g.limit(s)) {
			return "", time.Time{}, g.order(account, s, Order{Most: -1, Reason: ReasonLimit})
		}
		return "", time.Time{}, nil
	}
	if g.isNextMonths() {
		return s.Refused.Kind, s.Refused.Until, nil
	}
	if since := g.cfg.Now().Sub(s.Refused.Last); since >= 0 && since < s.Refused.disbelief() {
		return s.Refused.Kind, s.Refused.Until, nil
	}
	return "", time.Time{}, g.cleared(account, s)
}

func sameLimit(a, b *int64) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// cleared ends a refusal. g.mu is held.
func (g *Guard) cleared(account string, s *scope) error {
	s.Refused, s.Cleared = nil, s.Refused
	g.say(account, Event{Kind: EventCleared})
	if err := g.order(account, s, Order{Most: -1, Reason: ReasonCleared}); err != nil {
		return err
	}
	return g.save(account, s)
}

// tookNew notes that LangSmith took a new trace although it was said to refuse.
func (g *Guard) tookNew(account string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	if s.Refused == nil || s.Refused.Trial == 0 && g.cfg.Now().Sub(s.Refused.Last) < underWay {
		return // it may have been under way when another was refused
	}
	_ = g.cleared(account, s) // only orders can fail, and the next success repeats it
}

// underWay is for how long after a refusal requests may be answered that were
// sent before it.
const underWay = 15 * time.Second

// Trial lets one more trace go while LangSmith refuses, to see whether it still
// does. For where LangSmith cannot be asked.
func (g *Guard) Trial(account string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	if s.Refused == nil {
		return nil
	}
	s.Refused.Trial = 1
	return g.order(account, s, Order{Most: 1, Reason: ReasonTrial})
}

// Taken notes how many traces of the month LangSmith says it has taken, from
// all senders. It lags (LangSmith docs: pricing FAQ), so it only ever raises
// what others are known to have sent.
func (g *Guard) Taken(account string, month Month, traces int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if month != g.clock.month {
		return nil
	}
	s := g.scope(account)
	t := g.ledger.Totals(account)
	if others := traces - t.Counted - t.Next; others > s.Others {
		s.Others = others
		g.tell(account, false)
		return g.save(account, s)
	}
	return nil
}
