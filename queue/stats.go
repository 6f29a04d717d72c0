package queue

import (
	"cmp"
	"slices"
	"time"
)

// Stats is a consistent picture of the queue.
type Stats struct {
	Totals    Totals
	Lanes     []LaneStats
	Segments  int
	UsedBytes int64 // on disk, as last measured, blobs included
	MaxBytes  int64
	HeldBytes int64 // stored bytes in holds
	MaxHeld   int64 // of HeldBytes
	KeptBytes int64 // stored bytes in quarantine, and damaged
	MaxKept   int64 // of KeptBytes
	FreeBytes int64 // of the file system
	Blobs     int   // kept aside, whether or not an export has taken them
	BlobBytes int64 // of their files, those being written included
	MinFree   int64
	Refusing  *FullError // why appends are refused at present; nil: they are not
	Reports   []string   // what recovery found that a person should know
}

// LaneStats is one lane's share of the queue.
type LaneStats struct {
	ID         LaneID
	Descriptor string

	PendingFrames, PendingItems, PendingRawBytes, PendingBytes int64
	HeldFrames, HeldItems, HeldBytes                           int64     // in holds
	KeptItems, KeptBytes                                       int64     // in quarantine, and damaged
	LeasedFrames                                               int       // that were pending when they were leased
	OldestAt                                                   time.Time // of what is pending, at latest; zero: nothing is
	OldestHeldAt                                               time.Time // of what is held, at latest; zero: nothing is
}

// Stats reads the state of the queue. It costs time proportional to the
// segments, not to the frames.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	s := q.statsLocked()
	q.mu.Unlock()
	q.addMeasured(&s)
	return s
}

// Snapshot reads the state of the queue and its cases, oldest first, at one
// moment: what is kept back in the one is in the other.
func (q *Queue) Snapshot() (Stats, []Case) {
	q.mu.Lock()
	s, cases := q.statsLocked(), q.casesLocked()
	q.mu.Unlock()
	q.addMeasured(&s)
	sortCases(cases)
	return s, cases
}

// statsLocked is what the state says. mu is held.
func (q *Queue) statsLocked() Stats {
	s := Stats{
		Totals: q.st.totals(), Segments: len(q.segs), Reports: slices.Clone(q.reports),
		MaxBytes: q.cfg.MaxBytes, MinFree: q.disk.minFreeBytes, Lanes: q.lanesLocked(),
		MaxHeld: q.shareMax(shareHeld), MaxKept: q.shareMax(shareKept),
	}
	left := q.sharesLeftLocked()
	s.HeldBytes, s.KeptBytes = s.MaxHeld-left[shareHeld], s.MaxKept-left[shareKept]
	return s
}

// addMeasured adds what does not belong to the state.
func (q *Queue) addMeasured(s *Stats) {
	s.UsedBytes, s.Refusing = q.disk.usedBytes(), q.disk.full.Load()
	s.Blobs, s.BlobBytes = q.blobs.count(), q.disk.blobs.Load()
	s.FreeBytes = q.disk.freeNow(false)
}

// Lanes lists the lanes and what they have, by number.
func (q *Queue) Lanes() []LaneStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lanesLocked()
}

func (q *Queue) lanesLocked() []LaneStats {
	out := make([]LaneStats, 0, len(q.st.lanes))
	at := make(map[LaneID]int, len(q.st.lanes))
	for id, l := range q.st.lanes {
		at[id] = len(out)
		out = append(out, LaneStats{ID: id, Descriptor: l.descriptor, LeasedFrames: q.inFlight[id] - q.keptOut[id]})
	}
	for _, s := range q.st.segments {
		for b, t := range s.live {
			if i, ok := at[b.lane]; ok {
				out[i].count(q.st.shareOf(b.place), t)
			}
		}
	}
	slices.SortFunc(out, func(a, b LaneStats) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// count adds what a segment has of the lane.
func (l *LaneStats) count(s share, t *tally) {
	switch s {
	case shareHeld:
		l.HeldFrames += t.frames
		l.HeldItems += t.items
		l.HeldBytes += t.bytes
		l.OldestHeldAt = earlier(l.OldestHeldAt, t.oldestMS)
	case shareKept:
		l.KeptItems += t.items
		l.KeptBytes += t.bytes
	default:
		l.PendingFrames += t.frames
		l.PendingItems += t.items
		l.PendingRawBytes += t.rawBytes
		l.PendingBytes += t.bytes
		l.OldestAt = earlier(l.OldestAt, t.oldestMS)
	}
}

// earlier is the earlier of two times, of which the first may be zero.
func earlier(t time.Time, ms int64) time.Time {
	if u := time.UnixMilli(ms); ms != 0 && (t.IsZero() || u.Before(t)) {
		return u
	}
	return t
}
