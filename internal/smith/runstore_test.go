package smith

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// batch posts a batch of posts and patches.
func (c *client) batch(posts, patches []string) answer {
	c.t.Helper()
	return c.runs(http.MethodPost, "/runs/batch", fmt.Appendf(nil, `{"post":[%s],"patch":[%s]}`,
		strings.Join(posts, ","), strings.Join(patches, ",")))
}

func TestDuplicatesAreAnswered409(t *testing.T) {
	one, two, three := runJSON([]int{1}), runJSON([]int{2}), runJSON([]int{3})
	tests := []struct {
		rule  Duplicate
		runs  []int
		twice int64
	}{
		{DuplicatePartial, []int{1, 2, 3}, 3},
		{DuplicateWhole, []int{1}, 3},
	}
	for _, tt := range tests {
		for _, keep := range []Keep{KeepSpans, KeepIDs} {
			t.Run(tt.rule.String()+" "+keep.String(), func(t *testing.T) {
				cfg := clock()
				cfg.Keep, cfg.Switches.RunsDuplicate = keep, tt.rule
				s, c := start(t, cfg)
				c.batch([]string{one}, []string{runJSON([]int{1}, "outputs", `{"first":1}`)}).want(t, 202, batched)
				c.batch([]string{two, one}, nil).want(t, 409, bodyConflictGo)
				c.batch([]string{three, three}, nil).want(t, 409, bodyConflictGo)
				c.runs(http.MethodPatch, "/runs/"+rid(1).String(), []byte(`{"outputs":{"second":2}}`)).want(t, 409, bodyConflictPython)
				var ids []int
				for _, r := range s.Runs() {
					ids = append(ids, int(r.ID[15]))
					if r.ID == rid(1) && keep == KeepSpans && string(r.Get("outputs")) != `{"first":1}` {
						t.Errorf("the second patch changed the run: %s", r.Get("outputs"))
					}
				}
				if diff := cmp.Diff(tt.runs, ids); diff != "" {
					t.Error(diff)
				}
				st := s.Stats().Runs
				if st.Duplicates["post"] != 2 || st.Duplicates["patch"] != 1 || st.Conflicts != 3 || st.Distinct != int64(len(tt.runs)) {
					t.Errorf("stats = %+v", st)
				}
				var again int64
				for _, o := range s.Operations() {
					if o.Duplicate {
						again++
					}
				}
				if tt.rule == DuplicatePartial && again != tt.twice || tt.rule == DuplicateWhole && again != 0 {
					t.Errorf("%d operations are marked as duplicates", again)
				}
			})
		}
	}
}

func TestExtraOfAnUpdateMeetsThatOfItsRun(t *testing.T) {
	for _, tt := range []struct {
		name, create, update string
		merged               string // under replace it is the update's
	}{
		{"other members", `{"metadata":{"a":1.0,"b":"\u00e9"}}`, `{"metadata":{"b":2, "c":[3]},"runtime":{}}`, `{"metadata":{"a":1.0,"b":2,"c":[3]},"runtime":{}}`},
		{"an empty update", `{"metadata":{"a": 1}}`, `{}`, `{"metadata":{"a": 1}}`},
		{"null says nothing", `{"a":1}`, `{"a":null,"b":null}`, `{"a":1,"b":null}`},
		{"another type", `{"a":{"b":1},"c":[1,2],"d":3}`, `{"a":1,"c":[3],"d":{}}`, `{"a":1,"c":[3],"d":{}}`},
		{"five levels", `{"2":{"3":{"4":{"5":{"a":{"x":1}}}}}}`, `{"2":{"3":{"4":{"5":{"a":{"y":1},"b":2}}}}}`, `{"2":{"3":{"4":{"5":{"a":{"y":1},"b":2}}}}}`},
		{"nothing to merge with", `null`, `{"a":1}`, `{"a":1}`},
	} {
		for _, rule := range []ExtraUpdate{ExtraMerge, ExtraReplace} {
			for _, updateFirst := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, update first %t", tt.name, rule, updateFirst), func(t *testing.T) {
					cfg := clock()
					cfg.Switches.ExtraUpdate = rule
					s, c := start(t, cfg)
					posts := []string{runJSON([]int{1}, "extra", tt.create)}
					patches := []string{runJSON([]int{1}, "extra", tt.update)}
					first, second := [2][]string{posts, nil}, [2][]string{nil, patches}
					if updateFirst {
						first, second = second, first
					}
					c.batch(first[0], first[1]).want(t, 202, batched)
					c.batch(second[0], second[1]).want(t, 202, batched)
					want := tt.merged
					if rule == ExtraReplace {
						want = tt.update
					}
					if got := string(s.Runs()[0].Get("extra")); got != want {
						t.Errorf("extra is %s, want %s", got, want)
					}
				})
			}
		}
	}
	s, c := start(t, clock())
	c.batch([]string{runJSON([]int{1}, "extra", `{"a":1}`)}, []string{runJSON([]int{1})}).want(t, 202, batched)
	if got := string(s.Runs()[0].Get("extra")); got != `{"a":1}` {
		t.Errorf("after an update without extra it is %s", got)
	}
}

