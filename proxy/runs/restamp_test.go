package runs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"weir/proxy/runs"
)

const (
	otherRun = "0190c3a1-7e4f-7cc0-8000-0123456789ac"
	day      = 24 * 60 * 60
)

func TestRestampMovesEveryTimeOfARunAndNothingElse(t *testing.T) {
	for _, tc := range []struct {
		name string
		op   runs.Op
		want runs.Op // Body and Fields
	}{
		{
			name: "as Python's SDK writes it",
			op: runs.Op{
				Kind: runs.Create,
				Body: []byte(`{"id":"x", "start_time":"2026-02-27T23:59:59.123456+00:00","end_time": null,"dotted_order":"20260227T235959123456Z` + someRun + `","name":"start_time"}`),
				Fields: [runs.NumFields][]byte{
					runs.Inputs: []byte(`{"start_time":"2026-02-27T23:59:59Z"}`),
					runs.Events: []byte(`[]`),
					runs.Extra:  []byte(`{"runtime":{"sdk":"py"},"metadata":{"a":1}}`),
				},
			},
			want: runs.Op{
				Body: []byte(`{"id":"x", "start_time":"2026-03-01T23:59:59.123456+00:00","end_time": null,"dotted_order":"20260301T235959123456Z` + someRun + `","name":"start_time"}`),
				Fields: [runs.NumFields][]byte{
					runs.Inputs: []byte(`{"start_time":"2026-02-27T23:59:59Z"}`),
					runs.Events: []byte(`[]`),
					runs.Extra:  []byte(`{"runtime":{"sdk":"py"},"metadata":{"a":1,"weir_restamped_by_seconds":172800,"weir_original_start_time":"2026-02-27T23:59:59.123456Z"}}`),
				},
			},
		},
		{
			name: "as JavaScript's SDK writes it",
			op: runs.Op{
				Kind: runs.Create,
				Body: []byte(`{"start_time":"2023-12-30T00:00:00.500001Z","end_time":1703894401500,"dotted_order":"20231230T000000500001Z` + someRun + `.20231230T000000500002Z` + otherRun + `"}`),
				Fields: [runs.NumFields][]byte{
					runs.Outputs: []byte(`{"end_time":1703894401500}`),
					runs.Events:  []byte(`[{"name":"new_token","time":"2023-12-30T00:00:00.9Z","kwargs":{"time":"2023-12-30T00:00:00Z"}},7,{"name":"end","time":1703894401500.25},{"time":null}]`),
				},
			},
			want: runs.Op{
				Body: []byte(`{"start_time":"2024-01-01T00:00:00.500001Z","end_time":1704067201500,"dotted_order":"20240101T000000500001Z` + someRun + `.20240101T000000500002Z` + otherRun + `"}`),
				Fields: [runs.NumFields][]byte{
					runs.Outputs: []byte(`{"end_time":1703894401500}`),
					runs.Events:  []byte(`[{"name":"new_token","time":"2024-01-01T00:00:00.9Z","kwargs":{"time":"2023-12-30T00:00:00Z"}},7,{"name":"end","time":1704067201500.25},{"time":null}]`),
					runs.Extra:   []byte(`{"metadata":{"weir_restamped_by_seconds":172800,"weir_original_start_time":"2023-12-30T00:00:00.500001Z"}}`),
				},
			},
		},
		{
			name: "an update says of its extra what its create's does, though it names no start",
			op: runs.Op{
				Kind:   runs.Update,
				Body:   []byte(`{"end_time":"2026-02-28 01:00:00+05:30","dotted_order":"20260227T235959123456Z` + someRun + `"}`),
				Fields: [runs.NumFields][]byte{runs.Extra: []byte(`{ }`)},
			},
			want: runs.Op{
				Body:   []byte(`{"end_time":"2026-03-02 01:00:00+05:30","dotted_order":"20260301T235959123456Z` + someRun + `"}`),
				Fields: [runs.NumFields][]byte{runs.Extra: []byte(`{ "metadata":{"weir_restamped_by_seconds":172800,"weir_original_start_time":"2026-02-27T23:59:59.123456Z"}}`)},
			},
		},
		{
			name: "an update without extra keeps quiet about it, as it would replace its create's",
			op:   runs.Op{Kind: runs.Update, Body: []byte(`{"start_time":"2026-02-27T00:00:00","tags":["a"]}`)},
			want: runs.Op{Body: []byte(`{"start_time":"2026-03-01T00:00:00","tags":["a"]}`)},
		},
		{
			name: "a weir before this one has moved it, too",
			op: runs.Op{
				Kind:   runs.Create,
				Body:   []byte(`{"start_time":"2026-02-27T00:00:00Z"}`),
				Fields: [runs.NumFields][]byte{runs.Extra: []byte(`{"metadata":{"weir_original_start_time":"2026-02-01T00:00:00Z","weir_restamped_by_seconds":2246400}}`)},
			},
			want: runs.Op{
				Body:   []byte(`{"start_time":"2026-03-01T00:00:00Z"}`),
				Fields: [runs.NumFields][]byte{runs.Extra: []byte(`{"metadata":{"weir_original_start_time":"2026-02-01T00:00:00Z","weir_restamped_by_seconds":2419200}}`)},
			},
		},
		{
			name: "what is no object in extra stays",
			op: runs.Op{
				Kind: runs.Create, Body: []byte(`{"start_time":"2026-02-27T00:00:00Z"}`),
				Fields: [runs.NumFields][]byte{runs.Extra: []byte(`{"metadata":[1]}`)},
			},
			want: runs.Op{
				Body:   []byte(`{"start_time":"2026-03-01T00:00:00Z"}`),
				Fields: [runs.NumFields][]byte{runs.Extra: []byte(`{"metadata":[1]}`)},
			},
		},
		{
			name: "a feedback moves with its run, and is itself as old as it is",
			op:   runs.Op{Kind: runs.Feedback, Body: []byte(`{"key":"k","created_at":"2026-02-27T00:00:00Z","start_time":"2026-02-27T00:00:00Z"}`)},
			want: runs.Op{Body: []byte(`{"key":"k","created_at":"2026-02-27T00:00:00Z","start_time":"2026-03-01T00:00:00Z"}`)},
		},
		{
			name: "a call has no trace to move with",
			op:   runs.Op{Kind: runs.Call, Body: []byte(`{"start_time":"2026-02-27T00:00:00Z"}`)},
			want: runs.Op{Body: []byte(`{"start_time":"2026-02-27T00:00:00Z"}`)},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.op.ID = runID(t, someRun)
			before := fmt.Sprintf("%s", tc.op.Fields) + string(tc.op.Body)
			got, err := tc.op.Restamp(2 * day)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(tc.want.Body), string(got.Body)); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
			for f := range got.Fields {
				if diff := cmp.Diff(string(tc.want.Fields[f]), string(got.Fields[f])); diff != "" {
					t.Errorf("%s (-want +got):\n%s", runs.FieldNames[f], diff)
				}
			}
			if after := fmt.Sprintf("%s", tc.op.Fields) + string(tc.op.Body); after != before {
				t.Error("what was given was changed")
			}
		})
	}
}

