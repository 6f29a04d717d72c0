package queue

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

func TestDrainedActiveSegmentGivesItsSpaceBack(t *testing.T) {
	var elapsed atomic.Int64
	began := time.Now()
	rotated := make(chan struct{}, 16)
	cfg := Config{
		Dir: t.TempDir(),
		now: func() time.Time { return began.Add(time.Duration(elapsed.Load())) },
		step: func(name string) {
			if name == "rotated" {
				rotated <- struct{}{}
			}
		},
	}
	q := mustOpen(t, cfg)
	defer func() { _ = q.Close() }()
	<-rotated // the first segment
	rng := rand.NewChaCha8([32]byte{})
	for id := range uint64(24) {
		e := export("a", 1<<20, id)
		_, _ = rng.Read(e.Payload[len(e.Payload)/2:]) // does not compress
		mustAppend(t, q, e)
	}
	lane := laneID(q, "a")
	for {
		l, err := q.Lease(LeaseOptions{Lane: lane, MaxRawBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			break
		}
		settlements := make([]Settlement, len(l.Frames))
		for i := range l.Frames {
			settlements[i] = Settlement{Frame: i, Result: ResultDelivered}
		}
		if err := l.Settle(settlements...); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	if used := q.Stats().UsedBytes; used < 12<<20 {
		t.Fatalf("%d bytes used before anything is idle: the test has too little data", used)
	}
	elapsed.Store(int64(5 * time.Second))
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	<-rotated
	// The committer may hold the old segment for a moment after the step.
	tick, deadline := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for q.Stats().UsedBytes > 11<<20 { // an active segment and a spare, both empty
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d bytes used by a drained, idle queue", q.Stats().UsedBytes)
		}
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	checkTotals(t, q)
}
