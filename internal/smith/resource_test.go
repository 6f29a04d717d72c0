package smith

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestResourcesAreCreatedReadChangedAndDeleted(t *testing.T) {
	_, c := start(t, Config{Keys: knownKeys()})
	for _, tt := range []struct{ path, make, change, shown string }{
		{"/sessions", `{"name":"exp","reference_dataset_id":"` + tenantA + `"}`, `{"end_time":"2026-11-23T12:00:00Z","name":null}`, `"name":"exp"`},
		{"/datasets", `{"name":"ds","data_type":"chat"}`, `{"description":"d"}`, `"data_type":"chat"`},
		{"/examples", `{"dataset_id":"` + tenantA + `","inputs":{"q": 1}}`, `{"outputs":{"a":2}}`, `"inputs":{"q": 1}`},
	} {
		t.Run(tt.path, func(t *testing.T) {
			a := c.runs(http.MethodPost, "/api/v1"+tt.path, []byte(tt.make))
			o, err := parseObject([]byte(a.body))
			if err != nil || a.status != 200 || !isUUID(o.Text("id")) || !strings.Contains(a.body, tt.shown) || o.Text("tenant_id") != tenantA {
				t.Fatalf("POST = %d %s", a.status, a.body)
			}
			one := tt.path + "/" + o.Text("id")
			if tt.path != "/examples" {
				if a := c.runs(http.MethodPost, tt.path, []byte(tt.make)); a.status != 409 {
					t.Errorf("POST again = %d %s", a.status, a.body)
				}
				if a := c.runs(http.MethodPost, tt.path+"?upsert=true", []byte(tt.make)); a.status != 200 || !strings.Contains(a.body, o.Text("id")) {
					t.Errorf("upsert = %d %s", a.status, a.body)
				}
			}
			if a := c.runs(http.MethodPatch, one, []byte(tt.change)); a.status != 200 || !strings.Contains(a.body, tt.shown) {
				t.Errorf("PATCH = %d %s", a.status, a.body)
			}
			list := get[[]map[string]any](c, tt.path+"?id="+o.Text("id"), "X-Api-Key", keyA)
			if len(list) != 1 || list[0]["id"] != o.Text("id") {
				t.Errorf("GET = %v", list)
			}
			if a := c.runs(http.MethodGet, one, nil); a.status != 200 || !strings.Contains(a.body, tt.shown) {
				t.Errorf("GET of one = %d %s", a.status, a.body)
			}
			if a := c.runs(http.MethodGet, one, nil, "X-Api-Key", keyB); a.status != 404 {
				t.Errorf("GET by another workspace = %d %s", a.status, a.body)
			}
			if a := c.runs(http.MethodDelete, one, nil); a.status != 200 {
				t.Errorf("DELETE = %d %s", a.status, a.body)
			}
			if a := c.runs(http.MethodDelete, one, nil); a.status != 404 {
				t.Errorf("DELETE again = %d %s", a.status, a.body)
			}
		})
	}
	c.runs(http.MethodPost, "/datasets", []byte(`{}`)).want(t, 422, `{"detail":"name is required"}`)
	c.runs(http.MethodPatch, "/datasets/"+tenantA, []byte(`[{}]`)).want(t, 422, `{"detail":"one object is wanted"}`)
}

