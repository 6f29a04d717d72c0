package wholeway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"weir/internal/llmspans"
)

const (
	// runOps is the fixed work of one iteration, whatever the machine.
	runOps = 200_000
	// runClients post at a time, each one flush after the other.
	runClients = 8
	// loneFlushes is how many flushes a lone client sends each way.
	loneFlushes = 400

	benchKey = "lsv2_pt_bench_0000000000"
)

// Runs, whole way: eight SDKs flush 200,000 run operations through weir.
//
//	go test -run - -bench WholeWayRuns -benchtime 1x -count 3 ./internal/wholeway
//
// Metrics: acked-ops/s, delivered-ops/s (until the last has arrived, the window
// included), cpu-s/Mop (weir's process alone), p50-us and p99-us of an
// acknowledgement, anon-MB (peak anonymous memory), in-B/op and up-B/op
// (compressed bytes of bodies to and from weir), up-raw-B/op (the latter before
// compression), up-requests, disk-B/B (bytes written per byte of body before
// compression).
func BenchmarkWholeWayRuns(b *testing.B) {
	bin := build(b)
	for _, how := range []pairing{together, next, apart} {
		for _, coalesce := range []string{"0s", "2s"} {
			b.Run(fmt.Sprintf("update=%s/coalesce=%s", how, coalesce), func(b *testing.B) {
				for range b.N {
					runRuns(b, bin, how, coalesce)
				}
			})
		}
	}
}

// Added latency per flush: a lone client posts every flush to weir, which syncs
// it to disk, and then straight to another look-alike, which keeps nothing.
//
//	go test -run - -bench RunsLatency -benchtime 1x -count 3 ./internal/wholeway
func BenchmarkRunsLatency(b *testing.B) {
	bin := build(b)
	for _, perFlush := range []int{1, opsPerFlush / 2} {
		b.Run(fmt.Sprintf("ops=%d", 2*perFlush), func(b *testing.B) {
			for range b.N {
				runLatency(b, bin, perFlush)
			}
		})
	}
}

// startRuns starts a look-alike and a weir in front of it.
func startRuns(b *testing.B, bin, coalesce string) (w weirProcess, upstream string) {
	b.Helper()
	_, upstream = start(b, "", filepath.Join(bin, "smith"), "--discard", "--control")
	w.httpAddr, w.adminAddr = freeAddr(b), freeAddr(b)
	w.pid, _ = start(b, "weir", filepath.Join(bin, "weir"), "run", "--quota-traces", "none", "--grpc-addr", "off", "--http-addr", w.httpAddr,
		"--admin-addr", w.adminAddr, "--data-dir", b.TempDir(), "--upstream", "http://"+upstream, "--coalesce", coalesce, "--log-level", "error")
	return w, upstream
}

// weirProcess is a weir that takes runs.
type weirProcess struct {
	pid                 int
	httpAddr, adminAddr string
}

// runRuns measures one iteration.
func runRuns(b *testing.B, bin string, how pairing, coalesce string) {
	b.StopTimer()
	perClient := runOps / opsPerFlush / runClients
	perFlush := opsPerFlush / 2
	if how == apart {
		perFlush = opsPerFlush
	}
	made := makeTemplates(how, min(perClient, flushTemplates), perFlush)
	flushes := make([][]flush, runClients)
	var wg sync.WaitGroup
	for c := range flushes {
		wg.Go(func() { flushes[c] = makeFlushes(b, made, how, perClient, c) })
	}
	wg.Wait()
	w, upstream := startRuns(b, bin, coalesce)
	before := usage(b, w.pid)
	stop := watchMemory(b, w.pid)
	b.StartTimer()
	began := time.Now()
	phases := []phase{{0, perClient}}
	if how == apart {
		phases = []phase{{0, perClient / 2}, {perClient / 2, perClient}}
	}
	var acked time.Duration
	var all []time.Duration
	for _, p := range phases {
		posting := time.Now()
		all = append(all, postAll(b, w.httpAddr, flushes, p)...)
		acked += time.Since(posting)
		awaitDelivered(b, w.adminAddr, int64(p.to*opsPerFlush*runClients))
	}
	delivered := time.Since(began)
	b.StopTimer()
	peak, after := stop(), usage(b, w.pid)
	var wire, raw int
	for _, f := range slices.Concat(flushes...) {
		wire += len(f.body)
		raw += f.raw
	}
	up := takenBy(b, upstream)
	b.ReportMetric(runOps/acked.Seconds(), "acked-ops/s")
	b.ReportMetric(runOps/delivered.Seconds(), "delivered-ops/s")
	b.ReportMetric((after.cpu-before.cpu).Seconds()/runOps*1e6, "cpu-s/Mop")
	b.ReportMetric(float64(percentile(all, 50).Microseconds()), "p50-us")
	b.ReportMetric(float64(percentile(all, 99).Microseconds()), "p99-us")
	b.ReportMetric(float64(peak)/(1<<20), "anon-MB")
	b.ReportMetric(float64(wire)/runOps, "in-B/op")
	b.ReportMetric(float64(raw)/runOps, "in-raw-B/op")
	b.ReportMetric(float64(up.WireBytes)/runOps, "up-B/op")
	b.ReportMetric(float64(up.RawBytes)/runOps, "up-raw-B/op")
	b.ReportMetric(float64(up.Requests), "up-requests")
	b.ReportMetric(float64(up.Operations), "up-ops")
	b.ReportMetric(float64(after.written-before.written)/float64(raw), "disk-B/B")
	b.ReportMetric(0, "ns/op")
}

