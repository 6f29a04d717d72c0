package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lingerForChanges is how long settlements wait for an append to share a sync
// with, when nothing else is going on.
const lingerForChanges = 4 * time.Millisecond

// group is what one transaction makes durable.
type group struct {
	appends []*appendRequest
	changes []*change

	events  []event
	frames  []newFrame
	entries []entry
	raw     []byte // scratch: payloads joined for compression
	zstd    []byte // scratch: their compressed form
	values  []byte // scratch: stored frames
	seen    map[TraceID]struct{}
	ids     []TraceID
	lanes   map[string]LaneID // of this group

	measured bool       // left is known
	left     shareBytes // of the shares of the cap, for its exports in cases
}

// newFrame is a frame of a group, before and after its commit.
type newFrame struct {
	seq    uint32
	header frameHeader
	value  []byte
}

// commitLoop is the committer: the one goroutine that writes the active
// segment. It ends when the queue is closing and nothing waits any more.
func (q *Queue) commitLoop() {
	g := &group{seen: map[TraceID]struct{}{}, lanes: map[string]LaneID{}}
	for {
		closing := q.waitForWork()
		if q.sealAsked.Swap(false) && !closing {
			if err := q.rotate(); err != nil {
				q.cfg.Logger.Debug("an idle segment could not be sealed; it is tried again", "error", err)
			}
		}
		for {
			q.in.take(g, q.cfg.GroupBytes, closing)
			if len(g.appends) == 0 && len(g.changes) == 0 {
				break
			}
			q.commitGroup(g)
			g.reset()
		}
		if closing {
			return
		}
	}
}

// waitForWork returns when something should be committed, and whether the
// queue is closing.
func (q *Queue) waitForWork() (closing bool) {
	select {
	case <-q.in.urgent:
		return false
	case <-q.stop:
		return true
	case <-q.in.wake:
	}
	timer := time.NewTimer(lingerForChanges)
	defer timer.Stop()
	select {
	case <-q.in.urgent:
	case <-timer.C:
	case <-q.stop:
		return true
	}
	return false
}

// reset keeps the buffers unless a giant export made them giant.
func (g *group) reset() {
	clear(g.appends)
	clear(g.changes)
	clear(g.frames)
	clear(g.entries)
	g.events, g.frames, g.entries = g.events[:0], g.frames[:0], g.entries[:0]
	for _, b := range []*[]byte{&g.raw, &g.zstd, &g.values} {
		if cap(*b) > maxPooledBytes {
			*b = nil
		}
	}
}

// commitGroup builds the group's transaction, commits it, makes it part of the
// state and answers everyone in it.
func (q *Queue) commitGroup(g *group) {
	q.claimAppends(g)
	start := q.cfg.now()
	if refusal := q.disk.check(groupNeed(g)); refusal != nil {
		q.refuseAppends(g, refusal)
		signal(q.keepWake)
	}
	err := q.prepareActive(g)
	if err == nil && len(g.entries) > 0 {
		err = q.active.store.Commit(g.entries)
		if err != nil {
			if err = q.retryElsewhere(g, err); err != nil {
				q.blobs.doubt(g.appends)
			}
		}
	}
	if err != nil {
		q.failGroup(g, err)
		return
	}
	q.cfg.step("committed")
	q.metrics.committed(g, q.cfg.now().Sub(start))
	s := q.active
	q.disk.used.Add(s.wrote(g.entries))
	s.journal++
	q.mu.Lock()
	q.applyLocked(s, g.frames, g.events)
	s.usage.Store(s.percentFull(q.cfg.SegmentBytes))
	q.mu.Unlock()
	for _, r := range g.appends {
		r.done <- nil
	}
	for _, c := range g.changes {
		c.done <- nil
	}
	signal(q.changed)
	if s.usage.Load() >= spareFromPercent {
		signal(q.keepWake) // a spare will be needed soon
	}
}

// claimAppends drops the requests whose callers have gone.
func (q *Queue) claimAppends(g *group) {
	g.appends = slices.DeleteFunc(g.appends, func(r *appendRequest) bool { return !r.claim(requestTaken) })
}

// groupNeed estimates what the group takes on disk.
func groupNeed(g *group) (n int64) {
	for _, r := range g.appends {
		n += r.storedBytes
	}
	return n
}

func (q *Queue) refuseAppends(g *group, err error) {
	for _, r := range g.appends {
		q.metrics.refused(err)
		r.done <- err
	}
	clear(g.appends)
	g.appends = g.appends[:0]
}

// failGroup answers everyone in the group with the failure.
func (q *Queue) failGroup(g *group, err error) {
	q.metrics.commitFailures.Add(1)
	if errors.Is(err, errNoSpace) {
		err = q.disk.refuse("the file system of the data directory is full; free some space")
		signal(q.keepWake)
	}
	q.refuseAppends(g, err)
	for _, c := range g.changes {
		c.done <- err
	}
	clear(g.changes)
	g.changes = g.changes[:0]
}

// prepareActive builds the transaction for a segment that has room for it. If
// only the exports find no room they are refused, and the changes go on: being
// full never stops settling.
func (q *Queue) prepareActive(g *group) error {
	if q.active.full(q.cfg.SegmentBytes) {
		if err := q.rotate(); err != nil && (!errors.Is(err, errNoSpace) || q.active.indexBytes > indexHardBytes) {
			return err
		} else if err != nil {
			q.refuseAppends(g, q.disk.refuse("there is no room for another segment; free some space"))
		}
	}
	q.build(g)
	err := q.reserveActive(g)
	if err == nil || !errors.Is(err, errNoSpace) {
		return err
	}
	q.refuseAppends(g, q.disk.refuse("the file system of the data directory is full; free some space"))
	if q.build(g); len(g.entries) == 0 {
		return nil
	}
	if err = q.reserveActive(g); errors.Is(err, errNoSpace) && q.disk.release() {
		err = q.reserveActive(g) // settling is worth the ballast
	}
	return err
}

