package house_test

import (
	"strings"
	"testing"
)

// arrow forbids imports. Paths match whole or as the start of a longer path.
type arrow struct {
	in     []string // directories the rule is about, with those below
	except []string // directories it is not about, with those below
	not    []string // what may not be imported
	tests  bool     // test files too
	why    string
}

// arrows is the picture of docs/architecture.md, as prohibitions.
var arrows = []arrow{
	{
		in: []string{"."}, except: []string{"queue", "quota"}, tests: true,
		not: []string{"github.com/dgraph-io/badger"},
		why: "one seam to the store, which a test can make fail",
	},
	{
		in:  []string{"queue", "quota"},
		not: []string{"weir/proxy", "weir/cmd", "net/http", "google.golang.org/grpc", "connectrpc.com"},
		why: "the store knows neither the pipeline nor the network",
	},
	{in: []string{"queue"}, tests: true, not: []string{"weir/quota"}, why: "queue and quota do not know each other"},
	{in: []string{"quota"}, tests: true, not: []string{"weir/queue"}, why: "queue and quota do not know each other"},
	{in: []string{"quota/idmap"}, tests: true, not: []string{"weir"}, why: "a map of ids knows nothing of what they are counted for"},
	{in: []string{"quota/idmap"}, tests: true, not: []string{"github.com/dgraph-io/badger"}, why: "decision 9: sorted files of its own"},
	{
		in: []string{"."}, except: []string{"quota/ledgertest"},
		not: []string{"weir/quota/ledgertest"},
		why: "a contract's tests are for tests",
	},
	{
		in: []string{"."}, except: []string{"internal/certfile/certtest"},
		not: []string{"weir/internal/certfile/certtest"},
		why: "certificates made on the spot are for tests",
	},
	{
		in: []string{"quota/ledgertest"}, not: []string{"weir/quota/idmap"},
		why: "the contract of a ledger knows no ledger from inside",
	},
	{
		in: []string{"proxy"}, except: []string{"proxy/otlp", "proxy/langsmith", "proxy/native", "proxy/upstream", "proxy/admin"},
		not: []string{
			"weir/proxy/otlp", "weir/proxy/langsmith", "weir/proxy/native", "weir/proxy/upstream", "weir/proxy/admin",
			"google.golang.org/grpc", "connectrpc.com",
		},
		why: "adapters import the pipeline, never the other way round; transports are theirs",
	},
	{in: []string{"proxy/otlp"}, not: []string{"weir/proxy/langsmith", "weir/proxy/upstream", "weir/proxy/admin", "weir/queue"}, why: adapters},
	{in: []string{"proxy/langsmith"}, not: []string{"weir/proxy/otlp", "weir/proxy/upstream", "weir/proxy/admin", "weir/queue"}, why: adapters},
	{in: []string{"proxy/upstream"}, not: []string{"weir/proxy/otlp", "weir/proxy/langsmith", "weir/proxy/admin", "weir/queue"}, why: adapters},
	{in: []string{"proxy/native"}, not: []string{"weir/proxy/otlp", "weir/proxy/langsmith", "weir/proxy/upstream", "weir/proxy/admin", "weir/queue"}, why: adapters},
	{
		in:  []string{"proxy/runs"},
		not: []string{"weir/queue", "weir/quota", "weir/proto", "net/http", "google.golang.org/grpc", "connectrpc.com"},
		why: "the form of run operations is everybody's and depends on nobody",
	},
	{in: []string{"proxy/admin"}, not: []string{"weir/proxy/otlp", "weir/proxy/langsmith", "weir/proxy/upstream"}, why: adapters},
	{
		in: []string{"internal/smith"}, tests: true, not: []string{"weir/proxy", "weir/queue", "weir/quota"},
		why: "a look-alike that shares code with what it tests proves nothing",
	},
	{
		in: []string{"."}, except: []string{"cmd/weir"}, tests: true,
		not: []string{"github.com/goccy/go-yaml", "github.com/alecthomas/kong"},
		why: "only the program knows its command line and configuration file; packages have a Config",
	},
	{
		in: []string{"."}, tests: true,
		not: []string{"weir/cmd", "github.com/pkg/errors", "io/ioutil", "github.com/golang/protobuf", "github.com/stretchr/testify"},
		why: "nothing imports the program, and the standard library or a newer module replaced the others",
	},
}

const adapters = "adapters know the pipeline but neither each other nor the store; cmd/weir joins them"

// below says whether path is dir or under it.
func below(path string, dirs []string) bool {
	for _, dir := range dirs {
		if dir == "." || path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

func TestImportsFollowTheArrows(t *testing.T) {
	for _, src := range goSources(t) {
		for _, spec := range src.syntax.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if why := forbidden(src.dir, src.test, imported); why != "" {
				t.Errorf("%s imports %s: %s", src.place(spec), imported, why)
			}
			if imported == "log" || imported == "math/rand" {
				t.Errorf("%s imports %s: use log/slog and math/rand/v2", src.place(spec), imported)
			}
		}
	}
}

// forbidden says why a file in dir may not import a package, or nothing.
func forbidden(dir string, test bool, imported string) string {
	for _, rule := range arrows {
		if test && !rule.tests || !below(dir, rule.in) || below(dir, rule.except) {
			continue
		}
		if below(imported, rule.not) {
			return rule.why
		}
	}
	return ""
}

func TestArrowsForbidWhatTheyShould(t *testing.T) {
	for _, tc := range []struct {
		dir, imported string
		test          bool
		want          bool // may import
	}{
		{dir: "queue", imported: "github.com/dgraph-io/badger/v4", want: true},
		{dir: "proxy", imported: "github.com/dgraph-io/badger/v4"},
		{dir: "proxy", imported: "weir/queue", want: true},
		{dir: "queue", imported: "weir/quota"},
		{dir: "quota", imported: "weir/quota/ledgertest"},
		{dir: "quota", imported: "weir/quota/ledgertest", test: true, want: true},
		{dir: "quota/ledgertest", imported: "weir/quota", want: true},
		{dir: "quota/ledgertest", imported: "weir/quota/idmap"},
		{dir: "quota/ledgertest", imported: "weir/queue"},
		{dir: "queue", imported: "net/http"},
		{dir: "queue", imported: "net/http", test: true, want: true},
		{dir: "proxy", imported: "net/http", want: true},
		{dir: "proxy", imported: "weir/proxy/otlp"},
		{dir: "proxy/diagnose", imported: "weir/proxy/otlp"},
		{dir: "proxy/otlp", imported: "google.golang.org/grpc/codes", want: true},
		{dir: "proxy/otlp", imported: "weir/proxy", want: true},
		{dir: "proxy/otlp", imported: "weir/proxy/upstream"},
		{dir: "proxy/otlp", imported: "weir/queue"},
		{dir: "internal/smith/cmd/smith", imported: "weir/proxy/otlp"},
		{dir: "cmd/weir", imported: "github.com/goccy/go-yaml/ast", want: true},
		{dir: "internal/listen", imported: "github.com/alecthomas/kong"},
		{dir: "proxy/admin", imported: "weir/cmd/weir"},
		{dir: "quota", imported: "weir/quota/idmap", want: true},
		{dir: "quota/idmap", imported: "weir/quota"},
		{dir: "quota/idmap", imported: "golang.org/x/sys/unix", want: true},
	} {
		if got := forbidden(tc.dir, tc.test, tc.imported) == ""; got != tc.want {
			t.Errorf("%s may import %s (test: %t): %t, want %t", tc.dir, tc.imported, tc.test, got, tc.want)
		}
	}
}
