package queue

import (
	"errors"
	"fmt"
)

// add adds the event that settles the lease's frame i.
func (c *change) add(i int, e event) {
	c.events = append(c.events, e)
	c.frames = append(c.frames, i)
}

// event starts an event about the leased frame.
func (r *leaseRef) event(kind eventKind) event {
	return event{
		kind: kind, segment: r.seg.id, seq: r.seq, lane: r.info.lane, from: r.info.place,
		items: int64(r.info.items), rawBytes: int64(r.info.rawBytes), bytes: int64(r.info.bytes), atMS: r.info.atMS,
	}
}

// Result is what becomes of a leased frame.
type Result uint8

// Results of a leased frame.
const (
	// ResultDelivered: the upstream took all of it.
	ResultDelivered Result = iota + 1
	// ResultDropped: it is dropped by a policy; Settlement.Reason says which.
	ResultDropped
	// ResultKept: all of it moves into case Settlement.Place.
	ResultKept
	// ResultReplaced: Settlement.Delivered items were delivered, and the
	// others live on as Settlement.Parts, whose items make up the rest.
	ResultReplaced
	// ResultPartly: Settlement.Delivered items were delivered, and the others
	// are dropped for Settlement.Reason without anybody knowing which.
	ResultPartly
	// ResultPending: all of it is pending, wherever it stood.
	ResultPending
)

// maxSplitBytes bounds the parts of one frame: what a frame may hold, and as
// much again for what splitting repeats.
const maxSplitBytes = 96 << 20

// Part is a frame that takes the place of part of an older one. One frame has
// at most 512 parts.
type Part struct {
	Payload []byte // plain
	Items   int
	Traces  []TraceID
	Place   Place // Pending, or an open case
	// Lane is the descriptor of the lane it goes to; empty: the frame's own. A
	// lane that is not known begins with it, or the settlement fails with a
	// *FullError and changes nothing.
	Lane string
}

// Settlement says what becomes of the frame at index Frame of a lease.
type Settlement struct {
	Frame     int
	Result    Result
	Reason    string // ResultDropped, ResultPartly
	Place     Place  // ResultKept
	Delivered int    // ResultReplaced, ResultPartly
	Parts     []Part // ResultReplaced

	// Blobs are the blobs that nothing refers to any more once this is
	// settled. They are forgotten in the same transaction, and their files
	// removed after it; names that are of no blob are passed over.
	Blobs []string
}

// Settle makes the settlements durable and returns the other frames to the
// queue. Each settlement is atomic; after an error those that did not become
// durable have changed nothing and their frames are where they stood. It
// returns ErrKeptFull, settling nothing, when what moves into cases has no room
// in its share of the cap; what stays in its share, or leaves it, needs none.
// Settle ends the lease.
func (l *Lease) Settle(settlements ...Settlement) error {
	if l.q == nil {
		return errors.New("settle: the lease has ended")
	}
	defer l.Return()
	if len(settlements) == 0 {
		return nil
	}
	changes, err := l.changes(settlements)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range changes {
		c.done = make(chan error, 1)
		if err := l.q.in.putChange(c, len(c.parts) > 0); err != nil {
			c.done <- err
		}
	}
	for _, c := range changes { // all of them: the committer reads their parts
		err := <-c.done
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, i := range c.frames {
			l.refs[i].done = true
		}
		if len(c.blobs) > 0 {
			l.q.cfg.step("blobs-settled")
			l.q.unlinkBlobs(c.blobs)
		}
	}
	return errors.Join(errs...)
}

