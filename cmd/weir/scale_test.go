package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
	"weir/proxy"
	"weir/proxy/admin"
	"weir/queue"
)

// crowd is how much a crowded data directory has.
type crowd struct {
	lanes, cases, frames int
}

// bigCrowd is what weir must bear (issue 6): everything answers within a second.
var bigCrowd = crowd{lanes: 1000, cases: 10_000, frames: 100_000}

func crowdTrace(kind byte, n int) (id queue.TraceID) {
	id[0], id[6], id[8] = kind, 0x70, 0x80 // a UUID of version 7
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

// crowdRefusal is a refusal as LangSmith's is: a kilobyte of headers and body.
func crowdRefusal(i int) proxy.Refusal {
	return proxy.Refusal{
		Reason: fmt.Sprintf("http_4%02d", i), Cause: fmt.Sprintf("cause_%d", i), Heals: false,
		Exchange: proxy.Exchange{
			Time: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC), Method: "POST", URL: "https://api.smith.langchain.com/otel/v1/traces",
			Status: 422, Header: http.Header{
				"Content-Type": {"application/json"}, "X-Request-Id": {fmt.Sprintf("0123456789abcdef-%d", i)}, "Date": {"Tue, 24 Nov 2026 08:00:00 GMT"},
				"Strict-Transport-Security": {"max-age=31536000; includeSubDomains"}, "Via": {"1.1 google"}, "Vary": {"Accept-Encoding"},
			},
			Body:      fmt.Sprintf(`{"detail":"Value error in item %d: %s"}`, i, strings.Repeat("the field is not as it should be; ", 20)),
			RequestID: fmt.Sprintf("0123456789abcdef-%d", i), SentBytes: 51_200, Encoding: "zstd", Elapsed: 87 * time.Millisecond,
		},
	}
}

