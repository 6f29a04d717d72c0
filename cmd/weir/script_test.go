package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"weir/internal/smith"
)

// scriptPatience bounds every wait of a script.
const scriptPatience = 30 * time.Second

// TestScripts runs the real command line in processes of its own. Besides the
// commands of testscript, a script has:
//
//	exits CODE PROGRAM ARG...     runs the program and wants this exit code
//	smith                         starts a look-alike that knows $LANGSMITH_API_KEY; $smith is its control API
//	start ARG...                  starts `weir run`; $admin and $ingest are its URLs, on the ports it had before
//	stop                          ends it as a service manager does; what it logged is in weir.log
//	traces N [PROJECT]            sends N traces of one span; $trace is the last one's id
//	waitfor PATTERN PROGRAM ARG...  runs the program until its output matches
//	follow PROGRAM ARG...         starts a program whose output goes on
//	followed PATTERN              waits until its output matches, from where the last one did
//	unfollow                      interrupts it as Ctrl-C does, and wants exit code 0
//	capture NAME PATTERN          sets a variable to what the pattern's group matches in the output before
//	post [-H NAME:VALUE]... URL [JSON]  prints the status and the answer
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "waitfor": scriptWaitFor, "post": scriptPost, "smith": scriptSmith, "traces": scriptTraces, "capture": scriptCapture,
			"start": scriptStart, "stop": scriptStop, "follow": scriptFollow, "followed": scriptFollowed, "unfollow": scriptUnfollow,
		},
		Setup: func(env *testscript.Env) error {
			env.Values[scriptKey] = &script{}
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COLUMNS", "80")
			return nil
		},
	})
}

// script is what a script has running.
type script struct {
	weir, followed *scriptProgram
	sent           int // traces
}

type scriptKeyType struct{}

var scriptKey scriptKeyType

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey).(*script) }

// scriptProgram is a program that runs beside the script.
type scriptProgram struct {
	cmd   *exec.Cmd
	lines chan string // of its output; closed at its end
	log   bytes.Buffer
}

// startScriptProgram starts a program in the script's directory. It gets
// those variables of the script that matter here.
func startScriptProgram(ts *testscript.TestScript, name string, args ...string) *scriptProgram {
	path, err := exec.LookPath(name)
	ts.Check(err)
	p := &scriptProgram{cmd: exec.CommandContext(context.Background(), path, args...), lines: make(chan string, 1000)}
	p.cmd.Dir, p.cmd.Stderr = ts.MkAbs("."), &p.log
	for _, name := range []string{"PATH", "HOME", "LANGSMITH_ENDPOINT", "LANGSMITH_API_KEY", "WEIR_ADMIN_TOKEN", "WEIR_ADMIN_ADDR"} {
		if value := ts.Getenv(name); value != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	ts.Defer(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.end() // it was killed
		}
		<-read
	})
	return p
}

// end reads what is left of the output and waits for the program.
func (p *scriptProgram) end() error {
	for range p.lines {
	}
	return p.cmd.Wait()
}

// await returns the first line from now on that matches.
func (p *scriptProgram) await(ts *testscript.TestScript, pattern *regexp.Regexp) []string {
	timeout := time.After(scriptPatience)
	var seen []string
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				err := p.end()
				ts.Fatalf("it ended (%v) without a line that matches %s:\n%s\n%s", err, pattern, strings.Join(seen, "\n"), p.log.String())
			}
			if found := pattern.FindStringSubmatch(line); found != nil {
				ts.Logf("[output]\n%s\n", strings.Join(append(seen, line), "\n"))
				return found
			}
			seen = append(seen, line)
		case <-timeout:
			ts.Fatalf("no line matches %s:\n%s", pattern, strings.Join(seen, "\n"))
		}
	}
}

