package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/proxy/runs"
	"weir/queue"
	"weir/quota"
)

// picky refuses every key but one, for as long as it is set to.
type picky struct {
	*smithlike
	takes string
}

func (p *picky) Send(ctx context.Context, r *Request) Outcome {
	if r.APIKey != p.takes {
		return refused(RefusedAccess, 401)
	}
	return p.smithlike.Send(ctx, r)
}

const callersKey = "lsv2_pt_caller_key_9"

func newPickyRig(t *testing.T) *runsRig {
	t.Helper()
	r := newRunsRig(t, nil)
	r.dividers = map[Protocol]Divider{ProtocolRuns: RunsDivider{}}
	r.openPicky()
	return r
}

// openPicky opens the rig anew before an upstream that takes weir's own key only.
func (r *runsRig) openPicky() {
	r.t.Helper()
	r.close(r.t.Context())
	r.reopen()
	r.f.up = &picky{r.smith, r.dest.APIKey}
}

// takeFrom takes an export of operations under a caller's key.
func (r *runsRig) takeFrom(ops ...runs.Op) {
	r.t.Helper()
	e := &Export{Protocol: ProtocolRuns, Items: len(ops), Caller: Caller{APIKey: callersKey, Workspace: "theirs"}}
	for i := range ops {
		e.Payload = runs.Append(e.Payload, &ops[i])
		e.TraceIDs = append(e.TraceIDs, TraceID(ops[i].Trace))
	}
	if _, err := r.a.Accept(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
}

// onlyCase waits until the quarantine has so many items in one case.
func (r *rig) onlyCase(items int64) CaseStatus {
	r.t.Helper()
	r.until("the quarantine", func(t queue.Totals) bool { return t.Quarantined == items })
	cases := r.f.Quarantine()
	if len(cases) != 1 {
		r.t.Fatalf("%d cases, want one: %+v", len(cases), cases)
	}
	return cases[0]
}

// TestAsOwnKeyTakesWhatWaitsAlong: creates are in the case, their updates pending
// behind it. All goes under weir's own key, creates first, and nothing counts
// twice.
func TestAsOwnKeyTakesWhatWaitsAlong(t *testing.T) {
	r := newPickyRig(t)
	const n = 40
	for i := range n {
		r.takeFrom(createOf(i, ""))
	}
	r.f.Start(t.Context())
	c := r.onlyCase(n)
	if c.State != CaseProbing || c.NextProbe.IsZero() || c.Of.Lane.OwnKey() {
		t.Errorf("the case is %+v", c)
	}
	for i := range n {
		r.takeFrom(updateOf(i, ""))
	}
	dry, err := r.f.ReleaseCase(t.Context(), c.Place, Release{AsOwnKey: true, DryRun: true})
	if err != nil || dry.Items+dry.Waiting != 2*n {
		t.Fatalf("a dry run: %+v, %v", dry, err)
	}
	done, err := r.f.ReleaseCase(t.Context(), c.Place, Release{AsOwnKey: true})
	if err != nil || done.Items != n || done.Waiting != n {
		t.Fatalf("released %+v, %v", done, err)
	}
	r.until("everything to be delivered", func(t queue.Totals) bool { return t.Delivered == 2*n && t.Accepted == 2*n })
	if len(r.smith.early) > 0 {
		t.Errorf("updates came before their creates: %v", r.smith.early)
	}
	for i := range n {
		r.wantWhole(i)
	}
	if _, err := r.f.ReleaseCase(t.Context(), c.Place, Release{}); !errors.Is(err, ErrNoCase) {
		t.Errorf("released again: %v, want %v", err, ErrNoCase)
	}
	r.takeFrom(createOf(n, "")) // the caller's key is still its own
	r.onlyCase(1)
}

// TestAsOwnKeyCutShortLosesNothing ends a move after each of its steps.
func TestAsOwnKeyCutShortLosesNothing(t *testing.T) {
	r := newPickyRig(t)
	const n = 5
	for i := range n {
		r.takeFrom(createOf(i, ""), updateOf(i, ""))
	}
	r.f.Start(t.Context())
	c := r.onlyCase(2 * n)
	r.openPicky()      // and not started: nothing is sent
	for i := range n { // a frame at a time, then a restart
		c, err := r.f.Case(c.Place)
		if err != nil {
			t.Fatal(err)
		}
		from, to, _ := r.f.ownLane(&c)
		m := mover{f: r.f, c: &c, from: from, to: to}
		lease, err := r.q.Lease(queue.LeaseOptions{Lane: c.Lane, Place: c.Place, InOrder: true, MaxFrames: 1, MaxRawBytes: 1})
		if err != nil || lease == nil {
			t.Fatal(lease, err)
		}
		if moved, _, err := m.step(lease, time.Time{}); moved != 2 || err != nil {
			t.Fatalf("step %d moved %d items, %v", i, moved, err)
		}
		r.openPicky()
		tot := r.q.Stats().Totals
		r.conserved(tot)
		if tot.Accepted != 2*n || tot.Pending != int64(2*i+2) || tot.Quarantined != int64(2*n-2*i-2) {
			t.Fatalf("after step %d: %+v", i, tot)
		}
	}
	r.f.Start(t.Context())
	r.until("everything to be delivered", func(t queue.Totals) bool { return t.Delivered == 2*n })
	if len(r.smith.early) > 0 {
		t.Errorf("updates came before their creates: %v", r.smith.early)
	}
}

// TestDiscardGivesSharesBack: what was refused for certain takes no share of the
// month once it is discarded; what may have arrived keeps its own.
func TestDiscardGivesSharesBack(t *testing.T) {
	r := newLimitedRig(t, quota.Rules{Traces: 3, Policy: quota.PolicyDrop})
	r.up.set(func(_ *Request, lines []string) Outcome {
		if strings.HasPrefix(lines[0], "lost") {
			return Outcome{Kind: Retry, Reason: "timeout", Scope: ScopeLane, MayHaveArrived: true}
		}
		return refused(RefusedAccess, 403)
	})
	r.bring("lost:1")
	r.until("an answer to be lost", func(queue.Totals) bool { return r.up.count() > 0 })
	// Data at fault by itself: nothing of it is released while the test looks.
	r.up.set(func(*Request, []string) Outcome { return refused(RefusedContent, 422) })
	for _, line := range []string{"a:1", "a:2", "b:1"} {
		r.bring(line)
	}
	r.until("the quarantine", func(t queue.Totals) bool { r.f.Wake(); return t.Quarantined == 4 })
	c := r.onlyCase(4)
	if s := r.f.QuotaStatus()[0]; s.Reserved != 3 {
		t.Fatalf("%d shares are taken, want 3", s.Reserved)
	}
	if counts := r.f.CountTraces(t.Context(), c); counts[c.Place].Traces != 3 || counts[c.Place].AtLeast || len(counts[c.Place].First) != 3 {
		t.Errorf("it has %+v", counts)
	}
	dry, err := r.f.DiscardCase(t.Context(), c.Place, true)
	if err != nil || dry.Items != 4 || dry.Bytes == 0 || r.q.Stats().Totals.Quarantined != 4 {
		t.Fatalf("a dry run: %+v, %v", dry, err)
	}
	done, err := r.f.DiscardCase(t.Context(), c.Place, false)
	tot := r.q.Stats().Totals
	r.conserved(tot)
	if err != nil || done.Items != 4 || tot.DroppedByReason[reasonDiscarded] != 4 || tot.Quarantined != 0 {
		t.Fatalf("discarded %+v, %v: %+v", done, err, tot)
	}
	if s := r.f.QuotaStatus()[0]; s.Reserved != 1 {
		t.Errorf("%d shares are taken, want the one of what may have arrived", s.Reserved)
	}
	r.wantPlaces("a:", TraceDiscarded)
	r.up.set(delivered)
	r.bring("a:3") // a later arrival is decided about anew
	r.until("it to be delivered", func(t queue.Totals) bool { return t.Delivered == 1 })
	r.wantPlaces("a:", TraceDelivered, TraceDiscarded)
}

// wantPlaces checks where a trace is.
func (r *limitedRig) wantPlaces(line string, want ...TraceState) []TracePlace {
	r.t.Helper()
	w, err := r.f.Find(r.t.Context(), lineTrace(line))
	var got []TraceState
	for i := range w.Places {
		got = append(got, w.Places[i].State)
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("trace %s is %v, %v; want %v", line, got, err, want)
	}
	return w.Places
}

// TestFindTellsEveryPlaceOfATrace brings traces into each state there is.
func TestFindTellsEveryPlaceOfATrace(t *testing.T) {
	r := newLimitedRig(t, quota.Rules{Traces: 3})
	r.bring("a:1", "b:1")
	r.until("delivery", func(t queue.Totals) bool { return t.Delivered == 2 })
	r.up.set(func(*Request, []string) Outcome { return refused(RefusedAccess, 403) })
	r.bring("a:2", "a:3", "b:2")
	r.until("the quarantine", func(t queue.Totals) bool { return t.Quarantined == 3 })
	r.bring("c:1")
	r.bring("d:1", "a:4")
	r.until("the hold", func(t queue.Totals) bool { return t.Held == 1 })
	p := r.wantPlaces("a:", TracePending, TraceQuarantined, TraceDelivered)
	if len(p) != 3 {
		return
	}
	if p[0].Items != 1 || p[0].AtLeast || p[0].Reason != "http_403" || p[0].Until.IsZero() {
		t.Errorf("pending: %+v", p[0])
	}
	if p[1].Items != 2 || p[1].Case == nil || p[1].Reason == "" {
		t.Errorf("quarantined: %+v", p[1])
	}
	if p[2].Since.IsZero() || p[2].Month != quota.MonthOf(r.clock.now()) {
		t.Errorf("delivered: %+v", p[2])
	}
	if p := r.wantPlaces("d:", TraceHeld); len(p) == 1 && (p[0].Items != 1 || p[0].Reason != reasonHold || !strings.Contains(p[0].Detail, "3 traces")) {
		t.Errorf("held: %+v", p[0])
	}
	r.wantPlaces("never seen:")
	r.close(t.Context())
	r.reopenLimited() // when it was sent is not known any more, the month is
	if p := r.wantPlaces("b:", TraceQuarantined, TraceDelivered); len(p) == 2 && (!p[1].Since.IsZero() || p[1].Month == 0) {
		t.Errorf("delivered before a restart: %+v", p[1])
	}
}

func TestTraceIDsAreReadInEveryForm(t *testing.T) {
	want := TraceID{0x01, 0x9a, 0xBC, 15: 0x0F}
	for _, text := range []string{
		"019abc00-0000-0000-0000-00000000000f", "019abc0000000000000000000000000f", "019ABC00-0000-0000-0000-00000000000F",
		" 019aBC0000000000000000000000000F\n",
	} {
		if id, err := ParseTraceID(text); id != want || err != nil {
			t.Errorf("%q is read as %x, %v", text, id, err)
		}
	}
	for _, text := range []string{"", "019abc", "00000000000000000000000000000000", "019abc00-0000-0000-0000-00000000000g", strings.Repeat("0", 33)} {
		if id, err := ParseTraceID(text); err == nil {
			t.Errorf("%q is read as %x", text, id)
		}
	}
}

// TestReleaseEndsTheWait: a lane that is probed in an hour is tried at once.
func TestReleaseEndsTheWait(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	r.up.set(func(*Request, []string) Outcome { return refused(RefusedAccess, 403) })
	r.f.Start(t.Context())
	r.accept(Caller{}, "a")
	c := r.onlyCase(1)
	r.until("its wait", func(queue.Totals) bool { return r.f.waits.putOff(time.Hour) > 0 })
	r.up.set(delivered)
	if c, err := r.f.Case(c.Place); err != nil || time.Until(c.NextProbe) < 50*time.Minute {
		t.Fatalf("the case is %+v, %v", c, err)
	}
	if _, err := r.f.ReleaseCase(t.Context(), c.Place, Release{}); err != nil {
		t.Fatal(err)
	}
	r.allDelivered(1)
}

// putOff has all waits last for another d, and returns how many there are.
func (w *waits) putOff(d time.Duration) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.m {
		one.Until = w.now().Add(d)
	}
	return len(w.m)
}

