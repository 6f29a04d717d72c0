package queue

import (
	"errors"
	"fmt"
	"slices"
)

// shelveBatchBytes bounds what is copied in one transaction.
const shelveBatchBytes = 2 << 20

// shelve copies the live frames of mostly dead segments together, so that a
// little long-waiting data does not pin the disk of everything that came with
// it. One segment a round.
func (q *Queue) shelve() error {
	s := q.shelvable()
	if s == nil {
		return nil
	}
	err := q.shelveSegment(s)
	if err != nil && errors.Is(err, errNoSpace) {
		return nil // tried again when there is room
	}
	if err != nil {
		return fmt.Errorf("shelve segment %d: %w", s.id, err)
	}
	return q.retire()
}

// shelvable finds the oldest sealed segment that is mostly dead and has been
// left alone for a while.
func (q *Queue) shelvable() *segment {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cfg.now()
	crowded := len(q.segs) > crowdedSegments
	for _, st := range q.st.sortedSegments() {
		s := q.segs[st.id]
		if s == nil || !s.sealed || s == q.shelf || len(s.live) == 0 || s.diskBytes == 0 ||
			now.Sub(s.touched) < q.cfg.ShelveAfter || (s.index != nil && s.index.leased > 0) {
			continue
		}
		if 2*s.liveBytes() < s.diskBytes-minSegmentBytes || len(s.placed) > maxPlaced ||
			(crowded && 8*s.diskBytes < q.cfg.SegmentBytes) {
			return s
		}
	}
	return nil
}

// minSegmentBytes is what an empty closed database takes on disk: copying a
// segment that small gains nothing.
const minSegmentBytes = 64 << 10

const (
	// crowdedSegments is how many segments there may be before small ones are
	// copied together: every start begins one.
	crowdedSegments = 32

	// maxPlaced is how many frames of a segment may have moved before they are
	// copied, which writes their places beside them.
	maxPlaced = 1024
)

func (q *Queue) shelveSegment(s *segment) error {
	q.mu.Lock()
	loaded := s.index != nil
	q.mu.Unlock()
	if !loaded {
		if err := q.load(s); err != nil {
			return err
		}
	}
	refs := q.leaseAll(s)
	defer q.endShelving(refs)
	for len(refs) > 0 {
		n, err := q.shelveBatch(s, refs)
		if err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// leaseAll takes every live frame of a segment, kept ones too, so that nothing
// else touches them while they are copied.
func (q *Queue) leaseAll(s *segment) []leaseRef {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.index == nil || s.index.leased > 0 {
		return nil
	}
	var refs []leaseRef
	for seq := range s.index.frames {
		f := &s.index.frames[seq]
		if f.state != frameReady {
			continue
		}
		f.state = frameLeased
		s.index.leased++
		refs = append(refs, leaseRef{seg: s, seq: uint32(seq), info: *f})
	}
	clear(s.index.ready)
	s.shelving = len(refs) > 0
	return refs
}

// endShelving gives back the frames that were not copied.
func (q *Queue) endShelving(refs []leaseRef) {
	defer signal(q.changed)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range refs {
		refs[i].seg.shelving = false
		q.giveBackLocked(&refs[i])
	}
}

// shelveBatch copies some frames to the shelf, synced, and then journals that
// they live there. A crash in between leaves copies that nothing refers to.
func (q *Queue) shelveBatch(s *segment, refs []leaseRef) (n int, err error) {
	shelf, err := q.openShelf()
	if err != nil {
		return 0, err
	}
	q.mu.Lock()
	seq := shelf.next
	q.mu.Unlock()
	var entries []entry
	var events []event
	var bytes int64
	for n < len(refs) && (n == 0 || bytes < shelveBatchBytes) && seq < maxSegmentFrames {
		ref := &refs[n]
		n++
		value, err := q.copyFrame(s, ref)
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, errNotFound) {
			return 0, err
		}
		if err != nil { // not even a header, and its segment goes away
			e := ref.event(eventDropped)
			e.text = "damaged_on_disk"
			events = append(events, e)
			continue
		}
		entries = append(entries, entry{key32(keyFrame, seq), value})
		bytes += int64(len(value))
		e := ref.event(eventCopied)
		e.toSegment, e.toSeq = shelf.id, seq
		events = append(events, e)
		seq++
	}
	if err := q.commitToShelf(shelf, entries); err != nil {
		return 0, err
	}
	q.cfg.step("shelved")
	return n, q.commitChange(&change{events: events}, true)
}

// copyFrame reads a frame, writes its present place into its stored form, and
// marks it as a copy. A frame whose body is damaged is copied as it is.
func (q *Queue) copyFrame(s *segment, ref *leaseRef) (value []byte, err error) {
	if err := q.readFrame(s, ref.seq, func(v []byte) { value = slices.Clone(v) }); err != nil {
		return nil, err
	}
	if _, err := parseFrameHeader(value); err != nil {
		return nil, err
	}
	rewriteFrame(value, ref.info.place)
	return value, nil
}

func (q *Queue) commitToShelf(shelf *segment, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	logNeed, indexNeed := costs(entries)
	if free := q.disk.freeNow(true); free < logNeed+2*logStepBytes {
		return fmt.Errorf("shelf: %s free: %w", sizeText(free), errNoSpace)
	}
	if err := shelf.reserve(logNeed, indexNeed); err != nil {
		return err
	}
	if err := shelf.store.Commit(entries); err != nil {
		q.sealShelf()
		return err
	}
	shelf.wrote(entries)
	return nil
}

// openShelf returns the open shelf, beginning a new one when it is full.
func (q *Queue) openShelf() (*segment, error) {
	q.mu.Lock()
	shelf := q.shelf
	full := shelf != nil && shelf.full(q.cfg.SegmentBytes)
	q.mu.Unlock()
	if full {
		q.sealShelf()
		shelf = nil
	}
	if shelf != nil {
		return shelf, nil
	}
	shelf, err := q.createSegment(true)
	if err != nil {
		return nil, err
	}
	header := segmentHeader{id: shelf.id, shelf: true, created: q.cfg.now().UnixMilli()}
	if err := shelf.store.Commit([]entry{{[]byte(keyHeader), header.encode()}}); err != nil {
		return nil, errors.Join(err, q.removeSegment(shelf))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shelf = shelf
	q.segs[shelf.id] = shelf
	q.st.segments[shelf.id] = shelf.segmentState
	return shelf, nil
}

func (q *Queue) sealShelf() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shelf != nil {
		q.shelf.sealed = true
		q.shelf = nil
	}
}
