package torture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	weirv1 "weir/proto/weir/v1"
)

// Verdict is what a scenario came to, once traffic has ended.
type Verdict struct {
	Counts

	// Totals are weir's own.
	Totals *weirv1.Totals
	// RefusedArrived counts spans of refused exports that arrived all the same.
	RefusedArrived int64
	// Kills is how often weir was killed, and DoubledRequests how many
	// requests brought anything that came again later.
	Kills, DoubledRequests int
	// WorstKill is the most requests that one kill doubled.
	WorstKill int
	// Examples are some of what was corrupt or invented; Complaints breaches
	// of the protocol towards clients, with how often each occurred.
	Examples   []string
	Complaints map[string]int
	// Crash is weir's last words if it crashed.
	Crash string
}

// Judge compares the accounts. Nothing may be sent to weir meanwhile.
func Judge(ctx context.Context, l *Ledger, u *Upstream, w *Weir) (*Verdict, error) {
	st, err := w.Status(ctx)
	if err != nil {
		return nil, err
	}
	if err := u.Collect(); err != nil {
		return nil, err
	}
	v := l.Verdict()
	v.Totals, v.Crash = st.GetTotals(), w.Crash()
	return v, nil
}

// Verdict is the ledger's part of a verdict; weir's own is for Judge to add.
func (l *Ledger) Verdict() *Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &Verdict{
		Counts: l.counts, Kills: len(l.kills), DoubledRequests: len(l.doubled),
		Examples: slices.Clone(l.examples), Complaints: maps.Clone(l.complaints),
	}
	for _, s := range l.spans {
		if a := l.exports[s.export].answer; s.arrivals > 0 && (a == RefusedForNow || a == Rejected) {
			v.RefusedArrived++
		}
	}
	byKill := make([]int, len(l.kills)+1)
	for request := range l.doubled {
		i, _ := slices.BinarySearch(l.kills, request)
		byKill[i]++
	}
	v.WorstKill = slices.Max(byKill)
	return v
}

// Allowance is what a scenario may leave behind. The zero value is a scenario
// after which everything acknowledged has arrived once.
type Allowance struct {
	// InFlight is how many requests may be under way at a time: those are sent
	// again after a kill.
	InFlight int
	// LostAnswers is how many requests' answers were lost on purpose.
	LostAnswers int
	// Quarantined is how many items must be in quarantine.
	Quarantined int64
	// Undelivered allows items to be pending.
	Undelivered bool
}

// Check returns all that the verdict holds against weir, or nil.
func (v *Verdict) Check(a Allowance) error {
	var wrong []error
	hold := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	t := v.Totals
	waiting := t.GetPendingItems() + t.GetHeldItems() + t.GetQuarantinedItems() + t.GetDroppedItems()
	hold(v.Crash == "", "weir crashed: %s", v.Crash)
	hold(v.Acknowledged > 0, "nothing was acknowledged: the scenario proves nothing")
	hold(v.Corrupt == 0, "integrity: %d arrivals differ from what was offered", v.Corrupt)
	hold(v.Invented == 0, "integrity: %d arrivals were never offered", v.Invented)
	hold(v.Outstanding() <= waiting, "conservation: %d acknowledged spans have not arrived, weir counts only %d that wait", v.Outstanding(), waiting)
	hold(t.GetAcceptedItems() == t.GetDeliveredItems()+waiting, "conservation: %d accepted items are not the sum of their states", t.GetAcceptedItems())
	hold(t.GetAcceptedItems() >= v.Acknowledged, "honesty: %d items accepted, but %d acknowledged", t.GetAcceptedItems(), v.Acknowledged)
	hold(t.GetAcceptedItems() <= v.Acknowledged+v.Lost, "honesty: %d items accepted, at most %d can have been kept", t.GetAcceptedItems(), v.Acknowledged+v.Lost)
	hold(t.GetDeliveredItems() <= v.Arrived, "honesty: %d items delivered, but %d arrived", t.GetDeliveredItems(), v.Arrived)
	hold(v.RefusedArrived == 0, "honesty: %d spans of refused exports arrived", v.RefusedArrived)
	hold(t.GetDroppedItems() == 0, "%d items were dropped, though no policy says so", t.GetDroppedItems())
	hold(t.GetQuarantinedItems() == a.Quarantined, "%d items are in quarantine, want %d", t.GetQuarantinedItems(), a.Quarantined)
	if !a.Undelivered {
		hold(t.GetPendingItems() == 0, "%d items are still pending", t.GetPendingItems())
		hold(v.Outstanding() <= a.Quarantined, "conservation: %d acknowledged spans have not arrived", v.Outstanding())
	}
	hold(v.DoubledRequests <= v.Kills*a.InFlight+a.LostAnswers,
		"thrift: %d requests were sent again; %d kills and %d lost answers explain %d",
		v.DoubledRequests, v.Kills, a.LostAnswers, v.Kills*a.InFlight+a.LostAnswers)
	if a.LostAnswers == 0 {
		hold(v.WorstKill <= a.InFlight, "thrift: one kill had %d requests sent again, at most %d can have been under way", v.WorstKill, a.InFlight)
	}
	for _, text := range slices.Sorted(maps.Keys(v.Complaints)) {
		wrong = append(wrong, fmt.Errorf("protocol: %s (%d times)", text, v.Complaints[text]))
	}
	if len(wrong) == 0 {
		return nil
	}
	for _, text := range v.Examples {
		wrong = append(wrong, errors.New("for example: "+text))
	}
	return errors.Join(wrong...)
}

// String is one line for a test's log.
func (v *Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "offered=%d acknowledged=%d refused=%d lost=%d arrived=%d duplicates=%d outstanding=%d",
		v.Offered, v.Acknowledged, v.Refused, v.Lost, v.Arrived, v.Duplicates, v.Outstanding())
	if v.Kills > 0 || v.DoubledRequests > 0 {
		fmt.Fprintf(&b, " kills=%d doubled_requests=%d worst_kill=%d", v.Kills, v.DoubledRequests, v.WorstKill)
	}
	if t := v.Totals; t != nil {
		fmt.Fprintf(&b, " weir: accepted=%d delivered=%d pending=%d quarantined=%d dropped=%d",
			t.GetAcceptedItems(), t.GetDeliveredItems(), t.GetPendingItems(), t.GetQuarantinedItems(), t.GetDroppedItems())
	}
	return b.String()
}
