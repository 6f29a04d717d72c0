package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
)

// fakeCases is what a fakeAdmin has in quarantine.
type fakeCases struct {
	weirv1connect.UnimplementedAdminServiceHandler // what no fake has

	cases    []*weirv1.QuarantineCase
	traceIDs []string
	exchange *weirv1.CaseExchange
	released *weirv1.ReleaseCasesRequest   // the last one
	discards []*weirv1.DiscardCasesRequest // all of them
	discard  *weirv1.DiscardCasesResponse
	chunks   []string
	found    *weirv1.FindTraceResponse
	caseErr  error
}

// ListCases gives two cases at a time, whatever is asked for.
func (f *fakeCases) ListCases(_ context.Context, r *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error) {
	from, _ := strconv.Atoi(r.GetPageToken())
	to := min(from+2, len(f.cases))
	out := &weirv1.ListCasesResponse{Cases: f.cases[from:to], Counts: &weirv1.CaseCounts{Cases: int32(len(f.cases))}}
	if to < len(f.cases) {
		out.NextPageToken = strconv.Itoa(to)
	}
	return out, f.caseErr
}

func (f *fakeCases) GetCase(context.Context, *weirv1.GetCaseRequest) (*weirv1.GetCaseResponse, error) {
	return &weirv1.GetCaseResponse{Case: f.cases[0], Exchange: f.exchange, TraceIds: f.traceIDs}, f.caseErr
}

func (f *fakeCases) ReleaseCases(_ context.Context, r *weirv1.ReleaseCasesRequest) (*weirv1.ReleaseCasesResponse, error) {
	f.released = r
	out := &weirv1.ReleaseCasesResponse{Cases: f.cases}
	for _, c := range f.cases {
		out.Items += c.GetItems()
		out.WaitingItems += c.GetWaitingItems()
	}
	return out, f.caseErr
}

func (f *fakeCases) DiscardCases(_ context.Context, r *weirv1.DiscardCasesRequest) (*weirv1.DiscardCasesResponse, error) {
	f.discards = append(f.discards, r)
	return f.discard, f.caseErr
}

func (f *fakeCases) ExportCases(_ context.Context, _ *weirv1.ExportCasesRequest, stream *connect.ServerStream[weirv1.ExportCasesResponse]) error {
	for _, c := range f.chunks {
		if err := stream.Send(&weirv1.ExportCasesResponse{Chunk: []byte(c)}); err != nil {
			return err
		}
	}
	if f.caseErr != nil {
		return f.caseErr
	}
	if len(f.chunks) == 0 {
		return stream.Send(&weirv1.ExportCasesResponse{Summary: &weirv1.ExportSummary{}})
	}
	return stream.Send(&weirv1.ExportCasesResponse{Summary: &weirv1.ExportSummary{Cases: 1, Items: 2, UnreadableItems: 1}})
}

func (f *fakeCases) FindTrace(context.Context, *weirv1.FindTraceRequest) (*weirv1.FindTraceResponse, error) {
	return f.found, f.caseErr
}

// someCases are cases in every state.
func someCases() []*weirv1.QuarantineCase {
	return []*weirv1.QuarantineCase{
		{
			Id: 3, Cause: "key_revoked", Confidence: "likely", State: "probing", Items: 560, Traces: 120, Bytes: 310 << 10,
			Evidence:  []string{"The key was taken 26 hours ago and is refused since.", "Other keys are taken."},
			Remedy:    "Make a new key at https://smith.langchain.com/settings and set LANGSMITH_API_KEY.",
			FirstSeen: ago(26 * time.Hour), LastSeen: ago(5 * time.Second), HttpStatus: 403, Response: "{\"error\":\"Forbidden\"}\n", RequestId: "req-1",
			NextProbe: in(42 * time.Second), Lane: 10, WaitingItems: 1204, Reason: "http_403", Protocol: "runs", Credential: "lsv2_…aa", Workspace: "5f8c",
			Alternatives: []*weirv1.CaseCause{{Cause: "workspace_mismatch", Confidence: "possible", Remedy: "Set LANGSMITH_WORKSPACE_ID."}},
		},
		{
			Id: 4, Cause: "field_too_long", Confidence: "certain", State: "needs_person", Items: 1, Traces: 1, Bytes: 900,
			Evidence: []string{"name is 4,000 characters long."}, Remedy: "Shorten the run's name.\x1b[31m",
			FirstSeen: ago(2 * time.Minute), LastSeen: ago(2 * time.Minute), HttpStatus: 422, Response: "too long", Lane: 1, Protocol: "otlp", OwnKey: true,
		},
		{Id: 5, Cause: "unknown", Confidence: "possible", State: "releasing", Items: 2_000_000, Traces: 262_144, TracesAtLeast: true, Bytes: 3 << 30, Lane: 2},
	}
}

