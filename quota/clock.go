package quota

import "time"

// clock decides which month it is. A month turns when weir's own clock and the
// upstream's Date agree that it has: a clock that runs ahead must not open a
// new month's limit before LangSmith does, and one that is set back must not
// count anything twice.
type clock struct {
	month Month // the latest that was agreed on; never goes back
	// first is set while nobody has agreed on a month yet: it is the one that
	// weir's own clock shows, until an answer says better.
	first bool

	// server is the upstream's clock when it was last seen, and at the moment
	// of weir's own clock; the difference between two readings of the latter is
	// monotonic where Go's is.
	server, at time.Time
	// undated: the upstream answers, and names no date.
	undated bool
}

// observe notes an answer with its Date, zero if it named none.
func (c *clock) observe(date, at time.Time) {
	if date.IsZero() {
		c.undated = c.server.IsZero()
		return
	}
	c.server, c.at, c.undated = date, at, false
}

// heard reports whether the upstream has answered, with a date or without.
func (c *clock) heard() bool { return c.undated || !c.server.IsZero() }

// serverTime is what the upstream's clock should show; zero if it is not known.
func (c *clock) serverTime(now time.Time) time.Time {
	if c.server.IsZero() {
		return time.Time{}
	}
	return c.server.Add(max(now.Sub(c.at), 0))
}

// due reports whether a month is due, by both clocks; confirmed is false where
// weir's own clock has reached a new month and the upstream has not said so.
func (c *clock) due(now time.Time) (month Month, confirmed bool) {
	own, server := MonthOf(now), MonthOf(c.server)
	switch {
	case c.first && !c.server.IsZero():
		return server, true
	case c.first:
		return own, true
	case own <= c.month:
		return c.month, true
	case server > c.month:
		return min(own, server), true
	case c.undated:
		return own, true
	}
	// What the upstream's clock may show by now is a guess, for this one may have
	// been set since. An answer of today is worth waiting for.
	return c.month, false
}

// arrival is the month in which the upstream counts what it has just taken: that
// of its own Date, where it names one.
func (c *clock) arrival() Month {
	if c.server.IsZero() {
		return c.month
	}
	return max(c.month, min(MonthOf(c.server), c.month+1))
}
