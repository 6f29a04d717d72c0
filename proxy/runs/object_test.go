package runs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy/runs"
)

const (
	runText   = "0198aaaa-0000-7000-8000-000000000001"
	traceText = "0198aaaa-0000-7000-8000-000000000002"
)

func mustID(t testing.TB, text string) runs.ID {
	t.Helper()
	id, err := runs.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFromObjectMovesFieldsAside(t *testing.T) {
	t.Parallel()
	const id = `"id":"` + runText + `"`
	for name, tc := range map[string]struct {
		object, body string
		fields       [runs.NumFields]string
	}{
		"none":           {`{` + id + `,"name":"n"}`, `{` + id + `,"name":"n"}`, [runs.NumFields]string{}},
		"first":          {`{"inputs":{"a":1},` + id + `}`, `{` + id + `}`, [runs.NumFields]string{runs.Inputs: `{"a":1}`}},
		"last":           {`{` + id + `,"error":"boom"}`, `{` + id + `}`, [runs.NumFields]string{runs.Error: `"boom"`}},
		"in the middle":  {`{` + id + `, "events" : [] , "name":"n"}`, `{` + id + `,"name":"n"}`, [runs.NumFields]string{runs.Events: `[]`}},
		"two in a row":   {`{` + id + `,"extra":{},"serialized":{},"a":1,"b":2}`, `{` + id + `,"a":1,"b":2}`, [runs.NumFields]string{runs.Extra: `{}`, runs.Serialized: `{}`}},
		"null":           {`{"outputs":null,` + id + `,"end_time":null}`, `{` + id + `,"end_time":null}`, [runs.NumFields]string{}},
		"every other":    {`{"inputs":1,"a":1,"outputs":2,` + id + `,"events":3,"b":2,"extra":4,"c":3,"error":5,"d":4,"serialized":6,"e":5}`, `{"a":1,` + id + `,"b":2,"c":3,"d":4,"e":5}`, [runs.NumFields]string{"1", "2", "3", "4", "5", "6"}},
		"escaped names":  {`{"\u0069\u0064":"` + runText + `","\u0069nputs":7}`, `{"\u0069\u0064":"` + runText + `"}`, [runs.NumFields]string{runs.Inputs: "7"}},
		"white space":    {" \n{ " + id + " ,\t\"inputs\" : \"x\" }\r\n", `{` + id + `}`, [runs.NumFields]string{runs.Inputs: `"x"`}},
		"twice inside":   {`{` + id + `,"inputs":{"1":1,"1":2}}`, `{` + id + `}`, [runs.NumFields]string{runs.Inputs: `{"1":1,"1":2}`}},
		"invalid UTF-8":  {`{` + id + `,"inputs":"caf` + "\xe9" + `","n":"\ud800"}`, `{` + id + `,"n":"\ud800"}`, [runs.NumFields]string{runs.Inputs: `"caf` + "\xe9" + `"`}},
		"odd name twice": {`{` + id + `,"x":1,"x":2}`, `{` + id + `,"x":1,"x":2}`, [runs.NumFields]string{}},
	} {
		object := []byte(tc.object)
		op, err := runs.FromObject(runs.Create, object)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var fields [runs.NumFields]string
		for i, f := range op.Fields {
			fields[i] = string(f)
		}
		if diff := cmp.Diff(tc.fields, fields); diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", name, diff)
		}
		if string(op.Body) != tc.body {
			t.Errorf("%s: body\ngot  %s\nwant %s", name, op.Body, tc.body)
		}
		if op.ID != mustID(t, runText) || op.Kind != runs.Create {
			t.Errorf("%s: %v of %v", name, op.Kind, op.ID)
		}
		if tc.body == tc.object && &op.Body[0] != &object[0] {
			t.Errorf("%s: the body was copied", name)
		}
		if string(object) != tc.object {
			t.Errorf("%s: the object was changed to %s", name, object)
		}
	}
}

