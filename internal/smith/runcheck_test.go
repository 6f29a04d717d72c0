package smith

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// clock is a Config whose time stands still at noon.
func clock() Config { return Config{Now: func() time.Time { return noon }} }

func TestMultipartIsHeldToItsRules(t *testing.T) {
	id := rid(1).String()
	run := runJSON([]int{1})
	post := func(f *form) *form { return f.json("post."+id, run) }
	tests := []struct {
		name string
		make func(*form) *form
		want string // what the 422 says
	}{
		{"no Content-Type", func(f *form) *form { return f.raw("post."+id, run, "Content-Length", fmt.Sprint(len(run))) }, "missing or invalid Content-Type"},
		{"no length", func(f *form) *form { return f.raw("post."+id, run, "Content-Type", "application/json") }, "missing Content-Length"},
		{"a length too small", func(f *form) *form { return f.raw("post."+id, run, "Content-Type", "application/json; length=3") }, "it says a length of 3 and has"},
		{"a length that is none", func(f *form) *form {
			return f.raw("post."+id, run, "Content-Type", "application/json", "Content-Length", "-3")
		}, `length \"-3\" is not a number`},
		{"two lengths", func(f *form) *form {
			return f.raw("post."+id, run, "Content-Type", "application/json; length=3", "Content-Length", "4")
		}, "Content-Length 4 and length=3 differ"},
		{"a compressed part", func(f *form) *form {
			return f.raw("post."+id, run, "Content-Type", "application/json; length=9", "Content-Encoding", "gzip")
		}, "Content-Encoding is not allowed on a part"},
		{"a run that is no JSON type", func(f *form) *form { return f.part("post."+id, "text/plain", run) }, "is not application/json"},
		{"another event", func(f *form) *form { return f.json("put."+id, run) }, `invalid part name \"put.`},
		{"an event in capitals", func(f *form) *form { return f.json("POST."+id, run) }, `invalid part name \"POST.`},
		{"no id", func(f *form) *form { return f.json("post", run) }, "is not a UUID"},
		{"no name", func(f *form) *form { return f.json("", run) }, "invalid part name"},
		{"another field", func(f *form) *form { return post(f).json("post."+id+".name", `"x"`) }, "is not a field of its own"},
		{"a field without its run", func(f *form) *form { return f.json("post."+id+".inputs", `{}`) }, "there is no part post." + id},
		{"a field of the other operation", func(f *form) *form { return post(f).json("patch."+id+".inputs", `{}`) }, "there is no part patch." + id},
		{"a dot in an attachment's name", func(f *form) *form { return post(f).part("attachment."+id+".a.png", "image/png", "x") }, "a name without a dot"},
		{"an attachment without a name", func(f *form) *form { return post(f).part("attachment."+id, "image/png", "x") }, "a name without a dot"},
		{"a field that is no JSON", func(f *form) *form { return post(f).json("post."+id+".inputs", `{`) }, "invalid JSON"},
		{"an empty field", func(f *form) *form { return post(f).json("post."+id+".inputs", ``) }, "invalid JSON"},
		{"a run that is no object", func(f *form) *form { return f.json("post."+id, `[]`) }, "not a JSON object"},
		{"a run cut short", func(f *form) *form { return f.json("post."+id, run[:20]) }, "unexpected end of JSON input"},
		{"something behind a run", func(f *form) *form { return f.json("post."+id, run+"{}") }, "something follows"},
		{"another id inside", func(f *form) *form { return f.json("post."+rid(2).String(), run) }, "its id is " + id},
		{"feedback without a trace", func(f *form) *form { return f.json("feedback."+id, `{"key":"k"}`) }, "trace_id is required"},
		{"feedback without a key", func(f *form) *form { return f.json("feedback."+id, `{"trace_id":"`+id+`"}`) }, "key is required"},
		{"feedback at a time without a zone", func(f *form) *form {
			return f.json("feedback."+id, `{"trace_id":"`+id+`","key":"k","created_at":"2026-11-23T12:00:00"}`)
		}, "created_at: parsing time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := start(t, clock())
			a := c.multipart(tt.make(newForm(t).json("post."+rid(7).String(), runJSON([]int{7}))))
			if a.status != 422 || !strings.HasPrefix(a.body, `{"error":"Unprocessable entity: `) || !strings.HasSuffix(a.body, "\n") || !strings.Contains(a.body, tt.want) {
				t.Errorf("answer = %d %q, want 422 with %s", a.status, a.body, tt.want)
			}
			if runs := s.Runs(); len(runs) != 0 || s.Stats().Taken.Requests != 0 {
				t.Errorf("%d runs of a refused request were taken", len(runs))
			}
		})
	}
}