// manyCases are cases of two causes in turn.
func manyCases(n int) []*weirv1.QuarantineCase {
	var out []*weirv1.QuarantineCase
	for i := range n {
		kinds := someCases()
		c := kinds[0]
		if i%4 == 3 {
			c = kinds[1]
		}
		c.Id = uint32(i + 1)
		out = append(out, c)
	}
	return out
}

func TestQuarantineGolden(t *testing.T) {
	exchange := &weirv1.CaseExchange{
		Time: ago(26 * time.Hour), Method: "POST", Url: "https://api.smith.langchain.com/runs/multipart", HttpStatus: 403,
		Headers:  []*weirv1.CaseHeader{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Request-Id", Value: "req-1"}},
		Response: "{\"error\":\"Forbidden\"}\n", RequestId: "req-1", SentBytes: 51_200, Encoding: "zstd", Elapsed: durationpb.New(87 * time.Millisecond),
	}
	all := someCases()
	found := &weirv1.FindTraceResponse{
		TraceId: wardRoot, State: "quarantined",
		Places: []*weirv1.TracePlace{
			{State: "pending", Items: 2, Lane: 10, Since: ago(time.Minute), Reason: "http_403", Detail: "HTTP 403: Forbidden", Until: in(42 * time.Second)},
			{State: "held", Items: 1, Lane: 11, Since: ago(26 * time.Hour), Reason: "quota_hold", Detail: "The limit of 5000 traces a month leaves no room for it.", Project: "chat"},
			{State: "quarantined", Items: 12, ItemsAtLeast: true, Lane: 10, Case: 3, Since: ago(26 * time.Hour), Reason: "key_revoked", Detail: "Make a new key.", Until: in(42 * time.Second)},
			{State: "delivered", Since: ago(2 * time.Minute), Last: ago(time.Minute), Month: "2026-11", Project: "chat"},
			{State: "delivered", Month: "2026-10", Account: accountB},
			{State: "dropped", Month: "2026-11", Reason: "quota_drop", Detail: "The quota policy does not let it be sent."},
			{State: "passed_on"},
		},
	}
	type c struct {
		name string
		fake fakeCases
		args []string
		code int
	}
	for _, tt := range []c{
		{name: "ls", fake: fakeCases{cases: all}, args: []string{"quarantine", "--all"}},
		{name: "ls-page", fake: fakeCases{cases: manyCases(9)}, args: []string{"quarantine", "ls"}},
		{name: "ls-many", fake: fakeCases{cases: manyCases(9)}, args: []string{"quarantine", "ls", "--all"}},
		{name: "ls-json", fake: fakeCases{cases: all[1:2]}, args: []string{"quarantine", "ls", "--json"}},
		{name: "empty", args: []string{"quarantine", "ls"}},
		{name: "empty-json", args: []string{"quarantine", "ls", "--json"}},
		{name: "show", fake: fakeCases{cases: all, exchange: exchange, traceIDs: []string{wardRoot, "019abc00-0000-7000-8000-000000000002"}}, args: []string{"quarantine", "show", "3"}},
		{name: "show-json", fake: fakeCases{cases: all, exchange: exchange, traceIDs: []string{wardRoot}}, args: []string{"quarantine", "show", "3", "--json"}},
		{name: "show-person", fake: fakeCases{cases: all[1:], traceIDs: []string{wardRoot}, exchange: &weirv1.CaseExchange{Error: "connection reset"}}, args: []string{"quarantine", "show", "4"}},
		{name: "release", fake: fakeCases{cases: all[:1]}, args: []string{"quarantine", "release", "3"}},
		{name: "release-own", fake: fakeCases{cases: all[:2]}, args: []string{"quarantine", "release", "--all", "--as-own-key", "--dry-run"}},
		{name: "release-empty", args: []string{"quarantine", "release", "--all"}},
		{name: "discard-dry", fake: fakeCases{discard: &weirv1.DiscardCasesResponse{Cases: all[:1], Items: 560, Bytes: 5 << 20, AttachmentBytes: 4 << 20, BytesAtLeast: true}}, args: []string{"quarantine", "discard", "3", "--dry-run"}},
		{name: "discard", fake: fakeCases{discard: &weirv1.DiscardCasesResponse{Cases: all[:1], Items: 1, Bytes: 900}}, args: []string{"quarantine", "discard", "3", "--yes"}},
		{name: "discard-empty", fake: fakeCases{discard: &weirv1.DiscardCasesResponse{}}, args: []string{"quarantine", "discard", "--all", "--yes"}},
		{name: "find", fake: fakeCases{found: found}, args: []string{"find", wardRoot}},
		{name: "find-json", fake: fakeCases{found: &weirv1.FindTraceResponse{TraceId: wardRoot, State: "delivered", Places: found.GetPlaces()[3:4]}}, args: []string{"find", wardRoot, "--json"}},
		{name: "find-nothing", fake: fakeCases{found: &weirv1.FindTraceResponse{TraceId: wardRoot, State: "unknown"}}, args: []string{"find", wardRoot}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := (&fakeAdmin{fakeCases: tt.fake}).serve(t)
			sys := newTestSystem(t, nil)
			if code := sys.execute(t, append(tt.args, "--admin-addr", addr)...); code != tt.code || sys.err.Len() > 0 {
				t.Errorf("exit code %d, standard error %s", code, sys.err)
			}
			golden(t, "testdata/quarantine/"+tt.name+".golden", sys.out.String())
		})
	}
}