func TestRunsOfOtherWorkspacesAreNoDuplicates(t *testing.T) {
	s, c := start(t, Config{Keys: knownKeys(), Now: clock().Now})
	body := []byte(`{"post":[` + runJSON([]int{1}) + `]}`)
	for _, key := range []string{keyA, keyB} {
		c.runs(http.MethodPost, "/runs/batch", body, "X-Api-Key", key).want(t, 202, batched)
	}
	c.runs(http.MethodPost, "/runs/batch", body, "X-Api-Key", readKey).want(t, 403, bodyForbidden)
	c.runs(http.MethodPost, "/runs/batch", body, "X-Api-Key", orgKey).want(t, 403, bodyOrgScopedGo)
	c.runs(http.MethodPost, "/feedback", body, "X-Api-Key", orgKey).want(t, 403, bodyOrgScopedPython)
	c.runs(http.MethodPost, "/runs/multipart", nil, "X-Api-Key", "").want(t, 401, bodyUnauthorized)
	c.runs(http.MethodPost, "/datasets", nil, "X-Api-Key", readKey).want(t, 403, bodyForbidden)
	if runs := s.Runs(); len(runs) != 2 || runs[0].Workspace != tenantA || runs[1].Workspace != tenantB {
		t.Errorf("runs = %+v", runs)
	}
}

func TestAnUpdateIsLaidOverItsCreateWhicheverCameFirst(t *testing.T) {
	post := runJSON([]int{1}, "inputs", `{"a": 1}`, "extra", `{"kept":1}`, "outputs", `{}`, "session_name", `"chat"`)
	patch := runJSON([]int{1}, "outputs", `{"b":2}`, "extra", `null`, "tags", `null`, "end_time", `"2026-11-23T12:00:01Z"`)
	for _, order := range [][]string{{post, patch}, {patch, post}} {
		s, c := start(t, clock())
		for _, one := range order {
			if one == post {
				c.batch([]string{post}, nil).want(t, 202, batched)
			} else {
				c.batch(nil, []string{patch}).want(t, 202, batched)
			}
		}
		r, _ := s.Run(rid(1))
		want := runJSON([]int{1}, "inputs", `{"a": 1}`, "extra", `{"kept":1}`, "outputs", `{"b":2}`, "session_name", `"chat"`,
			"tags", `null`, "end_time", `"2026-11-23T12:00:01Z"`)
		if diff := cmp.Diff(want, string(r.Members.appendJSON(nil))); diff != "" || r.Project != "chat" {
			t.Errorf("project %s, members (-want +got):\n%s", r.Project, diff)
		}
		if first, second := r.FirstPost, r.FirstPatch; first+second != 3 || (first == 1) != (order[0] == post) {
			t.Errorf("post came in request %d, patch in %d", first, second)
		}
	}
}

