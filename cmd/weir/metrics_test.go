package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"weir/queue"
)

// metricRow is one metric as docs/metrics.md has it.
type metricRow struct{ name, kind, labels, help string }

func (m *metricRow) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s |\n", "`"+m.name+"`", m.kind, m.labels, m.help)
}

// recordingRegistry remembers the description of every metric registered,
// also of those that have no value yet and are not gathered.
type recordingRegistry struct {
	*prometheus.Registry

	rows map[string]metricRow
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

// descPattern reads what prometheus.Desc does not give otherwise.
var descPattern = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

func (r *recordingRegistry) record(c prometheus.Collector) {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for d := range descs {
		m := descPattern.FindStringSubmatch(d.String())
		if len(m) == 0 || !strings.HasPrefix(m[1], "weir_") {
			continue
		}
		var labels []string
		for _, list := range []string{m[3], m[4]} {
			for label := range strings.SplitSeq(list, ",") {
				if name, _, _ := strings.Cut(label, "="); name != "" {
					labels = append(labels, name)
				}
			}
		}
		r.rows[m[1]] = metricRow{
			name: m[1], kind: kindOf(c, m[1]), labels: strings.Join(labels, ", "), help: strings.ReplaceAll(m[2], `\"`, `"`),
		}
	}
}

// kindOf is the type of a metric. Those that are made at the moment of a scrape
// go by their table, or by their name: the test compares it with what is scraped.
func kindOf(c prometheus.Collector, name string) string {
	switch c := c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	case *prometheus.HistogramVec:
		return "histogram"
	case prometheus.Metric:
		var m dto.Metric
		switch _ = c.Write(&m); {
		case m.Counter != nil:
			return "counter"
		case m.Histogram != nil:
			return "histogram"
		}
		return "gauge"
	}
	for _, m := range queue.Metrics() {
		if m.Name == name {
			return m.Type
		}
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

const metricsPage = "../../docs/metrics.md"

const metricsHead = `# Metrics

What ` + "`/metrics`" + ` on the admin port shows, in Prometheus' text format, besides Go's
and the process's own metrics. How to scrape it, a dashboard and alerts:
[monitoring](monitoring.md). Counts begin with the process where nothing else is
said; items are spans and run operations. Generated: run
` + "`go test ./cmd/weir -update`" + ` after a change.

| metric | type | labels | what it is |
|---|---|---|---|
`

// startRecorded starts a weir whose metrics are recorded.
func startRecorded(t *testing.T) (*weir, *recordingRegistry) {
	t.Helper()
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
	registry := &recordingRegistry{Registry: prometheus.NewRegistry(), rows: map[string]metricRow{}}
	w, err := startWeirWith(t.Context(), s, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return w, registry
}

// TestMetricsPageIsCurrent compares docs/metrics.md with what a running weir
// registers.
func TestMetricsPageIsCurrent(t *testing.T) {
	_, registry := startRecorded(t)
	if len(registry.rows) < 10 {
		t.Fatalf("only %d metrics found; has the form of prometheus.Desc changed?", len(registry.rows))
	}
	page := metricsHead
	for _, name := range slices.Sorted(maps.Keys(registry.rows)) {
		row := registry.rows[name]
		page += row.String()
	}
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

// TestScrapedMetricsAreAsDocumented reads /metrics of a running weir that has
// taken data, as a scraper does.
func TestScrapedMetricsAreAsDocumented(t *testing.T) {
	w, registry := startRecorded(t)
	postSpan(t, "http://"+string(w.at.HTTP))
	families := scrape(t, "http://"+string(w.at.Admin))
	if n := families["weir_queue_accepted_items_total"].GetMetric()[0].GetCounter().GetValue(); n != 1 {
		t.Errorf("%v items accepted, want the one that was sent", n)
	}
	if len(families) < 40 || families["weir_build_info"] == nil || families["weir_receive_duration_seconds"] == nil {
		t.Fatalf("only %d metrics of weir's own were scraped", len(families))
	}
	for name, f := range families {
		row, ok := registry.rows[name]
		if !ok {
			t.Errorf("%s is scraped, and was not registered", name)
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != row.kind || f.GetHelp() != row.help {
			t.Errorf("%s is a %s, %q; the page says %s, %q", name, kind, f.GetHelp(), row.kind, row.help)
		}
		want := strings.Split(row.labels, ", ")
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(want, l.GetName()) {
					t.Errorf("%s has the label %s; the page says %v", name, l.GetName(), want)
				}
			}
		}
	}
}

// TestMetricNamesAreAsPrometheusWants lints what is scraped, and what has no
// value yet by its description.
func TestMetricNamesAreAsPrometheusWants(t *testing.T) {
	w, registry := startRecorded(t)
	families := scrape(t, "http://"+string(w.at.Admin))
	for name, row := range registry.rows {
		if families[name] == nil {
			kind := dto.MetricType(dto.MetricType_value[strings.ToUpper(row.kind)])
			families[name] = &dto.MetricFamily{Name: &name, Help: &row.help, Type: &kind}
		}
		if row.help == "" || !strings.HasSuffix(row.help, ".") {
			t.Errorf("%s: its help is no sentence: %q", name, row.help)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(families))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// postSpan sends one span over OTLP/HTTP.
func postSpan(t *testing.T, base string) {
	t.Helper()
	const body = `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",` +
		`"spanId":"eee19b7ec3c1b174","name":"one","kind":1,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}`
	resp, err := http.Post(base+"/v1/traces", "application/json", strings.NewReader(body)) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("a span was answered with %s", resp.Status)
	}
}

// scrape reads weir's own metrics, by name.
func scrape(t *testing.T, base string) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(base + "/metrics") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "weir_") })
	return families
}