func TestRestampRefusesWhatItCannotMove(t *testing.T) {
	const ok = `"2026-02-27T00:00:00Z"`
	for _, tc := range []struct{ name, body, events, field string }{
		{"a start that is a date", `{"start_time":"2026-02-27"}`, ``, "start_time"},
		{"a day that there is not", `{"start_time":"2026-02-30T00:00:00Z"}`, ``, "start_time"},
		{"an end in seconds", `{"start_time":` + ok + `,"end_time":1772150400}`, ``, "end_time"},
		{"an end with an exponent", `{"end_time":1.7721504e12}`, ``, "end_time"},
		{"an end that is a list", `{"end_time":[]}`, ``, "end_time"},
		{"a dotted_order with nanoseconds and a dot", `{"dotted_order":"20260227T000000.000000Z` + someRun + `"}`, ``, "dotted_order"},
		{"a dotted_order of an ancestor without a time", `{"dotted_order":"` + someRun + `.20260227T000000000000Z` + someRun + `"}`, ``, "dotted_order"},
		{"an event", `{}`, `[{"time":"yesterday"}]`, "events.time"},
		{"a start after the year 9999", `{"start_time":"9999-12-31T00:00:00Z"}`, ``, "start_time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			op := runs.Op{Kind: runs.Create, ID: runID(t, someRun), Body: []byte(tc.body)}
			if tc.events != "" {
				op.Fields[runs.Events] = []byte(tc.events)
			}
			_, err := op.Restamp(2 * day)
			problem, ok := err.(*runs.ProblemError) //nolint:errorlint // it promises just that
			if !ok || problem.Field != tc.field || problem.Run != someRun || problem.Detail == "" {
				t.Errorf("got %v, want a problem with %s", err, tc.field)
			}
		})
	}
}

