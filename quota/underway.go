package quota

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Passage is the claim of what is being sent, until Ended. While it lasts, the
// upstream may take its traces at any moment, so nothing is taken back of them,
// and if the month turns they take their share of the new one.
type Passage struct {
	// Verdicts are in the order of the traces asked about.
	Verdicts []Verdict

	account string
	ids     []TraceID
}

// passages are the passages that have not ended.
type passages struct {
	mu  sync.Mutex // guards all and the accounts of those in it; nothing is locked under it
	all map[*Passage]struct{}
}

func (p *passages) begin(one *Passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[*Passage]struct{}{}
	}
	p.all[one] = struct{}{}
}

func (p *passages) end(one *Passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, one)
}

// rename has passages of an account be another's.
func (p *passages) rename(from, into string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for one := range p.all {
		if one.account == from {
			one.account = into
		}
	}
}

// byAccount are the traces under way, for each account.
func (p *passages) byAccount() map[string][]TraceID {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]TraceID{}
	for one := range p.all {
		out[one.account] = append(out[one.account], one.ids...)
	}
	return out
}

// has returns a function that reports whether a trace is under way. It gathers
// them when it is first asked, which is seldom. No passage may begin meanwhile.
func (p *passages) has() func(TraceID) bool {
	var ids map[TraceID]struct{}
	return func(id TraceID) bool {
		if ids == nil {
			ids = p.passing()
		}
		_, is := ids[id]
		return is
	}
}

func (p *passages) passing() map[TraceID]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := map[TraceID]struct{}{}
	for one := range p.all {
		for i, v := range one.Verdicts { // none yet: it is the one that is being decided
			if v.State.Passes() || v.State == Releasing {
				ids[one.ids[i]] = struct{}{}
			}
		}
	}
	return ids
}

// Claim decides about traces that are about to be sent. What must not be sent is
// Held then: the month has turned since they were admitted and the new one's
// limit is reached, or LangSmith or the user has lowered it. It returns
// ErrMonthUnconfirmed where it is not known which month they would count in.
// The caller keeps ids as they are until it has called Ended.
func (g *Guard) Claim(account string, ids []TraceID) (*Passage, error) {
	g.sends.Lock()
	defer g.sends.Unlock()
	c, err := g.claim(account, true)
	if err != nil {
		return nil, err
	}
	c.Traces = make([]Trace, len(ids))
	for i, id := range ids {
		c.Traces[i].ID = id
	}
	c.UnderWay = g.under.has()
	p := &Passage{account: account, ids: ids}
	g.under.begin(p) // before the claim: else the month could turn unseen between the two
	verdicts, err := g.decide(c)
	if err != nil {
		g.under.end(p)
		return nil, err
	}
	g.under.mu.Lock()
	p.Verdicts = verdicts
	g.under.mu.Unlock()
	return p, nil
}

// Ended says that nothing of a passage is under way any more: what was delivered
// was told to Delivered, what may have arrived to Attempted.
func (g *Guard) Ended(p *Passage) { g.under.end(p) }

// Undo takes back what an admission to an account reserved: the export was not
// kept. What is under way all the same, brought by another export, is not.
func (g *Guard) Undo(account string, a *Admission) error {
	if len(a.fresh) == 0 {
		return nil
	}
	g.sends.Lock()
	defer g.sends.Unlock()
	return g.ledger.Refund(account, slices.DeleteFunc(a.fresh, g.under.has()))
}

// turnUnderWay has what is under way when a month begins take its share of it:
// what was counted in the month before may be taken in this one.
func (g *Guard) turnUnderWay(month Month, now time.Time) error {
	var errs []error
	for account, ids := range g.under.byAccount() {
		c := Claim{
			Account: account, Month: month, At: now, Traces: make([]Trace, len(ids)),
			Limits: Limits{Traces: -1}, Over: Held, Revoke: true,
		}
		for i, id := range ids {
			c.Traces[i].ID = id
		}
		_, err := g.ledger.Claim(&c)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
