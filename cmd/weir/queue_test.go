package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
)

// fakeFrames is what a fakeAdmin has on disk.
type fakeFrames struct {
	frames   []*weirv1.QueueFrame
	listed   []*weirv1.ListFramesRequest
	frame    *weirv1.GetFrameResponse
	use      *weirv1.GetDiskUseResponse
	dropped  *weirv1.DiscardFramesResponse
	drops    []*weirv1.DiscardFramesRequest // all of them
	frameErr error
}

// ListFrames answers with pages, whose tokens are numbers.
func (f *fakeFrames) ListFrames(_ context.Context, r *weirv1.ListFramesRequest) (*weirv1.ListFramesResponse, error) {
	f.listed = append(f.listed, r)
	at := 0
	_, _ = fmt.Sscan(r.GetPageToken(), &at)
	end := min(at+int(r.GetPageSize()), len(f.frames))
	out := &weirv1.ListFramesResponse{Frames: f.frames[at:end]}
	if end < len(f.frames) {
		out.NextPageToken = fmt.Sprint(end)
	}
	return out, f.frameErr
}

func (f *fakeFrames) GetFrame(context.Context, *weirv1.GetFrameRequest) (*weirv1.GetFrameResponse, error) {
	return f.frame, f.frameErr
}

func (f *fakeFrames) GetDiskUse(context.Context, *weirv1.GetDiskUseRequest) (*weirv1.GetDiskUseResponse, error) {
	return f.use, f.frameErr
}

func (f *fakeFrames) DiscardFrames(_ context.Context, r *weirv1.DiscardFramesRequest) (*weirv1.DiscardFramesResponse, error) {
	f.drops = append(f.drops, r)
	return f.dropped, f.frameErr
}

// someFrames are frames in every state.
func someFrames() []*weirv1.QueueFrame {
	return []*weirv1.QueueFrame{
		{Id: "12.0", Lane: 3, State: "pending", AcceptedAt: ago(49 * time.Hour), Items: 1204, Traces: 77, Bytes: 310 << 10, Sending: true},
		{Id: "12.1", Lane: 3, State: "pending", AcceptedAt: ago(48 * time.Hour), Items: 1, Traces: 1, Bytes: 900},
		{Id: "13.40", Lane: 4, State: "held", AcceptedAt: ago(26 * time.Hour), Items: 20, Traces: 20, Bytes: 6 << 20},
		{Id: "301.16383", Lane: 10, State: "quarantined", Case: 7, AcceptedAt: ago(5 * time.Second), Items: 100, Traces: 3, Bytes: 51_200},
	}
}

func someUse() *weirv1.GetDiskUseResponse {
	return &weirv1.GetDiskUseResponse{
		Uses: []*weirv1.DiskUse{
			{Kind: "pending", Count: 1300, Items: 130_204, Bytes: 2 << 30, OldestAt: ago(49 * time.Hour), DiscardableBytes: 2 << 30, Command: "weir queue discard --all"},
			{Kind: "held", Count: 9, Items: 20, Bytes: 39 << 20, OldestAt: ago(26 * time.Hour), MaxBytes: 40 << 20, Command: "weir quota release"},
			{Kind: "quarantined"},
			{Kind: "attachments", Count: 3, Bytes: 12 << 20},
			{Kind: "settled", Count: 70, Bytes: 31 << 20},
			{Kind: "reserve", Count: 2, Bytes: 21 << 20},
			{Kind: "quota", Bytes: 80 << 10},
		},
		TotalBytes: 2255372288, MaxBytes: 10 << 30, FreeBytes: 51 << 30, MinFreeBytes: 64 << 20,
		Lanes: []*weirv1.LaneDiskUse{{Lane: 3, PendingBytes: 2 << 30}, {Lane: 4, HeldBytes: 39 << 20, PendingBytes: 100}, {Lane: 10, QuarantinedBytes: 51_200}},
	}
}

