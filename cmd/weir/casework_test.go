package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/llmspans"
	"weir/internal/smith"
)

const (
	ownKey    = "lsv2_pt_own0123456789abcdef_01"
	callerKey = "lsv2_pt_caller0123456789ab_02"
)

// ward is a whole weir before a look-alike that knows its key and not that of
// its caller.
type ward struct {
	t      *testing.T
	smith  *smith.Server
	weir   *weir
	ingest string
	sys    *testSystem
}

func newWard(t *testing.T, keys map[string]smith.Key) *ward {
	t.Helper()
	d := &ward{t: t, smith: smith.New(smith.Config{Keys: keys}), sys: newTestSystem(t, nil)}
	server := httptest.NewServer(d.smith)
	t.Cleanup(func() { _ = d.smith.Close(); server.Close() })
	s, err := loadSettings(configInput{
		flags: map[string]string{
			"grpc_addr": "off", "http_addr": "127.0.0.1:0", "admin_addr": "127.0.0.1:0",
			"data_dir": filepath.Join(t.TempDir(), "data"), "upstream": server.URL, "forward.linger": "0s",
		},
		getenv: func(name string) string { return map[string]string{"LANGSMITH_API_KEY": ownKey}[name] },
		cwd:    t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.weir, err = startWeirWith(t.Context(), s, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := d.weir.shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	d.ingest = "http://" + string(d.weir.at.HTTP)
	return d
}

// cli runs a command line, and returns what it printed.
func (d *ward) cli(code int, args ...string) string {
	d.t.Helper()
	d.sys.out.Reset()
	d.sys.err.Reset()
	flag := "--admin-addr=" + string(d.weir.at.Admin)
	if args[0] == "import" {
		flag = "--http-addr=" + string(d.weir.at.HTTP)
	}
	if got := d.sys.execute(d.t, append(args, flag)...); got != code {
		d.t.Fatalf("weir %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, d.sys.out, d.sys.err)
	}
	return d.sys.out.String()
}

type wardCase struct {
	ID                          uint32
	Cause, State, Response      string
	Items, Traces, WaitingItems int
	HTTPStatus                  int
	NextProbe                   *time.Time
}

// cases lists the quarantine.
func (d *ward) cases() []wardCase {
	d.t.Helper()
	var out struct{ Cases []wardCase }
	if err := json.Unmarshal([]byte(d.cli(exitOK, "quarantine", "ls", "--json")), &out); err != nil {
		d.t.Fatal(err)
	}
	return out.Cases
}

// until waits for something that weir does by itself.
func (d *ward) until(what string, cond func() bool) {
	d.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			d.t.Fatalf("waited for %s in vain; totals %+v, cases %+v", what, d.weir.queue.Stats().Totals, d.cases())
		case <-look.C:
		}
	}
}

// post sends a request to a base URL under a key.
func post(t *testing.T, url, key, contentType string, body []byte, header ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", key)
	req.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s %s", url, res.Status, text)
	}
}

const (
	wardRoot  = "019a0000-0000-7000-8000-00000000000a"
	wardChild = "019a0000-0000-7000-8000-00000000000b"
)

// wardStart is when the runs began: lately, for whoever looks at that.
var wardStart = time.Now().Add(-time.Minute)

// sendAll sends what there is to be sent: runs with updates, attachments small
// and large, a feedback, a single update, and spans.
func sendAll(t *testing.T, base, otlpPath, key string) (spans int) {
	t.Helper()
	g := llmspans.New(7)
	var body bytes.Buffer
	for _, r := range g.RunTrace(wardStart, []string{wardRoot, wardChild}) {
		body.Write(r.Create)
		body.Write(r.Update)
	}
	part := func(name, contentType string, content []byte) {
		fmt.Fprintf(&body, "--%s\r\nContent-Disposition: form-data; name=%q\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", llmspans.RunsBoundary, name, contentType, len(content))
		body.Write(content)
		body.WriteString("\r\n")
	}
	part("attachment."+wardRoot+".note", "text/plain", []byte("small <&>\x00"))
	part("attachment."+wardChild+".picture", "image/png", bytes.Repeat([]byte("large \xff\xfe"), 400_000))
	part("feedback.019a0000-0000-7000-8000-00000000000c", "application/json",
		[]byte(`{"id":"019a0000-0000-7000-8000-00000000000c","run_id":"`+wardRoot+`","trace_id":"`+wardRoot+`","key":"score","score":0.10,"comment":"a <b> & c"}`))
	body.Write(llmspans.RunsEnd())
	post(t, base+"/runs/multipart", key, "multipart/form-data; boundary="+llmspans.RunsBoundary, body.Bytes())
	payload, ids := g.Request(5)
	post(t, base+otlpPath, key, "application/x-protobuf", payload, "Langsmith-Project", "of the caller")
	return len(ids)
}

// received is everything that a look-alike has, as far as it is the data's.
func received(s *smith.Server) map[string]any {
	out := map[string]any{}
	for _, r := range s.Runs() {
		for _, a := range r.Attachments {
			out[fmt.Sprintf("attachment %s %s", r.ID, a.Name)] = fmt.Sprintf("%+v", a)
		}
		text, _ := json.Marshal(r.Members)
		var members any // in any order: they came as one operation or as two
		_ = json.Unmarshal(text, &members)
		out[fmt.Sprintf("run %s", r.ID)] = []any{r.Trace, r.Parent, r.DottedOrder, r.Project, members}
	}
	for _, f := range s.Feedbacks() {
		b, _ := json.Marshal(f.Members)
		out[fmt.Sprintf("feedback %s", f.ID)] = string(b)
	}
	for _, sp := range s.Spans() {
		out[fmt.Sprintf("span %s", sp.ID())] = sp.Project + " " + sp.OTLP.String()
	}
	return out
}

// TestQuarantineRoundTrip sends everything under a key that is refused, exports
// it, discards it, and imports it: the look-alike then has just what another has
// that took it at once.
func TestQuarantineRoundTrip(t *testing.T) {
	direct := newWard(t, map[string]smith.Key{callerKey: {}})
	sendAll(t, direct.ingest, "/otel/v1/traces", callerKey)
	direct.until("everything delivered", func() bool {
		tot := direct.weir.queue.Stats().Totals
		return tot.Accepted == tot.Delivered
	})

	d := newWard(t, map[string]smith.Key{ownKey: {}})
	spans := sendAll(t, d.ingest, "/otel/v1/traces", callerKey)
	accepted := d.weir.queue.Stats().Totals.Accepted
	d.until("everything in quarantine", func() bool { return d.weir.queue.Stats().Totals.Quarantined == accepted })
	cases := d.cases()
	items := 0
	for _, c := range cases {
		items += c.Items
		if c.State != "probing" || c.Traces != 1 && c.Items == spans || c.NextProbe == nil {
			t.Errorf("case %+v", c)
		}
	}
	if len(cases) != 2 || int64(items) != accepted {
		t.Fatalf("%d items in %+v, want %d in a case of runs and one of spans", items, cases, accepted)
	}
	if out := d.cli(exitOK, "find", strings.ToUpper(strings.ReplaceAll(wardRoot, "-", "")), "--json"); !strings.Contains(out, `"state": "quarantined"`) {
		t.Errorf("find says %s", out)
	}

	file := filepath.Join(t.TempDir(), "kept.jsonl")
	if out := d.cli(exitOK, "quarantine", "export", "--all", "--out", file); !strings.Contains(out, fmt.Sprintf("%d items of 2 cases written", items)) {
		t.Errorf("export says %q", out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("caller0123456789")) || bytes.Contains(text, []byte("own0123456789")) {
		t.Error("the export holds a key")
	}
	if !bytes.Contains(text, []byte("a <b> & c")) || !bytes.Contains(text, []byte(`"traceId":"`)) {
		t.Error("a person cannot read the export")
	}
	if out := d.cli(exitOK, "quarantine", "discard", "--all", "--dry-run"); !strings.Contains(strings.Join(strings.Fields(out), " "), "MiB of it attachments) would be dropped") {
		t.Errorf("a dry run says %q", out)
	}
	d.cli(exitUsage, "quarantine", "discard", "--all")
	d.cli(exitOK, "quarantine", "discard", "--all", "--yes")
	stats := d.weir.queue.Stats()
	if n := stats.Totals.DroppedByReason["discarded"]; n != accepted || stats.Totals.Quarantined != 0 || stats.Blobs != 0 {
		t.Errorf("%d of %d items count as discarded, %d blobs are left: %+v", n, accepted, stats.Blobs, stats.Totals)
	}
	if out := d.cli(exitOK, "quarantine"); out != emptyQuarantine+"\n" {
		t.Errorf("an empty quarantine is %q", out)
	}

	if out := d.cli(exitOK, "import", file, "--dry-run"); !strings.Contains(out, "1 would be imported") {
		t.Errorf("a dry run says %s", out)
	}
	d.cli(exitOK, "import", file)
	if out := d.cli(exitOK, "import", file); !strings.Contains(out, "1 imported before") {
		t.Errorf("a second import says %s", out)
	}
	d.until("everything at the look-alike", func() bool { return d.weir.queue.Stats().Totals.Delivered == accepted })
	if diff := cmp.Diff(received(direct.smith), received(d.smith)); diff != "" {
		t.Errorf("what arrived (-sent at once +exported and imported):\n%s", diff)
	}
	out := d.cli(exitOK, "find", wardRoot)
	if !strings.Contains(out, "delivered") || !strings.Contains(out, "discarded") {
		t.Errorf("find says %s", out)
	}
}

// TestReleasedCaseIsDelivered: weir's own key is refused, then it is not.
func TestReleasedCaseIsDelivered(t *testing.T) {
	d := newWard(t, map[string]smith.Key{callerKey: {}})
	sendAll(t, d.ingest, "/v1/traces", "")
	accepted := d.weir.queue.Stats().Totals.Accepted
	d.until("everything in quarantine", func() bool { return d.weir.queue.Stats().Totals.Quarantined == accepted })
	for _, c := range d.cases() {
		if out := d.cli(exitOK, "quarantine", "show", fmt.Sprint(c.ID)); !strings.Contains(out, "HTTP 403") || !strings.Contains(out, "weir quarantine release") ||
			strings.Contains(out, "own0123456789") {
			t.Errorf("show says %s", out)
		}
	}
	d.smith.SetKey(ownKey, smith.Key{})
	if out := d.cli(exitOK, "quarantine", "release", "--all", "--dry-run"); !strings.Contains(out, "would be sent again") {
		t.Errorf("a dry run says %q", out)
	}
	d.cli(exitOK, "quarantine", "release", "--all")
	d.until("everything delivered", func() bool { return d.weir.queue.Stats().Totals.Delivered == accepted })
	if out := d.cli(exitFailed, "quarantine", "release", "77"); out != "" || !strings.Contains(d.sys.err.String(), "case 77: there is no such case") {
		t.Errorf("a case that is not there: %q %q", out, d.sys.err)
	}
}

// TestReleaseAsOwnKey: a caller's key stays refused, and its data goes under
// weir's own.
func TestReleaseAsOwnKey(t *testing.T) {
	d := newWard(t, map[string]smith.Key{ownKey: {}})
	sendAll(t, d.ingest, "/v1/traces", callerKey)
	accepted := d.weir.queue.Stats().Totals.Accepted
	d.until("everything in quarantine", func() bool { return d.weir.queue.Stats().Totals.Quarantined == accepted })
	d.cli(exitOK, "quarantine", "release", "--all", "--as-own-key")
	d.until("everything delivered", func() bool { return d.weir.queue.Stats().Totals.Delivered == accepted })
	tot := d.weir.queue.Stats().Totals
	if tot.Accepted != accepted || tot.Dropped != 0 {
		t.Errorf("totals %+v, %d were accepted", tot, accepted)
	}
	for _, r := range d.smith.Runs() {
		if r.Posts != 1 || r.Patches != 1 || r.FirstPost > r.FirstPatch {
			t.Errorf("run %s came with %d creates and %d updates, %d before %d", r.ID, r.Posts, r.Patches, r.FirstPost, r.FirstPatch)
		}
	}
	for _, sp := range d.smith.Spans() {
		if sp.Project != "of the caller" {
			t.Errorf("span %s went to project %q", sp.ID(), sp.Project)
		}
	}
	if len(d.cases()) != 0 {
		t.Errorf("cases are left: %+v", d.cases())
	}
}
