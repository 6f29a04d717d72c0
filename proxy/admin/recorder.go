package admin

import (
	"context"
	"slices"
	"sync"
	"time"

	"weir/proxy"
)

const (
	fineStep   = 5 * time.Second
	finePoints = int(time.Hour / fineStep)

	coarseStep   = time.Minute
	coarsePoints = int(24 * time.Hour / coarseStep)

	// flowOver is how far back rates look.
	flowOver = time.Minute
	// flowLeast is the least time that a rate is told from.
	flowLeast = time.Second
)

// recorder keeps what the pipeline's meters showed over the last day: some
// 250 KB. The zero value is ready. record runs in one goroutine; the other
// methods may be called from any number of them.
type recorder struct {
	mu     sync.Mutex // guards what follows
	fine   track
	coarse track
}

// sample is one reading of the meters.
type sample struct {
	at time.Time
	proxy.Reading
}

// track is a series of samples, oldest first: one more than it has steps, since
// a step is what lies between two.
type track struct {
	samples []sample
}

// record reads the meters at once and at the end of each step, until ctx ends.
func (r *recorder) record(ctx context.Context, now func() time.Time, read func() proxy.Reading) {
	r.add(sample{now(), read()})
	timer := time.NewTimer(untilStep(now()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		at := now()
		r.add(sample{at.Truncate(fineStep), read()})
		timer.Reset(untilStep(at))
	}
}

// untilStep is how long it is to the end of the step that t lies in. Steps end
// at whole multiples, so that charts of two weirs can be laid side by side.
func untilStep(t time.Time) time.Duration { return t.Truncate(fineStep).Add(fineStep).Sub(t) }

// add takes a sample. One that is no later than the last is of a clock that was
// set back: what lies ahead of it is forgotten.
func (r *recorder) add(s sample) {
	s.Totals.DroppedByReason = nil // not kept: it has no bound that is worth a day of it
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range []*track{&r.fine, &r.coarse} {
		for len(t.samples) > 0 && !t.last().at.Before(s.at) {
			t.samples = t.samples[:len(t.samples)-1]
		}
	}
	r.fine.add(s, finePoints)
	if len(r.coarse.samples) == 0 || s.at.Equal(s.at.Truncate(coarseStep)) || s.at.Sub(r.coarse.last().at) >= coarseStep {
		r.coarse.add(s, coarsePoints)
	}
}

func (t *track) last() *sample { return &t.samples[len(t.samples)-1] }

func (t *track) add(s sample, most int) {
	t.samples = append(t.samples, s)
	if len(t.samples) > 2*(most+1) { // at once, not one by one
		t.samples = append(t.samples[:0], t.samples[len(t.samples)-most-1:]...)
	}
}

// steps are the steps that ended after from, oldest first.
func (t *track) steps(from time.Time) []step {
	i, _ := slices.BinarySearchFunc(t.samples, from, func(s sample, from time.Time) int {
		if s.at.After(from) {
			return 1
		}
		return -1
	})
	var out []step
	for i = max(i, 1); i < len(t.samples); i++ {
		out = append(out, step{t.samples[i-1], t.samples[i]})
	}
	return out
}

// step is a time between two samples.
type step struct{ begin, end sample }

// history is the last while before now in steps, and how long they are.
func (r *recorder) history(now time.Time, span time.Duration) ([]step, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if span <= time.Hour {
		return r.fine.steps(now.Add(-span)), fineStep
	}
	return r.coarse.steps(now.Add(-span)), coarseStep
}

// since are the fine steps that have ended after from, at most an hour of them.
func (r *recorder) since(from time.Time) []step {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := r.fine.steps(from)
	return steps[max(len(steps)-finePoints, 0):]
}

// lastStep is when the last step ended; zero before the first sample.
func (r *recorder) lastStep() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.fine.samples) == 0 {
		return time.Time{}
	}
	return r.fine.last().at
}

// flow is how fast data comes and goes.
type flow struct {
	accepted, delivered, sentBytes float64 // in a second
	// drainedIn is how long what is pending takes; 0: nothing is pending, or it
	// does not grow less.
	drainedIn time.Duration
}

// maxDrainedIn is the longest time that is forecast: beyond it the pace of a
// minute says nothing.
const maxDrainedIn = 30 * 24 * time.Hour

// flow compares a reading with those of the last minute.
func (r *recorder) flow(now sample) flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.fine.samples
	i, _ := slices.BinarySearchFunc(all, now.at.Add(-flowOver), func(s sample, from time.Time) int { return s.at.Compare(from) })
	if i == len(all) {
		return flow{}
	}
	recent := all[i:]
	base := recent[0]
	seconds := now.at.Sub(base.at).Seconds()
	if seconds < flowLeast.Seconds() {
		return flow{}
	}
	rate := func(then, now int64) float64 { return float64(max(now-then, 0)) / seconds }
	f := flow{
		accepted:  rate(base.Totals.Accepted, now.Totals.Accepted),
		delivered: rate(base.Totals.Delivered, now.Totals.Delivered),
		sentBytes: rate(base.SentBytes, now.SentBytes),
	}
	// The pace since there was most: a backlog that came within the minute, by an
	// import or a release, would hide that it is being worked off.
	peak := base
	for _, s := range recent {
		if s.Totals.Pending >= peak.Totals.Pending {
			peak = s
		}
	}
	gone, over := peak.Totals.Pending-now.Totals.Pending, now.at.Sub(peak.at)
	if pending := now.Totals.Pending; pending > 0 && gone > 0 && over >= flowLeast {
		left := float64(pending) / float64(gone) * over.Seconds()
		if left <= maxDrainedIn.Seconds() {
			f.drainedIn = time.Duration(left * float64(time.Second))
		}
	}
	return f
}
