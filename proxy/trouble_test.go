package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/queue"
)

// reopen restarts the rig after its configuration was changed.
func (r *rig) reopen(change func()) {
	r.t.Helper()
	r.close(r.t.Context())
	change()
	r.open()
}

// The clock of the tests below: real time, and what was added to it.
type aheadClock struct{ ahead atomic.Int64 }

func (c *aheadClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func TestLanesInExcessOfTheSlotsDoNotStarve(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	r.reopen(func() { r.cfg.Concurrency, r.cfg.MaxRequestBytes = 1, 1 })
	const each = 6
	for _, project := range []string{"p0", "p1", "p2"} {
		for i := range each {
			// Large enough for a frame of its own, so that a lane has several requests.
			r.accept(Caller{Project: project}, fmt.Sprint(project, "-", i, strings.Repeat("x", 64<<10)))
		}
	}
	var mu sync.Mutex
	var order []string
	up.set(func(req *Request, _ []string) Outcome {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, req.Project)
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r.f.Start(t.Context())
	r.allDelivered(3 * each)
	mu.Lock()
	defer mu.Unlock()
	if first := slices.Compact(slices.Sorted(slices.Values(order[:3]))); len(first) != 3 {
		t.Errorf("lanes were served in the order %v, want each of them among the first three", order)
	}
}

func TestAFrameThatLooksLikeAnOutageStopsNothingElse(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.Contains(ls, "poison") {
			return Outcome{Kind: Retry, Reason: "http_500", Scope: ScopeUpstream, Exchange: Exchange{Status: 500}}
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	var clock aheadClock
	r := newRig(t, up)
	r.reopen(func() { r.cfg.Now = clock.now })
	r.accept(Caller{}, "poison")
	r.f.Start(t.Context())
	r.until("the outage to show", func(queue.Totals) bool { return r.f.Status(r.a).UpstreamWait != nil })
	r.accept(Caller{Project: "other"}, "other-lane")
	r.accept(Caller{}, "same-lane")
	r.until("all but the poison", func(tt queue.Totals) bool {
		clock.ahead.Add(int64(time.Minute)) // every wait is over
		r.f.poke()
		return tt.Delivered == 2 && tt.Pending == 1
	})
	if n := up.count(); n > 16 {
		t.Errorf("%d requests until the others had their turn", n)
	}
}

func TestDataThatCannotBeSettledIsNotSentOverAndOver(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(*Request, []string) Outcome { return refused(RefusedSize, 413) })
	r := newRig(t, up)
	r.reopen(func() { r.dividers = map[Protocol]Divider{protocolLines: miscountingDivider{}} })
	r.accept(Caller{}, "a", "b")
	r.f.Start(t.Context())
	r.until("the lane to wait", func(queue.Totals) bool {
		s := r.f.Status(r.a)
		return s.Lanes[0].State == LaneWaiting && s.Lanes[0].Reason == "not_settled"
	})
}

// miscountingDivider makes the queue refuse the settlement.
type miscountingDivider struct{ lineDivider }

func (d miscountingDivider) Slice(payload []byte, from, to int) (Piece, error) {
	p, err := d.lineDivider.Slice(payload, from, to)
	p.Items++
	return p, err
}

type brokenDivider struct{}

func (brokenDivider) Split([]byte, int, func(TraceID) int) ([]Piece, error) {
	return nil, errors.New("no such message")
}

func (brokenDivider) Slice([]byte, int, int) (Piece, error) {
	return Piece{}, fmt.Errorf("no item begins there")
}

func TestWhatCannotBeDividedIsQuarantinedWhole(t *testing.T) {
	for _, class := range []RefusalClass{RefusedSize, RefusedContent} {
		t.Run(fmt.Sprint(class), func(t *testing.T) {
			up := newFakeUpstream()
			up.set(func(*Request, []string) Outcome { return refused(class, 400) })
			r := newRig(t, up)
			r.reopen(func() { r.dividers = map[Protocol]Divider{protocolLines: brokenDivider{}} })
			r.accept(Caller{}, "a", "b")
			r.f.Start(t.Context())
			r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 2 })
		})
	}
}

func TestAReleaseThatFailsIsTriedAgain(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(*Request, []string) Outcome { return refused(RefusedAccess, 403) })
	r := newRig(t, up)
	r.accept(Caller{}, "a")
	r.f.Start(t.Context())
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 1 })
	lane := r.q.Lanes()[0].ID
	r.f.Close(t.Context())
	r.f.stop = nil
	if err := r.q.Close(); err != nil { // every release fails now
		t.Fatal(err)
	}
	r.f.Wake()
	if wait := r.f.releaseHealed(lane, r.f.lane(lane)); wait <= 0 {
		t.Errorf("a release that failed is tried again after %s, want a pause", wait)
	}
	if !r.f.cases.mayRelease(lane, healsWithLane) {
		t.Error("a case is forgotten although its release failed")
	}
}

