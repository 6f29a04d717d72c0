package runs_test

import (
	"strings"
	"testing"

	"weir/proxy/runs"
)

func TestKnownRunsAreBounded(t *testing.T) {
	t.Parallel()
	k := runs.NewKnown[string](2)
	add := func(n byte, order string) { k.Add("key", []runs.Placed{{ID: runs.ID{n}, DottedOrder: order}}) }
	for n := byte(1); n <= 3; n++ {
		add(n, "d")
		add(1, "d") // again, so that it stays
	}
	for n, want := range map[byte]bool{1: true, 2: false, 3: true} {
		if _, ok := k.Find("key", runs.ID{n}); ok != want {
			t.Errorf("run %d is known: %t", n, ok)
		}
	}
	if _, ok := k.Find("other", runs.ID{1}); ok {
		t.Error("another owner knows the run")
	}
	add(9, strings.Repeat("d", 4<<20+1))
	for _, n := range []byte{1, 3, 9} {
		if _, ok := k.Find("key", runs.ID{n}); ok {
			t.Errorf("run %d is still known", n)
		}
	}
}