func TestRunLimitsAreKept(t *testing.T) {
	cfg := clock()
	cfg.MaxTraceRuns, cfg.MaxAttachmentBytes, cfg.Switches.RunsMax, cfg.MaxBodyBytes = 2, 3, 3, 20_000
	cfg.Switches.RunsZstd = Unsupported
	s, c := start(t, cfg)
	c.batch([]string{runJSON([]int{1}), runJSON([]int{1, 2})}, []string{runJSON([]int{1})}).want(t, 202, batched)
	a := c.batch([]string{runJSON([]int{1, 3}), runJSON([]int{9})}, nil)
	a.want(t, 400, `{"error":"Bad request: trace has too many runs: `+rid(1).String()+` would have more than 2"}`+"\n")
	c.batch(nil, []string{runJSON([]int{1, 2})}).want(t, 202, batched) // no further run
	a = c.batch([]string{runJSON([]int{4}), runJSON([]int{5})}, []string{runJSON([]int{4}), runJSON([]int{5})})
	a.want(t, 422, `{"error":"Unprocessable entity: 4 runs in one request, more than 3"}`+"\n")
	post := func() *form { return newForm(t).json("post."+rid(6).String(), runJSON([]int{6})) }
	a = c.multipart(post().part("attachment."+rid(6).String()+".x", "text/plain", "four"))
	a.want(t, 413, `{"error":"Request entity too large: attachment \"x\" has 4 bytes, more than 3"}`+"\n")
	c.multipart(post().json("post."+rid(6).String()+".inputs", `{"a":"`+strings.Repeat("x", 20_000)+`"}`)).want(t, 413, page413)
	f := post()
	a = c.runs(http.MethodPost, "/runs/multipart", zstdded(t, f.body()), "Content-Type", f.w.FormDataContentType(), "Content-Encoding", "zstd")
	a.want(t, 415, `{"error":"Unsupported Media Type: unsupported media type: zstd"}`+"\n")
	sw := s.currentSwitches()
	sw.RunsZstd = Lost
	s.SetSwitches(sw)
	c.runs(http.MethodPost, "/runs/batch", zstdded(t, []byte(`{}`)), "Content-Encoding", "zstd").want(t, 202, batched)
	c.runs(http.MethodPost, "/runs/batch", []byte(`{}`), "Content-Encoding", "gzip").
		want(t, 422, `{"error":"Unprocessable entity: error reading multipart data: failed to decompress: unexpected EOF"}`+"\n")
	if n := len(s.Runs()); n != 2 || s.Stats().Lost.Requests != 1 {
		t.Errorf("%d runs, %+v", n, s.Stats().Lost)
	}
}

func TestRetentionForgetsTheOldestRuns(t *testing.T) {
	o, err := parseObject([]byte(runJSON([]int{1})))
	if err != nil {
		t.Fatal(err)
	}
	cfg := clock()
	cfg.RetainBytes = 2*(o.size()+10) + 9
	s, c := start(t, cfg)
	for n := 1; n <= 4; n++ {
		id := rid(n).String()
		c.multipart(newForm(t).json("post."+id, runJSON([]int{n})).part("attachment."+id+".x", "text/plain", "0123456789")).want(t, 202, ingested)
	}
	c.runs(http.MethodPatch, "/runs/"+rid(1).String(), []byte(`{"outputs":{"late":1}}`)).want(t, 202, `{"message":"Run update queued"}`)
	for i, r := range s.Runs() {
		if forgotten := i < 2; r.Forgotten != forgotten || (r.Members == nil) != forgotten || (len(r.Attachments) == 0) != forgotten || r.Posts != 1 {
			t.Errorf("run %d: %+v", i+1, r)
		}
	}
	if st := s.Stats().Runs; st.Forgotten != 2 || st.Distinct != 4 || st.Patches != 1 {
		t.Errorf("stats = %+v", st)
	}
	c.multipart(newForm(t).json("post."+rid(1).String(), runJSON([]int{1}))).want(t, 409, bodyConflictGo)
	s.Reset()
	if len(s.Runs())+len(s.Operations())+len(s.Feedbacks()) != 0 || s.store.runs.bytes != 0 {
		t.Error("something is left after Reset")
	}
	cfg.RetainBytes = -1
	s, c = start(t, cfg)
	c.batch([]string{runJSON([]int{1})}, nil).want(t, 202, batched)
	if r, ok := s.Run(rid(1)); !ok || !r.Forgotten || s.store.runs.bytes != 0 {
		t.Errorf("with no retention: %+v", r)
	}
}

func TestKeepDecidesWhatIsRememberedOfRuns(t *testing.T) {
	for _, keep := range []Keep{KeepSpans, KeepIDs, KeepCounts} {
		t.Run(keep.String(), func(t *testing.T) {
			cfg := clock()
			cfg.Keep = keep
			s, c := start(t, cfg)
			id := rid(1).String()
			f := newForm(t).json("post."+id, runJSON([]int{1})).json("post."+id+".inputs", `{}`).
				json("patch."+id, runJSON([]int{1})).part("attachment."+id+".x", "text/plain", "x").
				json("feedback."+rid(2).String(), `{"trace_id":"`+id+`","key":"k"}`)
			c.multipart(f).want(t, 202, ingested)
			c.batch([]string{runJSON([]int{3})}, []string{runJSON([]int{3})}).want(t, 202, batched)
			c.runs(http.MethodPost, "/runs", []byte(runJSON([]int{4}))).want(t, 202, `{"message":"Run queued"}`)
			st := s.Stats()
			if r := st.Runs; r.Posts != 3 || r.Patches != 2 || r.Feedback != 1 || r.Attachments != 1 || st.Taken.Operations != 7 || len(r.ByPath) != 3 {
				t.Errorf("stats = %+v", st)
			}
			if err := s.WaitRuns(t.Context(), 3); err != nil {
				t.Error(err)
			}
			runs := s.Runs()
			switch keep {
			case KeepCounts:
				if len(runs) != 0 || len(s.Operations()) != 0 || st.Runs.Distinct != 0 || st.Traces != 0 {
					t.Errorf("%d runs are kept", len(runs))
				}
			case KeepIDs, KeepSpans:
				if len(runs) != 3 || (runs[0].Members == nil) != (keep == KeepIDs) || runs[0].Trace != rid(1) || runs[0].Patches != 1 || st.Traces != 3 {
					t.Errorf("runs = %+v", runs)
				}
				if n := len(s.Operations()); n != 7 {
					t.Errorf("%d operations are logged, want 7", n)
				}
			}
		})
	}
}

