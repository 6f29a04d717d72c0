package idmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// worked is a map in the middle of its life: with runs, a frozen table, two
// logs, and every state it ever had.
func worked(t *testing.T) (dir *memDir, history []content) {
	dir = newMemDir()
	m := mustOpen(t, testConfig(dir))
	state := newContent()
	history = []content{state}
	for n := range 40 {
		b := &Batch{Sync: n%4 == 0, Records: map[string][]byte{"n": fmt.Append(nil, n)}}
		for i := range 4 {
			b.Keys = append(b.Keys, key(uint16(i%3), (n*4+i)%64))
			b.Entries = append(b.Entries, Entry{State: uint8(n + 1), Month: uint16(i)})
		}
		if err := m.Apply(b); err != nil {
			t.Fatal(err)
		}
		state = state.clone()
		state.apply(b)
		history = append(history, state)
		switch {
		case n < 20:
			work(t, m)
		case n < 36 && m.frozen != nil: // it stays in a run of its own
			if _, err := m.work(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m.frozen == nil || len(m.runs) < 2 || len(m.active) == 0 {
		t.Fatalf("frozen: %t, %d runs, %d in memory: not the state this test is about", m.frozen != nil, len(m.runs), len(m.active))
	}
	return dir.killed(), history
}

func newestLog(d *memDir) string {
	names, _ := d.list()
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, logPrefix) })
	return names[len(names)-1]
}

func isOneOf(history []content, got content) bool {
	return slices.ContainsFunc(history, func(c content) bool {
		return maps.Equal(c.entries, got.entries) && maps.EqualFunc(c.records, got.records, bytes.Equal)
	})
}

func TestLogCutAnywhereIsAnEarlierState(t *testing.T) {
	dir, history := worked(t)
	size := len(dir.names[newestLog(dir)].now)
	for cut := range size {
		d := dir.killed()
		n := d.names[newestLog(d)]
		n.now = n.now[:cut]
		m := mustOpen(t, testConfig(d))
		got := read(t, m)
		if !isOneOf(history, got) {
			t.Fatalf("cut at %d of %d: a state that never was", cut, size)
		}
		b := &Batch{Keys: []Key{key(0, 1)}, Entries: []Entry{{State: 99}}}
		if err := m.Apply(b); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		got.apply(b)
		m = mustOpen(t, testConfig(d.killed()))
		if diff := got.diff(read(t, m)); diff != "" {
			t.Fatalf("cut at %d, after an apply and a kill:\n%s", cut, diff)
		}
	}
}

// holds says whether a directory has a file with this content.
func holds(d *memDir, content []byte) bool {
	for _, n := range d.names {
		if bytes.Equal(n.now, content) {
			return true
		}
	}
	return false
}

// TestFlippedBitsAreNoticed flips a bit of each byte of each file. Nothing is
// made up, and either it is one of the problems and the file is kept, or what
// is there is a state that once was.
func TestFlippedBitsAreNoticed(t *testing.T) {
	dir, history := worked(t)
	ever := map[Key]map[Entry]bool{}
	for _, c := range history {
		for k, e := range c.entries {
			if ever[k] == nil {
				ever[k] = map[Entry]bool{{}: true}
			}
			ever[k][e] = true
		}
	}
	names, _ := dir.list()
	for _, name := range names {
		size := len(dir.names[name].now)
		for at := 0; at < size; at += 1 + size/150 {
			d := dir.killed()
			n := d.names[name]
			n.now[at] ^= 1 << (at % 8)
			flipped := slices.Clone(n.now)
			place := fmt.Sprintf("%s, byte %d of %d", name, at, size)
			m := mustOpen(t, testConfig(d))
			got := read(t, m)
			for k, e := range got.entries {
				if !ever[k][e] {
					t.Fatalf("%s: %v says %v, which was never written", place, k, e)
				}
			}
			if len(m.Problems()) == 0 && !isOneOf(history, got) {
				t.Fatalf("%s: no problem, and a state that never was", place)
			}
			if m.Clean() {
				t.Fatalf("%s: clean", place)
			}
			work(t, m)
			if after := read(t, m); got.diff(after) != "" {
				t.Fatalf("%s: work changed it:\n%s", place, got.diff(after))
			}
			if len(m.Problems()) > 0 && !holds(d, flipped) {
				t.Fatalf("%s: %q, and the damaged file is gone", place, m.Problems())
			}
			if err := m.Close(); err != nil {
				t.Fatalf("%s: close: %v", place, err)
			}
			if next := mustOpen(t, testConfig(d)); got.diff(read(t, next)) != "" {
				t.Fatalf("%s: another start changed it:\n%s", place, got.diff(read(t, next)))
			}
		}
	}
}

