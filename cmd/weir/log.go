package main

import (
	"io"
	"log/slog"
)

// newLogger returns the logger the whole process shares: to w, at the
// configured level, as text or JSON. Keys are snake_case; a message is a
// sentence without a full stop, and what varies is in the attributes. JSON
// times are those of slog (RFC 3339 with fractions).
func newLogger(s *settings, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.leveler()}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
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
	)
}
