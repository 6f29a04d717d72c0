package torture

import (
	"encoding/binary"
	"math/rand/v2"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"weir/internal/llmspans"
)

// Source makes exports. It is used by one goroutine.
type Source interface {
	// Next returns a serialized OTLP export that no Source of another seed,
	// and none of its own earlier calls, has any span in common with.
	Next() []byte
}

// chat is a Source of LLM spans.
type chat struct {
	gen   *llmspans.Generator
	spans int
}

// Chat returns a Source of realistic spans of about 2 KB, so many in each
// export. Seeds of sources used together must differ in their low 16 bits.
func Chat(seed uint64, spans int) Source { return &chat{gen: llmspans.New(seed), spans: spans} }

func (c *chat) Next() []byte {
	payload, _ := c.gen.Request(c.spans)
	return payload
}

// bulk is a Source of incompressible spans.
type bulk struct {
	rng              *rand.ChaCha8
	seed, seq        uint64
	spans, spanBytes int
	startUnixNano    uint64
}

// bulkTime is when the spans of Bulk began: 2026-01-01 UTC.
const bulkTime = 1_767_225_600_000_000_000

// Bulk returns a Source of spans that each carry spanBytes of random data, to
// fill disks and segments fast.
func Bulk(seed uint64, spans, spanBytes int) Source { return BulkAt(seed, spans, spanBytes, bulkTime) }

// BulkAt is Bulk with the start time of its spans.
func BulkAt(seed uint64, spans, spanBytes int, startUnixNano uint64) Source {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return &bulk{rng: rand.NewChaCha8(key), seed: seed, spans: spans, spanBytes: spanBytes, startUnixNano: startUnixNano}
}

func (b *bulk) Next() []byte {
	spans := make([]*tracepb.Span, b.spans)
	for i := range spans {
		b.seq++
		data := make([]byte, b.spanBytes)
		_, _ = b.rng.Read(data) // never fails
		spans[i] = &tracepb.Span{
			TraceId:           id16(0xb, b.seed, b.seq),
			SpanId:            binary.BigEndian.AppendUint64(nil, b.seed<<40|b.seq),
			Name:              "bulk",
			StartTimeUnixNano: b.startUnixNano,
			EndTimeUnixNano:   b.startUnixNano + 1_000_000,
			Attributes: []*commonpb.KeyValue{{
				Key: "data", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: data}},
			}},
		}
	}
	payload, err := proto.Marshal(&collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}},
	}}})
	if err != nil {
		panic("torture: marshal a generated export: " + err.Error()) // no text, no invalid UTF-8
	}
	return payload
}

// traces is a Source of small traces, a part of each.
type traces struct {
	seed, seq uint64
	perExport int
	part      uint8
}

// Traces returns a Source of one span of each of perExport new traces. Sources
// of the same seed and different parts have different spans of the same traces,
// in the same order.
func Traces(seed uint64, perExport int, part uint8) Source {
	return &traces{seed: seed, perExport: perExport, part: part}
}

func (s *traces) Next() []byte {
	spans := make([]*tracepb.Span, s.perExport)
	for i := range spans {
		s.seq++
		spans[i] = &tracepb.Span{
			TraceId:           id16(0xc, s.seed, s.seq),
			SpanId:            binary.BigEndian.AppendUint64(nil, s.seed<<40|s.seq<<8|uint64(s.part)),
			Name:              "part",
			StartTimeUnixNano: bulkTime,
			EndTimeUnixNano:   bulkTime + 1_000_000,
		}
	}
	payload, err := proto.Marshal(&collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}},
	}}})
	if err != nil {
		panic("torture: marshal a generated export: " + err.Error()) // no text, no invalid UTF-8
	}
	return payload
}

// id16 makes a trace id of a kind, a seed and a number.
func id16(kind byte, seed, seq uint64) []byte {
	id := make([]byte, 16)
	id[0] = kind
	binary.BigEndian.PutUint32(id[4:], uint32(seed))
	binary.BigEndian.PutUint64(id[8:], seq)
	return id
}

// Merged is a Source whose exports hold one export of each of the others: a
// concatenation of OTLP requests is their merger.
type Merged []Source

// Next implements Source.
func (m Merged) Next() []byte {
	var all []byte
	for _, s := range m {
		all = append(all, s.Next()...)
	}
	return all
}
