package main

import (
	"context"
	"encoding/binary"
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
// there is. Each returns how many bytes its answer has.
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
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(w.at.Admin)+"/metrics", nil)
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
	b.Run("memory", func(b *testing.B) {
		var mem runtime.MemStats
		for b.Loop() {
			runtime.GC()
			runtime.ReadMemStats(&mem)
		}
		b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "MiB-heap")
	})
}