// TestCaseOutlivesItsProbes: however often a case is probed while data comes in,
// it stays the same one, and in the end everything goes.
func TestCaseOutlivesItsProbes(t *testing.T) {
	for _, protocol := range []Protocol{protocolLines, ProtocolRuns} {
		t.Run(protocol.String(), func(t *testing.T) {
			r := newRunsRig(t, nil)
			lines := newFakeUpstream()
			lines.set(func(*Request, []string) Outcome { return refused(RefusedAccess, 403) })
			r.smith.set("denied")
			if protocol == protocolLines {
				r.f.up = lines
			}
			bring := func(n int) {
				if protocol == protocolLines {
					r.accept(Caller{}, fmt.Sprint("line-", n))
					return
				}
				r.take(createOf(n, ""))
				r.take(updateOf(n, ""))
			}
			bring(0)
			r.f.Start(t.Context())
			r.until("the quarantine", func(t queue.Totals) bool { return t.Quarantined > 0 })
			first := r.f.Quarantine()
			for n := range 20 {
				requests := r.smith.count() + lines.count()
				r.until("a probe", func(queue.Totals) bool {
					r.f.waits.wake()
					r.f.poke()
					return r.smith.count()+lines.count() > requests
				})
				bring(n + 1)
			}
			last := r.f.Quarantine()
			if len(first) != 1 || len(last) != 1 || first[0].Place != last[0].Place || !last[0].FirstSeen.Equal(first[0].FirstSeen) {
				t.Errorf("cases were %+v and are %+v", first, last)
			}
			lines.set(delivered)
			r.smith.set("")
			r.until("everything to be delivered", func(t queue.Totals) bool { r.f.Wake(); return t.Delivered == t.Accepted })
			if len(r.smith.early) > 0 {
				t.Errorf("updates came before their creates: %v", r.smith.early)
			}
		})
	}
}

