package smith

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rid makes a run's id from a number.
func rid(n int) RunID {
	var id RunID
	id[14], id[15] = byte(n>>8), byte(n)
	id[6], id[8] = 0x70, 0x80
	return id
}

// stamp is the time of a dotted_order segment: noon and n seconds.
func stamp(n int) string {
	return strings.Replace(noon.Add(time.Duration(n)*time.Second).Format(dottedStamp), ".", "", 1)
}

// dotted makes a dotted_order of the runs with those numbers, the root first.
func dotted(chain ...int) string {
	var segments []string
	for i, n := range chain {
		segments = append(segments, stamp(i)+rid(n).String())
	}
	return strings.Join(segments, ".")
}

// runJSON is a run's own object: the last of chain, below the ones before it.
// Pairs are further members, as raw JSON.
func runJSON(chain []int, pairs ...string) string {
	id := chain[len(chain)-1]
	o := Object{}.
		with("id", rid(id).String()).
		with("trace_id", rid(chain[0]).String()).
		with("dotted_order", dotted(chain...)).
		with("name", fmt.Sprintf("run %d", id)).
		with("run_type", "chain").
		with("start_time", noon.Add(time.Duration(len(chain)-1)*time.Second).Format(time.RFC3339Nano))
	if len(chain) > 1 {
		o = o.with("parent_run_id", rid(chain[len(chain)-2]).String())
	}
	for i := 0; i < len(pairs); i += 2 {
		o = o.set(pairs[i], json.RawMessage(pairs[i+1]))
	}
	return string(o.appendJSON(nil))
}

// form writes a multipart body as the SDKs do.
type form struct {
	t testing.TB
	b bytes.Buffer
	w *multipart.Writer
}

func newForm(t testing.TB) *form {
	f := &form{t: t}
	f.w = multipart.NewWriter(&f.b)
	return f
}

// part adds a part with a Content-Length.
func (f *form) part(name, contentType, data string) *form {
	return f.raw(name, data, "Content-Type", contentType, "Content-Length", fmt.Sprint(len(data)))
}

// json adds a JSON part with its length in its Content-Type.
func (f *form) json(name, data string) *form {
	return f.raw(name, data, "Content-Type", fmt.Sprintf("application/json; length=%d", len(data)))
}

// raw adds a part with exactly those headers.
func (f *form) raw(name, data string, pairs ...string) *form {
	f.t.Helper()
	h := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + name + `"`}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	w, err := f.w.CreatePart(h)
	if err == nil {
		_, err = w.Write([]byte(data))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return f
}

// body ends the form.
func (f *form) body() []byte {
	f.t.Helper()
	if err := f.w.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.b.Bytes()
}

// multipart posts a form with keyA.
func (c *client) multipart(f *form, pairs ...string) answer {
	c.t.Helper()
	return c.runs(http.MethodPost, "/runs/multipart", f.body(), append([]string{"Content-Type", f.w.FormDataContentType()}, pairs...)...)
}

// runs sends run operations with keyA, as JSON unless pairs say otherwise.
func (c *client) runs(method, path string, body []byte, pairs ...string) answer {
	c.t.Helper()
	h := header("X-Api-Key", keyA, "Content-Type", contentJSON)
	maps.Copy(h, header(pairs...))
	return c.do(method, path, h, body)
}

const (
	ingested = `{"message":"Multipart runs ingested"}`
	batched  = `{"message":"Runs batch ingested"}`
)

