package langsmith

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"weir/proxy"
	"weir/proxy/runs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept is an export as the sink got it.
type kept struct {
	proxy.Export

	ops []runs.Op
}

// fakeSink keeps what it accepts, unless respond says otherwise.
type fakeSink struct {
	respond func(context.Context, *proxy.Export) (proxy.Receipt, error)

	mu   sync.Mutex // guards list
	list []kept
}

func (s *fakeSink) Accept(ctx context.Context, e *proxy.Export) (proxy.Receipt, error) {
	var receipt proxy.Receipt
	if s.respond != nil {
		var err error
		if receipt, err = s.respond(ctx, e); err != nil {
			return receipt, err
		}
	}
	mine := kept{Export: *e}
	mine.Payload = bytes.Clone(e.Payload)
	mine.TraceIDs = slices.Clone(e.TraceIDs)
	mine.Blobs = slices.Clone(e.Blobs)
	err := runs.Scan(mine.Payload, func(op runs.Op) error {
		mine.ops = append(mine.ops, op)
		return nil
	})
	if err != nil || len(mine.ops) != mine.Items || mine.Protocol != proxy.ProtocolRuns {
		return receipt, fmt.Errorf("a bad export of %s: %d operations of %d: %w", mine.Protocol, len(mine.ops), mine.Items, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, mine)
	return receipt, nil
}

func (s *fakeSink) exports() []kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// only returns the one export that was kept.
func (s *fakeSink) only(t testing.TB) kept {
	t.Helper()
	list := s.exports()
	if len(list) != 1 {
		t.Fatalf("%d exports were kept, want one", len(list))
	}
	return list[0]
}

// fakeSpooler counts what it is given.
type fakeSpooler struct {
	err error

	mu        sync.Mutex // guards what follows
	sizes     map[string]int64
	discarded []string
}

func (s *fakeSpooler) Spool(_ context.Context, r io.Reader, maxBytes int64) (runs.Blob, error) {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxBytes+1))
	if err != nil {
		return runs.Blob{}, err
	}
	if s.err != nil {
		return runs.Blob{}, s.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sizes == nil {
		s.sizes = map[string]int64{}
	}
	b := runs.Blob{ID: fmt.Sprintf("blob%d", len(s.sizes)), Bytes: n}
	s.sizes[b.ID] = n
	return b, nil
}

func (s *fakeSpooler) Discard(b runs.Blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discarded = append(s.discarded, b.ID)
}

func (s *fakeSpooler) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sizes) - len(s.discarded)
}

// stage is a handler and what is around it.
type stage struct {
	*Handler

	sink    *fakeSink
	spooler *fakeSpooler
}

// noUpstream answers nothing.
type noUpstream struct{}

func (noUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return nil, fmt.Errorf("dial %s: connection refused", r.URL.Host)
}

func newStage(t testing.TB, cfg Config) *stage {
	t.Helper()
	if cfg.Upstream.BaseURL == "" {
		cfg.Upstream.BaseURL = "https://api.smith.example"
	}
	if cfg.Upstream.Transport == nil {
		cfg.Upstream.Transport = noUpstream{}
	}
	s := &stage{sink: &fakeSink{}, spooler: &fakeSpooler{}}
	h, err := New(cfg, s.sink, s.spooler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.Close()
		if used := h.gate.Used(); used != 0 {
			t.Errorf("%d bytes stay charged", used)
		}
	})
	s.Handler = h
	return s
}

// send gives a request to the handler itself.
func (s *stage) send(t testing.TB, method, target string, header map[string]string, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, target, body)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.HTTP().ServeHTTP(w, req)
	return w
}

func (s *stage) sendParts(t testing.TB, parts ...string) *httptest.ResponseRecorder {
	t.Helper()
	return s.send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": formType}, strings.NewReader(form(parts...)))
}

// errorOf is the error of an answer.
func errorOf(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body errorBody
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("status %d: %v: %q", w.Code, err, w.Body)
	}
	return body.Error
}

const (
	boundary = "----LangSmithFormBoundaryxyz"
	formType = "multipart/form-data; boundary=" + boundary
)

// form puts parts made by jsonPart and filePart together.
func form(parts ...string) string {
	return strings.Join(parts, "") + "--" + boundary + "--\r\n"
}

// jsonPart is a part as Python's SDK writes it.
func jsonPart(name, content string) string {
	return fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=%q\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s\r\n",
		boundary, name, len(content), content)
}

// filePart is a part as JavaScript's SDK writes it.
func filePart(name, media, content string) string {
	return fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=%q\r\nContent-Type: %s; length=%d\r\n\r\n%s\r\n",
		boundary, name, media, len(content), content)
}

func idText(n int) string { return fmt.Sprintf("0198aaaa-0000-7000-8000-%012x", n) }

func idOf(t testing.TB, n int) runs.ID {
	t.Helper()
	id, err := runs.ParseID(idText(n))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const segmentAt = "20260901T100000000000Z"

// runObject is a run of trace 1 without its fields.
func runObject(n int) string {
	order := segmentAt + idText(1)
	if n != 1 {
		order += "." + segmentAt + idText(n)
	}
	return fmt.Sprintf(`{"id":%q,"trace_id":%q,"dotted_order":%q,"name":"run","run_type":"llm","start_time":"2026-09-01T10:00:00.000000Z"}`, idText(n), idText(1), order)
}

func compress(t testing.TB, encoding string, b []byte) []byte {
	t.Helper()
	switch encoding {
	case "gzip":
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	case "zstd":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	default:
		return b
	}
}

// told describes operations in a line each.
func told(ops []runs.Op) []string {
	var list []string
	for _, op := range ops {
		text := fmt.Sprintf("%s %s", op.Kind, strings.TrimPrefix(op.ID.String(), "0198aaaa-0000-7000-8000-00000000000"))
		if !op.Trace.IsZero() {
			text += " of " + strings.TrimPrefix(op.Trace.String(), "0198aaaa-0000-7000-8000-00000000000")
		}
		for f, value := range op.Fields {
			if value != nil {
				text += fmt.Sprintf(" %s=%s", runs.FieldNames[f], value)
			}
		}
		switch op.Kind {
		case runs.Attachment:
			text += fmt.Sprintf(" %s (%s) %s%s", op.Name, op.ContentType, op.Data, op.Blob)
		case runs.Call:
			text += fmt.Sprintf(" %s %s (%s) %s", op.Method, op.Path, op.ContentType, op.Body)
			if op.NoProject {
				text += " in weir's project"
			}
		case runs.Feedback:
			text += " " + string(op.Body)
		case runs.Create, runs.Update:
		}
		list = append(list, text)
	}
	return list
}
