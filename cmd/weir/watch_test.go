package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

// Watch implements weirv1connect.AdminServiceHandler: it sends what the test
// puts into the channel, and ends the call when the test closes it.
func (f *fakeAdmin) Watch(ctx context.Context, _ *weirv1.WatchRequest, stream *connect.ServerStream[weirv1.WatchResponse]) error {
	for {
		select {
		case m, more := <-f.watch:
			if !more {
				return f.err
			}
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// busyWatch is the first message of a weir with every kind of trouble, while a
// backlog drains.
func busyWatch() *weirv1.WatchResponse {
	st := busyStatus()
	lanes := st.GetLanes()
	st.Lanes, st.Cases = nil, nil
	st.Flow = &weirv1.Flow{AcceptedPerSecond: 1200, DeliveredPerSecond: 3400, SentBytesPerSecond: 4.2 * (1 << 20), DrainedIn: durationpb.New(10 * time.Second)}
	st.CaseCounts = &weirv1.CaseCounts{Cases: 2, NeedsPerson: 1, Probing: 1, Items: 560}
	return &weirv1.WatchResponse{
		Time: timestamppb.New(fixedNow), First: true, Status: st, Lanes: lanes,
		Cases: []*weirv1.QuarantineCase{
			{
				Id: 3, Cause: "key_revoked", State: "probing", Items: 550, LastSeen: ago(5 * time.Second),
				NextProbe: timestamppb.New(fixedNow.Add(42 * time.Second)), Remedy: "Make a new key and set LANGSMITH_API_KEY.",
			},
			{Id: 4, Cause: "field_too_long", State: "needs_person", Items: 10, LastSeen: ago(time.Minute), Remedy: "Shorten the run's name."},
		},
		Scopes: []*weirv1.QuotaScope{
			{Account: "https://api.smith.langchain.com 5f8c", Month: "2026-11", TracesUsed: 4210, TracesLimit: proto.Int32(5000), TracesHeld: 312},
			{Account: "https://api.smith.langchain.com key 1", Month: "2026-11", TracesLimit: proto.Int32(5000)},
		},
	}
}

// shownBy gives a view messages and returns what it printed.
func shownBy(t *testing.T, view watchView, out *bytes.Buffer, messages ...*weirv1.WatchResponse) string {
	t.Helper()
	out.Reset()
	for _, m := range messages {
		if err := view.show(m); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestWatchPrintsALineForEachChange(t *testing.T) {
	var out bytes.Buffer
	view := &watchLines{con: &console{Out: &out, now: func() time.Time { return fixedNow }}}
	var all strings.Builder
	all.WriteString(shownBy(t, view, &out, busyWatch()))

	// Rates alone, and times that pass, are no change.
	same := busyWatch().GetStatus()
	same.Flow.AcceptedPerSecond, same.Disk.UsedBytes = 7, 1
	if text := shownBy(t, view, &out, &weirv1.WatchResponse{Status: same}); text != "" {
		t.Errorf("without a change: %s", text)
	}

	all.WriteString("--- the backlog is delivered, lane 2 goes on, case 3 heals, case 5 comes, case 4 stays\n")
	healed := busyWatch().GetStatus()
	healed.Totals.DeliveredItems, healed.Totals.PendingItems = 1234000, 0
	healed.Flow, healed.Upstream.WaitingReason, healed.Disk.Refusing = &weirv1.Flow{DeliveredPerSecond: 3400}, "", ""
	healed.Problems = healed.Problems[:1]
	all.WriteString(shownBy(t, view, &out, &weirv1.WatchResponse{
		Time: timestamppb.New(fixedNow.Add(time.Minute)), Status: healed,
		Lanes:     []*weirv1.Lane{{Id: 2, State: weirv1.LaneState_LANE_STATE_IDLE}},
		Cases:     []*weirv1.QuarantineCase{{Id: 5, Cause: "unknown", State: "probing"}},
		CasesGone: []uint32{3},
		Scopes:    []*weirv1.QuotaScope{{Account: "https://api.smith.langchain.com 5f8c", Month: "2026-11", TracesUsed: 5000, TracesLimit: proto.Int32(5000), TracesHeld: 312}},
	}))

	all.WriteString("--- weir is stopped and started again, and drains\n")
	out.Reset()
	if err := view.lost(errors.New("connection\nrefused")); err != nil {
		t.Fatal(err)
	}
	all.WriteString(out.String())
	again := quietStatus()
	again.Draining = true
	all.WriteString(shownBy(t, view, &out, &weirv1.WatchResponse{Time: timestamppb.New(fixedNow.Add(2 * time.Minute)), First: true, Status: again}))
	golden(t, "testdata/watch/lines.golden", all.String())
}

// Of more than a hundred cases, weir names the first: one that is not named any
// more may be open.
func TestWatchDoesNotCallACaseClosedThatMayBeOpen(t *testing.T) {
	var out bytes.Buffer
	view := &watchLines{con: &console{Out: &out, now: func() time.Time { return fixedNow }}}
	first := busyWatch()
	first.Status.CaseCounts.Cases = 10_000
	shownBy(t, view, &out, first)
	if text := shownBy(t, view, &out, &weirv1.WatchResponse{CasesGone: []uint32{3}}); strings.Contains(text, "closed") {
		t.Errorf("says %q", text)
	}
}

func TestWatchScreenGolden(t *testing.T) {
	quiet := &weirv1.WatchResponse{First: true, Status: quietStatus()}
	crowd := busyWatch()
	crowd.Status.CaseCounts = &weirv1.CaseCounts{Cases: 10_000, NeedsPerson: 12, Probing: 9_988}
	for id := range uint32(1024) {
		crowd.Lanes = append(crowd.Lanes, &weirv1.Lane{Id: 100 + id, State: weirv1.LaneState_LANE_STATE_WAITING, Reason: "http_503", PendingItems: 3})
	}
	for id := range uint32(98) {
		crowd.Cases = append(crowd.Cases, &weirv1.QuarantineCase{Id: 100 + id, Cause: "key_revoked", State: "probing", Items: 1})
	}
	tests := []struct {
		name    string
		columns int
		color   bool
		first   *weirv1.WatchResponse
	}{
		{"quiet", 80, false, quiet},
		{"busy", 120, false, busyWatch()},
		{"busy-color", 100, true, busyWatch()},
		{"busy-phone", 40, false, busyWatch()},
		{"crowd", 80, false, crowd},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			view := &watchScreen{con: &console{Out: new(bytes.Buffer), OutColor: tt.color, now: func() time.Time { return fixedNow }}}
			view.state.take(tt.first)
			if tt.first.GetStatus().GetTotals().GetPendingItems() > 0 {
				half := proto.CloneOf(tt.first.GetStatus())
				half.Totals.PendingItems /= 2
				view.state.take(&weirv1.WatchResponse{Status: half})
			}
			var text strings.Builder
			for _, line := range view.lines(tt.columns) {
				line = cutLine(line, tt.columns)
				if n := columnsOf(withoutStyles(line)); n > tt.columns {
					t.Errorf("%d columns, of %d: %q", n, tt.columns, line)
				}
				text.WriteString(line + "\n")
			}
			golden(t, "testdata/watch/"+tt.name+".golden", text.String())
			if n := strings.Count(text.String(), "\n"); n > 45 {
				t.Errorf("%d lines", n)
			}
		})
	}
}

func TestWatchStateFollowsTheMessages(t *testing.T) {
	var w watched
	w.take(busyWatch())
	pending := func(n int64) *weirv1.WatchResponse {
		return &weirv1.WatchResponse{Status: &weirv1.GetStatusResponse{Totals: &weirv1.Totals{PendingItems: n}}}
	}
	w.take(pending(40_000))
	w.take(pending(10_000))
	if w.peak != 40_000 {
		t.Errorf("the most that was pending is %d", w.peak)
	}
	w.take(&weirv1.WatchResponse{LanesGone: []uint32{2}, CasesGone: []uint32{4}, ScopesGone: []string{"https://api.smith.langchain.com 5f8c"}})
	if w.lanes[2] != nil || w.cases[4] != nil || len(w.scopes) != 1 || w.lanes[10] == nil || w.status.GetTotals().GetPendingItems() != 10_000 {
		t.Errorf("after some have gone: %d lanes, %d cases, %d accounts", len(w.lanes), len(w.cases), len(w.scopes))
	}
	w.take(pending(0))
	w.take(pending(5))
	if w.peak != 5 {
		t.Errorf("after the backlog, the most that was pending is %d", w.peak)
	}
	w.take(&weirv1.WatchResponse{First: true, Status: quietStatus()})
	if len(w.lanes)+len(w.cases)+len(w.scopes) != 0 {
		t.Error("a first message leaves what was known before")
	}
}

// lineBuffer is a buffer that two goroutines may use and one may wait on.
type lineBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // has room for one
}

func newLineBuffer() *lineBuffer { return &lineBuffer{written: make(chan struct{}, 1)} }

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.written <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *lineBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// waitFor waits until the text contains want.
func (b *lineBuffer) waitFor(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); !strings.Contains(b.String(), want); {
		select {
		case <-b.written:
		case <-deadline:
			t.Fatalf("no %q in %q", want, b)
		}
	}
}

// startWatch runs `weir status --watch` until the test, or stop, ends it.
func startWatch(t *testing.T, addr string, args ...string) (out, errOut *lineBuffer, stop func() int) {
	t.Helper()
	sys := newTestSystem(t, nil)
	out, errOut = newLineBuffer(), newLineBuffer()
	sys.Out, sys.Err = out, errOut
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, append([]string{"status", "--watch", "--admin-addr", addr}, args...), sys.system)
	}()
	stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() { stop() })
	return out, errOut, stop
}

