package proxy

import (
	"bytes"
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

func TestRunsAreSplitByTrace(t *testing.T) {
	t.Parallel()
	attachment := runs.Op{Kind: runs.Attachment, ID: numbered(2), Name: "a", ContentType: "image/png", Blob: "b1", BlobBytes: 7}
	call := runs.Op{Kind: runs.Call, ID: numbered(3), Method: "PATCH", Path: "/runs/3", Body: []byte(`{}`)}
	nobody := runs.Op{Kind: runs.Call, Method: "POST", Path: "/feedback", Body: []byte(`{}`)}
	ops := []runs.Op{createOf(1, ""), createOf(2, ""), attachment, updateOf(1, ""), call, nobody, createOf(3, "")}
	var payload []byte
	for i := range ops {
		payload = runs.Append(payload, &ops[i])
	}
	pieces, err := RunsDivider{}.Split(payload, 3, func(id TraceID) int { return int(id[15]) % 3 })
	if err != nil {
		t.Fatal(err)
	}
	want := [][]int{{4, 5, 6}, {0, 3}, {1, 2}} // by number: a call's run may be a root, and its trace's id
	for k, numbers := range want {
		var expect []byte
		for _, n := range numbers {
			expect = runs.Append(expect, &ops[n])
		}
		if !bytes.Equal(pieces[k].Payload, expect) || pieces[k].Items != len(numbers) {
			t.Errorf("piece %d has %d operations, want %v", k, pieces[k].Items, numbers)
		}
	}
	if b := pieces[2].Blobs; len(b) != 1 || b[0] != "b1" {
		t.Errorf("blobs of the third piece: %v", b)
	}
	for from := range ops {
		p, err := RunsDivider{}.Slice(payload, from, len(ops))
		if err != nil || p.Items != len(ops)-from {
			t.Errorf("slice from %d: %d operations (%v)", from, p.Items, err)
		}
	}
}
