package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// Blob names content that is kept aside of the frames, in a file of its own,
// because it is too large to be held in memory.
type Blob struct {
	// ID is 32 random hexadecimal digits. IDs are not reused.
	ID string
	// Bytes is the length of the content.
	Bytes int64
}

const (
	// blobPieceBytes is how much of a blob is in memory at a time, and how far
	// one writer may pass the bounds of the disk.
	blobPieceBytes = 256 << 10

	// blobSyncBytes is how much of a blob is written before it is synced: the
	// sync of a commit may have to wait for what others have not written yet.
	blobSyncBytes = 16 << 20

	// maxBlobWriters bounds the blobs written at a time, and so their memory.
	maxBlobWriters = 32

	// maxEmptyReads is how often a reader may return nothing in a row.
	maxEmptyReads = 100
)

var blobBuffers = sync.Pool{New: func() any { b := make([]byte, blobPieceBytes); return &b }}

// WriteBlob keeps what r has until its end, and returns once that is synced. It
// holds 256 KiB of it in memory. It returns a *FullError when there is no room
// for it, ErrTooLarge for content over maxBytes, ErrClosed, ctx.Err() once ctx
// has ended, and r's own error as it is; nothing is then kept. It waits while
// 32 others are being written, and for r: a read that ctx should interrupt must
// be ended by whoever made r.
//
// A blob lives until the process ends, for an export to take it (Export.Blobs).
// One that no export takes is removed by RemoveBlob, or by the next start.
func (q *Queue) WriteBlob(ctx context.Context, r io.Reader, maxBytes int64) (Blob, error) {
	if q.closing.Load() {
		return Blob{}, ErrClosed
	}
	select {
	case q.blobs.writers <- struct{}{}:
	case <-ctx.Done():
		return Blob{}, ctx.Err()
	case <-q.stop:
		return Blob{}, ErrClosed
	}
	defer func() { <-q.blobs.writers }()
	b, err := q.writeBlob(ctx, r, maxBytes)
	if _, full := errors.AsType[*FullError](err); full {
		signal(q.keepWake)
		q.metrics.refused(err)
	}
	return b, err
}

func (q *Queue) writeBlob(ctx context.Context, r io.Reader, maxBytes int64) (Blob, error) {
	if err := q.disk.refusal(); err != nil {
		return Blob{}, err
	}
	if err := q.blobs.begin(); err != nil {
		return Blob{}, err
	}
	w := &blobWriter{q: q, id: newBlobID()}
	err := w.fill(ctx, r, maxBytes)
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		w.abandon()
		return Blob{}, err
	}
	q.blobs.written(w.id, w.counted)
	return Blob{ID: w.id, Bytes: w.bytes}, nil
}

func newBlobID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	return hex.EncodeToString(id[:])
}

// blobWriter is a blob being written: a file under a temporary name.
type blobWriter struct {
	q        *Queue
	id       string
	f        *os.File
	bytes    int64 // of content
	sum      uint32
	counted  int64 // what the disk guard counts for the file
	unsynced int64
}

// path is where the blob is while it is written.
func (w *blobWriter) path() string { return w.q.blobs.path(w.id) + blobPartSuffix }

