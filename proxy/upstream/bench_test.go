package upstream

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"weir/proxy"
	"weir/proxy/runs"
)

// traces returns about n bytes of serialized OTLP: LLM spans of 2 KB whose
// texts compress about 4:1, each different.
func traces(b *testing.B, n int) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	vocabulary := make([]string, 400)
	for i := range vocabulary {
		word := make([]byte, 3+r.IntN(7))
		for j := range word {
			word[j] = byte('a' + r.IntN(26))
		}
		vocabulary[i] = string(word) + " "
	}
	text := func(size int) *commonpb.AnyValue {
		s := make([]byte, 0, size+10)
		for len(s) < size {
			s = append(s, vocabulary[int(float64(len(vocabulary))*r.Float64()*r.Float64())]...)
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: string(s)}}
	}
	id := func(size int) []byte {
		s := binary.BigEndian.AppendUint64(nil, r.Uint64())
		return binary.BigEndian.AppendUint64(s, r.Uint64())[:size]
	}
	var out []byte
	for len(out) < n {
		start := uint64(1_795_435_200_000_000_000) + r.Uint64N(1e12)
		span := &tracepb.Span{
			TraceId: id(16), SpanId: id(8), ParentSpanId: id(8), Name: "ChatOpenAI", StartTimeUnixNano: start, EndTimeUnixNano: start + r.Uint64N(1e10),
			Attributes: []*commonpb.KeyValue{
				{Key: "gen_ai.prompt.0.content", Value: text(1100)},
				{Key: "gen_ai.completion.0.content", Value: text(500)},
				{Key: "gen_ai.request.model", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: "gpt-4o-mini"}}},
				{Key: "gen_ai.usage.input_tokens", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: r.Int64N(4000)}}},
			},
		}
		raw, err := proto.Marshal(&tracecollector.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
			ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{span}}},
		}}})
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, raw...)
	}
	return out
}

// benchParts returns a request of four stored frames of 1 MiB.
func benchParts(b *testing.B) (parts []proxy.Part, rawBytes int64) {
	b.Helper()
	for range 4 {
		part := zstdPart(b, traces(b, 1<<20))
		parts = append(parts, part)
		rawBytes += int64(part.RawBytes)
	}
	return parts, rawBytes
}

// BenchmarkEncode measures making and reading a body, without a network. MB/s
// are of uncompressed traces.
func BenchmarkEncode(b *testing.B) {
	parts, raw := benchParts(b)
	for _, e := range fallbacks {
		b.Run("v="+string(e), func(b *testing.B) {
			codecs := newTestCodecs(b)
			p := make([]byte, 32<<10)
			var wire int64
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				body, err := codecs.encode(parts, e)
				if err != nil {
					b.Fatal(err)
				}
				r := body.reader()
				for err == nil {
					_, err = r.Read(p)
				}
				if err != io.EOF { //nolint:errorlint // the bare io.EOF is the contract
					b.Fatal(err)
				}
				wire = body.size
				body.release()
			}
			b.ReportMetric(float64(raw)/float64(wire), "ratio")
		})
	}
}

// BenchmarkEncodeRuns measures making and reading the form of 100 runs and 10
// small attachments. MB/s are of content.
func BenchmarkEncodeRuns(b *testing.B) {
	ops := someRuns(100)
	var raw int64
	for _, op := range ops {
		raw += op.Size()
	}
	for _, e := range fallbacks {
		b.Run("v="+string(e), func(b *testing.B) {
			codecs := newTestCodecs(b)
			p := make([]byte, 32<<10)
			var wire int64
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				body, err := codecs.encodeForm(runs.NewForm(ops), e)
				if err != nil {
					b.Fatal(err)
				}
				r := body.reader()
				for err == nil {
					_, err = r.Read(p)
				}
				if err != io.EOF { //nolint:errorlint // the bare io.EOF is the contract
					b.Fatal(err)
				}
				wire = body.size
				body.release()
			}
			b.ReportMetric(float64(raw)/float64(wire), "ratio")
		})
	}
}

// BenchmarkSendRuns measures whole exchanges of 100 runs with a server that
// reads and throws away.
func BenchmarkSendRuns(b *testing.B) {
	r := newRunsRequest(someRuns(100)...)
	s := newServer(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	c := newTestClient(b, s.URL, nil)
	var raw int64
	for _, op := range r.Runs {
		raw += op.Size()
	}
	b.SetBytes(raw)
	b.ReportAllocs()
	for b.Loop() {
		if out := c.Send(context.Background(), r); out.Kind != proxy.Delivered {
			b.Fatal(out)
		}
	}
}

// BenchmarkSend measures whole exchanges with a server in the same process
// that reads and throws away, so half of the CPU is the server's.
func BenchmarkSend(b *testing.B) {
	parts, raw := benchParts(b)
	s := newServer(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for _, e := range fallbacks {
		b.Run("v="+string(e), func(b *testing.B) {
			c := newTestClient(b, s.URL, func(cfg *Config) { cfg.Encoding = e })
			r := newRequest(parts...)
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				if out := c.Send(context.Background(), r); out.Kind != proxy.Delivered {
					b.Fatal(out)
				}
			}
		})
	}
}

// BenchmarkSendSmall measures what an exchange costs besides its content.
func BenchmarkSendSmall(b *testing.B) {
	s := newServer(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for _, e := range fallbacks {
		b.Run(fmt.Sprintf("v=%s", e), func(b *testing.B) {
			c := newTestClient(b, s.URL, func(cfg *Config) { cfg.Encoding = e })
			r := newRequest(zstdPart(b, traces(b, 2000)))
			b.ReportAllocs()
			for b.Loop() {
				if out := c.Send(context.Background(), r); out.Kind != proxy.Delivered {
					b.Fatal(out)
				}
			}
		})
	}
}
