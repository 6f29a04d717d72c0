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

	mu    sync.Mutex // guards lanes; held while a note is written, which is rare
	lanes map[queue.LaneID][]guiltyRun
}

type guiltyRun struct {
	run   runs.ID
	place queue.Place
}

func newGuiltyRuns(q *queue.Queue, cases *caseBook) *guiltyRuns {
	g := &guiltyRuns{q: q, cases: cases, lanes: map[queue.LaneID][]guiltyRun{}}
	for name, b := range q.Notes(guiltyNotes) {
		lane, err := strconv.ParseUint(strings.TrimPrefix(name, guiltyNotes), 10, 32)
		if err != nil {
			continue // of a later version
		}
		for ; len(b) >= guiltyBytes; b = b[guiltyBytes:] {
			r := guiltyRun{place: queue.Place(binary.BigEndian.Uint64(b[16:]))}
			copy(r.run[:], b)
			g.lanes[queue.LaneID(lane)] = append(g.lanes[queue.LaneID(lane)], r)
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
	list := slices.DeleteFunc(g.lanes[lane], func(r guiltyRun) bool { return r.run == run || !g.cases.isOpen(r.place) })
	list = append(list, guiltyRun{run, place})
	list = list[max(0, len(list)-maxGuilty):]
	g.lanes[lane] = list
	note := make([]byte, 0, len(list)*guiltyBytes)
	for _, r := range list {
		note = binary.BigEndian.AppendUint64(append(note, r.run[:]...), uint64(r.place))
	}
	// Without the note only a restart would let an update go ahead.
	_ = g.q.SetNote(fmt.Sprint(guiltyNotes, lane), note)
}

// place is the open case that holds the run's create, if it is in one.
func (g *guiltyRuns) place(lane queue.LaneID, run runs.ID) (queue.Place, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.lanes[lane] {
		if r.run == run {
			return r.place, g.cases.isOpen(r.place)
		}
	}
	return 0, false
}

// forgetLane drops a lane that the queue has forgotten.
func (g *guiltyRuns) forgetLane(lane queue.LaneID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, have := g.lanes[lane]; have {
		delete(g.lanes, lane)
		_ = g.q.SetNote(fmt.Sprint(guiltyNotes, lane), nil) // a stale note names closed cases
	}
}