// phase is the flushes of each client that are posted before the next wait.
type phase struct{ from, to int }

// postAll has every client post its flushes of a phase and returns how long
// each took to be acknowledged.
func postAll(b *testing.B, addr string, flushes [][]flush, p phase) []time.Duration {
	b.Helper()
	took := make([][]time.Duration, len(flushes))
	var wg sync.WaitGroup
	for c := range flushes {
		wg.Go(func() {
			client := newPoster()
			defer client.CloseIdleConnections()
			for _, f := range flushes[c][p.from:p.to] {
				d, err := post(b, client, addr, f)
				if err != nil {
					b.Error(err)
					return
				}
				took[c] = append(took[c], d)
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return slices.Concat(took...)
}

// runLatency measures one iteration for a lone client.
func runLatency(b *testing.B, bin string, perFlush int) {
	b.StopTimer()
	flushes := makeFlushes(b, makeTemplates(together, flushTemplates, perFlush), together, loneFlushes, 1)
	w, _ := startRuns(b, bin, "0s")
	_, straight := start(b, "", filepath.Join(bin, "smith"), "--discard")
	client := newPoster()
	defer client.CloseIdleConnections()
	took := map[string][]time.Duration{}
	b.StartTimer()
	for _, f := range flushes {
		for _, addr := range []string{w.httpAddr, straight} {
			d, err := post(b, client, addr, f)
			if err != nil {
				b.Fatal(err)
			}
			took[addr] = append(took[addr], d)
		}
	}
	awaitDelivered(b, w.adminAddr, int64(len(flushes)*2*perFlush))
	b.StopTimer()
	for _, p := range []int{50, 99} {
		through, direct := percentile(took[w.httpAddr], p), percentile(took[straight], p)
		b.ReportMetric(float64(through.Microseconds()), fmt.Sprintf("weir-p%d-us", p))
		b.ReportMetric(float64(direct.Microseconds()), fmt.Sprintf("straight-p%d-us", p))
		b.ReportMetric(float64((through - direct).Microseconds()), fmt.Sprintf("added-p%d-us", p))
	}
	b.ReportMetric(0, "ns/op")
}

// newPoster is a client with a connection of its own.
func newPoster() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Minute}
}

// post sends a flush as the Python SDK does and returns how long the answer
// took.
func post(b *testing.B, client *http.Client, addr string, f flush) (time.Duration, error) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+addr+"/runs/multipart", bytes.NewReader(f.body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "multipart/form-data; boundary="+llmspans.RunsBoundary)
	req.Header.Set("Content-Encoding", "zstd")
	req.Header.Set("X-Pre-Compressed-Size", fmt.Sprint(f.raw))
	req.Header.Set("X-Post-Compressed-Size", fmt.Sprint(len(f.body)))
	req.Header.Set("X-Api-Key", benchKey)
	req.Header.Set("User-Agent", "langsmith-py/0.4.31")
	sent := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	took := time.Since(sent)
	if err == nil && res.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("post to %s: %s: %s", addr, res.Status, answer)
	}
	return took, err
}

// tally is what a look-alike has taken.
type tally struct {
	Requests   int64 `json:"requests"`
	WireBytes  int64 `json:"wire_bytes"`
	RawBytes   int64 `json:"raw_bytes"`
	Operations int64 `json:"operations"`
}

func takenBy(b *testing.B, addr string) tally {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+addr+"/__smith/stats", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var stats struct {
		Taken tally `json:"taken"`
	}
	if err := json.NewDecoder(res.Body).Decode(&stats); err != nil {
		b.Fatal(err)
	}
	if stats.Taken.Operations == 0 {
		b.Fatal("the look-alike says that it took nothing")
	}
	return stats.Taken
}

// percentile sorts and picks.
func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[len(d)*p/100]
}
