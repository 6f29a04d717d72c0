//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// The values of OTEL_EXPORTER_OTLP_PROTOCOL.
const (
	protocolGRPC  = "grpc"
	protocolProto = "http/protobuf"
	protocolJSON  = "http/json"
)

// kind is one of the SDKs with one of its exporters, and what is known of it.
type kind struct {
	language, protocol string

	// keepsUnavailable is set where the exporter tries again after it was
	// told UNAVAILABLE or 503.
	keepsUnavailable bool
	// keepsExhausted is the same for RESOURCE_EXHAUSTED with RetryInfo.
	keepsExhausted bool
	// keepsBroken is the same for a connection that breaks or is refused.
	keepsBroken bool
}

func (k kind) String() string { return k.language + " " + k.protocol }

// kinds are all of them. What an exporter does not keep it drops, whatever
// weir answers; tests expect that, too, so that they notice when it changes.
var kinds = []kind{
	{language: "python", protocol: protocolGRPC, keepsUnavailable: true, keepsExhausted: true, keepsBroken: true},
	{language: "python", protocol: protocolProto, keepsUnavailable: true, keepsExhausted: true, keepsBroken: true},
	{language: "js", protocol: protocolGRPC},
	{language: "js", protocol: protocolProto, keepsUnavailable: true, keepsExhausted: true, keepsBroken: true},
	{language: "js", protocol: protocolJSON, keepsUnavailable: true, keepsExhausted: true, keepsBroken: true},
	{language: "go", protocol: protocolGRPC, keepsUnavailable: true, keepsExhausted: true, keepsBroken: true},
	{language: "go", protocol: protocolProto, keepsUnavailable: true, keepsExhausted: true},
	{language: "go", protocol: protocolJSON, keepsUnavailable: true, keepsExhausted: true},
}

// spansPerTurn is how many spans every application makes for "emit 1".
const spansPerTurn = 10

// application is a running process that traces with one of the SDKs.
type application struct {
	t     *testing.T
	kind  kind
	cmd   *exec.Cmd
	stdin io.WriteCloser

	exited chan error
	log    *lockedBuffer // its standard error

	mu      sync.Mutex // guards the rest
	account account
	changed chan struct{} // closed and replaced when account changes
}

// account is what an application has said so far.
type account struct {
	attempts int           // exports begun
	failed   int           // spans in exports that the SDK gave up
	sent     []spanAccount // spans in exports that were acknowledged
	flushes  int
	ended    int // spans that had ended at the last flush
	err      error
	over     bool // it says no more
}

// startApplication starts the application of a kind with further environment
// variables. It is ended, and must end well, with the test.
func startApplication(t *testing.T, k kind, env ...string) *application {
	t.Helper()
	// t.Context() ends before Cleanup does, where the process ends in order.
	ctx := context.WithoutCancel(t.Context())
	var cmd *exec.Cmd
	switch k.language {
	case "python":
		cmd = exec.CommandContext(ctx, tools.python, "client.py")
		cmd.Dir = "python"
	case "js":
		cmd = exec.CommandContext(ctx, tools.node, "client.mjs")
		cmd.Dir = "js"
	default:
		cmd = exec.CommandContext(ctx, tools.goClient)
	}
	a := &application{
		t: t, kind: k, cmd: cmd, exited: make(chan error, 1), log: &lockedBuffer{}, changed: make(chan struct{}),
	}
	// Small batches, so that one run makes several exports.
	cmd.Env = append(bareEnv(), "PYTHONUTF8=1", "PYTHONDONTWRITEBYTECODE=1",
		"OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=64",
		"OTEL_EXPORTER_OTLP_PROTOCOL="+k.protocol)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = a.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", k, err)
	}
	a.stdin = stdin
	go func() {
		a.listen(stdout)
		a.exited <- cmd.Wait()
	}()
	t.Cleanup(a.end)
	return a
}

// end closes the application's input and waits until it has ended.
func (a *application) end() {
	_ = a.stdin.Close()
	select {
	case err := <-a.exited:
		if err != nil {
			a.t.Errorf("%s ended with %v", a.kind, err)
		}
	case <-time.After(patience):
		_ = a.cmd.Process.Kill()
		a.t.Errorf("%s did not end; killed it: %v", a.kind, <-a.exited)
	}
	if a.t.Failed() {
		a.t.Logf("log of %s:\n%s", a.kind, a.log)
	}
}

// listen takes down what the application says until it says no more.
func (a *application) listen(stdout io.Reader) {
	dec := json.NewDecoder(stdout)
	for {
		var line struct {
			Attempt *int         `json:"attempt"`
			Span    *spanAccount `json:"span"`
			Failed  *int         `json:"failed"`
			Flushed *int         `json:"flushed"`
		}
		err := dec.Decode(&line)
		a.mu.Lock()
		switch {
		case err != nil:
			a.account.over = true
			if !errors.Is(err, io.EOF) {
				a.account.err = err
			}
		case line.Attempt != nil:
			a.account.attempts++
		case line.Span != nil:
			a.account.sent = append(a.account.sent, *line.Span)
		case line.Failed != nil:
			a.account.failed += *line.Failed
		case line.Flushed != nil:
			a.account.flushes++
			a.account.ended = *line.Flushed
		}
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
		if err != nil {
			// Nothing may be left in the pipe, or the process could not end.
			_, _ = io.Copy(io.Discard, stdout)
			return
		}
	}
}

// await returns the account once it meets a condition.
func (a *application) await(what string, met func(*account) bool) account {
	a.t.Helper()
	limit := time.After(patience)
	for {
		a.mu.Lock()
		now, changed := a.account, a.changed
		a.mu.Unlock()
		now.sent = slices.Clone(now.sent)
		switch {
		case met(&now):
			return now
		case now.over:
			a.t.Fatalf("%s ended (%v) while a test waited for %s; its log:\n%s", a.kind, now.err, what, a.log)
		}
		select {
		case <-changed:
		case <-limit:
			a.t.Fatalf("%s: waited %s for %s; %d attempts, %d spans sent, %d failed; its log:\n%s",
				a.kind, patience, what, now.attempts, len(now.sent), now.failed, a.log)
		}
	}
}

// tell gives the application commands.
func (a *application) tell(commands ...string) {
	a.t.Helper()
	for _, c := range commands {
		if _, err := fmt.Fprintln(a.stdin, c); err != nil {
			a.t.Fatalf("tell %s to %s: %v; its log:\n%s", a.kind, c, err, a.log)
		}
	}
}

// flush has the application send what it has, and returns its account when
// every export has ended one way or the other.
func (a *application) flush() account {
	a.t.Helper()
	a.mu.Lock()
	before := a.account.flushes
	a.mu.Unlock()
	a.tell("flush")
	return a.flushed(before + 1)
}

// flushed returns the account after that many flushes, once it covers every
// span that had ended: some SDKs return from a flush before an export that
// began earlier has ended.
func (a *application) flushed(n int) account {
	a.t.Helper()
	return a.await("the end of a flush and of all exports", func(now *account) bool {
		return now.flushes >= n && len(now.sent)+now.failed >= now.ended
	})
}

// flushAll is flush for applications that must not have failed to send a span.
func (a *application) flushAll() account {
	a.t.Helper()
	now := a.flush()
	if now.failed > 0 {
		a.t.Fatalf("%s gave up %d of %d spans; its log:\n%s", a.kind, now.failed, now.ended, a.log)
	}
	return now
}