func TestMultipartCutShortIsRefusedInGosWords(t *testing.T) {
	for _, keep := range []Keep{KeepSpans, KeepCounts} {
		_, c := start(t, Config{Keep: keep, Now: func() time.Time { return noon }})
		f := newForm(t).json("post."+rid(1).String(), runJSON([]int{1}))
		whole := f.body()
		for _, tt := range []struct {
			body []byte
			want string
		}{
			{nil, "multipart: NextPart: EOF"},
			{whole[:30], "multipart: NextPart: EOF"},
			{whole[:200], "unexpected EOF"},
			{whole[:len(whole)-90], "unexpected EOF"},
		} {
			c.runs(http.MethodPost, "/runs/multipart", tt.body, "Content-Type", f.w.FormDataContentType()).
				want(t, 422, `{"error":"Unprocessable entity: error reading multipart data: `+tt.want+`"}`+"\n")
		}
		a := c.runs(http.MethodPost, "/runs/multipart", whole)
		a.want(t, 422, `{"error":"Unprocessable entity: error reading multipart data: request Content-Type isn't multipart/form-data"}`+"\n")
	}
}

func TestBatchesAreHeldToTheSchema(t *testing.T) {
	batch := func(list, run string) string { return `{"` + list + `":[` + runJSON([]int{9}) + `,` + run + `]}` }
	tests := []struct{ name, body, want string }{
		{
			"the published one", batch("post", runJSON([]int{1}, "session_id", `"chat"`)),
			"invalid batch JSON: batch schema error post.1.session_id: Must validate one and only one schema (oneOf)",
		},
		{"no id", batch("post", `{}`), "invalid batch JSON: batch schema error post.1: id is required"},
		{"no trace", batch("patch", `{"id":"`+rid(1).String()+`"}`), "invalid batch JSON: batch schema error patch.1: trace_id is required"},
		{"no start", batch("post", runJSON([]int{1}, "start_time", "null")), "invalid batch JSON: batch schema error post.1: start_time is required"},
		{"an id that is none", batch("patch", runJSON([]int{1}, "id", `"x"`)), "invalid batch JSON: batch schema error patch.1.id: Does not match format 'uuid'"},
		{
			"inputs of another type", batch("post", runJSON([]int{1}, "inputs", `"x"`)),
			"invalid batch JSON: batch schema error post.1.inputs: Invalid type. Expected: object/null, given: string",
		},
		{
			"tags of another type", batch("post", runJSON([]int{1}, "tags", `true`)),
			"invalid batch JSON: batch schema error post.1.tags: Invalid type. Expected: array/null, given: boolean",
		},
		{"a start that is no time", batch("post", runJSON([]int{1}, "start_time", `"noon"`)), "start_time must be an ISO 8601 timestamp"},
		{"a start beyond time", batch("post", runJSON([]int{1}, "start_time", `1e300`)), "start_time int too big to convert"},
		{"the zero id", batch("post", strings.ReplaceAll(runJSON([]int{1}), rid(1).String(), RunID{}.String())), "the zero UUID names no run and no trace"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := start(t, clock())
			c.runs(http.MethodPost, "/runs/batch", []byte(tt.body)).
				want(t, 422, `{"error":"Unprocessable entity: `+tt.want+`"}`+"\n")
			if len(s.Runs()) != 0 {
				t.Error("a refused batch was taken in part")
			}
		})
	}
	_, c := start(t, clock())
	if a := c.runs(http.MethodPost, "/runs/batch", []byte(`{"post":[`)); a.status != 422 || !strings.Contains(a.body, "invalid batch JSON: unexpected end") {
		t.Errorf("a batch cut short = %d %q", a.status, a.body)
	}
}