// interrupt ends the program with a signal, and wants exit code 0.
func (p *scriptProgram) interrupt(ts *testscript.TestScript, sig os.Signal) {
	ts.Check(p.cmd.Process.Signal(sig))
	timer := time.AfterFunc(scriptPatience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	if err := p.end(); err != nil {
		ts.Fatalf("%s after %s: %v\n%s", filepath.Base(p.cmd.Path), sig, err, p.log.String())
	}
}

func compile(ts *testscript.TestScript, pattern string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	return re
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("running %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor pattern program args...")
	}
	re := compile(ts, args[0])
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(scriptPatience); time.Now().Before(deadline); <-again.C {
		_ = ts.Exec(args[1], args[2:]...) // what it prints is what counts
		if re.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s never matched %s", strings.Join(args[1:], " "), args[0])
}

func scriptCapture(ts *testscript.TestScript, _ bool, args []string) {
	found := compile(ts, args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("%s matches nothing", args[1])
	}
	ts.Setenv(args[0], found[1])
}

func scriptSmith(ts *testscript.TestScript, _ bool, _ []string) {
	s := smith.New(smith.Config{Keys: map[string]smith.Key{ts.Getenv("LANGSMITH_API_KEY"): {}}, Control: true})
	server := httptest.NewServer(s)
	ts.Defer(func() { _ = s.Close(); server.Close() })
	ts.Setenv("LANGSMITH_ENDPOINT", server.URL)
	ts.Setenv("smith", server.URL+"/__smith")
}

func scriptStart(ts *testscript.TestScript, _ bool, args []string) {
	addr := func(name string) string {
		if old := ts.Getenv(name); old != "" {
			return strings.TrimPrefix(old, "http://")
		}
		return "127.0.0.1:0"
	}
	p := startScriptProgram(ts, "weir", append([]string{
		"run", "--grpc-addr=off", "--http-addr=" + addr("ingest"), "--admin-addr=" + addr("admin"),
		"--data-dir=" + ts.MkAbs("data"), "--forward-linger=0s",
	}, args...)...)
	scriptOf(ts).weir = p
	ingest := p.await(ts, regexp.MustCompile(`^ {2}HTTP +(\S+)$`))[1]
	ts.Setenv("ingest", "http://"+ingest)
	ts.Setenv("ingest_addr", ingest)
	admin := p.await(ts, regexp.MustCompile(`^ {2}admin +(\S+)$`))[1]
	ts.Setenv("admin", "http://"+admin)
	ts.Setenv("WEIR_ADMIN_ADDR", admin)
}

func scriptStop(ts *testscript.TestScript, _ bool, _ []string) {
	p := scriptOf(ts).weir
	p.interrupt(ts, syscall.SIGTERM)
	ts.Check(os.WriteFile(ts.MkAbs("weir.log"), p.log.Bytes(), 0o600))
}

func scriptFollow(ts *testscript.TestScript, _ bool, args []string) {
	scriptOf(ts).followed = startScriptProgram(ts, args[0], args[1:]...)
}

func scriptFollowed(ts *testscript.TestScript, _ bool, args []string) {
	scriptOf(ts).followed.await(ts, compile(ts, args[0]))
}

func scriptUnfollow(ts *testscript.TestScript, _ bool, _ []string) {
	scriptOf(ts).followed.interrupt(ts, os.Interrupt)
}

func scriptTraces(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var attributes []any
	if len(args) > 1 {
		attributes = append(attributes, map[string]any{"key": "langsmith.trace.session_name", "value": map[string]any{"stringValue": args[1]}})
	}
	var spans []any
	for range n {
		sc := scriptOf(ts)
		sc.sent++
		id := fmt.Sprintf("0199d1f07c7e7b9a8a570000%08x", sc.sent)
		ts.Setenv("trace", id[:8]+"-"+id[8:12]+"-"+id[12:16]+"-"+id[16:20]+"-"+id[20:])
		now := strconv.FormatInt(time.Now().UnixNano(), 10)
		spans = append(spans, map[string]any{
			"traceId": id, "spanId": id[16:], "name": "work", "kind": 1, "attributes": attributes,
			"startTimeUnixNano": now, "endTimeUnixNano": now,
		})
	}
	body, err := json.Marshal(map[string]any{"resourceSpans": []any{map[string]any{"scopeSpans": []any{map[string]any{"spans": spans}}}}})
	ts.Check(err)
	status, answer := scriptCall(ts, ts.Getenv("ingest")+"/v1/traces", nil, string(body))
	if status != http.StatusOK {
		ts.Fatalf("weir answers %d: %s", status, answer)
	}
}

func scriptPost(ts *testscript.TestScript, _ bool, args []string) {
	var headers []string
	for len(args) > 1 && args[0] == "-H" {
		headers, args = append(headers, args[1]), args[2:]
	}
	body := "{}"
	if len(args) > 1 {
		body = args[1]
	}
	status, answer := scriptCall(ts, args[0], headers, body)
	fmt.Fprintf(ts.Stdout(), "%d\n%s\n", status, answer)
}

// scriptCall posts JSON and returns the answer.
func scriptCall(ts *testscript.TestScript, url string, headers []string, body string) (status int, answer string) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		if strings.EqualFold(name, "Host") {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	client := &http.Client{Timeout: scriptPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	out, err := client.Do(r)
	ts.Check(err)
	defer out.Body.Close() //nolint:errcheck // it has been read
	text, err := io.ReadAll(out.Body)
	ts.Check(err)
	return out.StatusCode, string(text)
}
