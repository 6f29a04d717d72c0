package main

import (
	"io"
	"log/slog"
)

// newLogger returns the logger the whole process shares: to w, at the
// configured level, as text or JSON; "auto" is text where w is a terminal. Keys
// are snake_case; a message is a sentence without a full stop, and what varies
// is in the attributes. JSON times are those of slog (RFC 3339 with fractions).
// A message that comes over and over is said a few times a minute, and then
// counted (repeats).
func newLogger(s *settings, w io.Writer, terminal bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.newLevel()}
	var handler slog.Handler
	if s.LogFormat == "json" || (s.LogFormat == "auto" && !terminal) {
		options.ReplaceAttr = readableDuration
		handler = slog.NewJSONHandler(w, options)
	} else {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(newRepeats(handler))
}

// readableDuration writes durations as text does, "1m30s". As numbers they
// would be nanoseconds, and no name says so.
func readableDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// logStart writes what the configuration wants a person to know. It is the
// first thing a running weir logs.
func logStart(logger *slog.Logger, s *settings) {
	for _, warning := range s.warnings {
		logger.Warn("configuration needs a look", slog.String("detail", warning))
	}
	logger.Debug("configuration loaded",
		slog.String("file", s.file),
		slog.String("data_dir", s.DataDir),
		slog.String("upstream", s.Upstream),
		slog.Any("api_key", s.APIKey),
		slog.Duration("shutdown_timeout", s.ShutdownTimeout),
	)
}
