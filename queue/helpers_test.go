package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(runChild())
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = flag.Set("rapid.checks", "20") // a check is some hundred commits
	}
	goleak.VerifyTestMain(m)
}

// smallConfig rotates, shelves and removes all the time.
func smallConfig(dir string) Config {
	return Config{
		Dir: dir, SegmentBytes: 64 << 10, FrameBytes: 16 << 10, MaxBytes: 2 << 30, MinFreeBytes: 1 << 20,
		NoSync: true, ShelveAfter: 1, noKeeper: true, Owner: "test",
	}
}

func mustOpen(t testing.TB, cfg Config) *Queue {
	t.Helper()
	q, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// message is one self-delimiting protocol message: length, id, filler.
func message(id uint64, size int) []byte {
	b := make([]byte, 12, 12+size)
	binary.BigEndian.PutUint32(b, uint32(size))
	binary.BigEndian.PutUint64(b[4:], id)
	r := rand.New(rand.NewPCG(id, 1))
	for range size {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// messageIDs lists the messages of a payload and checks their filler.
func messageIDs(payload []byte) (ids []uint64, err error) {
	for len(payload) > 0 {
		if len(payload) < 12 {
			return nil, fmt.Errorf("payload ends in %d odd bytes", len(payload))
		}
		n := int(binary.BigEndian.Uint32(payload))
		id := binary.BigEndian.Uint64(payload[4:])
		if len(payload) < 12+n {
			return nil, fmt.Errorf("message %d has %d of %d bytes", id, len(payload)-12, n)
		}
		if !bytes.Equal(payload[:12+n], message(id, n)) {
			return nil, fmt.Errorf("message %d does not read back as written", id)
		}
		ids = append(ids, id)
		payload = payload[12+n:]
	}
	return ids, nil
}

func traceOf(id uint64) (t TraceID) {
	binary.BigEndian.PutUint64(t[8:], id)
	return t
}

// messageOfTrace is the message of a trace that traceOf made.
func messageOfTrace(t TraceID) uint64 { return binary.BigEndian.Uint64(t[8:]) }

// export makes an export of one item a message.
func export(lane string, size int, ids ...uint64) *Export {
	e := &Export{Lane: lane, Items: len(ids)}
	for _, id := range ids {
		e.Payload = append(e.Payload, message(id, size)...)
		e.Traces = append(e.Traces, traceOf(id))
	}
	return e
}

func mustAppend(t testing.TB, q *Queue, e *Export) {
	t.Helper()
	if err := q.Append(context.Background(), e); err != nil {
		t.Fatalf("append: %v", err)
	}
}

var discardLogger = slog.New(slog.DiscardHandler)

var testDecoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))

// plain is a frame's payload, decompressed.
func plain(t fataler, f Frame) []byte {
	if !f.Zstd {
		return slices.Clone(f.Payload)
	}
	b, err := testDecoder.DecodeAll(f.Payload, nil)
	if err != nil {
		t.Fatalf("frame %s: %v", f.ID, err)
	}
	return b
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// frameIDs lists the messages of a frame, and checks what the frame says of
// itself.
func frameIDs(t fataler, f Frame) []uint64 {
	payload := plain(t, f)
	ids, err := messageIDs(payload)
	if err != nil {
		t.Fatalf("frame %s: %v", f.ID, err)
	}
	if len(ids) != f.Items || len(payload) != f.RawBytes {
		t.Fatalf("frame %s says %d items, %d bytes; it has %d, %d", f.ID, f.Items, f.RawBytes, len(ids), len(payload))
	}
	for _, id := range ids {
		if !slices.Contains(f.Traces, traceOf(id)) {
			t.Fatalf("frame %s does not name the trace of message %d", f.ID, id)
		}
	}
	return ids
}

// laneID finds a lane by its descriptor, 0 if it has nothing.
func laneID(q *Queue, descriptor string) LaneID {
	for _, l := range q.Lanes() {
		if l.Descriptor == descriptor {
			return l.ID
		}
	}
	return 0
}

const everything = 1 << 40

// leaseAllOf leases a lane until nothing is ready.
func leaseAllOf(t fataler, q *Queue, lane LaneID) (leases []*Lease) {
	for {
		l, err := q.Lease(LeaseOptions{Lane: lane, MaxRawBytes: everything, MaxFrames: 1 << 20})
		if err != nil {
			t.Fatalf("lease: %v", err)
		}
		if l == nil {
			return leases
		}
		leases = append(leases, l)
	}
}

// pendingIDs reads every pending message by lane, in any order, and puts it back.
func pendingIDs(t fataler, q *Queue) map[string][]uint64 {
	out := map[string][]uint64{}
	for _, lane := range q.Lanes() {
		leases := leaseAllOf(t, q, lane.ID)
		for _, l := range leases {
			for _, f := range l.Frames {
				out[lane.Descriptor] = append(out[lane.Descriptor], frameIDs(t, f)...)
			}
			l.Return()
		}
		slices.Sort(out[lane.Descriptor])
	}
	return out
}

// settleAll leases everything pending and settles it as delivered, with the
// blobs that frames name; it returns the messages, sorted.
func settleAll(t fataler, q *Queue) (ids []uint64) {
	for _, lane := range q.Lanes() {
		for _, l := range leaseAllOf(t, q, lane.ID) {
			var done []Settlement
			for i, f := range l.Frames {
				ids = append(ids, frameIDs(t, f)...)
				done = append(done, Settlement{Frame: i, Result: ResultDelivered, Blobs: blobsOf(frameBlobs(t, q, f), ids)})
			}
			if err := l.Settle(done...); err != nil {
				t.Fatalf("settle: %v", err)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// checkTotals verifies that the totals add up, and the sums beside them.
func checkTotals(t fataler, q *Queue) Totals {
	q.mu.Lock()
	byPlace := map[Place]int64{}
	for _, s := range q.st.segments {
		for b, tally := range s.live {
			if b.place != Pending {
				byPlace[b.place] += tally.bytes
			}
		}
	}
	var byShare shareBytes
	var data int64
	for p, c := range q.st.cases {
		byShare[q.st.shareOf(p)] += byPlace[p]
		data += int64(len(c.data))
	}
	same := maps.Equal(byPlace, q.st.placeBytes) && byShare == q.st.shareBytes && data == q.st.caseBytes
	q.mu.Unlock()
	if !same {
		t.Fatalf("bytes by case are summed as %v, and are %v; by share as %v, and are %v; of cases' data as %d, and are %d",
			q.st.placeBytes, byPlace, q.st.shareBytes, byShare, q.st.caseBytes, data)
	}
	tot := q.Stats().Totals
	if sum := tot.Delivered + tot.Pending + tot.Held + tot.Quarantined + tot.Dropped; sum != tot.Accepted {
		t.Fatalf("totals do not add up to accepted: %+v", tot)
	}
	return tot
}

// crashCopy copies the data directory as a process kill would leave it.
func crashCopy(t fataler, q *Queue, to string) {
	q.keepMu.Lock()
	defer q.keepMu.Unlock()
	copyDir(t, q.cfg.Dir, to)
}

// copyDir copies a directory, holes as holes.
func copyDir(t fataler, from, to string) {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copySparse(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatalf("copy %s: %v", from, err)
	}
}

const (
	seekData = 3 // SEEK_DATA
	seekHole = 4 // SEEK_HOLE
)

func copySparse(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		start, err := in.Seek(at, seekData)
		if err != nil {
			return nil // no data beyond
		}
		end, err := in.Seek(start, seekHole)
		if err != nil {
			return err
		}
		if _, err := in.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, end-start); err != nil {
			return err
		}
		at = end
	}
	return nil
}
