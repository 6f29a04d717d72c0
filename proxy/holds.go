package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"weir/queue"
)

// What the guard keeps back stands in cases of the queue, one for a project, so
// that to release a project costs that project. Projects beyond maxHolds share
// one, and so does what was admitted first and is held after all.

const maxHolds = 256

// holdData is what a hold's case says about itself.
type holdData struct {
	Reason  string `json:"reason"`
	Project string `json:"project"`
}

const reasonHold = "quota_hold"

// holds are the cases of what is held. Its methods may be called from any number
// of goroutines.
type holds struct {
	q *queue.Queue

	mu     sync.Mutex // guards places; held while a case is opened, so that each is opened once
	places map[string]queue.Place
}

func newHolds(q *queue.Queue) *holds {
	h := &holds{q: q, places: map[string]queue.Place{}}
	for _, c := range q.Cases() {
		var d holdData
		if c.Kind == queue.CaseHold && json.Unmarshal(c.Data, &d) == nil {
			h.places[d.Project] = c.Place
		}
	}
	return h
}

// place is where data of a project is held; empty: of any.
func (h *holds) place(project string) (queue.Place, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p, ok := h.places[project]; ok {
		return p, nil
	}
	if len(h.places) >= maxHolds {
		if p, ok := h.places[""]; ok {
			return p, nil
		}
		project = ""
	}
	data, err := json.Marshal(holdData{Reason: reasonHold, Project: project})
	if err != nil {
		return 0, fmt.Errorf("describe a hold: %w", err)
	}
	p, err := h.q.OpenCase(queue.Case{Kind: queue.CaseHold, Data: data})
	if errors.Is(err, queue.ErrKeptFull) && project != "" {
		// There are too many cases; another hold serves as well.
		for _, p := range h.places {
			return p, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("hold data: %w", err)
	}
	h.places[project] = p
	return p, nil
}

// has reports whether a place is a hold.
func (h *holds) has(p queue.Place) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.places {
		if p == q {
			return true
		}
	}
	return false
}

// of lists the places where data of a project may be held: nil is all of them.
func (h *holds) of(project *string) []queue.Place {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []queue.Place
	for name, p := range h.places {
		if project == nil || name == *project || name == "" {
			out = append(out, p)
		}
	}
	return out
}
