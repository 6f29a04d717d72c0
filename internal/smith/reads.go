package smith

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings answers GET /settings, from which the SDKs learn the workspace of a
// key (LangSmith SDK: client.py).
func (s *Server) settings(_ *request, from caller) reply {
	return jsonReply(map[string]any{
		"id": from.tenant, "display_name": "Look-alike", "created_at": time.Unix(0, 0).UTC(), "tenant_handle": nil,
	})
}

// getRun answers GET /runs/{id}.
func (s *Server) getRun(r *request, from caller) reply {
	id, ok := parseUUID(r.route.id)
	if !ok {
		return familyPython.failure(http.StatusUnprocessableEntity, "run_id must be a UUID")
	}
	for _, run := range s.readableRuns(r, from.tenant, RunID{}) {
		if run.ID == RunID(id) {
			return literal(http.StatusOK, string(s.readable(&run).appendJSON(nil)))
		}
	}
	return literal(http.StatusNotFound, bodyRunNotFound)
}

// runQuery is what POST /runs/query may ask for. Filters in the service's own
// language are refused: a wrong answer would be worse than none.
type runQuery struct {
	Session   []string `json:"session"`
	ID        []string `json:"id"`
	Trace     string   `json:"trace"`
	Parent    string   `json:"parent_run"`
	RunType   string   `json:"run_type"`
	Reference []string `json:"reference_example"`
	IsRoot    *bool    `json:"is_root"`
	Error     *bool    `json:"error"`
	StartTime string   `json:"start_time"`
	Filter    string   `json:"filter"`
	TraceFlt  string   `json:"trace_filter"`
	TreeFlt   string   `json:"tree_filter"`
	Query     string   `json:"query"`
	Cursor    string   `json:"cursor"`
	Limit     int      `json:"limit"`
}

// queryRuns answers POST /runs/query, the newest run first.
func (s *Server) queryRuns(r *request, from caller) reply {
	sent, list, err := s.readObjects(r)
	if err != nil || list {
		return familyPython.failure(http.StatusUnprocessableEntity, "one JSON object is wanted")
	}
	var q runQuery
	if err := json.Unmarshal(sent[0].appendJSON(nil), &q); err != nil {
		return familyPython.failure(http.StatusUnprocessableEntity, err.Error())
	}
	if q.Filter != "" || q.TraceFlt != "" || q.TreeFlt != "" || q.Query != "" {
		return familyPython.failure(http.StatusUnprocessableEntity, "the look-alike knows no filter language")
	}
	offset := 0
	if q.Cursor != "" {
		if offset, err = strconv.Atoi(q.Cursor); err != nil || offset < 0 {
			return familyPython.failure(http.StatusUnprocessableEntity, "cursor is not one of ours")
		}
	}
	limit := min(max(0, q.Limit), maxPage)
	if limit == 0 {
		limit = maxPage
	}
	trace, _ := parseUUID(q.Trace) // the zero one is no trace's
	runs := slices.DeleteFunc(s.readableRuns(r, from.tenant, RunID(trace)), func(run Run) bool { return !q.wants(&run) })
	slices.SortStableFunc(runs, func(a, b Run) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Seq, a.Seq)) })
	var next any
	if offset+limit < len(runs) {
		next = strconv.Itoa(offset + limit)
	}
	rows := []Object{}
	for _, run := range pick(runs, limit, offset) {
		rows = append(rows, s.readable(&run))
	}
	return jsonReply(map[string]any{"runs": rows, "cursors": map[string]any{"next": next, "prev": nil}})
}

// wants reports whether a run is one that the query asks for.
func (q *runQuery) wants(r *Run) bool {
	has := func(list []string, value string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, value) })
	}
	one := func(want, value string) bool { return want == "" || strings.EqualFold(want, value) }
	if q.StartTime != "" {
		since, err := parseTime(textOf(q.StartTime))
		start, err2 := startOf(r)
		if err == nil && err2 == nil && start.Before(since) {
			return false
		}
	}
	failed := !isNull(r.Get("error"))
	root := r.Parent == (RunID{})
	return has(q.Session, sessionIDOf(r)) && has(q.ID, r.ID.String()) && one(q.Trace, r.Trace.String()) &&
		one(q.Parent, r.Parent.String()) && one(q.RunType, r.Text("run_type")) &&
		has(q.Reference, r.Text("reference_example_id")) &&
		(q.IsRoot == nil || *q.IsRoot == root) && (q.Error == nil || *q.Error == failed)
}

