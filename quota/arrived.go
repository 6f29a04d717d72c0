package quota

import "time"

// Arrived implements Ledger.
func (b *book) Arrived(account string, ids []TraceID) ([]bool, error) {
	out := make([]bool, len(ids))
	err := b.look(account, ids, func(i int) {
		e := b.entry(ids[i])
		s := State(e.State)
		out[i] = s == Counted || s == Follower || e.Flags&(flagAttempted|flagCounted) != 0
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Arrived tells of traces whether something of them may be with the upstream.
func (g *Guard) Arrived(account string, ids []TraceID) ([]bool, error) {
	return g.ledger.Arrived(account, ids)
}

// Reading is what is known of the upstream's clock.
type Reading struct {
	// At is when it was last read, by this clock; zero: never. The upstream may
	// have answered since without naming a date.
	At time.Time
	// Ahead is by how much it was ahead of this one, to the second.
	Ahead time.Duration
}

// Clock is the latest reading of the upstream's clock. It is of the time of day:
// it holds over a sleep of the machine, in which the monotonic clock may stand,
// and not once this clock was set.
func (g *Guard) Clock() Reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.clock.server.IsZero() {
		return Reading{}
	}
	at := g.clock.at.Round(0)
	return Reading{At: at, Ahead: g.clock.server.Sub(at).Round(time.Second)}
}
