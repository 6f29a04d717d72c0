package admin_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy/admin"
)

func TestLogLevelGoesBackByItself(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	level := admin.NewLogLevel(slog.LevelWarn, func() time.Time { return now })
	client := admin.Dial(start(t, admin.Config{}, &fakeSource{logLevel: level}).Addr().String(), "")
	set := func(word string, span time.Duration) (*weirv1.SetLogLevelResponse, error) {
		req := &weirv1.SetLogLevelRequest{Level: word}
		if span != 0 {
			req.For = durationpb.New(span)
		}
		return client.SetLogLevel(t.Context(), req)
	}
	for _, step := range []struct {
		name, word, level, configured string
		span, passes                  time.Duration
		until                         bool
	}{
		{name: "as configured", level: "warn", configured: "warn"},
		{name: "for a while", word: "debug", span: time.Minute, level: "debug", configured: "warn", until: true},
		{name: "until then", passes: time.Minute - 1, level: "debug", configured: "warn", until: true},
		{name: "and no longer", passes: 1, level: "warn", configured: "warn"},
		{name: "for good", word: "error", level: "error", configured: "warn"},
		{name: "a day later", passes: 24 * time.Hour, level: "error", configured: "warn"},
		{name: "back by hand", word: "configured", level: "warn", configured: "warn"},
	} {
		now = now.Add(step.passes)
		got, err := set(step.word, step.span)
		if err != nil || got.GetLevel() != step.level || got.GetConfigured() != step.configured || (got.GetUntil() != nil) != step.until {
			t.Errorf("%s: %v, %v", step.name, got, err)
		}
	}
	level.Set(slog.LevelDebug, 0)
	level.Configure(slog.LevelError)
	if got := level.Level(); got != slog.LevelDebug {
		t.Errorf("a reload has changed what a person set: %s", got)
	}
	level.Reset()
	if got := level.Level(); got != slog.LevelError {
		t.Errorf("the configured level is %s", got)
	}
	for says, try := range map[string]func() (*weirv1.SetLogLevelResponse, error){
		`level "loud" is none`:   func() (*weirv1.SetLogLevelResponse, error) { return set("loud", 0) },
		"for is 500ms":           func() (*weirv1.SetLogLevelResponse, error) { return set("debug", time.Second/2) },
		"for goes with a level":  func() (*weirv1.SetLogLevelResponse, error) { return set("", time.Minute) },
		"for goes with a level:": func() (*weirv1.SetLogLevelResponse, error) { return set("configured", time.Minute) },
	} {
		if _, err := try(); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want one that says %q", err, says)
		}
	}
}

func TestReloadEndsWithTheServer(t *testing.T) {
	began := make(chan struct{})
	s := start(t, admin.Config{}, &fakeSource{reload: func(ctx context.Context) (*weirv1.ReloadResponse, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	done := make(chan error, 1)
	go func() {
		_, err := admin.Dial(s.Addr().String(), "").Reload(t.Context(), &weirv1.ReloadRequest{})
		done <- err
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the reload ended with %v", err)
	}
}
