package proxy

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"weir/proxy/runs"
	"weir/queue"
)

// vanishing loses requests before they arrive, but says that they may have.
type vanishing struct {
	*smithlike
	mu     sync.Mutex
	vanish bool
	lost   int
	hang   chan struct{} // not nil: requests wait for it
	began  chan struct{}
}

func (u *vanishing) Send(ctx context.Context, r *Request) Outcome {
	u.mu.Lock()
	v, hang := u.vanish, u.hang
	if v {
		u.lost++
	}
	u.mu.Unlock()
	if hang != nil {
		select {
		case u.began <- struct{}{}:
		default:
		}
		select {
		case <-hang:
		case <-ctx.Done():
			return Outcome{Kind: Interrupted, Reason: "stopping"}
		}
	}
	if v {
		return Outcome{Kind: Retry, Reason: "timeout", Scope: ScopeUpstream, MayHaveArrived: true}
	}
	return u.smithlike.Send(ctx, r)
}

func (u *vanishing) gone() int { u.mu.Lock(); defer u.mu.Unlock(); return u.lost }

// Create arrived (answer lost), restart, [create, update] is lost on the
// way, then they are folded, 409, and the update counts as delivered.
func TestRoundUpdatePresumedDelivered(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.set("lost")
	r.f.Start(t.Context())
	r.take(createOf(1, ""))
	r.until("an attempt", func(queue.Totals) bool { return r.smith.count() > 0 })
	r.take(updateOf(1, ""))
	r.close(context.Background())
	r.smith.set("")
	r.reopen()
	up := &vanishing{smithlike: r.smith, vanish: true}
	r.f.up = up
	r.f.Wake()
	r.f.Start(t.Context())
	r.until("a lost attempt", func(queue.Totals) bool { return up.gone() > 0 })
	up.mu.Lock()
	up.vanish = false
	up.mu.Unlock()
	tot := r.settled()
	t.Logf("%+v requests %v", tot, r.smith.requests)
	if tot.Delivered == 2 {
		r.wantWhole(1)
	}
}

type fakeNow struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeNow) get() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

// The clock is set back by an hour, no coalescing.
func TestRoundClockSetBack(t *testing.T) {
	c := &fakeNow{now: time.Now().Add(-time.Hour)}
	r := newRunsRig(t, func(cfg *ForwardConfig) { cfg.Now = c.get })
	r.take(createOf(1, "")) // the queue's clock is an hour ahead of the forwarder's
	r.f.Start(t.Context())
	<-time.After(300 * time.Millisecond)
	r.f.mu.Lock()
	n := r.f.leases
	r.f.mu.Unlock()
	if tot := r.q.Stats().Totals; tot.Delivered != 1 || n > 10 {
		t.Errorf("%+v after %d rounds in 300 ms", tot, n)
	}
}

// A wait has run out, all that is pending is young.
func TestRoundProbeOfYoungSpins(t *testing.T) {
	r := newRunsRig(t, func(cfg *ForwardConfig) { cfg.Coalesce = time.Hour })
	r.f.waits.failed(upstreamWait, &Outcome{Kind: Retry, Scope: ScopeUpstream, Reason: "http_503"}, time.Now())
	r.f.waits.wake()
	r.take(createOf(1, ""))
	r.f.Start(t.Context())
	<-time.After(300 * time.Millisecond)
	r.f.mu.Lock()
	n := r.f.leases
	r.f.mu.Unlock()
	if n > 10 {
		t.Errorf("%d rounds in 300 ms, %d requests", n, r.smith.count())
	}
}

// A young update that cannot be folded is overtaken by a later one.
func TestRoundYoungUpdateOvertaken(t *testing.T) {
	c := createOf(1, "")
	c.Fields[runs.Extra] = []byte(`{"a":1}`)
	u1 := updateOf(1, "")
	u1.Fields[runs.Extra] = []byte(`{"b":1}`)
	u2 := updateOf(1, "")
	ops := []roundOp{{Op: c, frame: 0}, {Op: u1, frame: 1, young: true}, {Op: u2, frame: 2, young: true}}
	for _, w := range plan(ops, planLimits{maxOps: 100, maxBytes: 1 << 20}) {
		for _, b := range w {
			for _, u := range b.units {
				if fmt.Sprint(u.members) == "[0 2]" {
					t.Error("the second update is folded in ahead of the first")
				}
			}
		}
	}
}

// An operation whose answer was lost, then refused for access: after the
// release it counts as never attempted and is folded.
func TestRoundAttemptForgottenOnRelease(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.set("lost")
	r.f.Start(t.Context())
	r.take(createOf(1, ""), createOf(2, ""))
	r.until("an attempt", func(queue.Totals) bool { return r.smith.count() > 0 })
	r.smith.set("denied")
	r.f.Wake()
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 2 })
	r.take(updateOf(1, ""))
	r.smith.set("")
	tot := r.settled()
	t.Logf("%v", r.smith.requests)
	if tot.Delivered != 3 || tot.Quarantined != 0 {
		t.Errorf("%+v %v, want both delivered", tot, r.caseReasons())
	}
}

