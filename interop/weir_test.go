//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/internal/smith"
)

// patience bounds every wait of these tests; none comes near it unless
// something is broken, not even where other work takes most of the machine.
const patience = 5 * time.Minute

// ownKey is weir's own API key.
const ownKey = "lsv2_pt_0123456789abcdef0123456789abcdef_weir000001"

// startSmith serves a look-alike until the test ends and returns its URL.
func startSmith(t *testing.T, cfg smith.Config) (*smith.Server, string) {
	t.Helper()
	return startSmithAt(t, cfg, "127.0.0.1:0")
}

// startSmithAt is startSmith at an address.
func startSmithAt(t *testing.T, cfg smith.Config, addr string) (*smith.Server, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := smith.New(cfg)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the look-alike: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the look-alike: %v", err)
		}
	})
	return s, "http://" + l.Addr().String()
}

// weirProcess is a weir that can be stopped and started again at the same
// addresses and on the same data.
type weirProcess struct {
	upstream, dataDir string
	// binary is tools.weir, or another; env are further variables.
	binary string
	env    []string
	// config is a configuration file in place of the upstream and the key.
	config string
	// grpcURL, httpURL and adminAddr are where the first start said it listens.
	grpcURL, httpURL, adminAddr string

	cmd    *exec.Cmd // nil: not running
	exited chan error
	log    *lockedBuffer
}

// startWeir starts a weir in front of upstream; it is stopped, and must stop
// well, when the test ends. The log of a failed test is shown.
func startWeir(t *testing.T, upstream string, flags ...string) *weirProcess {
	t.Helper()
	w := newWeir(t, upstream)
	w.start(t, flags...)
	return w
}

// newWeir is startWeir without the start.
func newWeir(t *testing.T, upstream string) *weirProcess {
	t.Helper()
	w := &weirProcess{upstream: upstream, dataDir: t.TempDir(), binary: tools.weir, log: &lockedBuffer{}}
	t.Cleanup(func() {
		if w.cmd != nil {
			w.stop(t)
		}
		if t.Failed() {
			t.Logf("weir's log:\n%s", w.log)
		}
	})
	return w
}

// start runs weir and waits until it says that it is ready.
func (w *weirProcess) start(t *testing.T, flags ...string) {
	t.Helper()
	at := func(url string) string {
		if url == "" {
			return "127.0.0.1:0"
		}
		return strings.TrimPrefix(url, "http://")
	}
	args := append([]string{
		"run", "--grpc-addr", at(w.grpcURL), "--http-addr", at(w.httpURL), "--admin-addr", at(w.adminAddr),
		"--data-dir", w.dataDir, "--forward-linger", "50ms", "--log-format", "text",
	}, flags...)
	env := bareEnv()
	if w.config != "" {
		args = append(args, "--config", w.config)
	} else {
		args = append(args, "--upstream", w.upstream)
		env = append(env, "LANGSMITH_API_KEY="+ownKey)
	}
	// t.Context() ends before Cleanup does, where weir is stopped in order.
	w.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), w.binary, args...)
	w.cmd.Env = append(env, w.env...)
	w.cmd.Stderr = w.log
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatalf("start weir: %v", err)
	}
	ready, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		readBanner(io.TeeReader(stdout, w.log), ready)
	}()
	w.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) {
		<-drained
		exited <- cmd.Wait()
	}(w.cmd, w.exited)
	select {
	case banner := <-ready:
		w.readAddresses(t, banner)
	case err := <-w.exited:
		w.cmd = nil
		t.Fatalf("weir ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("weir did not become ready")
	}
}

// readBanner sends what weir prints up to its last line of advice, then reads
// on until weir ends.
func readBanner(r io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(r)
	var banner strings.Builder
	for lines.Scan() {
		banner.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf") {
			ready <- banner.String()
		}
	}
}

var (
	endpointLines = regexp.MustCompile(`export OTEL_EXPORTER_OTLP_ENDPOINT=(\S+)\n\s*export OTEL_EXPORTER_OTLP_PROTOCOL=(\S+)`)
	adminLine     = regexp.MustCompile(`(?m)^\s*admin\s+(\S+)$`)
)

// readAddresses takes the endpoints from the lines that people are to paste.
func (w *weirProcess) readAddresses(t *testing.T, banner string) {
	t.Helper()
	found := map[string]string{}
	for _, m := range endpointLines.FindAllStringSubmatch(banner, -1) {
		found[m[2]] = m[1]
	}
	admin := adminLine.FindStringSubmatch(banner)
	if found["grpc"] == "" || found["http/protobuf"] == "" || admin == nil {
		t.Fatalf("weir's banner lacks an endpoint:\n%s", banner)
	}
	w.grpcURL, w.httpURL, w.adminAddr = found["grpc"], found["http/protobuf"], admin[1]
}

// stop asks weir to stop and expects it to end well.
func (w *weirProcess) stop(t *testing.T) {
	t.Helper()
	cmd := w.cmd
	w.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop weir: %v", err)
	}
	select {
	case err := <-w.exited:
		if err != nil {
			t.Errorf("weir ended with %v, want exit code 0", err)
		}
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Errorf("weir did not stop; killed it: %v", <-w.exited)
	}
}

// kill ends weir as a power cut would.
func (w *weirProcess) kill(t *testing.T) {
	t.Helper()
	cmd := w.cmd
	w.cmd = nil
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("kill weir: %v", err)
	}
	if err := <-w.exited; err == nil {
		t.Error("weir ended well before it was killed")
	}
}

// endpoint is the value of OTEL_EXPORTER_OTLP_ENDPOINT for a protocol.
func (w *weirProcess) endpoint(protocol string) string {
	if protocol == protocolGRPC {
		return w.grpcURL
	}
	return w.httpURL
}

