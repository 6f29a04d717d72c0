package queue

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/llmspans"
)

// The benchmarks sync as production does, so they measure the disk of TMPDIR.
// Compare two versions with
//
//	go test ./queue -run '^$' -bench . -benchtime 3s -count 6 > new.txt
//	benchstat -col /clients old.txt new.txt
//
// spans/s and payload-MB/s are what was acknowledged; disk/payload is the bytes
// this process caused to be written per payload byte.

// benchExports are distinct exports of some size, by spans.
func benchExports(b *testing.B, spans, n int) []*Export {
	b.Helper()
	g := llmspans.New(1)
	out := make([]*Export, n)
	for i := range out {
		payload, ids := g.Request(spans)
		e := &Export{Lane: "bench", Payload: payload, Items: spans}
		seen := map[TraceID]bool{}
		for _, id := range ids {
			if !seen[id.TraceID] {
				seen[id.TraceID] = true
				e.Traces = append(e.Traces, id.TraceID)
			}
		}
		out[i] = e
	}
	return out
}

func benchQueue(b *testing.B, dir string) *Queue {
	b.Helper()
	return mustOpen(b, Config{Dir: dir, MaxBytes: 40 << 30})
}

// drainer settles whatever is pending, so that a benchmark's disk stays small.
func drainer(b *testing.B, q *Queue) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-q.Changed():
				if _, err := drainOnce(q); err != nil {
					b.Error(err)
				}
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// drainOnce leases and settles everything, and returns the payload bytes.
func drainOnce(q *Queue) (raw int64, err error) {
	for _, lane := range q.Lanes() {
		for {
			l, err := q.Lease(LeaseOptions{Lane: lane.ID, MaxRawBytes: 8 << 20})
			if err != nil || l == nil {
				if err != nil {
					return raw, err
				}
				break
			}
			s := make([]Settlement, len(l.Frames))
			for i := range l.Frames {
				raw += int64(l.Frames[i].RawBytes)
				s[i] = Settlement{Frame: i, Result: ResultDelivered}
			}
			if err := l.Settle(s...); err != nil {
				return raw, err
			}
		}
	}
	return raw, nil
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		size           string // about
		spans, clients int
	}{{"2KB", 1, 1}, {"2KB", 1, 32}, {"2KB", 1, 512}, {"200KB", 100, 1}, {"200KB", 100, 32}} {
		b.Run(fmt.Sprintf("size=%s/clients=%d", c.size, c.clients), func(b *testing.B) {
			exports := benchExports(b, c.spans, max(64, 4000/c.spans))
			q := benchQueue(b, b.TempDir())
			defer drainer(b, q)()
			var payload atomic.Int64
			var next atomic.Int64
			b.ReportAllocs()
			written := writtenBytes(b)
			start := time.Now()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range c.clients {
				wg.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							return
						}
						e := exports[int(n)%len(exports)]
						if err := q.Append(context.Background(), e); err != nil {
							b.Error(err)
							return
						}
						payload.Add(int64(len(e.Payload)))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			seconds := time.Since(start).Seconds()
			b.ReportMetric(float64(b.N*c.spans)/seconds, "spans/s")
			b.ReportMetric(float64(payload.Load())/1e6/seconds, "payload-MB/s")
			b.ReportMetric(float64(writtenBytes(b)-written)/float64(payload.Load()), "disk/payload")
		})
	}
}

// writtenBytes is what this process caused to be written so far.
func writtenBytes(b *testing.B) (n int64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // not Linux: the metric is then zero
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			n, _ = strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
		}
	}
	return n
}

// fillBacklog appends until about storedBytes are pending.
func fillBacklog(b *testing.B, q *Queue, storedBytes int64) (raw int64) {
	b.Helper()
	exports := benchExports(b, 100, 64)
	var wg sync.WaitGroup
	var total, stored atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; stored.Load() < storedBytes; i++ {
				e := exports[i%len(exports)]
				if err := q.Append(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
				total.Add(int64(len(e.Payload)))
				if i%16 < 8 {
					stored.Store(q.Lanes()[0].PendingBytes)
				}
			}
		})
	}
	wg.Wait()
	return total.Load()
}

func BenchmarkDrain(b *testing.B) {
	for range b.N {
		b.StopTimer()
		q := benchQueue(b, b.TempDir())
		fillBacklog(b, q, 100<<20)
		b.StartTimer()
		start := time.Now()
		raw, err := drainOnce(q)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(raw)/1e6/time.Since(start).Seconds(), "payload-MB/s")
		b.StopTimer()
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkOpen starts on a backlog of so many stored bytes, closed cleanly.
func BenchmarkOpen(b *testing.B) {
	for _, mb := range []int64{0, 600} {
		b.Run(fmt.Sprintf("backlog=%dMB", mb), func(b *testing.B) {
			dir := b.TempDir()
			q := benchQueue(b, dir)
			fillBacklog(b, q, mb<<20)
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
			var took time.Duration
			for b.Loop() {
				start := time.Now()
				q := benchQueue(b, dir)
				took += time.Since(start)
				if err := q.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "open-ms")
		})
	}
}

// BenchmarkReplay opens the copy of a queue that was killed with a full active
// segment: the log of the database, and weir's journal.
func BenchmarkReplay(b *testing.B) {
	origin := b.TempDir()
	q := benchQueue(b, origin)
	fillBacklog(b, q, 25<<20)
	if _, err := drainOnce(q); err != nil {
		b.Fatal(err)
	}
	fillBacklog(b, q, 4<<20)
	var took time.Duration
	for range b.N {
		b.StopTimer()
		dir := b.TempDir()
		crashCopy(b, q, dir)
		b.StartTimer()
		start := time.Now()
		killed := benchQueue(b, dir)
		took += time.Since(start)
		b.StopTimer()
		if err := killed.Close(); err != nil {
			b.Fatal(err)
		}
		_ = os.RemoveAll(dir)
		b.StartTimer()
	}
	b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "open-ms")
}

// BenchmarkCompress is what compressing alone costs: the floor under an append.
func BenchmarkCompress(b *testing.B) {
	q := mustOpen(b, Config{Dir: b.TempDir()})
	g := llmspans.New(1)
	payloads := make([][]byte, 100)
	for i := range payloads {
		payloads[i], _ = g.Request(100)
	}
	var out []byte
	b.SetBytes(int64(len(payloads[0])))
	for i := 0; b.Loop(); i++ {
		out = q.enc.EncodeAll(payloads[i%len(payloads)], out[:0])
	}
}