// After the restart a run whose attachment has not gone counts as whole.
func TestRoundAttachmentPresumed(t *testing.T) {
	r := newRunsRig(t, nil)
	c := createOf(1, "")
	a := attachmentOf(1)
	f := func(lost bool) []roundOp {
		return []roundOp{{Op: c, frame: 0, lost: lost, group: groupApart}, {Op: a, frame: 0, number: 1, lost: lost, group: groupApart}}
	}
	_ = f
	// The run was taken by itself (after a 413 of both), then weir was killed.
	r.smith.taken["post "+numbered(1).String()] = 1
	r.smith.views[numbered(1)] = viewed{"c": []byte("1")}
	r.take(c, a)
	r.f.attempts.before[1] = 1 << 60 // as after a restart
	r.f.Start(t.Context())
	tot := r.settled()
	name := opName(&a)
	if tot.Delivered == 2 && r.smith.taken[name] == 0 {
		t.Errorf("%+v: the attachment counts as delivered and never arrived: %v", tot, r.smith.requests)
	}
	for id := range r.f.attempts.noted {
		t.Logf("lane %d", id)
	}
}

// Close while the dispatcher waits for a slot that a round's batch took.
func TestRoundDispatcherStuckOnSlot(t *testing.T) {
	// Two slots: a round of two batches takes both; the dispatcher is not woken
	// when the parallel batch gives its slot back.
	r := newRunsRig(t, func(c *ForwardConfig) { c.Concurrency = 2 })
	up := &partHang{smithlike: r.smith, hang: make(chan struct{}), first: make(chan struct{})}
	defer up.release()
	r.f.up = up
	var ops []runs.Op
	for n := 1; n <= 150; n++ {
		ops = append(ops, createOf(n, ""))
	}
	r.take(ops...)
	r.f.Start(t.Context())
	deadline := time.Now().Add(5 * time.Second)
	for up.calls() < 2 && time.Now().Before(deadline) {
		<-time.After(time.Millisecond)
	}
	other := createOf(900, "")
	e := &Export{Protocol: ProtocolRuns, Items: 1, Caller: Caller{Project: "other"}, Payload: runs.Append(nil, &other), TraceIDs: []TraceID{TraceID(other.Trace)}}
	if _, err := r.a.Accept(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	<-time.After(100 * time.Millisecond) // the dispatcher has seen it, and no slot
	close(up.first)
	<-time.After(2 * time.Second)
	if up.calls() < 3 {
		t.Errorf("another lane did not get the free slot in 2 s: %d calls, %d slots in use", up.calls(), len(r.f.slots))
	}
}

// partHang hangs on requests that hold the last run of the first lane.
type partHang struct {
	*smithlike
	mu          sync.Mutex
	n           int
	hang, first chan struct{}
	once        sync.Once
}

func (u *partHang) release()   { u.once.Do(func() { close(u.hang) }) }
func (u *partHang) calls() int { u.mu.Lock(); defer u.mu.Unlock(); return u.n }
func (u *partHang) Send(ctx context.Context, r *Request) Outcome {
	u.mu.Lock()
	u.n++
	u.mu.Unlock()
	for _, op := range r.Runs {
		if op.ID == numbered(150) {
			<-u.hang
		}
		if op.ID == numbered(1) {
			<-u.first
		}
	}
	return u.smithlike.Send(ctx, r)
}

// The dispatcher has leased and waits for a slot: Close does not heed its
// context. Slots are filled by hand, as a round's batches would between the
// look at len(slots) and the send to it.
func TestRoundCloseIgnoresItsContext(t *testing.T) {
	r := newRunsRig(t, func(c *ForwardConfig) { c.Concurrency = 1 })
	r.take(createOf(1, ""))
	r.f.slots <- struct{}{}
	done := make(chan struct{})
	s := r.q.Lanes()[0]
	go func() { // what pass does after it has seen a free slot
		r.f.tryLane(context.Background(), &s)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
		t.Error("the dispatcher blocks for as long as the request that took the slot runs; run.Done() does not free it")
		<-r.f.slots
		<-done
	}
	r.f.sends.Wait()
}

func attachmentOf(n int) runs.Op {
	return runs.Op{Kind: runs.Attachment, ID: numbered(n), Trace: numbered(n), Name: "a", ContentType: "image/png", Data: []byte("x")}
}

// TestAProbeOfACaseDoesNotOvertake: access that ends in the middle of a round
// leaves a create pending, and its update in the case.
func TestAProbeOfACaseDoesNotOvertake(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.maxOps = 1
	r.smith.bad = func(*runs.Op) bool { r.smith.mode = "denied"; return false } // from the second one on
	r.take(createOf(1, ""), createOf(2, ""))
	r.take(updateOf(2, ""))
	r.f.Start(t.Context())
	r.until("the quarantine", func(tt queue.Totals) bool { return tt.Quarantined == 1 })
	r.smith.mu.Lock()
	r.smith.mode, r.smith.bad = "", func(*runs.Op) bool { return false }
	r.smith.mu.Unlock()
	r.f.Wake()
	r.until("everything to be delivered", func(tt queue.Totals) bool { return tt.Delivered == 3 })
	r.wantWhole(2)
	if len(r.smith.early) > 0 {
		t.Errorf("updates went before their creates: %v", r.smith.early)
	}
}

// TestARefusalWithoutACaseIsExplained: access ends in the middle of the only
// frame, which stays pending.
func TestARefusalWithoutACaseIsExplained(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.maxOps = 1
	r.smith.bad = func(*runs.Op) bool { r.smith.mode = "denied"; return false } // from the second one on
	r.take(createOf(1, ""), createOf(2, ""))
	r.f.Start(t.Context())
	lane, err := parseLane(r.q.Lanes()[0].Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	r.until("the wait to be explained", func(queue.Totals) bool {
		w, _ := r.f.waits.get(credentialWait(lane))
		return w.Cause != ""
	})
	if n := len(r.f.Quarantine()); n != 0 {
		t.Errorf("%d cases, want none", n)
	}
}
