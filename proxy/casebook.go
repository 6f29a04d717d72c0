package proxy

import (
	"encoding/json"
	"fmt"
	"sync"

	"weir/queue"
)

// Refusal is what a case remembers of the exchange that opened it.
type Refusal struct {
	Reason string `json:"reason"`
	// Heals says that the case is released once a request of its lane comes
	// through, because its cause was the key, the workspace or the path.
	Heals    bool     `json:"heals"`
	Exchange Exchange `json:"exchange"`
}

// caseKey is what makes two refusals the same case.
type caseKey struct {
	lane   queue.LaneID
	reason string
	heals  bool
}

// caseBook opens at most one case for a lane and reason. Its methods may be
// called from any number of goroutines.
type caseBook struct {
	q  *queue.Queue
	mu sync.Mutex // guards known; held while a case is opened, so that it is opened once
	// known maps to open cases; released ones are removed.
	known map[caseKey]queue.Place
}

func newCaseBook(q *queue.Queue) *caseBook {
	b := &caseBook{q: q, known: map[caseKey]queue.Place{}}
	for _, c := range q.Cases() {
		var r Refusal
		if c.Kind == queue.CaseQuarantine && json.Unmarshal(c.Data, &r) == nil {
			b.known[caseKey{c.Lane, r.Reason, r.Heals}] = c.Place
		}
	}
	return b
}

// open returns the place of the lane's case for the refusal, opening it if
// this is the first.
func (b *caseBook) open(lane queue.LaneID, out *Outcome, heals bool) (queue.Place, error) {
	k := caseKey{lane, out.Reason, heals}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.known[k]; ok {
		return p, nil
	}
	data, err := json.Marshal(Refusal{Reason: out.Reason, Heals: heals, Exchange: out.Exchange})
	if err != nil {
		return 0, fmt.Errorf("describe a refusal: %w", err)
	}
	p, err := b.q.OpenCase(queue.Case{Lane: lane, Kind: queue.CaseQuarantine, Data: data})
	if err != nil {
		return 0, err
	}
	b.known[k] = p
	return p, nil
}

// healed removes and returns the lane's cases that a success disproves. The
// caller releases them.
func (b *caseBook) healed(lane queue.LaneID) []queue.Place {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []queue.Place
	for k, p := range b.known {
		if k.lane == lane && k.heals {
			out = append(out, p)
			delete(b.known, k)
		}
	}
	return out
}

// mayRelease reports whether the lane has a case that heals.
func (b *caseBook) mayRelease(lane queue.LaneID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.known {
		if k.lane == lane && k.heals {
			return true
		}
	}
	return false
}

// releaseForProbe makes a parked lane's quarantine pending again when nothing
// else is left to find out with whether the upstream takes its data.
func (f *Forwarder) releaseForProbe(lane queue.LaneID) {
	for _, p := range f.cases.healed(lane) {
		if err := f.q.Release(p); err != nil {
			f.noteError(lane, err)
		}
	}
}
