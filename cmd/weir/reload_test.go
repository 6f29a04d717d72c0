package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lines takes a log that several goroutines write.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), text)
}

// served is a weir that serves until the test ends.
type served struct {
	*weir

	t    *testing.T
	log  *lines
	sys  *testSystem
	stop func() // ends it, once
}

func serveWeir(t *testing.T, s *settings) *served {
	t.Helper()
	out := &served{t: t, log: &lines{}, sys: newTestSystem(t, nil)}
	w, err := startWeirWith(t.Context(), s, newLogger(s, out.log), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	out.weir = w
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.serve(ctx, make(chan os.Signal)) }()
	out.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(out.stop)
	return out
}

func (s *served) cli(code int, args ...string) string {
	s.t.Helper()
	s.sys.out.Reset()
	s.sys.err.Reset()
	if got := s.sys.execute(s.t, append(args, "--admin-addr="+string(s.at.Admin))...); got != code {
		s.t.Fatalf("weir %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, s.sys.out, s.sys.err)
	}
	return s.sys.out.String() + s.sys.err.String()
}

func settingsOfFile(t *testing.T, text string) (s *settings, file string) {
	t.Helper()
	file = writeFile(t, filepath.Join(t.TempDir(), "weir.yaml"), text)
	s, err := loadSettings(configInput{
		file: file, flags: map[string]string{
			"grpc_addr": "off", "http_addr": "off", "admin_addr": "127.0.0.1:0", "data_dir": filepath.Join(t.TempDir(), "data"),
		},
		getenv: func(string) string { return "" }, cwd: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, file
}

func TestReloadSaysWhatChanged(t *testing.T) {
	const head = "upstream: http://127.0.0.1:9\n"
	s, file := settingsOfFile(t, head+"project: one\nlog_level: warn\n")
	w := serveWeir(t, s)
	if got := w.cli(exitOK, "reload"); got != "Nothing has changed: the configuration is as before.\n" {
		t.Errorf("nothing changed: %q", got)
	}
	writeFile(t, file, head+"project: two\nlog_level: debug\nforward:\n  linger: 1s\n")
	var got struct{ Changed, NeedsRestart []string }
	if err := json.Unmarshal([]byte(w.cli(exitOK, "reload", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Changed)
	if !slices.Equal(got.Changed, []string{"log_level", "project"}) || !slices.Equal(got.NeedsRestart, []string{"forward.linger"}) {
		t.Errorf("it says %+v", got)
	}
	if p := w.forwarder.Destination().Project; p != "two" {
		t.Errorf("the project in force is %q", p)
	}
	if got := w.cli(exitOK, "log-level"); got != "The log level is debug, as configured.\n" {
		t.Errorf("the log level: %q", got)
	}
	writeFile(t, file, head+"project: [\n")
	if got := w.cli(exitFailed, "reload"); !strings.Contains(got, "the configuration was not reloaded; weir goes on as before") {
		t.Errorf("a bad file: %q", got)
	}
	if p := w.forwarder.Destination().Project; p != "two" {
		t.Errorf("after a bad file the project in force is %q", p)
	}
}

// TestDevHasNoReload: it would send to the real LangSmith from then on.
func TestDevHasNoReload(t *testing.T) {
	s, _ := settingsOfFile(t, "upstream: http://127.0.0.1:9\n")
	s.noReload = "this is weir dev"
	w := serveWeir(t, s)
	if got := w.cli(exitFailed, "reload"); !strings.Contains(got, "this is weir dev") {
		t.Errorf("it says %q", got)
	}
}

func TestAReloadOfAWeirThatStopsIsRefused(t *testing.T) {
	s, _ := settingsOfFile(t, "upstream: http://127.0.0.1:9\n")
	w := serveWeir(t, s)
	w.stop()
	if _, _, err := w.askReload(t.Context()); err == nil || !strings.Contains(err.Error(), "weir is stopping") {
		t.Errorf("it says %v", err)
	}
}

func TestLogLevelIsChangedWhileWeirRuns(t *testing.T) {
	s, _ := settingsOfFile(t, "upstream: http://127.0.0.1:9\nlog_level: warn\n")
	w := serveWeir(t, s)
	w.weir.log.Info("before")
	if got := w.cli(exitOK, "log-level", "debug"); got != "The log level is debug until weir is restarted; configured is warn.\n" {
		t.Errorf("set: %q", got)
	}
	w.weir.log.Debug("meanwhile")
	var timed struct {
		Level, Configured string
		Until             time.Time
	}
	if err := json.Unmarshal([]byte(w.cli(exitOK, "log-level", "info", "--for", "10m", "--json")), &timed); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(timed.Until); timed.Level != "info" || timed.Configured != "warn" || left <= 0 || left > 10*time.Minute {
		t.Errorf("for a while: %+v", timed)
	}
	if got := w.cli(exitOK, "log-level", "configured"); got != "The log level is warn, as configured.\n" {
		t.Errorf("reset: %q", got)
	}
	w.weir.log.Info("afterwards")
	if w.log.has("before") || !w.log.has("meanwhile") || w.log.has("afterwards") {
		t.Errorf("the log is\n%s", &w.log.all)
	}
	for _, args := range [][]string{{"log-level", "loud"}, {"log-level", "--for", "10m"}, {"log-level", "configured", "--for", "10m"}} {
		w.cli(exitUsage, args...)
	}
	if got := w.cli(exitFailed, "log-level", "debug", "--for", "25h"); !strings.Contains(got, "for is 25h0m0s; it must be from 1s to 24h0m0s") {
		t.Errorf("too long: %q", got)
	}
}