func TestMissingFilesAreProblems(t *testing.T) {
	dir, history := worked(t)
	names, _ := dir.list()
	for _, name := range names {
		d := dir.killed()
		delete(d.names, name)
		m := mustOpen(t, testConfig(d))
		last := name == newestLog(dir) // of which nothing is known then
		if len(m.Problems()) == 0 && !last {
			t.Errorf("without %s there is no problem", name)
		}
		got := read(t, m)
		if name == manifestName && history[len(history)-1].diff(got) != "" {
			t.Errorf("without %s not all is found:\n%s", name, history[len(history)-1].diff(got))
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := got.diff(read(t, mustOpen(t, testConfig(d)))); diff != "" {
			t.Errorf("without %s another start changes it:\n%s", name, diff)
		}
	}
}

func TestDamageInTheMiddleOfSyncedBatchesCostsOnlyThese(t *testing.T) {
	dir := newMemDir()
	m := mustOpen(t, Config{fs: dir, manual: true, boot: "boot-boot-boot-1"})
	var at int64
	for n := range 10 {
		if n == 5 {
			at = m.w.size
		}
		if err := m.Apply(&Batch{Keys: []Key{key(0, n)}, Entries: []Entry{{State: 1}}, Sync: true}); err != nil {
			t.Fatal(err)
		}
	}
	d := dir.killed()
	d.names[newestLog(d)].now[at+40] ^= 1
	m = mustOpen(t, Config{fs: d, manual: true, boot: "boot-boot-boot-1"})
	got := read(t, m)
	if _, there := got.entries[key(0, 5)]; there || len(got.entries) != 9 || len(m.Problems()) != 1 {
		t.Errorf("%d entries with problems %q, want the nine others and one problem", len(got.entries), m.Problems())
	}
	names, _ := d.list()
	if !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, damagedSuffix) }) {
		t.Errorf("files are %v, want the damaged log set aside", names)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if m = mustOpen(t, Config{fs: d, manual: true, boot: "boot-boot-boot-1"}); len(m.Problems()) > 0 || m.Clean() {
		t.Errorf("the next start has problems %q and is clean: %t, want none, and not", m.Problems(), m.Clean())
	}
}

func TestReadErrorsAreErrorsAndPass(t *testing.T) {
	dir, history := worked(t)
	m := mustOpen(t, testConfig(dir))
	keys := make([]Key, 0, 64)
	for n := range 64 {
		keys = append(keys, key(0, n))
	}
	dir.reads = 1
	if err := m.Get(keys, make([]Entry, len(keys))); err == nil {
		t.Error("a get says nothing of a read error")
	}
	dir.reads = 1
	if err := m.Scan(0, func(Key, Entry) bool { return true }); err == nil {
		t.Error("a scan says nothing of a read error")
	}
	if diff := history[len(history)-1].diff(read(t, m)); diff != "" || len(m.Problems()) > 0 {
		t.Errorf("afterwards there are problems %q and\n%s", m.Problems(), diff)
	}
}

