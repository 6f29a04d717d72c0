package queue

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// checkpointPieceBytes is how much of a checkpoint one value holds.
const checkpointPieceBytes = 256 << 10

// segmentHeader is the value of keyHeader.
type segmentHeader struct {
	id      uint64
	shelf   bool
	pieces  int // of the checkpoint
	created int64
}

func (h segmentHeader) encode() []byte {
	w := recordWriter{buf: []byte{recordVersion}}
	w.uint(h.id)
	var shelf uint64
	if h.shelf {
		shelf = 1
	}
	w.uint(shelf)
	w.uint(uint64(h.pieces))
	w.int(h.created)
	return w.seal()
}

func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	r, err := openRecord(b)
	if err != nil {
		return segmentHeader{}, err
	}
	h := segmentHeader{id: r.uint(), shelf: r.uint() == 1, pieces: int(r.uint32()), created: r.int()}
	return h, r.close()
}

// encodeCheckpoint writes the whole state as one record. Maps are written in
// order, so equal states give equal bytes.
func encodeCheckpoint(st *state) []byte {
	w := recordWriter{buf: []byte{recordVersion}}
	w.uint(st.nextSegment)
	w.uint(uint64(st.nextLane))
	w.uint(uint64(st.nextPlace))
	w.int(st.accepted)
	w.int(st.delivered)
	w.uint(uint64(len(st.dropped)))
	for _, reason := range slices.Sorted(maps.Keys(st.dropped)) {
		w.string(reason)
		w.int(st.dropped[reason])
	}
	w.uint(uint64(len(st.lanes)))
	for _, id := range slices.Sorted(maps.Keys(st.lanes)) {
		w.uint(uint64(id))
		w.string(st.lanes[id].descriptor)
	}
	w.uint(uint64(len(st.cases)))
	for _, p := range slices.Sorted(maps.Keys(st.cases)) {
		c := st.cases[p]
		w.uint(uint64(p))
		w.uint(uint64(c.lane))
		w.uint(uint64(c.kind))
		w.int(c.openedAtMS)
		w.bytes(c.data)
	}
	w.uint(uint64(len(st.notes)))
	for _, k := range slices.Sorted(maps.Keys(st.notes)) {
		w.string(k)
		w.bytes(st.notes[k])
	}
	segments := st.sortedSegments()
	w.uint(uint64(len(segments)))
	for _, s := range segments {
		encodeSegmentState(&w, s)
	}
	w.int(st.newestMS)
	return w.seal()
}

// Flags of a segment in a checkpoint.
const (
	segmentFlagShelf   = 1 << 0
	segmentFlagDamaged = 1 << 1
)

func encodeSegmentState(w *recordWriter, s *segmentState) {
	w.uint(s.id)
	var flags uint64
	if s.shelf {
		flags |= segmentFlagShelf
	}
	if s.damaged {
		flags |= segmentFlagDamaged
	}
	w.uint(flags)
	w.uint(uint64(s.next))
	w.uint(uint64(len(s.gone)))
	for _, word := range s.gone {
		w.buf = binary.BigEndian.AppendUint64(w.buf, word)
	}
	w.uint(uint64(len(s.placed)))
	for _, seq := range slices.Sorted(maps.Keys(s.placed)) {
		w.uint(uint64(seq))
		w.uint(uint64(s.placed[seq]))
	}
	buckets := slices.SortedFunc(maps.Keys(s.live), func(a, b bucket) int {
		if a.lane != b.lane {
			return cmp.Compare(a.lane, b.lane)
		}
		return cmp.Compare(a.place, b.place)
	})
	w.uint(uint64(len(buckets)))
	for _, b := range buckets {
		t := s.live[b]
		w.uint(uint64(b.lane))
		w.uint(uint64(b.place))
		w.int(t.frames)
		w.int(t.items)
		w.int(t.rawBytes)
		w.int(t.bytes)
		w.int(t.oldestMS)
	}
}