func TestDottedOrderIsHeldToItsRules(t *testing.T) {
	place := func(chain []int, order string) string {
		parent := "<nil>"
		if len(chain) > 1 {
			parent = rid(chain[len(chain)-2]).String()
		}
		return fmt.Sprintf(" for run_id:%s trace_id:%s dotted_order:%s parent_run_id:%s", rid(chain[len(chain)-1]), rid(chain[0]), order, parent)
	}
	one, two := stamp(0)+rid(1).String(), stamp(1)+rid(2).String()
	tests := []struct {
		name  string
		chain []int
		order string
		want  string // of a post
		patch string // of a patch; "" is the same
	}{
		{"as it should be", []int{1, 2}, one + "." + two, "", ""},
		{"a root in two parts", []int{2}, one + "." + two, "dotted_order must contain a single part for root runs", "trace_id does not match first part of dotted_order"},
		{"a child in one", []int{1, 2}, two, "dotted_order must contain at least two parts for child runs", ""},
		{"another trace", []int{3, 2}, one + "." + two, "trace_id does not match first part of dotted_order", "trace_id does not match first part of dotted_order"},
		{"another run", []int{1, 3}, one + "." + two, "run_id does not match last part of dotted_order", ""},
		{"another parent", []int{1, 3, 2}, one + "." + one + "." + two, "parent_run_id does not match second to last part of dotted_order", ""},
		{"before its parent", []int{1, 2}, stamp(2) + rid(1).String() + "." + two, "dotted_order has timestamp " + stamp(1) + " earlier than parent timestamp " + stamp(2), ""},
		{
			"nanoseconds",
			[]int{1},
			"20261123T120000000000000Z" + rid(1).String(),
			"invalid timestamp in dotted_order 20261123T120000000000000Z at index 0: parsing time \\\"20261123T120000.000000000Z\\\" " +
				"as \\\"20060102T150405.000000Z\\\": cannot parse \\\"000Z\\\" as \\\"Z\\\"", "",
		},
		{"no time", []int{1}, rid(1).String(), "invalid part in dotted_order " + rid(1).String() + " at index 0: no timestamp", ""},
		{"no run", []int{1, 2}, one + "." + stamp(1), "invalid run id in dotted_order  at index 1: not a UUID", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, kind := range []OpKind{OpPost, OpPatch} {
				s, c := start(t, clock())
				run := runJSON(tt.chain, "dotted_order", `"`+tt.order+`"`)
				want := tt.want
				if kind == OpPatch && tt.patch != "" {
					want = tt.patch
				}
				a := c.multipart(newForm(t).json("post."+rid(9).String(), runJSON([]int{9})).json(kind.String()+"."+rid(tt.chain[len(tt.chain)-1]).String(), run))
				if want == "" {
					a.want(t, 202, ingested)
					continue
				}
				text := `{"error":"Bad request: invalid 'dotted_order': ` + want + place(tt.chain, tt.order) + `"}` + "\n"
				a.want(t, 400, text)
				if len(s.Runs()) != 0 {
					t.Error("a refused request was taken in part")
				}
			}
		})
	}
	_, c := start(t, clock())
	a := c.runs(http.MethodPost, "/runs", []byte(runJSON([]int{1}, "dotted_order", `"20261323T120000000000Z`+rid(1).String()+`"`)))
	if a.status != 400 || !strings.Contains(a.body, "invalid timestamp in dotted_order 20261323T120000000000Z at index 0: parsing time ") {
		t.Errorf("a 13th month = %d %s", a.status, a.body)
	}
}

func TestRunWindowFailsTheWholeRequest(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		window Window
		start  time.Time
		status int
	}{
		{WindowOff, noon.Add(-99 * day), 202},
		{Window400, noon.Add(-day), 202},
		{Window400, noon.Add(-day - time.Second), 400},
		{Window400, noon.Add(day + time.Second), 400},
		{Window422, noon.Add(-day - time.Second), 422},
	} {
		for _, keep := range []Keep{KeepSpans, KeepCounts} {
			cfg := clock()
			cfg.Keep, cfg.Switches.RunsWindow = keep, tt.window
			s, c := start(t, cfg)
			text := `"` + tt.start.Format(time.RFC3339) + `"`
			body := `{"post":[` + runJSON([]int{1}) + `,` + runJSON([]int{2}, "start_time", text) + `]}`
			a := c.runs(http.MethodPost, "/runs/batch", []byte(body))
			if a.status != tt.status || a.status != 202 && !strings.Contains(a.body, "start_time is outside a 24-hour window of now: run "+rid(2).String()) {
				t.Errorf("%s from noon under %s: %d %q, want %d", tt.start.Sub(noon), tt.window, a.status, a.body, tt.status)
			}
			if n := s.Stats().Runs.Posts; a.status != 202 && n != 0 {
				t.Errorf("%d runs of a refused request were taken", n)
			}
		}
	}
}
