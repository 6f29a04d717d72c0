package langsmith

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIngestPathsAreTakenWithEveryPrefix(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"https://h.example", "https://h.example/api/v1", "https://h.example/base/api/v1/"} {
		for _, prefix := range []string{"", "/api", "/api/v1", "/", "//api//v1", "/base/api/v1"} {
			if strings.HasPrefix(prefix, "/base") && !strings.Contains(base, "/base") {
				continue
			}
			for _, end := range []string{"", "/", "?x=y"} {
				s := newStage(t, Config{Upstream: Upstream{BaseURL: base}})
				for path, want := range map[string]string{
					"/runs/batch":              "POST",
					"/runs":                    "POST",
					"//runs":                   "POST",
					"/runs/" + idText(1):       "PATCH",
					"/feedback":                "POST",
					"/feedback/" + idText(1):   "PATCH",
					"/feedback/" + "something": "PATCH",
				} {
					target := prefix + path + end
					if w := s.send(t, want, target, nil, strings.NewReader(`{}`)); w.Code != http.StatusAccepted {
						t.Errorf("base %s: %s %s: status %d: %s", base, want, target, w.Code, w.Body)
					}
				}
			}
		}
	}
}

func TestOtherMethodsAndPaths(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	for _, tc := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/runs/multipart", 405},
		{"PUT", "/runs/batch", 405},
		{"POST", "/info", 405},
		{"GET", "/api/v1/info/", 200},
		{"HEAD", "/info", 200},
		{"POST", "/v1/metrics", 404},
		{"POST", "/v1/logs", 404},
		{"POST", "/otel/v1/logs/", 404},
		{"POST", "/api/v1/otel/v1/metrics", 404},
		{"PATCH", "/runs/mine", 422},
		{"GET", "/runs", 502}, // passed on, to nobody
		{"GET", "/runs/" + idText(1), 502},
		{"POST", "/runs/query", 502},
		{"PATCH", "/runs/" + idText(1) + "/share", 502},
		{"DELETE", "/feedback/" + idText(1), 502},
		{"POST", "/feedback/tokens", 502},
		{"GET", "/v1/platform/things", 502},
		{"POST", "/RUNS", 502},
		{"GET", "/", 502},
	} {
		w := s.send(t, tc.method, tc.target, nil, strings.NewReader("{}"))
		if w.Code != tc.status {
			t.Errorf("%s %s: status %d: %s", tc.method, tc.target, w.Code, w.Body)
		}
		if tc.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: it is not said what would be right", tc.method, tc.target)
		}
	}
	if w := s.send(t, "POST", "/v1/metrics", nil, nil); !strings.Contains(errorOf(t, w), "traces only") {
		t.Errorf("%s", w.Body)
	}
}

