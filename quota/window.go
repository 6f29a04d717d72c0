package quota

import "time"

// window counts what was sent in one clock hour, UTC (LangSmith docs: usage and
// billing, rate limits).
type window struct {
	Hour   int64 `json:"hour"`
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`

	// What is under way: LangSmith counts it when it arrives, perhaps in the
	// next hour.
	events, bytes int64
}

// Taken is a request that counts against the hour's limits, until Landed.
type Taken struct{ hour, events, bytes int64 }

// Window is one hourly limit as it stands.
type Window struct {
	Name  string // events, bytes
	Used  int64
	Limit int64     // 0: none
	Ends  time.Time // when it begins anew
}

// at turns the window to the hour of t. A clock that is set back stays in the
// hour that was, for what that has taken cannot be told from the hour before,
// unless it is more than an hour: then it was wrong before.
func (w *window) at(t time.Time) {
	hour := hourOf(t)
	if hour > w.Hour || hour < w.Hour-1 {
		w.Hour, w.Events, w.Bytes = hour, w.events, w.bytes
	}
}

// add counts a request, or takes it back with negative numbers.
func (w *window) add(events, bytes int64) {
	w.Events, w.Bytes = max(w.Events+events, 0), max(w.Bytes+bytes, 0)
}

// take counts a request if it fits. One that is larger than the whole limit
// goes alone, at the beginning of an hour.
func (w *window) take(events, bytes, maxEvents, maxBytes int64) bool {
	fits := func(used, more, most int64) bool { return most <= 0 || used == 0 || used+more <= most }
	if !fits(w.Events, events, maxEvents) || !fits(w.Bytes, bytes, maxBytes) {
		return false
	}
	w.add(events, bytes)
	w.events += events
	w.bytes += bytes
	return true
}

// Take counts a request about to be sent against the hour's limits of an
// account; Landed must follow once it was. If it does not fit, until is when the
// next hour begins.
func (g *Guard) Take(account string, events, bytes int64) (t Taken, until time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	now := g.upstreamTime()
	s.Window.at(now)
	r := &g.cfg.Rules
	if !s.Window.take(events, bytes, r.EventsPerHour, r.BytesPerHour) {
		return Taken{}, hourEnd(s.Window.Hour).Add(g.cfg.Now().Sub(now)), false
	}
	s.dirty = true
	return Taken{hour: s.Window.Hour, events: events, bytes: bytes}, time.Time{}, true
}

// Landed ends what Take began. A request that did not arrive is not counted. One
// that was under way while the hour turned counts in both, unless its answer's
// date (zero if there is none) says that it came before. Observe comes first.
func (g *Guard) Landed(account string, t Taken, arrived bool, date time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	w := &s.Window
	w.at(g.upstreamTime())
	w.events, w.bytes = max(w.events-t.events, 0), max(w.bytes-t.bytes, 0)
	before := t.hour != w.Hour && !date.IsZero() && hourOf(date) < w.Hour
	if !arrived || before {
		w.add(-t.events, -t.bytes)
	}
	s.dirty = true
}

// upstreamTime is the upstream's clock where it is known, else weir's own. g.mu
// is held.
func (g *Guard) upstreamTime() time.Time {
	now := g.cfg.Now()
	if server := g.clock.serverTime(now); !server.IsZero() {
		return server
	}
	return now
}
