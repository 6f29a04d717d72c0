//go:build interop

package interop

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"weir/internal/smith"
)

// sampleRuns is what a program delivers, with ids and times of its own each
// time: a root, two children of one name, a file and a feedback.
func sampleRuns(t *testing.T, execution int) ([]smith.Run, []smith.Feedback) {
	t.Helper()
	id := func(n int) string { return fmt.Sprintf("%08x-1111-7222-8333-%012x", execution, n) }
	segment := func(n int) string { return fmt.Sprintf("20260102T0304%02d00000%dZ%s", execution, n, id(n)) }
	parse := func(text string) smith.RunID {
		parsed, err := smith.ParseRunID(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	run := func(n int, name string, more ...smith.Member) smith.Run {
		members := smith.Object{
			{Name: "id", Value: quoted(id(n))},
			{Name: "name", Value: quoted(name)},
			{Name: "start_time", Value: quoted(fmt.Sprintf("2026-01-02T03:04:%02d.00000%dZ", execution, n))},
			{Name: "end_time", Value: quoted(fmt.Sprintf("2026-01-02T03:04:%02d.5Z", execution))},
			{Name: "inputs", Value: json.RawMessage(fmt.Sprintf(`{"a": 1.0, "run": %q, "list": [{}, []]}`, id(1)))},
		}
		r := smith.Run{ID: parse(id(n)), Trace: parse(id(1)), DottedOrder: segment(1), Project: "interop", Workspace: "w", Members: append(members, more...)}
		if n > 1 {
			r.Parent, r.DottedOrder = parse(id(1)), segment(1)+"."+segment(n)
		}
		r.Members = append(r.Members, smith.Member{Name: "dotted_order", Value: quoted(r.DottedOrder)})
		return r
	}
	root := run(1, "root", smith.Member{Name: "error", Value: json.RawMessage("null")})
	root.Attachments = []smith.Attachment{{Name: "image", ContentType: "image/png", Bytes: 3, SHA256: sha256.Sum256([]byte("abc"))}}
	feedback := smith.Feedback{
		ID: parse(id(9)), Run: parse(id(1)), Workspace: "w",
		Members: smith.Object{{Name: "key", Value: quoted("score")}, {Name: "score", Value: json.RawMessage("0.50")}, {Name: "run_id", Value: quoted(id(1))}},
	}
	return []smith.Run{root, run(2, "child"), run(3, "child", smith.Member{Name: "outputs", Value: json.RawMessage("{}")})}, []smith.Feedback{feedback}
}

func quoted(text string) json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", text)) }

// itemsOf are the items of runs and feedback.
func itemsOf(runs []smith.Run, feedback []smith.Feedback) []item {
	var items []item
	for i := range runs {
		items = append(items, runItem(&runs[i]))
	}
	for i := range feedback {
		items = append(items, feedbackItem(&feedback[i]))
	}
	return items
}

func TestComparisonOfRunsNotices(t *testing.T) {
	set := func(r *smith.Run, name, value string) {
		for i := range r.Members {
			if r.Members[i].Name == name {
				r.Members[i].Value = json.RawMessage(value)
			}
		}
	}
	tests := map[string]struct {
		damage func(runs []smith.Run, feedback []smith.Feedback) ([]smith.Run, []smith.Feedback)
		want   string
	}{
		"a run that is missing":     {func(r []smith.Run, f []smith.Feedback) ([]smith.Run, []smith.Feedback) { return r[:2], f }, "/root#1/child#2 did not arrive"},
		"a run too many":            {func(r []smith.Run, f []smith.Feedback) ([]smith.Run, []smith.Feedback) { return append(r, r[1]), f }, "/root#1/child#3 arrived"},
		"another name":              {change(func(r []smith.Run) { set(&r[1], "name", `"Child"`) }), "did not arrive"},
		"another parent":            {change(func(r []smith.Run) { r[2].Parent = r[1].ID }), "did not arrive"},
		"another trace":             {change(func(r []smith.Run) { r[2].Trace = r[2].ID }), "/~trace"},
		"the digits of a number":    {change(func(r []smith.Run) { set(&r[0], "inputs", `{"a": 1, "run": "x", "list": [{}, []]}`) }), "/inputs/a is 1, directly 1.0"},
		"an empty object that went": {change(func(r []smith.Run) { set(&r[2], "outputs", "null") }), "/outputs is missing, directly it is {}"},
		"an error that came":        {change(func(r []smith.Run) { set(&r[0], "error", `"x"`) }), "/error is "},
		"a field too many":          {change(func(r []smith.Run) { r[0].Members = append(r[0].Members, smith.Member{Name: "x", Value: quoted("")}) }), "/x is "},
		"a run's id in another's input": {change(func(r []smith.Run) {
			set(&r[1], "inputs", fmt.Sprintf(`{"a": 1.0, "run": %q, "list": [{}, []]}`, r[1].ID))
		}), "/inputs/run"},
		"another dotted order":       {change(func(r []smith.Run) { set(&r[2], "dotted_order", string(quoted(r[1].DottedOrder))) }), "/dotted_order"},
		"a start that was moved":     {change(func(r []smith.Run) { set(&r[0], "start_time", `"2026-01-02T03:04:00Z"`) }), "starts as its dotted order says"},
		"an end before the start":    {change(func(r []smith.Run) { set(&r[0], "end_time", `"2025-01-02T03:04:00Z"`) }), "ends after its start"},
		"an end that went":           {change(func(r []smith.Run) { r[0].Members = without(r[0].Members, "end_time") }), "/end_time is missing"},
		"another project":            {change(func(r []smith.Run) { r[0].Project = "default" }), "/~project"},
		"another key":                {change(func(r []smith.Run) { r[0].Key = ownKey }), "/~key"},
		"an attachment that went":    {change(func(r []smith.Run) { r[0].Attachments = nil }), "/~attachments/image is missing"},
		"an attachment's content":    {change(func(r []smith.Run) { r[0].Attachments[0].SHA256[0]++ }), "/~attachments/image is"},
		"an attachment's type":       {change(func(r []smith.Run) { r[0].Attachments[0].ContentType = "" }), "/~attachments/image is"},
		"a feedback that is missing": {func(r []smith.Run, _ []smith.Feedback) ([]smith.Run, []smith.Feedback) { return r, nil }, "/root#1/feedback score#1 did not arrive"},
		"a feedback's score": {func(r []smith.Run, f []smith.Feedback) ([]smith.Run, []smith.Feedback) {
			f[0].Members[1].Value = json.RawMessage("0.5")
			return r, f
		}, "/score is 0.5, directly 0.50"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			direct := itemsOf(sampleRuns(t, 1))
			runs, feedback := sampleRuns(t, 2)
			if found := differences(direct, itemsOf(runs, feedback)); len(found) > 0 {
				t.Fatalf("undamaged, the comparison finds %q", found)
			}
			if found := strings.Join(differences(direct, itemsOf(tt.damage(runs, feedback))), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("damaged, the comparison finds\n%s\nwant something with %q", found, tt.want)
			}
		})
	}
}

// change damages runs only.
func change(damage func([]smith.Run)) func([]smith.Run, []smith.Feedback) ([]smith.Run, []smith.Feedback) {
	return func(runs []smith.Run, feedback []smith.Feedback) ([]smith.Run, []smith.Feedback) {
		damage(runs)
		return runs, feedback
	}
}

// without returns an object without a member.
func without(o smith.Object, name string) smith.Object {
	var rest smith.Object
	for _, m := range o {
		if m.Name != name {
			rest = append(rest, m)
		}
	}
	return rest
}
