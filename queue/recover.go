package queue

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// foundSegment is a segment directory on disk.
type foundSegment struct {
	id     uint64
	shelf  bool
	active bool // it is, or was once, the active segment
	dir    string
}

// recovery rebuilds the state: the newest checkpoint that can be read, and on
// top of it, in order, the frames and the journal of the segment it begins and
// of every later one. That is one segment unless something is damaged.
type recovery struct {
	q     *Queue
	found []foundSegment
	aside []foundSegment // cannot be opened

	// damaged is set when something could not be read. What is not known to be
	// settled is then pending: it may be delivered twice, and is not lost.
	damaged bool

	// based is set once a checkpoint was read; without one nothing is known.
	based bool
}

// recover rebuilds the state, begins a new active segment with it, and only
// then removes or renames what the new state does not need. It runs before any
// goroutine of the queue, and may be interrupted anywhere.
func (q *Queue) recover() error {
	found, err := q.listSegments()
	if err != nil {
		return err
	}
	if len(found) > 0 && q.disk.freeNow(true) < int64(indexHardBytes)+logStepBytes+4*indexStepBytes {
		q.disk.release() // recovery writes a little; the ballast was kept for this
	}
	q.cfg.step("recovering")
	r := &recovery{q: q, found: found}
	if err := r.readState(); err != nil {
		return err
	}
	for _, f := range found {
		q.st.nextSegment = max(q.st.nextSegment, f.id+1)
		st := q.st.segments[f.id]
		if st == nil {
			continue
		}
		if q.segs[f.id] == nil {
			q.segs[f.id] = q.newSegment(st)
		}
		q.segs[f.id].sealed = true
	}
	q.loseMissing()
	blobs, err := q.listBlobs()
	if err != nil {
		return err
	}
	if r.damaged || !r.based {
		if err := blobs.setAside(); err != nil {
			return err
		}
	}
	r.nameAside()
	active, err := q.createSegment(false)
	if err != nil {
		return fmt.Errorf("start the queue in %s: %w; free some space (weir needs about 16 MiB to start)", q.cfg.Dir, err)
	}
	if err := q.beginActive(active); err != nil {
		return errors.Join(fmt.Errorf("start the queue in %s: %w", q.cfg.Dir, err), q.removeSegment(active))
	}
	q.cfg.step("recovered")
	blobs.finish()
	q.disk.restore()
	for _, f := range r.aside {
		if err := setAside(f.dir); err != nil {
			return err
		}
		delete(q.st.segments, f.id)
	}
	return q.removeStrays(found)
}

// nameAside makes what is going to be set aside part of the new checkpoint, as
// drained and damaged: should this start end before it is renamed, the next one
// would take it for a stray, and delete it.
func (r *recovery) nameAside() {
	for _, f := range r.aside {
		if r.q.st.segments[f.id] == nil {
			s := newSegmentState(f.id, f.shelf)
			s.damaged = true
			r.q.st.segments[f.id] = s
		}
	}
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
		id, shelf, ok := parseSegmentDir(de.Name())
		if !ok || !de.IsDir() {
			continue
		}
		f := foundSegment{id: id, shelf: shelf, dir: filepath.Join(root, de.Name())}
		switch _, err := os.Stat(filepath.Join(f.dir, activeFile)); {
		case err == nil:
			f.active = !shelf
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("list segments: %w", err)
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b foundSegment) int { return cmp.Compare(a.id, b.id) })
	return found, nil
}

// readState makes the queue's state from what is on disk. Directories that
// never became active were spares, and hold nothing.
func (r *recovery) readState() error {
	r.q.st = newState()
	var replay []*segment // newest first
	for _, f := range slices.Backward(r.found) {
		if !f.active {
			continue
		}
		s := r.q.newSegment(newSegmentState(f.id, false))
		st, err := r.open(s)
		if err != nil {
			return err
		}
		if st == nil {
			r.aside = append(r.aside, f)
			continue
		}
		replay = append(replay, s)
		var state *state
		err = guardFaults(func() (err error) {
			_, state, err = readCheckpoint(st)
			return err
		})
		if err == nil {
			r.q.st, r.based = state, true
			break
		}
		s.damaged = true // its files are kept once it is drained
		r.damage("the index in segment %d of the buffer cannot be read (%v); an older one and the stored data take its place", f.id, err)
	}
	for _, s := range slices.Backward(replay) {
		r.replay(s)
	}
	if !r.damaged {
		return nil
	}
	if err := r.adoptShelves(); err != nil {
		return err
	}
	r.nameOrphans()
	r.q.report("some of what is in the buffer may be delivered a second time, because not every record of what was delivered could be read")
	return nil
}

// damage notes that something could not be read.
func (r *recovery) damage(format string, args ...any) {
	r.damaged = true
	r.q.report(fmt.Sprintf(format, args...))
}

// open opens a segment's database and makes the segment the queue's. It
// returns nil when the database is damaged, and an error when it may be
// readable another time.
func (r *recovery) open(s *segment) (store, error) {
	st, err := r.q.acquireStore(s)
	if err != nil {
		if r.q.storeUnavailable(err) {
			return nil, fmt.Errorf("open segment %d: %w", s.id, err)
		}
		r.damage("segment %d of the buffer cannot be opened (%v); its files are kept under a name that ends in %s", s.id, err, asideSuffix)
		return nil, nil
	}
	r.q.releaseStore(s)
	r.q.segs[s.id] = s
	return st, nil
}

