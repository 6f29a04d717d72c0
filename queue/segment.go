package queue

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shelfSuffix = ".shelf"

	// logStepBytes and indexStepBytes are how far ahead of the writes blocks
	// are reserved: an idle weir holds little, a busy one seldom reserves.
	logStepBytes   = 4 << 20
	indexStepBytes = 1 << 20

	// maxSegmentFrames bounds the index of one segment in memory.
	maxSegmentFrames = 16384
)

// segment is one database of the queue with what this process knows of it.
type segment struct {
	shelving      bool // mu: its frames are being copied
	*segmentState      // guarded by Queue.mu

	dir   string
	alloc func(path string, n int64) error // Config.preallocate

	// Guarded by Queue.mu.
	index     *segmentIndex // nil: not loaded
	sealed    bool          // takes no more frames
	pins      int           // users of store that must not find it closed
	retired   bool          // drained, and about to be removed: nobody pins it any more
	touched   time.Time     // last lease or settlement
	diskBytes int64         // as last measured

	// openMu serializes opening and closing of store; taken before Queue.mu,
	// never while holding it. The committer alone writes the active segment's
	// fields below.
	openMu     sync.Mutex
	store      store
	writable   bool  // store was opened for writing and flushes when closed
	removed    bool  // its directory is gone or going: never open it again
	baseBytes  int64 // of logBytes, the checkpoint
	indexBytes int64 // written to the memtable by this process
	logBytes   int64 // written to the value log by this process
	logRoom    int64 // value log bytes preallocated
	indexRoom  int64 // write-ahead log bytes preallocated
	journal    uint32
	floorMS    int64 // its frames are accepted at this time or later: after those of older segments

	usage          atomic.Int32 // percent full, written by the committer
	ahead          atomic.Int64 // bytes that are preallocated and not written, while it takes commits
	measuredClosed bool         // diskBytes is final; guarded by Queue.mu
}

// frameInfo is a frame of a loaded segment.
type frameInfo struct {
	lane     LaneID
	state    frameState
	place    Place
	items    uint32
	rawBytes uint32
	bytes    uint32
	atMS     int64
}

type frameState uint8

const (
	frameGone  frameState = iota
	frameReady            // to be leased, at whatever place
	frameLeased
)

func (f *frameInfo) tally() tally {
	return tally{frames: 1, items: int64(f.items), rawBytes: int64(f.rawBytes), bytes: int64(f.bytes), oldestMS: f.atMS}
}

// segmentIndex lists a loaded segment's frames by number, and by lane and place
// the numbers that are ready, by age.
type segmentIndex struct {
	frames []frameInfo
	ready  map[bucket][]uint32
	leased int
}

func newSegmentIndex() *segmentIndex { return &segmentIndex{ready: map[bucket][]uint32{}} }

// bucket is where the frame stands.
func (f *frameInfo) bucket() bucket { return bucket{f.lane, f.place} }

// put records frame seq, growing the list as needed.
func (x *segmentIndex) put(seq uint32, f frameInfo) {
	for uint32(len(x.frames)) <= seq {
		x.frames = append(x.frames, frameInfo{})
	}
	x.frames[seq] = f
	if f.state == frameReady {
		x.makeReady(seq)
	}
}

// makeReady puts a frame's number into the ready list of where it stands, in
// order.
func (x *segmentIndex) makeReady(seq uint32) {
	f := &x.frames[seq]
	f.state = frameReady
	b := f.bucket()
	list := x.ready[b]
	if n := len(list); n == 0 || x.before(list[n-1], seq) < 0 {
		x.ready[b] = append(list, seq)
		return
	}
	at, found := slices.BinarySearchFunc(list, seq, x.before)
	if !found {
		x.ready[b] = slices.Insert(list, at, seq)
	}
}

// dropReady takes a number out of its ready list, wherever it stands there.
func (x *segmentIndex) dropReady(seq uint32) {
	b := x.frames[seq].bucket()
	if at, found := slices.BinarySearchFunc(x.ready[b], seq, x.before); found {
		x.setReady(b, slices.Delete(x.ready[b], at, at+1))
	}
}

// setReady replaces a list.
func (x *segmentIndex) setReady(b bucket, list []uint32) {
	if len(list) == 0 {
		delete(x.ready, b)
	} else {
		x.ready[b] = list
	}
}

// takeOut takes a frame out of its list, or from whoever leased it. It reports
// whether the frame is there.
func (x *segmentIndex) takeOut(seq uint32) bool {
	if seq >= uint32(len(x.frames)) {
		return false
	}
	switch x.frames[seq].state {
	case frameLeased:
		x.leased--
	case frameReady:
		x.dropReady(seq)
	case frameGone:
		return false
	}
	return true
}

// settle takes a frame out of the index.
func (x *segmentIndex) settle(seq uint32) {
	if x.takeOut(seq) {
		x.frames[seq].state = frameGone
	}
}