func TestBatchBecomesOperations(t *testing.T) {
	t.Parallel()
	with := func(n int, member string) string { return strings.Replace(runObject(n), "{", "{"+member+",", 1) }
	s := newStage(t, Config{})
	body := fmt.Sprintf(` {"post":[%s, %s ],"other":{"a":[1]},"patch":[%s]} `, with(1, `"inputs":{"a":1}`), runObject(2), with(1, `"outputs":[2],"error":null`))
	if w := s.send(t, "POST", "/runs/batch", map[string]string{"Content-Encoding": "zstd"}, strings.NewReader(string(compress(t, "zstd", []byte(body))))); w.Code != http.StatusAccepted {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	e := s.sink.only(t)
	if diff := cmp.Diff([]string{`post 1 of 1 inputs={"a":1}`, "post 2 of 1", "patch 1 of 1 outputs=[2]"}, told(e.ops)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if string(e.ops[0].Body) != runObject(1) || len(e.TraceIDs) != 1 || e.TraceIDs[0] != idOf(t, 1) {
		t.Errorf("body %s, traces %x", e.ops[0].Body, e.TraceIDs)
	}
	for _, nothing := range []string{`{}`, `{"post":[]}`, `{"post":null,"patch":[]}`} {
		if w := s.send(t, "POST", "/runs/batch", nil, strings.NewReader(nothing)); w.Code != http.StatusAccepted {
			t.Errorf("%s: status %d: %s", nothing, w.Code, w.Body)
		}
	}
}

func TestBatchErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:              "invalid batch JSON: the body is empty",
		`[]`:            "invalid batch JSON: want an object with post and patch",
		`{"post":{}}`:   "invalid batch JSON: post is not an array",
		`{"post":[1]}`:  "post.0: it is not a JSON object",
		`{"post":[{}]}`: "post.0: id: it is missing, and a run cannot be told from others without it",
		`{"patch":[` + runObject(1) + `,{"id":"x"}]}`:                 `patch.1: id: "x" is not a UUID`,
		`{"post":[{"id":"` + idText(1) + `"}]}`:                       "run " + idText(1) + ": trace_id: it is missing",
		`{"post":[` + runObject(1) + `]} x`:                           "invalid batch JSON at byte",
		`{"post":[]}{}`:                                               "invalid batch JSON: something follows the object at byte 12",
		`{"post":[` + runObject(1):                                    "invalid batch JSON at byte",
		`{"post":[{"id":tru}]}`:                                       `invalid batch JSON at byte 18, in "/post/0/id"`,
		`{"post":` + strings.Repeat("[", 20_000):                      "invalid batch JSON at byte",
		`{"post":[{"id":"` + idText(1) + `","inputs":1,"inputs":2}]}`: "run " + idText(1) + ": inputs: it occurs twice",
	} {
		s := newStage(t, Config{})
		w := s.send(t, "POST", "/runs/batch", nil, strings.NewReader(body))
		if got := errorOf(t, w); w.Code != http.StatusUnprocessableEntity || !strings.HasPrefix(got, "Unprocessable entity: "+want) {
			t.Errorf("%.80s: status %d:\ngot  %s\nwant %s", body, w.Code, got, want)
		}
	}
}

