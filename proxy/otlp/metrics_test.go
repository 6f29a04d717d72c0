package otlp

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"

	"weir/internal/llmspans"
	"weir/proxy"
)

func TestMetricsCountWhatWasReceived(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	sink := &fakeSink{respond: func(_ context.Context, e *proxy.Export) (proxy.Receipt, error) {
		if e.Caller.Project == "full" {
			return proxy.Receipt{}, &proxy.PressureError{Reason: "disk_full", Detail: "full", RetryAfter: time.Second}
		}
		return proxy.Receipt{}, nil
	}}
	cfg := Config{Registerer: reg, MaxMessageBytes: 1 << 20}
	h := newHandler(t, cfg, sink)
	overGRPC, overHTTP := startGRPC(t, h, cfg), startHTTP(t, h, mediaProtobuf)
	payload, _ := llmspans.New(1).Request(7)
	for _, s := range []sender{overGRPC, overHTTP} {
		for _, r := range []request{
			{payload: payload},
			{payload: payload, encoding: nameGzip},
			{payload: payload, headers: map[string]string{"langsmith-project": "full"}},
			{payload: []byte("rubbish")},
			{},
		} {
			s.send(t.Context(), t, r)
		}
	}
	overGRPC.send(t.Context(), t, request{payload: make([]byte, 2<<20)})

	want := `
# HELP weir_receive_refused_total Export requests not taken, by reason; whether for now or for good is in weir_receive_requests_total.
# TYPE weir_receive_refused_total counter
weir_receive_refused_total{reason="disk_full",transport="grpc"} 1
weir_receive_refused_total{reason="disk_full",transport="http/protobuf"} 1
weir_receive_refused_total{reason="malformed",transport="grpc"} 1
weir_receive_refused_total{reason="malformed",transport="http/protobuf"} 1
weir_receive_refused_total{reason="too_large",transport="grpc"} 1
# HELP weir_receive_spans_total Spans acknowledged.
# TYPE weir_receive_spans_total counter
weir_receive_spans_total{transport="grpc"} 14
weir_receive_spans_total{transport="http/json"} 0
weir_receive_spans_total{transport="http/protobuf"} 14
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "weir_receive_refused_total", "weir_receive_spans_total"); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		t    transport
		e    compression
		r    result
		want float64
	}{
		{transportGRPC, encodingIdentity, resultAccepted, 1},
		{transportGRPC, encodingGzip, resultAccepted, 1},
		{transportGRPC, encodingIdentity, resultEmpty, 1},
		{transportGRPC, encodingIdentity, resultRefused, 1},
		{transportGRPC, encodingIdentity, resultRejected, 2},
		{transportHTTPProtobuf, encodingIdentity, resultAccepted, 1},
		{transportHTTPProtobuf, encodingGzip, resultAccepted, 1},
		{transportHTTPProtobuf, encodingIdentity, resultRejected, 1},
	} {
		if got := testutil.ToFloat64(h.metrics.requests[tc.t][tc.e][tc.r]); got != tc.want {
			t.Errorf("%s %s %s: %v requests, want %v", tc.t, tc.e, tc.r, got, tc.want)
		}
	}
	if got, want := testutil.ToFloat64(h.metrics.message[transportHTTPProtobuf]), float64(2*len(payload)); got != want {
		t.Errorf("%v message bytes over HTTP, want %v", got, want)
	}
	for _, tr := range []transport{transportGRPC, transportHTTPProtobuf} {
		if got := testutil.ToFloat64(h.metrics.wire[tr]); got < float64(len(payload)) {
			t.Errorf("%v wire bytes over %s, of more than %d", got, tr, len(payload))
		}
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// BenchmarkExport measures a whole call: a client, a server and a sink that
// only acknowledges, all in this process.
//
//	go test -run '^$' -bench Export -count 6 ./proxy/otlp | benchstat -col /encoding -
func BenchmarkExport(b *testing.B) {
	for _, bm := range []struct {
		name     string
		spans    int
		encoding string
	}{
		{"spans=1/encoding=identity", 1, ""},
		{"spans=100/encoding=identity", 100, ""},
		{"spans=100/encoding=gzip", 100, nameGzip},
		{"spans=100/encoding=zstd", 100, nameZstd},
	} {
		b.Run(bm.name, func(b *testing.B) {
			payload, _ := llmspans.New(1).Request(bm.spans)
			s := startGRPC(b, newHandler(b, Config{}, discard{}), Config{})
			opts := []grpc.CallOption{grpc.ForceCodecV2(rawClientCodec{newCodec()})}
			if bm.encoding != "" {
				opts = append(opts, grpc.UseCompressor(bm.encoding))
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.conn.Invoke(b.Context(), exportMethod, payload, &rawMessage{}, opts...); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
