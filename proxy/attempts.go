package proxy

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"

	"weir/queue"
)

// What has been attempted decides two things about a run's operation: nothing
// may be folded into it any more, and a 409 about it may mean that it arrived.
// Within a process that is known exactly. Across a restart it is known by
// segment: before a request takes anything from a segment for the first time, a
// note says that the lane has reached it, so whatever lies beyond was certainly
// never attempted. That costs a note for each lane and segment, not for each
// request, and spares the backlog of an outage from being taken for attempted.
const attemptNotes = "attempted/"

// attempts knows what has been attempted. Its methods may be called from any
// number of goroutines.
type attempts struct {
	q *queue.Queue

	mu     sync.Mutex              // guards what follows; never held while a note is written
	before map[queue.LaneID]uint64 // reached by an earlier process, by lane
	noted  map[queue.LaneID]uint64 // what the notes say
	frames map[queue.FrameID]*attempt
	lost   map[queue.LaneID][]requestKey // latest last
	groups requestGroup                  // the latest

	quiet   map[queue.LaneID]bool // lanes with a note that nothing of them is under way
	suspect map[queue.LaneID]bool // lanes of which something was when the process before ended
}

// requestGroup numbers a request that was begun and did not come through, so
// that its operations can go again as the same request. Only then does a 409
// say something about all of them.
type requestGroup uint32

const (
	// groupNone: never attempted.
	groupNone requestGroup = 0
	// groupApart: attempted, and to be sent again in whatever company.
	groupApart requestGroup = 1
	// groupFirst is the first number of a request.
	groupFirst requestGroup = 2
)

// attempt is what is known of one frame's operations, by their number.
type attempt struct {
	earlier   bool                 // an earlier process may have sent any of them
	groups    map[int]requestGroup // nil: none was attempted in this process
	lost      map[int]bool         // answers about them were lost
	delivered map[int]bool
}

// apply tells an operation what is known of it.
func (a *attempt) apply(o *roundOp) {
	if a.earlier {
		o.group, o.lost = groupApart, true
	}
	if g := a.groups[o.number]; g != groupNone {
		o.group = g
	}
	o.lost = o.lost || a.lost[o.number]
	if a.delivered[o.number] {
		o.fate.kind = fateDelivered
	}
}

// learn keeps what a round has found out about an operation.
func (a *attempt) learn(o *roundOp) {
	if o.group != groupNone {
		if a.groups == nil {
			a.groups, a.lost, a.delivered = map[int]requestGroup{}, map[int]bool{}, map[int]bool{}
		}
		a.groups[o.number] = o.group
		if o.lost {
			a.lost[o.number] = true
		}
		if o.fate.kind == fateDelivered {
			a.delivered[o.number] = true
		}
	}
}

// maxLostRequests is how many requests with a lost answer are remembered for
// each lane: as many as can have been under way at a time, with some room.
const maxLostRequests = 64

func newAttempts(q *queue.Queue) *attempts {
	a := &attempts{
		q: q, before: map[queue.LaneID]uint64{}, noted: map[queue.LaneID]uint64{},
		frames: map[queue.FrameID]*attempt{}, lost: map[queue.LaneID][]requestKey{},
		groups: groupFirst, quiet: map[queue.LaneID]bool{}, suspect: map[queue.LaneID]bool{},
	}
	for name, value := range q.Notes(attemptNotes) {
		lane, lerr := strconv.ParseUint(strings.TrimPrefix(name, attemptNotes), 10, 32)
		segment, serr := strconv.ParseUint(string(value), 10, 64)
		if lerr != nil || serr != nil {
			continue // of a later version; what it guards is then taken for new
		}
		a.before[queue.LaneID(lane)] = segment
		a.noted[queue.LaneID(lane)] = segment
	}
	a.readQuiet()
	return a
}

// reach makes it durable that the lane's frames up to the newest of the lease
// may be attempted from now on.
func (a *attempts) reach(l *queue.Lease) error {
	var to uint64
	for i := range l.Frames {
		to = max(to, l.Frames[i].ID.Segment)
	}
	a.mu.Lock()
	reached := a.noted[l.Lane] >= to
	a.mu.Unlock()
	if reached {
		return nil
	}
	if err := a.q.SetNote(fmt.Sprint(attemptNotes, l.Lane), strconv.AppendUint(nil, to, 10)); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noted[l.Lane] = max(a.noted[l.Lane], to)
	return nil
}

// of returns what is known of the lease's frames, which is the caller's to read
// until the lease ends.
func (a *attempts) of(l *queue.Lease) []*attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := make([]*attempt, len(l.Frames))
	for i := range l.Frames {
		fr := &l.Frames[i]
		known[i] = a.frames[fr.ID]
		if known[i] != nil {
			continue
		}
		before, ok := a.before[l.Lane]
		known[i] = &attempt{earlier: fr.Copied || ok && fr.ID.Segment <= before}
	}
	return known
}

// remember keeps what a round has found out about a frame that stays pending.
func (a *attempts) remember(id queue.FrameID, known *attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frames[id] = known
}

// knows reports whether something is remembered of a frame.
func (a *attempts) knows(id queue.FrameID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.frames[id] != nil
}

// forget drops what is known of a frame that is settled.
func (a *attempts) forget(id queue.FrameID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.frames, id)
}

// forgetLane drops what is known of a lane that has nothing left.
func (a *attempts) forgetLane(lane queue.LaneID) {
	a.mu.Lock()
	_, noted := a.noted[lane]
	delete(a.before, lane)
	delete(a.noted, lane)
	delete(a.lost, lane)
	a.mu.Unlock()
	if noted {
		_ = a.q.SetNote(fmt.Sprint(attemptNotes, lane), nil) // a stale note only forbids some folding
	}
	a.forgetQuiet(lane)
}

// newGroup returns the number of a request that is to go again as it was.
func (a *attempts) newGroup() requestGroup {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.groups++; a.groups < groupFirst {
		a.groups = groupFirst // after four thousand million of them
	}
	return a.groups
}

// lostRequest remembers a request whose answer was lost.
func (a *attempts) lostRequest(lane queue.LaneID, k requestKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := append(a.lost[lane], k)
	a.lost[lane] = list[max(0, len(list)-maxLostRequests):]
}

// wasLost reports whether the answer to just this request was lost before.
func (a *attempts) wasLost(lane queue.LaneID, k requestKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.lost[lane], k)
}

// requestKey names the content of a request within a process.
type requestKey [16]byte

type requestKeyer struct {
	h   hash.Hash
	buf [16]byte
}

func newRequestKey() *requestKeyer { return &requestKeyer{h: fnv.New128a()} }

func (k *requestKeyer) add(frame queue.FrameID, number int) {
	binary.BigEndian.PutUint64(k.buf[:8], frame.Segment)
	binary.BigEndian.PutUint32(k.buf[8:12], frame.Seq)
	binary.BigEndian.PutUint32(k.buf[12:], uint32(number))
	_, _ = k.h.Write(k.buf[:]) // hashes do not fail
}

func (k *requestKeyer) sum() (sum requestKey) {
	k.h.Sum(sum[:0])
	return sum
}
