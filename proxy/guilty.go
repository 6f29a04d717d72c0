package proxy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"weir/proxy/runs"
	"weir/queue"
)

const (
	guiltyNotes = "guilty/"
	// maxGuilty bounds the runs that are remembered for a lane; beyond it the
	// updates of the oldest are sent, and wait at LangSmith for a create.
	maxGuilty      = 1024
	guiltyBytes    = 16 + 8 // a run and its case
	maxGuiltyLanes = 256
)

// guiltyRuns are the runs whose create is in quarantine for what it holds:
// their later operations follow it there. They are notes of the queue, so that
// a restart does not let an update go ahead of its create.
type guiltyRuns struct {
	q     *queue.Queue
	cases *caseBook

	mu    sync.Mutex // guards what follows; held while a note is written, which is rare
	lanes map[queue.LaneID][]guiltyRun
	at    map[laneAndRun]queue.Place // of what is in lanes
}

type laneAndRun struct {
	lane queue.LaneID
	run  runs.ID
}

type guiltyRun struct {
	run   runs.ID
	place queue.Place
}

func newGuiltyRuns(q *queue.Queue, cases *caseBook) *guiltyRuns {
	g := &guiltyRuns{q: q, cases: cases, lanes: map[queue.LaneID][]guiltyRun{}, at: map[laneAndRun]queue.Place{}}
	for name, b := range q.Notes(guiltyNotes) {
		lane, err := strconv.ParseUint(strings.TrimPrefix(name, guiltyNotes), 10, 32)
		if err != nil {
			continue // of a later version
		}
		for ; len(b) >= guiltyBytes; b = b[guiltyBytes:] {
			r := guiltyRun{place: queue.Place(binary.BigEndian.Uint64(b[16:]))}
			copy(r.run[:], b)
			g.lanes[queue.LaneID(lane)] = append(g.lanes[queue.LaneID(lane)], r)
			g.at[laneAndRun{queue.LaneID(lane), r.run}] = r.place
		}
	}
	return g
}

// add remembers that a run's create is at place.
func (g *guiltyRuns) add(lane queue.LaneID, run runs.ID, place queue.Place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, have := g.lanes[lane]; !have && len(g.lanes) >= maxGuiltyLanes {
		return
	}
	list := g.keepLocked(lane, func(r guiltyRun) bool { return r.run != run && g.cases.isOpen(r.place) })
	list = append(list, guiltyRun{run, place})
	for len(list) > maxGuilty {
		delete(g.at, laneAndRun{lane, list[0].run})
		list = list[1:]
	}
	g.at[laneAndRun{lane, run}] = place
	g.writeLocked(lane, list)
}

// acquit forgets a run whose create was taken after all.
func (g *guiltyRuns) acquit(lane queue.LaneID, run runs.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, have := g.at[laneAndRun{lane, run}]; have {
		g.writeLocked(lane, g.keepLocked(lane, func(r guiltyRun) bool { return r.run != run }))
	}
}

// keepLocked is the lane's list without those that are not to stay. mu is held.
func (g *guiltyRuns) keepLocked(lane queue.LaneID, stays func(guiltyRun) bool) []guiltyRun {
	return slices.DeleteFunc(g.lanes[lane], func(r guiltyRun) bool {
		if stays(r) {
			return false
		}
		delete(g.at, laneAndRun{lane, r.run})
		return true
	})
}

// writeLocked keeps a lane's list. mu is held.
func (g *guiltyRuns) writeLocked(lane queue.LaneID, list []guiltyRun) {
	var note []byte // nil, and so no note, for an empty list
	for _, r := range list {
		note = binary.BigEndian.AppendUint64(append(note, r.run[:]...), uint64(r.place))
	}
	if g.lanes[lane] = list; len(list) == 0 {
		delete(g.lanes, lane)
	}
	// Without the note only a restart would let an update go ahead.
	_ = g.q.SetNote(fmt.Sprint(guiltyNotes, lane), note)
}

// place is the open case that holds the run's create, if it is in one.
func (g *guiltyRuns) place(lane queue.LaneID, run runs.ID) (queue.Place, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	place, have := g.at[laneAndRun{lane, run}]
	return place, have && g.cases.isOpen(place)
}

// forgetLane drops a lane that the queue has forgotten.
func (g *guiltyRuns) forgetLane(lane queue.LaneID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, have := g.lanes[lane]; have {
		g.writeLocked(lane, g.keepLocked(lane, func(guiltyRun) bool { return false }))
	}
}
