package queue

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// recordVersion is the first byte of every journal and checkpoint record.
// Version 1 had no eventDiscarded, and a checkpoint without its newest time.
const recordVersion = 2

// recordWriter builds a record: unsigned varints, length-prefixed bytes, and a
// CRC-32C at the end.
type recordWriter struct{ buf []byte }

func (w *recordWriter) uint(v uint64) { w.buf = binary.AppendUvarint(w.buf, v) }
func (w *recordWriter) int(v int64)   { w.buf = binary.AppendVarint(w.buf, v) }
func (w *recordWriter) bytes(b []byte) {
	w.uint(uint64(len(b)))
	w.buf = append(w.buf, b...)
}

func (w *recordWriter) string(s string) {
	w.uint(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// seal returns the record with its checksum.
func (w *recordWriter) seal() []byte {
	return binary.BigEndian.AppendUint32(w.buf, crc32.Checksum(w.buf, castagnoli))
}

// recordReader reads what recordWriter wrote. The first failure sticks.
type recordReader struct {
	version byte
	buf     []byte
	err     error
}

// openRecord checks the version and checksum of a record.
func openRecord(b []byte) (*recordReader, error) {
	if len(b) < 5 {
		return nil, fmt.Errorf("record of %d bytes: %w", len(b), ErrDamaged)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("record fails its checksum: %w", ErrDamaged)
	}
	if body[0] < 1 || body[0] > recordVersion {
		return nil, fmt.Errorf("record version %d, this weir reads versions 1 to %d: %w", body[0], recordVersion, ErrDamaged)
	}
	return &recordReader{version: body[0], buf: body[1:]}, nil
}

// close reports what went wrong, if anything, or that something is left over.
func (r *recordReader) close() error {
	if r.err == nil && len(r.buf) > 0 {
		return fmt.Errorf("record has %d bytes too many: %w", len(r.buf), ErrDamaged)
	}
	return r.err
}

func (r *recordReader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("record ends early: %w", ErrDamaged)
	}
	r.buf = nil
}

func (r *recordReader) uint() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *recordReader) int() int64 {
	v, n := binary.Varint(r.buf)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *recordReader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.buf)) {
		r.fail()
		return nil
	}
	b := append([]byte(nil), r.buf[:n]...)
	r.buf = r.buf[n:]
	return b
}

func (r *recordReader) string() string { return string(r.bytes()) }

// count reads a number of elements that each take at least elementBytes, so
// that a damaged count cannot make the reader allocate without bound.
func (r *recordReader) count(elementBytes int) int {
	n := r.uint()
	if n > uint64(len(r.buf)/elementBytes) {
		r.fail()
		return 0
	}
	return int(n)
}

