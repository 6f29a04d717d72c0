package runs_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"weir/proxy/runs"
)

const (
	childID = "0198f000-0000-7000-8000-000000000002"
	otherID = "0198f000-0000-7000-8000-000000000003"
	atNow   = "20250901T100000123456Z"
)

func TestFillPlacesRuns(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 9, 1, 10, 0, 0, 123456789, time.UTC)
	parse := func(text string) runs.ID {
		if text == "" {
			return runs.ID{}
		}
		id, err := runs.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	madeID, err := runs.NewID(now, bytes.NewReader(make([]byte, 10)))
	if err != nil {
		t.Fatal(err)
	}
	made := madeID.String()
	rootOrder := "20250901T095959000000Z" + otherID
	find := func(id runs.ID) (runs.Placed, bool) {
		return runs.Placed{ID: id, Trace: id, DottedOrder: rootOrder, Project: "p"}, id == parse(otherID)
	}
	for name, tc := range map[string]struct {
		id, trace, parent, order string
		update                   bool
		wantID, wantTrace, want  string
		project                  string
		unplaced                 bool
		problem                  string
	}{
		"root of nothing":      {wantID: made, wantTrace: made, want: atNow + made},
		"root with id":         {id: childID, wantID: childID, wantTrace: childID, want: atNow + childID},
		"root of other trace":  {id: childID, trace: otherID, problem: "trace_id"},
		"child":                {id: childID, parent: otherID, wantID: childID, wantTrace: otherID, want: rootOrder + "." + atNow + childID, project: "p"},
		"child of other trace": {id: childID, parent: otherID, trace: childID, problem: "trace_id"},
		"its own parent":       {id: childID, parent: childID, problem: "parent_run_id"},
		"unknown parent":       {id: otherID, parent: childID, unplaced: true, wantID: otherID},
		"order says all":       {order: rootOrder + "." + atNow + childID, wantID: childID, wantTrace: otherID, want: rootOrder + "." + atNow + childID, project: "p"},
		"order is none":        {order: "x", problem: "dotted_order"},
		"update":               {update: true, id: otherID, wantID: otherID, wantTrace: otherID, want: rootOrder},
		"update of unknown":    {update: true, id: childID, unplaced: true, wantID: childID},
		"update of nothing":    {update: true, problem: "id"},
		"update, other trace":  {update: true, id: otherID, trace: childID, problem: "trace_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := runs.Filler{Now: now, Random: bytes.NewReader(make([]byte, 10)), Find: find}
			d := runs.Draft{ID: parse(tc.id), Trace: parse(tc.trace), Parent: parse(tc.parent), DottedOrder: tc.order}
			fill := f.Create
			if tc.update {
				fill = f.Update
			}
			placed, err := fill(&d)
			if tc.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tc.problem+": ") {
					t.Fatalf("error %v, want one about %s", err, tc.problem)
				}
				return
			}
			if err != nil || placed == tc.unplaced {
				t.Fatalf("placed %t: %v", placed, err)
			}
			if d.ID != parse(tc.wantID) || d.Trace != parse(tc.wantTrace) || d.DottedOrder != tc.want || d.Project != tc.project {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestFillKnowsWhenRunsBegan(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 9, 1, 10, 0, 0, 0, time.UTC)
	parent, err := runs.ParseID(otherID)
	if err != nil {
		t.Fatal(err)
	}
	const rootOrder = "20250901T095959250000Z" + otherID
	known := runs.Placed{ID: parent, Trace: parent, DottedOrder: rootOrder}
	began := time.Date(2025, 9, 1, 9, 59, 59, 250_000_000, time.UTC)
	early := began.Add(-time.Minute)
	child, err := runs.ParseID(childID)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		draft runs.Draft
		start time.Time
		order string
	}{
		"now":                     {runs.Draft{ID: child}, now, "20250901T100000000000Z" + childID},
		"sent again":              {runs.Draft{ID: parent}, began, rootOrder},
		"sent again, with a time": {runs.Draft{ID: parent, StartTime: early}, early, "20250901T095859250000Z" + otherID},
		"as the order says":       {runs.Draft{DottedOrder: "20250901T095959250Z" + childID}, began, "20250901T095959250Z" + childID},
		"order of whole seconds":  {runs.Draft{DottedOrder: "20250901T095959Z" + childID}, began.Truncate(time.Second), "20250901T095959Z" + childID},
		"after its parent":        {runs.Draft{ID: child, Parent: parent, StartTime: now}, now, rootOrder + ".20250901T100000000000Z" + childID},
		"before its parent":       {runs.Draft{ID: child, Parent: parent, StartTime: early}, early, rootOrder + ".20250901T095959250000Z" + childID},
	} {
		f := runs.Filler{Now: now, Random: bytes.NewReader(make([]byte, 10)), Find: func(id runs.ID) (runs.Placed, bool) { return known, id == parent }}
		if _, err := f.Create(&tc.draft); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !tc.draft.StartTime.Equal(tc.start) || tc.draft.DottedOrder != tc.order {
			t.Errorf("%s: began %s at %s, want %s at %s", name, tc.draft.StartTime, tc.draft.DottedOrder, tc.start, tc.order)
		}
	}
}

func TestNewIDsAreOfVersion7(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at   time.Time
		want string
	}{
		{time.UnixMilli(0x0123456789ab), "01234567-89ab-7fff-bfff-ffffffffffff"},
		{time.UnixMilli(-5), "00000000-0000-7fff-bfff-ffffffffffff"},
	} {
		id, err := runs.NewID(tc.at, bytes.NewReader(bytes.Repeat([]byte{0xff}, 10)))
		if err != nil || id.String() != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.at, id, err, tc.want)
		}
	}
	if _, err := runs.NewID(time.Now(), strings.NewReader("short")); err == nil {
		t.Error("an id was made without randomness")
	}
}