func TestFromObjectReadsWhereARunBelongs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind      runs.Kind
		members   string
		trace     bool
		noProject bool
	}{
		"nothing":            {runs.Create, ``, false, true},
		"trace":              {runs.Create, `,"trace_id":"` + traceText + `"`, true, true},
		"bare trace":         {runs.Create, `,"trace_id":"` + strings.ReplaceAll(traceText, "-", "") + `"`, true, true},
		"nulls":              {runs.Create, `,"trace_id":null,"session_name":null,"session_id":null`, false, true},
		"project name":       {runs.Create, `,"session_name":"p"`, false, false},
		"an agent's address": {runs.Create, `,"address":"lrn:agents/a/environments/b"`, false, false},
		"project id":         {runs.Create, `,"session_id":"` + traceText + `"`, false, false},
		"update":             {runs.Update, ``, false, false},
		"project in extra":   {runs.Create, `,"extra":{"session_name":"p"}`, false, true},
	} {
		op, err := runs.FromObject(tc.kind, []byte(`{"id":"`+runText+`"`+tc.members+`}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if op.NoProject != tc.noProject || op.Trace.IsZero() == tc.trace {
			t.Errorf("%s: no project %t, trace %s", name, op.NoProject, op.Trace)
		}
	}
}

func TestFromObjectNamesRunAndField(t *testing.T) {
	t.Parallel()
	const id = `"id":"` + runText + `"`
	deep := strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)
	for object, want := range map[string]string{
		``:                                      "it is empty, want a JSON object",
		`[]`:                                    "it is not a JSON object",
		`{}`:                                    "id: it is missing, and a run cannot be told from others without it",
		`{"id":null}`:                           "id: it is missing, and a run cannot be told from others without it",
		`{"id":7}`:                              "id: 7 is not a UUID in a string",
		`{"id":"x"}`:                            `id: "x" is not a UUID`,
		`{` + id + `,` + id + `}`:               "run " + runText + ": id: it occurs twice",
		`{` + id + `,"trace_id":""}`:            "run " + runText + `: trace_id: "" is not a UUID`,
		`{` + id + `,"inputs":1,"inputs":2}`:    "run " + runText + ": inputs: it occurs twice",
		`{` + id + `,"inputs":null,"inputs":2}`: "run " + runText + ": inputs: it occurs twice",
		`{` + id + `,"inputs":{"a":tru}}`:       "run " + runText + ": inputs: not valid JSON at byte 62: invalid character '}' in literal true (expecting 'e')",
		`{` + id + `,"inputs":{"a":"b"`:         "run " + runText + ": inputs: not valid JSON at byte 62: unexpected EOF",
		`{` + id + `} {}`:                       "run " + runText + ": something follows the JSON value at byte 47",
		`{` + id + `,"inputs":` + deep + `}`:    "run " + runText + ": inputs: not valid JSON at byte 10053: exceeded max depth",
	} {
		_, err := runs.FromObject(runs.Create, []byte(object))
		if err == nil || err.Error() != want {
			t.Errorf("%.100s:\ngot  %v\nwant %s", object, err, want)
		}
		if _, ok := errors.AsType[*runs.ProblemError](err); !ok {
			t.Errorf("%.100s: got a %T", object, err)
		}
	}
}

func TestFeedbackTravelsAsAPartWhereItCan(t *testing.T) {
	t.Parallel()
	const ids = `"id":"` + runText + `","trace_id":"` + traceText + `"`
	for object, want := range map[string]bool{
		`{` + ids + `,"key":"k","score":1}`:                       true,
		`{` + ids + `,"extend_trace_retention":true}`:             true,
		`{` + ids + `,"extend_trace_retention":null}`:             true,
		`{` + ids + `,"extend_trace_retention":false}`:            false,
		`{` + ids + `,"_skip_trace_upgrade":true}`:                false,
		`{` + ids + `,"_skip_trace_upgrade":false,"error":false}`: true,
		`{"id":"` + runText + `"}`:                                false,
		`{"trace_id":"` + traceText + `"}`:                        false,
		`{"id":"mine","trace_id":"` + traceText + `"}`:            false,
		`{}`: false,
	} {
		op, asPart, err := runs.FeedbackFromObject([]byte(object))
		if err != nil || asPart != want {
			t.Errorf("%s: as part %t, error %v", object, asPart, err)
		}
		if string(op.Body) != object || op.Kind != runs.Feedback {
			t.Errorf("%s: %v with body %s", object, op.Kind, op.Body)
		}
	}
	if _, _, err := runs.FeedbackFromObject([]byte(`[]`)); err == nil {
		t.Error("an array was taken for a feedback")
	}
}

func FuzzFromObject(f *testing.F) {
	f.Fuzz(func(t *testing.T, object []byte) {
		before := string(object)
		op, err := runs.FromObject(runs.Create, object)
		if string(object) != before {
			t.Fatal("the object was changed")
		}
		if err != nil {
			return
		}
		// encoding/json takes whatever was taken, and finds the same in it.
		var whole, rest map[string]json.RawMessage
		if err := json.Unmarshal(object, &whole); err != nil {
			t.Fatalf("not an object: %v", err)
		}
		if err := json.Unmarshal(op.Body, &rest); err != nil {
			t.Fatalf("the body is not an object: %v: %q", err, op.Body)
		}
		for i, field := range op.Fields {
			if field != nil {
				rest[runs.FieldNames[i]] = field
			}
		}
		for name, value := range whole {
			if _, moved := runs.FieldNamed(name); moved && string(value) == "null" {
				continue
			}
			if string(rest[name]) != string(value) {
				t.Errorf("%q is %s, was %s", name, rest[name], value)
			}
			delete(rest, name)
		}
		for name := range rest {
			t.Errorf("%q was added", name)
		}
	})
}

func BenchmarkFromObject(b *testing.B) {
	object := []byte(`{"id":"` + runText + `","trace_id":"` + traceText + `","name":"ChatOpenAI","run_type":"llm","start_time":"2026-09-01T10:00:00.000000Z",` +
		`"session_name":"p","dotted_order":"20260901T100000000000Z` + traceText + `.20260901T100000000000Z` + runText + `","parent_run_id":"` + traceText + `",` +
		`"inputs":{"messages":["` + strings.Repeat("What is the answer? ", 60) + `"]},"extra":{"metadata":{"ls_provider":"openai"}}}`)
	b.SetBytes(int64(len(object)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := runs.FromObject(runs.Create, object); err != nil {
			b.Fatal(err)
		}
	}
}
