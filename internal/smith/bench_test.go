package smith

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// llmPayload makes spans of about 2 KB whose text compresses like prose does.
func llmPayload(b *testing.B, spans int) []byte {
	b.Helper()
	dice := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 400)
	for i := range words {
		words[i] = fmt.Sprintf("%x", dice.Uint32N(1<<(8+dice.Uint32N(20))))
	}
	list := make([]*tracepb.Span, spans)
	for i := range list {
		var text bytes.Buffer
		for text.Len() < 1700 {
			fmt.Fprintf(&text, "%s ", words[dice.IntN(len(words))])
		}
		list[i] = newSpan(dice.Uint64()|1, dice.Uint64()|1, str("gen_ai.operation.name", "chat"),
			str("gen_ai.prompt", text.String()), num("gen_ai.usage.input_tokens", 300))
	}
	return payload(b, list...)
}

// sink is a ResponseWriter that costs nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}

// BenchmarkTake measures the handler alone, as the far end of other benchmarks
// has it: what it adds to each span under every encoding and retention. The
// same payload comes again and again, so under ids all but one are duplicates.
//
//	go test -run '^$' -bench Take ./internal/smith | benchstat -col /keep -
func BenchmarkTake(b *testing.B) {
	for _, spans := range []int{1, 100} {
		raw := llmPayload(b, spans)
		for encoding, body := range map[string][]byte{"identity": raw, "gzip": zipped(b, raw), "zstd": zstdded(b, raw)} {
			for _, keep := range []Keep{KeepSpans, KeepIDs, KeepCounts} {
				b.Run(fmt.Sprintf("spans=%d/encoding=%s/keep=%s", spans, encoding, keep), func(b *testing.B) {
					s := New(Config{Keep: keep, RetainBytes: 1 << 20})
					h := header("X-Api-Key", keyA, "Content-Type", contentProtobuf, "Content-Encoding", encoding)
					b.SetBytes(int64(len(raw)))
					b.ReportAllocs()
					for b.Loop() {
						r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, tracesPath, bytes.NewReader(body))
						if err != nil {
							b.Fatal(err)
						}
						r.Header = h
						s.ServeHTTP(&sink{http.Header{}}, r)
					}
					if st := s.Stats(); st.Taken.Requests != st.Requests {
						b.Fatalf("not all was taken: %+v", st.Answers)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*spans), "ns/span")
				})
			}
		}
	}
}

// BenchmarkIDs measures what keeping ids costs per span that was never seen.
func BenchmarkIDs(b *testing.B) {
	s := New(Config{Keep: KeepIDs})
	in := &Request{Spans: 1}
	heads := make([]spanHead, 1)
	b.ReportAllocs()
	var n uint64
	for b.Loop() {
		n++
		heads[0].id = id(n/8+1, n)
		heads[0].billed = TraceID(heads[0].id.Trace)
		if err := s.store.record(in, heads); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTakeRuns measures the handler alone for run operations, as the SDKs
// send them: a multipart request of 100 runs with inputs and outputs of about
// 2 KB. Under ids and spans the same ids come again only after a Reset.
func BenchmarkTakeRuns(b *testing.B) {
	const runs = 100
	text := string(appendJSON(nil, map[string]string{"text": fmt.Sprintf("%01900d", 0)}))
	f := newForm(b)
	for n := range runs {
		name := "post." + rid(n+1).String()
		f.json(name, runJSON([]int{n + 1})).json(name+".inputs", text).json(name+".outputs", `{"ok":true}`)
	}
	raw := f.body()
	for encoding, body := range map[string][]byte{"identity": raw, "zstd": zstdded(b, raw)} {
		for _, keep := range []Keep{KeepSpans, KeepIDs, KeepCounts} {
			b.Run(fmt.Sprintf("encoding=%s/keep=%s", encoding, keep), func(b *testing.B) {
				s := New(Config{Keep: keep, RetainBytes: 1 << 20})
				h := header("X-Api-Key", keyA, "Content-Type", f.w.FormDataContentType(), "Content-Encoding", encoding)
				b.SetBytes(int64(len(raw)))
				b.ReportAllocs()
				for b.Loop() {
					r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/runs/multipart", bytes.NewReader(body))
					if err != nil {
						b.Fatal(err)
					}
					r.Header = h
					s.ServeHTTP(&sink{http.Header{}}, r)
					if s.Stats().Runs.Posts != runs && keep != KeepCounts {
						b.Fatal("not all was taken")
					}
					if keep != KeepCounts {
						s.Reset()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*runs), "ns/run")
			})
		}
	}
}
