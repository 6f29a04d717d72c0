package torture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	weirv1 "weir/proto/weir/v1"
)

// Setup is how a weir is started, again and again.
type Setup struct {
	// Binary is the weir to run.
	Binary string
	// DataDir is its data directory.
	DataDir string
	// SocketDir holds its listeners' sockets; its path must be short.
	SocketDir string
	// Upstream is the base URL it forwards to.
	Upstream string
	// APIKey is weir's own key; empty is UpstreamKey. APIKeyFile takes its
	// place where it is set.
	APIKey, APIKeyFile string
	// Args are further flags of weir run.
	Args []string
	// Env are further variables, NAME=value.
	Env []string
	// Group confines the process; nil does not.
	Group *MemoryGroup
}

// GRPC is the address of the OTLP/gRPC listener, as gRPC clients take it too.
func (s *Setup) GRPC() string { return "unix:" + filepath.Join(s.SocketDir, "g") }

// HTTP is the address of the OTLP/HTTP listener.
func (s *Setup) HTTP() string { return "unix:" + filepath.Join(s.SocketDir, "h") }

// Admin is the address of the admin listener.
func (s *Setup) Admin() string { return "unix:" + filepath.Join(s.SocketDir, "a") }

// env is the environment of weir and of its command line: nothing of ours.
func (s *Setup) env() []string {
	key := s.APIKey
	if key == "" {
		key = UpstreamKey
	}
	env := []string{"HOME=" + s.SocketDir}
	if s.APIKeyFile == "" {
		env = append(env, "LANGSMITH_API_KEY="+key)
	}
	return append(env, s.Env...)
}

// Weir is a running weir process.
type Weir struct {
	setup   *Setup
	cmd     *exec.Cmd
	started time.Time
	ready   chan struct{} // closed once it has said so
	readyIn time.Duration // set before ready is closed
	killed  atomic.Bool   // by Kill
	exited  chan struct{} // closed once it has ended and its output is read
	err     error         // of Wait; set before exited is closed
	log     tail
}

// Start starts a weir and returns without waiting for it to be ready. It must
// be ended with Kill, or by a signal and WaitExit.
func (s *Setup) Start(ctx context.Context) (*Weir, error) {
	args := append([]string{
		"run", "--log-format", "text", "--data-dir", s.DataDir, "--upstream", s.Upstream, "--quota-traces", "none",
		"--grpc-addr", s.GRPC(), "--http-addr", s.HTTP(), "--admin-addr", s.Admin(),
	}, s.Args...)
	if s.APIKeyFile != "" {
		args = append(args, "--api-key-file", s.APIKeyFile)
	}
	name := s.Binary
	if s.Group != nil {
		name, args = s.Group.wrap(name, args)
	}
	w := &Weir{setup: s, ready: make(chan struct{}), exited: make(chan struct{})}
	w.cmd = exec.CommandContext(context.WithoutCancel(ctx), name, args...) //nolint:gosec // the binary that was just built
	w.cmd.Env, w.cmd.Dir = s.env(), s.SocketDir
	w.cmd.Stderr = &w.log
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start weir: %w", err)
	}
	w.started = time.Now()
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start weir: %w", err)
	}
	go w.watch(out)
	return w, nil
}

// StartReady starts a weir and waits until it takes data.
func (s *Setup) StartReady(ctx context.Context) (*Weir, error) {
	w, err := s.Start(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, w.Kill())
	}
	return w, nil
}

// watch reads the process's output until it ends.
func (w *Weir) watch(out io.Reader) {
	defer close(w.exited)
	lines := bufio.NewScanner(out)
	said := false
	for lines.Scan() {
		if !said && strings.Contains(lines.Text(), "is ready") {
			said = true
			w.readyIn = time.Since(w.started)
			close(w.ready)
		}
	}
	w.err = w.cmd.Wait()
}

// WaitReady blocks until weir says that it takes data.
func (w *Weir) WaitReady(ctx context.Context) error {
	select {
	case <-w.ready:
		return nil
	case <-w.exited:
		return fmt.Errorf("weir ended before it was ready: %w\n%s", w.err, w.Log())
	case <-ctx.Done():
		return fmt.Errorf("waiting for weir to be ready: %w\n%s", ctx.Err(), w.Log())
	}
}

// ReadyIn is how long weir took from its start until it took data.
func (w *Weir) ReadyIn() time.Duration { return w.readyIn }

// RunFor lets weir run for d. It returns early, with an error, if weir ends.
func (w *Weir) RunFor(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.exited:
		return fmt.Errorf("weir ended by itself: %w\n%s", w.err, w.Log())
	}
}

// Exited is closed once weir has ended.
func (w *Weir) Exited() <-chan struct{} { return w.exited }