func TestSingleCallsTravelAsPartsWhereTheyCan(t *testing.T) {
	t.Parallel()
	id, child := idText(1), idText(2)
	order := "20260901T100000500000Z" + id
	placed, _, _ := strings.Cut(runObject(2), `,"name"`)
	for name, tc := range map[string]struct{ method, target, body, want, inBody string }{
		"a whole run":                {"POST", "/runs", runObject(2), "post 2 of 1", runObject(2)},
		"a root":                     {"POST", "/runs", `{"id":"` + id + `","start_time":"2026-09-01T10:00:00.5Z","inputs":1}`, "post 1 of 1 inputs=1", `{"id":"` + id + `","trace_id":"` + id + `","dotted_order":"` + order + `","start_time":"2026-09-01T10:00:00.5Z"}`},
		"a root with nulls":          {"POST", "/runs", `{"id":"` + id + `","trace_id":null,"parent_run_id":null,"start_time":"2026-09-01T10:00:00.5Z"}`, "post 1 of 1", ""},
		"a bare id":                  {"POST", "/runs", `{"id":"` + strings.ReplaceAll(id, "-", "") + `","start_time":"2026-09-01T10:00:00.5Z"}`, "post 1 of 1", ""},
		"a root that says its trace": {"POST", "/runs", `{"id":"` + id + `","trace_id":"` + id + `","start_time":"2026-09-01T10:00:00.5Z"}`, "post 1 of 1", ""},
		"a child":                    {"POST", "/api/v1/runs?a=b", `{"id":"` + child + `","parent_run_id":"` + id + `"}`, `call 2 POST /runs?a=b (application/json) {"id":"` + child + `","parent_run_id":"` + id + `"}` + " in weir's project", ""},
		"no id":                      {"POST", "/runs", `{"name":"n","start_time":"2026-09-01T10:00:00.5Z"}`, `call 00000000-0000-0000-0000-000000000000 POST /runs (application/json) {"name":"n","start_time":"2026-09-01T10:00:00.5Z"}` + " in weir's project", ""},
		"no time":                    {"POST", "/runs", `{"id":"` + id + `","start_time":5}`, `call 1 POST /runs (application/json) {"id":"` + id + `","start_time":5}` + " in weir's project", ""},
		"a whole update":             {"PATCH", "/runs/" + child, runObject(2), "patch 2 of 1", runObject(2)},
		"an update without its id":   {"PATCH", "/runs/" + child, strings.Replace(runObject(2), `"id":"`+child+`",`, "", 1), "patch 2 of 1", placed},
		"an update of who knows":     {"PATCH", "/api/runs/" + child, `{"outputs":1}`, `call 2 PATCH /runs/` + child + ` (application/json) {"outputs":1}`, ""},
		"a feedback":                 {"POST", "/feedback", `{"id":"` + child + `","trace_id":"` + id + `"}`, `feedback 2 of 1 {"id":"` + child + `","trace_id":"` + id + `"}`, ""},
		"a feedback without trace":   {"POST", "/feedback", `{"id":"` + child + `"}`, `call 2 POST /feedback (application/json) {"id":"` + child + `"}`, ""},
		"a feedback that keeps":      {"POST", "/feedback", `{"id":"` + child + `","trace_id":"` + id + `","extend_trace_retention":false}`, `call 2 of 1 POST /feedback (application/json) {"id":"` + child + `","trace_id":"` + id + `","extend_trace_retention":false}`, ""},
		"a feedback's update":        {"PATCH", "/feedback/" + child, `{"score":1}`, `call 2 PATCH /feedback/` + child + ` (application/json) {"score":1}`, ""},
	} {
		s := newStage(t, Config{})
		if w := s.send(t, tc.method, tc.target, nil, strings.NewReader(tc.body)); w.Code != http.StatusAccepted {
			t.Errorf("%s: status %d: %s", name, w.Code, w.Body)
			continue
		}
		ops := s.sink.only(t).ops
		if diff := cmp.Diff([]string{tc.want}, told(ops)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !strings.HasPrefix(string(ops[0].Body), tc.inBody) {
			t.Errorf("%s: body\ngot  %s\nwant %s", name, ops[0].Body, tc.inBody)
		}
	}
}

func TestAnUpdateIsCompletedFromTheCreateThatCameThrough(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	mine := map[string]string{"X-API-Key": "mine"}
	if w := s.send(t, "POST", "/runs", mine, strings.NewReader(runObject(2))); w.Code != http.StatusAccepted {
		t.Fatal(w.Code)
	}
	for i, tc := range []struct{ key, body, want string }{
		{"mine", `{"trace_id":null,"dotted_order":null,"outputs":1}`, "patch 2 of 1 outputs=1"},
		{"mine", `{"outputs":2}`, "patch 2 of 1 outputs=2"},
		{"mine", `{"trace_id":"` + idText(5) + `"}`, "call 2 of 5 PATCH /runs/" + idText(2) + ` (application/json) {"trace_id":"` + idText(5) + `"}`},
		{"theirs", `{"outputs":3}`, "call 2 PATCH /runs/" + idText(2) + ` (application/json) {"outputs":3}`},
	} {
		if w := s.send(t, "PATCH", "/runs/"+idText(2), map[string]string{"X-API-Key": tc.key}, strings.NewReader(tc.body)); w.Code != http.StatusAccepted {
			t.Fatalf("%d: status %d: %s", i, w.Code, w.Body)
		}
		list := s.sink.exports()
		if diff := cmp.Diff([]string{tc.want}, told(list[len(list)-1].ops)); diff != "" {
			t.Errorf("%d (-want +got):\n%s", i, diff)
		}
	}
}

func TestCallersAreReadFromTheirHeaders(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	w := s.send(t, "POST", "/runs", map[string]string{"Authorization": "Bearer token", "X-Tenant-Id": "w", "Langsmith-Project": "p"}, strings.NewReader(runObject(1)))
	if w.Code != http.StatusAccepted {
		t.Fatal(w.Code)
	}
	if c := s.sink.only(t).Caller; c.APIKey != "Bearer token" || c.Workspace != "w" || c.Project != "" {
		t.Errorf("%+v", c)
	}
	w = s.send(t, "POST", "/runs", map[string]string{"X-API-Key": "se\tcret"}, strings.NewReader(runObject(1)))
	if got := errorOf(t, w); w.Code != http.StatusBadRequest || !strings.HasPrefix(got, "Bad request: header x-api-key: character 3") || strings.Contains(got, "cret") {
		t.Errorf("status %d: %s", w.Code, got)
	}
}
