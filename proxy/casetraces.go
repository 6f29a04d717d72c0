package proxy

import (
	"context"
	"sync"
	"time"

	"weir/queue"
)

// TraceCount is how many distinct traces a case has.
type TraceCount struct {
	Traces  int
	AtLeast bool      // there was no time, or no memory, to count them all
	First   []TraceID // at most ten of them, as they came
}

const (
	// countTime bounds how long traces are counted, maxCounted how many are told
	// apart over all cases, and maxFirst how many of a case are named. Of many
	// cases each may have its part of maxCounted, or leastCounted if that is less.
	countTime    = 500 * time.Millisecond
	maxCounted   = 1 << 18
	leastCounted = 1 << 12
	maxFirst     = 10
	// recountAfter is when a count that found no time is tried again.
	recountAfter = 10 * time.Second
)

// traceCounts remember counts: a list of cases is read page by page, and each
// count reads what stands beside the frames of all segments.
type traceCounts struct {
	mu   sync.Mutex // held while traces are counted, so that it is done once
	last map[queue.Place]countedTraces
}

// countedTraces is a count, and what the case held then: what it holds only
// changes with these.
type countedTraces struct {
	TraceCount

	frames, items, bytes int64
	at                   time.Time
}

func (c *countedTraces) stands(s *queue.Case, now time.Time) bool {
	return c.frames == s.Frames && c.items == s.Items && c.bytes == s.Bytes && (!c.AtLeast || now.Sub(c.at).Abs() < recountAfter)
}

// CountTraces counts the distinct traces of cases, and names a few. It reads what
// stands beside their frames, and takes half a second and some ten megabytes at
// most.
func (f *Forwarder) CountTraces(ctx context.Context, cases ...CaseStatus) map[queue.Place]TraceCount {
	f.counts.mu.Lock()
	defer f.counts.mu.Unlock()
	now := f.cfg.Now()
	known := true
	for i := range cases {
		c, have := f.counts.last[cases[i].Place]
		known = known && have && c.stands(&cases[i].Case, now)
	}
	switch {
	case known:
	case len(cases) == 1:
		f.countTraces(ctx, now, []queue.Case{cases[0].Case})
	default: // of all of them: it costs little more than those of some
		f.counts.last = nil
		f.countTraces(ctx, now, f.q.Cases())
	}
	out := make(map[queue.Place]TraceCount, len(cases))
	for i := range cases {
		c, have := f.counts.last[cases[i].Place]
		if !have {
			c.AtLeast = true // there was no time
		}
		out[cases[i].Place] = c.TraceCount
	}
	return out
}

// countTraces counts the traces of cases in one walk. f.counts.mu is held.
func (f *Forwarder) countTraces(ctx context.Context, now time.Time, cases []queue.Case) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	type tally struct {
		ids   map[TraceID]struct{}
		first []TraceID
		full  bool
	}
	seen := map[queue.Place]*tally{}
	for i := range cases {
		if cases[i].Kind != queue.CaseHold && cases[i].Frames > 0 {
			seen[cases[i].Place] = &tally{ids: map[TraceID]struct{}{}}
		}
	}
	each := max(maxCounted/max(len(seen), 1), leastCounted)
	n := 0
	err := f.q.EachFrame(ctx, queue.FrameFilter{Places: func(p queue.Place) bool { return seen[p] != nil }}, func(m queue.FrameMeta) bool {
		c := seen[m.Place]
		for _, id := range m.Traces {
			if _, have := c.ids[id]; have {
				continue
			}
			if n == maxCounted || len(c.ids) == each {
				c.full = true
				break
			}
			c.ids[id] = struct{}{}
			n++
			if len(c.first) < maxFirst {
				c.first = append(c.first, id)
			}
		}
		return n < maxCounted
	})
	if f.counts.last == nil {
		f.counts.last = make(map[queue.Place]countedTraces, len(seen))
	}
	for i := range cases {
		c := seen[cases[i].Place]
		if c == nil {
			continue
		}
		f.counts.last[cases[i].Place] = countedTraces{
			TraceCount: TraceCount{Traces: len(c.ids), AtLeast: c.full || n == maxCounted || err != nil, First: c.first},
			frames:     cases[i].Frames, items: cases[i].Items, bytes: cases[i].Bytes, at: now,
		}
	}
}
