package doctor

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"weir/internal/smith"
	"weir/proxy/diagnose"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	goodKey  = "lsv2_pt_0123456789abcdef0123456789abcdef_fedcba98yz"
	orgKey   = "lsv2_sk_0123456789abcdef0123456789abcdef_fedcba98org"
	otherOne = "11111111-2222-4333-8444-555555555555"
)

// newConfig is a sound weir on this machine whose endpoint is url.
func newConfig(t *testing.T, url string) Config {
	t.Helper()
	return Config{
		Summary:  "no configuration file",
		Endpoint: Value{Text: url, From: "environment variable LANGSMITH_ENDPOINT"},
		Key:      Value{Text: goodKey, From: "environment variable LANGSMITH_API_KEY"},
		DataDir:  t.TempDir(), BufferMaxBytes: 16 << 20, MaxConnections: 1,
		Environ: []string{"LANGSMITH_API_KEY=" + goodKey, "LANGSMITH_ENDPOINT=" + url}, Version: "1.2.3",
	}
}

// newSmith serves a look-alike and returns its URL.
func newSmith(t *testing.T, cfg smith.Config) (*smith.Server, string) {
	t.Helper()
	s := smith.New(cfg)
	ts := httptest.NewServer(s)
	t.Cleanup(func() { ts.Close(); _ = s.Close() })
	return s, ts.URL
}

// serve serves a handler and returns its URL.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	ts := httptest.NewServer(handler)
	t.Cleanup(ts.Close)
	return ts.URL
}

// occupy listens on an address and returns where, until the test ends.
func occupy(t *testing.T, network, addr string) string {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// findings are what a run reported, by name.
type findings struct {
	t   *testing.T
	all []Check
}

// examine runs all checks.
func examine(t *testing.T, cfg Config) findings {
	t.Helper()
	f := findings{t: t}
	if err := Run(t.Context(), cfg, func(c Check) { f.all = append(f.all, c) }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f findings) get(name string) Check {
	f.t.Helper()
	for _, c := range f.all {
		if c.Name == name {
			return c
		}
	}
	f.t.Fatalf("no check %s among %+v", name, f.all)
	return Check{}
}

// wants asserts what a check found: its cause, whether it is OK, and that it
// says all of says.
func (f findings) wants(name string, ok bool, cause diagnose.Code, says ...string) {
	f.t.Helper()
	c := f.get(name)
	if c.OK != ok || c.Cause != cause || c.Skipped {
		f.t.Errorf("%s = %+v, want ok: %v, cause %q", name, c, ok, cause)
	}
	for _, s := range says {
		if !strings.Contains(c.Seen+"\n"+c.Remedy, s) {
			f.t.Errorf("%s = %+v, want it to say %q", name, c, s)
		}
	}
	if !ok && c.Remedy == "" {
		f.t.Errorf("%s has no remedy", name)
	}
}

// skipped asserts that checks were skipped because of another one.
func (f findings) skipped(because string, names ...string) {
	f.t.Helper()
	for _, name := range names {
		if c := f.get(name); !c.Skipped || !c.OK || !strings.Contains(c.Seen, because) {
			f.t.Errorf("%s = %+v, want it skipped because of %q", name, c, because)
		}
	}
}

// bad lists the checks that need a person.
func (f findings) bad() (names []string) {
	for _, c := range f.all {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return names
}

// witness records what requests a server got.
type witness struct {
	mu       sync.Mutex
	requests []*http.Request
}

func (w *witness) wrap(next http.Handler) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Clone(r.Context()))
		w.mu.Unlock()
		next.ServeHTTP(rw, r)
	}
}

func (w *witness) all() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}
