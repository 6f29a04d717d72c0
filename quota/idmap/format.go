package idmap

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// What follows is docs/quota-format.md as code. Integers are big endian, so
// that encoded keys compare as bytes.
const (
	entrySize = 24
	keySize   = 18

	blockSize    = 4096
	blockEntries = 170
	blockCountAt = 4080
	blockIndexAt = 4084
	blockCRCAt   = 4092

	footSize = 128

	logHeaderSize    = 32
	recordHeaderSize = 32
	maxPayload       = 64 << 20
	bootSize         = 16

	manifestHeaderSize = 48
	manifestRunSize    = 32

	version = 1

	logMagic      = "wIDL"
	recordMagic   = "wIDB"
	runMagic      = "wIDR"
	manifestMagic = "wIDM"
)

// Kinds of log records.
const (
	kindBatch    = 1 // entries and records of one Apply
	kindMark     = 2 // how the log was left
	kindSnapshot = 3 // all records, at the start of a log
	kindFull     = 4 // likewise, and all that is in memory
)

// States of a mark.
const (
	markOpen   = 1
	markClosed = 2
)

const (
	manifestName  = "manifest"
	newSuffix     = ".new"
	damagedSuffix = ".damaged"
	runPrefix     = "run-"
	logPrefix     = "log-"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func fileName(prefix string, number uint64) string { return fmt.Sprintf("%s%016x", prefix, number) }

// fileNumber reads a name made by fileName.
func fileNumber(name, prefix string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && fileName(prefix, n) == name
}

func appendKey(b []byte, k Key) []byte {
	b = binary.BigEndian.AppendUint16(b, k.Account)
	return append(b, k.ID[:]...)
}

func appendEntry(b []byte, k Key, e Entry) []byte {
	b = appendKey(b, k)
	b = append(b, e.State, e.Flags)
	b = binary.BigEndian.AppendUint16(b, e.Project)
	return binary.BigEndian.AppendUint16(b, e.Month)
}

// decodeEntry reads what appendEntry wrote; b has entrySize bytes.
func decodeEntry(b []byte) (Key, Entry) {
	_ = b[entrySize-1]
	k := Key{Account: binary.BigEndian.Uint16(b)}
	copy(k.ID[:], b[2:])
	return k, Entry{
		State: b[18], Flags: b[19],
		Project: binary.BigEndian.Uint16(b[20:]), Month: binary.BigEndian.Uint16(b[22:]),
	}
}

// body is what a log record says.
type body struct {
	kind    byte
	entries []byte            // encoded, of batches and full snapshots
	records map[string][]byte // nil values delete; they point into the record
	mark    byte
	boot    string
}

const deleted = 1<<32 - 1 // the length of a record that is no more

func (b *body) append(dst []byte) []byte {
	dst = append(dst, b.kind)
	if b.kind == kindMark {
		return append(append(dst, b.mark), b.boot...)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b.entries)/entrySize))
	dst = append(dst, b.entries...)
	return appendRecords(dst, b.records)
}

func appendRecords(dst []byte, records map[string][]byte) []byte {
	names := make([]string, 0, len(records))
	for name := range records {
		names = append(names, name)
	}
	slices.Sort(names) // the same state is the same bytes
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(names)))
	for _, name := range names {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
		dst = append(dst, name...)
		value := records[name]
		if value == nil {
			dst = binary.BigEndian.AppendUint32(dst, deleted)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
		dst = append(dst, value...)
	}
	return dst
}

func parseBody(p []byte) (b body, ok bool) {
	if len(p) == 0 {
		return b, false
	}
	b.kind, p = p[0], p[1:]
	switch b.kind {
	case kindMark:
		if len(p) != 1+bootSize {
			return b, false
		}
		b.mark, b.boot = p[0], string(p[1:])
		return b, b.mark == markOpen || b.mark == markClosed
	case kindBatch, kindSnapshot, kindFull:
	default:
		return b, false
	}
	if len(p) < 4 {
		return b, false
	}
	n := uint64(binary.BigEndian.Uint32(p)) * entrySize
	if p = p[4:]; uint64(len(p)) < n {
		return b, false
	}
	b.entries, p = p[:n], p[n:]
	b.records, ok = parseRecords(p)
	return b, ok
}

