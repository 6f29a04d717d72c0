package runs_test

import (
	"errors"
	"testing"

	"weir/proxy/runs"
)

func TestCheckDemandsWhatLangSmithDemands(t *testing.T) {
	t.Parallel()
	const (
		at    = "20260901T100000000001Z"
		root  = at + traceText
		child = root + "." + at + runText
	)
	for name, tc := range map[string]struct {
		kind           runs.Kind
		trace, members string
		want           string
	}{
		"root":                     {runs.Create, runText, `"dotted_order":"` + at + runText + `"`, ""},
		"child":                    {runs.Create, traceText, `"dotted_order":"` + child + `","parent_run_id":"` + traceText + `"`, ""},
		"grandchild":               {runs.Update, traceText, `"dotted_order":"` + root + "." + at + "0198aaaa-0000-7000-8000-00000000000f." + at + runText + `","parent_run_id":"0198aaaa-0000-7000-8000-00000000000f"`, ""},
		"update without parent":    {runs.Update, traceText, `"dotted_order":"` + child + `","parent_run_id":null`, ""},
		"milliseconds":             {runs.Create, runText, `"dotted_order":"20260901T100000000Z` + runText + `"`, ""},
		"nanoseconds":              {runs.Create, runText, `"dotted_order":"20260901T100000123456789Z` + runText + `"`, ""},
		"bad id of parent":         {runs.Create, traceText, `"dotted_order":"` + child + `","parent_run_id":"mum"`, `parent_run_id: "mum" is not a UUID`},
		"no trace":                 {runs.Create, "", `"dotted_order":"` + root + `"`, "trace_id: it is missing"},
		"no dotted order":          {runs.Create, traceText, `"name":"n"`, "dotted_order: it is missing"},
		"other run at the end":     {runs.Create, traceText, `"dotted_order":"` + root + `"`, "dotted_order: its last segment names " + traceText + ", want the run's own id"},
		"other trace":              {runs.Create, traceText, `"dotted_order":"` + at + runText + `"`, "dotted_order: its first segment names " + runText + ", want the trace_id " + traceText},
		"other parent":             {runs.Create, traceText, `"dotted_order":"` + child + `","parent_run_id":"` + runText + `"`, "dotted_order: its last segment but one names " + traceText + ", want the parent_run_id " + runText},
		"one segment for a child":  {runs.Create, runText, `"dotted_order":"` + at + runText + `","parent_run_id":"` + traceText + `"`, "dotted_order: it has one segment, want at least two for a run with a parent_run_id"},
		"two segments for a root":  {runs.Create, traceText, `"dotted_order":"` + child + `"`, "dotted_order: it has 2 segments, want one for a run without a parent_run_id"},
		"no time":                  {runs.Create, runText, `"dotted_order":"` + runText + `"`, `dotted_order: segment 0: "` + runText + `" is not a time like 20060102T150405000000Z and a run's id`},
		"no such day":              {runs.Create, runText, `"dotted_order":"20260231T100000000000Z` + runText + `"`, `dotted_order: segment 0: "20260231T100000000000" is not a time like 20060102T150405000000Z`},
		"letters in the fraction":  {runs.Create, runText, `"dotted_order":"20260901T100000x00000Z` + runText + `"`, `dotted_order: segment 0: "20260901T100000x00000" is not a time like 20060102T150405000000Z`},
		"no id in a segment":       {runs.Create, runText, `"dotted_order":"` + at + `x"`, `dotted_order: segment 0: "x" is not a UUID`},
		"another id in the object": {runs.Create, traceText, `"id":"` + traceText + `"`, "id: it is " + traceText + " in the run's object"},
		"another trace in it":      {runs.Create, traceText, `"trace_id":"` + runText + `"`, "trace_id: it is " + runText + " in the run's object"},
	} {
		op := runs.Op{Kind: tc.kind, ID: mustID(t, runText), Body: []byte("{" + tc.members + "}")}
		if tc.trace != "" {
			op.Trace = mustID(t, tc.trace)
		}
		err := op.Check()
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || err.Error() != "run "+runText+": "+tc.want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, tc.want)
		}
	}
}

func TestCheckOfOtherKinds(t *testing.T) {
	t.Parallel()
	id := mustID(t, runText)
	for name, tc := range map[string]struct {
		op    runs.Op
		field string // at fault, empty if nothing is
	}{
		"feedback":                     {runs.Op{Kind: runs.Feedback, ID: id, Trace: id}, ""},
		"feedback without trace":       {runs.Op{Kind: runs.Feedback, ID: id}, "trace_id"},
		"feedback without id":          {runs.Op{Kind: runs.Feedback, Trace: id}, "id"},
		"attachment":                   {runs.Op{Kind: runs.Attachment, ID: id, Name: "picture"}, ""},
		"attachment without name":      {runs.Op{Kind: runs.Attachment, ID: id}, "attachment"},
		"attachment with dot":          {runs.Op{Kind: runs.Attachment, ID: id, Name: "a.png"}, "attachment"},
		"attachment without run":       {runs.Op{Kind: runs.Attachment, Name: "a"}, "id"},
		"call":                         {runs.Op{Kind: runs.Call, Method: "PATCH", Path: "/runs/x"}, ""},
		"call without method":          {runs.Op{Kind: runs.Call, Path: "/runs/x"}, "method"},
		"call without path":            {runs.Op{Kind: runs.Call, Method: "PATCH", Path: "runs"}, "path"},
		"run whose body is no object":  {runs.Op{Kind: runs.Create, ID: id, Trace: id, Body: []byte("7")}, "whole"},
		"operation of an unknown kind": {runs.Op{Kind: 9, ID: id}, "whole"},
	} {
		err := tc.op.Check()
		var problem *runs.ProblemError
		switch {
		case tc.field == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case !errors.As(err, &problem):
			t.Errorf("%s: got %v", name, err)
		case problem.Field != tc.field && (tc.field != "whole" || problem.Field != ""):
			t.Errorf("%s: got %v, want field %s", name, err, tc.field)
		}
	}
}
