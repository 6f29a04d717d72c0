package otlp

import (
	"fmt"
	"testing"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"weir/internal/llmspans"
)

// BenchmarkScan measures the scan beside the decoding it replaces:
//
//	go test -run '^$' -bench Scan -count 6 ./proxy/otlp | benchstat -col /how -
func BenchmarkScan(b *testing.B) {
	for _, spans := range []int{1, 100} {
		payload, _ := llmspans.New(1).Request(spans)
		b.Run(fmt.Sprintf("spans=%d/how=scan", spans), func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			var sum Summary
			for b.Loop() {
				if err := Scan(payload, 0, &sum); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("spans=%d/how=unmarshal", spans), func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				var req tracecollector.ExportTraceServiceRequest
				if err := proto.Unmarshal(payload, &req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
