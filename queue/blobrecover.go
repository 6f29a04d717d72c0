package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// blobRecovery compares the directory of blobs with the notes. It reads no
// content.
type blobRecovery struct {
	q       *Queue
	strays  []string // files that no note names
	parts   []string // paths of files that were being written
	aside   map[string]bool
	missing []string
	resized []string
}

// listBlobs reads the directory, and makes the blobs with a note the queue's.
func (q *Queue) listBlobs() (*blobRecovery, error) {
	r := &blobRecovery{q: q, aside: map[string]bool{}}
	names, err := os.ReadDir(q.blobs.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	for _, de := range names {
		if !de.Type().IsRegular() {
			continue
		}
		name := de.Name()
		if id, ok := strings.CutSuffix(name, blobPartSuffix); ok && isBlobID(id) {
			r.parts = append(r.parts, q.blobs.path(name))
			continue
		}
		if id, ok := strings.CutSuffix(name, unclaimedSuffix); ok && isBlobID(id) {
			r.aside[id] = true
			continue
		}
		if !isBlobID(name) {
			continue // not weir's
		}
		info, err := de.Info()
		if err != nil {
			return nil, fmt.Errorf("list blobs: %w", err)
		}
		r.found(name, info.Size())
	}
	for key := range q.st.notes {
		id, ok := strings.CutPrefix(key, blobNotes)
		if _, have := q.blobs.files[id]; !ok || have {
			continue
		}
		q.blobs.files[id] = blobFile{standing: blobTaken}
		if !r.aside[id] {
			r.missing = append(r.missing, id)
		}
	}
	return r, nil
}

// found sorts one file of the directory.
func (r *blobRecovery) found(id string, bytes int64) {
	note, noted := r.q.st.notes[blobNotes+id]
	if !noted {
		r.strays = append(r.strays, id)
		return
	}
	r.q.blobs.files[id] = blobFile{blobTaken, bytes}
	r.q.disk.blobsChanged(bytes)
	if n, _ := binary.Uvarint(note); bytes != int64(n)+blobTrailerBytes {
		r.resized = append(r.resized, id)
	}
}

// setAside renames what no note names, for the notes may be incomplete. It
// comes before the new checkpoint, which a next start would believe.
func (r *blobRecovery) setAside() error {
	for _, id := range r.strays {
		path := r.q.blobs.path(id)
		if err := os.Rename(path, path+unclaimedSuffix); err != nil {
			return fmt.Errorf("set blob %s aside: %w", id, err)
		}
	}
	if n := len(r.strays); n > 0 {
		if err := syncDir(r.q.blobs.dir); err != nil {
			return err
		}
		r.q.report(fmt.Sprintf("%d attachments, the first of them blob %s, may belong to data in the buffer, as not every record of that could be read; their files are kept under names that end in %s until they are delivered or you remove them",
			n, r.strays[0], unclaimedSuffix))
	}
	r.strays = nil
	return nil
}

// finish removes what was never acknowledged or was settled, and reports what
// is not as it should be.
func (r *blobRecovery) finish() {
	if n := len(r.missing); n > 0 {
		r.q.report(fmt.Sprintf("%d attachments are missing from the data directory, the first of them blob %s; the data they belong to is delivered without them", n, r.missing[0]))
	}
	if n := len(r.resized); n > 0 {
		r.q.report(fmt.Sprintf("%d attachments have another length than was written, the first of them blob %s", n, r.resized[0]))
	}
	for _, path := range r.parts {
		if err := os.Remove(path); err != nil {
			r.q.cfg.Logger.Warn("a partial blob could not be removed; the next start tries again", "file", path, "error", err)
		}
	}
	r.q.unlinkBlobs(r.strays)
}
