package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// What deploy/ has for Prometheus and Grafana, by this package's directory.
const (
	dashboardFile   = "../../deploy/grafana/weir.json"
	expressionsFile = "../../deploy/grafana/expressions.rules.yaml"
	alertsFile      = "../../deploy/prometheus/weir-alerts.yaml"
	alertTestsFile  = "../../deploy/prometheus/weir-alerts.test.yaml"
	monitoringPage  = "../../docs/monitoring.md"
)

// dashboard is what a test wants to know of a Grafana dashboard.
type dashboard struct {
	UID           string `json:"uid"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			RefID      string `json:"refId"`
			Expr       string
			Datasource struct{ UID string }
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readText(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return d
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+": "+v.Type)
	}
	if diff := cmp.Diff([]string{"datasource: datasource", "instance: query"}, variables); diff != "" || d.UID != "weir" || d.SchemaVersion < 36 {
		t.Errorf("uid %q, schema %d, variables (-want +got):\n%s", d.UID, d.SchemaVersion, diff)
	}
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for i := range d.Panels {
		p := &d.Panels[i]
		if p.ID == 0 || ids[p.ID] || p.Title == "" || titles[p.Title] {
			t.Errorf("panel %d %q: want an id and a title of its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q goes beyond the right edge", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, there := taken[[2]int{x, y}]; there {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			if target.RefID == "" || target.Datasource.UID != "${datasource}" || !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("panel %q: %q does not follow the variables", p.Title, target.Expr)
			}
		}
	}
}

// metricPattern finds metrics of weir in PromQL, with their selector.
var metricPattern = regexp.MustCompile(`(weir_[a-z0-9_]+)(?:\{([^}]*)\})?`)

// unknownIn lists what an expression names that weir does not have. The grammar
// of expressions is checked by promtool (make alerts-test).
func unknownIn(expr string, rows map[string]metricRow) (out []string) {
	for _, m := range metricPattern.FindAllStringSubmatch(expr, -1) {
		row, ok := rows[m[1]]
		histogram := false
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(m[1], suffix); !ok && cut {
				row, ok = rows[base]
				ok = ok && row.kind == "histogram"
				histogram = ok
			}
		}
		if !ok || (row.kind == "histogram" && !histogram) {
			out = append(out, m[1])
			continue
		}
		labels := append(strings.Split(row.labels, ", "), "instance", "job", "le")
		for _, l := range regexp.MustCompile(`([a-z_]+)\s*(?:=~|!=|!~|=)\s*"`).FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, l[1]) {
				out = append(out, m[1]+" by "+l[1])
			}
		}
	}
	return out
}

func TestDashboardShowsWhatThereIs(t *testing.T) {
	_, registry := startRecorded(t)
	d := readDashboard(t)
	var expressions strings.Builder
	expressions.WriteString("# The expressions of weir.json for promtool. Generated: go test ./cmd/weir -update\ngroups:\n  - name: dashboard\n    rules:\n")
	for i := range d.Panels {
		for _, target := range d.Panels[i].Targets {
			for _, unknown := range unknownIn(target.Expr, registry.rows) {
				t.Errorf("panel %q: there is no %s", d.Panels[i].Title, unknown)
			}
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
			fmt.Fprintf(&expressions, "      - record: dashboard:panel_%d:%s\n        expr: %q\n", d.Panels[i].ID, strings.ToLower(target.RefID), expr)
		}
	}
	if *update {
		if err := os.WriteFile(expressionsFile, []byte(expressions.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(readText(t, expressionsFile), expressions.String()); diff != "" {
		t.Errorf("%s is not current, run go test ./cmd/weir -update (-file +dashboard):\n%s", expressionsFile, diff)
	}
}

// TestAlertsAreExplainedAndTested: each alert looks at what there is, says what
// to do, is in docs/monitoring.md, and fires in a test of promtool's.
func TestAlertsAreExplainedAndTested(t *testing.T) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Expr        string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readText(t, alertsFile)), &file); err != nil {
		t.Fatal(err)
	}
	_, registry := startRecorded(t)
	page, tests := readText(t, monitoringPage), readText(t, alertTestsFile)
	seen := map[string]bool{}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if seen[r.Alert] || r.Alert == "" {
				t.Errorf("alert %q: there are two", r.Alert)
			}
			seen[r.Alert] = true
			for _, unknown := range unknownIn(r.Expr, registry.rows) {
				t.Errorf("%s: there is no %s", r.Alert, unknown)
			}
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || !strings.HasSuffix(r.Annotations["description"], ".") {
				t.Errorf("%s: summary %q, description %q", r.Alert, r.Annotations["summary"], r.Annotations["description"])
			}
			if want := "docs/monitoring.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want || !strings.Contains(page, "\n### "+r.Alert+"\n") {
				t.Errorf("%s: runbook %q, want %s and a section there", r.Alert, r.Annotations["runbook"], want)
			}
			if !strings.Contains(tests, fmt.Sprintf("'{alertname=%q}'", r.Alert)) {
				t.Errorf("%s fires in no test of %s", r.Alert, alertTestsFile)
			}
		}
	}
	if len(seen) < 12 {
		t.Fatalf("found only %d alerts", len(seen))
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Weir\w+)$`).FindAllStringSubmatch(page, -1) {
		if !seen[m[1]] {
			t.Errorf("docs/monitoring.md explains %s, which there is not", m[1])
		}
	}
}

func TestUnknownMetricsAndLabelsAreFound(t *testing.T) {
	rows := map[string]metricRow{"weir_a_total": {kind: "counter", labels: "reason"}, "weir_b_seconds": {kind: "histogram"}}
	for expr, want := range map[string][]string{
		`rate(weir_a_total{reason="x", instance=~"$instance"}[5m])`: nil,
		`rate(weir_b_seconds_bucket{le="1"}[5m])`:                   nil,
		`weir_c`:                            {"weir_c"},
		`weir_a_total{cause!="x"}`:          {"weir_a_total by cause"},
		`weir_b_seconds + weir_a_total_sum`: {"weir_b_seconds", "weir_a_total_sum"},
	} {
		if diff := cmp.Diff(want, unknownIn(expr, rows)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", expr, diff)
		}
	}
}
