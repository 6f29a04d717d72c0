package quota

import "time"

// window counts what was sent in one clock hour, UTC (LangSmith docs: usage and
// billing, rate limits).
type window struct {
	Hour   int64 `json:"hour"`
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
}

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
		*w = window{Hour: hour}
	}
}

// take counts a request if it fits. One that is larger than the whole limit
// goes alone, at the beginning of an hour.
func (w *window) take(events, bytes, maxEvents, maxBytes int64) bool {
	fits := func(used, more, most int64) bool { return most <= 0 || used == 0 || used+more <= most }
	if !fits(w.Events, events, maxEvents) || !fits(w.Bytes, bytes, maxBytes) {
		return false
	}
	w.Events += events
	w.Bytes += bytes
	return true
}

// Take counts a request about to be sent against the hour's limits of an
// account. If it does not fit, until is when the next hour begins.
func (g *Guard) Take(account string, events, bytes int64) (until time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	now := g.upstreamTime()
	s.Window.at(now)
	r := &g.cfg.Rules
	if !s.Window.take(events, bytes, r.EventsPerHour, r.BytesPerHour) {
		return hourEnd(s.Window.Hour).Add(g.cfg.Now().Sub(now)), false
	}
	s.dirty = true
	return time.Time{}, true
}

// Untake takes back what Take counted: the request did not arrive.
func (g *Guard) Untake(account string, events, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(account)
	w := &s.Window
	if w.Hour != hourOf(g.upstreamTime()) {
		return
	}
	w.Events, w.Bytes = max(w.Events-events, 0), max(w.Bytes-bytes, 0)
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
