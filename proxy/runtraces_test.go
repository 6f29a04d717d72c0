package proxy

import (
	"testing"

	"weir/proxy/runs"
)

// TestOnlyWhatHasNoRunFollows: LangSmith counts the trace of an update that
// comes before its create, so it must find room like any other.
func TestOnlyWhatHasNoRunFollows(t *testing.T) {
	t.Parallel()
	feedback := runs.Op{Kind: runs.Feedback, ID: numbered(7), Trace: numbered(1), Body: []byte(`{"key":"k"}`)}
	attachment := runs.Op{Kind: runs.Attachment, ID: numbered(1), Trace: numbered(1), Name: "a", ContentType: "image/png", Data: []byte("x")}
	for _, tc := range []struct {
		name    string
		ops     []runs.Op
		follows bool
	}{
		{"a create", []runs.Op{createOf(1, "")}, false},
		{"an update without its create", []runs.Op{updateOf(1, "")}, false},
		{"feedback", []runs.Op{feedback}, true},
		{"an attachment", []runs.Op{attachment}, true},
		{"feedback, then an update", []runs.Op{feedback, updateOf(1, "")}, false},
	} {
		ids, marks := TracesOf(tc.ops)
		if len(ids) != 1 || len(marks) != 1 || marks[0].Follows != tc.follows {
			t.Errorf("%s: traces %v, marks %+v; want one trace, follows %t", tc.name, ids, marks, tc.follows)
		}
	}
}
