package house_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxFileLines is how long a file may be that is neither test nor generated.
const maxFileLines = 600

func TestEveryPackageHasOneDoc(t *testing.T) {
	docs := map[string][]string{} // directory: files with a package comment
	for _, src := range goSources(t) {
		if src.test || src.generated {
			continue
		}
		docs[src.dir] = append(docs[src.dir], "")
		if src.syntax.Doc == nil {
			continue
		}
		docs[src.dir][len(docs[src.dir])-1] = src.path
		want := "Package " + src.syntax.Name.Name + " "
		if src.syntax.Name.Name == "main" {
			want = "Command " + filepath.Base(src.dir) + " "
		}
		if got := src.syntax.Doc.Text(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: the package doc begins %.40q, want it to begin %q", src.path, got, want)
		}
	}
	for dir, paths := range docs {
		var with []string
		for _, path := range paths {
			if path != "" {
				with = append(with, path)
			}
		}
		if len(with) != 1 {
			t.Errorf("package %s has %d package docs %v, want exactly one", dir, len(with), with)
		}
	}
}

func TestFilesFitAReader(t *testing.T) {
	for _, src := range goSources(t) {
		if lines := strings.Count(src.text, "\n"); !src.test && !src.generated && lines > maxFileLines {
			t.Errorf("%s has %d lines, want at most %d: split it by what it is about", src.path, lines, maxFileLines)
		}
	}
}

func TestTestsWaitForEventsNotForAWhile(t *testing.T) {
	for _, src := range goSources(t) {
		if !src.test {
			continue
		}
		ast.Inspect(src.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			switch {
			case ok && pkg.Name == "time" && sel.Sel.Name == "Sleep":
				t.Errorf("%s: time.Sleep in a test: wait for a channel, or use testing/synctest", src.place(n))
			case ok && pkg.Name == "t" && strings.HasPrefix(sel.Sel.Name, "Skip"):
				t.Errorf("%s: t.%s: a test that may not run proves nothing", src.place(n), sel.Sel.Name)
			}
			return true
		})
	}
}

func TestNothingIsLeftForLater(t *testing.T) {
	// Put together here, so that this file does not break its own rule.
	markers := regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"}, "|") + `)\b`)
	for _, path := range files(t, ".go", ".proto", ".md", ".sh", ".yml", ".yaml", "Makefile", ".ci/run", ".ci/fuzz") {
		for i, line := range strings.Split(read(t, path), "\n") {
			if found := markers.FindString(line); found != "" {
				t.Errorf("%s:%d: %s: do it, or write an issue", path, i+1, found)
			}
		}
	}
}

func TestEveryFuzzTargetHasACorpus(t *testing.T) {
	for _, src := range goSources(t) {
		if !src.test {
			continue
		}
		for _, decl := range src.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			corpus := src.dir + "/testdata/fuzz/" + fn.Name.Name
			entries, err := os.ReadDir(filepath.Join(root, corpus))
			if err != nil || len(entries) == 0 {
				t.Errorf("%s: %s has no committed corpus in %s: put its telling inputs there", src.place(fn), fn.Name.Name, corpus)
			}
		}
	}
}

func TestModuleFileIsPlain(t *testing.T) {
	mod := read(t, "go.mod")
	for _, directive := range []string{"replace", "exclude", "tool"} {
		if regexp.MustCompile(`(?m)^` + directive + `\b`).MatchString(mod) {
			t.Errorf("go.mod has a %s directive: what is built must be what others get; tools are pinned in internal/tools", directive)
		}
	}
}

func TestReadmeNamesTheTwoCommands(t *testing.T) {
	readme := read(t, "README.md")
	for _, command := range []string{"make run", "make test"} {
		if !strings.Contains(readme, command) {
			t.Errorf("README.md does not name `%s`", command)
		}
	}
}

func TestEveryMakeTargetExplainsItself(t *testing.T) {
	makefile := read(t, "Makefile")
	phony := regexp.MustCompile(`(?m)^\.PHONY: (\S+)$`).FindAllStringSubmatch(makefile, -1)
	if len(phony) == 0 {
		t.Fatal("found no target")
	}
	for _, target := range phony {
		if !regexp.MustCompile(`(?m)^` + target[1] + `:.* ## \S`).MatchString(makefile) {
			t.Errorf("make %s has no explanation for `make help`", target[1])
		}
	}
}

func TestChangelogIsOpen(t *testing.T) {
	if !strings.Contains(read(t, "CHANGELOG.md"), "\n## [Unreleased]\n") {
		t.Error("CHANGELOG.md has no Unreleased section to write the next change into")
	}
}
