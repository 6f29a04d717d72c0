package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// repeatWindow is the time in which a message is said repeatBurst times.
	repeatWindow = time.Minute
	repeatBurst  = 10
	// maxRepeated bounds the messages that are watched. weir's own are fewer;
	// those of net/http hold addresses, and new ones go through.
	maxRepeated = 512
)

// repeats is a handler that keeps a message from flooding the log: each is said
// repeatBurst times in a window. What is left out is counted, and the count is
// logged with the first line, of whatever message, after the window. Messages
// are told apart by their text, for what varies is in their attributes; those of
// level debug are never left out. Its methods may be called from any number of
// goroutines.
type repeats struct {
	slog.Handler

	seen *repeated
}

// repeated is what a handler and those derived from it share.
type repeated struct {
	to slog.Handler // for the counts: without attributes

	mu    sync.Mutex // guards what follows
	since map[string]*repeat
	// next is when the first window with something left out ends; zero: none.
	next time.Time
}

// repeat is one message in its window.
type repeat struct {
	began   time.Time
	level   slog.Level
	said    int
	leftOut int
}

func newRepeats(to slog.Handler) *repeats {
	return &repeats{Handler: to, seen: &repeated{to: to, since: map[string]*repeat{}}}
}

// Handle implements slog.Handler.
func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	say, ended := h.seen.note(&r)
	for i := range ended {
		if err := h.seen.to.Handle(ctx, ended[i]); err != nil {
			return err
		}
	}
	if !say {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{Handler: h.Handler.WithAttrs(attrs), seen: h.seen}
}

// WithGroup implements slog.Handler.
func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{Handler: h.Handler.WithGroup(name), seen: h.seen}
}

// note counts a message. It reports whether to say it, and what there is to say
// of windows that have ended.
func (s *repeated) note(r *slog.Record) (say bool, ended []slog.Record) {
	if r.Level <= slog.LevelDebug {
		return true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.next.IsZero() && !r.Time.Before(s.next) {
		ended = s.endLocked(r.Time)
	}
	one := s.since[r.Message]
	switch {
	case one == nil && len(s.since) >= maxRepeated:
		maps.DeleteFunc(s.since, func(_ string, o *repeat) bool { return o.leftOut == 0 && r.Time.Sub(o.began) >= repeatWindow })
		if len(s.since) >= maxRepeated {
			return true, ended
		}
		fallthrough
	case one == nil, r.Time.Sub(one.began) >= repeatWindow:
		s.since[r.Message] = &repeat{began: r.Time, level: r.Level, said: 1}
		return true, ended
	case one.said < repeatBurst:
		one.said++
		return true, ended
	}
	one.leftOut++
	if end := one.began.Add(repeatWindow); s.next.IsZero() || end.Before(s.next) {
		s.next = end
	}
	return false, ended
}

// endLocked ends the windows that are over by now, and says what was left out
// in them. mu is held.
func (s *repeated) endLocked(now time.Time) (ended []slog.Record) {
	s.next = time.Time{}
	for _, message := range slices.Sorted(maps.Keys(s.since)) {
		one := s.since[message]
		if one.leftOut == 0 {
			continue
		}
		end := one.began.Add(repeatWindow)
		if now.Before(end) {
			if s.next.IsZero() || end.Before(s.next) {
				s.next = end
			}
			continue
		}
		line := slog.NewRecord(now, one.level, "lines were left out of the log, because the same was said too often", 0)
		line.AddAttrs(slog.Int("lines", one.leftOut), slog.String("message", message))
		ended = append(ended, line)
		delete(s.since, message)
	}
	return ended
}
