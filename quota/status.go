package quota

import (
	"maps"
	"slices"
	"time"
)

// Status is one account's quota, for people and programs.
type Status struct {
	Account     string
	Provisional bool // its tenant is not known
	Month       Month
	Used        int64 // counted, and what others sent
	Others      int64 // of Used: what weir did not send itself
	Reserved    int64 // admitted and not delivered yet
	Held        int64
	Releasing   int64
	Dropped     int64
	Limit       int64 // negative: none
	Policy      Policy
	Threshold   int // the highest that was passed this month, in percent
	Refused     *Refusal
	Forecast    Forecast
	CostUSD     float64 // of the month, as forecast; of what was used if there is no forecast
	Windows     []Window
	Projects    []ProjectStatus
	Orders      []Order
	Days        []DayTotals // of the month, those that are known, oldest first
	TurnRelease int64       // of what is held, let go at the month's turn at most; negative: all
}

// ProjectStatus is one project's share.
type ProjectStatus struct {
	Project  string // empty: data that named none
	Used     int64
	Reserved int64
	Held     int64
	Dropped  int64
	Limit    int64 // negative: none
}

// Status reports all accounts, by name.
func (g *Guard) Status() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Status
	for _, account := range slices.Sorted(maps.Keys(g.scopes)) {
		out = append(out, g.status(account))
	}
	return out
}

func (g *Guard) status(account string) Status {
	s := g.scope(account)
	t := g.ledger.Totals(account)
	now := g.cfg.Now()
	out := Status{
		Account: account, Provisional: s.Provisional, Month: g.clock.month,
		Used: t.Counted + t.Next + s.Others, Others: s.Others, Reserved: t.Reserved + t.Releasing, Releasing: t.Releasing,
		Held: t.Held, Dropped: t.Dropped, Limit: g.limit(s), Policy: g.cfg.Policy, Threshold: s.Told,
		Windows: g.windows(s), Orders: slices.Clone(s.Orders), TurnRelease: g.turnRelease(s),
	}
	if s.Refused != nil {
		r := *s.Refused
		out.Refused = &r
	}
	days := g.ledger.Days(account)
	out.Forecast = Predict(&ForecastInput{
		Now: now, Month: g.clock.month, Used: out.Used + out.Reserved, Limit: out.Limit, Days: days, Since: s.Since,
	})
	for _, d := range days {
		if MonthOf(d.Day.Begin()) == g.clock.month {
			out.Days = append(out.Days, d)
		}
	}
	sent := out.Used + out.Reserved
	if out.Forecast.Known {
		sent = out.Forecast.Projected
	}
	if g.cfg.Policy != PolicyForward && out.Limit >= 0 {
		sent = min(sent, max(out.Limit, out.Used+out.Reserved))
	}
	out.CostUSD = g.cfg.Cost(sent)
	for _, p := range g.ledger.Projects(account) {
		out.Projects = append(out.Projects, ProjectStatus{
			Project: p.Project, Used: p.Counted + p.Next, Reserved: p.Reserved + p.Releasing, Held: p.Held, Dropped: p.Dropped,
			Limit: g.cfg.project(p.Project),
		})
	}
	return out
}

func (g *Guard) windows(s *scope) []Window {
	now := g.upstreamTime()
	w := s.Window
	w.at(now)
	ends := hourEnd(w.Hour).Add(g.cfg.Now().Sub(now)).Truncate(time.Second)
	return []Window{
		{Name: "events", Used: w.Events, Limit: g.cfg.EventsPerHour, Ends: ends},
		{Name: "bytes", Used: w.Bytes, Limit: g.cfg.BytesPerHour, Ends: ends},
	}
}