// TestQuarantineJSONNames pins what scripts read.
func TestQuarantineJSONNames(t *testing.T) {
	addr := (&fakeAdmin{fakeCases: fakeCases{cases: []*weirv1.QuarantineCase{{}, someCases()[0]}}}).serve(t)
	sys := newTestSystem(t, nil)
	if code := sys.execute(t, "quarantine", "ls", "--json", "--admin-addr", addr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	var got struct {
		Cases []map[string]any `json:"cases"`
	}
	if err := json.Unmarshal(sys.out.Bytes(), &got); err != nil || len(got.Cases) != 2 {
		t.Fatalf("%v in %s", err, sys.out)
	}
	for _, name := range []string{
		"id", "cause", "confidence", "evidence", "remedy", "state", "items", "traces", "bytes", "firstSeen", "lastSeen", "httpStatus",
		"response", "requestId", "nextProbe", "lane", "waitingItems", "alternatives",
	} {
		for i, c := range got.Cases {
			if _, there := c[name]; !there {
				t.Errorf("case %d has no %s", i, name)
			}
		}
	}
	for name, want := range map[string]any{"id": 3.0, "items": 560.0, "traces": 120.0, "httpStatus": 403.0, "nextProbe": "2026-11-20T12:00:42Z"} {
		if got.Cases[1][name] != want {
			t.Errorf("%s is %v, want %v", name, got.Cases[1][name], want)
		}
	}
}

func TestDiscardAsksFirst(t *testing.T) {
	full := &weirv1.DiscardCasesResponse{Cases: someCases()[:2], Items: 561, Bytes: 1 << 20}
	for _, tt := range []struct {
		name, answer string
		tty          bool
		args         []string
		code, calls  int
	}{
		{"nobody there", "", false, []string{"--all"}, exitUsage, 0},
		{"no answer", "", true, []string{"--all"}, exitFailed, 1},
		{"no", "n\n", true, []string{"3", "4"}, exitFailed, 1},
		{"y is not yes", "y\n", true, []string{"--all"}, exitFailed, 1},
		{"yes", "yes\n", true, []string{"--all"}, exitOK, 2},
		{"told before", "", false, []string{"--all", "--yes"}, exitOK, 2},
		{"nothing named", "", false, []string{"--yes"}, exitUsage, 0},
		{"both", "", false, []string{"3", "--all", "--yes"}, exitUsage, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{fakeCases: fakeCases{discard: full}}
			sys := newTestSystem(t, nil)
			sys.in, sys.inTTY = strings.NewReader(tt.answer), tt.tty
			code := sys.execute(t, append(append([]string{"quarantine", "discard"}, tt.args...), "--admin-addr", fake.serve(t))...)
			if code != tt.code || len(fake.discards) != tt.calls {
				t.Fatalf("exit code %d after %d calls, want %d after %d: %s", code, len(fake.discards), tt.code, tt.calls, sys.err)
			}
			if tt.tty && !strings.Contains(sys.err.String(), "discard 561 items of 2 cases (1.00 MiB on disk). This cannot be undone.") {
				t.Errorf("it asks %q", sys.err)
			}
			if tt.calls < 2 {
				return
			}
			if r := fake.discards[1]; r.GetAll() || !slices.Equal(r.GetIds(), []uint32{3, 4}) || r.GetDryRun() || !fake.discards[0].GetDryRun() {
				t.Errorf("it discards %v, after %v; want just what was shown", r, fake.discards[0])
			}
		})
	}
}

func TestExportLeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "out.jsonl")
	whole := (&fakeAdmin{fakeCases: fakeCases{chunks: []string{"one\n", "two\n"}}}).serve(t)
	sys := newTestSystem(t, nil)
	sys.columns = 400
	if code := sys.execute(t, "quarantine", "export", "--all", "--out", file, "--admin-addr", whole); code != exitOK ||
		!strings.Contains(sys.out.String(), "2 items of 1 case written") || !strings.Contains(sys.out.String(), "1 item is missing") {
		t.Fatalf("exit code %d: %s%s", code, sys.out, sys.err)
	}
	broken := (&fakeAdmin{fakeCases: fakeCases{chunks: []string{"half"}, caseErr: connect.NewError(connect.CodeNotFound, errors.New("case 9: gone"))}}).serve(t)
	if code := sys.execute(t, "quarantine", "export", "9", "--out", file, "--admin-addr", broken); code != exitFailed || !strings.Contains(sys.err.String(), "case 9: gone") {
		t.Errorf("exit code %d: %s", code, sys.err)
	}
	empty := (&fakeAdmin{}).serve(t)
	if code := sys.execute(t, "quarantine", "export", "--all", "--out", file, "--admin-addr", empty); code != exitOK || !strings.Contains(sys.out.String(), "was not written") {
		t.Errorf("of nothing: exit code %d: %s%s", code, sys.out, sys.err)
	}
	text, err := os.ReadFile(file)
	names, _ := os.ReadDir(dir)
	info, _ := os.Stat(file)
	if err != nil || string(text) != "one\ntwo\n" || len(names) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file holds %q with mode %v, %v, beside %d others", text, info.Mode(), err, len(names)-1)
	}
	sys.out.Reset()
	if code := sys.execute(t, "quarantine", "export", "--all", "--out", "-", "--admin-addr", whole); code != exitOK || sys.out.String() != "one\ntwo\n" {
		t.Errorf("exit code %d: %q", code, sys.out)
	}
}
