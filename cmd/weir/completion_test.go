//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// completed runs what the shells' scripts run, and returns the candidates.
func completed(t *testing.T, words ...string) string {
	t.Helper()
	sys := newTestSystem(t, nil)
	if code := sys.execute(t, append([]string{"complete-words", "--"}, words...)...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	var texts []string
	for line := range strings.Lines(sys.out.String()) {
		text, _, tab := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if tab == strings.HasPrefix(text, ":") {
			t.Errorf("%q: candidates have a tab, what the shell is to do has none", line)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

func TestCompletion(t *testing.T) {
	tests := []struct {
		name  string
		words string // split at each space; the last word is completed
		want  string
	}{
		{"a command", "sta", "status"},
		{"several commands", "qu", "quota queue quarantine"},
		{"hidden ones are not named", "comp", "completion"},
		{"a verb", "quarantine re", "release"},
		{"all verbs", "quarantine ", "ls show release discard export"},
		{"help of a command", "help quota s", "show set set-limit"},
		{"a flag", "status --ch", "--check"},
		{"a flag twice", "status --check --ch", ""},
		{"a flag that may be there twice", "run --cors http://a --cor", "--cors"},
		{"a flag of the default verb", "quarantine --js", "--json"},
		{"both ways of a flag", "run --sy", "--sync"},
		{"the other way", "run --no-sy", "--no-sync"},
		{"a value", "run --quota-policy dr", "drop"},
		{"a value after =", "run --log-level=w", "--log-level=warn"},
		{"as bash cuts words", "run --log-level = w", "warn"},
		{"as bash cuts words, nothing typed", "run --log-level =", "debug info warn error"},
		{"a value of a word", "send-test --via g", "grpc"},
		{"a file", "run --config ", ":files"},
		{"a file after =", "run --config=", ":files"},
		{"a directory", "run --data-dir ", ":directories"},
		{"a file as argument", "import ", ":files"},
		{"a shell", "completion z", "zsh"},
		{"one shell is enough", "completion zsh ", ""},
		{"behind --", "import -- --", ":files"},
		{"a value nobody knows", "run --project ", ""},
		{"a word in the middle of nothing", "bogus --", "--help"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := completed(t, strings.Split(tt.words, " ")...); got != tt.want {
				t.Errorf("weir %s: %q, want %q", tt.words, got, tt.want)
			}
		})
	}
}

// shell returns the path of a shell. Bash is on every machine; another one that
// is not leaves its part of the test out, and that is said.
func shell(t *testing.T, name string) (path string, found bool) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && name == "bash" {
		t.Fatal(err)
	}
	if err != nil {
		t.Logf("NOT TESTED: there is no %s here", name)
	}
	return path, err == nil
}

// completionFile writes the script for a shell and returns its path.
func completionFile(t *testing.T, name string) string {
	t.Helper()
	script, err := exec.CommandContext(t.Context(), "weir", "completion", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "weir."+name)
	if err := os.WriteFile(path, script, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// typed are command lines with what Tab makes of them, in every shell.
var typed = []struct{ keys, want string }{
	{"weir sta", "weir status "},
	{"weir status --wa", "weir status --watch "},
	{"weir quota set-", "weir quota set-limit "},
	{"weir run --quota-policy fo", "weir run --quota-policy forward "},
	{"weir run --log-level=w", "weir run --log-level=warn"},
	{"weir run --config only-", "weir run --config only-one.yaml"},
	{"weir run --config=only-", "weir run --config=only-one.yaml"},
}

// Tab is pressed in a shell on a terminal; # and Enter then make the line a
// comment, which the shell shows and does nothing about.
func TestCompletionInShells(t *testing.T) {
	for _, tt := range []struct {
		shell string
		args  []string
		setup string
	}{
		{"bash", []string{"--norc", "--noprofile", "-i"}, "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; . %s"},
		{"zsh", []string{"-f", "-i"}, "autoload -U compinit; compinit -D -u; unset zle_bracketed_paste; setopt interactivecomments; . %s"},
	} {
		t.Run(tt.shell, func(t *testing.T) {
			path, found := shell(t, tt.shell)
			if !found {
				return
			}
			script := completionFile(t, tt.shell)
			p := startOnTerminal(t, pty.Winsize{Rows: 24, Cols: 200}, []string{"PS1=READY ", "TERM=dumb", "LC_ALL=C.UTF-8"}, path, tt.args...)
			if err := os.WriteFile(filepath.Join(p.cmd.Dir, "only-one.yaml"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			send := func(keys string) {
				if _, err := p.tty.WriteString(keys); err != nil {
					t.Fatal(err)
				}
			}
			p.out.waitFor(t, "READY ")
			send(strings.Replace(tt.setup, "%s", script, 1) + "; echo SET''UP\r")
			p.out.waitFor(t, "SETUP")
			for _, line := range typed {
				send(line.keys + "\t")
				p.out.waitFor(t, line.want)
				send("\x15\r") // empty the line
			}
			send("exit\r")
			p.wait(t)
		})
	}
}

func TestCompletionInFish(t *testing.T) {
	path, found := shell(t, "fish")
	if !found {
		return
	}
	script := completionFile(t, "fish")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "only-one.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range typed {
		cmd := exec.CommandContext(t.Context(), path, "--no-config", "-c", "source "+script+"; complete -C '"+line.keys+"'")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		first, _, _ := strings.Cut(string(out), "\t")
		want := strings.TrimSpace(line.want)
		want = want[strings.LastIndexByte(want, ' ')+1:]
		if strings.TrimSpace(first) != want {
			t.Errorf("%s: %q, want %q", line.keys, out, want)
		}
	}
}
