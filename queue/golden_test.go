package queue

import (
	"archive/tar"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden files of the on-disk format; the fixtures are never rewritten")

func goldenState() *state {
	st := newState()
	st.nextSegment, st.accepted, st.delivered = 9, 100, 40
	st.dropped["policy"] = 3
	st.addLane(&laneState{id: 2, descriptor: "lane two"})
	st.apply(&event{kind: eventCase, to: 5, lane: 2, done: int64(CaseQuarantine), atMS: 1_700_000_000_000, data: []byte("why")})
	st.setNote("wait/2", []byte{1, 2})
	s := newSegmentState(7, false)
	st.segments[7] = s
	st.addFrame(s, 0, frameHeader{lane: 2, items: 10, rawBytes: 1000, payloadBytes: 300, traces: 1, acceptedAtMS: 1_700_000_000_001})
	st.addFrame(s, 1, frameHeader{lane: 2, items: 5, rawBytes: 500, payloadBytes: 100, acceptedAtMS: 1_700_000_000_002})
	st.addFrame(s, 2, frameHeader{lane: 2, items: 1, rawBytes: 50, payloadBytes: 40, acceptedAtMS: 1_700_000_000_003})
	st.apply(&event{kind: eventPlaced, segment: 7, seq: 1, lane: 2, to: 5, items: 5, rawBytes: 500, bytes: 152, atMS: 1_700_000_000_002})
	st.apply(&event{kind: eventDelivered, segment: 7, seq: 2, lane: 2, items: 1, rawBytes: 50, bytes: 92, atMS: 1_700_000_000_003})
	st.segments[8] = newSegmentState(8, true)
	st.segments[8].damaged = true
	return st
}

func goldenEvents() []event {
	return []event{
		{kind: eventLane, lane: 2, data: []byte("lane two")},
		{kind: eventDelivered, segment: 7, seq: 3, lane: 2, items: 10, rawBytes: 1000, bytes: 368, atMS: 1_700_000_000_000},
		{kind: eventCopied, segment: 7, seq: 4, lane: 2, from: 5, items: 1, rawBytes: 9, bytes: 61, atMS: 1, toSegment: 8, toSeq: 6},
		{kind: eventNote, text: "gone"},
		{kind: eventNote, text: "empty", data: []byte{}},
		{kind: eventPlaced, segment: 7, seq: 1, lane: 2, from: 5, items: 5, rawBytes: 500, bytes: 152, atMS: 1_700_000_000_002},
		{kind: eventDiscarded, items: 12, text: "quota"},
	}
}

// goldenBlobEvents are how blobs are taken and forgotten.
func goldenBlobEvents() []event {
	return []event{
		Blob{ID: "0123456789abcdef0123456789abcdef", Bytes: 300}.noteEvent(),
		{kind: eventNote, text: blobNotes + "fedcba9876543210fedcba9876543210"},
	}
}

// goldenRecords are records whose bytes must never change for their version.
func goldenRecords() map[string][]byte {
	h := frameHeader{zstd: true, accepted: true, lane: 2, place: 5, acceptedAtMS: 1_700_000_000_000, items: 10, rawBytes: 1000}
	return map[string][]byte{
		"frame":          appendFrame(nil, h, []TraceID{{1, 2, 3}, {15: 9}}, []byte("payload")),
		"journal":        encodeJournal(5, goldenEvents()),
		"checkpoint":     encodeCheckpoint(goldenState()),
		"blob":           append([]byte("content"), blobTrailer{bytes: 7, sum: crc32.Checksum([]byte("content"), castagnoli)}.encode()...),
		"blob-journal":   encodeJournal(1, goldenBlobEvents()),
		"segment-header": segmentHeader{id: 9, shelf: true, pieces: 2, created: 1_700_000_000_000}.encode(),
	}
}

func hexLines(b []byte) string {
	var sb strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		sb.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return sb.String()
}

func TestRecordsHaveTheirGoldenBytesAndTheDocumentShowsThem(t *testing.T) {
	doc := formatDoc(t)
	for name, b := range goldenRecords() {
		path := filepath.Join("testdata", name+".hex")
		if *updateGolden {
			if err := os.WriteFile(path, []byte(hexLines(b)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), hexLines(b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !strings.Contains(doc, "```hex "+name+"\n"+string(want)+"```") {
			t.Errorf("docs/format.md does not show the golden bytes of %s", name)
		}
	}
}

func TestGoldenRecordsDecode(t *testing.T) {
	records := goldenRecords()
	if err := checkFrame(records["frame"]); err != nil {
		t.Error(err)
	}
	q := mustOpen(t, smallConfig(t.TempDir()))
	id := strings.Repeat("ab", 16)
	write(t, q.blobs.path(id), records["blob"])
	if got, err := readBlob(q, id); err != nil || string(got) != "content" {
		t.Errorf("blob: %q, %v", got, err)
	}
	b, err := decodeJournal(records["blob-journal"])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(journalRecord{next: 1, events: goldenBlobEvents()}, b, cmp.AllowUnexported(event{}, journalRecord{})); diff != "" {
		t.Errorf("journal of blobs (-want +got):\n%s", diff)
	}
	j, err := decodeJournal(records["journal"])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(journalRecord{next: 5, events: goldenEvents()}, j, cmp.AllowUnexported(event{}, journalRecord{})); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	st, err := decodeCheckpoint(records["checkpoint"])
	if err != nil {
		t.Fatal(err)
	}
	allow := cmp.AllowUnexported(state{}, laneState{}, caseState{}, segmentState{}, tally{}, bucket{})
	if diff := cmp.Diff(goldenState(), st, allow); diff != "" {
		t.Errorf("checkpoint (-want +got):\n%s", diff)
	}
}

// TestRecordsOfVersion1Decode reads what earlier versions wrote. These files
// never change.
func TestRecordsOfVersion1Decode(t *testing.T) {
	old := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata", "v1", name+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h, err := decodeSegmentHeader(old("segment-header"))
	if want := (segmentHeader{id: 9, shelf: true, pieces: 2, created: 1_700_000_000_000}); err != nil || h != want {
		t.Errorf("segment header: %+v, %v, want %+v", h, err, want)
	}
	allow := cmp.AllowUnexported(event{}, journalRecord{}, state{}, laneState{}, caseState{}, segmentState{}, tally{}, bucket{})
	for name, want := range map[string]journalRecord{
		"journal":      {next: 5, events: goldenEvents()[:5]},
		"blob-journal": {next: 1, events: goldenBlobEvents()},
	} {
		got, err := decodeJournal(old(name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, allow); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	st, err := decodeCheckpoint(old("checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	want := goldenState()
	want.newestMS = 1_700_000_000_002 // of what is live: the latest that a tally tells
	if diff := cmp.Diff(want, st, allow); diff != "" {
		t.Errorf("checkpoint (-want +got):\n%s", diff)
	}
}

func TestDocumentListsEveryEventAndFile(t *testing.T) {
	doc := formatDoc(t)
	for kind, name := range map[eventKind]string{
		eventDelivered: "delivered", eventDropped: "dropped", eventReplaced: "replaced", eventPlaced: "placed",
		eventCopied: "copied", eventReleased: "released", eventCase: "case", eventNote: "note", eventLane: "lane",
		eventLost: "lost", eventClosed: "closed", eventPartly: "partly",
		eventDiscarded: "discarded",
	} {
		if row := fmt.Sprintf("| %d | %s |", kind, name); !strings.Contains(doc, row) {
			t.Errorf("docs/format.md has no row %q", row)
		}
	}
	for _, word := range []string{activeFile, spareFile, shelfSuffix, asideSuffix, "ballast", "lock", blobDir, blobPartSuffix, unclaimedSuffix, blobNotes} {
		if !strings.Contains(doc, "`"+word+"`") {
			t.Errorf("docs/format.md does not mention `%s`", word)
		}
	}
}

func formatDoc(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "format.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const fixtureV1 = "testdata/fixtures/v1.tar.gz"

// TestFixturesOfEveryVersionOpen reads data directories written by earlier
// versions. A fixture is never replaced.
func TestFixturesOfEveryVersionOpen(t *testing.T) {
	if _, err := os.Stat(fixtureV1); *updateGolden && errors.Is(err, os.ErrNotExist) {
		writeFixture(t)
	}
	dir := t.TempDir()
	unpack(t, fixtureV1, dir)
	q := mustOpen(t, smallConfig(dir))
	if reports := q.Stats().Reports; len(reports) > 0 {
		t.Errorf("recovery complains: %q", reports)
	}
	want := Totals{Accepted: 33, Delivered: 21, Pending: 6, Held: 2, Quarantined: 3, Dropped: 1, DroppedByReason: map[string]int64{"policy": 1}}
	if diff := cmp.Diff(want, checkTotals(t, q)); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]byte{"wait/a": []byte("until noon")}, q.Notes("")); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]uint64{"a": {3, 31, 32, 33}, "b": {1, 2}}, nonEmpty(pendingIDs(t, q))); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
	for _, c := range q.Cases() {
		if got := string(c.Data); got != fmt.Sprint("case ", c.Kind) || c.OpenedAt.IsZero() {
			t.Errorf("case %d says %q, opened %v", c.Place, got, c.OpenedAt)
		}
		if err := q.Release(c.Place); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string][]uint64{"a": {3, 4, 5, 6, 7, 8, 31, 32, 33}, "b": {1, 2}}, nonEmpty(pendingIDs(t, q))); diff != "" {
		t.Errorf("after releasing every case (-want +got):\n%s", diff)
	}
}

func nonEmpty(m map[string][]uint64) map[string][]uint64 {
	for k, v := range m {
		if len(v) == 0 {
			delete(m, k)
		}
	}
	return m
}

// writeFixture makes the directory that the fixture holds: a shelf with what
// is left of the first segments, kept and held data, notes, and an active
// segment that was not closed.
func writeFixture(t *testing.T) {
	t.Helper()
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	hold, err := q.OpenCase(Case{Kind: CaseHold, Data: []byte("case 2")})
	if err != nil {
		t.Fatal(err)
	}
	quarantine, err := q.OpenCase(Case{Kind: CaseQuarantine, Data: []byte("case 1")})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, export("b", 300, 1, 2))
	for id := uint64(3); id <= 30; id++ {
		mustAppend(t, q, export("a", 9000, id))
	}
	for _, l := range leaseAllOf(t, q, laneID(q, "a")) {
		var s []Settlement
		for i, f := range l.Frames {
			switch id := frameIDs(t, f)[0]; {
			case id == 3:
			case id <= 5:
				s = append(s, Settlement{Frame: i, Result: ResultKept, Place: hold})
			case id <= 8:
				s = append(s, Settlement{Frame: i, Result: ResultKept, Place: quarantine})
			case id == 9:
				s = append(s, Settlement{Frame: i, Result: ResultDropped, Reason: "policy"})
			default:
				s = append(s, Settlement{Frame: i, Result: ResultDelivered})
			}
		}
		if err := l.Settle(s...); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	if q.shelf == nil {
		t.Fatal("nothing was shelved")
	}
	mustAppend(t, q, export("a", 200, 31, 32, 33))
	if err := q.SetNote("wait/a", []byte("until noon")); err != nil {
		t.Fatal(err)
	}
	pack(t, cfg.Dir, fixtureV1)
}

// pack writes a directory's segments, without the zeros that files end in: a
// reader makes them as long again.
func pack(t *testing.T, dir, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	zw, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(zw)
	paths, err := filepath.Glob(filepath.Join(dir, "segments", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(dir, path)
		b := []byte(strings.TrimRight(string(head(t, path)), "\x00"))
		h := &tar.Header{
			Name: rel, Mode: 0o600, Size: int64(len(b)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
			PAXRecords: map[string]string{"WEIR.size": fmt.Sprint(info.Size())},
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, from, dir string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		write(t, path, b)
		var size int64
		if _, err := fmt.Sscan(h.PAXRecords["WEIR.size"], &size); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
}
