package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository, seen from this package's directory.
const root = "../.."

// source is one Go file of weir's own module.
type source struct {
	path      string // from the root, with slashes
	dir       string // likewise; "." is the root
	text      string
	syntax    *ast.File
	position  *token.FileSet
	generated bool
	test      bool
}

// place names a node's file and line.
func (s *source) place(n ast.Node) string {
	return s.path + ":" + s.position.Position(n.Pos()).String()[len(s.path)+1:]
}

// goSources parses every Go file of the module, in order of path.
func goSources(t *testing.T) []*source {
	t.Helper()
	var others []string // modules inside, with dependencies and rules of their own
	for _, path := range files(t, "/go.mod") {
		others = append(others, filepath.ToSlash(filepath.Dir(path)))
	}
	var all []*source
	for _, path := range files(t, ".go") {
		if strings.Contains(path, "/testdata/") || below(path, others) {
			continue
		}
		text := read(t, path)
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &source{
			path: path, dir: filepath.ToSlash(filepath.Dir(path)), text: text, syntax: syntax, position: set,
			generated: ast.IsGenerated(syntax), test: strings.HasSuffix(path, "_test.go"),
		})
	}
	if len(all) < 10 {
		t.Fatalf("found %d Go files; is the root still %s?", len(all), root)
	}
	return all
}

// files lists the repository's files whose names end in one of endings.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "node_modules", ".venv", "data"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if slices.ContainsFunc(endings, func(end string) bool { return strings.HasSuffix(path, end) }) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
