package proxy

import (
	"context"
	"testing"
	"time"
)

// A dispatcher that leased first and then waited for a slot could not be
// stopped while every send hung: Close waits for it before it interrupts them.
func TestADispatcherWithoutFreeSlotsLeasesNothing(t *testing.T) {
	r := newRig(t, newFakeUpstream()) // not started: the test is the dispatcher
	r.f.draining.Store(true)          // no linger
	r.accept(Caller{}, "a", "b")
	for range cap(r.f.slots) {
		r.f.slots <- struct{}{}
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		r.f.pass(context.Background(), context.Background())
	}()
	select {
	case <-passed:
	case <-time.After(10 * time.Second):
		t.Fatal("the dispatcher waits for a slot")
	}
	for _, l := range r.q.Lanes() {
		if l.LeasedFrames != 0 {
			t.Errorf("lane %d has %d frames leased, want none", l.ID, l.LeasedFrames)
		}
	}
}