func TestQueueGolden(t *testing.T) {
	all := someFrames()
	frame := &weirv1.GetFrameResponse{Frame: all[3], RawBytes: 204_800, TraceIds: []string{wardRoot, wardChild}}
	content := &weirv1.GetFrameResponse{
		Frame: all[1], RawBytes: 2000, TraceIds: []string{wardRoot}, ContentCut: true,
		Content: []string{`{"kind":"run","op":{"kind":"post"}}`, "{\"kind\":\"span\",\"span\":\"\u009b31m\"}"},
	}
	many := &weirv1.GetFrameResponse{Frame: all[0]}
	for i := range 77 {
		many.TraceIds = append(many.TraceIds, fmt.Sprintf("019a0000-0000-7000-8000-%012d", i))
	}
	for _, tt := range []struct {
		name string
		fake fakeFrames
		args []string
	}{
		{name: "ls", fake: fakeFrames{frames: all}, args: []string{"queue"}},
		{name: "ls-limit", fake: fakeFrames{frames: all}, args: []string{"queue", "ls", "--limit", "2"}},
		{name: "ls-json", fake: fakeFrames{frames: all}, args: []string{"queue", "ls", "--limit", "1", "--json"}},
		{name: "empty", args: []string{"queue", "ls"}},
		{name: "empty-filter", args: []string{"queue", "ls", "--lane", "99"}},
		{name: "show", fake: fakeFrames{frame: frame}, args: []string{"queue", "show", "301.16383"}},
		{name: "show-many", fake: fakeFrames{frame: many}, args: []string{"queue", "show", "12.0"}},
		{name: "show-content", fake: fakeFrames{frame: content}, args: []string{"queue", "show", "12.1", "--content"}},
		{name: "show-json", fake: fakeFrames{frame: content}, args: []string{"queue", "show", "12.1", "--content", "--json"}},
		{name: "df", fake: fakeFrames{use: someUse()}, args: []string{"queue", "df"}},
		{name: "df-lanes", fake: fakeFrames{use: someUse()}, args: []string{"queue", "df", "-v"}},
		{name: "df-empty", fake: fakeFrames{use: &weirv1.GetDiskUseResponse{Uses: []*weirv1.DiskUse{{Kind: "pending"}, {Kind: "held"}}}}, args: []string{"queue", "df", "--lanes"}},
		{name: "df-json", fake: fakeFrames{use: &weirv1.GetDiskUseResponse{Uses: someUse().GetUses()[:1]}}, args: []string{"queue", "df", "--json"}},
		{name: "discard-dry", fake: fakeFrames{dropped: &weirv1.DiscardFramesResponse{Frames: 12, Items: 1340, Bytes: 5 << 20, SendingFrames: 2}}, args: []string{"queue", "discard", "--all", "--dry-run"}},
		{name: "discard", fake: fakeFrames{dropped: &weirv1.DiscardFramesResponse{Frames: 1, Items: 1, Bytes: 900, SendingFrames: 1}}, args: []string{"queue", "discard", "12.1", "12.0", "--yes"}},
		{name: "discard-none", fake: fakeFrames{dropped: &weirv1.DiscardFramesResponse{}}, args: []string{"queue", "discard", "--lane", "5", "--yes"}},
		{name: "discard-json", fake: fakeFrames{dropped: &weirv1.DiscardFramesResponse{Frames: 1, Items: 1, Bytes: 900}}, args: []string{"queue", "discard", "12.1", "--yes", "--json"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := (&fakeAdmin{fakeFrames: tt.fake}).serve(t)
			sys := newTestSystem(t, nil)
			if code := sys.execute(t, append(tt.args, "--admin-addr", addr)...); code != exitOK || sys.err.Len() > 0 {
				t.Errorf("exit code %d, standard error %s", code, sys.err)
			}
			golden(t, "testdata/queue/"+tt.name+".golden", sys.out.String())
		})
	}
}

// TestQueueListsPageByPage: 2,500 frames come in pages, each asked for with the
// same conditions.
func TestQueueListsPageByPage(t *testing.T) {
	fake := &fakeAdmin{}
	for i := range 2500 {
		fake.frames = append(fake.frames, &weirv1.QueueFrame{Id: fmt.Sprintf("1.%d", i)})
	}
	addr := fake.serve(t)
	for _, tt := range []struct {
		limit, calls, frames int
		next                 string
	}{{0, 3, 2500, ""}, {1500, 2, 1500, "1500"}, {2500, 3, 2500, ""}, {7, 1, 7, "7"}} {
		fake.listed = nil
		sys := newTestSystem(t, nil)
		args := []string{
			"queue", "ls", "--json", "--lane=3", "--state=held", "--case=7", "--older-than=48h", "--newest",
			fmt.Sprint("--limit=", tt.limit), "--admin-addr", addr,
		}
		if code := sys.execute(t, args...); code != exitOK {
			t.Fatalf("exit code %d: %s", code, sys.err)
		}
		var got struct {
			Frames        []struct{ ID string }
			NextPageToken string
		}
		if err := json.Unmarshal(sys.out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Frames) != tt.frames || got.NextPageToken != tt.next || len(fake.listed) != tt.calls {
			t.Errorf("limit %d: %d frames after %d calls, next %q", tt.limit, len(got.Frames), len(fake.listed), got.NextPageToken)
		}
		for i, f := range got.Frames {
			if f.ID != fmt.Sprintf("1.%d", i) {
				t.Fatalf("frame %d is %s", i, f.ID)
			}
		}
		last := fake.listed[len(fake.listed)-1]
		last.PageToken, last.PageSize = "", 0
		want := &weirv1.ListFramesRequest{Lane: 3, State: "held", Case: 7, OlderThan: durationpb.New(48 * time.Hour), NewestFirst: true}
		if diff := cmp.Diff(want, last, protocmp.Transform()); diff != "" {
			t.Errorf("it asks (-want +got):\n%s", diff)
		}
	}
}