// parseRecords reads what appendRecords wrote, which must be all of p.
func parseRecords(p []byte) (map[string][]byte, bool) {
	if len(p) < 4 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint32(p))
	if p = p[4:]; n > len(p)/6 {
		return nil, false
	}
	if n == 0 {
		return nil, len(p) == 0
	}
	records := make(map[string][]byte, n)
	for range n {
		if len(p) < 2 {
			return nil, false
		}
		nameLen := int(binary.BigEndian.Uint16(p))
		if p = p[2:]; len(p) < nameLen+4 {
			return nil, false
		}
		name, size := string(p[:nameLen]), binary.BigEndian.Uint32(p[nameLen:])
		p = p[nameLen+4:]
		if size == deleted {
			records[name] = nil
			continue
		}
		if uint64(len(p)) < uint64(size) {
			return nil, false
		}
		records[name], p = p[:size:size], p[size:]
	}
	return records, len(p) == 0
}

// logHeader begins a log.
type logHeader struct{ number, firstSeq uint64 }

func (h logHeader) append(dst []byte) []byte {
	start := len(dst)
	dst = append(append(dst, logMagic...), version, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, h.number)
	dst = binary.BigEndian.AppendUint64(dst, h.firstSeq)
	dst = append(dst, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, checksum(dst[start:]))
}

func parseLogHeader(b []byte) (h logHeader, ok bool) {
	if len(b) < logHeaderSize || string(b[:4]) != logMagic || b[4] != version ||
		binary.BigEndian.Uint32(b[28:]) != checksum(b[:28]) {
		return h, false
	}
	return logHeader{number: binary.BigEndian.Uint64(b[8:]), firstSeq: binary.BigEndian.Uint64(b[16:])}, true
}

// appendRecord appends a log record; durable is the newest batch known to be
// on disk at this time.
func appendRecord(dst []byte, seq, durable uint64, b *body) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHeaderSize)...)
	dst = b.append(dst)
	h, payload := dst[start:start+recordHeaderSize], dst[start+recordHeaderSize:]
	copy(h, recordMagic)
	binary.BigEndian.PutUint32(h[4:], uint32(len(payload)))
	binary.BigEndian.PutUint64(h[8:], seq)
	binary.BigEndian.PutUint64(h[16:], durable)
	binary.BigEndian.PutUint32(h[24:], checksum(payload))
	binary.BigEndian.PutUint32(h[28:], checksum(h[:28]))
	return dst
}

// record is a log record as read.
type record struct {
	seq, durable uint64
	at, end      int // in the log
	body         body
}

// parseRecord reads the record at data[at:].
func parseRecord(data []byte, at int) (r record, ok bool) {
	h := data[at:]
	if len(h) < recordHeaderSize || string(h[:4]) != recordMagic ||
		binary.BigEndian.Uint32(h[28:]) != checksum(h[:28]) {
		return r, false
	}
	size := int(binary.BigEndian.Uint32(h[4:]))
	if size > maxPayload || len(h)-recordHeaderSize < size {
		return r, false
	}
	payload := h[recordHeaderSize : recordHeaderSize+size]
	if binary.BigEndian.Uint32(h[24:]) != checksum(payload) {
		return r, false
	}
	r = record{
		seq: binary.BigEndian.Uint64(h[8:]), durable: binary.BigEndian.Uint64(h[16:]),
		at: at, end: at + recordHeaderSize + size,
	}
	r.body, ok = parseBody(payload)
	return r, ok
}

// foot ends a run.
type foot struct {
	number, entries, blocks uint64
	firstSeq, lastSeq       uint64 // the batches it has the outcome of
	last                    [keySize]byte
	fenceCRC                uint32
}

func (f *foot) append(dst []byte) []byte {
	start := len(dst)
	dst = append(append(dst, runMagic...), version, 0, 0, 0)
	for _, n := range []uint64{f.number, f.entries, f.blocks, f.firstSeq, f.lastSeq} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	dst = append(dst, f.last[:]...)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, f.fenceCRC)
	dst = append(dst, make([]byte, footSize-4-(len(dst)-start))...)
	return binary.BigEndian.AppendUint32(dst, checksum(dst[start:]))
}

