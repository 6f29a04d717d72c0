package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
)

// Operator is what changes the running process.
type Operator interface {
	// Reload reads the configuration anew, and returns the names of settings that
	// apply now and of those that need a restart.
	Reload(ctx context.Context) (*weirv1.ReloadResponse, error)
	// LogLevel is how much is logged; nil where that cannot be changed.
	LogLevel() *LogLevel
}

// LogLevel is the level of a process's log: the configured one, or another for
// a while. It implements slog.Leveler. That time is over is seen when something
// is logged, so it needs no goroutine. Its methods may be called from any number
// of goroutines.
type LogLevel struct {
	now func() time.Time

	mu         sync.RWMutex // guards what follows
	configured slog.Level
	other      *slog.Level // instead of configured
	until      time.Time   // of other; zero: until it is set again
}

// NewLogLevel returns the configured level. now is the clock, nil for time.Now.
func NewLogLevel(configured slog.Level, now func() time.Time) *LogLevel {
	if now == nil {
		now = time.Now
	}
	return &LogLevel{now: now, configured: configured}
}

// Level implements slog.Leveler.
func (l *LogLevel) Level() slog.Level {
	level, _, _ := l.State()
	return level
}

// State is the level in force, the configured one, and when that applies again;
// zero if it does already, or no time is set.
func (l *LogLevel) State() (level, configured slog.Level, until time.Time) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.other == nil || (!l.until.IsZero() && !l.now().Before(l.until)) {
		return l.configured, l.configured, time.Time{}
	}
	return *l.other, l.configured, l.until
}

// Set puts another level in force, for a while or, with 0, until the next call.
func (l *LogLevel) Set(level slog.Level, span time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.other, l.until = &level, time.Time{}
	if span > 0 {
		l.until = l.now().Add(span)
	}
}

// Reset puts the configured level in force.
func (l *LogLevel) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.other, l.until = nil, time.Time{}
}

// Configure changes the configured level. Another one that is in force stays.
func (l *LogLevel) Configure(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configured = level
}

// The words for levels, and for the configured one.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

const configuredLevel = "configured"

// levelName is the word for a level.
func levelName(l slog.Level) string {
	for name, level := range logLevels {
		if level == l {
			return name
		}
	}
	return l.String()
}

// The bounds of how long a level applies.
const (
	minLogFor = time.Second
	maxLogFor = 24 * time.Hour
)

// Reload implements weirv1connect.AdminServiceHandler.
func (s *service) Reload(ctx context.Context, _ *weirv1.ReloadRequest) (*weirv1.ReloadResponse, error) {
	ctx, cancel := s.untilStopping(ctx)
	defer cancel()
	out, err := s.src.Reload(ctx)
	if err != nil {
		return nil, s.callError(ctx, "Reload", err)
	}
	return out, nil
}

// SetLogLevel implements weirv1connect.AdminServiceHandler.
func (s *service) SetLogLevel(ctx context.Context, req *weirv1.SetLogLevelRequest) (*weirv1.SetLogLevelResponse, error) {
	span, err := durationWithin("for", req.GetFor(), minLogFor, maxLogFor, 0)
	if err != nil {
		return nil, err
	}
	log := s.src.LogLevel()
	level, known := logLevels[req.GetLevel()]
	switch word := req.GetLevel(); {
	case log == nil:
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this weir's log level cannot be changed"))
	case !known && word != "" && word != configuredLevel:
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
			"level %q is none: give debug, info, warn or error, or configured for what the configuration says", clipName(word)))
	case !known && span > 0:
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("for goes with a level: debug, info, warn or error"))
	case known:
		log.Set(level, span)
	case word == configuredLevel:
		log.Reset()
	}
	level, configured, until := log.State()
	if req.GetLevel() != "" {
		s.log.InfoContext(ctx, "the log level was set", slog.String("level", levelName(level)), slog.String("configured", levelName(configured)), slog.Duration("for", span))
	}
	return &weirv1.SetLogLevelResponse{Level: levelName(level), Configured: levelName(configured), Until: timestamp(until)}, nil
}