// PID is the process id.
func (w *Weir) PID() int { return w.cmd.Process.Pid }

// Signal sends a signal.
func (w *Weir) Signal(sig os.Signal) error {
	if err := w.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal weir: %w", err)
	}
	return nil
}

// Kill ends weir on the spot, as kill -9 does, and waits for its end. It
// returns an error if weir had crashed before. Killing again does nothing.
func (w *Weir) Kill() error {
	early := false
	if !w.killed.Swap(true) {
		select {
		case <-w.exited:
			early = true
		default:
			early = w.cmd.Process.Kill() != nil
		}
	}
	<-w.exited
	if crash := w.Crash(); crash != "" {
		return fmt.Errorf("weir crashed: %s\n%s", crash, w.Log())
	}
	if early && w.err != nil {
		return fmt.Errorf("weir ended by itself: %w\n%s", w.err, w.Log())
	}
	return nil
}

// WaitExit blocks until weir has ended and returns its exit code.
func (w *Weir) WaitExit(ctx context.Context) (code int, err error) {
	select {
	case <-w.exited:
		return w.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for weir to end: %w\n%s", ctx.Err(), w.Log())
	}
}

// Log is the end of what weir wrote to standard error.
func (w *Weir) Log() string { return w.log.String() }

// Crash is the first sign of a crash in what weir wrote, or empty.
func (w *Weir) Crash() string { return w.log.crashed() }

// Status asks the running weir through its command line.
func (w *Weir) Status(ctx context.Context) (*weirv1.GetStatusResponse, error) {
	out, _, err := w.setup.Command(ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	var st weirv1.GetStatusResponse
	if err := protojson.Unmarshal(out, &st); err != nil {
		return nil, fmt.Errorf("read weir status --json: %w: %.300q", err, out)
	}
	return &st, nil
}

// WaitStatus asks until the status meets a condition.
func (w *Weir) WaitStatus(ctx context.Context, what string, met func(*weirv1.GetStatusResponse) bool) (*weirv1.GetStatusResponse, error) {
	const every = 100 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last *weirv1.GetStatusResponse
	for {
		st, err := w.Status(ctx)
		if err == nil && met(st) {
			return st, nil
		}
		if err == nil {
			last = st
		}
		select {
		case <-tick.C:
		case <-w.exited:
			return nil, fmt.Errorf("waiting for %s: weir ended: %w\n%s", what, w.err, w.Log())
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s: %w; last status: %v\n%s", what, errors.Join(ctx.Err(), err), last, w.Log())
		}
	}
}

// Command runs a command of weir against the running one. An exit code other
// than 0 is an error, and returned.
func (s *Setup) Command(ctx context.Context, args ...string) (stdout []byte, code int, err error) {
	args = append(args, "--admin-addr", s.Admin())
	cmd := exec.CommandContext(ctx, s.Binary, args...) //nolint:gosec // the binary that was just built
	cmd.Env, cmd.Dir = s.env(), s.SocketDir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err = cmd.Output()
	if err != nil {
		code = -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		return stdout, code, fmt.Errorf("weir %s: %w: %s%s", strings.Join(args, " "), err, stderr.Bytes(), stdout)
	}
	return stdout, 0, nil
}

// WaitLog blocks until weir has written text to its log.
func (w *Weir) WaitLog(ctx context.Context, text string) error {
	const every = 5 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !strings.Contains(w.Log(), text) {
		select {
		case <-tick.C:
		case <-w.exited:
			return fmt.Errorf("waiting for weir to log %q: it ended: %w\n%s", text, w.err, w.Log())
		case <-ctx.Done():
			return fmt.Errorf("waiting for weir to log %q: %w\n%s", text, ctx.Err(), w.Log())
		}
	}
	return nil
}

// AnonymousBytes is the memory of weir that no file stands behind.
func (w *Weir) AnonymousBytes() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
	if err != nil {
		return 0, fmt.Errorf("read weir's memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("read weir's memory: /proc names no RssAnon")
}

// tail keeps the end of what is written to it, and the first sign of a crash.
type tail struct {
	mu    sync.Mutex // guards the fields below
	last  []byte
	crash string
}

// maxTail is how much of weir's log is kept.
const maxTail = 16 << 10

// crashSigns are what a dying Go program, or its race detector, prints.
var crashSigns = []string{"panic: ", "fatal error: ", "SIGBUS", "SIGSEGV", "WARNING: DATA RACE", "unexpected fault address"}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sign := range crashSigns {
		if i := bytes.Index(p, []byte(sign)); t.crash == "" && i >= 0 {
			const most = 4 << 10
			t.crash = string(p[i:min(len(p), i+most)])
		}
	}
	t.last = append(t.last, p...)
	if over := len(t.last) - maxTail; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}

func (t *tail) crashed() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.crash
}
