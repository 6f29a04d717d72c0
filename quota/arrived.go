package quota

import "time"

// Arrived implements Ledger.
func (b *book) Arrived(account string, ids []TraceID) ([]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]bool, len(ids))
	if err := b.ready(); err != nil {
		return nil, err
	}
	a := b.accounts[account]
	if a == nil {
		return out, nil
	}
	if err := b.load(a, len(ids), func(i int) TraceID { return ids[i] }); err != nil {
		return nil, err
	}
	for i, id := range ids {
		e := b.entry(id)
		s := State(e.State)
		out[i] = s == Counted || s == Follower || e.Flags&(flagAttempted|flagCounted) != 0
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
