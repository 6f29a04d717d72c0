package queue

import "time"

// FrameSum adds up frames.
type FrameSum struct {
	Frames, Items, Bytes int64
	OldestAt             time.Time // of the oldest, at latest; zero: there is none
}

func (s *FrameSum) count(t *tally) {
	s.Frames += t.frames
	s.Items += t.items
	s.Bytes += t.bytes
	s.OldestAt = earlier(s.OldestAt, t.oldestMS)
}

// DiskUse is what the queue has on disk, and for what.
type DiskUse struct {
	Pending, Held, Kept FrameSum // Kept: in quarantine, and damaged

	Blobs     int
	BlobBytes int64 // those being written included
	// SettledBytes are those of frames that are settled, whose segments are still
	// there for the sake of others, and what indexes and checkpoints take.
	SettledBytes int64
	// ReserveBytes are preallocated for the next writes, or a ballast that is given
	// up when the disk is full.
	ReserveBytes int64
	ReserveFiles int
	Segments     int

	MaxBytes, MaxHeld, MaxKept int64 // the caps; the ballast does not count for MaxBytes
	FreeBytes, MinFree         int64 // of the file system, and the floor below it
}

// DiskUse adds up what takes the disk. It costs time proportional to the
// segments, not to the frames. What the segments occupy was measured within the
// last second, so that sums may differ a little from what is true at once.
func (q *Queue) DiskUse() DiskUse {
	q.mu.Lock()
	u := DiskUse{
		Segments: len(q.segs), MaxBytes: q.cfg.MaxBytes, MaxHeld: q.shareMax(shareHeld), MaxKept: q.shareMax(shareKept), MinFree: q.disk.minFreeBytes,
	}
	for _, s := range q.st.segments {
		for b, t := range s.live {
			switch q.st.shareOf(b.place) {
			case shareHeld:
				u.Held.count(t)
			case shareKept:
				u.Kept.count(t)
			default:
				u.Pending.count(t)
			}
		}
	}
	var reserved int64
	for _, s := range q.segs { // also sealed ones, until they are closed
		reserved += s.ahead.Load()
	}
	if q.spare != nil {
		reserved += max(q.spare.diskBytes, q.spare.ahead.Load())
		u.ReserveFiles++
	}
	q.mu.Unlock()
	used := q.disk.used.Load()
	u.ReserveBytes = min(reserved, used)
	u.SettledBytes = max(0, used-u.ReserveBytes-u.Pending.Bytes-u.Held.Bytes-u.Kept.Bytes)
	if n := q.disk.ballast(); n > 0 {
		u.ReserveBytes += n
		u.ReserveFiles++
	}
	u.Blobs, u.BlobBytes = q.blobs.count(), q.disk.blobs.Load()
	u.FreeBytes = q.disk.freeNow(false)
	return u
}

// BytesBelow is what the files below a directory occupy on disk. One that is not
// there occupies nothing.
func BytesBelow(dir string) (int64, error) { return diskBytes(dir) }
