package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// recordingRegistry remembers the description of every metric registered,
// also of those that have no value yet and are not gathered.
type recordingRegistry struct {
	*prometheus.Registry
	descs []string
}

func (r *recordingRegistry) Register(c prometheus.Collector) error {
	r.record(c)
	return r.Registry.Register(c)
}

func (r *recordingRegistry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		r.record(c)
	}
	r.Registry.MustRegister(cs...)
}

func (r *recordingRegistry) record(c prometheus.Collector) {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for d := range descs {
		r.descs = append(r.descs, d.String())
	}
}

var descPattern = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)

const metricsPage = "../../docs/metrics.md"

const metricsHead = `# Metrics

What ` + "`/metrics`" + ` on the admin port shows, in Prometheus' text format, besides Go's
and the process's own metrics. Generated: run ` + "`go test ./cmd/weir -update`" + ` after a
change.

| metric | labels | what it is |
|---|---|---|
`

// TestMetricsPageIsCurrent compares docs/metrics.md with what a running weir
// registers.
func TestMetricsPageIsCurrent(t *testing.T) {
	s, err := loadSettings(configInput{
		flags: map[string]string{
			"grpc_addr": "127.0.0.1:0", "http_addr": "127.0.0.1:0", "admin_addr": "127.0.0.1:0",
			"data_dir": filepath.Join(t.TempDir(), "data"), "upstream": "http://127.0.0.1:9",
		},
		getenv: func(string) string { return "" },
		cwd:    t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := &recordingRegistry{Registry: prometheus.NewRegistry()}
	w, err := startWeirWith(t.Context(), s, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, d := range registry.descs {
		m := descPattern.FindStringSubmatch(d)
		if len(m) == 0 || !strings.HasPrefix(m[1], "weir_") {
			continue
		}
		labels := strings.ReplaceAll(m[3], ",", ", ")
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", "`"+m[1]+"`", labels, strings.ReplaceAll(m[2], `\"`, `"`)))
	}
	if len(rows) < 10 {
		t.Fatalf("only %d metrics found; has the form of prometheus.Desc changed?", len(rows))
	}
	slices.Sort(rows)
	page := metricsHead + strings.Join(slices.Compact(rows), "")
	if *update {
		if err := os.WriteFile(metricsPage, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page); diff != "" {
		t.Errorf("docs/metrics.md is not current, run go test ./cmd/weir -update (-page +binary):\n%s", diff)
	}
}
