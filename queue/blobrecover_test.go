package queue

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStartComparesBlobsWithTheirNotes(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	whole, lost, cut := mustWriteBlob(t, q, 1, 10), mustWriteBlob(t, q, 2, 10), mustWriteBlob(t, q, 3, 10)
	loose := mustWriteBlob(t, q, 4, 10)
	mustAppend(t, q, withBlob(withBlob(withBlob(export("a", 10, 1, 2, 3), whole), lost), cut))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, q.blobs.path(loose.ID)+blobPartSuffix, []byte("half"))
	write(t, q.blobs.path("README"), []byte("a person's"))
	truncate(t, q.blobs.path(cut.ID), 3)
	if err := os.Remove(q.blobs.path(lost.ID)); err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, cfg)
	reports := strings.Join(q.Stats().Reports, "\n")
	if !strings.Contains(reports, lost.ID) || !strings.Contains(reports, cut.ID) || strings.Contains(reports, whole.ID) {
		t.Errorf("a person is told %q, want blobs %s and %s named", reports, lost.ID, cut.ID)
	}
	want := slices.Sorted(slices.Values([]string{whole.ID, cut.ID, "README"}))
	if diff := cmp.Diff(want, blobNames(t, cfg.Dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	checkBlob(t, q, whole.ID)
	if _, err := readBlob(q, lost.ID); !errors.Is(err, ErrNoBlob) {
		t.Errorf("open the lost blob: %v", err)
	}
	l := leaseAllOf(t, q, laneID(q, "a"))[0]
	if err := l.Settle(Settlement{Result: ResultDelivered, Blobs: []string{whole.ID, lost.ID, cut.ID}}); err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.Blobs != 0 || s.BlobBytes != 0 {
		t.Errorf("%d blobs of %d bytes are left", s.Blobs, s.BlobBytes)
	}
}

// TestBlobsWithoutARecordAreSetAside: when the records cannot be read in full,
// what no note names may belong to somebody.
func TestBlobsWithoutARecordAreSetAside(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	b := mustWriteBlob(t, q, 1, 10)
	mustAppend(t, q, withBlob(export("a", 10, 1), b))
	active := q.active.dir
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	rewrite(keyJournal)(t, active, "")
	var at []string // the directory as a kill leaves it, at each step of the start
	killed := cfg
	killed.step = func(name string) {
		if strings.HasPrefix(name, "recover") || strings.HasPrefix(name, "rotat") {
			at = append(at, filepath.Join(t.TempDir(), name))
			copyDir(t, cfg.Dir, at[len(at)-1])
		}
	}
	q = mustOpen(t, killed)
	killed.step = nil
	dirs := append(at, cfg.Dir)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		again := smallConfig(dir)
		q = mustOpen(t, again)
		if diff := cmp.Diff([]string{b.ID + unclaimedSuffix}, blobNames(t, dir)); diff != "" {
			t.Fatalf("%s: files (-want +got):\n%s", filepath.Base(dir), diff)
		}
		if id := checkBlob(t, q, b.ID); id != 1 {
			t.Errorf("%s: the blob is of message %d", filepath.Base(dir), id)
		}
		for _, lane := range q.Lanes() {
			for _, l := range leaseAllOf(t, q, lane.ID) {
				if err := l.Settle(Settlement{Result: ResultDelivered, Blobs: blobsOf(frameBlobs(t, q, l.Frames[0]), []uint64{1})}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if names := blobNames(t, dir); len(names) > 0 {
			t.Errorf("%s: %v are left", filepath.Base(dir), names)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBlobOutlivesAnAppendThatFailedAndIsOnDisk: a commit may fail after all of
// it was written. The next start finds the frame, and must find its blob.
func TestBlobOutlivesAnAppendThatFailedAndIsOnDisk(t *testing.T) {
	var failing bool
	cfg := smallConfig(t.TempDir())
	cfg.open = func(dir string, mode storeMode, c storeConfig) (store, error) {
		if failing && mode == storeCreate {
			return nil, errInjected
		}
		s, err := openBadger(dir, mode, c)
		if err != nil {
			return nil, err
		}
		return &lateStore{store: s, failing: &failing}, nil
	}
	q := mustOpen(t, cfg)
	mustAppend(t, q, export("a", 10, 1))
	b := mustWriteBlob(t, q, 2, 100)
	failing = true
	if err := q.Append(t.Context(), withBlob(export("a", 10, 2), b)); !errors.Is(err, errInjected) {
		t.Fatalf("append: %v, want %v", err, errInjected)
	}
	q.RemoveBlob(b)
	copied := filepath.Join(t.TempDir(), "copy")
	crashCopy(t, q, copied)
	after := mustOpen(t, smallConfig(copied))
	for _, l := range leaseAllOf(t, after, laneID(after, "a")) {
		for _, f := range l.Frames {
			if slices.Contains(frameIDs(t, f), 2) && len(frameBlobs(t, after, f)) != 1 {
				t.Error("the frame does not name its blob")
			}
		}
		l.Return()
	}
	wantBlobs(t, after, b)
	failing = false // goes on in another segment, which begins without the export
	mustAppend(t, q, export("a", 10, 3))
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, q)
}

// lateStore fails a commit after it was written.
type lateStore struct {
	store
	failing *bool
	broken  bool
}

func (s *lateStore) Commit(entries []entry) error {
	if s.broken { // as promised by store
		return errInjected
	}
	err := s.store.Commit(entries)
	if *s.failing {
		s.broken = true
		return errInjected
	}
	return err
}