func TestWatchGoesOnAcrossARestart(t *testing.T) {
	fake := &fakeAdmin{watch: make(chan *weirv1.WatchResponse)}
	server := fake.server()
	server.Start()
	addr := server.Listener.Addr().String()
	out, _, stop := startWatch(t, addr)
	fake.watch <- &weirv1.WatchResponse{First: true, Status: quietStatus()}
	out.waitFor(t, "items: 0 accepted")
	server.CloseClientConnections()
	out.waitFor(t, "weir went away (")
	out.waitFor(t, "trying again every second")
	select {
	case fake.watch <- &weirv1.WatchResponse{First: true, Status: quietStatus()}:
	case <-time.After(20 * time.Second):
		t.Fatal("weir was not called again")
	}
	out.waitFor(t, "weir is back")
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	server.Close()
}

func TestWatchJSONIsALineForEachMessage(t *testing.T) {
	fake := &fakeAdmin{watch: make(chan *weirv1.WatchResponse)}
	out, errOut, stop := startWatch(t, fake.serve(t), "--json")
	fake.watch <- busyWatch()
	fake.watch <- &weirv1.WatchResponse{CasesGone: []uint32{3}}
	out.waitFor(t, `"casesGone":[3]`)
	close(fake.watch)
	errOut.waitFor(t, "weir went away (it ended the call)")
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines of two messages: %s", len(lines), out)
	}
	for i, want := range []string{`"first":true`, `"first":false`} {
		if !json.Valid([]byte(lines[i])) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d has no %s: %s", i+1, want, lines[i])
		}
	}
}