// A trace as callers write it, made of what rapid draws.
type drawnRun struct {
	id         runs.ID
	parent     int // -1: the root
	start, end time.Time
	order      string
	op         runs.Op
}

func drawTrace(t *rapid.T) []drawnRun {
	zones := []*time.Location{time.UTC, time.FixedZone("", 5*3600+1800), time.FixedZone("", -8*3600)}
	at := time.Unix(rapid.Int64Range(-1_000_000_000, 4_000_000_000).Draw(t, "root"), 0).Add(
		time.Duration(rapid.Int64Range(0, 999_999).Draw(t, "µs")) * time.Microsecond).UTC()
	list := make([]drawnRun, rapid.IntRange(1, 6).Draw(t, "runs"))
	for i := range list {
		r := &list[i]
		r.id[0], r.id[15], r.parent = 1, byte(i+1), i-1
		if i > 1 {
			r.parent = rapid.IntRange(0, i-1).Draw(t, "parent")
		}
		r.start = at
		if i > 0 {
			r.start = list[r.parent].start.Add(time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "later")) * time.Microsecond)
			r.order = list[r.parent].order + "."
		}
		r.end = r.start.Add(time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "takes")) * time.Millisecond)
		r.order += strings.ReplaceAll(r.start.Format("20060102T150405.000000"), ".", "") + "Z" + r.id.String()
		in := rapid.SampledFrom(zones).Draw(t, "zone")
		body := map[string]any{
			"id": r.id.String(), "trace_id": list[0].id.String(), "dotted_order": r.order, "name": rapid.String().Draw(t, "name"),
			"start_time": r.start.In(in).Format("2006-01-02T15:04:05.000000Z07:00"), "end_time": r.end.In(in).Format(time.RFC3339Nano),
		}
		if i > 0 {
			body["parent_run_id"] = list[r.parent].id.String()
		}
		if r.end.UnixMilli() > 100_000_000_000 && rapid.Bool().Draw(t, "end in ms") {
			r.end = r.end.Truncate(time.Millisecond)
			body["end_time"] = r.end.UnixMilli()
		}
		r.op = runs.Op{Kind: runs.Create, ID: r.id, Trace: list[0].id, Body: mustJSON(body)}
		r.op.Fields[runs.Inputs] = mustJSON(map[string]any{"start_time": body["start_time"], "x": rapid.String().Draw(t, "in")})
		r.op.Fields[runs.Outputs] = mustJSON(map[string]any{"dotted_order": r.order})
		r.op.Fields[runs.Events] = mustJSON([]any{map[string]any{"name": "e", "time": r.start.Format(time.RFC3339Nano)}})
	}
	return list
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// orderOf reads what a run says of its place.
func orderOf(op *runs.Op) string {
	var body struct {
		DottedOrder string `json:"dotted_order"`
	}
	if err := json.Unmarshal(op.Body, &body); err != nil {
		panic(err)
	}
	return body.DottedOrder
}

func TestAMovedTraceIsTheSameTreeWithTheSameDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trace := drawTrace(t)
		by := rapid.Int64Range(-500*day, 500*day).Draw(t, "by")
		shift := time.Duration(by) * time.Second
		var orders []string
		for i := range trace {
			r := &trace[i]
			got, err := r.op.Restamp(by)
			if err != nil {
				t.Fatal(err)
			}
			span, err := got.Span()
			if err != nil || !span.Start.Equal(r.start.Add(shift)) || !span.End.Equal(r.end.Add(shift)) {
				t.Fatalf("run %d is from %s to %s (%v), want both %s after %s and %s", i, span.Start, span.End, err, shift, r.start, r.end)
			}
			if err := got.Check(); err != nil {
				t.Fatalf("LangSmith would refuse it: %v", err)
			}
			order := orderOf(&got)
			if orders = append(orders, order); r.parent >= 0 && !strings.HasPrefix(order, orders[r.parent]+".") {
				t.Fatalf("run %d is at %s, not below its parent at %s", i, order, orders[r.parent])
			}
			for _, f := range []runs.Field{runs.Inputs, runs.Outputs} {
				if !bytes.Equal(got.Fields[f], r.op.Fields[f]) {
					t.Fatalf("%s were changed to %s", runs.FieldNames[f], got.Fields[f])
				}
			}
			for j := range i {
				if (order < orders[j]) != (r.order < trace[j].order) {
					t.Fatalf("runs %d and %d stand in another order", j, i)
				}
			}
		}
	})
}

func TestMovedTwiceIsMovedByTheSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := drawTrace(t)[0].op
		a, b := rapid.Int64Range(-50*day, 50*day).Draw(t, "a"), rapid.Int64Range(-50*day, 50*day).Draw(t, "b")
		once, err := op.Restamp(a + b)
		if err != nil {
			t.Fatal(err)
		}
		first, err := op.Restamp(a)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := first.Restamp(b)
		if diff := cmp.Diff(fmt.Sprintf("%s%s", once.Body, once.Fields), fmt.Sprintf("%s%s", twice.Body, twice.Fields)); diff != "" || err != nil {
			t.Fatalf("%v (-once +twice):\n%s", err, diff)
		}
		same, err := op.Restamp(a + b) // what comes late is moved alike
		if fmt.Sprint(same) != fmt.Sprint(once) || err != nil {
			t.Fatalf("the second time it is %s, %v", same.Body, err)
		}
	})
}

func TestAMovedUpdateIsStillFoldedIntoItsCreate(t *testing.T) {
	id := runID(t, someRun)
	create := runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{"start_time":"2026-02-27T00:00:00.100000+00:00"}`)}
	create.Fields[runs.Extra] = []byte(`{"metadata":{"a":1}}`)
	update := runs.Op{Kind: runs.Update, ID: id, Body: []byte(`{"end_time":"2026-02-27T00:00:01Z","dotted_order":"20260227T000000100000Z` + someRun + `"}`)}
	update.Fields[runs.Extra] = []byte(`{"metadata":{"a":1,"b":2}}`)
	c, err := create.Restamp(day)
	if err != nil {
		t.Fatal(err)
	}
	u, err := update.Restamp(day)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := runs.Merge(&c, &u)
	if err != nil || !bytes.Contains(merged.Fields[runs.Extra], []byte(runs.MetadataOriginalStart)) {
		t.Errorf("folded into %s, %v", merged.Fields[runs.Extra], err)
	}
}

// FuzzRestamp holds that what is moved is JSON where it was, that moving it back
// gives the same times, and that nothing is moved that cannot be read.
func FuzzRestamp(f *testing.F) {
	f.Add([]byte(`{"start_time":"2026-02-27T00:00:00.1+01:00","end_time":1772150400000,"dotted_order":"20260227T000000100000Z`+someRun+`"}`),
		[]byte(`[{"time":"2026-02-27T00:00:00Z"}]`), []byte(`{"metadata":{}}`), int64(172800))
	f.Add([]byte(`{"\u0073tart_time":"2026-02-27 00:00:00","end_time":null}`), []byte(`{}`), []byte(`null`), int64(-1))
	f.Add([]byte(`{"end_time":1e3}`), []byte(`[[],1,{"time":{}}]`), []byte(`{"metadata":null,"metadata":{"weir_restamped_by_seconds":"x"}}`), int64(1)<<40)
	f.Fuzz(func(t *testing.T, body, events, extra []byte, by int64) {
		by %= 1 << 40
		op := runs.Op{Kind: runs.Create, ID: runs.ID{1}, Body: body}
		op.Fields[runs.Events], op.Fields[runs.Extra] = events, extra
		before, beforeErr := op.Span()
		moved, err := op.Restamp(by)
		op.StartsOutside(runs.NewWindow(time.Unix(0, 0), time.Unix(1, 0)))
		if err != nil {
			return
		}
		after, afterErr := moved.Span()
		if beforeErr != nil || afterErr != nil {
			t.Fatalf("moved, but its times cannot be read: %v, %v", beforeErr, afterErr)
		}
		for _, at := range [][2]time.Time{{before.Start, after.Start}, {before.End, after.End}} {
			if at[0].IsZero() != at[1].IsZero() || !at[0].IsZero() && at[1].Unix()-at[0].Unix() != by {
				t.Fatalf("moved from %s to %s, want by %d s", at[0], at[1], by)
			}
		}
		for i, was := range [][]byte{body, events, extra} {
			is := [][]byte{moved.Body, moved.Fields[runs.Events], moved.Fields[runs.Extra]}[i]
			if runs.CheckValue(was) == nil && runs.CheckValue(is) != nil {
				t.Fatalf("%s became %s", was, is)
			}
		}
	})
}

func TestStartsOutside(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w := runs.NewWindow(now.Add(-24*time.Hour), now.Add(24*time.Hour))
	for _, tc := range []struct {
		body string
		want bool
	}{
		{`{"start_time":"2026-03-01T12:00:00Z"}`, false},
		{`{"start_time":"2026-02-28T12:00:00Z"}`, false},
		{`{"start_time":"2026-02-28T11:59:59.999999Z"}`, true},
		{`{"start_time" : "2026-02-28T13:00:00+02:00"}`, true},
		{`{"start_time":"2026-03-02T12:00:01Z"}`, true},
		{`{"start_time":1772193600000}`, true},  // 2026-02-27T12:00
		{`{"start_time":1772366400000}`, false}, // 2026-03-01T12:00
		{`{"start_time":null}`, false},
		{`{"start_time":"soon"}`, false},
		{`{}`, false},
		{`{"end_time":"2001-01-01T00:00:00Z"}`, false},
		{`{"child_runs":[{"start_time":"2001-01-01T00:00:00Z"}],"start_time":"2026-03-01T12:00:00Z"}`, false},
		{`{"child_runs":[{"start_time":"2026-03-01T12:00:00Z"}],"start_time":"2001-01-01T00:00:00Z"}`, true},
		{`{"name":"\"start_time\":\"2026-03-01T12:00:00Z\"","start_time":"2001-01-01T00:00:00Z"}`, true},
		{`{"\u0073tart_time":"2001-01-01T00:00:00Z"}`, true},
		{`{"name":"\u00e9","start_time":"2026-03-01T12:00:00Z"}`, false},
		{`{"start_time":"2026-03-01T12:00:00\u005a"}`, false},
	} {
		op := runs.Op{Kind: runs.Create, Body: []byte(tc.body)}
		if got := op.StartsOutside(w); got != tc.want {
			t.Errorf("%s starts outside: %v, want %v", tc.body, got, tc.want)
		}
	}
}

// Times are read by hand, for speed: they are the ones that package time reads,
// from the year 1 to 9999 in any zone.
func TestTimesAreReadAsPackageTimeDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-62_135_500_000, 253_402_200_000).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		in := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "zone"))
		text := at.In(in).Format(time.RFC3339Nano)
		op := runs.Op{Kind: runs.Create, Body: []byte(`{"start_time":"` + text + `"}`)}
		span, err := op.Span()
		if err != nil || !span.Start.Equal(at) {
			t.Fatalf("%s is read as %s, %v", text, span.Start, err)
		}
		if op.StartsOutside(runs.NewWindow(at, at)) || !op.StartsOutside(runs.NewWindow(at.Add(time.Second), at.Add(time.Second))) {
			t.Fatalf("%s is not found to be what it is", text)
		}
	})
}

// pythonBody is the object of a run as Python's SDK sends it.
const pythonBody = `{"id":"0190c3a1-7e4f-7cc0-8000-0123456789ab","name":"ChatOpenAI","start_time":"2026-03-01T12:00:00.123456+00:00",` +
	`"end_time":"2026-03-01T12:00:02.123456+00:00","run_type":"llm","parent_run_id":"0190c3a1-7e4f-7cc0-8000-0123456789aa","tags":["seq:step:2"],` +
	`"trace_id":"0190c3a1-7e4f-7cc0-8000-0123456789aa","dotted_order":"20260301T115959123456Z0190c3a1-7e4f-7cc0-8000-0123456789aa.` +
	`20260301T120000123456Z0190c3a1-7e4f-7cc0-8000-0123456789ab","session_name":"default","reference_example_id":null,"session_id":null}`

func BenchmarkStartsOutside(b *testing.B) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w := runs.NewWindow(now.Add(-24*time.Hour), now.Add(24*time.Hour))
	for name, body := range map[string]string{
		"fresh": pythonBody, "escapes": strings.Replace(pythonBody, "seq", `\u00e9`, 1),
	} {
		b.Run(name, func(b *testing.B) {
			op := runs.Op{Kind: runs.Create, Body: []byte(body)}
			b.ReportAllocs()
			for b.Loop() {
				if op.StartsOutside(w) {
					b.Fatal("it starts outside")
				}
			}
		})
	}
}

func BenchmarkRestamp(b *testing.B) {
	op := runs.Op{Kind: runs.Create, ID: runID(b, someRun), Body: []byte(pythonBody)}
	op.Fields[runs.Extra] = []byte(`{"runtime":{"sdk":"langsmith-py","sdk_version":"0.4.1"},"metadata":{"ls_provider":"openai"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := op.Restamp(172800); err != nil {
			b.Fatal(err)
		}
	}
}
