package main

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestLoggerFollowsLevelAndFormat(t *testing.T) {
	const key = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"
	s := &settings{LogFormat: "json", LogLevel: slog.LevelDebug, APIKey: key, warnings: []string{"look here"}}
	var out strings.Builder
	logStart(newLogger(s, &out), s)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || strings.Contains(out.String(), "0123456789") {
		t.Fatalf("want a warning and a debug line without the key, got:\n%s", &out)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}

	s.LogFormat, s.LogLevel, s.level = "text", slog.LevelInfo, nil
	out.Reset()
	logStart(newLogger(s, &out), s)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, `detail="look here"`) {
		t.Errorf("want one warning as text, got:\n%s", got)
	}
}