func TestMultipartRunsAreTakenInEveryEncodingAndPrefix(t *testing.T) {
	for _, prefix := range []string{"", "/api", "/api/v1"} {
		for _, encoding := range []string{"identity", "gzip", "zstd"} {
			t.Run(prefix+" "+encoding, func(t *testing.T) {
				s, c := start(t, Config{Keys: knownKeys(), Now: func() time.Time { return noon }})
				f := newForm(t)
				f.part("post."+rid(1).String(), "application/json", runJSON([]int{1}, "session_name", `"chat"`))
				f.json("post."+rid(1).String()+".inputs", ` {"n": 1.0, "t": "<é>"} `)
				f.raw("attachment."+rid(1).String()+".cat", "meow", "Content-Type", "image/png; length=4")
				f.json("patch."+rid(1).String()+".outputs", `{"ok":true}`) // before its own part
				f.json("patch."+rid(1).String(), runJSON([]int{1}, "end_time", "1795435201000", "name", "null"))
				f.json("feedback."+rid(9).String(), `{"trace_id":"`+rid(1).String()+`","run_id":"`+rid(1).String()+`","key":"good","score":0.5}`)
				raw := f.body()
				body := map[string][]byte{"identity": raw, "gzip": zipped(t, raw), "zstd": zstdded(t, raw)}[encoding]
				c.runs(http.MethodPost, prefix+"/runs/multipart", body, "Content-Type", f.w.FormDataContentType(), "Content-Encoding", encoding).
					want(t, 202, ingested)

				r, ok := s.Run(rid(1))
				if !ok || r.Posts != 1 || r.Patches != 1 || r.Project != "chat" || r.Workspace != tenantA || r.Trace != rid(1) || !r.Ended() {
					t.Fatalf("the run is %+v, %v", r, ok)
				}
				if got := string(r.Get("inputs")); got != `{"n": 1.0, "t": "<é>"}` {
					t.Errorf("inputs = %s", got)
				}
				if r.Text("name") != "run 1" || string(r.Get("outputs")) != `{"ok":true}` {
					t.Errorf("name %q and outputs %s", r.Text("name"), r.Get("outputs"))
				}
				if len(r.Attachments) != 1 || string(r.Attachments[0].Data) != "meow" || r.Attachments[0].ContentType != "image/png" {
					t.Errorf("attachments = %+v", r.Attachments)
				}
				if got := s.Feedbacks(); len(got) != 1 || got[0].Run != rid(1) || got[0].Members.Text("key") != "good" {
					t.Errorf("feedback = %+v", got)
				}
				var kinds []OpKind
				for _, o := range s.Operations() {
					kinds = append(kinds, o.Kind)
					if o.Request.Encoding != encoding || o.Request.Seq != 1 || o.Duplicate {
						t.Errorf("operation %+v", o)
					}
				}
				if diff := cmp.Diff([]OpKind{OpPost, OpAttachment, OpPatch, OpFeedback}, kinds); diff != "" {
					t.Error(diff)
				}
				st := s.Stats()
				want := newRunStats()
				want.Posts, want.Patches, want.Feedback, want.Attachments, want.AttachmentBytes = 1, 1, 1, 1, 4
				want.Distinct, want.DistinctFeedback = 1, 1
				want.ByPath["/runs/multipart"] = Tally{1, 0, int64(len(body)), int64(len(raw)), 4}
				if diff := cmp.Diff(want, st.Runs); diff != "" || st.Traces != 1 || st.Taken.Operations != 4 || st.ByProject["chat"] != 1 {
					t.Errorf("stats %+v (-want +got):\n%s", st, diff)
				}
			})
		}
	}
}

func TestBatchAndSingleRunsAreTaken(t *testing.T) {
	s, c := start(t, Config{Control: true, Now: func() time.Time { return noon }})
	batch := `{"post":[` + runJSON([]int{1}) + `,` + runJSON([]int{1, 2}) + `],"patch":[` + runJSON([]int{1}, "end_time", `"2026-11-23T12:00:01Z"`) + `]}`
	c.runs(http.MethodPost, "/api/v1/runs/batch", []byte(batch)).want(t, 202, batched)
	bare := strings.ReplaceAll(rid(3).String(), "-", "")
	c.runs(http.MethodPost, "/runs", fmt.Appendf(nil, `{"id":%q,"name":"three","run_type":"tool","parent_run_id":%q,"start_time":"2026-11-23T12:00:09Z"}`,
		bare, rid(2))).want(t, 202, `{"message":"Run queued"}`)
	c.runs(http.MethodPatch, "/runs/"+rid(3).String(), []byte(`{"outputs":{"a":1}}`)).want(t, 202, `{"message":"Run update queued"}`)

	runs := s.Runs()
	if len(runs) != 3 || runs[1].Parent != rid(1) {
		t.Fatalf("runs = %+v", runs)
	}
	three := runs[2]
	if want := dotted(1, 2) + "." + stamp(9) + rid(3).String(); three.ID != rid(3) || three.DottedOrder != want || three.Trace != rid(1) || three.Posts != 1 || three.Patches != 1 {
		t.Errorf("the derived run is %+v, want dotted_order %s", three, want)
	}
	if err := s.WaitRuns(t.Context(), 3); err != nil {
		t.Error(err)
	}
	var shown struct {
		Runs []struct {
			ID      string
			Posts   int
			Outputs json.RawMessage
		}
	}
	a := c.do(http.MethodGet, "/__smith/runs", nil, nil)
	if err := json.Unmarshal([]byte(a.body), &shown); err != nil || len(shown.Runs) != 3 || shown.Runs[2].ID != rid(3).String() || string(shown.Runs[2].Outputs) != `{"a":1}` {
		t.Errorf("%v: %s", err, a.body)
	}
	if a := c.do(http.MethodGet, "/__smith/wait?runs=3", nil, nil); a.status != 200 {
		t.Errorf("wait = %d %s", a.status, a.body)
	}
}

