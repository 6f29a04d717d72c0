package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const logKey = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"

func TestLogFormatFollowsTheTerminal(t *testing.T) {
	for _, tt := range []struct {
		format         string
		terminal, json bool
	}{
		{"auto", true, false},
		{"auto", false, true},
		{"text", true, false},
		{"text", false, false},
		{"json", true, true},
		{"json", false, true},
	} {
		t.Run(fmt.Sprintf("%s on a terminal %t", tt.format, tt.terminal), func(t *testing.T) {
			s := &settings{
				LogFormat: tt.format, LogLevel: slog.LevelDebug, APIKey: logKey, warnings: []string{"look here"},
				ShutdownTimeout: 90 * time.Second,
			}
			var out strings.Builder
			logStart(newLogger(s, &out, tt.terminal), s)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(lines) != 2 || strings.Contains(out.String(), "0123456789") || !strings.Contains(out.String(), "1m30s") {
				t.Fatalf("want a warning and a debug line with the timeout and without the key, got:\n%s", &out)
			}
			for _, line := range lines {
				if json.Valid([]byte(line)) != tt.json {
					t.Errorf("want JSON %t: %s", tt.json, line)
				}
			}
		})
	}
}

func TestLogKeepsToItsLevel(t *testing.T) {
	s := &settings{LogFormat: "text", LogLevel: slog.LevelInfo, warnings: []string{"look here"}}
	var out strings.Builder
	logStart(newLogger(s, &out, false), s)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, `detail="look here"`) {
		t.Errorf("want one warning as text, got:\n%s", got)
	}
}

// TestAFloodIsSaidAFewTimesAndCounted logs one message a thousand times among
// others.
func TestAFloodIsSaidAFewTimesAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		logger := newLogger(&settings{LogFormat: "text", LogLevel: slog.LevelDebug}, &out, true)
		lane := logger.With(slog.Int("lane", 7)) // derived loggers share the count
		for i := range 500 {
			logger.Warn("no luck", slog.Int("try", i))
			lane.Warn("no luck", slog.Int("try", i))
			logger.Debug("detail")
		}
		logger.Info("something else")
		got := out.String()
		if n := strings.Count(got, `msg="no luck"`); n != repeatBurst {
			t.Errorf("the message was said %d times, want %d", n, repeatBurst)
		}
		if n := strings.Count(got, "msg=detail"); n != 500 {
			t.Errorf("debug lines = %d, want all 500", n)
		}
		if !strings.Contains(got, "something else") || strings.Contains(got, "left out") {
			t.Errorf("before the window ends want the other message, and no count yet; the end is:\n%s", got[max(0, len(got)-400):])
		}

		<-time.After(repeatWindow)
		out.Reset()
		lane.Info("something else")
		logger.Warn("no luck")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[0], `level=WARN`) || !strings.Contains(lines[0], `lines=990 message="no luck"`) ||
			strings.Contains(lines[0], "lane=") || !strings.Contains(lines[2], `msg="no luck"`) {
			t.Errorf("want the count at the level of the message, then two lines, got:\n%s", &out)
		}
	})
}

func TestManyDifferentMessagesAllGoThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		h := newRepeats(slog.NewTextHandler(&out, nil))
		for i := range 3 * maxRepeated {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, fmt.Sprint("message ", i), 0)
			if err := h.Handle(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(out.String(), "\n"); n != 3*maxRepeated || len(h.seen.since) > maxRepeated {
			t.Errorf("%d lines of %d, %d messages watched", n, 3*maxRepeated, len(h.seen.since))
		}
	})
}
