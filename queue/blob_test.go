package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// blobContent is content that says whose it is: at least 8 bytes.
func blobContent(id uint64, size int) []byte { return message(id, size)[4:] }

// writeBlob keeps content for message id.
func writeBlob(q *Queue, id uint64, size int) (Blob, error) {
	return q.WriteBlob(context.Background(), bytes.NewReader(blobContent(id, size)), 1<<30)
}

func mustWriteBlob(t testing.TB, q *Queue, id uint64, size int) Blob {
	t.Helper()
	b, err := writeBlob(q, id, size)
	if err != nil {
		t.Fatalf("write blob: %v", err)
	}
	return b
}

// withBlob makes the blob the export's, and has its frame name it: as if it
// were a trace, for the queue keeps those beside the payload.
func withBlob(e *Export, b Blob) *Export {
	e.Blobs = append(e.Blobs, b)
	e.Traces = append(e.Traces, blobTrace(b))
	return e
}

func blobTrace(b Blob) (t TraceID) {
	_, _ = hex.Decode(t[:], []byte(b.ID))
	return t
}

// messageBlob is a blob and the message it was written for.
type messageBlob struct {
	message uint64
	name    string
}

// frameBlobs lists the blobs a frame names, after checking that each reads back
// as written.
func frameBlobs(t fataler, q *Queue, f Frame) (out []messageBlob) {
	ids := frameIDs(t, f)
	for _, trace := range f.Traces {
		if slices.ContainsFunc(ids, func(id uint64) bool { return traceOf(id) == trace }) {
			continue
		}
		name := hex.EncodeToString(trace[:])
		id := checkBlob(t, q, name)
		if !slices.Contains(ids, id) {
			t.Fatalf("frame %s has messages %v and names blob %s of message %d", f.ID, ids, name, id)
		}
		out = append(out, messageBlob{id, name})
	}
	return out
}

// checkBlob reads a blob and says whose it is.
func checkBlob(t fataler, q *Queue, name string) (id uint64) {
	got, err := readBlob(q, name)
	if err != nil {
		t.Fatalf("blob: %v", err)
	}
	if len(got) < 8 {
		t.Fatalf("blob %s has %d bytes", name, len(got))
	}
	id = binary.BigEndian.Uint64(got)
	if !bytes.Equal(got, blobContent(id, len(got)-8)) {
		t.Fatalf("blob %s of message %d does not read back as written", name, id)
	}
	return id
}

