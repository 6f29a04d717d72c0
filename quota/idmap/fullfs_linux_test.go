package idmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestARealFullDiskIsSurvived fills a file system that is smaller than what
// the map wants to write, twice.
func TestARealFullDiskIsSurvived(t *testing.T) {
	if os.Getenv("WEIR_NO_MOUNT") == "1" || os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Log("NOT CHECKED: mounting file systems takes root")
		return
	}
	fs := t.TempDir()
	if err := unix.Mount("tmpfs", fs, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mounting is not possible here (%v): run as root, or set WEIR_NO_MOUNT=1 to go without this test", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(fs, 0) })
	filler := filepath.Join(fs, "filler")
	cfg := Config{Dir: filepath.Join(fs, "map"), MemEntries: 2000, manual: true}
	m := mustOpen(t, cfg)
	applied := 0
	for round := range 3 {
		if err := os.WriteFile(filler, make([]byte, (2-round)<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		for refused := 0; refused < 50; {
			err := m.Apply(&Batch{Keys: []Key{wide(applied)}, Entries: []Entry{{State: 1}}, Sync: applied%64 == 0})
			switch {
			case err == nil:
				applied++
			case errors.Is(err, unix.ENOSPC) || errors.Is(err, ErrFull):
				refused++
			default:
				t.Fatal(err)
			}
			if applied%500 == 0 || refused%10 == 9 {
				_, _ = m.work() // may fail, and is tried again
			}
		}
		if err := m.Close(); err != nil {
			t.Logf("round %d: close: %v", round, err)
		}
		m = mustOpen(t, cfg) // still full
		checkWide(t, m, applied, fmt.Sprintf("round %d", round))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if applied < 20_000 {
		t.Errorf("only %d entries fit", applied)
	}
	if err := m.Close(); err != nil {
		t.Logf("close: %v", err)
	}
}

// checkWide wants the first n of the wide keys, and no other.
func checkWide(t *testing.T, m *Map, n int, when string) {
	t.Helper()
	for i := range n {
		if e := get(t, m, wide(i)); e != (Entry{State: 1}) {
			t.Fatalf("%s: entry %d of %d is %v", when, i, n, e)
		}
	}
	if e := get(t, m, wide(n)); e != (Entry{}) || len(m.Problems()) > 0 {
		t.Fatalf("%s: what was refused is %v; problems %q", when, e, m.Problems())
	}
}