func TestExamplesAreUploadedAsTheSDKsDo(t *testing.T) {
	_, c := start(t, clock())
	a := c.runs(http.MethodPost, "/datasets", []byte(`{"name":"ds"}`))
	o, err := parseObject([]byte(a.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/platform/datasets/", "/api/v1/platform/datasets/"} {
		n := len(path)
		f := newForm(t)
		f.raw(rid(n).String(), `{"metadata":{"m":1}}`, "Content-Type", "application/json")
		f.raw(rid(n).String()+".inputs", `{"q":1}`, "Content-Type", "application/json")
		f.raw(rid(n).String()+".outputs", `{"a":2}`, "Content-Type", "application/json")
		a = c.runs(http.MethodPost, path+o.Text("id")+"/examples", f.body(), "Content-Type", f.w.FormDataContentType())
		if a.status != 200 || !strings.Contains(a.body, `"count":1,"example_ids":["`+rid(n).String()) {
			t.Fatalf("upload = %d %s", a.status, a.body)
		}
		f = newForm(t).raw(rid(n).String(), `{}`, "Content-Type", "application/json").
			raw(rid(n).String()+".outputs", `{"a":3}`, "Content-Type", "application/json")
		a = c.runs(http.MethodPatch, path+o.Text("id")+"/examples", f.body(), "Content-Type", f.w.FormDataContentType())
		if a.status != 200 {
			t.Fatalf("update = %d %s", a.status, a.body)
		}
	}
	c.runs(http.MethodPost, "/examples/bulk", []byte(`[{"dataset_id":"`+o.Text("id")+`","inputs":{"q":9}}]`))
	rows := get[[]map[string]any](c, "/examples?dataset="+o.Text("id")+"&offset=0&limit=2", "X-Api-Key", keyA)
	if len(rows) != 2 || fmt.Sprint(rows[0]["inputs"], rows[0]["outputs"]) != "map[q:1] map[a:3]" {
		t.Errorf("examples = %v", rows)
	}
	one := get[map[string]any](c, "/datasets/"+o.Text("id"), "X-Api-Key", keyA)
	if one["example_count"] != 3.0 {
		t.Errorf("dataset = %v", one)
	}
	f := newForm(t).raw(rid(1).String()+".attachment.x", `{}`, "Content-Type", "text/plain")
	a = c.runs(http.MethodPost, "/v1/platform/datasets/"+o.Text("id")+"/examples", f.body(), "Content-Type", f.w.FormDataContentType())
	if a.status != 422 {
		t.Errorf("an attachment = %d %s", a.status, a.body)
	}
}

func TestRunsAreQueried(t *testing.T) {
	_, c := start(t, clock())
	made := c.runs(http.MethodPost, "/sessions", []byte(`{"name":"exp","id":"`+tenantB+`"}`))
	if made.status != 200 {
		t.Fatal(made.body)
	}
	c.batch([]string{
		runJSON([]int{1}, "session_name", `"exp"`, "end_time", `1795435201000`),
		runJSON([]int{1, 2}, "session_id", `"`+tenantB+`"`, "error", `"no"`, "reference_example_id", `"`+tenantA+`"`),
		runJSON([]int{3}),
	}, nil).want(t, 202, batched)
	session := get[[]map[string]any](c, "/sessions?name=default", "X-Api-Key", keyA)[0]["id"]
	for query, want := range map[string]string{
		`{}`:                                       "run 3,run 2,run 1",
		`{"limit":2}`:                              "run 3,run 2",
		`{"limit":2,"cursor":"2"}`:                 "run 1",
		`{"session":["` + tenantB + `"]}`:          "run 2,run 1",
		fmt.Sprintf(`{"session":[%q]}`, session):   "run 3",
		`{"is_root":true}`:                         "run 3,run 1",
		`{"error":true}`:                           "run 2",
		`{"trace":"` + rid(1).String() + `"}`:      "run 2,run 1",
		`{"parent_run":"` + rid(1).String() + `"}`: "run 2",
		`{"id":["` + rid(3).String() + `"],"run_type":"chain"}`: "run 3",
		`{"run_type":"llm"}`: "",
		`{"reference_example":["` + tenantA + `"],"start_time":null}`: "run 2",
		`{"start_time":"2026-11-23T12:00:01Z"}`:                       "run 2",
	} {
		a := c.runs(http.MethodPost, "/api/v1/runs/query", []byte(query))
		var names []string
		for _, r := range decoded[struct{ Runs []struct{ Name string } }](t, a).Runs {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%s = %s, want %s", query, got, want)
		}
	}
	for _, bad := range []string{`{"filter":"eq(name, 1)"}`, `{"cursor":"x"}`, `[]`, `{"limit":"x"}`} {
		if a := c.runs(http.MethodPost, "/runs/query", []byte(bad)); a.status != 422 {
			t.Errorf("%s = %d %s", bad, a.status, a.body)
		}
	}
	one := get[map[string]any](c, "/runs/"+rid(1).String(), "X-Api-Key", keyA)
	if one["status"] != "success" || one["end_time"] != "2026-11-23T12:00:01Z" || one["session_id"] != tenantB || one["outputs"] != nil {
		t.Errorf("run = %v", one)
	}
	if two := get[map[string]any](c, "/runs/"+rid(2).String(), "X-Api-Key", keyA); two["status"] != "error" || two["parent_run_id"] != rid(1).String() {
		t.Errorf("run = %v", two)
	}
	c.runs(http.MethodGet, "/runs/"+rid(9).String(), nil).want(t, 404, bodyRunNotFound)
	c.runs(http.MethodGet, "/runs/x", nil).want(t, 422, `{"detail":"run_id must be a UUID"}`)
}

func TestResourcesAreBounded(t *testing.T) {
	st := newStore(Config{})
	key := resourceKey{tenantA, datasetKind.table}
	st.resources.count = maxResources
	if err := st.resources.put(key, Object{}.with("id", "a")); err == nil {
		t.Error("one too many was taken")
	}
	st.resources.count, st.resources.bytes = 0, maxResourceBytes-1
	if err := st.resources.put(key, Object{}.with("id", "a")); err == nil {
		t.Error("a byte too many was taken")
	}
}