// place moves a frame to a place.
func (x *segmentIndex) place(seq uint32, to Place) {
	if x.takeOut(seq) {
		x.frames[seq].place = to
		x.makeReady(seq)
	}
}

// release makes the frames at a place pending. Those that are leased are when
// they are returned.
func (x *segmentIndex) release(p Place) {
	for from, list := range x.ready {
		if from.place != p {
			continue
		}
		delete(x.ready, from)
		for _, seq := range list {
			x.frames[seq].place = Pending
		}
		to := bucket{from.lane, Pending}
		merged := append(x.ready[to], list...)
		slices.SortFunc(merged, x.before)
		x.ready[to] = merged
	}
}

// giveBack ends the lease of a frame that was not settled: it is ready where
// it stood, or pending if that case was released meanwhile. mu is held.
func (q *Queue) giveBackLocked(r *leaseRef) {
	x := r.seg.index
	if x == nil || x.frames[r.seq].state != frameLeased {
		return
	}
	x.leased--
	x.frames[r.seq].place = q.st.standing(x.frames[r.seq].place)
	x.makeReady(r.seq)
}

// newSegment makes the runtime half of a segment.
func (q *Queue) newSegment(st *segmentState) *segment {
	return &segment{segmentState: st, dir: q.segmentDir(st.id, st.shelf), touched: q.cfg.now(), alloc: q.cfg.preallocate}
}

func (q *Queue) segmentDir(id uint64, shelf bool) string {
	name := fmt.Sprintf("%016x", id)
	if shelf {
		name += shelfSuffix
	}
	return filepath.Join(q.cfg.Dir, "segments", name)
}

// parseSegmentDir reads a directory name of segmentDir.
func parseSegmentDir(name string) (id uint64, shelf, ok bool) {
	base, shelf := strings.CutSuffix(name, shelfSuffix)
	if len(base) != 16 {
		return 0, false, false
	}
	if _, err := fmt.Sscanf(base, "%016x", &id); err != nil || fmt.Sprintf("%016x", id) != base {
		return 0, false, false
	}
	return id, shelf, true
}

// createBytes is the space a new segment takes at once, with a margin for what
// another process takes meanwhile.
const createBytes = logStepBytes + 3*indexStepBytes

// createSegment makes a new, preallocated segment on disk. It returns an error
// matching errNoSpace, and leaves nothing behind, when there is no room.
func (q *Queue) createSegment(shelf bool) (*segment, error) {
	// Creating a database touches a few pages through mmap before anything can
	// be preallocated, so there must be room for those and the first steps.
	if free := q.disk.freeNow(true); free < createBytes {
		return nil, fmt.Errorf("create segment: %s free: %w", sizeText(free), errNoSpace)
	}
	q.mu.Lock()
	id := q.st.nextSegment
	q.st.nextSegment++
	q.mu.Unlock()
	s := q.newSegment(newSegmentState(id, shelf))
	s.index = newSegmentIndex()
	if err := q.initSegment(s); err != nil {
		if s.store != nil {
			_ = s.store.Close() // empty: nothing is flushed
		}
		_ = os.RemoveAll(s.dir)
		return nil, fmt.Errorf("create segment %d: %w", id, err)
	}
	return s, nil
}

func (q *Queue) initSegment(s *segment) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return wrapNoSpace(err)
	}
	var st store
	err := guardFaults(func() (err error) { // its first pages have no blocks yet
		st, err = q.cfg.open(s.dir, storeCreate, storeConfig{sync: !q.cfg.NoSync, logger: q.cfg.Logger})
		return err
	})
	if errors.Is(err, ErrDamaged) {
		return errors.Join(errNoSpace, err)
	}
	if err != nil {
		return wrapNoSpace(err)
	}
	s.store, s.writable = st, true
	if err := s.reserve(1, 1); err != nil {
		return err
	}
	mark, err := os.OpenFile(filepath.Join(s.dir, spareFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return wrapNoSpace(err)
	}
	if err := mark.Close(); err != nil {
		return wrapNoSpace(err)
	}
	// The files' names must be as durable as what is synced into them.
	if err := syncDir(s.dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.dir))
}

// wrapNoSpace makes err match errNoSpace if that is what it says.
func wrapNoSpace(err error) error {
	if isNoSpace(err) {
		return errors.Join(errNoSpace, err)
	}
	return err
}

// reserve makes sure that the next logNeed bytes of the value log and
// indexNeed bytes of the write-ahead log have blocks on disk, with a step to
// spare for settlements.
func (s *segment) reserve(logNeed, indexNeed int64) error {
	if want := s.logBytes + logNeed + 4096; want > s.logRoom {
		room := roundUp(want, logStepBytes)
		if err := s.preallocate("*.vlog", room); err != nil {
			return err
		}
		s.logRoom = room
	}
	if want := s.indexBytes + indexNeed + indexStepBytes/2; want > s.indexRoom {
		room := roundUp(want, indexStepBytes)
		if err := s.preallocate("*.mem", room); err != nil {
			return err
		}
		s.indexRoom = room
	}
	s.ahead.Store(max(0, s.logRoom+s.indexRoom-s.logBytes-s.indexBytes))
	return nil
}

