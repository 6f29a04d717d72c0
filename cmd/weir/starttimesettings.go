package main

import (
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"weir/proxy"
)

// startTimeSettings says what becomes of runs that LangSmith may find too old.
type startTimeSettings struct {
	Window string // auto, enforced or off
	Hours  int
	Policy string // restamp or quarantine
}

const (
	windowAuto     = "auto"
	windowEnforced = "enforced"
	windowOff      = "off"

	windowRestamp    = "restamp"
	windowQuarantine = "quarantine"
)

func startTimeTable() []setting {
	return []setting{
		{
			name: "start_time_window", group: groupForward, placeholder: "MODE", fallback: windowAuto,
			help: "Whether LangSmith refuses runs that start too long ago or ahead, and with them the whole request: enforced, off, " +
				"or auto, which is enforced for *.langchain.com and off for other hosts.",
			bind: func(s *settings) value {
				return choiceValue{to: &s.StartTime.Window, allowed: []string{windowAuto, windowEnforced, windowOff}}
			},
		},
		{
			name: "start_time_window_hours", group: groupForward, placeholder: "N", fallback: "24",
			help: "How many hours from now a run may start, either way, where the window is enforced.",
			bind: func(s *settings) value { return intValue{to: &s.StartTime.Hours, low: 1, high: 24 * 366} },
		},
		{
			name: "start_time_window_policy", group: groupForward, placeholder: "POLICY", fallback: windowRestamp,
			help: "What becomes of runs outside the window: restamp moves the times of traces of which nothing was sent yet to now, " +
				"and quarantines the others; quarantine keeps them all.",
			bind: func(s *settings) value {
				return choiceValue{to: &s.StartTime.Policy, allowed: []string{windowRestamp, windowQuarantine}}
			},
		},
	}
}

// startWindow resolves what the upstream decides.
func (s *settings) startWindow() proxy.StartWindow {
	t := &s.StartTime
	return proxy.StartWindow{
		Enforced:   t.Window == windowEnforced || t.Window == windowAuto && isLangSmithCloud(s.Upstream),
		Span:       time.Duration(t.Hours) * time.Hour,
		Quarantine: t.Policy == windowQuarantine,
		Dir:        filepath.Join(s.DataDir, "restamp"),
	}
}

// isLangSmithCloud reports whether a base URL is of LangSmith's own service.
// Self-hosted ones ship with a window that only warns (LangSmith data migration
// tool, PR 152).
func isLangSmithCloud(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	return host == "langchain.com" || strings.HasSuffix(host, ".langchain.com")
}