func TestAFullQuarantineDoesNotMakeDuplicatesForEver(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.ContainsFunc(ls, func(l string) bool { return strings.HasPrefix(l, "bad") }) {
			return refused(RefusedContent, 400)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	var clock aheadClock
	r := newRig(t, up)
	r.reopen(func() {
		r.cfg.Now = clock.now
		r.disk = queue.Config{SegmentBytes: 1 << 20, MaxBytes: 16 << 20, KeptShare: 0.05}
	})
	r.accept(Caller{}, "good", "bad-"+strings.Repeat("x", 4<<20)) // even compressed, more than a twentieth of the cap
	r.f.Start(t.Context())
	r.until("the good item to be settled", func(tt queue.Totals) bool {
		clock.ahead.Add(int64(time.Minute))
		r.f.poke()
		return tt.Delivered == 1 && tt.Pending == 1
	})
	up.mu.Lock()
	defer up.mu.Unlock()
	if n := up.taken["good"]; n > 2 {
		t.Errorf("the good item was sent %d times, want at most once before and once after the quarantine was found full", n)
	}
}

func TestGivingUpOnOneFrameSparesTheOthers(t *testing.T) {
	up := newFakeUpstream()
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.ContainsFunc(ls, func(l string) bool { return strings.HasPrefix(l, "bad") }) {
			return refused(RefusedContent, 400)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r := newRig(t, up)
	bad := lines("bad", 400)
	bad[0] += strings.Repeat("x", 64<<10) // a frame of its own
	r.accept(Caller{}, bad...)
	r.accept(Caller{}, lines("good", 10)...)
	r.f.Start(t.Context())
	r.until("the guilty frame in quarantine and the other delivered", func(tt queue.Totals) bool {
		r.f.Wake()
		return tt.Quarantined == 400 && tt.Delivered == 10
	})
}

func TestDataRefusedAgainAfterItsReleaseIsReleasedLessAndLess(t *testing.T) {
	up := newFakeUpstream()
	var firewalled atomic.Int64
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.Contains(ls, "attack") {
			firewalled.Add(1)
			return refused(RefusedAccess, 403)
		}
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	var clock aheadClock
	r := newRig(t, up)
	r.reopen(func() { r.cfg.Now = clock.now })
	r.f.Start(t.Context())
	r.accept(Caller{}, "attack")
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 1 })
	const rounds = 40
	for i := range rounds {
		r.accept(Caller{}, fmt.Sprint("good-", i))
		r.until("new data", func(tt queue.Totals) bool {
			clock.ahead.Add(int64(100 * time.Millisecond))
			r.f.poke()
			return tt.Delivered >= int64(i+1)
		})
	}
	if n := firewalled.Load(); n > rounds/2 {
		t.Errorf("what is refused was sent %d times beside %d exports that are taken", n, rounds)
	}
}

func TestASuccessFromBeforeAServersPauseDoesNotEndIt(t *testing.T) {
	up := newFakeUpstream()
	r := newRig(t, up)
	slowStarted, release := make(chan struct{}), make(chan struct{})
	up.set(func(_ *Request, ls []string) Outcome {
		if slices.Contains(ls, "slow") {
			close(slowStarted)
			<-release
			return Outcome{Kind: Delivered, Reason: "ok"}
		}
		return Outcome{Kind: Retry, Reason: "http_429", Scope: ScopeCredential, RetryAfter: time.Hour}
	})
	r.f.Start(t.Context())
	r.accept(Caller{Project: "slow"}, "slow")
	<-slowStarted
	r.accept(Caller{}, "limited")
	key := credentialWait(Lane{Credential: refKey, Workspace: refWorkspace})
	r.until("the pause", func(queue.Totals) bool { _, ok := r.f.waits.get(key); return ok })
	before, _ := r.f.waits.get(key)
	close(release)
	r.until("the older request", func(tt queue.Totals) bool { return tt.Delivered == 1 && r.f.laneOf("slow").sending == 0 })
	if after, ok := r.f.waits.get(key); !ok || !after.Since.Equal(before.Since) {
		t.Error("a success that began before the server asked for an hour's pause ended the pause")
	}
}

// laneOf is a copy of what is known of the lane with a project.
func (f *Forwarder) laneOf(project string) (run laneRun) {
	lanes := f.q.Lanes()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range lanes {
		lane, err := parseLane(lanes[i].Descriptor)
		if r := f.lanes[lanes[i].ID]; err == nil && r != nil && lane.Project == "="+project {
			run = *r
		}
	}
	return run
}

func TestAStoredWaitIsBoundedWhateverTheClockSays(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	until := time.Now().AddDate(0, 1, 0).UTC().Format(time.RFC3339)
	if err := r.q.SetNote(waitNotes+string(upstreamWait), []byte(`{"scope":"upstream","reason":"http_429","until":"`+until+`"}`)); err != nil {
		t.Fatal(err)
	}
	r.reopen(func() {})
	w, ok := r.f.waits.get(upstreamWait)
	if left := time.Until(w.Until); !ok || left > maxWait {
		t.Errorf("a stored wait lasts %s, want at most %s", left, maxWait)
	}
}

func TestLanesThatAreGoneAreForgotten(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	for id := range queue.LaneID(2 * forgetSlack) {
		r.f.lane(id + 1)
	}
	r.f.begin(r.f.lane(1)) // still sending
	r.f.forget(nil)
	if n := len(r.f.lanes); n != 1 {
		t.Errorf("%d lanes are remembered, want the one that is sending", n)
	}
}

// After damage to its journal the queue may know a lane by number only.
func TestDrainEndsThoughALaneCannotBeRead(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	if err := r.q.Append(t.Context(), &queue.Export{Lane: "unknown-lane-7", Payload: []byte("x\n"), Items: 1}); err != nil {
		t.Fatal(err)
	}
	r.f.Start(t.Context())
	r.accept(Caller{}, "readable")
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var last DrainProgress
	if err := r.f.Drain(ctx, r.a, func(p DrainProgress) error { last = p; return nil }); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("the drain waited for a lane that nothing can be sent from")
	}
	if last.PendingItems != 1 || len(last.Left) != 1 {
		t.Errorf("the drain left %d items and said %q, want the unreadable one", last.PendingItems, last.Left)
	}
	if problems := r.f.Status(r.a).Problems; len(problems) == 0 {
		t.Error("a lane that cannot be read is no problem to anybody")
	}
}
