package main

import (
	"context"
	"strings"
	"testing"
	"time"

	weirv1 "weir/proto/weir/v1"
)

func TestDrainGolden(t *testing.T) {
	done := []*weirv1.DrainResponse{
		{PendingItems: 2000},
		{PendingItems: 500, DeliveredItems: 1500},
		{DeliveredItems: 2000, Done: true},
	}
	stuck := []*weirv1.DrainResponse{
		{PendingItems: 2000},
		{PendingItems: 700, DeliveredItems: 1300, Done: true, Left: []string{"Lane 2: 700 items wait, the upstream answers 503."}},
	}
	quarantined := []*weirv1.DrainResponse{
		{DeliveredItems: 5, Done: true, Left: []string{"Case 3: 560 items are in quarantine."}},
	}
	tests := []struct {
		name    string
		answers []*weirv1.DrainResponse
		args    []string
		want    int
	}{
		{name: "done", answers: done},
		{name: "done-json", answers: done, args: []string{"--json"}},
		{name: "stuck", answers: stuck, args: []string{"--timeout=90s"}, want: exitFailed},
		{name: "stuck-json", answers: stuck, args: []string{"--json"}, want: exitFailed},
		{name: "quarantined", answers: quarantined, want: exitFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{drain: tt.answers}
			sys := newTestSystem(t, nil)
			args := append([]string{"drain", "--admin-addr", fake.serve(t)}, tt.args...)
			if code := sys.execute(t, args...); code != tt.want {
				t.Errorf("exit code %d, want %d", code, tt.want)
			}
			if sys.err.Len() > 0 {
				t.Errorf("standard error without a terminal: %q", sys.err)
			}
			golden(t, "testdata/drain/"+tt.name+".golden", sys.out.String())
		})
	}
}

func TestDrainPassesTheTimeoutOn(t *testing.T) {
	fake := &fakeAdmin{drain: []*weirv1.DrainResponse{{Done: true}}}
	sys := newTestSystem(t, nil)
	if code := sys.execute(t, "drain", "--timeout=90s", "--admin-addr", fake.serve(t)); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	if fake.timeout != 90*time.Second {
		t.Errorf("timeout %s, want 1m30s", fake.timeout)
	}
}

func TestDrainShowsProgressOnATerminal(t *testing.T) {
	fake := &fakeAdmin{drain: []*weirv1.DrainResponse{{PendingItems: 2000}, {DeliveredItems: 2000, Done: true}}}
	sys := newTestSystem(t, nil)
	sys.ErrTTY = true
	if code := sys.execute(t, "drain", "--admin-addr", fake.serve(t)); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	if want := clearLine + "draining: 2,000 items left" + clearLine; sys.err.String() != want {
		t.Errorf("progress %q, want %q", sys.err, want)
	}
}

func TestDrainCutShortIsSaid(t *testing.T) {
	t.Run("weir ends the stream", func(t *testing.T) {
		fake := &fakeAdmin{drain: []*weirv1.DrainResponse{{PendingItems: 2000}}}
		sys := newTestSystem(t, nil)
		if code := sys.execute(t, "drain", "--admin-addr", fake.serve(t)); code != exitFailed {
			t.Errorf("exit code %d, want %d", code, exitFailed)
		}
		if want := "ended the call before it was done"; !strings.Contains(sys.err.String(), want) {
			t.Errorf("message %q, want one with %q", sys.err, want)
		}
	})
	t.Run("the caller stops watching", func(t *testing.T) {
		fake := &fakeAdmin{drain: []*weirv1.DrainResponse{{PendingItems: 2000}}, hold: make(chan struct{})}
		defer close(fake.hold)
		sys := newTestSystem(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		sys.ErrTTY = true
		sys.Err = cancelOnWrite{sys.Err, cancel}
		if code := execute(ctx, []string{"drain", "--admin-addr", fake.serve(t)}, sys.system); code != exitFailed {
			t.Errorf("exit code %d, want %d", code, exitFailed)
		}
		if want := "weir goes on draining"; !strings.Contains(sys.err.String(), want) {
			t.Errorf("message %q, want one with %q", sys.err, want)
		}
	})
}

// cancelOnWrite interrupts once the first progress is shown.
type cancelOnWrite struct {
	to     interface{ Write([]byte) (int, error) }
	cancel context.CancelFunc
}

func (c cancelOnWrite) Write(p []byte) (int, error) {
	c.cancel()
	return c.to.Write(p)
}

func TestProgressLine(t *testing.T) {
	tests := []struct {
		name               string
		pending, delivered int64
		elapsed            time.Duration
		want               string
	}{
		{"at the start", 2000, 0, 0, "draining: 2,000 items left"},
		{"nothing goes", 2000, 0, time.Minute, "draining: 2,000 items left"},
		{"under way", 90000, 10000, 10 * time.Second, "draining: 90,000 items left, 1,000/s, about 1m 30s to go"},
		{"hopeless", 1 << 40, 1, time.Minute, "draining: 1,099,511,627,776 items left, 0/s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := progressLine(&weirv1.DrainResponse{PendingItems: tt.pending, DeliveredItems: tt.delivered}, tt.elapsed)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
