package smith

import (
	"context"
	"fmt"
	"slices"
)

// Stats returns what the server has seen since it started or was reset.
func (s *Server) Stats() Stats { return s.store.snapshot() }

// Requests returns the requests whose payload is retained, oldest first. They
// are there under KeepSpans only.
func (s *Server) Requests() []*Request {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return slices.Clone(s.store.log)
}

// Spans returns every retained span in order of arrival, duplicates included.
// It decodes them anew, so a loop should not call it.
func (s *Server) Spans() []Span {
	var all []Span
	for _, in := range s.Requests() {
		spans, err := decodeSpans(in, in.Payload)
		if err != nil {
			panic(err) // it was decoded once, before it was taken
		}
		all = append(all, spans...)
	}
	return all
}

// LastSpans returns the n most recent of the retained spans, oldest first.
func (s *Server) LastSpans(n int) []Span {
	log := s.Requests()
	from, have := len(log), 0
	for from > 0 && have < n {
		from--
		have += log[from].Spans
	}
	var last []Span
	for _, in := range log[from:] {
		spans, err := decodeSpans(in, in.Payload)
		if err != nil {
			panic(err) // as in Spans
		}
		last = append(last, spans...)
	}
	return last[max(0, len(last)-n):]
}

// Received returns how often a span has arrived. Under KeepCounts it is
// always 0.
func (s *Server) Received(id SpanID) int {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return int(s.store.spans[id])
}

// SpanIDs returns the ids of all spans that have arrived, in no order, with
// how often each has.
func (s *Server) SpanIDs() map[SpanID]int {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	ids := make(map[SpanID]int, len(s.store.spans))
	for id, n := range s.store.spans {
		ids[id] = int(n)
	}
	return ids
}

// WaitSpans blocks until n distinct spans have arrived; under KeepCounts n
// spans, duplicates included. The error of a wait that ctx or Close ends says
// how far it got.
func (s *Server) WaitSpans(ctx context.Context, n int) error {
	return s.store.await(ctx, fmt.Sprintf("%d spans", n), func(st *Stats) bool {
		if s.cfg.Keep == KeepCounts {
			return st.Taken.Spans >= int64(n)
		}
		return st.DistinctSpans >= int64(n)
	})
}

// WaitRequests blocks until n requests have arrived, whatever became or will
// become of them.
func (s *Server) WaitRequests(ctx context.Context, n int) error {
	return s.store.await(ctx, fmt.Sprintf("%d requests", n), func(st *Stats) bool {
		return st.Requests >= int64(n)
	})
}

// WaitAnswers blocks until n requests have been answered with a status; 0
// stands for connections broken off.
func (s *Server) WaitAnswers(ctx context.Context, status, n int) error {
	return s.store.await(ctx, fmt.Sprintf("%d answers of %d", n, status), func(st *Stats) bool {
		return st.Answers[status] >= int64(n)
	})
}

// Reset forgets everything received and all statistics. Faults, keys, switches
// and subscriptions stay.
func (s *Server) Reset() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.clearLocked()
}

// Subscription delivers spans and runs as they arrive. Close it when done.
type Subscription struct {
	// C delivers the spans of one request at a time; it is closed by Close of
	// the subscription or of the server.
	C <-chan []Span
	// Runs delivers the runs that one request created or updated, as they are
	// after it; without their members where Config.Keep keeps none, and not at
	// all under KeepCounts. It is closed when C is.
	Runs <-chan []Run

	store      *store
	spans      chan []Span
	runs       chan []Run
	missed     int64 // covered by store.mu
	missedRuns int64 // covered by store.mu
}

// Subscribe delivers what arrives from now on. The server never waits for a
// subscriber: with more than buffer requests undelivered, spans are missed.
func (s *Server) Subscribe(buffer int) *Subscription {
	ch := make(chan []Span, max(1, buffer))
	runs := make(chan []Run, max(1, buffer))
	sub := &Subscription{C: ch, Runs: runs, store: s.store, spans: ch, runs: runs}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if s.store.closed {
		close(ch)
		close(runs)
		return sub
	}
	s.store.subs[sub] = struct{}{}
	return sub
}

// Missed returns how many spans were not delivered since it was last called,
// because the subscriber was too slow.
func (sub *Subscription) Missed() int64 {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	n := sub.missed
	sub.missed = 0
	return n
}

// MissedRuns is Missed for runs.
func (sub *Subscription) MissedRuns() int64 {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	n := sub.missedRuns
	sub.missedRuns = 0
	return n
}

// Close ends the subscription and closes its channels. It may be called more than once.
func (sub *Subscription) Close() {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	sub.store.endLocked(sub)
}

// endLocked ends a subscription, once.
func (st *store) endLocked(sub *Subscription) {
	if _, ok := st.subs[sub]; ok {
		delete(st.subs, sub)
		close(sub.spans)
		close(sub.runs)
	}
}

// publishRunsLocked hands runs to the subscriptions.
func (st *store) publishRunsLocked(touched []*runState) {
	if len(st.subs) == 0 || len(touched) == 0 {
		return
	}
	views := make([]Run, 0, len(touched))
	for _, r := range touched {
		if r.seq > 0 {
			views = append(views, r.view())
		}
	}
	for sub := range st.subs {
		select {
		case sub.runs <- views:
		default:
			sub.missedRuns += int64(len(views))
		}
	}
}
