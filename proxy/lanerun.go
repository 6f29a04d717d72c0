package proxy

import (
	"time"

	"weir/queue"
)

// laneRun is what this process knows of a lane's sending.
type laneRun struct {
	sending     int
	turns       int    // leases so far
	lastTurn    uint64 // Forwarder.leases at the latest of them
	maxRawBytes int64  // smaller than configured after a 413; 0: as configured
	tooLarge    int64  // a size that was refused with 413 lately; 0: none
	tooLargeAt  time.Time
	delivered   int64
	lastError   string
	storeError  string // the last one logged
	idleSince   time.Time
	sendSince   time.Time

	relapses    int       // releases in a row that were refused again
	releasedAt  time.Time // of the latest release that was not refused again so far
	releaseFrom time.Time // no release before

	pausedUntil time.Time // no round before: what there is waits for updates
	laterFrom   time.Time // no release before of what was not there yet
	laterTries  int       // of those releases

	moving   int  // nothing is sent while its data goes to another lane
	entering bool // a send is about to begin

	parsed *Lane // its descriptor; nil: not looked at yet
}

// parsed is the lane of a descriptor, which is read once: the dispatcher asks for
// that of every lane all the time.
func (f *Forwarder) parsed(r *laneRun, descriptor string) (Lane, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.parsed == nil {
		lane, err := parseLane(descriptor)
		if err != nil {
			return lane, err
		}
		r.parsed = &lane
	}
	return *r.parsed, nil
}

// rowLane is the lane of a row of the queue's. It begins no run for one that has
// none.
func (f *Forwarder) rowLane(q *queue.LaneStats) (Lane, error) {
	f.mu.Lock()
	r := f.lanes[q.ID]
	f.mu.Unlock()
	if r == nil {
		return parseLane(q.Descriptor)
	}
	return f.parsed(r, q.Descriptor)
}