func TestQueueDiscardAsksFirst(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		tty          bool
		args         []string
		code, calls  int
	}{
		{"nobody there", "", false, []string{"--all"}, exitUsage, 0},
		{"no answer", "", true, []string{"--all"}, exitFailed, 1},
		{"y is not yes", "y\n", true, []string{"12.1"}, exitFailed, 1},
		{"yes", "yes\n", true, []string{"12.1"}, exitOK, 2},
		{"told before", "", false, []string{"--lane=3", "--yes"}, exitOK, 1},
		{"only dry", "", false, []string{"--older-than=48h", "--dry-run", "--yes"}, exitOK, 1},
		{"nothing named", "", false, []string{"--yes"}, exitUsage, 0},
		{"both", "", false, []string{"12.1", "--all", "--yes"}, exitUsage, 0},
		{"no age", "", false, []string{"--older-than=0s", "--yes"}, exitUsage, 0},
		{"no duration", "", false, []string{"--older-than=2", "--yes"}, exitUsage, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{fakeFrames: fakeFrames{dropped: &weirv1.DiscardFramesResponse{Frames: 12, Items: 561, Bytes: 1 << 20}}}
			sys := newTestSystem(t, nil)
			sys.in, sys.inTTY = strings.NewReader(tt.answer), tt.tty
			code := sys.execute(t, append(append([]string{"queue", "discard"}, tt.args...), "--admin-addr", fake.serve(t))...)
			if code != tt.code || len(fake.drops) != tt.calls {
				t.Fatalf("exit code %d after %d calls, want %d after %d: %s", code, len(fake.drops), tt.code, tt.calls, sys.err)
			}
			if tt.tty && !strings.Contains(sys.err.String(), "discard 561 items of 12 frames (1.00 MiB on disk). This cannot be undone.") {
				t.Errorf("it asks %q", sys.err)
			}
			for i, r := range fake.drops {
				if real := tt.code == exitOK && i == tt.calls-1 && tt.name != "only dry"; r.GetDryRun() == real {
					t.Errorf("call %d: %v", i, r)
				}
			}
		})
	}
}

// TestQueueDiscardLeavesWhatCameMeanwhile: what was accepted after the question was
// put together is not part of the answer.
func TestQueueDiscardLeavesWhatCameMeanwhile(t *testing.T) {
	fake := &fakeAdmin{fakeFrames: fakeFrames{dropped: &weirv1.DiscardFramesResponse{Frames: 1}}}
	sys := newTestSystem(t, nil)
	sys.in, sys.inTTY = strings.NewReader("yes\n"), true
	start, calls := sys.now(), 0
	sys.now = func() time.Time { calls++; return start.Add(time.Duration(calls-1) * 20 * time.Second) }
	if code := sys.execute(t, "queue", "discard", "--older-than=1h", "--admin-addr", fake.serve(t)); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	if got := fake.drops[1].GetOlderThan().AsDuration(); got != time.Hour+20*time.Second {
		t.Errorf("it drops what is older than %s", got)
	}
}

func TestQueueErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		args []string
		code int
		says string
	}{
		{"no such frame", connect.NewError(connect.CodeNotFound, errors.New("there is no such frame")), []string{"show", "1.2"}, exitFailed, "queue show: there is no such frame"},
		{"no id", connect.NewError(connect.CodeInvalidArgument, errors.New("no name")), []string{"show", "x"}, exitUsage, "queue show: no name"},
		{"damaged", connect.NewError(connect.CodeDataLoss, errors.New("damaged on disk")), []string{"show", "1.2"}, exitFailed, "damaged on disk"},
		{"state", nil, []string{"ls", "--state=lost"}, exitUsage, "--state"},
		{"limit", nil, []string{"ls", "--limit=-1"}, exitUsage, "--limit -1"},
		{"df", connect.NewError(connect.CodeInternal, errors.New("measure")), []string{"df"}, exitFailed, "queue df: measure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{fakeFrames: fakeFrames{frameErr: tt.err}}
			sys := newTestSystem(t, nil)
			code := sys.execute(t, append(append([]string{"queue"}, tt.args...), "--admin-addr", fake.serve(t))...)
			if code != tt.code || !strings.Contains(sys.err.String(), tt.says) {
				t.Errorf("exit code %d: %s", code, sys.err)
			}
		})
	}
}
