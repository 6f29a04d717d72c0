package main

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	weirv1 "weir/proto/weir/v1"
)

// watched is what is known of a weir that is watched: its messages, put
// together. weir bounds how many lanes, cases and accounts there are.
type watched struct {
	status *weirv1.GetStatusResponse // without lanes and cases; nil before the first message
	lanes  map[uint32]*weirv1.Lane
	cases  map[uint32]*weirv1.QuarantineCase
	scopes map[string]*weirv1.QuotaScope
	// peak is the most that was pending since nothing was.
	peak int64
}

// take adds a message.
func (w *watched) take(m *weirv1.WatchResponse) {
	if m.GetFirst() || w.status == nil {
		*w = watched{
			status: &weirv1.GetStatusResponse{}, peak: w.peak,
			lanes: make(map[uint32]*weirv1.Lane), cases: make(map[uint32]*weirv1.QuarantineCase), scopes: make(map[string]*weirv1.QuotaScope),
		}
	}
	if m.GetStatus() != nil {
		w.status = m.GetStatus()
	}
	for _, l := range m.GetLanes() {
		w.lanes[l.GetId()] = l
	}
	for _, id := range m.GetLanesGone() {
		delete(w.lanes, id)
	}
	for _, c := range m.GetCases() {
		w.cases[c.GetId()] = c
	}
	for _, id := range m.GetCasesGone() {
		delete(w.cases, id)
	}
	for _, s := range m.GetScopes() {
		w.scopes[s.GetAccount()] = s
	}
	for _, name := range m.GetScopesGone() {
		delete(w.scopes, name)
	}
	switch pending := w.status.GetTotals().GetPendingItems(); {
	case pending == 0:
		w.peak = 0
	default:
		w.peak = max(w.peak, pending)
	}
}

// stuck are the lanes that keep data that does not go, the worst first, else in
// the order of their numbers, so that rows stay where they are.
func (w *watched) stuck() []*weirv1.Lane {
	lanes := slices.DeleteFunc(slices.Collect(maps.Values(w.lanes)), func(l *weirv1.Lane) bool { return !isStuck(l) })
	slices.SortFunc(lanes, func(a, b *weirv1.Lane) int {
		return cmp.Or(cmp.Compare(laneRank(a), laneRank(b)), cmp.Compare(a.GetId(), b.GetId()))
	})
	return lanes
}

// openCases are the cases, those that need a person first.
func (w *watched) openCases() []*weirv1.QuarantineCase {
	rank := func(c *weirv1.QuarantineCase) int {
		if c.GetState() == "needs_person" {
			return 0
		}
		return 1
	}
	return slices.SortedFunc(maps.Values(w.cases), func(a, b *weirv1.QuarantineCase) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.GetId(), b.GetId()))
	})
}

// accounts are the accounts in use, by name.
func (w *watched) accounts() []*weirv1.QuotaScope {
	return inUse(slices.SortedFunc(maps.Values(w.scopes), func(a, b *weirv1.QuotaScope) int {
		return cmp.Compare(a.GetAccount(), b.GetAccount())
	}))
}

// backlogAge is the age of the oldest pending data beyond which it counts as a
// backlog, not as what is just on its way.
const backlogAge = 5 * time.Second

// backlog reports whether there is one.
func (w *watched) backlog() bool { return hasBacklog(maps.Values(w.lanes)) }

// hasBacklog reports whether data waits longer than it takes to send it.
func hasBacklog(lanes iter.Seq[*weirv1.Lane]) bool {
	for l := range lanes {
		if l.GetPendingItems() > 0 && l.GetOldestAge().AsDuration() >= backlogAge {
			return true
		}
	}
	return false
}