func TestWatchEndsWhereItMakesNoSenseToGoOn(t *testing.T) {
	closed := make(chan *weirv1.WatchResponse)
	close(closed)
	refusing := func(code connect.Code) string {
		return (&fakeAdmin{watch: closed, err: connect.NewError(code, errors.New("no"))}).serve(t)
	}
	gone := (&fakeAdmin{}).server()
	gone.Start()
	gone.Close()
	tests := []struct {
		name, addr string
		args       []string
		want       int
		text       string
	}{
		{"never there", gone.Listener.Addr().String(), nil, exitUnreachable, "status: no weir answers at"},
		{"never there, for programs", gone.Listener.Addr().String(), []string{"--json"}, exitUnreachable, "no weir answers at"},
		{"an older weir", refusing(connect.CodeUnimplemented), nil, exitUnreachable, "status: what answers at"},
		{"too many watch", refusing(connect.CodeResourceExhausted), nil, exitFailed, "status: no"},
		{"with --check", gone.Listener.Addr().String(), []string{"--check"}, exitUsage, "--watch does not end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sys := newTestSystem(t, nil)
			code := sys.execute(t, append([]string{"status", "--watch", "--admin-addr", tt.addr}, tt.args...)...)
			if code != tt.want || !strings.Contains(sys.err.String(), tt.text) || sys.out.Len() > 0 {
				t.Errorf("exit code %d, want %d; %s%s", code, tt.want, sys.out, sys.err)
			}
		})
	}
}

func TestFitHeightSaysWhatIsMissing(t *testing.T) {
	lines := strings.Split("a b c d e", " ")
	if got := strings.Join(fitHeight(lines, 5, false), " "); got != "a b c d e" {
		t.Errorf("what fits becomes %s", got)
	}
	if got := strings.Join(fitHeight(lines, 3, false), " "); got != "a b … and 3 more lines, see `weir status`" {
		t.Errorf("what does not becomes %s", got)
	}
}
