package torture

import (
	"context"
	"fmt"
	"sync"

	"weir/internal/smith"
)

// Answer is how an export ended for the client that sent it.
type Answer uint8

// The answers to an export.
const (
	// Unanswered: it is still under way.
	Unanswered Answer = iota
	// Acknowledged: weir took it, and answers for it from now on.
	Acknowledged
	// RefusedForNow: weir said to come again later; nothing of it was kept.
	RefusedForNow
	// Rejected: weir said that it will never take it; nothing of it was kept.
	Rejected
	// Lost: no answer came. It may or may not have been kept.
	Lost
)

// String returns the answer in words.
func (a Answer) String() string {
	return [...]string{"unanswered", "acknowledged", "refused for now", "rejected", "lost"}[a]
}

// Counts are a ledger's totals, in spans.
type Counts struct {
	Offered      int64
	Acknowledged int64
	Refused      int64 // for now, and for good
	Lost         int64

	Arrived      int64 // distinct
	AckedArrived int64 // distinct, of those acknowledged
	Duplicates   int64 // arrivals of what had arrived before
	Corrupt      int64 // arrivals that differ from what was offered
	Invented     int64 // arrivals of what was never offered
}

// Outstanding is what was acknowledged and has not arrived.
func (c Counts) Outstanding() int64 { return c.Acknowledged - c.AckedArrived }

// Ledger is the oracle: it compares what clients were told with what arrived.
// Its methods may be called from any number of goroutines.
type Ledger struct {
	mu         sync.Mutex // guards everything below; nothing waits while holding it
	counts     Counts
	spans      map[smith.SpanID]*spanRecord
	exports    []exportRecord
	doubled    map[int64]int // first request of what came again -> spans
	kills      []int64       // upstream request numbers at which weir was killed
	examples   []string      // of corrupt and invented arrivals, the first few
	complaints map[string]int
	changed    chan struct{} // closed and replaced at every change
}

// spanRecord is what the ledger knows of a span.
type spanRecord struct {
	sum      uint64
	first    int64 // number of the upstream request it arrived in first
	export   int32
	arrivals int32
}

// exportRecord is what the ledger knows of an export.
type exportRecord struct {
	answer Answer
	spans  []*spanRecord // until it is answered
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{
		spans: map[smith.SpanID]*spanRecord{}, doubled: map[int64]int{},
		complaints: map[string]int{}, changed: make(chan struct{}),
	}
}

// Export is an export on its way.
type Export struct {
	Payload []byte
	Spans   int
	number  int32
}

// Offer writes an export down before it is sent.
func (l *Ledger) Offer(payload []byte) (*Export, error) {
	ds, err := digests(payload)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Export{Payload: payload, Spans: len(ds), number: int32(len(l.exports))}
	rec := exportRecord{spans: make([]*spanRecord, len(ds))}
	for i, d := range ds {
		if l.spans[d.id] != nil {
			return nil, fmt.Errorf("offer span %x of trace %x: it was offered before; sources must have seeds of their own", d.id.Span, d.id.Trace)
		}
		rec.spans[i] = &spanRecord{sum: d.sum, export: e.number}
		l.spans[d.id] = rec.spans[i]
	}
	l.exports = append(l.exports, rec)
	l.counts.Offered += int64(e.Spans)
	return e, nil
}

// Answered writes down how an export ended.
func (l *Ledger) Answered(e *Export, a Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec := &l.exports[e.number]
	rec.answer = a
	switch a {
	case Acknowledged:
		l.counts.Acknowledged += int64(e.Spans)
		for _, s := range rec.spans {
			if s.arrivals > 0 {
				l.counts.AckedArrived++
			}
		}
	case RefusedForNow, Rejected:
		l.counts.Refused += int64(e.Spans)
	case Lost:
		l.counts.Lost += int64(e.Spans)
	case Unanswered:
	}
	rec.spans = nil
	l.notifyLocked()
}

// Complain counts an answer that breaks the rules of its protocol.
func (l *Ledger) Complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const kinds = 50
	text := fmt.Sprintf(format, args...)
	if len(l.complaints) < kinds || l.complaints[text] > 0 {
		l.complaints[text]++
	}
}

// Arrived writes down what an upstream request brought.
func (l *Ledger) Arrived(request int64, payload []byte) {
	ds, err := digests(payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.counts.Corrupt++
		l.exampleLocked("request %d cannot be read: %v", request, err)
	}
	for _, d := range ds {
		l.arriveLocked(request, d)
	}
	l.notifyLocked()
}

func (l *Ledger) arriveLocked(request int64, d digest) {
	s := l.spans[d.id]
	if s == nil {
		l.counts.Invented++
		l.exampleLocked("span %x of trace %x was never offered", d.id.Span, d.id.Trace)
		return
	}
	if s.sum != d.sum {
		l.counts.Corrupt++
		l.exampleLocked("span %x of trace %x is not what was offered", d.id.Span, d.id.Trace)
	}
	s.arrivals++
	if s.arrivals > 1 {
		l.counts.Duplicates++
		l.doubled[s.first]++
		return
	}
	s.first = request
	l.counts.Arrived++
	if l.exports[s.export].answer == Acknowledged {
		l.counts.AckedArrived++
	}
}

func (l *Ledger) exampleLocked(format string, args ...any) {
	const most = 8
	if len(l.examples) < most {
		l.examples = append(l.examples, fmt.Sprintf(format, args...))
	}
}

// Killed writes down that weir was killed when the upstream had seen so many
// requests: what was under way then may rightly come again.
func (l *Ledger) Killed(requests int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kills = append(l.kills, requests)
}

// Counts returns the totals.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Wait blocks until the totals meet a condition. The error of a wait that ctx
// ends holds the totals.
func (l *Ledger) Wait(ctx context.Context, what string, met func(*Counts) bool) error {
	for {
		l.mu.Lock()
		now, changed := l.counts, l.changed
		l.mu.Unlock()
		if met(&now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w with %+v", what, ctx.Err(), now)
		}
	}
}

// WaitArrived blocks until everything acknowledged has arrived.
func (l *Ledger) WaitArrived(ctx context.Context) error {
	return l.Wait(ctx, "everything acknowledged to arrive", func(c *Counts) bool { return c.Outstanding() == 0 })
}

func (l *Ledger) notifyLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}
