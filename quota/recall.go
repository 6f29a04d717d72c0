package quota

import "slices"

// Memory is what a ledger knows of one trace.
type Memory struct {
	State State
	// Month is when it was counted or dropped, else when it was first seen.
	Month Month
	// Project is what it was said to be of when it was new, empty for none.
	Project string
	// Counted: something of it was delivered in Month, whatever State says: it
	// may be due again in a later month.
	Counted bool
	// Attempted: something of it may have arrived although nobody said so.
	Attempted bool
	// Failed: something of it shows an error.
	Failed bool
}

// Recall implements Ledger.
func (b *book) Recall(account string, id TraceID) (Memory, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(); err != nil {
		return Memory{}, err
	}
	a := b.accounts[account]
	if a == nil {
		return Memory{}, nil
	}
	if err := b.load(a, 1, func(int) TraceID { return id }); err != nil {
		return Memory{}, err
	}
	e := b.entries[0]
	m := Memory{
		State: State(e.State), Month: Month(e.Month), Counted: State(e.State) == Counted || e.Flags&flagCounted != 0,
		Attempted: e.Flags&flagAttempted != 0, Failed: e.Flags&flagFailed != 0,
	}
	if p := a.projects[e.Project]; p != nil && m.State != Unknown {
		m.Project = p.name
	}
	return m, nil
}

// Recall tells what is known of a trace, by account; those that know nothing of
// it are left out.
func (g *Guard) Recall(id TraceID) (map[string]Memory, error) {
	out := map[string]Memory{}
	for _, account := range g.ledger.Accounts() {
		m, err := g.ledger.Recall(account, id)
		if err != nil {
			return nil, err
		}
		if m.State != Unknown {
			out[account] = m
		}
	}
	return out, nil
}

// GiveBack takes back what is reserved for traces of which nothing is left on
// disk, and nothing can have arrived. What may have arrived, or is under way,
// keeps its share. Traces of which something is left after all are decided about
// anew when it is sent.
func (g *Guard) GiveBack(account string, ids []TraceID) error {
	if len(ids) == 0 {
		return nil
	}
	g.sends.Lock()
	defer g.sends.Unlock()
	return g.ledger.Refund(account, slices.DeleteFunc(slices.Clone(ids), g.under.has()))
}
