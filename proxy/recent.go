package proxy

import (
	"sync"
	"time"
)

// maxRecent bounds the traces of which this process remembers what became of
// them, and when.
const maxRecent = 65_536

// recentFate is what became of a trace, as far as the ledger does not say it.
type recentFate uint8

const (
	fateSent recentFate = iota + 1
	fateDiscarded
)

// recentTraces remembers the latest traces that were sent or discarded: a ring,
// so that it is bounded, and a map into it. Some five megabytes when it is full.
// Its methods may be called from any number of goroutines; its zero value is
// ready.
type recentTraces struct {
	mu   sync.Mutex // guards what follows
	at   map[recentKey]int32
	ring []recentTrace
	next int
}

type recentKey struct {
	id   TraceID
	fate recentFate
}

type recentTrace struct {
	recentKey

	first, last int64 // Unix milliseconds
}

// note remembers that something of traces met a fate.
func (r *recentTraces) note(ids []TraceID, fate recentFate, now time.Time) {
	if len(ids) == 0 {
		return
	}
	ms := now.UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[recentKey]int32{}
	}
	for _, id := range ids {
		key := recentKey{id, fate}
		if i, have := r.at[key]; have {
			r.ring[i].last = ms
			continue
		}
		if len(r.ring) < maxRecent {
			r.ring = append(r.ring, recentTrace{})
		}
		old := &r.ring[r.next]
		if old.fate != 0 {
			delete(r.at, old.recentKey)
		}
		*old = recentTrace{key, ms, ms}
		r.at[key] = int32(r.next)
		r.next = (r.next + 1) % maxRecent
	}
}

// find is when a trace first and last met a fate, as far as it is remembered.
func (r *recentTraces) find(id TraceID, fate recentFate) (first, last time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.at[recentKey{id, fate}]
	if !ok {
		return first, last, false
	}
	return time.UnixMilli(r.ring[i].first), time.UnixMilli(r.ring[i].last), true
}
