package refusals

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/proxy"
	"weir/proxy/diagnose"
	"weir/proxy/runs"
	"weir/queue"
	"weir/quota"
)

func TestAnEdgeMachineThatWasOfflineForTwoDaysDeliversAll(t *testing.T) {
	for _, tc := range []struct {
		name    string
		restart bool
		days    int
	}{{"and stayed up", false, 2}, {"and was restarted meanwhile", true, 2}, {"for five days", true, 5}} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			r.online()
			warm, warmChild := pair(1000, r.now())
			r.take(warm.create(), warmChild.create(), warmChild.update(), warm.update())
			r.settled(4, 0)
			r.offline()
			const traces = 200
			var nodes [traces][2]node
			for i := range nodes {
				root, child := pair(i, r.now())
				nodes[i] = [2]node{root, child}
				r.take(root.create(), child.create())
				r.take(child.update(), root.update())
				r.later(time.Second)
			}
			for range tc.days {
				// And one that has ended: no request is under way for a day.
				r.until("an attempt in vain", func(queue.Totals) bool {
					w := r.f.Status(r.a).UpstreamWait
					return w != nil && w.Until.After(r.now())
				})
				r.later(24 * time.Hour)
				if tc.restart {
					r.restart()
				}
				r.f.Wake()
			}
			r.online()
			r.settled(4*traces+4, 0)
			r.noneRefused()
			for _, n := range nodes {
				if by := r.wantMoved(n[0], n[1]); by < 24*time.Hour {
					t.Errorf("trace %d was moved by %s only", n[0].trace, by)
				} else {
					r.wantNow(n[0].start.Add(by))
				}
			}
			if by := r.wantMoved(warm, warmChild); by != 0 {
				t.Errorf("what was sent in time was moved by %s", by)
			}
			if got := r.f.Status(r.a).Restamped; got != traces {
				t.Errorf("status counts %d moved traces, want %d", got, traces)
			}
		})
	}
}

func TestWhatComesLateOfAMovedTraceIsMovedAlike(t *testing.T) {
	r := newWindowRig(t, nil)
	root, child := pair(1, r.now())
	r.take(root.create(), child.create())
	r.later(48 * time.Hour)
	r.online()
	r.settled(2, 0)
	start, _, _ := r.arrivedAs(child)
	r.wantNow(start)
	r.restart()
	r.later(3 * time.Hour)
	feedback := runs.Op{Kind: runs.Feedback, ID: idOf(1, 9), Trace: idOf(1, 0), Body: toJSON(map[string]any{
		"id": idOf(1, 9).String(), "trace_id": idOf(1, 0).String(), "run_id": idOf(1, 0).String(), "key": "k", "start_time": root.start.UTC().Format(time.RFC3339Nano),
	})}
	r.take(child.update(), root.update(), feedback)
	r.settled(5, 0)
	r.noneRefused()
	by := r.wantMoved(root, child)
	if got := r.smith.Feedbacks()[0].Members.Text("start_time"); got != root.start.Add(by).UTC().Format(time.RFC3339Nano) {
		t.Errorf("the feedback's run started at %s, want %s later than %s", got, by, root.start)
	}
	if got := r.f.Status(r.a).Restamped; got != 0 {
		t.Errorf("status counts %d moved traces after the restart, want none", got)
	}
}

func TestATraceThatWasSentInPartIsNotMoved(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault *smith.Fault // of the first request
		open  int64        // pending after it
	}{
		{"and arrived", nil, 0},
		{"and may have arrived", &smith.Fault{Stage: smith.StageStored, Reset: true}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			root, child := pair(1, r.now())
			if tc.fault != nil {
				r.smith.Script(tc.fault.Times(1))
			}
			r.online()
			r.take(root.create())
			if tc.open == 0 {
				r.settled(1, 0)
			} else {
				r.until("the first attempt", func(queue.Totals) bool { return r.smith.Stats().Requests > 0 })
			}
			r.offline()
			r.take(child.create(), child.update(), root.update())
			r.restart()
			r.later(30 * time.Hour)
			fresh, freshChild := pair(2, r.now())
			r.take(fresh.create(), freshChild.create(), freshChild.update(), fresh.update())
			r.online()
			if tc.open == 0 {
				r.settled(5, 3)
			} else {
				// The lost one lies outside, too: whether it arrived is open.
				r.settled(4, 4)
			}
			r.noneRefused()
			r.wantMoved(fresh, freshChild)
			c := r.theCase()
			if top := c.Diagnosis.Top(); top.Code != diagnose.StartTimeWindow || top.Confidence != diagnose.Certain ||
				!strings.Contains(top.Remedy, "start_time_window to off") {
				t.Errorf("it is diagnosed as %+v", top)
			}
			for _, want := range []string{"run 02", ", 30 h ago", "more than 24 h from now", "part of its trace was sent"} {
				if !strings.Contains(c.Refusal.Exchange.Error, want) {
					t.Errorf("the case says %q, want it to name %q", c.Refusal.Exchange.Error, want)
				}
			}
		})
	}
}