// uint32 reads a number of at most 32 bits.
func (r *recordReader) uint32() uint32 {
	v := r.uint()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

// seq reads a frame number. The bound keeps a bit set over frame numbers small
// whatever is read.
func (r *recordReader) seq() uint32 {
	v := r.uint()
	if v > maxFrameSeq {
		r.fail()
		return 0
	}
	return uint32(v)
}

// maxFrameSeq is far above the frames a segment takes before it is sealed.
const maxFrameSeq = 1 << 20

// eventKind says what an event did. Numbers are on disk: never reuse one.
type eventKind uint8

const (
	eventDelivered eventKind = 1  // the frame was taken by the upstream
	eventDropped   eventKind = 2  // the frame was dropped; text is the reason
	eventReplaced  eventKind = 3  // the frame went on as other frames; done items were delivered
	eventPlaced    eventKind = 4  // the frame moved from one place to another
	eventCopied    eventKind = 5  // the frame lives on as toSegment/toSeq
	eventReleased  eventKind = 6  // all frames at place from are pending again
	eventCase      eventKind = 7  // case to was opened or updated; data is the caller's
	eventNote      eventKind = 8  // note text has value data; without data it is gone
	eventLane      eventKind = 9  // lane has descriptor data
	eventLost      eventKind = 10 // frames of a segment could not be read; text is the reason
	eventPartly    eventKind = 12 // done items of the frame were delivered, the others dropped; text is the reason
	eventClosed    eventKind = 11 // case from holds nothing more and is forgotten
	eventDiscarded eventKind = 13 // items of no frame were accepted and dropped; text is the reason
)

// event is one entry of the journal. Every field is written for every kind,
// zeros taking a byte: it keeps the format to one table.
type event struct {
	kind      eventKind
	segment   uint64
	seq       uint32
	lane      LaneID
	from, to  Place
	frames    int64 // eventLost: how many
	items     int64
	rawBytes  int64
	bytes     int64 // as stored, header included
	done      int64 // eventReplaced, eventPartly: items delivered
	atMS      int64 // when the items were accepted, or the case was opened
	toSegment uint64
	toSeq     uint32
	text      string
	data      []byte
}

func (e *event) encode(w *recordWriter) {
	w.uint(uint64(e.kind))
	w.uint(e.segment)
	w.uint(uint64(e.seq))
	w.uint(uint64(e.lane))
	w.uint(uint64(e.from))
	w.uint(uint64(e.to))
	w.int(e.frames)
	w.int(e.items)
	w.int(e.rawBytes)
	w.int(e.bytes)
	w.int(e.done)
	w.int(e.atMS)
	w.uint(e.toSegment)
	w.uint(uint64(e.toSeq))
	w.string(e.text)
	if e.data == nil {
		w.uint(0)
		return
	}
	w.uint(uint64(len(e.data)) + 1)
	w.buf = append(w.buf, e.data...)
}

func (e *event) decode(r *recordReader) {
	if k := r.uint(); k <= math.MaxUint8 {
		e.kind = eventKind(k)
	} else {
		r.fail()
	}
	e.segment = r.uint()
	e.seq = r.seq()
	e.lane = LaneID(r.uint32())
	e.from = Place(r.uint())
	e.to = Place(r.uint())
	e.frames = r.int()
	e.items = r.int()
	e.rawBytes = r.int()
	e.bytes = r.int()
	e.done = r.int()
	e.atMS = r.int()
	e.toSegment = r.uint()
	e.toSeq = r.seq()
	e.text = r.string()
	if n := r.uint(); n > 0 {
		if n-1 > uint64(len(r.buf)) {
			r.fail()
			return
		}
		e.data = append([]byte{}, r.buf[:n-1]...)
		r.buf = r.buf[n-1:]
	}
}

// minEventBytes is an event of zeros.
const minEventBytes = 16

// journalRecord is what one transaction says besides its frames.
type journalRecord struct {
	// next is the segment's next frame number after the transaction: the
	// events come after every frame below it. Replay needs the order, because
	// where a frame stands depends on the cases that were open.
	next   uint32
	events []event
}

// encodeJournal makes one journal record.
func encodeJournal(next uint32, events []event) []byte {
	w := recordWriter{buf: make([]byte, 0, 16+len(events)*40)}
	w.buf = append(w.buf, recordVersion)
	w.uint(uint64(next))
	w.uint(uint64(len(events)))
	for i := range events {
		events[i].encode(&w)
	}
	return w.seal()
}

// decodeJournal reads one journal record.
func decodeJournal(b []byte) (journalRecord, error) {
	r, err := openRecord(b)
	if err != nil {
		return journalRecord{}, err
	}
	j := journalRecord{next: r.seq()}
	j.events = make([]event, r.count(minEventBytes))
	for i := range j.events {
		j.events[i].decode(r)
	}
	return j, r.close()
}

// Keys of a segment's database.
const (
	keyHeader     = "h" // segment header
	keyCheckpoint = "c" // + 2 bytes: a piece of the checkpoint
	keyJournal    = "j" // + 4 bytes: a journal record
	keyFrame      = "f" // + 4 bytes: a frame
)

func key32(prefix string, n uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(prefix), n)
}

func key16(prefix string, n uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte(prefix), n)
}

// seqOf reads the number of a 4-byte key.
func seqOf(key []byte) (uint32, error) {
	if len(key) != 5 {
		return 0, fmt.Errorf("key of %d bytes: %w", len(key), ErrDamaged)
	}
	return binary.BigEndian.Uint32(key[1:]), nil
}
