package runs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy/runs"
)

func runID(t testing.TB, text string) runs.ID {
	t.Helper()
	id, err := runs.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const someRun = "0190c3a1-7e4f-7cc0-8000-0123456789ab"

func TestMergeLetsTheUpdateWinMemberByMember(t *testing.T) {
	for _, tc := range []struct{ name, create, update, want string }{
		{"new members are added", `{"id":"a","name":"n"}`, `{"end_time":"t"}`, `{"id":"a","name":"n","end_time":"t"}`},
		{"given ones are replaced in place", `{"name":"n","tags":["x"],"id":"a"}`, `{"tags":["y"]}`, `{"name":"n","tags":["y"],"id":"a"}`},
		{"null does not win", `{"session_id":"s","parent_run_id":"p"}`, `{"session_id":null, "parent_run_id" : null}`, `{"session_id":"s","parent_run_id":"p"}`},
		{"objects are replaced whole", `{"x":{"a":1,"b":2}}`, `{"x":{"b":3}}`, `{"x":{"b":3}}`},
		{"odd names survive", `{"a\"b":1,"é":2}`, `{"\u00e9":3,"a\"b":4}`, `{"a\"b":4,"é":3}`},
		{"values stay as they were written", `{"n":1.0e5}`, `{"m":[1 , 2 ]}`, `{"n":1.0e5,"m":[1 , 2 ]}`},
		{"an empty update changes nothing", `{"n":1}`, `{}`, `{"n":1}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := runID(t, someRun)
			got, err := runs.Merge(&runs.Op{Kind: runs.Create, ID: id, Body: []byte(tc.create)}, &runs.Op{Kind: runs.Update, ID: id, Body: []byte(tc.update)})
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != runs.Create || string(got.Body) != tc.want {
				t.Errorf("merged into %s %s, want post %s", got.Kind, got.Body, tc.want)
			}
		})
	}
}

func TestMergeOfFields(t *testing.T) {
	id := runID(t, someRun)
	create := runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{}`), NoProject: true}
	create.Fields[runs.Inputs] = []byte(`{"q":1}`)
	create.Fields[runs.Outputs] = []byte(`{}`)
	create.Fields[runs.Events] = []byte(`[]`)
	create.Fields[runs.Extra] = []byte(`{"metadata":{"a":1,"deep":{"y":null}},"runtime":{"sdk":"py"}}`)
	update := runs.Op{Kind: runs.Update, ID: id, Body: []byte(`{"session_name":"p"}`)}
	update.Fields[runs.Outputs] = []byte(`{"a":2}`)
	update.Fields[runs.Events] = []byte(`null`)
	update.Fields[runs.Extra] = []byte(`{"metadata":{"b":2,"a":1,"deep":{"x":null,"y":[2]}},"runtime":{"sdk":"js"}}`)
	got, err := runs.Merge(&create, &update)
	if err != nil {
		t.Fatal(err)
	}
	want := [runs.NumFields]string{
		runs.Inputs: `{"q":1}`, runs.Outputs: `{"a":2}`, runs.Events: `[]`,
		runs.Extra: `{"metadata":{"b":2,"a":1,"deep":{"x":null,"y":[2]}},"runtime":{"sdk":"js"}}`,
	}
	for f := range want {
		if diff := cmp.Diff(want[f], string(got.Fields[f])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", runs.FieldNames[f], diff)
		}
	}
	if got.NoProject {
		t.Error("the update names a project, but the merged run is said to name none")
	}
}

// Where clients' ways of merging extra differ, nothing is merged.
func TestMergeLeavesExtraThatTheUpdateDoesNotRepeat(t *testing.T) {
	for _, tc := range []struct {
		name, create, update string
		merged               bool
	}{
		{"the same", `{"a":1}`, `{"a":1}`, true},
		{"the same and more, some of it changed", `{"m":{"a":1}}`, `{"m":{"b":[],"a":2},"n":1}`, true},
		{"an update for nothing", `null`, `{"a":1}`, true},
		{"null where there was null", `{"a":null}`, `{"a":null}`, true},
		{"an empty update", `{"m":{"a":1}}`, `{}`, false},
		{"a member that is left out", `{"m":{"a":1},"n":1}`, `{"m":{"a":1}}`, false},
		{"one within another that is left out", `{"m":{"a":1}}`, `{"m":{"b":1}}`, false},
		{"null in place of a value", `{"m":{"a":1}}`, `{"m":{"a":null}}`, false},
		{"a number in place of an object", `{"m":{"a":1}}`, `{"m":1}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := runID(t, someRun)
			create := runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{}`)}
			create.Fields[runs.Extra] = []byte(tc.create)
			update := runs.Op{Kind: runs.Update, ID: id, Body: []byte(`{}`)}
			update.Fields[runs.Extra] = []byte(tc.update)
			got, err := runs.Merge(&create, &update)
			if merged := err == nil; merged != tc.merged {
				t.Fatalf("merged: %t (%v), want %t", merged, err, tc.merged)
			}
			if tc.merged && string(got.Fields[runs.Extra]) != tc.update {
				t.Errorf("extra is %s, want %s", got.Fields[runs.Extra], tc.update)
			}
		})
	}
}

func TestMergeRefusesWhatIsNotOneRun(t *testing.T) {
	id, other := runID(t, someRun), runID(t, strings.Replace(someRun, "0190", "0191", 1))
	for _, tc := range []struct {
		name           string
		create, update runs.Op
	}{
		{"two runs", runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{}`)}, runs.Op{Kind: runs.Update, ID: other, Body: []byte(`{}`)}},
		{"two creates", runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{}`)}, runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{}`)}},
		{"a body that is no object", runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{}`)}, runs.Op{Kind: runs.Update, ID: id, Body: []byte(`[]`)}},
		{"a body that is cut off", runs.Op{Kind: runs.Create, ID: id, Body: []byte(`{"a":`)}, runs.Op{Kind: runs.Update, ID: id, Body: []byte(`{}`)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := runs.Merge(&tc.create, &tc.update); err == nil {
				t.Errorf("merged into %s", got.Body)
			}
		})
	}
}

func TestWithProject(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{`{}`, `{"session_name":"a \"b\""}`},
		{`{"id":"x","session_name":null}`, `{"id":"x","session_name":"a \"b\""}`},
	} {
		got, err := runs.WithProject([]byte(tc.body), `a "b"`)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != tc.want {
			t.Errorf("%s became %s, want %s", tc.body, got, tc.want)
		}
	}
}
