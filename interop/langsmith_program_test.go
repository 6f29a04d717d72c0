//go:build interop

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// program is an application that traces with one of LangSmith's own SDKs, and
// the scenarios that it can play; README.md describes them.
type program struct {
	name      string
	command   []string
	dir       string
	env       []string
	scenarios []string
	// keepsBroken is set where the SDK sends again, for as long as a restart
	// takes, what met a broken connection.
	keepsBroken bool
	// slow is set where a start takes ten seconds of a core: such a program is
	// played only where it shows what no other does.
	slow bool
}

// starting are the programs that start, as many as may at a time: an SDK's own
// limits are to run while it has a share of the machine.
var starting = make(chan struct{}, 2)

// programs are all of them.
func programs() []program {
	python := func(name string, env, args []string, scenarios ...string) program {
		return program{
			name: name, dir: "langsmith/python", command: append([]string{tools.langsmithPython, "app.py"}, args...),
			env: env, scenarios: scenarios,
		}
	}
	node := func(name string, env []string, scenarios ...string) program {
		return program{name: name, dir: "langsmith/js", command: []string{tools.node, "app.mjs"}, env: env, scenarios: scenarios}
	}
	otel := []string{"LANGSMITH_TRACING_MODE=otel"}
	return []program{
		python("python", nil, nil, "nested", "many", "threads", "async", "streaming", "errors", "attachments", "feedback", "by hand", "addressed", "evaluate"),
		python("python uncompressed", []string{"LANGSMITH_DISABLE_RUN_COMPRESSION=true"}, nil, "nested", "many", "attachments", "feedback", "by hand"),
		python("python chains", nil, []string{"chains"}, "langchain", "langchain errors", "langgraph"),
		python("python otel", otel, []string{"chains"}, "nested", "threads", "streaming", "errors", "langchain", "langgraph"),
		python("python hybrid", []string{"LANGSMITH_TRACING_MODE=hybrid"}, nil, "nested", "errors"),
		node("js", nil, "nested", "many", "async", "streaming", "errors", "attachments", "feedback", "by hand", "evaluate"),
		node("js otel", otel, "nested", "async", "streaming", "errors"),
		{name: "go", dir: "langsmith/go", command: []string{tools.langsmithGo}, env: []string{"OTEL_EXPORTER_OTLP_INSECURE=true"}, scenarios: []string{"runs", "spans"}},
		{name: "java", dir: "langsmith/java", command: []string{tools.java, "-cp", "lib/*", "App.java"}, scenarios: []string{"spans"}},
		{
			name: "litellm", dir: "langsmith/litellm", command: []string{tools.litellmPython, "app.py"},
			// LiteLLM has a variable of its own for the address, and without the
			// other it would look up prices on the Internet.
			env: []string{"LITELLM_LOCAL_MODEL_COST_MAP=True"}, scenarios: []string{"completions"}, slow: true,
		},
	}
}

// callersKey is what the programs send as their API key.
const callersKey = "lsv2_pt_00112233445566778899aabbccddeeff_caller0001"

// running is a program that plays what it is told.
type running struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan string // a scenario that was played and flushed
	log   *lockedBuffer

	exited  chan error
	started func() // lets another program start
}

// start runs the program with LangSmith's variables pointing at a server. It
// is ended, and must end well, with the test. Other programs may have to wait
// until it has played its first scenario: it must be told to play one next.
func (p *program) start(t *testing.T, endpoint string) *running {
	t.Helper()
	// t.Context() ends before Cleanup does, where the process ends in order.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), p.command[0], p.command[1:]...)
	cmd.Dir = filepath.FromSlash(p.dir)
	cmd.Env = append(bareEnv(), "PYTHONUTF8=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0", "LANGSMITH_TRACING=true",
		"LANGSMITH_ENDPOINT="+endpoint, "LANGSMITH_BASE_URL="+endpoint, "LANGSMITH_API_KEY="+callersKey, "LANGSMITH_PROJECT=interop")
	cmd.Env = append(cmd.Env, p.env...)
	r := &running{
		t: t, name: p.name, cmd: cmd, done: make(chan string, len(p.scenarios)), log: &lockedBuffer{}, exited: make(chan error, 1),
	}
	cmd.Stderr = r.log
	var err error
	if r.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	starting <- struct{}{}
	r.started = sync.OnceFunc(func() { <-starting })
	if err := cmd.Start(); err != nil {
		r.started()
		t.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		r.listen(stdout)
		r.exited <- cmd.Wait()
	}()
	t.Cleanup(r.end)
	return r
}

// listen passes on what the program has played, until it says no more.
func (r *running) listen(stdout io.Reader) {
	defer close(r.done)
	defer r.started()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var line struct {
			Done string `json:"done"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Done == "" {
			fmt.Fprintf(r.log, "standard output: %s\n", lines.Text())
			continue
		}
		r.started()
		r.done <- line.Done
	}
	_, _ = io.Copy(io.Discard, stdout) // or the process could not end
}

// play has the program play scenarios, and returns when each is flushed.
func (r *running) play(scenarios ...string) {
	r.t.Helper()
	r.begin(scenarios...)
	r.wait(len(scenarios))
}

// begin tells the program what to play.
func (r *running) begin(scenarios ...string) {
	r.t.Helper()
	if _, err := io.WriteString(r.stdin, strings.Join(scenarios, "\n")+"\n"); err != nil {
		r.t.Fatalf("tell %s to play: %v; its log:\n%s", r.name, err, r.log)
	}
}

// wait returns when that many more scenarios are played and flushed.
func (r *running) wait(n int) {
	r.t.Helper()
	limit := time.After(patience)
	for range n {
		select {
		case _, ok := <-r.done:
			if !ok {
				r.t.Fatalf("%s ended early; its log:\n%s", r.name, r.log)
			}
		case <-limit:
			r.t.Fatalf("%s did not come to an end of what it was to play; its log:\n%s", r.name, r.log)
		}
	}
}

// noticedNothing expects that the SDK has had nothing to complain about.
func (r *running) noticedNothing() {
	r.t.Helper()
	if log := r.log.String(); log != "" {
		r.t.Errorf("%s says:\n%.4000s", r.name, log)
	}
}

// end closes the program's input and waits until it has ended.
func (r *running) end() {
	_ = r.stdin.Close()
	select {
	case err := <-r.exited:
		if err != nil {
			r.t.Errorf("%s ended with %v; its log:\n%.4000s", r.name, err, r.log)
		}
	case <-time.After(patience):
		_ = r.cmd.Process.Kill()
		r.t.Errorf("%s did not end; killed it: %v", r.name, <-r.exited)
	}
}