// validJSON reports whether b is one JSON value.
func validJSON(b []byte) bool { return json.Valid(b) }

func TestPrintShowsRunsThatHaveEnded(t *testing.T) {
	s, c := start(t, clock())
	sub := s.Subscribe(8)
	root := runJSON([]int{1}, "name", `"agent"`, "session_name", `"my-very-long-project-name"`)
	llm := runJSON([]int{1, 2}, "run_type", `"llm"`, "end_time", `"2026-11-23T12:00:02.5Z"`,
		"outputs", `{"usage_metadata":{"input_tokens":12,"output_tokens":3}}`)
	tool := runJSON([]int{1, 2, 3}, "name", `"a\u001b[2J\ntool"`, "start_time", `"2026-11-23T12:00:02.000999Z"`, "end_time", `1795435202000`, "error", `"ValueError('no')\nTraceback"`,
		"extra", `{"metadata":{"usage_metadata":{"total_tokens":5}}}`)
	c.batch([]string{root, tool, llm}, []string{runJSON([]int{1, 2}, "run_type", `"llm"`)}).want(t, 202, batched)
	c.batch(nil, []string{runJSON([]int{1}, "name", `"agent"`, "end_time", `"2026-11-23T12:01:03Z"`)}).want(t, 202, batched)
	sub.Close()
	var out strings.Builder
	if err := Print(&out, sub); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"12:00:00.000  default           00000000    run 2                           llm           1.50s  12→3 tok\n" +
		"12:00:00.000  default           00000000      a·[2J·tool                    chain           0µs  5 tok  ERROR ValueError('no')\n" +
		"12:00:00.000  my-very-long-pr…  00000000  agent                             chain          1m3s\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("Print (-want +got):\n%s", diff)
	}
}

func TestRunsThatAreNotDeliveredAreCounted(t *testing.T) {
	s, c := start(t, clock())
	sub := s.Subscribe(1)
	for n := 1; n <= 3; n++ {
		c.batch([]string{runJSON([]int{n}, "end_time", `"2026-11-23T12:00:01Z"`)}, nil).want(t, 202, batched)
	}
	if got := <-sub.Runs; len(got) != 1 || got[0].ID != rid(1) || !got[0].Ended() {
		t.Errorf("delivered %+v", got)
	}
	if n := sub.MissedRuns(); n != 2 || sub.MissedRuns() != 0 || sub.Missed() != 0 {
		t.Errorf("MissedRuns() = %d, want 2", n)
	}
	sub.Close()
	if _, open := <-sub.Runs; open {
		t.Error("Runs still delivers after Close")
	}
}

func TestRunIDsAreReadAsWritten(t *testing.T) {
	for _, text := range []string{rid(300).String(), strings.ToUpper(rid(300).String()), strings.ReplaceAll(rid(300).String(), "-", "")} {
		if got, err := ParseRunID(text); err != nil || got != rid(300) {
			t.Errorf("ParseRunID(%q) = %v, %v", text, got, err)
		}
	}
	if _, err := ParseRunID("x"); err == nil {
		t.Error("ParseRunID(x) = nil error")
	}
}

func TestObjectsKeepWhatWasSent(t *testing.T) {
	const text = `{"b":1.50,"a":{"x" : "\u00e9<"},"":null}`
	o, err := parseObject([]byte(" " + text + "\n"))
	if err != nil || string(o.appendJSON(nil)) != text {
		t.Errorf("parseObject = %s, %v", o.appendJSON(nil), err)
	}
	if o, err = parseObject([]byte(`{"a":1,"b":2,"a":3}`)); err != nil || string(o.appendJSON(nil)) != `{"a":3,"b":2}` {
		t.Errorf("a name twice = %s, %v", o.appendJSON(nil), err)
	}
	for _, bad := range []string{"", "null", "[]", `{"a":}`, `{"a":1`, `{"a":1,}`, `{}x`, `{} {}`} {
		if _, err := parseObject([]byte(bad)); err == nil {
			t.Errorf("parseObject(%q) = nil error", bad)
		}
	}
}
