package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"weir/queue"
	"weir/quota/idmap"
)

func newTestShifts(t *testing.T, dir string, now func() time.Time) *shifts {
	t.Helper()
	s := newShifts(dir, slog.New(slog.DiscardHandler), now)
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestShiftsAreThereAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "restamp")
	want := map[TraceID]int64{{1}: 172800, {2}: -1, {3}: 1<<31 - 1, {4}: -(1<<31 - 1), {5}: 0}
	s := newTestShifts(t, dir, time.Now)
	if got, err := s.of([]TraceID{{1}}); len(got) > 0 || err != nil {
		t.Fatalf("a new one has %v, %v", got, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("asking made a directory: %v", err)
	}
	if err := s.set(want); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.set(want); !errors.Is(err, idmap.ErrClosed) {
		t.Errorf("set after close: %v", err)
	}
	got, err := newTestShifts(t, dir, time.Now).of([]TraceID{{9}, {1}, {2}, {3}, {4}, {5}})
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("read %v, %v; want %v", got, err, want)
	}
}

func TestShiftsAreKeptForAsLongAsAnythingMayCome(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for days, want := range map[int]bool{0: true, 100: true, 127: true, 137: false, 1000: false} {
		s := newTestShifts(t, t.TempDir(), func() time.Time { return at.AddDate(0, 0, days) })
		if got := s.keep(idmap.Key{}, idmap.Entry{State: stateShifted, Flags: periodOf(at)}); got != want {
			t.Errorf("after %d days it is kept: %v, want %v", days, got, want)
		}
	}
}

func TestAMapThatCannotBeOpenedEndsNoLane(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "restamp")
	if err := os.WriteFile(dir, []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := newRunsRig(t, func(cfg *ForwardConfig) {
		cfg.StartWindow = StartWindow{Enforced: true, Dir: dir}
	})
	r.f.Start(t.Context())
	r.take(createOf(1, fmt.Sprintf(`,"start_time":%q`, now.Add(-48*time.Hour).Format(time.RFC3339))))
	r.until("the error to show", func(queue.Totals) bool { return r.f.Status(r.a).Lanes[0].LastError != "" })
	if r.smith.count() > 0 {
		t.Error("it was sent all the same")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.wantTotals(1, 0)
}

// BenchmarkMeetWindow is what the window costs a round of a hundred operations.
func BenchmarkMeetWindow(b *testing.B) {
	for _, moved := range []int{0, 100_000} {
		b.Run(fmt.Sprint("moved=", moved), func(b *testing.B) {
			now := time.Now()
			w := newStartWindow(&ForwardConfig{
				StartWindow: StartWindow{Enforced: true, Dir: filepath.Join(b.TempDir(), "restamp")}, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
			})
			defer func() { _ = w.close() }()
			for from := 0; from < moved; from += 1000 {
				some := map[TraceID]int64{}
				for i := range 1000 {
					some[TraceID{7, byte(i), byte(i >> 8), byte(from / 1000)}] = 1
				}
				if err := w.set(some); err != nil {
					b.Fatal(err)
				}
			}
			r := &round{f: &Forwarder{starts: w}, s: &sending{}, window: *w.window.Load()}
			for i := range 100 {
				r.ops = append(r.ops, roundOp{Op: createOf(i+1, fmt.Sprintf(
					`,"name":"ChatOpenAI","start_time":%q,"run_type":"llm","tags":["seq:step:2"],"trace_id":"0190c3a1-7e4f-7cc0-8000-0123456789aa",`+
						`"dotted_order":"20260301T115959123456Z0190c3a1-7e4f-7cc0-8000-0123456789aa","session_name":"default","session_id":null`,
					now.Format(time.RFC3339Nano)))})
				r.s.traces = append(r.s.traces, TraceID(numbered(i+1)))
			}
			b.ReportAllocs()
			for b.Loop() {
				if found, err := r.aged(now); len(found) > 0 || err != nil {
					b.Fatal(found, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(r.ops)), "ns/operation")
		})
	}
}