// replay adds a segment's frames and applies its journal, in the order of its
// transactions.
func (r *recovery) replay(s *segment) {
	st := r.q.st
	st.segments[s.id] = s.segmentState
	frames, bad, err := scanFrames(s.store, 0)
	if err != nil {
		r.damage("segment %d could be read only in part: %v", s.id, err)
		s.damaged = true
	}
	if len(bad) > 0 {
		// Nobody knows how many items they had: nothing else describes them yet.
		r.q.report(fmt.Sprintf("%d frames of segment %d cannot be read, the first of them number %d; the segment's files will be kept",
			len(bad), s.id, bad[0]))
		s.damaged = true
	}
	records, err := scanJournal(s.store)
	if err != nil {
		r.damage("the journal of segment %d could be read only in part: %v", s.id, err)
	}
	for _, j := range records {
		n := 0
		for n < len(frames) && frames[n].seq < j.next {
			st.addFrame(s.segmentState, frames[n].seq, frames[n].header)
			n++
		}
		frames = frames[n:]
		s.next = max(s.next, j.next)
		for i := range j.events {
			r.recount(s, bad, &j.events[i])
			st.apply(&j.events[i])
		}
	}
	for _, f := range frames {
		st.addFrame(s.segmentState, f.seq, f.header)
	}
}

// recount makes a frame whose header cannot be read part of the state again, as
// an event describes it that is about to end or move it.
func (r *recovery) recount(s *segment, bad []uint32, e *event) {
	switch e.kind {
	case eventDelivered, eventDropped, eventReplaced, eventPartly, eventPlaced, eventCopied:
	default:
		return
	}
	if _, isBad := slices.BinarySearch(bad, e.seq); !isBad || e.segment != s.id || s.gone.has(e.seq) {
		return
	}
	if _, counted := s.placed[e.seq]; !counted {
		r.q.st.grow(s.segmentState, bucket{e.lane, r.q.st.standing(e.from)}, e.tally())
		r.q.st.accepted += e.items
	}
}

// scanJournal reads the journal records of a database in order. It returns
// every record that can be read, and the first failure.
func scanJournal(st store) (records []journalRecord, failure error) {
	err := guardFaults(func() error {
		return st.Scan([]byte(keyJournal), func(key, value []byte) error {
			j, err := decodeJournal(value)
			if err == nil {
				records = append(records, j)
			} else if failure == nil {
				failure = fmt.Errorf("journal record %x: %w", key, err)
			}
			return nil
		})
	})
	return records, errors.Join(failure, err)
}

// adoptShelves makes every copy on a shelf that the state does not know part
// of it: the record that it took its original's place may be what is damaged.
func (r *recovery) adoptShelves() error {
	for _, f := range r.found {
		if !f.shelf {
			continue
		}
		st := r.q.st.segments[f.id]
		known := st != nil
		if !known {
			st = newSegmentState(f.id, true)
		}
		s := r.q.newSegment(st)
		db, err := r.open(s)
		if err != nil {
			return err
		}
		if db == nil {
			if !known { // else its frames are found missing when they are wanted
				r.aside = append(r.aside, f)
			}
			continue
		}
		r.q.st.segments[f.id] = st
		frames, _, err := scanFrames(db, 0)
		if err != nil {
			r.damage("shelf %d could be read only in part: %v", f.id, err)
		}
		next := st.next
		for _, frame := range frames {
			if frame.seq >= next {
				r.q.st.addFrame(st, frame.seq, frame.header)
			}
		}
	}
	return nil
}

// nameOrphans gives lanes whose record was lost a descriptor that says so.
// Nobody knows where their frames may be sent; the caller, who cannot read the
// descriptor either, keeps them in a case.
func (r *recovery) nameOrphans() {
	st := r.q.st
	for _, s := range st.segments {
		for b := range s.live {
			if st.lanes[b.lane] == nil {
				r.q.report(fmt.Sprintf("lane %d has data and its record is damaged", b.lane))
				st.addLane(&laneState{id: b.lane, descriptor: fmt.Sprintf("unknown-lane-%d", b.lane)})
			}
		}
	}
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

// removeStrays deletes directories that the state does not know: spares,
// copies that were never journaled, segments drained and forgotten before the
// process ended. Known segments without live data are left to the keeper.
func (q *Queue) removeStrays(found []foundSegment) error {
	for _, f := range found {
		if q.segs[f.id] != nil {
			continue
		}
		if err := os.RemoveAll(f.dir); err != nil {
			return fmt.Errorf("remove stray segment: %w", err)
		}
	}
	return nil
}

// asideSuffix ends the name of a directory that weir leaves alone for ever.
const asideSuffix = ".unreadable"

// setAside renames a segment's directory, so that it is neither tried again
// nor ever deleted by weir.
func setAside(dir string) error {
	aside := dir + asideSuffix
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s.%d%s", dir, n, asideSuffix)
	}
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("set an unreadable segment aside: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}