func TestFeedbackIsCreatedChangedAndDeleted(t *testing.T) {
	cfg := clock()
	cfg.Control, cfg.Switches.FeedbackOrder = true, FeedbackRunFirst
	s, c := start(t, cfg)
	feedback := func(n int) string {
		return fmt.Sprintf(`{"id":%q,"run_id":%q,"key":"good","score":0.25}`, rid(n), rid(1))
	}
	c.runs(http.MethodPost, "/feedback", []byte(feedback(8))).want(t, 404, bodyRunNotFound)
	c.batch([]string{runJSON([]int{1})}, nil).want(t, 202, batched)
	var made map[string]any
	a := c.runs(http.MethodPost, "/api/v1/feedback", []byte(feedback(8)))
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != 200 || made["score"] != 0.25 || made["trace_id"] != rid(1).String() {
		t.Fatalf("POST = %d %s (%v)", a.status, a.body, err)
	}
	if a := c.runs(http.MethodPost, "/feedback", []byte(`{"key":"free","run_id":null,"start_time":1795435200000}`)); a.status != 200 {
		t.Errorf("POST without id and run = %d %s", a.status, a.body)
	}
	path := "/feedback/" + rid(8).String()
	if a := c.runs(http.MethodPatch, path, []byte(`{"score":1,"comment":"<b>"}`)); a.status != 200 || !strings.Contains(a.body, `"comment":"<b>"`) {
		t.Errorf("PATCH = %d %s", a.status, a.body)
	}
	got := get[[]map[string]any](c, "/feedback?run="+rid(1).String()+"&key=good", "X-Api-Key", keyA)
	if len(got) != 1 || got[0]["score"] != 1.0 || got[0]["comment"] != "<b>" {
		t.Errorf("GET = %v", got)
	}
	shown := c.do(http.MethodGet, "/__smith/feedback", nil, nil)
	if !strings.Contains(shown.body, `"changes":1`) || !strings.Contains(shown.body, `"run_id":"`+rid(1).String()+`"`) {
		t.Errorf("control shows %s", shown.body)
	}
	if one := get[map[string]any](c, path, "X-Api-Key", keyA); one["key"] != "good" {
		t.Errorf("GET of one = %v", one)
	}
	if a := c.runs(http.MethodDelete, path, nil); a.status != 200 {
		t.Errorf("DELETE = %d %s", a.status, a.body)
	}
	for method, body := range map[string]string{http.MethodGet: "", http.MethodPatch: "{}", http.MethodDelete: ""} {
		c.runs(method, path, []byte(body)).want(t, 404, `{"detail":"Feedback not found"}`)
	}
	c.runs(http.MethodPatch, "/feedback/x", []byte("{}")).want(t, 422, `{"detail":"feedback_id must be a UUID"}`)
	c.runs(http.MethodGet, "/feedback?run=x", nil).want(t, 422, `{"detail":"run: value is not a valid uuid"}`)
	if st := s.Stats().Runs; st.Feedback != 4 || st.DistinctFeedback != 1 || len(s.Feedbacks()) != 1 {
		t.Errorf("stats = %+v", st)
	}
}

