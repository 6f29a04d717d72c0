package queue

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkFramePage lists pages of a backlog of 100,000 frames of three lanes,
// one of which has a frame in a thousand. held-MB is what the heap grew by.
func BenchmarkFramePage(b *testing.B) {
	q := backlog(b, 100_000)
	middle, _, err := q.Frames(b.Context(), FrameQuery{})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    FrameQuery
	}{
		{"first", FrameQuery{Max: 100}},
		{"newest", FrameQuery{Max: 100, FrameFilter: FrameFilter{Newest: true}}},
		{"middle", FrameQuery{Max: 100, After: middle[len(middle)/2].ID}},
		{"rare-lane", FrameQuery{Max: 100, FrameFilter: FrameFilter{Lane: laneID(q, "rare")}}},
		{"held", FrameQuery{Max: 100, FrameFilter: FrameFilter{Places: func(p Place) bool { return p != Pending }}}},
		{"old", FrameQuery{Max: 100, AcceptedBy: time.Now().Add(-48 * time.Hour)}},
		{"old-newest", FrameQuery{Max: 100, AcceptedBy: middle[0].AcceptedAt, FrameFilter: FrameFilter{Newest: true}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := q.Frames(b.Context(), c.o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("all-pages", func(b *testing.B) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		n, most := 0, uint64(0)
		for b.Loop() {
			o := FrameQuery{Max: 1000}
			for more := true; more; {
				page, next, err := q.Frames(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				n, more, o.After = n+len(page), next, page[len(page)-1].ID
				runtime.ReadMemStats(&after)
				most = max(most, after.HeapInuse)
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "frames/s")
		b.ReportMetric((float64(most)-float64(before.HeapInuse))/1e6, "held-MB")
	})
}

// BenchmarkDiscardPending drops a backlog, and asks first what that would be.
func BenchmarkDiscardPending(b *testing.B) {
	for _, dry := range []bool{true, false} {
		b.Run(fmt.Sprintf("dry=%v", dry), func(b *testing.B) {
			const n = 20_000
			var left int64
			q := backlog(b, n)
			for b.Loop() {
				b.StopTimer()
				if left == 0 && !dry && b.Elapsed() > 0 {
					fill(b, q, n)
				}
				b.StartTimer()
				sum, err := q.DiscardPending(b.Context(), PendingDiscard{DryRun: dry, Discarding: Discarding{Reason: "bench", Blobs: func(string, Frame) []string { return nil }}})
				if err != nil || sum.Frames < n-1 {
					b.Fatal(sum, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}

// backlog is a queue with n frames of about 2 KB.
func backlog(b *testing.B, n int) *Queue {
	b.Helper()
	q := mustOpen(b, Config{Dir: b.TempDir(), MaxBytes: 40 << 30, NoSync: true, FrameBytes: 1})
	fill(b, q, n)
	return q
}

func fill(b *testing.B, q *Queue, n int) {
	b.Helper()
	exports := benchExports(b, 1, 64)
	const together = 50
	for at := 0; at < n; at += together {
		batch := make([]*Export, together)
		for i := range batch {
			e := *exports[(at+i)%len(exports)]
			switch {
			case (at+i)%1000 == 0:
				e.Lane = "rare"
			case (at+i)%2 == 0:
				e.Lane = "other"
			}
			batch[i] = &e
		}
		if err := q.Append(context.Background(), batch...); err != nil {
			b.Fatal(err)
		}
	}
}
