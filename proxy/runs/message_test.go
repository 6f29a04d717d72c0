package runs_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"weir/proxy/runs"
)

// everyField has every field of the stored form, none of them like another.
func everyField() runs.Op {
	return runs.Op{
		Kind: runs.Create, ID: runs.ID{1}, Trace: runs.ID{2}, Body: []byte(`{}`),
		Fields: [runs.NumFields][]byte{{'1'}, {'2'}, {'3'}, {'4'}, {'5'}, {'6'}},
		Name:   "n", ContentType: "c", Data: []byte("d"), Blob: "b", BlobBytes: 300, Method: "M", Path: "/p", NoProject: true,
	}
}

// storedEveryField is the stored form of everyField: it is on people's disks.
const storedEveryField = "0a570801121001000000000000000000000000000000" +
	"1a1002000000000000000000000000000000" + "22027b7d" + "2a0131" + "320132" + "3a0133" + "420134" + "4a0135" + "520136" +
	"5a016e" + "620163" + "6a0164" + "720162" + "78ac02" + "8201014d" + "8a01022f70" + "900101"

func TestTheStoredFormIsFixed(t *testing.T) {
	op := everyField()
	if got := hex.EncodeToString(runs.Append(nil, &op)); got != storedEveryField {
		t.Errorf("stored as\n%s, want\n%s", got, storedEveryField)
	}
	raw, err := hex.DecodeString(storedEveryField)
	if err != nil {
		t.Fatal(err)
	}
	var got []runs.Op
	if err := runs.Scan(append(raw, raw...), func(op runs.Op) error { got = append(got, op); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]runs.Op{op, op}, got); diff != "" {
		t.Errorf("two concatenated (-want +got):\n%s", diff)
	}
}

func TestScanPassesOverWhatALaterVersionAdds(t *testing.T) {
	for name, tc := range map[string]struct {
		stored string
		ok     bool
	}{
		"a field of an operation":      {"0a0608019a060178", true},
		"a field beside operations":    {"0a020801" + "120178", true},
		"an operation of another kind": {"0a020806", false},
		"an operation of no kind":      {"0a00", false},
		"an id that is too short":      {"0a050801" + "120101", false},
		"a length beyond the end":      {"0a050801", false},
		"a tag that is cut off":        {"0a0208018a", false},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := hex.DecodeString(tc.stored)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			err = runs.Scan(raw, func(runs.Op) error { n++; return nil })
			if (err == nil) != tc.ok || tc.ok && n != 1 {
				t.Errorf("read %d operations: %v", n, err)
			}
		})
	}
	stop := errors.New("stop")
	op := everyField()
	if err := runs.Scan(runs.Append(nil, &op), func(runs.Op) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's own error became %v", err)
	}
}

func TestWhatIsAppendedIsScanned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maybe := func(label string) []byte {
			if !rapid.Bool().Draw(t, "has "+label) {
				return nil
			}
			return rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, label)
		}
		var want []runs.Op
		var stored []byte
		for range rapid.IntRange(0, 5).Draw(t, "operations") {
			op := runs.Op{
				Kind: runs.Kind(rapid.IntRange(1, 5).Draw(t, "kind")), Body: maybe("body"), Data: maybe("data"),
				Name: rapid.String().Draw(t, "name"), Blob: rapid.String().Draw(t, "blob"), BlobBytes: int64(rapid.IntRange(0, 1<<40).Draw(t, "bytes")),
				Path: rapid.String().Draw(t, "path"), NoProject: rapid.Bool().Draw(t, "no project"),
			}
			copy(op.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
			for f := range op.Fields {
				op.Fields[f] = maybe(runs.FieldNames[f])
			}
			want = append(want, op)
			stored = runs.Append(stored, &op)
		}
		var got []runs.Op
		if err := runs.Scan(stored, func(op runs.Op) error { got = append(got, op); return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