func TestAfterAKillWhatWasUnderWayMayHaveArrived(t *testing.T) {
	for _, tc := range []struct {
		name      string
		hang      bool
		delivered int64
	}{
		{"while a request was under way", true, 0},
		{"while the lane waited", false, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			root, child := pair(1, r.now())
			r.smith.SetStanding(&smith.Fault{Hang: tc.hang, Status: 503})
			r.online()
			r.take(root.create(), child.create())
			r.until("a request", func(queue.Totals) bool { return r.smith.Stats().Requests > 0 })
			if !tc.hang {
				r.until("the wait", func(queue.Totals) bool { return r.f.Status(r.a).UpstreamWait != nil })
				r.offline()
			}
			killed := r.copyOf()
			r.smith.ClearFaults()
			r.close()
			r.offline()
			killed.later(30 * time.Hour)
			killed.open()
			killed.online()
			killed.settled(tc.delivered, 2-tc.delivered)
			killed.noneRefused()
			if tc.delivered == 0 {
				killed.theCase()
			}
		})
	}
}

func TestWhatWasHeldForLongIsMovedWhenItIsReleased(t *testing.T) {
	r := newWindowRig(t, nil)
	r.close()
	r.rules = quota.Rules{Traces: 1, Policy: quota.PolicyHold}
	r.open()
	r.online()
	first, firstChild := pair(1, r.now())
	r.take(first.create(), firstChild.create(), firstChild.update(), first.update())
	r.settled(4, 0)
	held, heldChild := pair(2, r.now())
	r.take(held.create(), heldChild.create(), heldChild.update(), held.update())
	r.until("the hold", func(t queue.Totals) bool { return t.Held == 4 })
	r.later(48 * time.Hour)
	r.no(r.guard.SetRules(quota.Rules{Traces: 10, Policy: quota.PolicyHold}))
	r.until("the release", func(t queue.Totals) bool { return t.Held == 0 && t.Pending == 0 })
	r.settled(8, 0)
	r.noneRefused()
	r.wantNow(held.start.Add(r.wantMoved(held, heldChild)))
}

func TestWhatWaitedForAKeyForTwoDaysIsMoved(t *testing.T) {
	r := newWindowRig(t, nil)
	r.smith.SetStanding(&smith.Fault{Match: smith.MatchIngest, Status: http.StatusForbidden, Body: `{"error":"Forbidden"}`})
	r.online()
	root, child := pair(1, r.now())
	r.take(root.create(), child.create())
	r.until("its case", func(t queue.Totals) bool { return t.Quarantined == 2 })
	r.take(child.update(), root.update())
	r.later(24 * time.Hour)
	r.restart()
	r.later(24 * time.Hour)
	r.smith.ClearFaults()
	before := r.smith.Stats().Answers[http.StatusBadRequest]
	r.until("all to heal", func(t queue.Totals) bool { return t.Delivered == 4 })
	if got := r.smith.Stats().Answers[http.StatusBadRequest]; got != before {
		t.Errorf("%d requests were refused for what they held", got-before)
	}
	r.wantNow(root.start.Add(r.wantMoved(root, child)))
}

func TestStaleRunsAreNeverMixedWithFreshOnes(t *testing.T) {
	r := newWindowRig(t, func(w *proxy.StartWindow) { w.Quarantine = true })
	r.online()
	old, oldChild := pair(1, r.now().Add(-25*time.Hour))
	fresh, freshChild := pair(2, r.now())
	soon, soonChild := pair(3, r.now().Add(25*time.Hour))
	margin, marginChild := pair(4, r.now().Add(-23*time.Hour-55*time.Minute))
	r.take(
		old.create(), fresh.create(), oldChild.create(), freshChild.create(), soon.create(), margin.create(),
		freshChild.update(), oldChild.update(), fresh.update(), old.update(), soonChild.create(), marginChild.create(),
	)
	r.settled(4, 8)
	r.noneRefused()
	r.wantMoved(fresh, freshChild)
	if c := r.theCase(); !strings.Contains(c.Refusal.Exchange.Error, "start_time_window_policy is quarantine") {
		t.Errorf("the case says %q", c.Refusal.Exchange.Error)
	}
	r.take(old.op(runs.Update, map[string]any{"start_time": nil, "tags": []string{"late"}}))
	r.settled(4, 9) // it follows its create
	// A person finds out that this LangSmith takes them.
	r.smith.SetSwitches(smith.Switches{})
	r.window.Enforced = false
	r.f.SetStartWindow(r.window)
	r.no(r.q.Release(r.theCase().Place))
	r.settled(13, 0)
	if by := r.wantMoved(fresh, freshChild); by != 0 {
		t.Error("what was fresh was moved")
	}
	if start, _, _ := r.arrivedAs(old); !start.Equal(old.start) {
		t.Errorf("what was kept arrived with start %s, want the original %s", start, old.start)
	}
}

