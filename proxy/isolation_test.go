package proxy

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weir/proxy/runs"
	"weir/queue"
)

// requestBound is how many requests finding k bad ones of n may take: each is
// found by halving, and where many are refused in a row a dozen go alone.
func requestBound(k, n int) int {
	return 4 + maxSamples + 3*k*(bits.Len(uint(n))+1)
}

// badOnes draws which of n are bad: some on their own, some in a row.
func badOnes(rt *rapid.T, n int) map[int]bool {
	bad := map[int]bool{}
	for range rapid.IntRange(0, max(n/8, 1)).Draw(rt, "single ones") {
		bad[rapid.IntRange(0, n-1).Draw(rt, "bad")] = true
	}
	from := rapid.IntRange(0, n-1).Draw(rt, "row from")
	for i := range rapid.IntRange(0, n/4).Draw(rt, "row of") {
		bad[(from+i)%n] = true
	}
	if len(bad) == n {
		delete(bad, 0)
	}
	return bad
}

// TestOnlyGuiltySpansAreKept: of any batch with some bad ones, all good ones are
// delivered, once, the bad ones kept, in few requests.
func TestOnlyGuiltySpansAreKept(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(rt, "n")
		bad := badOnes(rt, n)
		up := newFakeUpstream()
		up.set(func(_ *Request, ls []string) Outcome {
			if slices.ContainsFunc(ls, func(l string) bool { return strings.HasPrefix(l, "bad") }) {
				return refused(RefusedContent, 400)
			}
			return Outcome{Kind: Delivered, Reason: "ok"}
		})
		r := newRig(t, up)
		defer r.close(context.Background())
		batch := lines("ok", n)
		for i := range bad {
			batch[i] = fmt.Sprintf("bad-%d", i)
		}
		r.accept(Caller{}, batch...)
		r.f.Start(t.Context())
		r.until("all to have met their fate", func(tt queue.Totals) bool { return tt.Pending == 0 })
		if tt := r.q.Stats().Totals; tt.Quarantined != int64(len(bad)) || tt.Delivered != int64(n-len(bad)) {
			rt.Errorf("%d bad of %d: %+v", len(bad), n, tt)
		}
		for line, times := range up.taken {
			if times != 1 {
				rt.Errorf("%s was delivered %d times", line, times)
			}
		}
		if got, most := up.count(), requestBound(len(bad), n); got > most {
			rt.Errorf("%d requests to find %d bad of %d, want at most %d", got, len(bad), n, most)
		}
	})
}

// TestOnlyGuiltyRunsAreKept is the same for run operations.
func TestOnlyGuiltyRunsAreKept(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(rt, "n")
		bad := badOnes(rt, n)
		r := newRunsRig(t, nil)
		defer r.close(context.Background())
		var ops []runs.Op
		for i := range n {
			members := ""
			if bad[i] {
				members = `,"x":"bad"`
			}
			ops = append(ops, createOf(i+1, members))
		}
		r.take(ops...)
		r.f.Start(t.Context())
		r.wantTotals(int64(n-len(bad)), int64(len(bad)))
		if got, most := len(r.smith.requests), requestBound(len(bad), n); got > most {
			rt.Errorf("%d requests to find %d bad of %d, want at most %d", got, len(bad), n, most)
		}
	})
}

// TestASizeThatWasRefusedIsRemembered: requests grow back after a 413, but not to
// what was refused, for an hour.
func TestASizeThatWasRefusedIsRemembered(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	f := &Forwarder{cfg: ForwardConfig{MaxRequestBytes: 1 << 20, Now: func() time.Time { return now }}}
	run := &laneRun{}
	const refusedBytes = 100_000
	f.shrink(run, refusedBytes)
	if got := f.requestBytes(run); got != refusedBytes/2 {
		t.Errorf("after a 413 requests have up to %d bytes, want half", got)
	}
	for range 1000 {
		f.growLocked(run)
	}
	if got := f.requestBytes(run); got >= refusedBytes || got < refusedBytes*9/10 {
		t.Errorf("requests grew back to %d bytes; %d were refused", got, refusedBytes)
	}
	now = now.Add(2 * time.Hour)
	for range 1000 {
		f.growLocked(run)
	}
	if got := f.requestBytes(run); got != 1<<20 {
		t.Errorf("an hour later requests have up to %d bytes", got)
	}
}