// TestExportIsReadBackAsItWas: whatever operations hold.
func TestExportIsReadBackAsItWas(t *testing.T) {
	r := newPickyRig(t)
	odd := runs.Op{Kind: runs.Create, ID: numbered(1), Trace: numbered(1), Body: []byte(`{"name":  "spaced <b>&\u2028 ", "n": 1e400}`)}
	odd.Fields[runs.Inputs] = []byte("{\"bytes\":\"\xff\xfe\"}")
	odd.Fields[runs.Outputs] = []byte(`[1.10,-0,12345678901234567890]`)
	blob, err := r.a.Spool(t.Context(), strings.NewReader(strings.Repeat("large", 500_000)), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	want := []runs.Op{
		odd,
		{Kind: runs.Update, ID: numbered(1), Trace: numbered(1), Body: []byte(`{"u":1}`)},
		{Kind: runs.Attachment, ID: numbered(1), Trace: numbered(1), Name: "note", ContentType: "text/plain", Data: []byte("\x00\xff")},
		{Kind: runs.Attachment, ID: numbered(1), Trace: numbered(1), Name: "film", ContentType: "video/mp4", Blob: blob.ID, BlobBytes: blob.Bytes},
		{Kind: runs.Feedback, ID: numbered(2), Trace: numbered(1), Body: []byte(`{"score":1}`)},
		{Kind: runs.Call, ID: numbered(1), Method: "PATCH", Path: "/runs/x?a=b", ContentType: "text/odd", Body: []byte("no JSON \xff")},
		{Kind: runs.Call, Method: "POST", Path: "/feedback", ContentType: "application/json", Body: []byte(`{"a":"<"}`)},
	}
	e := &Export{Protocol: ProtocolRuns, Items: len(want), Caller: Caller{APIKey: callersKey}, TraceIDs: []TraceID{TraceID(numbered(1))}, Blobs: []runs.Blob{blob}}
	for i := range want {
		e.Payload = runs.Append(e.Payload, &want[i])
	}
	if _, err := r.a.Accept(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	r.f.Start(t.Context())
	c := r.onlyCase(int64(len(want)))
	var file bytes.Buffer
	sum, err := r.f.ExportCases(t.Context(), []queue.Place{c.Place}, &file)
	if err != nil || sum != (Exported{Cases: 1, Items: int64(len(want))}) {
		t.Fatalf("%+v, %v", sum, err)
	}
	got, content := readExport(t, &file)
	if len(got) != len(want) || content[blob.ID] != strings.Repeat("large", 500_000) {
		t.Fatalf("%d operations and %d bytes of content are read back", len(got), len(content[blob.ID]))
	}
	for i := range want {
		if !bytes.Equal(runs.Append(nil, &got[i]), runs.Append(nil, &want[i])) {
			t.Errorf("operation %d is read back as %+v, was %+v", i, got[i], want[i])
		}
	}
}

// TestADiscardThatIsCutShortLeavesACaseThatHeals: what was not dropped goes once
// its cause is gone.
func TestADiscardThatIsCutShortLeavesACaseThatHeals(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.set("denied")
	r.f.Start(t.Context())
	r.take(createOf(1, ""))
	c := r.onlyCase(1)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.f.DiscardCase(gone, c.Place, false); !errors.Is(err, context.Canceled) {
		t.Fatalf("discarded by somebody who has gone: %v", err)
	}
	r.smith.set("")
	r.f.Wake()
	r.until("the rest to be delivered", func(t queue.Totals) bool { return t.Delivered == 1 })
}
