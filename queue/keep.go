package queue

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	keepEvery       = 500 * time.Millisecond
	maxOpenSegments = 3 // databases open besides the active one and those in use
	maxLoadedIndex  = 6 // segments with an index besides those with leases

	// idleWasteBytes is what an idle active segment may hold in vain; a new
	// one takes 5 MiB. idleSealAfter is what counts as idle.
	idleWasteBytes = 8 << 20
	idleSealAfter  = time.Second

	// spareFromPercent is how full the active segment is when the next one is
	// prepared.
	spareFromPercent = 50
)

// keepLoop is the keeper: it prepares the next segment, removes drained ones,
// shelves long-waiting data, and watches the disk, beside the committer.
func (q *Queue) keepLoop() {
	said := "" // a lasting failure is said once
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.stop:
			return
		case <-q.keepWake:
		case <-tick.C:
		}
		text := ""
		if err := q.keep(); err != nil {
			text = err.Error()
		}
		if text != "" && text != said {
			q.cfg.Logger.Warn("housekeeping of the buffer failed; it is tried again", "error", text)
		}
		said = text
	}
}

func (q *Queue) keep() error {
	q.keepMu.Lock()
	defer q.keepMu.Unlock()
	q.disk.restore()
	q.removeDoomed()
	err := q.retire()
	q.trim()
	if serr := q.shelve(); err == nil {
		err = serr
	}
	q.measure()
	q.sealIdle()
	if serr := q.prepareSpare(); err == nil {
		err = serr
	}
	_ = q.disk.check(0) // renews the standing refusal
	return err
}

// prepareSpare pre-opens the next segment when the active one is half full, so
// that a rotation costs the committer one commit. When there is no room for
// it, exports are refused while half a segment of index is left for settling.
func (q *Queue) prepareSpare() error {
	q.mu.Lock()
	need := q.spare == nil && q.active.usage.Load() >= spareFromPercent
	q.mu.Unlock()
	if !need {
		q.disk.short.Store(false)
		return nil
	}
	s, err := q.createSegment(false)
	q.disk.short.Store(errors.Is(err, errNoSpace))
	if errors.Is(err, errNoSpace) {
		return nil // what the refused callers are told
	}
	if err != nil {
		return err
	}
	q.mu.Lock()
	late := s.id < q.active.id // the committer could not wait
	if !late {
		q.spare = s
	}
	q.mu.Unlock()
	if late { // segments follow each other by number
		return q.removeSegment(s)
	}
	return nil
}

// sealIdle asks the committer for a new segment when the active one is mostly
// dead and nothing happens any more: a drained queue would otherwise keep the
// space of its last segment until more data has filled it.
func (q *Queue) sealIdle() {
	q.mu.Lock()
	s := q.active
	waste := s.diskBytes - 2*s.liveBytes()
	idle := q.cfg.now().Sub(s.touched)
	q.mu.Unlock()
	if waste >= idleWasteBytes && idle >= idleSealAfter {
		q.sealAsked.Store(true)
		signal(q.in.urgent)
	}
}

// retire removes segments without live data.
func (q *Queue) retire() error {
	q.mu.Lock()
	var drained []*segment
	for id, s := range q.segs {
		if s.sealed && len(s.live) == 0 && s.pins == 0 && s != q.shelf {
			drained = append(drained, s)
			s.retired = true
			delete(q.segs, id)
			delete(q.st.segments, id)
		}
	}
	q.mu.Unlock()
	for _, s := range drained {
		if err := q.removeSegment(s); err != nil {
			return err
		}
	}
	return nil
}

// removeSegment closes and deletes a drained segment. If its database cannot
// be closed for lack of space, its files are deleted under it: the next start
// finds nothing, and the space returns with this process.
func (q *Queue) removeSegment(s *segment) error {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	s.removed = true
	if s.store != nil && (!s.writable || q.disk.roomToFlush(s.indexBytes)) {
		if err := s.store.Close(); err != nil {
			q.cfg.Logger.Warn("closing a drained segment failed", "segment", s.id, "error", err)
		}
		s.store = nil
	}
	if s.damaged { // no longer changing
		return setAside(s.dir)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove drained segment %d: %w", s.id, err)
	}
	q.cfg.step("removed")
	return nil
}

// trim closes databases and drops indexes that were not used lately.
func (q *Queue) trim() {
	q.mu.Lock()
	idle := make([]*segment, 0, len(q.segs))
	for _, s := range q.segs {
		if s.sealed && s.pins == 0 && s != q.shelf && (s.index == nil || s.index.leased == 0) {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(a, b *segment) int { return b.touched.Compare(a.touched) })
	var toClose []*segment
	loaded := 0
	for i, s := range idle {
		if s.index != nil {
			if loaded++; loaded > maxLoadedIndex {
				s.index = nil
			}
		}
		if i >= maxOpenSegments || q.cfg.now().Sub(s.touched) > 2*keepEvery {
			toClose = append(toClose, s)
		}
	}
	q.mu.Unlock()
	for _, s := range toClose {
		q.closeIdle(s)
	}
}

// closeIdle closes a segment's database unless somebody began to use it.
func (q *Queue) closeIdle(s *segment) {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	q.mu.Lock()
	busy := s.pins > 0
	q.mu.Unlock()
	if busy || s.store == nil || (s.writable && !q.disk.roomToFlush(s.indexBytes)) {
		return
	}
	if err := s.store.Close(); err != nil {
		q.cfg.Logger.Warn("closing a segment failed", "segment", s.id, "error", err)
	}
	s.store, s.writable = nil, false
	s.ahead.Store(0)
}

// measure adds up what the segments occupy. Sealed and closed segments do not
// change and are measured once.
func (q *Queue) measure() {
	q.mu.Lock()
	all := make([]*segment, 0, len(q.segs)+1)
	for _, s := range q.segs {
		all = append(all, s)
	}
	if q.spare != nil {
		all = append(all, q.spare)
	}
	q.mu.Unlock()
	var total int64
	for _, s := range all {
		s.openMu.Lock()
		settled := s.store == nil
		s.openMu.Unlock()
		q.mu.Lock()
		n := s.diskBytes
		q.mu.Unlock()
		if n == 0 || !settled || !s.measuredClosed {
			measured, err := diskBytes(s.dir)
			if err == nil {
				n = measured
				q.mu.Lock()
				s.diskBytes = n
				s.measuredClosed = settled
				q.mu.Unlock()
			}
		}
		total += n
	}
	q.disk.used.Store(total)
}
