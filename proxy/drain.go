package proxy

import (
	"context"
	"fmt"
	"time"
)

// DrainProgress is one report of a drain.
type DrainProgress struct {
	PendingItems   int64
	DeliveredItems int64    // since the drain began
	Done           bool     // the last report
	Left           []string // in the last report: what could not go, and why
}

// drainReportEvery is how often progress is reported.
const drainReportEvery = time.Second

// Drain stops a and sends everything that can go. It calls report about once a
// second and with Done at the end, and returns report's error if it fails.
// It ends when nothing is pending, when all that is left is refused and needs
// a person, or when ctx is done. The acceptor stays stopped.
func (f *Forwarder) Drain(ctx context.Context, a *Acceptor, report func(DrainProgress) error) error {
	a.Stop("draining")
	f.draining.Store(true)
	f.Wake()
	before := f.q.Stats().Totals.Delivered
	tick := time.NewTicker(drainReportEvery)
	defer tick.Stop()
	for {
		s := f.Status(a)
		p := DrainProgress{PendingItems: s.Queue.Totals.Pending, DeliveredItems: s.Queue.Totals.Delivered - before}
		p.Done = p.PendingItems == 0 || f.onlyRefusedLeft(&s) || ctx.Err() != nil
		if p.Done {
			p.Left = left(&s)
		}
		if err := report(p); err != nil || p.Done {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// onlyRefusedLeft reports whether every lane with pending data is parked and
// has been probed since the drain woke it.
func (f *Forwarder) onlyRefusedLeft(s *Status) bool {
	now := f.cfg.Now()
	for i := range s.Lanes {
		l := &s.Lanes[i]
		unreadable := l.Lane.Protocol == 0 // its descriptor was damaged: nothing can be sent
		stuck := l.State == LaneParked || quotaReasons[l.Reason].Monthly()
		if l.PendingItems > 0 && !unreadable && (!stuck || l.LeasedFrames > 0 || !l.NextAttempt.After(now)) {
			return false
		}
	}
	return true
}

// left lists what stays behind.
func left(s *Status) []string {
	var out []string
	for i := range s.Lanes {
		l := &s.Lanes[i]
		if l.PendingItems > 0 {
			why := l.LastError
			if why == "" {
				why = "there was no time left"
			}
			out = append(out, fmt.Sprintf("lane %d (key %s): %s pending: %s", l.ID, l.Credential, items(l.PendingItems), why))
		}
	}
	if n := s.Queue.Totals.Held; n > 0 {
		out = append(out, items(n)+" held for the month's limit: see weir quota")
	}
	for i := range s.Cases {
		c := &s.Cases[i]
		out = append(out, fmt.Sprintf("case %d: %s refused by the upstream (%s)", c.Place, items(c.Items), c.Refusal.Reason))
	}
	if more := s.CaseCounts.Cases - len(s.Cases); more > 0 {
		out = append(out, fmt.Sprintf("%d more cases: see `weir quarantine ls`", more))
	}
	return out
}