func TestWhatIsFromTheFutureIsMovedToo(t *testing.T) {
	r := newWindowRig(t, nil)
	r.online()
	root, child := pair(1, r.now().Add(50*time.Hour))
	r.take(root.create(), child.create(), child.update(), root.update())
	r.settled(4, 0)
	r.noneRefused()
	r.wantNow(root.start.Add(r.wantMoved(root, child)))
}

func TestWhatCannotBeMovedIsKeptAndSaysWhy(t *testing.T) {
	long := func(r *windowRig) []runs.Op {
		root, child := pair(1, r.now().Add(-72*time.Hour))
		child.start = r.now()
		return []runs.Op{root.create(), child.create()}
	}
	event := func(r *windowRig) []runs.Op {
		root, child := pair(1, r.now().Add(-72*time.Hour))
		op := child.create()
		op.Fields[runs.Events] = []byte(`[{"name":"e","time":"noon"}]`)
		return []runs.Op{root.create(), op}
	}
	rootless := func(r *windowRig) []runs.Op {
		_, child := pair(1, r.now().Add(-72*time.Hour))
		return []runs.Op{child.create(), child.update()}
	}
	future := func(r *windowRig) []runs.Op {
		_, child := pair(1, r.now().Add(72*time.Hour))
		return []runs.Op{child.create(), child.update()}
	}
	for _, tc := range []struct {
		name, why string
		ops       func(*windowRig) []runs.Op
	}{
		{"a trace longer than the window", "lie further apart than the window is long", long},
		{"a time that cannot be read", "events.time", event},
		{"a trace that was begun elsewhere", "root run is not there", rootless},
		{"a trace from the future", "is the clock right of the machine that it comes from?", future},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWindowRig(t, nil)
			ops := tc.ops(r)
			fresh, freshChild := pair(2, r.now())
			r.take(slices.Concat(ops, []runs.Op{fresh.create(), freshChild.create(), freshChild.update(), fresh.update()})...)
			r.online()
			r.settled(4, int64(len(ops)))
			r.noneRefused()
			r.wantMoved(fresh, freshChild)
			if c := r.theCase(); !strings.Contains(c.Refusal.Exchange.Error, tc.why) {
				t.Errorf("the case says %q, want it to say %q", c.Refusal.Exchange.Error, tc.why)
			}
		})
	}
}

func TestAWindowThatWeirDoesNotKnowOfIsFoundOut(t *testing.T) {
	for _, window := range []smith.Window{smith.Window400, smith.Window422} {
		t.Run(window.String(), func(t *testing.T) {
			r := newWindowRig(t, func(w *proxy.StartWindow) { w.Enforced = false })
			r.smith.SetSwitches(smith.Switches{RunsWindow: window})
			old, oldChild := pair(1, r.now().Add(-25*time.Hour))
			fresh, freshChild := pair(2, r.now())
			r.take(fresh.create(), freshChild.create(), old.create(), freshChild.update(), oldChild.create(), oldChild.update(), fresh.update())
			r.online()
			r.settled(4, 3)
			r.wantMoved(fresh, freshChild)
			if c := r.theCase(); !strings.Contains(c.Refusal.Exchange.Body, "24-hour window") {
				t.Errorf("the case has %+v, want the upstream's own words", c.Refusal)
			}
		})
	}
}

func TestWhereThereIsNoWindowOldRunsGoAsTheyAre(t *testing.T) {
	r := newWindowRig(t, func(w *proxy.StartWindow) { w.Enforced = false })
	r.smith.SetSwitches(smith.Switches{})
	r.online()
	old, oldChild := pair(1, r.now().Add(-999*time.Hour))
	r.take(old.create(), oldChild.create(), oldChild.update(), old.update())
	r.settled(4, 0)
	if start, _, _ := r.arrivedAs(old); !start.Equal(old.start) {
		t.Errorf("it arrived with start %s, want %s", start, old.start)
	}
}
