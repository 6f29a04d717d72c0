package proxy

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/proxy/runs"
)

// LangSmith Cloud is said to refuse a run whose start_time is more than 24 hours
// from now, and the whole request with it (LangSmith data migration tool, PR
// 152: RUN_POST_START_TIME_WINDOW_HOURS and RUN_PATCH_START_TIME_WINDOW_HOURS;
// not verified against the live service). So what would be refused is found
// before a round is sent. Either the trace as a whole is moved in time, or what
// is outside of the window goes to quarantine; the rest of the round is sent.

// StartWindow is the start-time window of an upstream.
type StartWindow struct {
	// Enforced: runs that start outside the window are not sent as they are. If
	// not, nothing is looked at but what comes late of traces that were moved.
	Enforced bool
	// Span is how far from now a run may start, either way. Default 24 h, at
	// least an hour.
	Span time.Duration
	// Quarantine keeps what is outside, rather than to move traces in time of
	// which nothing was sent yet.
	Quarantine bool
	// Dir is where it is kept by how much traces were moved. Empty: none is.
	Dir string
}

const (
	// windowMargin is how much before the window's end a run counts as outside,
	// so that it does not get there on its way.
	windowMargin = 10 * time.Minute
	// clockFor is for how long a reading of the upstream's clock is good enough
	// to move traces by.
	clockFor = 10 * time.Minute

	reasonWindow = "start_time_window"
	reasonClock  = "clock_unknown"
)

// setDefaults fills in what is not said.
func (w *StartWindow) setDefaults() {
	if w.Span <= 0 {
		w.Span = 24 * time.Hour
	}
	w.Span = max(w.Span, time.Hour)
}

// around is the window at a time.
func (w *StartWindow) around(now time.Time) runs.Window {
	d := w.Span - windowMargin
	return runs.NewWindow(now.Add(-d), now.Add(d))
}

// SetStartWindow replaces the window, as from the next requests. Dir stays.
func (f *Forwarder) SetStartWindow(w StartWindow) {
	w.setDefaults()
	f.starts.window.Store(&w)
	f.Wake()
}

// startWindow looks after one upstream's window.
type startWindow struct {
	window atomic.Pointer[StartWindow]
	shifts *shifts // nil: there is no place for them

	// deciding is held while it is decided and kept by how much traces are moved:
	// a trace in two lanes is moved alike in both.
	deciding sync.Mutex
	moved    atomic.Int64 // traces, in this process
}

func newStartWindow(cfg *ForwardConfig) *startWindow {
	w := &startWindow{}
	window := cfg.StartWindow
	window.setDefaults()
	w.window.Store(&window)
	if window.Dir != "" {
		w.shifts = newShifts(window.Dir, cfg.Logger, cfg.Now)
	}
	return w
}

func (w *startWindow) close() error {
	if w.shifts == nil {
		return nil
	}
	return w.shifts.close()
}

// of tells by how many seconds traces were moved.
func (w *startWindow) of(ids []TraceID) (map[TraceID]int64, error) {
	if w.shifts == nil {
		return nil, nil
	}
	return w.shifts.of(ids)
}

// set keeps it.
func (w *startWindow) set(seconds map[TraceID]int64) error {
	if len(seconds) == 0 {
		return nil
	}
	return w.shifts.set(seconds)
}

// meetWindow sees to it that nothing leaves that lies outside the window. ok is
// false if the round has to end first.
func (r *round) meetWindow() (ok bool, err error) {
	if r.window.Enforced {
		if err := r.f.settleSuspicion(r.s); err != nil {
			return false, err
		}
	}
	now, sure := r.f.upstreamNow()
	traces, err := r.aged(now)
	if err != nil || len(traces) == 0 {
		return err == nil, err
	}
	if !sure && r.f.cfg.Asker != nil && slices.ContainsFunc(traces, func(t *agedTrace) bool { return t.outside }) {
		if out := r.f.readClock(r.ctx); out != nil {
			r.end(out)
			return false, nil
		}
		now, _ = r.f.upstreamNow()
		if traces, err = r.aged(now); err != nil {
			return false, err
		}
	}
	if err := r.decide(traces, now); err != nil {
		return false, err
	}
	for _, t := range traces {
		r.apply(t, now)
	}
	r.sayMoved(traces)
	return true, nil
}

// upstreamNow is the time by the upstream's clock as far as it is known. sure is
// false if it was not read of late.
func (f *Forwarder) upstreamNow() (now time.Time, sure bool) {
	now = f.cfg.Now().Round(0) // the time of day: the other clock stands while a machine sleeps
	c := f.guard.Clock()
	if c.At.IsZero() {
		return now, false
	}
	age := now.Sub(c.At)
	return now.Add(c.Ahead), age >= 0 && age < clockFor
}

// readClock asks the upstream for the date, which costs no trace. A machine that
// has just started, or woken, may be years off, and where the upstream cannot be
// reached nothing has to be moved yet. It returns what to wait for, nil if an
// answer came: one without a date leaves only weir's own clock.
func (f *Forwarder) readClock(ctx context.Context) *Outcome {
	a := f.cfg.Asker.Ask(ctx, &Question{Path: pathInfo})
	if ctx.Err() != nil {
		return &Outcome{Kind: Interrupted, Reason: "stopping"}
	}
	if a.Status == 0 {
		out := &Outcome{Kind: Retry, Reason: reasonClock, Scope: ScopeUpstream}
		out.Exchange.Error = "runs are too old to be sent as they are, and the upstream cannot be asked for the time"
		if a.Err != nil {
			out.Exchange.Error += ": " + a.Err.Error()
		}
		return out
	}
	if err := f.guard.Observe(a.Date); err != nil {
		f.noteHoldError(err)
	}
	return nil
}

// sayMoved counts and tells what was moved in time.
func (r *round) sayMoved(traces []*agedTrace) {
	n := 0
	var oldest *agedTrace
	for _, t := range traces {
		if !t.anew {
			continue
		}
		n++
		if oldest == nil || t.by > oldest.by {
			oldest = t
		}
	}
	if n == 0 {
		return
	}
	r.f.m.restamped.Add(float64(n))
	r.f.starts.moved.Add(int64(n))
	r.f.cfg.Logger.Warn("traces started too long ago, or too far ahead, for the upstream's start-time window; "+
		"their times are moved, and the original ones are in their metadata",
		slog.Any("lane", r.s.lease.Lane), slog.Int("traces", n),
		slog.Duration("most", time.Duration(oldest.by)*time.Second), slog.String("trace", oldest.id.String()))
}