// startOf is when a run started.
func startOf(r *Run) (time.Time, error) {
	raw := r.Get("start_time")
	if isNull(raw) {
		return r.Time, nil
	}
	return parseTime(raw)
}

// sessionIDOf is the id of a run's project, as the run names it or as made up
// of its name. Where the project was created with an id of its own, resolve
// has put that into the run.
func sessionIDOf(r *Run) string {
	if id := r.Text("session_id"); id != "" {
		return id
	}
	return projectID(r.Workspace, cmp.Or(r.Project, "default"))
}

// runsOf lists those runs of a workspace that are wanted, all where wanted is
// nil, in order of arrival and each with the id of its project.
func (st *store) runsOf(tenant string, wanted func(*runState) bool) []Run {
	st.mu.Lock()
	defer st.mu.Unlock()
	ids := map[string]string{}
	for _, o := range st.resources.tables[resourceKey{tenant, sessionKind.table}] {
		ids[o.name] = o.id
	}
	var list []Run
	for _, r := range st.runs.order {
		if r.tenant != tenant || wanted != nil && !wanted(r) {
			continue
		}
		v := r.view()
		if id := ids[v.Project]; id != "" {
			v.Members = v.Members.with("session_id", id)
		}
		list = append(list, v)
	}
	return list
}

// readableDefaults are the members that the SDKs want of a run, present or not.
var readableDefaults = Object{
	{Name: "name", Value: json.RawMessage(`""`)},
	{Name: "run_type", Value: json.RawMessage(`"chain"`)},
	{Name: "end_time", Value: json.RawMessage("null")},
	{Name: "parent_run_id", Value: json.RawMessage("null")},
	{Name: "inputs", Value: json.RawMessage("{}")},
	{Name: "outputs", Value: json.RawMessage("null")},
	{Name: "error", Value: json.RawMessage("null")},
	{Name: "extra", Value: json.RawMessage("null")},
	{Name: "serialized", Value: json.RawMessage("null")},
	{Name: "events", Value: json.RawMessage("[]")},
	{Name: "tags", Value: json.RawMessage("[]")},
	{Name: "reference_example_id", Value: json.RawMessage("null")},
	{Name: "feedback_stats", Value: json.RawMessage("{}")},
}

// readable is a run as the service answers with it.
func (s *Server) readable(r *Run) Object {
	o := r.Members.with("id", r.ID.String()).with("trace_id", r.Trace.String()).
		with("dotted_order", r.DottedOrder).with("session_id", sessionIDOf(r))
	status := "pending"
	switch {
	case !isNull(r.Get("error")):
		status = "error"
	case r.Ended():
		status = "success"
	}
	if r.Parent != (RunID{}) {
		o = o.with("parent_run_id", r.Parent.String())
	}
	for _, name := range []string{"start_time", "end_time"} {
		if raw := r.Get(name); !isNull(raw) {
			if at, err := parseTime(raw); err == nil {
				o = o.with(name, at.UTC())
			}
		}
	}
	if isNull(o.Get("start_time")) {
		o = o.with("start_time", r.Time.UTC())
	}
	for _, m := range readableDefaults {
		if isNull(o.Get(m.Name)) {
			o = o.set(m.Name, m.Value)
		}
	}
	return o.with("status", status).with("app_path", "/o/"+r.Workspace+"/projects/p/"+sessionIDOf(r)+"/r/"+r.ID.String())
}

// readableFeedback is a feedback as the service answers with it.
func (st *store) readableFeedback(f *Feedback) Object {
	o := f.Members.with("id", f.ID.String())
	if isNull(o.Get("trace_id")) && f.Run != (RunID{}) {
		if trace, _, ok := st.lineage(f.Workspace, f.Run); ok {
			o = o.with("trace_id", trace.String())
		}
	}
	for _, name := range []string{
		"run_id", "trace_id", "session_id", "score", "value", "comment", "correction", "feedback_source",
	} {
		if o.Get(name) == nil {
			o = o.set(name, json.RawMessage("null"))
		}
	}
	for _, name := range []string{"created_at", "modified_at"} {
		if isNull(o.Get(name)) {
			o = o.with(name, f.Time.UTC())
		}
	}
	return o
}
