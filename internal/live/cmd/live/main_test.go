package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/live"
	"weir/internal/smith"
)

func TestAnswersArePrintedAndKept(t *testing.T) {
	const key = "lsv2_pt_live_0000000000000000"
	s := smith.New(smith.Config{Keys: map[string]smith.Key{key: {}}})
	front := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		front.Close()
	})
	env := map[string]string{"LANGSMITH_ENDPOINT": front.URL, "LANGSMITH_API_KEY": key}
	file := filepath.Join(t.TempDir(), "answers.json")
	var out bytes.Buffer
	err := ask(t.Context(), []string{"--out", file, "--project", "p", "--patience", "100ms", "--pause", "5ms"},
		func(name string) string { return env[name] }, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report live.Report
	if err := json.Unmarshal(raw, &report); err != nil || len(report.Answers) < 20 || report.Traces == 0 {
		t.Errorf("%d answers, %d traces, %v", len(report.Answers), report.Traces, err)
	}
	for _, a := range report.Answers {
		if !strings.Contains(out.String(), "\n"+a.ID+" ") {
			t.Errorf("%s is not in the table", a.ID)
		}
	}
	if !strings.Contains(out.String(), "of the 20 allowed") || strings.Contains(out.String()+string(raw), key) {
		t.Errorf("output:\n%s", &out)
	}
	for _, span := range s.Spans() {
		if span.Project != "p" {
			t.Errorf("a span of project %q", span.Project)
		}
	}
}

func TestNoKeyIsRefusedWithASentence(t *testing.T) {
	var out bytes.Buffer
	file := filepath.Join(t.TempDir(), "live.json")
	err := ask(t.Context(), []string{"--out", file}, func(string) string { return "" }, &out)
	if err == nil || !strings.Contains(err.Error(), "LANGSMITH_API_KEY is not set") || out.Len() > 0 {
		t.Errorf("%v, output %q", err, &out)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written")
	}
}
