package runs

import "sync"

// maxKnownBytes bounds what is remembered of runs, together.
const maxKnownBytes = 4 << 20

// Known remembers where runs belong that were created a while ago, the most
// recently used ones: what follows on a run may leave it out, and could not
// travel with others otherwise. What one owner created says nothing about
// another's run of the same id. It holds at most its limit of runs and 4 MiB of
// what is known of them. Its methods may be called from any number of goroutines.
type Known[O comparable] struct {
	limit int

	mu    sync.Mutex // guards what follows
	byID  map[knownKey[O]]*knownEntry[O]
	ends  knownEntry[O] // of the ring: next is the most recent, prev the oldest
	bytes int
}

type knownKey[O comparable] struct {
	owner O
	id    ID
}

type knownEntry[O comparable] struct {
	Placed

	key        knownKey[O]
	prev, next *knownEntry[O]
}

// NewKnown returns a Known of at most limit runs.
func NewKnown[O comparable](limit int) *Known[O] {
	k := &Known[O]{limit: limit, byID: map[knownKey[O]]*knownEntry[O]{}}
	k.ends.prev, k.ends.next = &k.ends, &k.ends
	return k
}

// Add remembers runs of one owner.
func (k *Known[O]) Add(owner O, list []Placed) {
	if len(list) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, run := range list {
		key := knownKey[O]{owner, run.ID}
		if old, ok := k.byID[key]; ok {
			k.remove(old)
		}
		e := &knownEntry[O]{Placed: run, key: key}
		k.byID[key] = e
		k.bytes += run.bytes()
		k.pushFront(e)
		for len(k.byID) > k.limit || k.bytes > maxKnownBytes {
			k.remove(k.ends.prev)
		}
	}
}

// Find returns where a run of an owner belongs.
func (k *Known[O]) Find(owner O, id ID) (Placed, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.byID[knownKey[O]{owner, id}]
	if !ok {
		return Placed{}, false
	}
	k.unlink(e)
	k.pushFront(e)
	return e.Placed, true
}

func (k *Known[O]) remove(e *knownEntry[O]) {
	k.unlink(e)
	delete(k.byID, e.key)
	k.bytes -= e.bytes()
}

func (*Known[O]) unlink(e *knownEntry[O]) { e.prev.next, e.next.prev = e.next, e.prev }

func (k *Known[O]) pushFront(e *knownEntry[O]) {
	e.prev, e.next = &k.ends, k.ends.next
	e.prev.next, e.next.prev = e, e
}

func (p *Placed) bytes() int { return len(p.DottedOrder) + len(p.Project) + len(p.ProjectID) }