// changes turns settlements into journal changes: one for all plain
// settlements, and one for each replaced frame, whose new frames carry its age.
func (l *Lease) changes(settlements []Settlement) ([]*change, error) {
	plain := &change{}
	changes := []*change{plain}
	var need shareBytes
	seen := make(map[int]bool, len(settlements))
	for i := range settlements {
		s := &settlements[i]
		if s.Frame < 0 || s.Frame >= len(l.refs) {
			return nil, fmt.Errorf("settle frame %d of a lease of %d: no such frame", s.Frame, len(l.refs))
		}
		if seen[s.Frame] {
			return nil, fmt.Errorf("settle frame %d of a lease of %d: settled twice", s.Frame, len(l.refs))
		}
		seen[s.Frame] = true
		ref, c := &l.refs[s.Frame], plain
		if s.Result == ResultReplaced {
			var err error
			if c, err = replaceChange(ref, s); err != nil {
				return nil, err
			}
			changes = append(changes, c)
		} else {
			e, err := plainEvent(ref, s)
			if err != nil {
				return nil, err
			}
			plain.add(s.Frame, e)
		}
		need.add(l.q.needOf(ref, s))
		l.q.forgetBlobs(c, s.Blobs)
	}
	if !l.q.roomToKeep(need) {
		return nil, ErrKeptFull
	}
	if len(plain.events) == 0 {
		changes = changes[1:]
	}
	return changes, nil
}

// plainEvent is the event of a settlement that makes no new frames.
func plainEvent(ref *leaseRef, s *Settlement) (event, error) {
	switch s.Result {
	case ResultDelivered:
		return ref.event(eventDelivered), nil
	case ResultDropped:
		e := ref.event(eventDropped)
		e.text = s.Reason
		return e, nil
	case ResultPartly:
		e := ref.event(eventPartly)
		if e.text, e.done = s.Reason, int64(s.Delivered); e.done < 0 || e.done > e.items {
			return e, fmt.Errorf("settle frame %d of %d items: %d delivered", s.Frame, e.items, s.Delivered)
		}
		return e, nil
	case ResultKept:
		if s.Place == Pending {
			return event{}, fmt.Errorf("keep frame %d of a lease: no case is named", s.Frame)
		}
		e := ref.event(eventPlaced)
		e.to = s.Place
		return e, nil
	case ResultPending:
		return ref.event(eventPlaced), nil
	default:
		return event{}, fmt.Errorf("settle frame %d: unknown result %d", s.Frame, s.Result)
	}
}

// needOf is what a settlement adds to the shares of the cap. What stays in the
// share it is in adds nothing: getting data out of a full one must not fail
// for what is left.
func (q *Queue) needOf(ref *leaseRef, s *Settlement) (need shareBytes) {
	if s.Result != ResultKept && s.Result != ResultReplaced {
		return need
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.Result == ResultKept {
		need[q.st.shareOf(s.Place)] = int64(ref.info.bytes)
	}
	for i := range s.Parts {
		if s.Result == ResultReplaced && s.Parts[i].Place != Pending {
			need[q.st.shareOf(s.Parts[i].Place)] += int64(len(s.Parts[i].Payload)) / 4
		}
	}
	need[q.st.shareOf(ref.info.place)] = 0
	return need
}

func replaceChange(ref *leaseRef, s *Settlement) (*change, error) {
	total, rawBytes, negative := s.Delivered, 0, s.Delivered < 0
	for i := range s.Parts {
		total += s.Parts[i].Items
		rawBytes += len(s.Parts[i].Payload)
		if n := len(s.Parts[i].Lane); n > maxLaneBytes {
			return nil, fmt.Errorf("replace frame %d/%d: a lane whose descriptor has %d bytes: at most %d are kept", ref.seg.id, ref.seq, n, maxLaneBytes)
		}
		negative = negative || s.Parts[i].Items < 0
	}
	if negative || len(s.Parts) > maxGroupParts || rawBytes > maxSplitBytes {
		return nil, fmt.Errorf("replace frame %d/%d: %d parts of %d bytes: at most %d parts of %d bytes together, none negative",
			ref.seg.id, ref.seq, len(s.Parts), rawBytes, maxGroupParts, maxSplitBytes)
	}
	if total != int(ref.info.items) {
		return nil, fmt.Errorf("replace frame %d/%d of %d items: the parts have %d", ref.seg.id, ref.seq, ref.info.items, total)
	}
	e := ref.event(eventReplaced)
	e.done = int64(s.Delivered)
	return &change{events: []event{e}, frames: []int{s.Frame}, parts: s.Parts, lane: ref.info.lane, atMS: ref.info.atMS}, nil
}