func (s *segment) preallocate(pattern string, n int64) error {
	paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
	if err != nil {
		return fmt.Errorf("list %s: %w", pattern, err)
	}
	for _, p := range paths {
		if err := s.alloc(p, n); err != nil {
			return err
		}
	}
	return nil
}

func roundUp(n, step int64) int64 { return (n + step - 1) / step * step }

// costs adds up what entries take of the value log and of the memtable.
func costs(entries []entry) (logBytes, indexBytes int64) {
	for _, e := range entries {
		logBytes += e.logCost()
		indexBytes += e.indexCost()
	}
	return logBytes, indexBytes
}

// wrote counts committed entries and returns their sum.
func (s *segment) wrote(entries []entry) int64 {
	logBytes, indexBytes := costs(entries)
	s.logBytes += logBytes
	s.indexBytes += indexBytes
	s.ahead.Store(max(0, s.logRoom+s.indexRoom-s.logBytes-s.indexBytes))
	return logBytes + indexBytes
}

// percentFull is the most used of the segment's bounds. The checkpoint does not
// count: however large, it leaves room for frames.
func (s *segment) percentFull(segmentBytes int64) int32 {
	return int32(max(100*(s.logBytes-s.baseBytes)/segmentBytes, 100*s.indexBytes/indexSealBytes, 100*int64(s.next)/maxSegmentFrames))
}

// full reports whether the segment should take no more frames.
func (s *segment) full(segmentBytes int64) bool {
	return s.percentFull(segmentBytes) >= 100
}

// acquireStore pins the segment's database, opening it if need be. The caller
// calls releaseStore once for each nil error.
func (q *Queue) acquireStore(s *segment) (store, error) {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	if s.removed {
		return nil, ErrClosed
	}
	if s.store == nil {
		st, writable, err := q.reopen(s)
		if err != nil {
			return nil, err
		}
		s.store, s.writable = st, writable
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.retired {
		return nil, ErrClosed
	}
	s.pins++
	s.touched = q.cfg.now()
	return s.store, nil
}

func (q *Queue) releaseStore(s *segment) {
	q.mu.Lock()
	s.pins--
	if s.pins == 0 {
		q.unpinned.Broadcast()
	}
	q.mu.Unlock()
}

// reopen opens an existing segment for reading. One that was not closed
// cleanly is recovered, which writes.
func (q *Queue) reopen(s *segment) (st store, writable bool, err error) {
	dir := s.dir
	if _, err := os.Stat(dir); err != nil { // opening would create it
		return nil, false, fmt.Errorf("open segment: %w", err)
	}
	cfg := storeConfig{sync: !q.cfg.NoSync, logger: q.cfg.Logger}
	if clean, err := cleanlyClosed(dir); err != nil {
		return nil, false, err
	} else if clean {
		if st, err := q.cfg.open(dir, storeRead, cfg); err == nil {
			return st, false, nil
		}
	}
	s.indexBytes = logBlocks(dir) // what recovery and closing may have to flush
	if !q.disk.roomToFlush(s.indexBytes) {
		return nil, false, fmt.Errorf("recover segment %s, which needs up to %s, of %s free: free some space on the file system of %s: %w",
			filepath.Base(dir), sizeText(s.indexBytes+s.indexBytes/4+flushMarginBytes), sizeText(q.disk.freeNow(true)), q.cfg.Dir, errNoSpace)
	}
	for range 2 { // a failing open repairs some damage on its way (badger#2207)
		err = guardFaults(func() (err error) {
			st, err = q.cfg.open(dir, storeRecover, cfg)
			return err
		})
		if err == nil {
			break
		}
	}
	return st, true, err
}

// logBlocks is how much of the write-ahead logs in dir may have been written.
func logBlocks(dir string) (n int64) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return indexHardBytes
	}
	for _, path := range logs {
		size, err := diskBytes(path)
		if err != nil {
			return indexHardBytes
		}
		n += size
	}
	return min(n, indexHardBytes)
}

// cleanlyClosed reports whether a segment's database was flushed and closed: a
// write-ahead log is left only by a process that died.
func cleanlyClosed(dir string) (bool, error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return false, fmt.Errorf("list logs of %s: %w", dir, err)
	}
	return len(logs) == 0, nil
}

// before orders frames by when they were accepted, then by number.
func (x *segmentIndex) before(a, b uint32) int {
	return cmp.Or(cmp.Compare(x.frames[a].atMS, x.frames[b].atMS), cmp.Compare(a, b))
}
