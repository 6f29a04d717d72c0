package inflight_test

import (
	"errors"
	"testing"

	"weir/internal/inflight"
	"weir/proxy"
)

func TestGateGrantsUpToItsLimit(t *testing.T) {
	t.Parallel()
	g := inflight.NewGate(10)
	for _, step := range []struct {
		take    int64
		granted bool
		used    int64
	}{{6, true, 6}, {5, false, 6}, {4, true, 10}, {1, false, 10}, {0, true, 10}} {
		if got := g.Acquire(step.take); got != step.granted || g.Used() != step.used {
			t.Errorf("%d bytes: granted %t, %d used, want %t, %d", step.take, got, g.Used(), step.granted, step.used)
		}
	}
	g.Release(3)
	if !g.HasRoom(3) || g.HasRoom(4) {
		t.Errorf("with %d of 10 bytes used", g.Used())
	}
	pressure, ok := errors.AsType[*proxy.PressureError](g.Pressure())
	if !ok || pressure.Reason != inflight.ReasonMemory || pressure.RetryAfter <= 0 {
		t.Errorf("refused with %v", g.Pressure())
	}
}

func TestBuffersAreEmptyAndLargeEnough(t *testing.T) {
	t.Parallel()
	inflight.PutBuffer(append(make([]byte, 0, 2000), "used"...))
	for _, size := range []int{0, 1000, 4000, inflight.MaxRetainedBuffer + 1} {
		b := inflight.GetBuffer(size)
		if len(b) != 0 || cap(b) < size {
			t.Errorf("asked for %d bytes: got %d of %d", size, len(b), cap(b))
		}
		inflight.PutBuffer(b)
	}
}
