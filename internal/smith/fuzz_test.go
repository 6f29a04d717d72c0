package smith

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// FuzzOTLPBody sends any body in any encoding: the answer is one of those
// documented, nothing is half taken, and what is taken can be read back.
func FuzzOTLPBody(f *testing.F) {
	good := payload(f, newSpan(1, 1), newSpan(2, 2, str("langsmith.trace.session_name", "p")))
	f.Add(good, uint8(0))
	f.Add(zipped(f, good, nil, good), uint8(1))
	f.Add(zstdded(f, good, nil, good), uint8(2))
	f.Add([]byte(jsonBody), uint8(3))
	f.Add(good[:len(good)/2], uint8(0))
	encodings := []http.Header{
		header("Content-Type", contentProtobuf),
		header("Content-Type", contentProtobuf, "Content-Encoding", "gzip"),
		header("Content-Type", contentProtobuf, "Content-Encoding", "zstd"),
		header("Content-Type", contentJSON),
	}
	s := New(Config{MaxBodyBytes: 1 << 20, MaxRawBytes: 1 << 20})
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, body []byte, encoding uint8) {
		s.Reset()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, tracesPath, bytes.NewReader(body))
		r.Header = encodings[int(encoding)%len(encodings)].Clone()
		r.Header.Set("X-Api-Key", keyA)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		st := s.Stats()
		switch w.Code {
		case http.StatusOK:
			if got := int64(len(s.Spans())); st.Taken.Requests != 1 || got != st.Taken.Spans || got != st.DistinctSpans+st.Duplicates {
				t.Fatalf("%d spans can be read back of %+v", got, st)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if st.Taken.Requests != 0 || len(s.Requests()) != 0 {
				t.Fatalf("refused with %d, and taken: %+v", w.Code, st.Taken)
			}
		default:
			t.Fatalf("answer = %d", w.Code)
		}
	})
}

// FuzzScan holds the scan against the real decoder: whatever the decoder takes,
// the scan takes too, and counts the same spans.
func FuzzScan(f *testing.F) {
	f.Add(payload(f, newSpan(1, 1), newSpan(1, 2, str("langsmith.trace.id", tenantA))))
	f.Add([]byte{0x0a, 0x02, 0x12, 0x00, 0x9b, 0x06, 0x9c, 0x06})
	f.Fuzz(func(t *testing.T, body []byte) {
		msg := &collectorpb.ExportTraceServiceRequest{}
		if proto.Unmarshal(body, msg) != nil {
			return
		}
		var want, valid int
		for _, rs := range msg.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, sp := range ss.GetSpans() {
					want++
					if len(bytes.Trim(sp.GetTraceId(), "\x00")) > 0 && len(sp.GetTraceId()) == 16 &&
						len(bytes.Trim(sp.GetSpanId(), "\x00")) > 0 && len(sp.GetSpanId()) == 8 {
						valid++
					}
				}
			}
		}
		if n, _, err := scan(body, nil, false); n != want || err != nil {
			t.Fatalf("shallow scan = %d, %v; want %d", n, err, want)
		}
		n, heads, err := scan(body, nil, true)
		if valid < want {
			if err == nil {
				t.Fatalf("the scan took %d spans of which %d have valid ids", n, valid)
			}
			return
		}
		if n != want || len(heads) != want || err != nil {
			t.Fatalf("scan = %d with %d heads, %v; want %d", n, len(heads), err, want)
		}
	})
}

// FuzzParseChaos checks that what is accepted is a sane plan.
func FuzzParseChaos(f *testing.F) {
	f.Add("429=0.2,503=0.1,reset=0.05,hang=0.01")
	f.Add("monthly_quota=1e-9, slow=0x1p-2")
	f.Fuzz(func(t *testing.T, spec string) {
		c, err := ParseChaos(spec)
		if err != nil {
			return
		}
		var sum float64
		for _, r := range c.rolls {
			if !(r.share >= 0 && r.share <= 1) || r.fault.Match != MatchIngest || r.fault.Name == "" {
				t.Fatalf("%q gave %+v", spec, r)
			}
			sum += r.share
		}
		if sum > 1.0001 {
			t.Fatalf("%q adds up to %g", spec, sum)
		}
	})
}
