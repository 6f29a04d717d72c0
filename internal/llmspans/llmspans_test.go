package llmspans

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestSameSeedGivesSameBytes(t *testing.T) {
	t.Parallel()
	a, b, other := New(7), New(7), New(8)
	for range 3 {
		pa, ia := a.Request(25)
		pb, ib := b.Request(25)
		po, _ := other.Request(25)
		if !bytes.Equal(pa, pb) {
			t.Fatal("two generators of one seed disagree")
		}
		if diff := cmp.Diff(ia, ib); diff != "" {
			t.Fatalf("ids of one seed differ (-a +b):\n%s", diff)
		}
		if bytes.Equal(pa, po) {
			t.Fatal("generators of different seeds agree")
		}
	}
}

func TestIDsNameTheSpansOfThePayload(t *testing.T) {
	t.Parallel()
	g := New(3)
	want := uint64(1)
	for _, n := range []int{0, 1, 2, 100} {
		payload, ids := g.Request(n)
		var req tracecollector.ExportTraceServiceRequest
		if err := proto.Unmarshal(payload, &req); err != nil {
			t.Fatalf("n=%d: %v", n, err)
		}
		var got []ID
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spanID := [8]byte(s.GetSpanId())
					got = append(got, ID{Seq: Seq(spanID), TraceID: [16]byte(s.GetTraceId()), SpanID: spanID})
					last := s.GetAttributes()[len(s.GetAttributes())-1]
					if last.GetKey() != SeqAttribute || last.GetValue().GetIntValue() != int64(want) {
						t.Fatalf("n=%d: last attribute is %v, want %s=%d", n, last, SeqAttribute, want)
					}
					want++
				}
			}
		}
		if len(ids) != n {
			t.Fatalf("n=%d: %d ids", n, len(ids))
		}
		if n > 0 {
			if diff := cmp.Diff(ids, got); diff != "" {
				t.Fatalf("n=%d: ids differ from the payload (-ids +payload):\n%s", n, diff)
			}
		}
	}
}

// TestCompressesLikeRealTraces keeps benchmarks honest: text that compresses
// too well makes every number behind it look better than it is.
func TestCompressesLikeRealTraces(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		payload, _ := New(seed).Request(100)
		perSpan := len(payload) / 100
		if perSpan < 1600 || perSpan > 2400 {
			t.Errorf("seed %d: %d bytes per span, want about 2000", seed, perSpan)
		}
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := w.Write(payload); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		ratios := map[string]float64{
			"zstd fastest": float64(len(payload)) / float64(len(enc.EncodeAll(payload, nil))),
			"gzip 6":       float64(len(payload)) / float64(zipped.Len()),
		}
		t.Logf("seed %d: %d bytes per span, %v", seed, perSpan, ratios)
		for name, ratio := range ratios {
			if ratio < 3.3 || ratio > 4.7 {
				t.Errorf("seed %d: %s compresses %.2f:1, want about 4:1", seed, name, ratio)
			}
		}
	}
}