// command runs a weir subcommand against this weir and returns its output.
func (w *weirProcess) command(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := w.try(t, slices.Concat([]string{name}, args, []string{"--admin-addr", w.adminAddr})...)
	if err != nil {
		t.Fatalf("weir %s: %v", name, err)
	}
	return out
}

// try runs weir with arguments. The error has what it said.
func (w *weirProcess) try(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Env = bareEnv()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, out, &stderr)
	}
	return out, err
}

// drain has weir deliver everything and take nothing more.
func (w *weirProcess) drain(t *testing.T) {
	t.Helper()
	w.command(t, "drain")
}

// checkAllDelivered expects weir to have accepted something and to have nothing
// left.
func (w *weirProcess) checkAllDelivered(t *testing.T) {
	t.Helper()
	totals := w.totals(t)
	if totals["acceptedItems"] == "0" || totals["acceptedItems"] == "" {
		t.Error("weir status: nothing was accepted")
	}
	for _, name := range []string{"pendingItems", "heldItems", "quarantinedItems", "droppedItems"} {
		if totals[name] != "0" {
			t.Errorf("weir status: totals.%s = %s, want 0", name, totals[name])
		}
	}
}

// totals returns weir's count over the life of its data directory.
func (w *weirProcess) totals(t *testing.T) map[string]string {
	t.Helper()
	var status struct {
		Totals map[string]json.RawMessage `json:"totals"`
	}
	out := w.command(t, "status", "--json")
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatalf("weir status --json: %v\n%s", err, out)
	}
	totals := map[string]string{}
	for name, value := range status.Totals {
		totals[name] = strings.Trim(string(value), `"`)
	}
	return totals
}

// checkTotals expects weir to have accepted and delivered that many spans over
// the life of its data directory, and to have no others.
func (w *weirProcess) checkTotals(t *testing.T, spans int) {
	t.Helper()
	totals := w.totals(t)
	for name, want := range map[string]int{
		"acceptedItems": spans, "deliveredItems": spans,
		"pendingItems": 0, "heldItems": 0, "quarantinedItems": 0, "droppedItems": 0,
	} {
		if got := totals[name]; got != fmt.Sprint(want) {
			t.Errorf("weir status: totals.%s = %s, want %d", name, got, want)
		}
	}
}

// awaitRefusal returns once weir has refused an export for the reason.
func (w *weirProcess) awaitRefusal(t *testing.T, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	refused := regexp.MustCompile(`(?m)^weir_receive_refused_total\{[^}]*reason="` + reason + `"[^}]*\} [1-9]`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := get(ctx, "http://"+w.adminAddr+"/metrics")
		if err == nil && refused.Match(page) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("weir refused nothing as %s (last error: %v); of its metrics:\n%s", reason, err, grep(page, "refused"))
		}
	}
}

// poll returns once something holds.
func poll(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// get reads a page.
func get(ctx context.Context, url string) (_ []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	return io.ReadAll(resp.Body)
}

// grep returns the lines of page that contain text.
func grep(page []byte, text string) string {
	var found []string
	for line := range strings.Lines(string(page)) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// bareEnv is an environment without proxies, OTEL_* and LANGSMITH_* variables
// of whoever runs the tests.
func bareEnv() []string {
	env := []string{"LC_ALL=C.UTF-8", "TMPDIR=" + os.TempDir()}
	for _, name := range []string{"PATH", "HOME", "SystemRoot"} {
		if value := os.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// lockedBuffer collects the output of a process while a test may read it.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// toolPaths are the programs the tests run.
type toolPaths struct {
	weir, goClient, python, node, java          string
	movable                                     string // weir with a clock that can be moved
	langsmithGo, langsmithPython, litellmPython string
}

// tools is set by TestMain.
var tools toolPaths

// prepare builds weir and the Go application into dir and finds the rest.
func prepare(ctx context.Context, dir string) (toolPaths, error) {
	here, err := os.Getwd()
	if err != nil {
		return toolPaths{}, err
	}
	p := toolPaths{
		weir: filepath.Join(dir, "weir"), movable: filepath.Join(dir, "weir-movable"), goClient: filepath.Join(dir, "client"),
		python:          filepath.Join(here, ".venv", "bin", "python"),
		langsmithGo:     filepath.Join(dir, "langsmith-client"),
		langsmithPython: filepath.Join(here, "langsmith", "python", ".venv", "bin", "python"),
		litellmPython:   filepath.Join(here, "langsmith", "litellm", ".venv", "bin", "python"),
	}
	for _, build := range []struct{ dir, target, out, tags string }{
		{filepath.Dir(here), "./cmd/weir", p.weir, ""},
		{filepath.Dir(here), "./cmd/weir", p.movable, "testclock"},
		{filepath.Join(here, "go"), ".", p.goClient, ""},
		{filepath.Join(here, "langsmith", "go"), ".", p.langsmithGo, ""},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", build.tags, "-o", build.out, build.target)
		cmd.Dir = build.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("go build %s in %s: %w\n%s", build.target, build.dir, err, out)
		}
	}
	if p.node, err = exec.LookPath("node"); err != nil {
		return p, fmt.Errorf("node is needed for the JavaScript application: %w", err)
	}
	if p.java, err = exec.LookPath("java"); err != nil {
		return p, fmt.Errorf("java is needed for the Java application: %w", err)
	}
	for _, path := range []string{
		filepath.Join(here, "langsmith", "java", "lib"), p.python, filepath.Join(here, "js", "node_modules"),
		p.langsmithPython, p.litellmPython, filepath.Join(here, "langsmith", "js", "node_modules"),
	} {
		if _, err := os.Stat(path); err != nil {
			return p, fmt.Errorf("%w; run interop/run, which installs what the tests need", err)
		}
	}
	return p, nil
}
