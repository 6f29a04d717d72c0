package dashboard_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/proxy/admin/dashboard"
)

// maxLines is how long a file that people write may be.
const maxLines = 400

// get asks the site for a path.
func get(t *testing.T, method, target string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody)
	r.Header = header
	w := httptest.NewRecorder()
	if site := dashboard.New(); target == "/" {
		site.ServePage(w, r)
	} else {
		site.ServeHTTP(w, r)
	}
	return w
}

func TestEveryFileHasItsTypeAndThePolicy(t *testing.T) {
	for target, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/dashboard/main.js": "text/javascript; charset=utf-8",
		"/dashboard/views/cases.js": "text/javascript; charset=utf-8", "/dashboard/base.css": "text/css; charset=utf-8",
		"/dashboard/icon.svg": "image/svg+xml", "/dashboard/uplot/uPlot.esm.js": "text/javascript; charset=utf-8",
	} {
		w := get(t, http.MethodGet, target, nil)
		h := w.Result().Header
		if w.Code != http.StatusOK || h.Get("Content-Type") != contentType || w.Body.Len() == 0 {
			t.Errorf("%s: status %d, type %q, %d bytes", target, w.Code, h.Get("Content-Type"), w.Body.Len())
		}
		for _, directive := range []string{
			"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "img-src 'self' data:;",
			"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'",
		} {
			if !strings.Contains(h.Get("Content-Security-Policy"), directive) {
				t.Errorf("%s: the policy %q lacks %s", target, h.Get("Content-Security-Policy"), directive)
			}
		}
		if h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: headers %v", target, h)
		}
	}
}

func TestACopyThatIsTheSameIsNotSentAgain(t *testing.T) {
	first := get(t, http.MethodGet, "/dashboard/main.js", nil)
	etag := first.Header().Get("ETag")
	if etag == "" {
		t.Fatal("no ETag")
	}
	again := get(t, http.MethodGet, "/dashboard/main.js", http.Header{"If-None-Match": {etag}})
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("the same copy: status %d, %d bytes", again.Code, again.Body.Len())
	}
	other := get(t, http.MethodGet, "/dashboard/main.js", http.Header{"If-None-Match": {`"another"`}})
	if other.Code != http.StatusOK {
		t.Errorf("another copy: status %d", other.Code)
	}
}

func TestFilesCanOnlyBeRead(t *testing.T) {
	head := get(t, http.MethodHead, "/dashboard/main.js", nil)
	if head.Code != http.StatusOK || head.Body.Len() != 0 {
		t.Errorf("HEAD: status %d, %d bytes", head.Code, head.Body.Len())
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		w := get(t, method, "/dashboard/main.js", nil)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: status %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
	for _, target := range []string{"/dashboard/", "/dashboard/index.html", "/dashboard/nothing.js", "/dashboard/uplot/LICENSE", "/dashboard/../dashboard.go"} {
		if w := get(t, http.MethodGet, target, nil); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", target, w.Code)
		}
	}
}

func TestOnlyBrowsersGetThePage(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/plain": false,
		"text/html": true, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Accept", accept)
		if got := dashboard.WantsPage(r); got != want {
			t.Errorf("Accept %q: page %t, want %t", accept, got, want)
		}
	}
}

// sources reads the files that people write, by path in static.
func sources(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS("static"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(name, "uplot/") {
			return err
		}
		text, err := os.ReadFile(filepath.Join("static", filepath.FromSlash(name)))
		found[name] = string(text)
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("read static: %d files, %v", len(found), err)
	}
	return found
}

func TestSourcesAreShortAndSaySomethingOfThemselves(t *testing.T) {
	for name, text := range sources(t) {
		if lines := strings.Count(text, "\n"); lines > maxLines {
			t.Errorf("%s has %d lines, want at most %d", name, lines, maxLines)
		}
		switch path.Ext(name) {
		case ".js":
			if !strings.HasPrefix(text, "// ") {
				t.Errorf("%s begins without a comment on what it is", name)
			}
		case ".css":
			if !strings.HasPrefix(text, "/* ") {
				t.Errorf("%s begins without a comment on what it is", name)
			}
		}
	}
}

func TestNoMarkupIsMadeFromText(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function|javascript:`)
	for name, text := range sources(t) {
		if path.Ext(name) == ".js" {
			if found := forbidden.FindString(text); found != "" {
				t.Errorf("%s uses %s: make elements with h() of dom.js", name, found)
			}
		}
	}
}

func TestNothingIsLoadedFromElsewhere(t *testing.T) {
	// The name space of SVG is an identifier; nothing is loaded from there.
	url := regexp.MustCompile(`https?://[\w.]+|//[\w-]+\.[\w.]+/`)
	for name, text := range sources(t) {
		for _, found := range url.FindAllString(text, -1) {
			if found != "http://www.w3.org" && !strings.HasPrefix(found, "http://${") {
				t.Errorf("%s names %s", name, found)
			}
		}
	}
	page := sources(t)["index.html"]
	if found := regexp.MustCompile(`(?i)<style|\sstyle=|\son\w+=|<script>`).FindString(page); found != "" {
		t.Errorf("index.html has %q inline, which the policy forbids", found)
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1) {
		if w := get(t, http.MethodGet, "/"+m[1], nil); w.Code != http.StatusOK {
			t.Errorf("index.html loads %s: status %d", m[1], w.Code)
		}
	}
}

func TestTheChartLibraryIsAsItsAuthorsReleasedIt(t *testing.T) {
	notes, err := os.ReadFile("static/uplot/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uPlot.esm.js", "uPlot.min.css", "LICENSE"} {
		content, err := os.ReadFile("static/uplot/" + name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if row := "| `" + name + "` | `" + hex.EncodeToString(sum[:]) + "` |"; !strings.Contains(string(notes), row) {
			t.Errorf("README.md does not have the row %s", row)
		}
	}
}
