package langsmith

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"weir/proxy"
)

// flush is what an SDK sends for n runs: a create and an update of each, with
// inputs, outputs and extra.
func flush(n int) string {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 20)
	var parts []string
	for i := 1; i <= n/2; i++ {
		id := idText(i)
		parts = append(parts,
			jsonPart("post."+id, runObject(i)),
			jsonPart("post."+id+".inputs", fmt.Sprintf(`{"messages":[{"role":"user","content":"%d %s"}]}`, i, text)),
			jsonPart("post."+id+".extra", `{"metadata":{"ls_provider":"openai","ls_model_name":"gpt"},"runtime":{"sdk":"langsmith-py"}}`),
			jsonPart("patch."+id, runObject(i)),
			jsonPart("patch."+id+".outputs", fmt.Sprintf(`{"choices":[{"message":{"role":"assistant","content":"%s %d"}}]}`, text, i)),
		)
	}
	return form(parts...)
}

type nowhere struct{}

func (nowhere) Accept(context.Context, *proxy.Export) (proxy.Receipt, error) {
	return proxy.Receipt{}, nil
}

func benchmark(b *testing.B, path, encoding, body string) {
	b.Helper()
	h, err := New(Config{Upstream: Upstream{BaseURL: "http://h", Transport: noUpstream{}}}, nowhere{}, &fakeSpooler{})
	if err != nil {
		b.Fatal(err)
	}
	wire := compress(b, encoding, []byte(body))
	serve := h.HTTP()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, bytes.NewReader(wire))
		req.Header.Set("Content-Type", formType)
		req.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		if serve.ServeHTTP(w, req); w.Code != http.StatusAccepted {
			b.Fatalf("status %d: %s", w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/operation")
}

func BenchmarkMultipart100(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip", "zstd"} {
		b.Run(encoding, func(b *testing.B) { benchmark(b, "/runs/multipart", encoding, flush(100)) })
	}
}

func BenchmarkBatch100(b *testing.B) {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 20)
	var list [2][]string
	for i := 1; i <= 50; i++ {
		for k, field := range []string{"inputs", "outputs"} {
			list[k] = append(list[k], strings.Replace(runObject(i), "{", fmt.Sprintf(`{%q:{"text":"%s %d"},`, field, text, i), 1))
		}
	}
	body := `{"post":[` + strings.Join(list[0], ",") + `],"patch":[` + strings.Join(list[1], ",") + `]}`
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) { benchmark(b, "/runs/batch", encoding, body) })
	}
}
