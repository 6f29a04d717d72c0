// Command testsum reads what `go test -json` prints, prints what `go test`
// would, and ends with one line that counts tests: "12 passed, 0 failed".
// With -sum FILE that line goes to the file as well.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	sumFile := flag.String("sum", "", "write the closing line to this file as well")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *sumFile); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

// run prints the summary of in to out and fails if a test or package did.
func run(in io.Reader, out io.Writer, sumFile string) error {
	s := newSummary(out)
	if err := s.read(in); err != nil {
		return err
	}
	line := s.line()
	fmt.Fprintln(out, line)
	if sumFile != "" {
		if err := os.WriteFile(sumFile, []byte(line+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the closing line: %w", err)
		}
	}
	switch {
	case s.failed > 0:
		return errors.New("there are failures")
	case s.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// event is one line of test2json's output (go doc test2json).
type event struct {
	Action     string `json:"Action"`
	Package    string `json:"Package"`
	ImportPath string `json:"ImportPath"`
	Test       string `json:"Test"`
	Output     string `json:"Output"`
}

// summary counts tests and holds back the output of those that may pass.
type summary struct {
	out            io.Writer
	passed, failed int
	held           map[string][]string // output by "package test", until the test ends
	failedIn       map[string]bool     // packages with a failed test
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, held: map[string][]string{}, failedIn: map[string]bool{}}
}

func (s *summary) line() string { return fmt.Sprintf("%d passed, %d failed", s.passed, s.failed) }

// read takes all events of r. Lines that are no events are passed on.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &e) == nil {
				s.take(&e)
			} else {
				fmt.Fprint(s.out, line)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

// take counts and prints one event.
func (s *summary) take(e *event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		if e.Test != "" {
			s.held[key] = append(s.held[key], e.Output)
			return
		}
		if e.Output != "PASS\n" { // go test without -v leaves it out
			fmt.Fprint(s.out, e.Output)
		}
	case "pass":
		delete(s.held, key)
		if e.Test != "" {
			s.passed++
		}
	case "skip":
		delete(s.held, key)
	case "fail":
		s.fail(e, key)
	}
}

// fail shows what a failed test said. A package that failed without a failed
// test (it did not build, or ended early) counts as one.
func (s *summary) fail(e *event, key string) {
	if e.Test == "" {
		if !s.failedIn[e.Package] {
			s.failed++
			s.showUnfinished(e.Package)
		}
		return
	}
	s.failed++
	s.failedIn[e.Package] = true
	s.show(key)
}

// showUnfinished shows the tests of a package that were running when it ended.
func (s *summary) showUnfinished(pkg string) {
	for key := range s.held {
		if strings.HasPrefix(key, pkg+" ") {
			s.show(key)
		}
	}
}

func (s *summary) show(key string) {
	for _, line := range s.held[key] {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(s.out, line)
		}
	}
	delete(s.held, key)
}
