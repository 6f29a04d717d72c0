package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// foundSegment is a segment directory on disk.
type foundSegment struct {
	id    uint64
	shelf bool
	dir   string
}

// recover rebuilds the state from the newest segment that was active, begins a
// new active segment, and removes directories that hold nothing live. It runs
// before any goroutine of the queue.
func (q *Queue) recover() error {
	found, err := q.listSegments()
	if err != nil {
		return err
	}
	if len(found) > 0 && q.disk.freeNow(true) < int64(indexHardBytes)+logStepBytes+4*indexStepBytes {
		q.disk.release() // recovery writes a little; the ballast was kept for this
	}
	q.cfg.step("recovering")
	if err := q.recoverState(found); err != nil {
		return err
	}
	if n := len(found); n > 0 {
		q.st.nextSegment = max(q.st.nextSegment, found[n-1].id+1)
	}
	for _, f := range found {
		st := q.st.segments[f.id]
		if st == nil {
			continue
		}
		s := q.segs[f.id]
		if s == nil {
			s = q.newSegment(st)
			q.segs[f.id] = s
		}
		s.sealed = true
	}
	q.loseMissing()
	active, err := q.createSegment(false)
	if err != nil {
		return fmt.Errorf("start the queue in %s: %w; free some space (weir needs about 16 MiB to start)", q.cfg.Dir, err)
	}
	if err := q.beginActive(active); err != nil {
		return errors.Join(fmt.Errorf("start the queue in %s: %w", q.cfg.Dir, err), q.removeSegment(active))
	}
	q.cfg.step("recovered")
	q.disk.restore()
	return q.removeStrays(found)
}

