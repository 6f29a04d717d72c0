package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"text/template"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/proxy/admin/dashboard"
)

// scrapeTimeout and maxScrapes bound what scrapers can make weir do at once.
const (
	scrapeTimeout = 10 * time.Second
	maxScrapes    = 4
)

// routes is everything on the admin port. What tells or changes something of
// this weir is behind the token; the dashboard's files hold no data, and a
// browser could not send the token for them.
func (s *Server) routes(src Source, gate *gate) http.Handler {
	private := http.NewServeMux()
	s.registerService(private, src)
	private.Handle("GET /metrics", s.metricsHandler())
	private.HandleFunc("GET /{$}", s.serveIndex)
	private.HandleFunc("/", serveNotFound)

	mux := http.NewServeMux()
	registerProbes(mux, src)
	site, guarded := dashboard.New(), gate.wrap(private)
	mux.Handle(dashboard.Prefix, site)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept")
		if dashboard.WantsPage(r) {
			site.ServePage(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
	mux.Handle("/", guarded)
	return mux
}

// metricsRoutes is what the metrics port has, for anyone who reaches it.
func (s *Server) metricsRoutes(src Source) http.Handler {
	mux := http.NewServeMux()
	registerProbes(mux, src)
	mux.Handle("GET /metrics", s.metricsHandler())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusNotFound, "not found; this port has /metrics, /healthz and /readyz\n")
	})
	return mux
}

// registerProbes adds the health endpoints to mux.
func registerProbes(mux *http.ServeMux, src Source) {
	mux.HandleFunc("GET /healthz", serveHealth)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { serveReady(w, r, src) })
}

// metricsHandler serves the metrics for Prometheus. A metric that cannot be
// gathered is logged and left out, so that one fault does not hide the rest.
func (s *Server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	})
}

// serveHealth answers as long as the process can answer at all.
func serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

// serveReady says whether weir takes exports, and why not, as text or, where
// Accept asks for it, as JSON.
func serveReady(w http.ResponseWriter, r *http.Request, src Source) {
	ready, reasons := src.Ready()
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Add("Vary", "Accept")
	if acceptsJSON(r) {
		writeJSON(w, status, struct {
			Ready   bool     `json:"ready"`
			Reasons []string `json:"reasons"`
		}{ready, append([]string{}, reasons...)})
		return
	}
	var b strings.Builder
	if ready {
		b.WriteString("ready\n")
	} else {
		b.WriteString("not ready\n")
	}
	for _, reason := range reasons {
		b.WriteString("- " + reason + "\n")
	}
	writeText(w, status, b.String())
}

// indexPage is what a person sees who opens the port without a browser.
var indexPage = template.Must(template.New("index").Parse(`weir {{.Version}}, local administration
{{if .Token}}
Every path but /healthz, /readyz and the dashboard's files needs the header: Authorization: Bearer TOKEN
{{end}}
  /          the dashboard, in a browser
  /healthz   200 while the process runs
  /readyz    200 while exports are taken, else 503 and why; JSON with Accept: application/json
  /metrics   Prometheus metrics
  /weir.v1.AdminService/   the admin API: gRPC with reflection, Connect, and JSON:
{{if .Socket}}
    curl --unix-socket {{.Socket}} -H 'Content-Type: application/json' -d '{}' http://localhost/weir.v1.AdminService/GetStatus
    weir status --admin-addr unix:{{.Socket}}
{{else}}
    curl -H 'Content-Type: application/json' -d '{}' http://{{.Host}}/weir.v1.AdminService/GetStatus
    grpcurl -plaintext {{.Host}} list
    weir status --admin-addr {{.Host}}
{{end}}`))

// serveIndex lists what the port has, with commands to paste.
func (s *Server) serveIndex(w http.ResponseWriter, r *http.Request) {
	page := struct {
		Version, Host, Socket string
		Token                 bool
	}{Version: s.cfg.Version, Token: s.cfg.Token != "", Host: r.Host}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); ok {
		page.Socket = local.Name
	}
	var b strings.Builder
	if err := indexPage.Execute(&b, page); err != nil {
		s.log.ErrorContext(r.Context(), "index page", slog.Any("error", err))
		writeText(w, http.StatusInternalServerError, "the page could not be made; weir's log says why\n")
		return
	}
	writeText(w, http.StatusOK, b.String())
}

// serveNotFound answers paths that do not exist, and existing ones asked with
// another method.
func serveNotFound(w http.ResponseWriter, r *http.Request) {
	writeText(w, http.StatusNotFound, fmt.Sprintf("nothing answers %s %.100q; see / for what this port has\n", r.Method, r.URL.Path))
}

// acceptsJSON says whether the caller names JSON among the types it takes.
func acceptsJSON(r *http.Request) bool {
	for _, line := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			if mediaType, _, err := mime.ParseMediaType(part); err == nil && mediaType == "application/json" {
				return true
			}
		}
	}
	return false
}

// writeText and writeJSON answer with something that is never cached and
// never taken for a page.

func writeText(w http.ResponseWriter, status int, body string) {
	writeHeader(w, status, "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, body) // the caller is gone: nobody to tell
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	writeHeader(w, status, "application/json")
	_ = json.NewEncoder(w).Encode(body) // as above
}

func writeHeader(w http.ResponseWriter, status int, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
}