func readBlob(q *Queue, name string) (_ []byte, err error) {
	r, err := q.OpenBlob(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// blobNames lists what is in the directory of blobs.
func blobNames(t fataler, dir string) []string {
	names, err := os.ReadDir(filepath.Join(dir, blobDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("list blobs: %v", err)
	}
	out := []string{}
	for _, de := range names {
		out = append(out, de.Name())
	}
	return out
}

func wantBlobs(t testing.TB, q *Queue, blobs ...Blob) {
	t.Helper()
	want, bytes := []string{}, int64(0)
	for _, b := range blobs {
		want = append(want, b.ID)
		bytes += b.Bytes + blobTrailerBytes
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, blobNames(t, q.cfg.Dir)); diff != "" {
		t.Errorf("files of blobs (-want +got):\n%s", diff)
	}
	if s := q.Stats(); s.Blobs != len(blobs) || s.BlobBytes != bytes {
		t.Errorf("stats say %d blobs of %d bytes, want %d of %d", s.Blobs, s.BlobBytes, len(blobs), bytes)
	}
}

func TestBlobReadsBackAsWrittenWhateverItsSize(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	for _, size := range []int{0, 1, blobPieceBytes - 1, blobPieceBytes, blobPieceBytes + 1, 3*blobPieceBytes + 17} {
		want := bytes.Repeat([]byte("x"), size)
		for name, r := range map[string]io.Reader{
			"at once": bytes.NewReader(want), "halves": iotest.HalfReader(bytes.NewReader(want)),
			"end with data": iotest.DataErrReader(bytes.NewReader(want)),
		} {
			b, err := q.WriteBlob(t.Context(), r, int64(size))
			if err != nil || b.Bytes != int64(size) || !isBlobID(b.ID) {
				t.Fatalf("%d bytes, %s: %+v, %v", size, name, b, err)
			}
			got, err := readBlob(q, b.ID)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %s: read back %d bytes, %v", size, name, len(got), err)
			}
			rd, err := q.OpenBlob(b.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(rd, want); err != nil {
				t.Error(err)
			}
			if err := rd.Close(); err != nil {
				t.Error(err)
			}
			info, err := os.Stat(q.blobs.path(b.ID))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("file: %v, %v; want mode 0600", info.Mode(), err)
			}
			q.RemoveBlob(b)
		}
	}
	if info, err := os.Stat(q.blobs.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want mode 0700", info.Mode(), err)
	}
	wantBlobs(t, q)
}

func TestBlobThatCannotBeWrittenLeavesNothing(t *testing.T) {
	errBroken := errors.New("connection reset")
	two := bytes.Repeat([]byte("y"), 2*blobPieceBytes)
	ended, end := context.WithCancel(t.Context())
	q := mustOpen(t, smallConfig(t.TempDir()))
	for name, c := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		max  int64
		want error
	}{
		"too large":         {t.Context(), bytes.NewReader(two), 2*blobPieceBytes - 1, ErrTooLarge},
		"nothing allowed":   {t.Context(), bytes.NewReader(two), 0, ErrTooLarge},
		"reader fails":      {t.Context(), io.MultiReader(bytes.NewReader(two), iotest.ErrReader(errBroken)), 1 << 20, errBroken},
		"reader is cut off": {t.Context(), io.MultiReader(bytes.NewReader(two[1:]), iotest.ErrReader(io.ErrUnexpectedEOF)), 1 << 20, io.ErrUnexpectedEOF},
		"reader is stuck":   {t.Context(), stuckReader{}, 1 << 20, io.ErrNoProgress},
		"caller leaves":     {ended, io.MultiReader(bytes.NewReader(two), callReader(end)), 1 << 20, context.Canceled},
	} {
		if _, err := q.WriteBlob(c.ctx, c.r, c.max); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		wantBlobs(t, q)
	}
	closes := io.MultiReader(bytes.NewReader(two), callReader(func() { _ = q.Close() }))
	if _, err := q.WriteBlob(t.Context(), closes, 1<<20); !errors.Is(err, ErrClosed) {
		t.Errorf("closed while writing: %v, want %v", err, ErrClosed)
	}
	wantBlobs(t, q)
	if _, err := writeBlob(q, 1, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if _, err := q.OpenBlob(strings.Repeat("0", 32)); !errors.Is(err, ErrClosed) {
		t.Errorf("open after Close: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// callReader calls and then gives a byte, again and again.
type callReader func()

func (f callReader) Read(p []byte) (int, error) {
	f()
	return copy(p, "z"), nil
}

func TestBlobWaitsForItsTurn(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	release := make(chan struct{})
	started := make(chan struct{})
	var g sync.WaitGroup
	for range maxBlobWriters {
		g.Go(func() {
			if _, err := q.WriteBlob(context.Background(), &onceReader{func() { started <- struct{}{}; <-release }}, 10); err != nil {
				t.Error(err)
			}
		})
		<-started
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.WriteBlob(ctx, bytes.NewReader(nil), 10); !errors.Is(err, context.Canceled) {
		t.Errorf("writer %d: %v, want it to wait until its caller leaves", maxBlobWriters+1, err)
	}
	close(release)
	g.Wait()
	if n := q.Stats().Blobs; n != maxBlobWriters {
		t.Errorf("%d blobs, want %d", n, maxBlobWriters)
	}
}

// onceReader calls and ends with a byte.
type onceReader struct{ f func() }

func (r *onceReader) Read(p []byte) (int, error) {
	r.f()
	return copy(p, "1"), io.EOF
}

func TestBlobLivesFromItsExportToItsSettlement(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	first, second, loose := mustWriteBlob(t, q, 1, 300_000), mustWriteBlob(t, q, 1, 10), mustWriteBlob(t, q, 2, 10)
	mustAppend(t, q, withBlob(withBlob(export("a", 10, 1), first), second))
	q.RemoveBlob(first) // an export has it
	wantBlobs(t, q, first, second, loose)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, cfg)
	wantBlobs(t, q, first, second)
	if reports := q.Stats().Reports; len(reports) > 0 {
		t.Errorf("recovery complains: %q", reports)
	}
	l := leaseAllOf(t, q, laneID(q, "a"))[0]
	s := Settlement{Result: ResultReplaced, Parts: []Part{{Payload: message(1, 10), Items: 1, Traces: []TraceID{traceOf(1)}}}, Blobs: []string{first.ID}}
	if err := l.Settle(s); err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, q, second)
	if _, err := q.OpenBlob(first.ID); !errors.Is(err, ErrNoBlob) {
		t.Errorf("open a settled blob: %v, want %v", err, ErrNoBlob)
	}
	l = leaseAllOf(t, q, laneID(q, "a"))[0]
	other := mustWriteBlob(t, q, 9, 10) // nobody's, and not to be settled
	err := l.Settle(Settlement{Result: ResultDelivered, Blobs: []string{second.ID, first.ID, "../lock", other.ID, strings.Repeat("f", 32)}})
	if err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, q, other)
	q.RemoveBlob(other)
	wantBlobs(t, q)
	if n := q.Notes(""); len(n) > 0 {
		t.Errorf("notes are left: %v", n)
	}
}

func TestExportTakesOnlyBlobsThatAreThere(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	b, free := mustWriteBlob(t, q, 1, 10), mustWriteBlob(t, q, 1, 10)
	mustAppend(t, q, withBlob(export("a", 10, 1), b))
	for name, bad := range map[string]Blob{
		"taken": b, "unknown": {ID: strings.Repeat("0", 32), Bytes: 1}, "no id": {ID: "../lock"}, "length": {ID: free.ID, Bytes: 1},
	} {
		e := export("a", 10, 2)
		e.Blobs = []Blob{free, bad}
		if err := q.Append(t.Context(), e); !errors.Is(err, ErrNoBlob) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoBlob)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Append(ctx, withBlob(export("a", compressAloneBytes, 2), free)); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	} else if err == nil {
		return // the commit was faster
	}
	mustAppend(t, q, withBlob(export("a", 10, 3), free)) // still nobody's
	wantBlobs(t, q, b, free)
	if _, err := q.OpenBlob("../lock"); !errors.Is(err, ErrNoBlob) {
		t.Errorf("open what is no id: %v", err)
	}
	if err := q.SetNote(blobNotes+"x", nil); err == nil {
		t.Error("a note of the queue's own was set")
	}
}

func TestDamagedBlobIsNeverReadToItsEnd(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	const size = blobPieceBytes + 100
	for name, damage := range map[string]func(path string){
		"first byte":       func(path string) { corrupt(t, path, 0) },
		"last byte":        func(path string) { corrupt(t, path, size+7) },
		"magic":            func(path string) { corrupt(t, path, size+8) },
		"version":          func(path string) { corrupt(t, path, size+8+2) },
		"length":           func(path string) { corrupt(t, path, size+8+15) },
		"checksum":         func(path string) { corrupt(t, path, size+8+16) },
		"trailer checksum": func(path string) { corrupt(t, path, size+8+20) },
		"cut":              func(path string) { truncate(t, path, size) },
		"cut to nothing":   func(path string) { truncate(t, path, 0) },
		"longer":           func(path string) { truncate(t, path, size+8+blobTrailerBytes+1) },
	} {
		b := mustWriteBlob(t, q, 1, size)
		damage(q.blobs.path(b.ID))
		got, err := readBlob(q, b.ID)
		if !errors.Is(err, ErrDamaged) || len(got) >= size+8 {
			t.Errorf("%s: %d bytes, %v; want less than all and %v", name, len(got), err, ErrDamaged)
		}
	}
	b := mustWriteBlob(t, q, 1, size)
	r, err := q.OpenBlob(b.ID)
	if err != nil {
		t.Fatal(err)
	}
	truncate(t, q.blobs.path(b.ID), 100) // under the reader
	if got, err := io.ReadAll(r); !errors.Is(err, ErrDamaged) || len(got) != 100 {
		t.Errorf("cut while it is read: %d bytes, %v; want 100 and %v", len(got), err, ErrDamaged)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	empty, err := q.WriteBlob(t.Context(), strings.NewReader(""), 0)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, q.blobs.path(empty.ID), 0, blobTrailer{sum: 1}.encode())
	if _, err := readBlob(q, empty.ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("an empty blob with a wrong checksum: %v, want %v", err, ErrDamaged)
	}
}

func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func TestBlobsAreBounded(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.MaxBytes = 24 << 20
	q := mustOpen(t, cfg)
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	room := cfg.MaxBytes - q.Stats().UsedBytes
	_, err := q.WriteBlob(t.Context(), endless{}, 1<<40)
	wantFull(t, err, "buffer_full")
	wantBlobs(t, q)
	b, err := q.WriteBlob(t.Context(), io.LimitReader(endless{}, room-1<<20), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.Refusing != nil || s.UsedBytes < cfg.MaxBytes-2<<20 {
		t.Errorf("%d bytes used of %d, refusing %v", s.UsedBytes, s.MaxBytes, s.Refusing)
	}
	for id := uint64(1); err == nil && id < 200; id++ {
		err = q.Append(t.Context(), export("a", 30_000, id))
	}
	wantFull(t, err, "buffer_full")
	_, err = writeBlob(q, 1, 1)
	wantFull(t, err, "buffer_full")
	q.RemoveBlob(b)
	settleAll(t, q)
	for range 2 {
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range maxBlobs {
		q.blobs.files[fmt.Sprint(n)] = blobFile{}
	}
	_, err = writeBlob(q, 1, 1)
	wantFull(t, err, "blobs")
	clear(q.blobs.files)
	mustWriteBlob(t, q, 1, 1)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestBlobStopsAtTheFloorOfFreeSpace(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	free := int64(1 << 30)
	cfg.freeBytes = func(string) (int64, error) { free -= blobPieceBytes; return free, nil }
	q := mustOpen(t, cfg)
	free = cfg.MinFreeBytes + 10*blobPieceBytes
	_, err := q.WriteBlob(t.Context(), endless{}, 1<<40)
	wantFull(t, err, "disk_full")
	wantBlobs(t, q)
	if q.Stats().Refusing != nil {
		t.Error("a blob that found no room has exports refused")
	}
	free = 1 << 40
}

func TestNotesOfTheCallerAndOfBlobsHaveBoundsOfTheirOwn(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	b := mustWriteBlob(t, q, 1, 1)
	mustAppend(t, q, withBlob(export("a", 1, 1), b))
	q.mu.Lock()
	for n := range maxNotes - 1 {
		q.st.setNote(fmt.Sprint("attempted/", n), []byte("1"))
	}
	q.mu.Unlock()
	if err := q.SetNote("wait/last", []byte("x")); err != nil {
		t.Errorf("the last note: %v", err)
	}
	if err := q.SetNote("wait/more", []byte("x")); !errors.Is(err, ErrTooManyNotes) {
		t.Errorf("a note too many: %v, want %v", err, ErrTooManyNotes)
	}
	if err := q.SetNote("wait/last", make([]byte, 1000)); err != nil {
		t.Errorf("a changed note: %v", err)
	}
	mustAppend(t, q, withBlob(export("a", 1, 2), mustWriteBlob(t, q, 2, 1)))
	if err := q.SetNote("wait/last", nil); err != nil {
		t.Fatal(err)
	}
	if err := q.SetNote("wait/more", []byte("x")); err != nil {
		t.Errorf("a note in the place of another: %v", err)
	}
	var bytes int64
	for k, v := range q.Notes("") {
		if !strings.HasPrefix(k, blobNotes) {
			bytes += int64(len(k) + len(v))
		}
	}
	if q.st.callerNotes != maxNotes || q.st.callerNoteBytes != bytes {
		t.Errorf("%d notes of %d bytes are counted, want %d of %d", q.st.callerNotes, q.st.callerNoteBytes, maxNotes, bytes)
	}
}