// fill makes a data directory that is as crowded as c says.
func (c crowd) fill(tb testing.TB) (dir string) {
	tb.Helper()
	dir = filepath.Join(tb.TempDir(), "data")
	q, err := queue.Open(queue.Config{Dir: dir, NoSync: true, MinFreeBytes: 1 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	places := make([][]queue.Place, c.lanes)
	n := 0
	// A round brings one export to each lane, in one group.
	round := func(kind byte, place func(lane int) (queue.Place, bool)) {
		var all sync.WaitGroup
		for lane := range c.lanes {
			p, want := place(lane)
			if !want {
				continue
			}
			n++
			e := &queue.Export{Lane: crowdLane(lane), Payload: []byte("payload"), Items: 1, Traces: []queue.TraceID{crowdTrace(kind, n)}, Place: p}
			all.Go(func() {
				if err := q.Append(tb.Context(), e); err != nil {
					tb.Error(err)
				}
			})
		}
		all.Wait()
	}
	round('p', func(int) (queue.Place, bool) { return queue.Pending, true })
	ids := map[string]queue.LaneID{}
	for _, l := range q.Lanes() {
		ids[l.Descriptor] = l.ID
	}
	for i := range c.cases {
		data, err := json.Marshal(crowdRefusal(i / c.lanes))
		if err != nil {
			tb.Fatal(err)
		}
		lane := i % c.lanes
		p, err := q.OpenCase(queue.Case{Lane: ids[crowdLane(lane)], Kind: queue.CaseQuarantine, Data: data})
		if err != nil {
			tb.Fatal(err)
		}
		places[lane] = append(places[lane], p)
	}
	for i := range (c.cases + c.lanes - 1) / c.lanes {
		round('q', func(lane int) (queue.Place, bool) {
			if i >= len(places[lane]) {
				return 0, false
			}
			return places[lane][i], true
		})
	}
	for range c.frames/c.lanes - 1 {
		round('p', func(int) (queue.Place, bool) { return queue.Pending, true })
	}
	if err := q.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func crowdLane(i int) string {
	b, err := json.Marshal(proxy.Lane{
		Protocol: proxy.ProtocolOTLP, Upstream: "@upstream", Credential: "@key", Workspace: "@workspace", Project: fmt.Sprintf("=project-%d", i),
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// crowdedWeir runs a weir on a directory whose upstream does not answer.
func crowdedWeir(tb testing.TB, dir string) (*weir, weirv1connect.AdminServiceClient) {
	tb.Helper()
	s, err := loadSettings(configInput{
		flags: map[string]string{
			"grpc_addr": "off", "http_addr": "off", "admin_addr": "127.0.0.1:0", "data_dir": dir, "upstream": "http://127.0.0.1:9", "quota.traces": "0",
		},
		getenv: func(name string) string { return map[string]string{"LANGSMITH_API_KEY": ownKey}[name] },
		cwd:    tb.TempDir(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	w, err := startWeirWith(tb.Context(), s, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 10*time.Second)
		defer cancel()
		if err := w.shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	return w, admin.Dial(string(w.at.Admin), "")
}

// crowdCalls are the calls whose answers are to come within a second, whatever
// there is.
func crowdCalls(ctx context.Context, w *weir, client weirv1connect.AdminServiceClient) map[string]func() (proto.Message, error) {
	return map[string]func() (proto.Message, error){
		"GetStatus": func() (proto.Message, error) { return client.GetStatus(ctx, &weirv1.GetStatusRequest{}) },
		"GetQuota":  func() (proto.Message, error) { return client.GetQuota(ctx, &weirv1.GetQuotaRequest{}) },
		"ListCases": func() (proto.Message, error) { return client.ListCases(ctx, &weirv1.ListCasesRequest{}) },
		"ListCases1000": func() (proto.Message, error) {
			return client.ListCases(ctx, &weirv1.ListCasesRequest{PageSize: 1000, PageToken: "5000"})
		},
		"GetCase":    func() (proto.Message, error) { return client.GetCase(ctx, &weirv1.GetCaseRequest{Id: 7}) },
		"GetHistory": func() (proto.Message, error) { return client.GetHistory(ctx, &weirv1.GetHistoryRequest{}) },
		"FindNothing": func() (proto.Message, error) {
			return client.FindTrace(ctx, &weirv1.FindTraceRequest{TraceId: "01900000-0000-7000-8000-000000000000"})
		},
		"Watch": func() (proto.Message, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := client.Watch(ctx, &weirv1.WatchRequest{})
			if err != nil {
				return nil, err
			}
			if !stream.Receive() {
				return nil, stream.Err()
			}
			m := stream.Msg()
			cancel()
			_ = stream.Close()
			return m, nil
		},
		"metrics": func() (proto.Message, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(w.at.Admin)+"/metrics", http.NoBody)
			if err != nil {
				return nil, err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(resp.Body)
			return &weirv1.ExportCasesResponse{Chunk: b}, errors.Join(err, resp.Body.Close())
		},
	}
}

// TestCrowdedWeirAnswersInFull: however much there is, answers are complete, or
// say how much more there is, and they are of bounded size.
func TestCrowdedWeirAnswersInFull(t *testing.T) {
	w, client := crowdedWeir(t, bigCrowd.fill(t))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for a hang, not for the pace
	defer cancel()
	calls := crowdCalls(ctx, w, client)
	maxKiB := map[string]int{
		"GetStatus": 512, "GetQuota": 8, "ListCases": 256, "ListCases1000": 2048, "GetCase": 16, "GetHistory": 64, "FindNothing": 1, "Watch": 512, "metrics": 128,
	}
	answers := map[string]proto.Message{}
	for name, call := range calls {
		m, err := call()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if size := proto.Size(m) / 1024; size > maxKiB[name] {
			t.Errorf("%s answers with %d KiB, want at most %d", name, size, maxKiB[name])
		}
		answers[name] = m
	}
	status, _ := answers["GetStatus"].(*weirv1.GetStatusResponse)
	counts := status.GetCaseCounts()
	if tot := status.GetTotals(); tot.GetPendingItems() != int64(bigCrowd.frames) || tot.GetQuarantinedItems() != int64(bigCrowd.cases) {
		t.Errorf("totals: %v", tot)
	}
	if counts.GetCases() != int32(bigCrowd.cases) || counts.GetItems() != int64(bigCrowd.cases) || counts.GetNeedsPerson() != counts.GetCases() {
		t.Errorf("counts: %v", counts)
	}
	if len(status.GetLanes()) != bigCrowd.lanes || len(status.GetCases()) != 100 || len(status.GetProblems()) != 20 {
		t.Errorf("%d lanes, %d cases, %d problems", len(status.GetLanes()), len(status.GetCases()), len(status.GetProblems()))
	}
	if last := status.GetProblems()[19]; !strings.Contains(last, "There are 9981 more") {
		t.Errorf("the last problem is %q", last)
	}
	first, _ := answers["Watch"].(*weirv1.WatchResponse)
	if !first.GetFirst() || len(first.GetLanes()) != bigCrowd.lanes || len(first.GetCases()) != 100 || first.GetStatus().GetCaseCounts().GetCases() != int32(bigCrowd.cases) {
		t.Errorf("the first message of a watch has %d lanes and %d cases", len(first.GetLanes()), len(first.GetCases()))
	}
	checkAllCases(ctx, t, client)
	for state, trace := range map[string]queue.TraceID{"quarantined": crowdTrace('q', bigCrowd.lanes+5), "pending": crowdTrace('p', 5)} {
		found, err := client.FindTrace(ctx, &weirv1.FindTraceRequest{TraceId: hex.EncodeToString(trace[:])})
		if err != nil || found.GetState() != state || len(found.GetPlaces()) != 1 {
			t.Errorf("a trace that is %s: %v, %v", state, found, err)
		}
	}
	before := heapBytes()
	for range 5 {
		for name, call := range calls {
			if _, err := call(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	if grown := int64(heapBytes()) - int64(before); grown > 16<<20 {
		t.Errorf("looking has taken %d MiB of memory for good", grown>>20)
	}
}

// checkAllCases reads all pages as the command line does.
func checkAllCases(ctx context.Context, t *testing.T, client weirv1connect.AdminServiceClient) {
	t.Helper()
	all, err := (&adminCall{client: client}).cases(ctx, &weirv1.ListCasesRequest{}, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.GetCases()) != bigCrowd.cases || all.GetCounts().GetCases() != int32(bigCrowd.cases) {
		t.Fatalf("%d cases listed, and %v counted", len(all.GetCases()), all.GetCounts())
	}
	for i, c := range all.GetCases() {
		if c.GetItems() != 1 || (c.GetTraces() != 1 && !c.GetTracesAtLeast()) || c.GetCause() == "" || c.GetRemedy() == "" || c.GetHttpStatus() != 422 {
			t.Fatalf("case %d: %v", i, c)
		}
		if i > 0 && c.GetId() <= all.GetCases()[i-1].GetId() {
			t.Fatalf("case %d comes after case %d", c.GetId(), all.GetCases()[i-1].GetId())
		}
	}
	lane, err := client.ListCases(ctx, &weirv1.ListCasesRequest{Lane: all.GetCases()[3].GetLane(), State: "needs_person"})
	if err != nil || len(lane.GetCases()) != bigCrowd.cases/bigCrowd.lanes || lane.GetNextPageToken() != "" {
		t.Errorf("of one lane: %d cases, %v", len(lane.GetCases()), err)
	}
	none, err := client.ListCases(ctx, &weirv1.ListCasesRequest{Cause: "key_revoked"})
	if err != nil || len(none.GetCases()) != 0 || none.GetCounts().GetCases() != int32(bigCrowd.cases) {
		t.Errorf("of a cause that none has: %v, %v", none, err)
	}
}

func heapBytes() uint64 {
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	return mem.HeapAlloc
}

func BenchmarkCrowded(b *testing.B) {
	dir := bigCrowd.fill(b)
	w, client := crowdedWeir(b, dir)
	for name, call := range crowdCalls(b.Context(), w, client) {
		b.Run(name, func(b *testing.B) {
			var size int
			for b.Loop() {
				m, err := call()
				if err != nil {
					b.Fatal(err)
				}
				size = proto.Size(m)
			}
			b.ReportMetric(float64(size)/1024, "KiB/answer")
		})
	}
	b.Run("Forwarder.Status", func(b *testing.B) {
		for b.Loop() {
			w.forwarder.Status(w.acceptor)
		}
	})
	b.Run("Queue.Lanes", func(b *testing.B) { // what the dispatcher asks all the time
		for b.Loop() {
			w.queue.Lanes()
		}
	})
	b.Run("memory", func(b *testing.B) {
		var n uint64
		for b.Loop() {
			n = heapBytes()
		}
		b.ReportMetric(float64(n)/(1<<20), "MiB-heap")
	})
}