// fill writes the content.
func (w *blobWriter) fill(ctx context.Context, r io.Reader, maxBytes int64) error {
	if err := w.q.blobs.makeDir(); err != nil {
		return w.failed("create directory for", err)
	}
	err := w.q.blobIO("create", func() (err error) {
		w.f, err = os.OpenFile(w.path(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return w.failed("create", err)
	}
	buf := blobBuffers.Get().(*[]byte)
	defer blobBuffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.q.closing.Load() {
			return ErrClosed
		}
		n, rerr := readFull(r, *buf)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return rerr
		}
		if w.bytes+int64(n) > maxBytes {
			return fmt.Errorf("%w: the limit for content kept aside is %d bytes", ErrTooLarge, maxBytes)
		}
		if err := w.put((*buf)[:n]); err != nil {
			return err
		}
		w.bytes += int64(n)
		w.sum = crc32.Update(w.sum, castagnoli, (*buf)[:n])
		if rerr != nil {
			return nil
		}
	}
}

// readFull reads until buf is full or r fails. Unlike io.ReadFull it returns
// io.EOF only where r did: io.ErrUnexpectedEOF is how a request body says that
// it was cut off.
func readFull(r io.Reader, buf []byte) (n int, err error) {
	for empty := 0; n < len(buf) && err == nil; {
		var m int
		m, err = r.Read(buf[n:])
		if n += m; m > 0 {
			empty = 0
		} else if empty++; empty >= maxEmptyReads && err == nil {
			return n, io.ErrNoProgress
		}
	}
	return n, err
}

// put writes one piece, if the disk has room for it.
func (w *blobWriter) put(piece []byte) error {
	n := int64(len(piece))
	if n == 0 {
		return nil
	}
	if full := w.q.disk.takeBlob(n); full != nil {
		return full
	}
	w.counted += n
	err := w.q.blobIO("write", func() error {
		_, err := w.f.Write(piece)
		return err
	})
	w.q.disk.blobWritten(n)
	if err != nil {
		return w.failed("write", err)
	}
	if w.unsynced += n; w.unsynced >= blobSyncBytes {
		w.unsynced = 0
		return w.sync()
	}
	return nil
}

func (w *blobWriter) sync() error {
	if w.q.cfg.NoSync {
		return nil
	}
	if err := w.q.blobIO("sync", w.f.Sync); err != nil {
		return w.failed("sync", err)
	}
	return nil
}

// finish writes the trailer and gives the file its name.
func (w *blobWriter) finish() error {
	trailer := blobTrailer{bytes: w.bytes, sum: w.sum}
	if err := w.put(trailer.encode()); err != nil {
		return err
	}
	if err := w.sync(); err != nil {
		return err
	}
	err := w.q.blobIO("close", w.f.Close)
	if err != nil {
		return w.failed("close", err)
	}
	w.f = nil
	w.q.cfg.step("blob-written")
	if err := w.q.blobIO("rename", func() error { return os.Rename(w.path(), w.q.blobs.path(w.id)) }); err != nil {
		return w.failed("name", err)
	}
	if !w.q.cfg.NoSync {
		if err := w.q.blobIO("sync", func() error { return syncDir(w.q.blobs.dir) }); err != nil {
			return w.failed("sync the directory of", err)
		}
	}
	w.q.cfg.step("blob-named")
	return nil
}

// failed says what could not be done; a lack of space is a refusal. These are
// plain writes: a full disk is an error of theirs, and not the end of the
// process.
func (w *blobWriter) failed(what string, err error) error {
	if isNoSpace(err) {
		return &FullError{Reason: "disk_full", Detail: fmt.Sprintf(
			"the file system of %s filled up while content was being kept aside; free some space or move the data directory", w.q.cfg.Dir)}
	}
	return fmt.Errorf("%s blob %s: %w", what, w.id, err)
}

// abandon removes what was written.
func (w *blobWriter) abandon() {
	if w.f != nil {
		_ = w.f.Close() // the content is of no use any more
	}
	for _, path := range []string{w.path(), w.q.blobs.path(w.id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.q.cfg.Logger.Warn("a partial blob could not be removed; the next start removes it", "file", path, "error", err)
		}
	}
	w.q.disk.blobsChanged(-w.counted)
	w.q.blobs.abandoned()
}

// blobTrailer ends a blob's file. docs/format.md describes it for people.
//
//	offset size
//	     0    2  magic "wB"
//	     2    1  version, 1
//	     3    5  zero
//	     8    8  bytes of content, which come before the trailer
//	    16    4  CRC-32C of the content
//	    20    4  CRC-32C of bytes 0-19
//
// It is at the end because the length and the checksum of what is streamed
// are known last.
type blobTrailer struct {
	bytes int64
	sum   uint32
}

const (
	blobTrailerBytes = 24
	blobVersion      = 1
	blobMagic        = "wB"
)

func (t blobTrailer) encode() []byte {
	b := make([]byte, 0, blobTrailerBytes)
	b = append(b, blobMagic...)
	b = append(b, blobVersion, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(t.bytes))
	b = binary.BigEndian.AppendUint32(b, t.sum)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeBlobTrailer reads the trailer of a file of fileBytes.
func decodeBlobTrailer(b []byte, fileBytes int64) (blobTrailer, error) {
	if len(b) != blobTrailerBytes || string(b[:2]) != blobMagic {
		return blobTrailer{}, fmt.Errorf("blob without trailer: %w", ErrDamaged)
	}
	if b[2] != blobVersion {
		return blobTrailer{}, fmt.Errorf("blob version %d, this weir reads version %d: %w", b[2], blobVersion, ErrDamaged)
	}
	if crc32.Checksum(b[:20], castagnoli) != binary.BigEndian.Uint32(b[20:]) {
		return blobTrailer{}, fmt.Errorf("blob trailer fails its checksum: %w", ErrDamaged)
	}
	t := blobTrailer{bytes: int64(binary.BigEndian.Uint64(b[8:])), sum: binary.BigEndian.Uint32(b[16:])}
	if t.bytes != fileBytes-blobTrailerBytes {
		return blobTrailer{}, fmt.Errorf("blob file of %d bytes for %d bytes of content: %w", fileBytes, t.bytes, ErrDamaged)
	}
	return t, nil
}

// OpenBlob reads a blob's content; the caller closes it. It returns ErrNoBlob
// if there is none of that name, and an error matching ErrDamaged, here or from
// Read, when the content is not what was written. The last piece is returned
// only if all of it is: damaged content always comes out too short.
func (q *Queue) OpenBlob(id string) (io.ReadCloser, error) {
	if q.closing.Load() {
		return nil, ErrClosed
	}
	if !isBlobID(id) {
		return nil, fmt.Errorf("open blob %.40q: %w", id, ErrNoBlob)
	}
	var f *os.File
	err := q.blobIO("open", func() (err error) {
		f, err = os.Open(q.blobs.path(id))
		if errors.Is(err, os.ErrNotExist) { // its note may be what was damaged
			f, err = os.Open(q.blobs.path(id) + unclaimedSuffix)
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNoBlob
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	r, err := newBlobReader(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	r.id = id
	return r, nil
}

func newBlobReader(f *os.File) (*blobReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < blobTrailerBytes {
		return nil, fmt.Errorf("blob file of %d bytes: %w", info.Size(), ErrDamaged)
	}
	b := make([]byte, blobTrailerBytes)
	if _, err := f.ReadAt(b, info.Size()-blobTrailerBytes); err != nil {
		return nil, err
	}
	t, err := decodeBlobTrailer(b, info.Size())
	if err != nil {
		return nil, err
	}
	if t.bytes == 0 && t.sum != 0 {
		return nil, fmt.Errorf("blob without content fails its checksum: %w", ErrDamaged)
	}
	return &blobReader{f: f, left: t.bytes, want: t.sum}, nil
}

// blobReader reads the content of a blob's file and checks it on the way.
type blobReader struct {
	f    *os.File
	id   string
	left int64 // of the content
	sum  uint32
	want uint32
	err  error // what reading ended with
}

// Read implements io.Reader.
func (r *blobReader) Read(p []byte) (int, error) {
	if r.err == nil && r.left == 0 {
		r.err = io.EOF
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.f.Read(p[:min(int64(len(p)), r.left)])
	r.sum = crc32.Update(r.sum, castagnoli, p[:n])
	r.left -= int64(n)
	switch {
	case r.left == 0 && r.sum != r.want:
		r.err = fmt.Errorf("blob %s fails its checksum: %w", r.id, ErrDamaged)
		return 0, r.err
	case r.left > 0 && errors.Is(err, io.EOF):
		r.err = fmt.Errorf("blob %s ends %d bytes early: %w", r.id, r.left, ErrDamaged)
	case r.left > 0 && err != nil:
		r.err = fmt.Errorf("read blob %s: %w", r.id, err)
	}
	return n, r.err
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("close blob %s: %w", r.id, err)
	}
	return nil
}