// listSegments lists the segment directories, oldest first.
func (q *Queue) listSegments() ([]foundSegment, error) {
	root := filepath.Join(q.cfg.Dir, "segments")
	names, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var found []foundSegment
	for _, de := range names {
		if id, shelf, ok := parseSegmentDir(de.Name()); ok && de.IsDir() {
			found = append(found, foundSegment{id, shelf, filepath.Join(root, de.Name())})
		}
	}
	slices.SortFunc(found, func(a, b foundSegment) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return found, nil
}

// recoverState finds the newest segment with a checkpoint and replays it.
// Newer ones without checkpoint were spares. A checkpoint that is there and
// cannot be read means rebuilding from every segment.
func (q *Queue) recoverState(found []foundSegment) error {
	for i := len(found) - 1; i >= 0; i-- {
		f := found[i]
		if f.shelf {
			continue
		}
		s := &segment{segmentState: newSegmentState(f.id, false), dir: f.dir, touched: q.cfg.now()}
		st, err := q.acquireStore(s)
		if err != nil {
			if q.storeUnavailable(err) {
				return fmt.Errorf("open segment %d: %w", f.id, err)
			}
			return q.rebuild(found, err)
		}
		q.releaseStore(s)
		var state *state
		err = guardFaults(func() (err error) {
			_, state, err = readCheckpoint(st)
			return err
		})
		if errors.Is(err, errNoCheckpoint) && !hasFrames(st) {
			if err := q.closeRecovered(s); err != nil {
				return err
			}
			continue // a spare
		}
		if err == nil {
			q.st = state
			q.segs[f.id] = s
			err = q.replay(s, st)
		}
		if err != nil {
			delete(q.segs, f.id)
			return errors.Join(q.closeRecovered(s), q.rebuild(found, err))
		}
		return nil
	}
	q.st = newState()
	if len(found) > 0 {
		return q.rebuild(found, errNoCheckpoint)
	}
	return nil
}

// closeRecovered closes a database opened during recovery.
func (q *Queue) closeRecovered(s *segment) error {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	if s.store == nil {
		return nil
	}
	if s.writable && !q.disk.roomToFlush(s.indexBytes) {
		return fmt.Errorf("close segment %d: %w", s.id, errNoSpace)
	}
	err := s.store.Close()
	s.store = nil
	return err
}

func hasFrames(st store) bool {
	found, _ := scanFrames(st)
	return len(found) > 0
}

// replay adds the frames and the journal of the segment that was active last.
func (q *Queue) replay(s *segment, st store) error {
	found, err := scanFrames(st)
	if err != nil {
		return err
	}
	events, err := scanJournal(st)
	if err != nil {
		return err
	}
	q.st.segments[s.id] = s.segmentState
	for _, f := range found {
		q.st.addFrame(s.segmentState, f.seq, f.header)
	}
	for i := range events {
		q.st.apply(&events[i])
	}
	return nil
}

// scanJournal reads the journal records of a database in order.
func scanJournal(st store) (events []event, err error) {
	err = guardFaults(func() error {
		return st.Scan([]byte(keyJournal), func(_, value []byte) error {
			batch, err := decodeJournal(value)
			if err != nil {
				return fmt.Errorf("journal: %w", err)
			}
			events = append(events, batch...)
			return nil
		})
	})
	return events, err
}

// rebuild makes a state from whatever can be read in every segment, when the
// newest checkpoint cannot. Frames whose settlement is not known are pending
// again: they may be delivered twice, and are not lost.
func (q *Queue) rebuild(found []foundSegment, cause error) error {
	q.report(fmt.Sprintf("the index of the buffer could not be read (%v); it was rebuilt from the stored data, "+
		"some of which may be delivered a second time", cause))
	q.st = newState()
	q.segs = map[uint64]*segment{}
	var journals [][]event
	for _, f := range found {
		s := &segment{segmentState: newSegmentState(f.id, f.shelf), dir: f.dir, touched: q.cfg.now(), sealed: true}
		q.st.segments[f.id] = s.segmentState
		q.segs[f.id] = s
		st, err := q.acquireStore(s)
		if err != nil {
			if err := q.setAside(f, err); err != nil {
				return err
			}
			continue
		}
		q.releaseStore(s)
		journals = append(journals, q.rebuildFrom(s, st))
		if err := q.closeRecovered(s); err != nil {
			return err
		}
	}
	for _, events := range journals {
		for i := range events {
			q.st.apply(&events[i])
		}
	}
	return nil
}

// setAside renames a segment that cannot be opened, so that it is neither
// tried again nor ever deleted by weir.
func (q *Queue) setAside(f foundSegment, cause error) error {
	aside := f.dir + ".unreadable"
	q.report(fmt.Sprintf("a segment of the buffer cannot be opened (%v); its files are kept in %s", cause, aside))
	delete(q.st.segments, f.id)
	delete(q.segs, f.id)
	if err := os.Rename(f.dir, aside); err != nil {
		return fmt.Errorf("set an unreadable segment aside: %w", err)
	}
	return nil
}

// rebuildFrom takes from a segment what outlives it, adds its frames and
// returns its journal.
func (q *Queue) rebuildFrom(s *segment, st store) []event {
	var old *state
	err := guardFaults(func() (err error) {
		_, old, err = readCheckpoint(st)
		return err
	})
	if err == nil {
		for _, l := range old.lanes {
			q.st.addLane(l)
		}
		q.st.cases, q.st.notes, q.st.dropped = old.cases, old.notes, old.dropped
		q.st.accepted, q.st.delivered = old.accepted, old.delivered
		q.st.nextPlace, q.st.nextLane = max(q.st.nextPlace, old.nextPlace), max(q.st.nextLane, old.nextLane)
		for id, seg := range old.segments {
			if now := q.st.segments[id]; now != nil {
				q.forget(now, seg)
			}
		}
	}
	frames, err := scanFrames(st)
	if err != nil {
		q.report(fmt.Sprintf("segment %d could be read only in part: %v", s.id, err))
	}
	for _, f := range frames {
		if s.shelf {
			f.header.accepted = false
		}
		q.st.addFrame(s.segmentState, f.seq, f.header)
	}
	events, err := scanJournal(st)
	if err != nil {
		q.report(fmt.Sprintf("the journal of segment %d could be read only in part: %v", s.id, err))
	}
	return events
}

// forget applies to a rebuilt segment what an older checkpoint knew to be gone.
func (q *Queue) forget(now, then *segmentState) {
	for seq := range then.next {
		if then.gone.has(seq) {
			now.gone.set(seq)
		}
	}
	now.live = then.live
	now.placed = then.placed
	now.next = then.next
}

// report keeps a sentence for a person, and logs it.
func (q *Queue) report(s string) {
	q.reports = append(q.reports, s)
	q.cfg.Logger.Error("recovery", "report", s)
}

// loseMissing counts as lost what segments held whose directories are gone.
func (q *Queue) loseMissing() {
	for id, s := range q.st.segments {
		if q.segs[id] != nil {
			continue
		}
		for _, e := range lostEvents(s, nil) {
			q.report(fmt.Sprintf("segment %d is missing from the data directory: %d items are lost", id, e.items))
			q.st.apply(&e)
		}
		delete(q.st.segments, id)
	}
}

// removeStrays deletes directories with nothing live: spares, segments drained
// before the process ended, copies that were never journaled.
func (q *Queue) removeStrays(found []foundSegment) error {
	for _, f := range found {
		if s := q.segs[f.id]; s != nil && len(s.live) > 0 {
			continue
		} else if s != nil {
			if err := q.closeRecovered(s); err != nil {
				return err
			}
			delete(q.segs, f.id)
			delete(q.st.segments, f.id)
		}
		if err := os.RemoveAll(f.dir); err != nil {
			return fmt.Errorf("remove drained segment: %w", err)
		}
	}
	return nil
}
