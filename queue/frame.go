package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// TraceID is a trace's 16-byte identity.
type TraceID = [16]byte

// LaneID numbers a lane within one data directory. Numbers are not reused.
type LaneID uint32

// Place says where a live frame stands: Pending, or the case it is kept in.
type Place uint64

// Pending is the place of frames that are to be sent.
const Pending Place = 0

// FrameID names a frame within one data directory.
type FrameID struct {
	Segment uint64
	Seq     uint32
}

// String returns the form used in logs and listings.
func (id FrameID) String() string { return fmt.Sprintf("%d/%d", id.Segment, id.Seq) }

// Layout of a stored frame, all integers big endian. docs/format.md describes
// it for people, and a golden test pins it.
//
//	offset size
//	     0    2  magic "wF"
//	     2    1  version, 1
//	     3    1  encoding: 0 plain, 1 zstd frames
//	     4    1  flags: bit 0 set if the items count as accepted when replayed
//	     5    3  zero
//	     8    4  lane
//	    12    8  place at the time of writing
//	    20    8  when the items were accepted, Unix milliseconds
//	    28    4  items
//	    32    4  payload bytes when decompressed
//	    36    4  payload bytes as stored
//	    40    4  trace ids
//	    44    4  CRC-32C of the trace ids and the payload
//	    48    4  CRC-32C of bytes 0-47
//	    52       trace ids, 16 bytes each
//	             payload
//
// The header has a checksum of its own because it is read alone: a start and
// the index of a segment must trust lane, place and counts without touching
// the pages of the payload.
const (
	frameHeaderBytes = 52
	frameVersion     = 1
	frameMagic       = "wF"

	frameFlagAccepted = 1 << 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged marks what does not read back from disk as it was written.
var ErrDamaged = errors.New("damaged on disk")

// frameHeader is the decoded header of a stored frame.
type frameHeader struct {
	zstd         bool
	accepted     bool
	lane         LaneID
	place        Place
	acceptedAtMS int64
	items        uint32
	rawBytes     uint32
	payloadBytes uint32
	traces       uint32
	bodyCRC      uint32
}

// appendFrame appends the stored form of a frame: the header, the trace ids
// and the payload pieces.
func appendFrame(dst []byte, h frameHeader, traces []TraceID, pieces ...[]byte) []byte {
	start := len(dst)
	var payloadBytes int
	for _, p := range pieces {
		payloadBytes += len(p)
	}
	dst = append(dst, frameMagic...)
	var encoding, flags byte
	if h.zstd {
		encoding = 1
	}
	if h.accepted {
		flags |= frameFlagAccepted
	}
	dst = append(dst, frameVersion, encoding, flags, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.lane))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.place))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.acceptedAtMS))
	dst = binary.BigEndian.AppendUint32(dst, h.items)
	dst = binary.BigEndian.AppendUint32(dst, h.rawBytes)
	dst = binary.BigEndian.AppendUint32(dst, uint32(payloadBytes))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(traces)))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	for i := range traces {
		dst = append(dst, traces[i][:]...)
	}
	for _, p := range pieces {
		dst = append(dst, p...)
	}
	value := dst[start:]
	binary.BigEndian.PutUint32(value[44:], crc32.Checksum(value[frameHeaderBytes:], castagnoli))
	sealFrameHeader(value)
	return dst
}

// sealFrameHeader writes the header's checksum.
func sealFrameHeader(value []byte) {
	binary.BigEndian.PutUint32(value[48:], crc32.Checksum(value[:48], castagnoli))
}

// rewriteFrame changes a stored frame to a copy that stands at place: its
// items were counted as accepted once, by the original. The body and its
// checksum stay as they are, so that a copy of damage is still damaged.
func rewriteFrame(value []byte, place Place) {
	value[4] &^= frameFlagAccepted
	binary.BigEndian.PutUint64(value[12:], uint64(place))
	sealFrameHeader(value)
}

// parseFrameHeader reads the header of a stored frame, verifies its checksum
// and that its lengths fit the value. It touches no byte beyond the header.
func parseFrameHeader(value []byte) (frameHeader, error) {
	if len(value) < frameHeaderBytes || string(value[:2]) != frameMagic {
		return frameHeader{}, fmt.Errorf("frame of %d bytes without header: %w", len(value), ErrDamaged)
	}
	if value[2] != frameVersion {
		return frameHeader{}, fmt.Errorf("frame version %d, this weir reads version %d: %w", value[2], frameVersion, ErrDamaged)
	}
	if crc32.Checksum(value[:48], castagnoli) != binary.BigEndian.Uint32(value[48:]) {
		return frameHeader{}, fmt.Errorf("frame header fails its checksum: %w", ErrDamaged)
	}
	if value[3] > 1 {
		return frameHeader{}, fmt.Errorf("frame encoding %d, this weir reads 0 and 1: %w", value[3], ErrDamaged)
	}
	h := frameHeader{
		zstd:         value[3] == 1,
		accepted:     value[4]&frameFlagAccepted != 0,
		lane:         LaneID(binary.BigEndian.Uint32(value[8:])),
		place:        Place(binary.BigEndian.Uint64(value[12:])),
		acceptedAtMS: int64(binary.BigEndian.Uint64(value[20:])),
		items:        binary.BigEndian.Uint32(value[28:]),
		rawBytes:     binary.BigEndian.Uint32(value[32:]),
		payloadBytes: binary.BigEndian.Uint32(value[36:]),
		traces:       binary.BigEndian.Uint32(value[40:]),
		bodyCRC:      binary.BigEndian.Uint32(value[44:]),
	}
	if want := frameHeaderBytes + 16*int64(h.traces) + int64(h.payloadBytes); want != int64(len(value)) {
		return frameHeader{}, fmt.Errorf("frame of %d bytes whose header says %d: %w", len(value), want, ErrDamaged)
	}
	return h, nil
}

// Frame is a leased frame with its payload. The slices are valid until the
// lease is settled or returned.
type Frame struct {
	ID         FrameID
	Items      int
	RawBytes   int       // payload size when decompressed
	Zstd       bool      // Payload is zstd frames; false: plain
	AcceptedAt time.Time // when the oldest of its items was accepted
	Payload    []byte
	Traces     []TraceID // distinct trace ids

	// Copied says that the frame is a copy, or a part, of an older one. Its ID
	// then says nothing of when its items were appended, or sent first:
	// copies, too, are numbered when they are made.
	Copied bool
}

// checkFrame verifies a stored frame's header and checksum.
func checkFrame(value []byte) error {
	h, err := parseFrameHeader(value)
	if err != nil {
		return err
	}
	if crc32.Checksum(value[frameHeaderBytes:], castagnoli) != h.bodyCRC {
		return fmt.Errorf("frame fails its checksum: %w", ErrDamaged)
	}
	return nil
}

// parseFrame reads a stored frame that checkFrame has passed. The result
// refers to value.
func parseFrame(id FrameID, value []byte) (Frame, error) {
	h, err := parseFrameHeader(value)
	if err != nil {
		return Frame{}, err
	}
	f := Frame{
		ID:         id,
		Items:      int(h.items),
		RawBytes:   int(h.rawBytes),
		Zstd:       h.zstd,
		AcceptedAt: time.UnixMilli(h.acceptedAtMS),
		Copied:     !h.accepted,
		Payload:    value[frameHeaderBytes+16*int(h.traces):],
	}
	if h.traces > 0 {
		f.Traces = make([]TraceID, h.traces)
		for i := range f.Traces {
			copy(f.Traces[i][:], value[frameHeaderBytes+16*i:])
		}
	}
	return f, nil
}
