package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// takes stands for a weir that takes data: it answers with the statuses in turn,
// the last one for good, and remembers what came.
type takes struct {
	mu       sync.Mutex
	statuses []int
	bodies   []string
	headers  []http.Header
}

func (s *takes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.statuses[0]
	if len(s.statuses) > 1 {
		s.statuses = s.statuses[1:]
	}
	s.bodies = append(s.bodies, r.URL.Path+" "+string(body))
	s.headers = append(s.headers, r.Header)
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
	fmt.Fprint(w, `{"error":"said so"}`)
}

// writeEnvelope writes a file as Python's SDK does.
func writeEnvelope(t *testing.T, dir, name, body string) {
	t.Helper()
	b, err := json.Marshal(envelope{
		Version: 1, Endpoint: "runs/multipart", Body: base64.StdEncoding.EncodeToString([]byte(body)),
		Headers: map[string]string{"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "zstd", "x-api-key": "lsv2_pt_somebody_0001", "Cookie": "c"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func importFrom(t *testing.T, dir, addr string, more ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr strings.Builder
	sys := &system{console: console{Out: &stdout, Err: &stderr}, getenv: func(string) string { return "" }, cwd: t.TempDir()}
	code = execute(t.Context(), append([]string{"import", dir, "--http-addr", addr}, more...), sys)
	return code, stdout.String(), stderr.String()
}

func TestImportTakesEachFileOnce(t *testing.T) {
	weir := &takes{statuses: []int{503, 202}}
	server := httptest.NewServer(weir)
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	writeEnvelope(t, dir, "trace_1_a.json", "one")
	writeEnvelope(t, dir, "trace_2_b.json", "two")
	if code, out, _ := importFrom(t, dir, addr, "--dry-run"); code != exitOK || !strings.Contains(out, "2 would be imported") || len(weir.bodies) > 0 {
		t.Fatalf("a dry run ended with %d, sent %v and printed:\n%s", code, weir.bodies, out)
	}
	code, out, errs := importFrom(t, dir, addr)
	if code != exitOK || !strings.Contains(out, "2 imported.") {
		t.Fatalf("ended with %d and printed:\n%s%s", code, out, errs)
	}
	want := []string{"/runs/multipart one", "/runs/multipart one", "/runs/multipart two"} // the first was put off once
	if !slices.Equal(weir.bodies, want) {
		t.Errorf("sent %q, want %q", weir.bodies, want)
	}
	h := weir.headers[0]
	if h.Get("X-Api-Key") != "lsv2_pt_somebody_0001" || h.Get("Content-Encoding") != "zstd" || h.Get("Cookie") != "" {
		t.Errorf("sent with %v", h)
	}
	if strings.Contains(out+errs, "somebody") {
		t.Error("the report shows a key")
	}
	writeEnvelope(t, dir, "trace_3_c.json", "three")
	code, out, _ = importFrom(t, dir, addr)
	if code != exitOK || !strings.Contains(out, "1 imported, 2 imported before.") || len(weir.bodies) != 4 {
		t.Errorf("a second time ended with %d, %d requests in all, and printed:\n%s", code, len(weir.bodies), out)
	}
}

func TestImportReportsWhatItCannotTake(t *testing.T) {
	server := httptest.NewServer(&takes{statuses: []int{422}})
	defer server.Close()
	dir := t.TempDir()
	writeEnvelope(t, dir, "a.json", "refused")
	for name, content := range map[string]string{
		"b.json": `{"version":2}`, "c.json": "no JSON", "d.json": `{"version":1,"endpoint":"elsewhere"}`,
		"e.json": `{"version":1,"endpoint":"runs/batch","body_base64":"!"}`, "f.txt": "not looked at",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, _ := importFrom(t, dir, strings.TrimPrefix(server.URL, "http://"), "--json")
	if code != exitFailed {
		t.Errorf("ended with %d, want %d", code, exitFailed)
	}
	var report struct{ Files []importedFile }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"said so", "version 2", "not an SDK's envelope", `endpoint is "elsewhere"`, "damaged"} {
		if f := report.Files[i]; !strings.Contains(f.Detail, want) || (f.Result == importRefused) != (i == 0) {
			t.Errorf("%s is %s: %q, want it to say %q", f.File, f.Result, f.Detail, want)
		}
	}
	if len(report.Files) != 5 {
		t.Errorf("%d files are reported, want 5", len(report.Files))
	}
	if _, err := os.Stat(filepath.Join(dir, importRecord)); err == nil {
		t.Error("something is noted as imported")
	}
}

func TestImportWithoutAWeirOrFiles(t *testing.T) {
	dir := t.TempDir()
	if code, out, _ := importFrom(t, dir, "127.0.0.1:1"); code != exitOK || !strings.HasPrefix(out, "Nothing to import") {
		t.Errorf("an empty directory: %d, %s", code, out)
	}
	writeEnvelope(t, dir, "a.json", "x")
	if code, _, errs := importFrom(t, dir, "127.0.0.1:1"); code != exitUnreachable || !strings.Contains(errs, "weir run") {
		t.Errorf("without a weir: %d, %s", code, errs)
	}
	if code, _, errs := importFrom(t, filepath.Join(dir, "none"), "127.0.0.1:1"); code != exitFailed || !strings.Contains(errs, "no such file") {
		t.Errorf("a directory that is not there: %d, %s", code, errs)
	}
}
