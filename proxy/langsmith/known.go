package langsmith

import (
	"sync"

	"weir/proxy"
	"weir/proxy/runs"
)

// knownRun is where a run belongs.
type knownRun struct {
	id, trace   runs.ID
	dottedOrder string
}

// maxKnownBytes bounds the dotted orders that are remembered, together.
const maxKnownBytes = 4 << 20

// knownRuns remembers where the runs belong that were created one by one, the
// most recently used ones. An update of such a run may leave it out, and could
// not travel with others otherwise. What one caller created says nothing about
// another's run of the same id.
type knownRuns struct {
	limit int

	mu    sync.Mutex // guards what follows
	byID  map[knownKey]*knownEntry
	ends  knownEntry // of the ring: next is the most recent, prev the oldest
	bytes int
}

type knownKey struct {
	caller proxy.Caller
	id     runs.ID
}

type knownEntry struct {
	knownRun

	key        knownKey
	prev, next *knownEntry
}

func newKnownRuns(limit int) *knownRuns {
	k := &knownRuns{limit: limit, byID: map[knownKey]*knownEntry{}}
	k.ends.prev, k.ends.next = &k.ends, &k.ends
	return k
}

// add remembers runs of one caller.
func (k *knownRuns) add(caller proxy.Caller, list []knownRun) {
	if len(list) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, run := range list {
		key := knownKey{caller, run.id}
		if old, ok := k.byID[key]; ok {
			k.remove(old)
		}
		e := &knownEntry{knownRun: run, key: key}
		k.byID[key] = e
		k.bytes += len(run.dottedOrder)
		k.pushFront(e)
		for len(k.byID) > k.limit || k.bytes > maxKnownBytes {
			k.remove(k.ends.prev)
		}
	}
}

// find returns where a run belongs.
func (k *knownRuns) find(caller proxy.Caller, id runs.ID) (knownRun, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.byID[knownKey{caller, id}]
	if !ok {
		return knownRun{}, false
	}
	k.unlink(e)
	k.pushFront(e)
	return e.knownRun, true
}

func (k *knownRuns) remove(e *knownEntry) {
	k.unlink(e)
	delete(k.byID, e.key)
	k.bytes -= len(e.dottedOrder)
}

func (*knownRuns) unlink(e *knownEntry) { e.prev.next, e.next.prev = e.next, e.prev }

func (k *knownRuns) pushFront(e *knownEntry) {
	e.prev, e.next = &k.ends, k.ends.next
	e.prev.next, e.next.prev = e, e
}