func TestControlShowsOperationsInOrder(t *testing.T) {
	cfg := clock()
	cfg.Control = true
	_, c := start(t, cfg)
	c.batch([]string{runJSON([]int{1})}, nil).want(t, 202, batched)
	c.runs(http.MethodPatch, "/api/runs/"+rid(1).String(), zipped(t, []byte(`{}`)), "Content-Encoding", "gzip").want(t, 202, `{"message":"Run update queued"}`)
	var shown struct{ Operations []operationView }
	a := c.do(http.MethodGet, "/__smith/operations", nil, nil)
	if err := json.Unmarshal([]byte(a.body), &shown); err != nil || strings.Contains(a.body, keyA) {
		t.Fatalf("%v: %s", err, a.body)
	}
	want := []operationView{
		{Kind: OpPost, ID: rid(1).String(), Request: 1, Time: noon, Method: "POST", Path: "/runs/batch", Encoding: "identity", Workspace: DefaultTenant, Key: "lsv2_…A1"},
		{Kind: OpPatch, ID: rid(1).String(), Request: 2, Time: noon, Method: "PATCH", Path: "/api/runs/" + rid(1).String(), Encoding: "gzip", Workspace: DefaultTenant, Key: "lsv2_…A1"},
	}
	if diff := cmp.Diff(want, shown.Operations); diff != "" {
		t.Error(diff)
	}
	if a := c.do(http.MethodGet, "/__smith/operations?limit=1", nil, nil); strings.Contains(a.body, `"post"`) || !strings.Contains(a.body, `"patch"`) {
		t.Errorf("the newest is %s", a.body)
	}
	if a := c.do(http.MethodGet, "/__smith/runs?limit=x", nil, nil); a.status != 400 {
		t.Errorf("limit=x = %d", a.status)
	}
}

func TestTheOperationLogIsBounded(t *testing.T) {
	s := New(Config{})
	in := &Request{}
	for range maxLog + 1 {
		s.store.logLocked(Operation{Request: in})
	}
	if n, dropped := len(s.Operations()), s.Stats().Runs.LogDropped; n != maxLog/2+1 || dropped != maxLog/2 {
		t.Errorf("%d operations are logged and %d dropped", n, dropped)
	}
}

func TestRunsMayComeFromManyAtOnce(t *testing.T) {
	s, c := start(t, clock())
	const senders, each = 8, 25
	done := make(chan struct{}, senders)
	sub := s.Subscribe(4)
	defer sub.Close()
	for n := range senders {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range each {
				id := 1 + n*each + i
				a, err := c.try(t.Context(), http.MethodPost, "/runs/batch",
					header("X-Api-Key", keyA), fmt.Appendf(nil, `{"post":[%s,%s]}`, runJSON([]int{id}), runJSON([]int{9999})))
				// The shared run is new to one of them only.
				if err != nil || a.status != 202 && a.status != 409 {
					t.Errorf("%d %s, %v", a.status, a.body, err)
				}
				_, _ = s.Runs(), s.Stats()
			}
		}()
	}
	if err := s.WaitRuns(t.Context(), senders*each+1); err != nil {
		t.Error(err)
	}
	for range senders {
		<-done
	}
	st := s.Stats()
	if st.Runs.Distinct != senders*each+1 || st.Answers[202] != 1 || st.Runs.Duplicates["post"] != senders*each-1 {
		t.Errorf("answers %v, runs %+v", st.Answers, st.Runs)
	}
	if r, ok := s.Run(rid(9999)); !ok || r.Posts != senders*each {
		t.Errorf("the shared run came %d times", r.Posts)
	}
}

func TestAFileOrAFeedbackThatComesAgainReplacesItself(t *testing.T) {
	s, c := start(t, clock())
	id := rid(1).String()
	c.multipart(newForm(t).json("post."+id, runJSON([]int{1})).part("attachment."+id+".b", "text/plain", "other")).want(t, 202, ingested)
	for _, text := range []string{"first", "2nd"} {
		c.multipart(newForm(t).part("attachment."+id+".a", "text/plain", text).
			json("feedback."+rid(2).String(), `{"trace_id":"`+id+`","key":"k","comment":"`+text+`"}`)).want(t, 202, ingested)
	}
	r, _ := s.Run(rid(1))
	if len(r.Attachments) != 2 || string(r.Attachments[0].Data) != "2nd" || r.Attachments[1].Name != "b" {
		t.Errorf("attachments = %+v", r.Attachments)
	}
	if f := s.Feedbacks(); len(f) != 1 || f[0].Changes != 1 || f[0].Members.Text("comment") != "2nd" {
		t.Errorf("feedback = %+v", f)
	}
	st := s.Stats().Runs
	if st.Duplicates["attachment"] != 1 || st.Duplicates["feedback"] != 1 || st.Conflicts != 0 || st.Attachments != 3 {
		t.Errorf("stats = %+v", st)
	}
}
