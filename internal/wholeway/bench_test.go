package wholeway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"weir/internal/llmspans"
)

// Whole way, compared over six runs:
//
//	go test -run - -bench WholeWay -benchtime 3s -count 6 ./internal/wholeway | tee new.txt
//	go tool -modfile=internal/tools/go.mod benchstat old.txt new.txt
//
// Metrics: acked-spans/s, delivered-spans/s (until the last span has arrived),
// cpu-s/Mspan (weir's process alone), p50-us and p99-us of an acknowledgement,
// anon-MB (peak anonymous memory), disk-B/B (bytes written per payload byte).
func BenchmarkWholeWay(b *testing.B) {
	bin := build(b)
	for _, encoding := range []string{"gzip", "zstd"} {
		for _, load := range []struct{ spans, clients int }{{1, 1}, {1, 64}, {10, 64}, {100, 32}} {
			b.Run(fmt.Sprintf("encoding=%s/spans=%d/clients=%d", encoding, load.spans, load.clients), func(b *testing.B) {
				run(b, bin, encoding, load.spans, load.clients)
			})
		}
	}
}

// build compiles both programs once.
func build(b *testing.B) string {
	b.Helper()
	bin := b.TempDir()
	out, err := exec.CommandContext(b.Context(), "go", "build", "-o", bin, "weir/cmd/weir", "weir/internal/smith/cmd/smith").CombinedOutput()
	if err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// start runs a program until the benchmark ends, and returns its first lines
// of output up to one that has prefix.
func start(b *testing.B, prefix, name string, args ...string) (pid int, line string) {
	b.Helper()
	cmd := exec.Command(name, args...) //nolint:noctx // ended by the cleanup below, gently
	cmd.Env = append(os.Environ(), "LANGSMITH_API_KEY="+benchKey)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); strings.HasPrefix(text, prefix) {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return cmd.Process.Pid, strings.TrimSpace(strings.TrimPrefix(text, prefix))
		}
	}
	b.Fatalf("%s ended before it said %q", name, prefix)
	return 0, ""
}

func run(b *testing.B, bin, encoding string, spans, clients int) {
	_, upstream := start(b, "", filepath.Join(bin, "smith"), "--discard")
	grpcAddr, adminAddr := freeAddr(b), freeAddr(b)
	pid, _ := start(b, "weir", filepath.Join(bin, "weir"), "run", "--quota-traces", "none", "--grpc-addr", grpcAddr, "--http-addr", "off",
		"--admin-addr", adminAddr, "--data-dir", b.TempDir(), "--upstream", "http://"+upstream, "--otlp-encoding", encoding, "--log-level", "error")
	payloads, payloadBytes := makePayloads(spans)
	conns := dial(b, grpcAddr, min(clients, 8))
	before := usage(b, pid)
	stop := watchMemory(b, pid)
	var next atomic.Int64
	latencies := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	b.ResetTimer()
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				sent := time.Now()
				if err := export(b.Context(), conns[c%len(conns)], payloads[i%len(payloads)]); err != nil {
					b.Error(err)
					return
				}
				latencies[c] = append(latencies[c], time.Since(sent))
			}
		})
	}
	wg.Wait()
	acked := time.Since(began)
	awaitDelivered(b, adminAddr, int64(b.N*spans))
	delivered := time.Since(began)
	b.StopTimer()
	peak := stop()
	after := usage(b, pid)
	total := float64(b.N * spans)
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(total/acked.Seconds(), "acked-spans/s")
	b.ReportMetric(total/delivered.Seconds(), "delivered-spans/s")
	b.ReportMetric((after.cpu-before.cpu).Seconds()/total*1e6, "cpu-s/Mspan")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(peak)/(1<<20), "anon-MB")
	b.ReportMetric(float64(after.written-before.written)/(float64(payloadBytes)/float64(len(payloads))*float64(b.N)), "disk-B/B")
	b.ReportMetric(0, "ns/op")
}

// freeAddr is a loopback address nobody listens on.
func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := (&netListen{}).listen(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// makePayloads makes about 40 MB of distinct requests, at most 20,000.
func makePayloads(spans int) (payloads [][]byte, bytes int) {
	g := llmspans.New(1)
	for len(payloads) < 20_000 && bytes < 40<<20 {
		p, _ := g.Request(spans)
		payloads = append(payloads, p)
		bytes += len(p)
	}
	return payloads, bytes
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

func dial(b *testing.B, addr string, n int) []*grpc.ClientConn {
	b.Helper()
	conns := make([]*grpc.ClientConn, n)
	for i := range conns {
		c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		conns[i] = c
	}
	return conns
}

func export(ctx context.Context, c *grpc.ClientConn, payload []byte) error {
	var reply []byte
	return c.Invoke(ctx, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &payload, &reply)
}

// awaitDelivered polls weir's status until it has delivered n items.
func awaitDelivered(b *testing.B, adminAddr string, n int64) {
	b.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	var last int64
	for last < n {
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("delivered %d of %d items", last, n)
		}
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+adminAddr+"/weir.v1.AdminService/GetStatus", strings.NewReader("{}"))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		var status struct {
			Totals struct{ DeliveredItems string }
		}
		err = json.NewDecoder(res.Body).Decode(&status)
		_ = res.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		last, _ = strconv.ParseInt(status.Totals.DeliveredItems, 10, 64)
	}
}
