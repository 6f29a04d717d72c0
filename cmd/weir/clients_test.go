package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// clientArgs are arguments with which each command that calls a running weir
// gets as far as calling it.
var clientArgs = map[string][]string{
	"status": nil, "quota show": nil, "quota set": {"5"}, "quota set-limit": {"5"}, "quota release": nil,
	"quarantine ls": nil, "quarantine show": {"1"}, "quarantine release": {"1"}, "quarantine discard": {"1", "--yes"},
	"quarantine export": {"1", "--out=nobody.jsonl"}, "find": {"0199d1f0-7c7e-7b9a-8a57-52a0c2f7b7b1"},
	"queue ls": nil, "queue show": {"12.3041"}, "queue df": nil, "queue discard": {"--all", "--yes"},
	"send-test": nil, "drain": nil, "import": nil, "reload": nil, "log-level": nil,
}

// Commands that run a weir, or look at what one would do.
var noClients = []string{"run", "dev", "config", "doctor"}

// leaves are the commands that can be run, by their path.
func leaves(t *testing.T) map[string]*kong.Node {
	t.Helper()
	var exited bool
	parser, err := newParser(newTestSystem(t, nil).system, &exited)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*kong.Node)
	for _, node := range parser.Model.Leaves(true) {
		all[node.Path()] = node
	}
	return all
}

func hasFlag(node *kong.Node, name string) bool {
	return slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == name })
}

// A weir that is not there is exit code 3 and one clear message, from every
// command that calls one, for people and for programs.
func TestEveryClientSaysThatWeirIsNotThere(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	addr := gone.Listener.Addr().String()
	gone.Close()
	for path, node := range leaves(t) {
		if slices.Contains(noClients, path) || !hasFlag(node, "admin-addr") && !hasFlag(node, "http-addr") {
			continue
		}
		args, known := clientArgs[path]
		if !known {
			t.Errorf("weir %s calls a weir; say in clientArgs with which arguments", path)
			continue
		}
		for _, more := range [][]string{nil, {"--json"}} {
			t.Run(path+strings.Join(more, ""), func(t *testing.T) {
				listener := "WEIR_ADMIN_ADDR"
				if !hasFlag(node, "admin-addr") {
					listener = "WEIR_HTTP_ADDR"
				}
				sys := newTestSystem(t, map[string]string{listener: addr})
				words := slices.Concat(strings.Fields(path), args, more)
				if path == "import" {
					writeEnvelope(t, sys.cwd, "trace.json", "body")
					words = append(words, sys.cwd)
				}
				if code := sys.execute(t, words...); code != exitUnreachable {
					t.Errorf("exit code %d: %s%s", code, sys.out, sys.err)
				}
				if sys.out.Len() > 0 {
					t.Errorf("standard output: %s", sys.out)
				}
				if text := sys.err.String(); !strings.HasPrefix(text, "weir: ") || !strings.Contains(text, "no weir answers at "+addr) || !strings.Contains(text, "weir run") {
					t.Errorf("standard error: %s", text)
				}
			})
		}
	}
}

// Wrong usage is exit code 2, and says where to read about the right one.
func TestEveryCommandRefusesAnUnknownFlag(t *testing.T) {
	for path := range leaves(t) {
		sys := newTestSystem(t, nil)
		code := sys.execute(t, append(strings.Fields(path), "--no-such-flag")...)
		if code != exitUsage || sys.out.Len() > 0 || !strings.Contains(sys.err.String(), "--help`") {
			t.Errorf("weir %s --no-such-flag: exit code %d: %s%s", path, code, sys.out, sys.err)
		}
	}
}

// Whatever prints something for people prints it for programs, too.
func TestEveryCommandThatPrintsHasJSON(t *testing.T) {
	without := []string{"run", "dev", "completion"}
	for path, node := range leaves(t) {
		if !slices.Contains(without, path) && !hasFlag(node, "json") {
			t.Errorf("weir %s has no --json", path)
		}
	}
}

// Every command has examples, of which each can be parsed.
func TestEveryCommandHasExamples(t *testing.T) {
	all := leaves(t)
	for path := range all {
		if len(examples[path]) == 0 {
			t.Errorf("weir %s has no examples", path)
		}
	}
	for path, list := range examples {
		if all[path] == nil {
			t.Errorf("examples of weir %s, which is no command", path)
		}
		for _, e := range list {
			_, line, _ := strings.Cut(e.line, "weir ")
			if end := strings.IndexAny(line, "|>&"); end >= 0 {
				line = line[:end]
			}
			var exited bool
			parser, err := newParser(newTestSystem(t, nil).system, &exited)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := parser.Parse(strings.Fields(line))
			if err != nil {
				t.Errorf("%s: %v", e.line, err)
			} else if got := parsed.Selected().Path(); got != path {
				t.Errorf("%s is an example of weir %s, not of weir %s", e.line, got, path)
			}
		}
	}
}
