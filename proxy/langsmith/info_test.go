package langsmith

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scripted answers as it is told.
type scripted func(r *http.Request) (*http.Response, error)

func (s scripted) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func says(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func infoOf(t *testing.T, s *stage) map[string]any {
	t.Helper()
	w := s.send(t, "GET", "/api/v1/info", nil, nil)
	var info map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &info); err != nil || w.Code != http.StatusOK {
		t.Fatalf("status %d: %v: %s", w.Code, err, w.Body)
	}
	return info
}

// ingest is what an SDK goes by when weir has no limits of its own.
func ingest(limit, limitBytes float64) map[string]any {
	return map[string]any{
		"use_multipart_endpoint": true, "size_limit": limit, "size_limit_bytes": limitBytes,
		"scale_up_qsize_trigger": 1000.0, "scale_up_nthreads_limit": 16.0, "scale_down_nempty_trigger": 4.0,
	}
}

func TestInfoMirrorsTheUpstreamWithWhatWeirTakes(t *testing.T) {
	t.Parallel()
	flags := map[string]any{"zstd_compression_enabled": true, "gzip_body_enabled": true}
	defaults := map[string]any{"version": "0.16.14", "instance_flags": flags, "batch_ingest_config": ingest(100, 20<<20)}
	for name, tc := range map[string]struct {
		status int
		body   string
		want   map[string]any
	}{
		"as it is": {200, `{"version":"0.20.1","git_sha":"abc","instance_flags":{"zstd_compression_enabled":false,"dataset_examples_multipart_enabled":true},
			"batch_ingest_config":{"use_multipart_endpoint":false,"size_limit":50,"size_limit_bytes":1000000}}`, map[string]any{
			"version": "0.20.1", "git_sha": "abc",
			"instance_flags":      map[string]any{"zstd_compression_enabled": true, "gzip_body_enabled": true, "dataset_examples_multipart_enabled": true},
			"batch_ingest_config": ingest(50, 1_000_000),
		}},
		"limits above weir's": {200, `{"version":"1","batch_ingest_config":{"size_limit":1000000,"size_limit_bytes":1e12}}`, map[string]any{
			"version": "1", "instance_flags": flags, "batch_ingest_config": ingest(10_000, 31<<20),
		}},
		"limits that are none": {200, `{"version":"1","batch_ingest_config":{"size_limit":"many","size_limit_bytes":-1},"instance_flags":null}`, map[string]any{
			"version": "1", "instance_flags": flags, "batch_ingest_config": ingest(100, 20<<20),
		}},
		"an error":          {500, `{"version":"1"}`, defaults},
		"a page":            {200, `<html>`, defaults},
		"null":              {200, `null`, defaults},
		"flags of no shape": {200, `{"instance_flags":7}`, defaults},
		"far too much":      {200, `{"version":"` + strings.Repeat("1", maxInfoBytes) + `"}`, defaults},
	} {
		var path atomic.Value
		s := newStage(t, Config{Upstream: Upstream{BaseURL: "https://h.example/api/v1", Transport: scripted(func(r *http.Request) (*http.Response, error) {
			path.Store(r.URL.String())
			return says(tc.status, tc.body)
		})}})
		if diff := cmp.Diff(tc.want, infoOf(t, s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if path.Load() != "https://h.example/api/v1/info" {
			t.Errorf("%s: asked %s", name, path.Load())
		}
	}
}

func TestInfoIsAskedOnceAMinuteAndSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, version := 0, "0.1"
		h, err := New(Config{Upstream: Upstream{BaseURL: "https://h.example", Transport: scripted(func(r *http.Request) (*http.Response, error) {
			asked++
			if version == "" { // hanging
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return says(200, `{"version":"`+version+`"}`)
		})}}, &fakeSink{}, &fakeSpooler{})
		if err != nil {
			t.Fatal(err)
		}
		s := &stage{Handler: h}
		is := func(want string, asks int) {
			t.Helper()
			began := time.Now()
			if got := infoOf(t, s)["version"]; got != want {
				t.Errorf("version %v, want %s", got, want)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("it took %s", took)
			}
			synctest.Wait()
			if asked != asks {
				t.Errorf("the upstream was asked %d times, want %d", asked, asks)
			}
		}
		is("0.1", 1)
		version = "0.2"
		is("0.1", 1)
		<-time.After(infoEvery)
		is("0.1", 2) // the answer that is old, while a new one is fetched
		is("0.2", 2)
		version = ""
		<-time.After(infoEvery)
		is("0.2", 3)
		<-time.After(infoBudget)
		is("0.2", 3)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		<-time.After(infoEvery)
		is("0.2", 3)
	})
}

func TestInfoDoesNotWaitForAnUpstreamThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Upstream: Upstream{BaseURL: "https://h.example", Transport: scripted(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}, &fakeSink{}, &fakeSpooler{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if got := infoOf(t, &stage{Handler: h})["version"]; got != "0.16.14" {
			t.Errorf("version %v", got)
		}
		if took := time.Since(began); took != infoWait {
			t.Errorf("it took %s, want %s", took, infoWait)
		}
		infoOf(t, &stage{Handler: h}) // while the fetch is under way
		if took := time.Since(began); took != infoWait {
			t.Errorf("the next one took %s more", took-infoWait)
		}
		if err := h.Close(); err != nil { // ends the fetch
			t.Error(err)
		}
		if took := time.Since(began); took != infoWait {
			t.Errorf("closing took %s", took-infoWait)
		}
	})
}
