package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// Prefix is the path below which everything but the page itself lies. The page
// names its files relative to itself, so that it works behind a proxy that
// serves weir below a path.
const Prefix = "/dashboard/"

// indexName is the file of the page.
const indexName = "index.html"

// policy is the Content-Security-Policy of every file: the page loads nothing
// but these files, calls nobody but weir, runs no script that stands in markup,
// and cannot be shown in a frame. Pictures in data: URLs are small icons in the
// style sheets.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

//go:embed static
var static embed.FS

// contentTypes are those of the files, by how their names end. They are not
// taken from the machine, whose own table may say anything.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is one file as it is served.
type file struct {
	content     []byte
	contentType string
	etag        string // strong: a digest of the content
}

// Site serves the dashboard's files. They hold no data of a weir: whoever can
// reach the port may have them. It holds no state and may be used by any number
// of goroutines.
type Site struct {
	files map[string]file // by path below static
}

// New reads the embedded files. Those that the page does not load (licences and
// notes) are left out.
func New() *Site {
	s := &Site{files: map[string]file{}}
	// An embedded tree is complete, or the program would not have been built.
	_ = fs.WalkDir(static, "static", func(name string, entry fs.DirEntry, err error) error {
		contentType, ok := contentTypes[path.Ext(name)]
		if err != nil || entry.IsDir() || !ok {
			return err
		}
		content, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(content)
		s.files[strings.TrimPrefix(name, "static/")] = file{
			content: content, contentType: contentType, etag: `"` + hex.EncodeToString(digest[:16]) + `"`,
		}
		return nil
	})
	return s
}

// WantsPage says whether the caller of / is a browser that wants a page, by its
// Accept header; programs such as curl send none that names HTML.
func WantsPage(r *http.Request) bool {
	for _, line := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			if mediaType, _, err := mime.ParseMediaType(part); err == nil && mediaType == "text/html" {
				return true
			}
		}
	}
	return false
}

// ServePage answers with the page.
func (s *Site) ServePage(w http.ResponseWriter, r *http.Request) { s.serve(w, r, indexName) }

// ServeHTTP answers with a file below Prefix.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, Prefix)
	if !ok || name == indexName {
		name = "" // the page has one address
	}
	s.serve(w, r, name)
}

// serve answers with a file, or says that there is none. Browsers ask each time
// whether their copy is still the one (no-cache), so that a new weir never runs
// with an old page.
func (s *Site) serve(w http.ResponseWriter, r *http.Request, name string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the dashboard's files can only be read", http.StatusMethodNotAllowed)
		return
	}
	f, ok := s.files[name]
	if !ok {
		http.Error(w, "no such file; the dashboard is at /", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
}