func (q *Queue) reserveActive(g *group) error {
	return q.active.reserve(costs(g.entries))
}

// retryElsewhere moves to a new segment after a failed commit and tries once
// more. What the failed commit may have left behind is outside the state: the
// new segment's checkpoint says how many frames the old one has.
func (q *Queue) retryElsewhere(g *group, cause error) error {
	q.cfg.Logger.Error("a segment failed; continuing in a new one", "segment", q.active.id, "error", cause)
	if err := q.rotate(); err != nil {
		return errors.Join(cause, err)
	}
	q.build(g)
	if err := q.reserveActive(g); err != nil {
		return errors.Join(cause, err)
	}
	if err := q.active.store.Commit(g.entries); err != nil {
		return errors.Join(cause, err)
	}
	return nil
}

// rotate seals the active segment and begins the next one with a checkpoint.
func (q *Queue) rotate() error {
	q.mu.Lock()
	next := q.spare
	q.spare = nil
	q.mu.Unlock()
	if next != nil && next.id < q.active.id {
		// It was being made while this goroutine could not wait and made its
		// own. Recovery takes the highest number for the newest.
		if err := q.removeSegment(next); err != nil {
			return err
		}
		next = nil
	}
	if next == nil {
		var err error
		if next, err = q.createSegment(false); err != nil {
			return err
		}
	}
	if err := q.beginActive(next); err != nil {
		// It never became active: should its directory stay, the next start
		// takes it for a spare.
		return errors.Join(err, q.removeSegment(next))
	}
	signal(q.keepWake)
	return nil
}

// activeFile marks a segment that is or was the active one, spareFile one that
// never was. The rename from one to the other takes no disk space, and decides
// which checkpoint counts.
const (
	activeFile = "active"
	spareFile  = "spare"
)

// beginActive writes the checkpoint into next and makes it the active segment.
func (q *Queue) beginActive(next *segment) error {
	q.mu.Lock()
	q.st.pruneLanes(func(id LaneID) bool { return q.inFlight[id] > 0 })
	if !q.st.anyLive() { // no order to keep: a clock that was ahead is forgotten
		q.st.newestMS = 0
	}
	next.floorMS = q.st.newestMS + 1
	checkpoint := encodeCheckpoint(q.st)
	q.mu.Unlock()
	entries := checkpointEntries(segmentHeader{id: next.id, created: q.cfg.now().UnixMilli()}, checkpoint)
	if err := next.reserve(costs(entries)); err != nil {
		return err
	}
	q.cfg.step("rotating")
	if err := next.store.Commit(entries); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	next.wrote(entries)
	next.baseBytes = next.logBytes
	if err := markActive(next.dir); err != nil {
		return err
	}
	q.cfg.step("rotated")
	q.blobs.resolve()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.active != nil {
		q.active.sealed = true
	}
	q.segs[next.id] = next
	q.st.segments[next.id] = next.segmentState
	q.active = next
	return nil
}

// markActive makes it durable that the segment in dir is the active one.
func markActive(dir string) error {
	from, to := filepath.Join(dir, spareFile), filepath.Join(dir, activeFile)
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("mark segment as active: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return errors.Join(err, os.Rename(to, from))
	}
	return nil
}

// applyLocked makes a committed transaction part of the state and of the
// loaded indexes. mu is held.
func (q *Queue) applyLocked(s *segment, frames []newFrame, events []event) {
	now := q.cfg.now()
	s.touched = now
	for i := range frames {
		f := &frames[i]
		q.st.addFrame(s.segmentState, f.seq, f.header)
		s.index.put(f.seq, q.infoOf(s, f.seq, f.header))
	}
	for i := range events {
		e := &events[i]
		q.st.apply(e)
		from := q.segs[e.segment]
		switch e.kind {
		case eventDelivered, eventDropped, eventReplaced, eventPartly, eventCopied:
			e.from = q.st.standing(e.from)
			if from != nil {
				from.touched = now
				if from.index != nil {
					from.index.settle(e.seq)
				}
			}
			if to := q.segs[e.toSegment]; e.kind == eventCopied && to != nil && to.index != nil {
				to.index.put(e.toSeq, infoOfEvent(e))
			}
		case eventPlaced:
			if from != nil && from.index != nil {
				from.index.place(e.seq, q.st.standing(e.to))
			}
		case eventReleased:
			for _, other := range q.segs {
				if other.index != nil {
					other.index.release(e.from)
				}
			}
		default: // cases, notes and lanes are not in an index
		}
	}
}

// infoOf is the index entry of a frame, by where it stands now. mu is held.
func (q *Queue) infoOf(s *segment, seq uint32, h frameHeader) frameInfo {
	t := h.tally()
	return frameInfo{
		lane: h.lane, place: q.st.placeOf(s.segmentState, seq, h.place), state: frameReady,
		items: h.items, rawBytes: h.rawBytes, bytes: uint32(t.bytes), atMS: h.acceptedAtMS,
	}
}

func infoOfEvent(e *event) frameInfo {
	return frameInfo{
		lane: e.lane, place: e.from, state: frameReady, items: uint32(e.items),
		rawBytes: uint32(e.rawBytes), bytes: uint32(e.bytes), atMS: e.atMS,
	}
}
