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
	KeptItems, KeptBytes                                       int64
	LeasedFrames                                               int
	OldestAt                                                   time.Time // at latest; zero: nothing is pending
}

// Stats reads the state of the queue. It costs time proportional to the
// segments, not to the frames.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	s := Stats{
		Totals: q.st.totals(), Segments: len(q.segs), Reports: slices.Clone(q.reports),
		MaxBytes: q.cfg.MaxBytes, MinFree: q.disk.minFreeBytes, Lanes: q.lanesLocked(),
	}
	q.mu.Unlock()
	s.UsedBytes, s.Refusing = q.disk.usedBytes(), q.disk.full.Load()
	s.Blobs, s.BlobBytes = q.blobs.count(), q.disk.blobs.Load()
	s.FreeBytes = q.disk.freeNow(false)
	return s
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
		out = append(out, LaneStats{ID: id, Descriptor: l.descriptor, LeasedFrames: q.inFlight[id]})
	}
	oldest := make([]int64, len(out))
	for _, s := range q.st.segments {
		for b, t := range s.live {
			i, ok := at[b.lane]
			if !ok {
				continue
			}
			l := &out[i]
			if b.place != Pending {
				l.KeptItems += t.items
				l.KeptBytes += t.bytes
				continue
			}
			l.PendingFrames += t.frames
			l.PendingItems += t.items
			l.PendingRawBytes += t.rawBytes
			l.PendingBytes += t.bytes
			if oldest[i] == 0 || t.oldestMS < oldest[i] {
				oldest[i] = t.oldestMS
			}
		}
	}
	for i, ms := range oldest {
		if ms != 0 {
			out[i].OldestAt = time.UnixMilli(ms)
		}
	}
	slices.SortFunc(out, func(a, b LaneStats) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
