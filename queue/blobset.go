package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Names in the directory of blobs besides the blobs' own.
const (
	blobDir        = "blobs"
	blobPartSuffix = ".part" // being written

	// unclaimedSuffix ends the name of a blob that no note names, after the
	// notes could not be read in full. weir does not remove it by itself.
	unclaimedSuffix = ".unclaimed"
)

// blobNotes begins the notes that name the blobs exports have taken; the value
// is a uvarint, the bytes of content.
const blobNotes = "blob/"

const (
	// maxBlobs bounds the blobs there may be.
	maxBlobs = maxNotes / 2

	// blobNoteBytes is about what a blob's note takes of a journal record.
	blobNoteBytes = 64
)

func isBlobID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// noteEvent is the event that makes the blob the export's.
func (b Blob) noteEvent() event {
	return event{kind: eventNote, text: blobNotes + b.ID, data: binary.AppendUvarint(nil, uint64(b.Bytes))}
}

// blobStanding is whose a blob is.
type blobStanding uint8

const (
	blobLoose    blobStanding = iota // nobody's: WriteBlob returned it
	blobTaken                        // an export's
	blobDoubtful                     // perhaps an export's: the commit failed, and may be on disk
)

type blobFile struct {
	standing blobStanding
	bytes    int64 // of the file; 0: it is missing
}

// blobSet is what this process knows of the blobs. Which of them exports have
// taken is durable in notes; the rest is gone with the process.
type blobSet struct {
	dir     string
	writers chan struct{} // bounds those who write

	mu      sync.Mutex // guards the fields below; leaf lock
	made    bool       // dir exists and is durable
	files   map[string]blobFile
	writing int
	doomed  []string // to be removed by the keeper
}

func newBlobSet(dir string) *blobSet {
	return &blobSet{
		dir: filepath.Join(dir, blobDir), writers: make(chan struct{}, maxBlobWriters), files: map[string]blobFile{},
	}
}

// path is where the file of that name is.
func (s *blobSet) path(name string) string { return filepath.Join(s.dir, name) }

// makeDir creates the directory, durably, when the first blob is written.
func (s *blobSet) makeDir() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(s.dir)); err != nil {
		return err
	}
	s.made = true
	return nil
}

// begin counts a blob that is going to be written.
func (s *blobSet) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.files) + s.writing; n >= maxBlobs {
		return &FullError{Reason: "blobs", Detail: fmt.Sprintf(
			"%d attachments are kept aside of the buffer, the most there may be; their number falls as the upstream takes data", n)}
	}
	s.writing++
	return nil
}

func (s *blobSet) abandoned() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing--
}

func (s *blobSet) written(id string, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing--
	s.files[id] = blobFile{blobLoose, bytes}
}

// take makes loose blobs an export's: all of them, or none and an error.
func (s *blobSet) take(blobs []Blob) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range blobs {
		f, ok := s.files[b.ID]
		if !ok || f.standing != blobLoose || f.bytes != b.Bytes+blobTrailerBytes {
			for _, undo := range blobs[:i] {
				s.stand(undo.ID, blobLoose)
			}
			return fmt.Errorf("append with blob %.40q of %d bytes, which was not written or belongs to another export: %w", b.ID, b.Bytes, ErrNoBlob)
		}
		s.stand(b.ID, blobTaken)
	}
	return nil
}

// stand changes a blob's standing. mu is held.
func (s *blobSet) stand(id string, standing blobStanding) {
	f := s.files[id]
	f.standing = standing
	s.files[id] = f
}

// giveBack makes the blobs loose again whose export was not kept.
func (s *blobSet) giveBack(blobs []Blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blobs {
		if s.files[b.ID].standing == blobTaken {
			s.stand(b.ID, blobLoose)
		}
	}
}

// doubt keeps the files of exports whose commit failed: what of it is on disk
// is known after the next start, or of no account once another segment has
// begun.
func (s *blobSet) doubt(requests []*appendRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range requests {
		for i := range r.parts {
			for _, b := range r.parts[i].export.Blobs {
				s.stand(b.ID, blobDoubtful)
			}
		}
	}
}

// count is how many blobs there are.
func (s *blobSet) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files)
}

func (s *blobSet) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.files[id]
	return ok
}

// resolve dooms what was in doubt: a new checkpoint is durable, and does not
// have it.
func (s *blobSet) resolve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, f := range s.files {
		if f.standing == blobDoubtful {
			s.stand(id, blobTaken) // by its end
			s.doomed = append(s.doomed, id)
		}
	}
}

// RemoveBlob removes a blob that no export has taken. It does nothing to
// another.
func (q *Queue) RemoveBlob(b Blob) {
	q.blobs.mu.Lock()
	f, ok := q.blobs.files[b.ID]
	loose := ok && f.standing == blobLoose
	if loose {
		q.blobs.stand(b.ID, blobTaken) // by its end: no export may take it now
	}
	q.blobs.mu.Unlock()
	if loose {
		q.unlinkBlobs([]string{b.ID})
	}
}

// forgetBlobs adds the events that end the blobs' notes to a change.
func (q *Queue) forgetBlobs(c *change, ids []string) {
	if len(ids) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if _, ok := q.st.notes[blobNotes+id]; ok {
			c.events = append(c.events, event{kind: eventNote, text: blobNotes + id})
			c.blobs = append(c.blobs, id)
		} else if isBlobID(id) && !q.blobs.has(id) { // perhaps one set aside
			c.blobs = append(c.blobs, id)
		}
	}
}

// unlinkBlobs removes files that no note names. What cannot be removed is tried
// again by the keeper, and by the next start.
func (q *Queue) unlinkBlobs(ids []string) {
	for _, id := range ids {
		err := q.blobIO("remove", func() error { return removeBlobFile(q.blobs.path(id)) })
		q.blobs.mu.Lock()
		f := q.blobs.files[id]
		if err != nil {
			q.blobs.doomed = append(q.blobs.doomed, id)
		} else {
			delete(q.blobs.files, id)
		}
		q.blobs.mu.Unlock()
		if err != nil {
			q.cfg.Logger.Warn("a blob could not be removed; it is tried again", "blob", id, "error", err)
			continue
		}
		q.disk.blobsChanged(-f.bytes)
	}
}

// removeBlobFile removes a blob, under whichever name it has.
func removeBlobFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		err = os.Remove(path + unclaimedSuffix)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// removeDoomed tries again to remove what could not be removed.
func (q *Queue) removeDoomed() {
	q.blobs.mu.Lock()
	doomed := q.blobs.doomed
	q.blobs.doomed = nil
	q.blobs.mu.Unlock()
	q.unlinkBlobs(doomed)
}

// blobIO runs one operation on the file of a blob, for a test to fail.
func (q *Queue) blobIO(name string, do func() error) error {
	if err := q.cfg.blobFault(name); err != nil {
		return err
	}
	return do()
}
