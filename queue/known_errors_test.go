package queue

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
)

// known is a kind of damage that was seen or is to be expected, and what the
// queue makes of it.
type known struct {
	name string

	// crash: the directory is a process kill's; else it was closed cleanly.
	crash bool
	// damage is done to the copy. active is the newest segment's directory,
	// old that of the segment with messages 1 to 3.
	damage func(t *testing.T, active, old string)

	want    []uint64 // pending afterwards; nil: 1 to 5, all
	dropped int64    // items counted as damaged_on_disk
	kept    int64    // items in a case for damage
	aside   bool     // a directory is set aside
	report  string   // part of what a person is told
}

func TestKnownDamage(t *testing.T) {
	for _, k := range knownDamage() {
		t.Run(k.name, func(t *testing.T) { k.run(t) })
	}
}

// run makes two segments: messages 1 to 3 (lane a) in the old one, 4 (lane a)
// and 5 (lane b) in the active one, which also has a case, a note, and the
// record that message 6 was delivered. Messages 1 and 4 have a blob.
func (k known) run(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	cfg := smallConfig(filepath.Join(t.TempDir(), "origin"))
	cfg.ShelveAfter = 1 << 60
	q := mustOpen(t, cfg)
	for id := range uint64(3) {
		e := export("a", 3000, id+1)
		if id == 0 {
			e.Blobs = append(e.Blobs, mustWriteBlob(t, q, 1, 100))
		}
		mustAppend(t, q, e)
	}
	old := filepath.Base(q.active.dir)
	if err := q.rotate(); err != nil {
		t.Fatal(err)
	}
	active := filepath.Base(q.active.dir)
	e := export("a", 3000, 4)
	e.Blobs = append(e.Blobs, mustWriteBlob(t, q, 4, 100))
	mustAppend(t, q, e)
	mustAppend(t, q, export("b", 3000, 5))
	mustAppend(t, q, export("c", 3000, 6))
	l := leaseAllOf(t, q, laneID(q, "c"))[0]
	if err := l.Settle(Settlement{Result: ResultDelivered}); err != nil {
		t.Fatal(err)
	}
	if err := q.SetNote("note", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if k.crash {
		crashCopy(t, q, dir)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if !k.crash {
		copyDir(t, cfg.Dir, dir)
	}
	segments := filepath.Join(dir, "segments")
	k.damage(t, filepath.Join(segments, active), filepath.Join(segments, old))
	k.check(t, dir)
}

func (k known) check(t *testing.T, dir string) {
	cfg := smallConfig(dir)
	cfg.ShelveAfter = 1 << 60
	q := mustOpen(t, cfg)
	want := k.want
	if want == nil {
		want = []uint64{1, 2, 3, 4, 5}
	}
	pendingIDs(t, q) // finds damage
	checkKnownBlobs(t, q)
	var kept int64
	for _, c := range q.Cases() {
		if c.Kind != CaseDamage {
			continue
		}
		kept += c.Items
		if l, err := q.Lease(LeaseOptions{Lane: c.Lane, Place: c.Place, MaxRawBytes: everything}); l != nil || err != nil {
			t.Errorf("damaged frames were leased: %v, %v", l, err)
		}
	}
	walkAll(t, q, FrameFilter{}) // passes over what cannot be read
	tot := checkTotals(t, q)
	if tot.DroppedByReason["damaged_on_disk"] != k.dropped || kept != k.kept {
		t.Errorf("%d items dropped and %d kept as damaged, want %d and %d", tot.DroppedByReason["damaged_on_disk"], kept, k.dropped, k.kept)
	}
	if all := strings.Join(q.Stats().Reports, "\n"); !strings.Contains(all, k.report) || (k.report == "" && all != "") {
		t.Errorf("a person is told %q, want a mention of %q", all, k.report)
	}
	if diff := cmp.Diff(want, settleAll(t, q)); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	discardDamage(t, q, kept)
	mustAppend(t, q, export("a", 3000, 7))
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	asides, _ := filepath.Glob(filepath.Join(dir, "segments", "*"+asideSuffix))
	if (len(asides) > 0) != k.aside {
		t.Errorf("set aside: %v, want any: %v", asides, k.aside)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, cfg)
	if diff := cmp.Diff([]uint64{7}, settleAll(t, q)); diff != "" {
		t.Errorf("contents after another start (-want +got):\n%s", diff)
	}
	checkTotals(t, q)
	checkKnownBlobs(t, q)
}

// discardDamage drops what cannot be read.
func discardDamage(t *testing.T, q *Queue, want int64) {
	t.Helper()
	var items int64
	for _, c := range q.Cases() {
		n, err := q.Discard(t.Context(), c.Place, Discarding{Reason: "discarded", Blobs: func(_ string, f Frame) []string {
			t.Errorf("frame %s is damaged, and asked about", f.ID)
			return nil
		}})
		if err != nil {
			t.Errorf("discard what is damaged: %v", err)
		}
		items += n
	}
	if tot := checkTotals(t, q); items != want || tot.DroppedByReason["discarded"] != want || tot.Quarantined != 0 || len(q.Cases()) > 0 {
		t.Errorf("%d items are discarded of %d, and %d cases are left: %+v", items, want, len(q.Cases()), tot)
	}
}

// checkKnownBlobs: whatever is damaged, the blobs of messages 1 and 4 stay and
// can be read, under their name or set aside.
func checkKnownBlobs(t *testing.T, q *Queue) {
	t.Helper()
	var of []uint64
	for _, name := range blobNames(t, q.cfg.Dir) {
		of = append(of, checkBlob(t, q, strings.TrimSuffix(name, unclaimedSuffix)))
	}
	slices.Sort(of)
	if diff := cmp.Diff([]uint64{1, 4}, of); diff != "" {
		t.Errorf("blobs by message (-want +got):\n%s", diff)
	}
}

// TestUnreadableSegmentOutlivesAStartThatIsKilled: the start that finds it
// renames it last, and a kill before must not have the next one delete it.
func TestUnreadableSegmentOutlivesAStartThatIsKilled(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	mustAppend(t, q, export("a", 3000, 1))
	active := q.active.dir
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(active, "MANIFEST"), []byte("garbage, not a manifest"))
	killed := filepath.Join(t.TempDir(), "killed")
	cfg.step = func(name string) {
		if name == "recovered" {
			copyDir(t, cfg.Dir, killed)
		}
	}
	mustOpen(t, cfg)
	for _, dir := range []string{cfg.Dir, killed} {
		if dir == killed {
			again := mustOpen(t, smallConfig(dir))
			if err := again.keep(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "segments", filepath.Base(active)+asideSuffix)); err != nil {
			t.Errorf("the unreadable segment was not kept: %v", err)
		}
	}
}

func knownDamage() []known {
	const crash = true
	return []known{
		{name: "clean close", damage: func(*testing.T, string, string) {}},
		{name: "kill", crash: crash, damage: func(*testing.T, string, string) {}},
		{name: "0-byte write-ahead log", crash: crash, damage: func(t *testing.T, active, _ string) {
			write(t, filepath.Join(active, "00002.mem"), nil)
		}},
		{name: "0-byte value log", crash: crash, damage: func(t *testing.T, active, _ string) {
			write(t, filepath.Join(active, "000002.vlog"), nil)
		}},
		{name: "write-ahead log zeroed", crash: crash, damage: func(t *testing.T, active, _ string) {
			patch(t, filepath.Join(active, "00001.mem"), 0, make([]byte, 64<<10))
		}, want: []uint64{1, 2, 3}, aside: true, report: "cannot be"},
		{
			name: "value log cut", crash: crash, damage: func(t *testing.T, active, _ string) {
				path := filepath.Join(active, "000001.vlog")
				at := find(t, path, message(5, 3000)[:64])
				patch(t, path, at, make([]byte, 16<<10))
			},
			// Badger cuts the log off at the damage: nothing says any more how
			// many items the last frame had, so they are reported, not counted.
			want: []uint64{1, 2, 3, 4}, aside: true, report: "frames of segment",
		},
		{name: "bit flipped in a payload", damage: func(t *testing.T, _, old string) {
			flip(t, filepath.Join(old, "000001.vlog"), message(2, 3000)[100:200], 0)
		}, want: []uint64{1, 3, 4, 5}, kept: 1},
		{name: "bit flipped in a trace id", damage: func(t *testing.T, _, old string) {
			path := filepath.Join(old, "000001.vlog")
			at := find(t, path, message(2, 3000)[12:100])
			corrupt(t, path, before(t, path, at, "wF")+frameHeaderBytes+3)
		}, want: []uint64{1, 3, 4, 5}, kept: 1},
		{name: "bit flipped in a header", damage: func(t *testing.T, _, old string) {
			path := filepath.Join(old, "000001.vlog")
			at := find(t, path, message(2, 3000)[12:100])
			corrupt(t, path, before(t, path, at, "wF")+30)
		}, want: []uint64{1, 3, 4, 5}, dropped: 1, aside: true},
		{name: "damaged checkpoint", damage: rewrite(keyCheckpoint), report: "cannot be read", aside: true}, // Its journal says that 6 was delivered, and the old segment's
		// checkpoint and journal say the rest.

		{name: "damaged header of the active segment", damage: rewrite(keyHeader), report: "cannot be read", aside: true},
		{name: "damaged journal record", damage: rewrite(keyJournal), report: "journal"},
		{name: "segment directory missing", damage: func(t *testing.T, _, old string) {
			if err := os.RemoveAll(old); err != nil {
				t.Fatal(err)
			}
		}, want: []uint64{4, 5}, dropped: 3, report: "missing"},
		{name: "old segment unreadable", damage: func(t *testing.T, _, old string) {
			write(t, filepath.Join(old, "MANIFEST"), []byte("garbage, not a manifest"))
		}, want: []uint64{4, 5}, dropped: 3, aside: true},
		{name: "active segment unreadable", damage: func(t *testing.T, active, _ string) {
			write(t, filepath.Join(active, "MANIFEST"), []byte("garbage, not a manifest"))
		}, want: []uint64{1, 2, 3}, aside: true, report: "cannot be opened"},
		{name: "spare left behind", damage: func(t *testing.T, active, _ string) {
			copyDir(t, active, filepath.Join(filepath.Dir(active), "00000000000000ff"))
			rename(t, filepath.Join(filepath.Dir(active), "00000000000000ff", activeFile), spareFile)
		}},
		{name: "half-made segment left behind", damage: func(t *testing.T, active, _ string) {
			write(t, filepath.Join(filepath.Dir(active), "00000000000000ff", "MANIFEST"), []byte("Bd"))
		}},
		{name: "shelf copies never journaled", damage: func(t *testing.T, active, old string) {
			copyDir(t, old, filepath.Join(filepath.Dir(active), "00000000000000ff"+shelfSuffix))
		}},
	}
}

// rewrite returns a damage that spoils the last value under a prefix of the
// active segment's database.
func rewrite(prefix string) func(t *testing.T, active, old string) {
	return func(t *testing.T, active, _ string) {
		t.Helper()
		db, err := openBadger(active, storeRecover, storeConfig{logger: discardLogger})
		if err != nil {
			t.Fatal(err)
		}
		var key, value []byte
		if err := db.Scan([]byte(prefix), func(k, v []byte) error {
			key, value = slices.Clone(k), slices.Clone(v)
			return nil
		}); err != nil || key == nil {
			t.Fatalf("no value under %q: %v", prefix, err)
		}
		value[len(value)/2] ^= 4
		if err := db.(*badgerStore).db.Update(func(txn *badger.Txn) error { return txn.Set(key, value) }); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, path, name string) {
	t.Helper()
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), name)); err != nil {
		t.Fatal(err)
	}
}

func patch(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// find is where b stands in the file.
func find(t *testing.T, path string, b []byte) int64 {
	t.Helper()
	all := head(t, path)
	at := bytes.Index(all, b)
	if at < 0 {
		t.Fatalf("%s does not hold what is to be damaged", path)
	}
	return int64(at)
}

// before is where marker stands last before at.
func before(t *testing.T, path string, at int64, marker string) int64 {
	t.Helper()
	return int64(bytes.LastIndex(head(t, path)[:at], []byte(marker)))
}

func head(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 1<<20)
	n, _ := f.ReadAt(b, 0)
	return b[:n]
}

func corrupt(t *testing.T, path string, at int64) {
	t.Helper()
	patch(t, path, at, []byte{head(t, path)[at] ^ 0x10})
}

func flip(t *testing.T, path string, b []byte, offset int64) {
	t.Helper()
	corrupt(t, path, find(t, path, b)+offset)
}
