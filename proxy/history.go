package proxy

import (
	"encoding/binary"
	"net/http"
	"sync"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

const (
	// acceptedNotes say when a key was last taken: a refusal after a restart is
	// then known to be one after success.
	acceptedNotes = "accepted/"
	acceptedEvery = time.Hour
	// acceptedFor is how long such a note is kept, and maxAccepted how many: of
	// others it is not known after a restart.
	acceptedFor = 90 * 24 * time.Hour
	maxAccepted = 2048
	// maxHistory bounds the keys that are remembered.
	maxHistory = 4096
	// togetherWithin is how close to each other refusals of several keys begin
	// that have one cause.
	togetherWithin = 5 * time.Minute
)

// history is what the upstream has made of each key, in its workspace. Its
// methods may be called from any number of goroutines.
type history struct {
	q   *queue.Queue
	now func() time.Time

	mu          sync.Mutex // guards what follows
	keys        map[caller]*keyHistory
	serverError time.Time
	refused     int // keys refused now
	notes       int // of when a key was last taken
}

// keyHistory is what became of a key's requests.
type keyHistory struct {
	accepted time.Time
	written  time.Time // accepted, as the queue's note has it
	refused  time.Time // since when; zero: it is not
	// reads is how a read with the key was answered since; nil: not asked.
	reads *diagnose.Reply
}

func newHistory(q *queue.Queue, now func() time.Time) *history {
	h := &history{q: q, now: now, keys: map[caller]*keyHistory{}}
	for name, b := range q.Notes(acceptedNotes) {
		if at, ok := acceptedAt(b); ok && now().Sub(at) < acceptedFor || q.SetNote(name, nil) != nil {
			h.notes++
		}
	}
	return h
}

// acceptedAt reads a note of when a key was last taken.
func acceptedAt(note []byte) (at time.Time, ok bool) {
	if len(note) != 8 {
		return at, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(note)), 0), true
}

func (h *history) note(c caller) string {
	return acceptedNotes + c.upstream + " " + c.credential + " " + c.workspace
}

// of finds or begins a key's history. mu is held.
func (h *history) of(c caller) *keyHistory {
	k := h.keys[c]
	if k != nil {
		return k
	}
	if len(h.keys) >= maxHistory {
		h.makeRoom()
	}
	k = &keyHistory{}
	name := h.note(c)
	if at, ok := acceptedAt(h.q.Notes(name)[name]); ok {
		k.accepted, k.written = at, at
	}
	h.keys[c] = k
	return k
}

// makeRoom forgets a key, one that is not refused if there is any: it begins
// anew. mu is held.
func (h *history) makeRoom() {
	var last caller
	for c, k := range h.keys {
		if last = c; k.refused.IsZero() {
			delete(h.keys, c)
			return
		}
	}
	delete(h.keys, last)
	h.refused--
}

// saw notes how a request with a key ended. It reports whether a key is taken
// for the first time while others are refused: it may be one's successor.
func (h *history) saw(c caller, out *Outcome) (successor bool) {
	h.mu.Lock()
	now := h.now()
	if out.Exchange.Status >= http.StatusInternalServerError {
		h.serverError = now
	}
	k := h.of(c)
	var write bool
	switch sent := out.Exchange.Time; {
	case out.Kind == Delivered && !sent.IsZero() && sent.Before(k.refused):
		// It was under way when another was refused: it says nothing of now.
		if sent.After(k.accepted) {
			k.accepted = sent
		}
	case out.Kind == Delivered:
		successor = h.refused > 0 && k.accepted.IsZero()
		if !k.refused.IsZero() {
			h.refused--
		}
		k.refused, k.reads, k.accepted = time.Time{}, nil, now
		if write = now.Sub(k.written) > acceptedEvery && h.mayNote(k); write {
			k.written = now
		}
	case deniesKey(out) && k.refused.IsZero():
		k.refused = now
		h.refused++
		if write = k.accepted.After(k.written) && h.mayNote(k); write {
			k.written = k.accepted
		}
	}
	accepted := k.written
	h.mu.Unlock()
	if write {
		// Without the note a diagnosis after a restart knows less.
		_ = h.q.SetNote(h.note(c), binary.BigEndian.AppendUint64(nil, uint64(accepted.Unix())))
	}
	return successor
}