// decodeCheckpoint reads what encodeCheckpoint wrote.
func decodeCheckpoint(b []byte) (*state, error) {
	r, err := openRecord(b)
	if err != nil {
		return nil, err
	}
	st := newState()
	st.nextSegment = r.uint()
	st.nextLane = LaneID(r.uint32())
	st.nextPlace = Place(r.uint())
	st.accepted = r.int()
	st.delivered = r.int()
	for range r.count(2) {
		reason := r.string()
		st.dropped[reason] = r.int()
	}
	for range r.count(2) {
		st.addLane(&laneState{id: LaneID(r.uint32()), descriptor: r.string()})
	}
	for range r.count(5) {
		c := &caseState{id: Place(r.uint()), lane: LaneID(r.uint32()), kind: CaseKind(r.uint()), openedAtMS: r.int(), data: r.bytes()}
		st.cases[c.id] = c
		st.caseBytes += int64(len(c.data))
	}
	for range r.count(2) {
		k := r.string()
		st.setNote(k, append([]byte{}, r.bytes()...)) // never nil: an empty note is one
	}
	for range r.count(6) {
		s := decodeSegmentState(r)
		st.segments[s.id] = s
	}
	for _, s := range st.segments {
		for b, t := range s.live {
			st.countPlace(b.place, t.bytes)
			if r.version < 2 { // did not say: what is known of it
				st.newestMS = max(st.newestMS, t.oldestMS)
			}
		}
	}
	if r.version >= 2 {
		st.newestMS = r.int()
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	return st, nil
}

func decodeSegmentState(r *recordReader) *segmentState {
	id, flags := r.uint(), r.uint()
	s := newSegmentState(id, flags&segmentFlagShelf != 0)
	s.damaged = flags&segmentFlagDamaged != 0
	s.next = r.seq()
	for range r.count(8) {
		s.gone = append(s.gone, binary.BigEndian.Uint64(r.buf))
		r.buf = r.buf[8:]
	}
	for range r.count(2) {
		seq := r.seq()
		s.placed[seq] = Place(r.uint())
	}
	for range r.count(7) {
		b := bucket{lane: LaneID(r.uint32()), place: Place(r.uint())}
		s.live[b] = &tally{frames: r.int(), items: r.int(), rawBytes: r.int(), bytes: r.int(), oldestMS: r.int()}
	}
	return s
}

// checkpointEntries are the first transaction of a segment.
func checkpointEntries(h segmentHeader, checkpoint []byte) []entry {
	var entries []entry
	for i := 0; len(checkpoint) > 0; i++ {
		n := min(len(checkpoint), checkpointPieceBytes)
		entries = append(entries, entry{key16(keyCheckpoint, uint16(i)), checkpoint[:n]})
		checkpoint = checkpoint[n:]
	}
	h.pieces = len(entries)
	return append(entries, entry{[]byte(keyHeader), h.encode()})
}

// errNoCheckpoint marks a segment that never became the active one.
var errNoCheckpoint = errors.New("no checkpoint")

// readCheckpoint reads the state a segment begins with.
func readCheckpoint(s store) (segmentHeader, *state, error) {
	var h segmentHeader
	err := s.View([]byte(keyHeader), func(v []byte) (err error) {
		h, err = decodeSegmentHeader(v)
		return err
	})
	if errors.Is(err, errNotFound) {
		return h, nil, errNoCheckpoint
	}
	if err != nil {
		return h, nil, fmt.Errorf("segment header: %w", err)
	}
	var whole bytes.Buffer
	for i := range h.pieces {
		if err := s.View(key16(keyCheckpoint, uint16(i)), func(v []byte) error {
			whole.Write(v)
			return nil
		}); err != nil {
			return h, nil, fmt.Errorf("checkpoint piece %d: %w", i, err)
		}
	}
	st, err := decodeCheckpoint(whole.Bytes())
	if err != nil {
		return h, nil, fmt.Errorf("checkpoint: %w", err)
	}
	return h, st, nil
}
