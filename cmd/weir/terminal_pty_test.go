//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	weirv1 "weir/proto/weir/v1"
)

// onTerminal is a program on a terminal of its own.
type onTerminal struct {
	cmd  *exec.Cmd
	tty  *os.File
	out  *lineBuffer
	read chan struct{} // closed when the program has closed the terminal
}

// startOnTerminal starts a program on a terminal of the given size. TestMain has
// put weir into PATH.
func startOnTerminal(t *testing.T, size pty.Winsize, env []string, name string, args ...string) *onTerminal {
	t.Helper()
	p := &onTerminal{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), name, args...), out: newLineBuffer(), read: make(chan struct{})}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.cmd.Dir, "TERM=xterm-256color"}, env...)
	tty, err := pty.StartWithSize(p.cmd, &size)
	if err != nil {
		t.Fatal(err)
	}
	p.tty = tty
	go func() {
		defer close(p.read)
		_, _ = io.Copy(p.out, tty) // a terminal that is gone is EIO on Linux
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		_ = tty.Close()
		<-p.read
	})
	return p
}

// wait waits for the program's end and returns its exit code.
func (p *onTerminal) wait(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Signal(syscall.SIGKILL) })
	defer timer.Stop()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	<-p.read
	return p.cmd.ProcessState.ExitCode()
}

// lastFrame is what was drawn last, without the sequences that place it.
func lastFrame(text string) []string {
	frames := strings.Split(text, homeCursor)
	frame, _, _ := strings.Cut(frames[len(frames)-1], clearBelow)
	return strings.Split(strings.ReplaceAll(frame, clearToEnd, ""), "\r\n")
}

func TestWatchDrawsOnATerminal(t *testing.T) {
	fake := &fakeAdmin{watch: make(chan *weirv1.WatchResponse)}
	p := startOnTerminal(t, pty.Winsize{Rows: 50, Cols: 100}, nil, "weir", "status", "--watch", "--admin-addr", fake.serve(t))
	fake.watch <- busyWatch()
	p.out.waitFor(t, "Make a new key")
	p.out.waitFor(t, clearBelow)
	if text := p.out.String(); !strings.HasPrefix(text, enterScreen) || !strings.Contains(text, string(red)) {
		t.Errorf("no screen of its own, or no colour: %q", text)
	}

	mended := busyWatch().GetStatus()
	mended.Problems = []string{"The last one left."}
	fake.watch <- &weirv1.WatchResponse{Status: mended}
	p.out.waitFor(t, "The last one left.")
	if n := strings.Count(p.out.String(), enterScreen); n != 1 {
		t.Errorf("the screen was entered %d times", n)
	}

	// Another size is drawn for at once, and nothing is wider than it.
	if err := pty.Setsize(p.tty, &pty.Winsize{Rows: 12, Cols: 40}); err != nil {
		t.Fatal(err)
	}
	p.out.waitFor(t, "more lines, see")
	lines := lastFrame(p.out.String())
	if len(lines) > 12 {
		t.Errorf("%d lines on a terminal of 12", len(lines))
	}
	for _, line := range lines {
		if n := columnsOf(withoutStyles(line)); n > 40 {
			t.Errorf("%d columns on a terminal of 40: %q", n, line)
		}
	}

	if _, err := p.tty.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
	_, after, left := strings.Cut(p.out.String(), leaveScreen)
	if !left || !strings.Contains(withoutStyles(after), "weir v0.1.0") {
		t.Errorf("after the end: %q", after)
	}
}

func TestColoursOnATerminal(t *testing.T) {
	tests := []struct {
		name  string
		env   []string
		color bool
	}{
		{"by default", nil, true},
		{"NO_COLOR", []string{"NO_COLOR=1"}, false},
		{"an empty NO_COLOR is none", []string{"NO_COLOR="}, true},
		{"a dumb terminal", []string{"TERM=dumb"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := (&fakeAdmin{status: busyStatus()}).serve(t)
			p := startOnTerminal(t, pty.Winsize{Rows: 24, Cols: 60}, tt.env, "weir", "status", "--admin-addr", addr)
			if code := p.wait(t); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			text := p.out.String()
			if strings.Contains(text, "\x1b[") != tt.color || !strings.Contains(text, "parked") {
				t.Errorf("wrong colours: %q", text)
			}
			// Sentences are wrapped at the terminal's width.
			if !strings.Contains(text, "  - Lane 10: LangSmith refuses the key lsv2_…aa with 403;\r\n    check the key and its workspace.") {
				t.Errorf("not wrapped at 60 columns: %q", text)
			}
		})
	}
}

// Without colours the live view is still drawn in place; on a dumb terminal it
// is lines.
func TestWatchWithoutColours(t *testing.T) {
	for _, tt := range []struct {
		name   string
		env    string
		screen bool
	}{{"NO_COLOR", "NO_COLOR=1", true}, {"a dumb terminal", "TERM=dumb", false}} {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{watch: make(chan *weirv1.WatchResponse)}
			p := startOnTerminal(t, pty.Winsize{Rows: 50, Cols: 100}, []string{tt.env}, "weir", "status", "--watch", "--admin-addr", fake.serve(t))
			fake.watch <- busyWatch()
			p.out.waitFor(t, "lsv2_…aa with 403")
			text := p.out.String()
			if strings.Contains(text, enterScreen) != tt.screen || strings.Contains(text, string(red)) || strings.Contains(text, string(dim)) {
				t.Errorf("printed %q", text)
			}
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := p.wait(t); code != exitOK {
				t.Errorf("exit code %d", code)
			}
		})
	}
}