func TestMergesThatFailAreTriedSmallerAndAgain(t *testing.T) {
	dir, history := worked(t)
	m := mustOpen(t, testConfig(dir))
	if err := m.Apply(&Batch{Sync: true}); err != nil {
		t.Fatal(err)
	}
	dir.failAt, dir.forever, dir.err = dir.ops+1, true, syscall.EDQUOT
	for range 5 {
		if _, err := m.work(); err == nil {
			t.Fatal("work has success without a disk")
		}
	}
	dir.failAt = 0
	work(t, m)
	if diff := history[len(history)-1].diff(read(t, m)); diff != "" {
		t.Error(diff)
	}
	names, _ := dir.list()
	if want := len(m.runs) + 2; len(names) != want {
		t.Errorf("files are %v, want %d runs, a log and a manifest", names, len(m.runs))
	}
}

// TestALogGivenUpIsNoDamage cuts the power after a failed sync, so that
// anything may be missing in the log, and the next log has it all.
func TestALogGivenUpIsNoDamage(t *testing.T) {
	dir := newMemDir()
	m := mustOpen(t, testConfig(dir))
	for n := range 4 {
		if err := m.Apply(one(n, Entry{State: 1})); err != nil {
			t.Fatal(err)
		}
	}
	dir.failAt, dir.err = dir.ops+1, syscall.EIO
	if err := m.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v, want %v", err, syscall.EIO)
	}
	if err := m.Apply(one(5, Entry{State: 1})); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(200) {
		next := mustOpen(t, testConfig(dir.powerCut(rand.New(rand.NewPCG(seed, 0)))))
		for n := range 4 {
			if get(t, next, key(0, n)) != (Entry{State: 1}) || len(next.Problems()) > 0 {
				t.Fatalf("seed %d: problems %q", seed, next.Problems())
			}
		}
	}
}

// TestANameMayNotBeDurable has a process killed between a rename and its sync,
// and then the power cut under the next.
func TestANameMayNotBeDurable(t *testing.T) {
	for failAt := 1; failAt < 30; failAt++ {
		dir, _ := worked(t)
		m := mustOpen(t, testConfig(dir))
		dir.failAt, dir.forever = dir.ops+failAt, true
		_ = m.Apply(one(1, Entry{State: 1}))
		for range 3 {
			_, _ = m.work()
		}
		next := dir.killed()
		m = mustOpen(t, testConfig(next))
		if err := m.Apply(&Batch{Keys: []Key{key(0, 2)}, Entries: []Entry{{State: 2}}, Sync: true}); err != nil {
			t.Fatal(err)
		}
		want := read(t, m)
		for seed := range uint64(4) {
			last := mustOpen(t, testConfig(next.powerCut(rand.New(rand.NewPCG(seed, 0)))))
			if diff := want.diff(read(t, last)); diff != "" || len(last.Problems()) > 0 {
				t.Fatalf("operation %d: problems %q and\n%s", failAt, last.Problems(), diff)
			}
		}
	}
}

func TestFilesThatCannotBeOpenedAreTriedAgain(t *testing.T) {
	dir, history := worked(t)
	dir.opens = 1
	if m, err := Open(testConfig(dir)); err == nil {
		t.Fatalf("a start without files has success, and problems %q", m.Problems())
	}
	m := mustOpen(t, testConfig(dir))
	now := history[len(history)-1].clone()
	dir.opens = 1
	b := one(1, Entry{State: 1}) // which starts a log
	if err := m.rotate(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("another log: %v, want %v", err, syscall.EMFILE)
	}
	if err := m.Apply(b); err != nil {
		t.Fatal(err)
	}
	now.apply(b)
	if err := m.Apply(&Batch{}); err != nil {
		t.Fatal(err)
	}
	dir.opens = 1
	if _, err := m.work(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("another run: %v, want %v", err, syscall.EMFILE)
	}
	work(t, m)
	if diff := now.diff(read(t, m)); diff != "" {
		t.Error(diff)
	}
	if next := mustOpen(t, testConfig(dir.killed())); now.diff(read(t, next)) != "" || len(next.Problems()) > 0 {
		t.Errorf("after a kill: problems %q and\n%s", next.Problems(), now.diff(read(t, next)))
	}
}