// mayNote reports whether there may be a note about a key. mu is held.
func (h *history) mayNote(k *keyHistory) bool {
	if !k.written.IsZero() {
		return true
	}
	if h.notes >= maxAccepted {
		return false
	}
	h.notes++
	return true
}

// deniesKey reports whether an answer refuses the key.
func deniesKey(out *Outcome) bool {
	return out.Kind == Refused && out.Refusal == RefusedAccess &&
		(out.Exchange.Status == http.StatusUnauthorized || out.Exchange.Status == http.StatusForbidden)
}

// doubted reports whether a key that was taken lately is refused since a moment
// ago, and nobody knows yet whether it is refused for reads, too.
func (h *history) doubted(c caller) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keys[c].doubted(h.now())
}

// doubtFor is for how long a key is in doubt: reading takes ten seconds at most.
const doubtFor = 15 * time.Second

func (k *keyHistory) doubted(now time.Time) bool {
	return k != nil && !k.refused.IsZero() && k.reads == nil && now.Sub(k.refused).Abs() < doubtFor &&
		!k.accepted.IsZero() && k.refused.Sub(k.accepted) < time.Hour
}

// doubts lists the keys to read with: those in doubt, and those of which a read
// spoke for an incident a while ago.
func (h *history) doubts() (out []caller) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for c, k := range h.keys {
		again := !k.refused.IsZero() && k.reads != nil && now.Sub(k.reads.Time).Abs() >= probeAgain &&
			k.reads.Status != http.StatusUnauthorized && k.reads.Status != http.StatusForbidden
		if again || k.doubted(now) {
			out = append(out, c)
		}
	}
	return out
}

// readsAs notes how a read with a key was answered.
func (h *history) readsAs(c caller, r *diagnose.Reply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.keys[c]; k != nil && !k.refused.IsZero() {
		k.reads = r
	}
}

// reads is how a read with a key was answered since it is refused.
func (h *history) reads(c caller) *diagnose.Reply {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.keys[c]; k != nil {
		return k.reads
	}
	return nil
}

// failing notes that the service failed to answer something else.
func (h *history) failing() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serverError = h.now()
}

// facts is what a diagnosis wants to know about a key; own is weir's.
func (h *history) facts(c, own caller) diagnose.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.of(c)
	out := diagnose.History{Since: k.refused, Accepted: k.accepted, ServerErrors: h.serverError}
	if own.credential != "" && own.credential != c.credential {
		if o := h.of(own); o.refused.IsZero() {
			out.OwnAccepted = o.accepted
		}
	}
	if k.refused.IsZero() {
		return out
	}
	for other, o := range h.keys {
		switch {
		case other.credential == c.credential, other.upstream != c.upstream, o.refused.IsZero():
		case o.refused.Sub(k.refused).Abs() < togetherWithin && !o.accepted.IsZero() && o.refused.Sub(o.accepted) < time.Hour:
			out.OtherKeysRefused++
		}
	}
	return out
}

// refusedKey reports whether a key is refused, and whether the upstream has
// ever taken it.
func (h *history) refusedKey(c caller) (refused, wasTaken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[c]
	if k == nil || k.refused.IsZero() {
		return false, false
	}
	return true, !k.accepted.IsZero()
}

// takenSince lists the keys that were taken since another is refused, the
// latest first.
func (h *history) takenSince(c caller) (out []caller) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[c]
	if k == nil || k.refused.IsZero() {
		return nil
	}
	var best time.Time
	for other, o := range h.keys {
		if other.upstream != c.upstream || other.credential == c.credential || !o.refused.IsZero() || !o.accepted.After(k.refused) {
			continue
		}
		if o.accepted.After(best) {
			best, out = o.accepted, append([]caller{other}, out...)
		} else {
			out = append(out, other)
		}
	}
	return out
}