func parseFoot(b []byte) (f foot, ok bool) {
	if len(b) != footSize || string(b[:4]) != runMagic || b[4] != version ||
		binary.BigEndian.Uint32(b[footSize-4:]) != checksum(b[:footSize-4]) {
		return f, false
	}
	for i, n := range []*uint64{&f.number, &f.entries, &f.blocks, &f.firstSeq, &f.lastSeq} {
		*n = binary.BigEndian.Uint64(b[8+8*i:])
	}
	copy(f.last[:], b[48:])
	f.fenceCRC = binary.BigEndian.Uint32(b[68:])
	return f, f.blocks > 0 && f.blocks < 1<<40
}

// sealBlock completes a block whose entries are in place.
func sealBlock(b []byte, n int, index uint64) {
	clear(b[n*entrySize:])
	binary.BigEndian.PutUint16(b[blockCountAt:], uint16(n))
	binary.BigEndian.PutUint64(b[blockIndexAt:], index)
	binary.BigEndian.PutUint32(b[blockCRCAt:], checksum(b[:blockCRCAt]))
}

// openBlock returns a block's entries, encoded.
func openBlock(b []byte, index uint64) (entries []byte, ok bool) {
	if len(b) != blockSize || binary.BigEndian.Uint32(b[blockCRCAt:]) != checksum(b[:blockCRCAt]) ||
		binary.BigEndian.Uint64(b[blockIndexAt:]) != index {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[blockCountAt:]))
	if n == 0 || n > blockEntries {
		return nil, false
	}
	return b[:n*entrySize], true
}

// runInfo is a run as the manifest names it.
type runInfo struct{ number, entries, firstSeq, lastSeq uint64 }

// manifest names what counts.
type manifest struct {
	nextFile   uint64 // greater than the number of any run
	firstLog   uint64 // logs of lower numbers do not count
	flushedSeq uint64 // batches up to this are in runs
	runs       []runInfo
	records    map[string][]byte // as they were with that batch
}

func (m *manifest) append(dst []byte) []byte {
	payload := appendManifestPayload(nil, m)
	start := len(dst)
	dst = append(append(dst, manifestMagic...), version, 0, 0, 0)
	for _, n := range []uint64{m.nextFile, m.firstLog, m.flushedSeq} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.runs)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.BigEndian.AppendUint32(dst, checksum(payload))
	dst = binary.BigEndian.AppendUint32(dst, checksum(dst[start:]))
	return append(dst, payload...)
}

func appendManifestPayload(dst []byte, m *manifest) []byte {
	for _, r := range m.runs {
		for _, n := range []uint64{r.number, r.entries, r.firstSeq, r.lastSeq} {
			dst = binary.BigEndian.AppendUint64(dst, n)
		}
	}
	return appendRecords(dst, m.records)
}

func parseManifest(b []byte) (m manifest, ok bool) {
	if len(b) < manifestHeaderSize || string(b[:4]) != manifestMagic || b[4] != version ||
		binary.BigEndian.Uint32(b[44:]) != checksum(b[:44]) {
		return m, false
	}
	payload := b[manifestHeaderSize:]
	runs := int(binary.BigEndian.Uint32(b[32:]))
	if int(binary.BigEndian.Uint32(b[36:])) != len(payload) || checksum(payload) != binary.BigEndian.Uint32(b[40:]) ||
		runs > len(payload)/manifestRunSize {
		return m, false
	}
	for i, n := range []*uint64{&m.nextFile, &m.firstLog, &m.flushedSeq} {
		*n = binary.BigEndian.Uint64(b[8+8*i:])
	}
	for range runs {
		var r runInfo
		for i, n := range []*uint64{&r.number, &r.entries, &r.firstSeq, &r.lastSeq} {
			*n = binary.BigEndian.Uint64(payload[8*i:])
		}
		m.runs, payload = append(m.runs, r), payload[manifestRunSize:]
	}
	m.records, ok = parseRecords(payload)
	return m, ok
}
