package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// update rewrites golden files and generated pages instead of comparing:
// go test ./cmd/weir -update.
var update = flag.Bool("update", false, "rewrite golden files")

// checkedM fails the run when a test leaves a goroutine behind.
type checkedM struct{ *testing.M }

func (m checkedM) Run() int {
	code := m.M.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintf(os.Stderr, "goleak: %v\n", err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(checkedM{m}, map[string]func(){"weir": main})
}

// golden compares got with a file, or rewrites the file with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); if that is right, run with -update:\n%s", path, diff)
	}
}

// fixedNow is the time in tests.
var fixedNow = time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)

// testSystem is a system without terminal, with the given environment and an
// empty working directory.
type testSystem struct {
	*system
	out, err *bytes.Buffer
}

func newTestSystem(t *testing.T, env map[string]string) *testSystem {
	t.Helper()
	out, errOut := new(bytes.Buffer), new(bytes.Buffer)
	return &testSystem{
		system: &system{
			console: console{Out: out, Err: errOut, now: func() time.Time { return fixedNow }},
			getenv:  func(name string) string { return env[name] },
			cwd:     t.TempDir(),
		},
		out: out, err: errOut,
	}
}

func (s *testSystem) execute(t *testing.T, args ...string) int {
	t.Helper()
	return execute(t.Context(), args, s.system)
}

func TestGeneratedPagesAreCurrent(t *testing.T) {
	t.Setenv("COLUMNS", "80") // kong wraps its help to it
	for _, page := range []struct {
		file string
		args []string
	}{
		{"cli.md", []string{"help", "--markdown"}},
		{"configuration.md", []string{"config", "--reference"}},
	} {
		t.Run(page.file, func(t *testing.T) {
			sys := newTestSystem(t, nil)
			if code := sys.execute(t, page.args...); code != exitOK {
				t.Fatalf("exit code %d: %s", code, sys.err)
			}
			golden(t, filepath.Join("..", "..", "docs", page.file), sys.out.String())
		})
	}
}

// TestEveryCommandShowsHelp holds the grammar together.
func TestEveryCommandShowsHelp(t *testing.T) {
	var exited bool
	sys := newTestSystem(t, nil)
	parser, err := newParser(sys.system, &exited)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range parser.Model.Leaves(false) {
		t.Run(node.Path(), func(t *testing.T) {
			if _, ok := reflect.TypeAssert[command](node.Target.Addr()); !ok {
				t.Errorf("command %s cannot be run", node.Name)
			}
			if node.Help == "" {
				t.Errorf("command %s has no help", node.Name)
			}
			for _, f := range node.Flags {
				if f.Help == "" {
					t.Errorf("flag --%s of %s has no help", f.Name, node.Name)
				}
			}
			sys := newTestSystem(t, nil)
			if code := sys.execute(t, append(strings.Fields(node.Path()), "--help")...); code != exitOK || sys.out.Len() == 0 {
				t.Errorf("%s --help: exit code %d, %d bytes of help", node.Name, code, sys.out.Len())
			}
		})
	}
}
