package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Config says where a queue lives and how much it may take.
type Config struct {
	// Dir is the data directory; the queue owns everything below
	// Dir/segments. It is created with mode 0700 if missing.
	Dir string

	// MaxBytes caps what the queue occupies on disk. Default 10 GiB.
	MaxBytes int64

	// MinFreeBytes is the free space of the file system below which appends
	// are refused. Default: 64 MiB, or 5 % of a file system smaller than
	// 1.25 GiB.
	MinFreeBytes int64

	// KeptShare is the part of MaxBytes that quarantine and damage may take,
	// HeldShare the part for holds. Each is 0.05 to 0.95; together they may be
	// more than 1. Defaults 0.5 and 0.4.
	KeptShare, HeldShare float64

	// SegmentBytes is the size at which a segment is sealed. Default 32 MiB,
	// at most 64 MiB.
	SegmentBytes int64

	// GroupBytes bounds the stored bytes of one group commit. Default 1 MiB.
	GroupBytes int64

	// FrameBytes is how much payload (before compression) of one lane shares a
	// frame; a larger export is a frame of its own. Default 2 MiB.
	FrameBytes int64

	// MaxFrameBytes bounds one export's payload. Default 32 MiB, at most 64 MiB.
	MaxFrameBytes int64

	// MaxLanes bounds the lanes with data. Default 1024.
	MaxLanes int

	// MaxWaiting bounds the appends that wait for a commit. Default 16384.
	MaxWaiting int

	// NoSync leaves out the sync before an append is acknowledged: what was
	// acknowledged then survives a process kill but not a power cut.
	NoSync bool

	// ShelveAfter is how long a sealed segment must have been left alone
	// before its few live frames are copied together. Default 5 s.
	ShelveAfter time.Duration

	// Owner names this process in the lock file, for whoever finds it locked.
	Owner string

	// DropReasons are reasons of drops that the metrics show from the start, with
	// 0: a counter that appears when it is no longer 0 looks as if it never grew.
	DropReasons []string

	Logger *slog.Logger

	// Seams for tests; nil is the real thing.
	open        openStore                        // openBadger
	preallocate func(path string, n int64) error // fallocate
	freeBytes   func(dir string) (int64, error)  // statfs
	now         func() time.Time
	step        func(name string)            // called at each named step that a test may stop at
	noKeeper    bool                         // housekeeping runs only when the test calls keep
	blobFault   func(operation string) error // called before each operation on the file of a blob
}

// Validate fills in defaults and reports the first setting out of bounds.
func (c *Config) Validate() error {
	if c.Dir == "" {
		return errors.New("queue: Dir is empty: name the data directory")
	}
	setDefault(&c.MaxBytes, 10<<30)
	setDefault(&c.SegmentBytes, 32<<20)
	setDefault(&c.GroupBytes, 1<<20)
	setDefault(&c.FrameBytes, 2<<20)
	setDefault(&c.MaxFrameBytes, 32<<20)
	setDefault(&c.MaxLanes, 1024)
	setDefault(&c.MaxWaiting, 16384)
	setDefault(&c.KeptShare, 0.5)
	setDefault(&c.HeldShare, 0.4)
	setDefault(&c.ShelveAfter, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.open == nil {
		c.open = openBadger
	}
	if c.preallocate == nil {
		c.preallocate = preallocate
	}
	if c.freeBytes == nil {
		c.freeBytes = freeBytes
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.step == nil {
		c.step = func(string) {}
	}
	if c.blobFault == nil {
		c.blobFault = func(string) error { return nil }
	}
	switch {
	case c.SegmentBytes < 64<<10 || c.SegmentBytes > 64<<20:
		return fmt.Errorf("queue: SegmentBytes %d is out of bounds: 64 KiB to 64 MiB", c.SegmentBytes)
	case c.MaxFrameBytes < 1<<10 || c.MaxFrameBytes > 64<<20:
		return fmt.Errorf("queue: MaxFrameBytes %d is out of bounds: 1 KiB to 64 MiB", c.MaxFrameBytes)
	case c.GroupBytes < 1<<10 || c.GroupBytes > 16<<20:
		return fmt.Errorf("queue: GroupBytes %d is out of bounds: 1 KiB to 16 MiB", c.GroupBytes)
	case c.MaxBytes < 4*c.SegmentBytes:
		return fmt.Errorf("queue: MaxBytes %d is too small: at least four segments of %d bytes are needed", c.MaxBytes, c.SegmentBytes)
	case c.MaxLanes < 1 || c.MaxLanes > 65536:
		return fmt.Errorf("queue: MaxLanes %d is out of bounds: 1 to 65536", c.MaxLanes)
	case c.FrameBytes < 1 || c.MaxWaiting < 1 || c.MinFreeBytes < 0 || c.ShelveAfter < 0:
		return errors.New("queue: FrameBytes, MaxWaiting, MinFreeBytes and ShelveAfter must not be negative")
	case c.KeptShare < 0.05 || c.KeptShare > 0.95:
		return fmt.Errorf("queue: KeptShare %v is out of bounds: 0.05 to 0.95", c.KeptShare)
	case c.HeldShare < 0.05 || c.HeldShare > 0.95:
		return fmt.Errorf("queue: HeldShare %v is out of bounds: 0.05 to 0.95", c.HeldShare)
	}
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Errors of a queue. FullError says why an append is refused for now.
var (
	// ErrClosed is returned by every call after Close began.
	ErrClosed = errors.New("queue is closed")
	// ErrTooLarge is returned for an export over MaxFrameBytes, and for a blob
	// over its caller's limit.
	ErrTooLarge = errors.New("too large to be stored")
	// ErrKeptFull is returned when kept, or held, data has reached its share of
	// the cap.
	ErrKeptFull = errors.New("kept data has reached its share of the buffer")
	// ErrTooManyNotes is returned when a note would pass the bound on notes.
	ErrTooManyNotes = errors.New("too many notes")
	// ErrNoBlob is returned for a blob that is not there.
	ErrNoBlob = errors.New("no such blob")

	errNoSpace = errors.New("no space left on the file system")
)

// FullError refuses an append for lack of a resource; nothing was kept.
type FullError struct {
	// Reason is a stable word: disk_full, buffer_full, held_full, kept_full,
	// lanes, busy, blobs.
	Reason string
	// Detail says in a sentence what is short.
	Detail string
}

// Error implements error.
func (e *FullError) Error() string { return "queue refuses data (" + e.Reason + "): " + e.Detail }

// Queue is a durable store of frames. All methods may be called from any
// number of goroutines.
type Queue struct {
	cfg   Config
	lock  *dirLock
	enc   *zstd.Encoder
	disk  *diskGuard
	blobs *blobSet

	// compressing bounds the callers that compress their own export.
	compressing chan struct{}

	// in collects what waits for the committer.
	in inbox

	metrics metrics

	// keepMu lets one round of housekeeping run at a time; taken first.
	keepMu sync.Mutex

	// mu guards everything below, and the fields of segments and leases that
	// say so. It is never held across disk reads or writes.
	mu       sync.Mutex
	st       *state
	segs     map[uint64]*segment
	active   *segment
	spare    *segment       // preallocated, to be the next active one
	shelf    *segment       // takes copies of long-waiting frames; nil: none open
	reports  []string       // what recovery found, for a person
	unpinned *sync.Cond     // of mu: a segment's last user let go of its store
	inFlight map[LaneID]int // frames leased, by lane
	keptOut  map[LaneID]int // those of them that were leased from a case

	// sealAsked has the committer rotate when it next wakes.
	sealAsked atomic.Bool

	changed  chan struct{} // cap 1: something became ready or was settled
	keepWake chan struct{} // cap 1: the keeper has work
	stop     chan struct{} // closed by Close
	loops    sync.WaitGroup
	closing  atomic.Bool
	closeErr error
	openTook time.Duration // of Open; not changed after it
	closed   sync.Once
}

// Open opens or creates the queue in cfg.Dir. It recovers whatever a previous
// process left, and never deletes unsettled data to succeed. It returns a
// *LockedError if another process has the directory.
func Open(cfg Config) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	began := cfg.now()
	dir := filepath.Join(cfg.Dir, "segments")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := acquireLock(cfg.Dir, cfg.Owner)
	if err != nil {
		return nil, err
	}
	q, err := open(cfg, lock)
	if err != nil {
		lock.release()
		return nil, err
	}
	q.openTook = cfg.now().Sub(began)
	signal(q.changed)
	signal(q.keepWake) // what a previous process drained is still to be removed
	q.loops.Go(q.commitLoop)
	if !cfg.noKeeper {
		q.loops.Go(q.keepLoop)
	}
	return q, nil
}

func open(cfg Config, lock *dirLock) (*Queue, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderConcurrency(compressors()))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	q := &Queue{
		cfg: cfg, lock: lock, enc: enc, disk: newDiskGuard(cfg), blobs: newBlobSet(cfg.Dir),
		compressing: make(chan struct{}, compressors()),
		segs:        map[uint64]*segment{},
		inFlight:    map[LaneID]int{},
		keptOut:     map[LaneID]int{},
		changed:     make(chan struct{}, 1),
		keepWake:    make(chan struct{}, 1),
		stop:        make(chan struct{}),
	}
	q.unpinned = sync.NewCond(&q.mu)
	q.in.wake = make(chan struct{}, 1)
	q.in.urgent = make(chan struct{}, 1)
	if err := q.recover(); err != nil {
		return nil, errors.Join(err, q.closeStores())
	}
	return q, nil
}

// Changed returns a channel that receives after frames became ready or were
// settled. Signals may be merged; there is one receiver.
func (q *Queue) Changed() <-chan struct{} { return q.changed }

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Close stops taking exports, commits what waits, and closes the store. Frames
// still leased stay on disk as pending. Blobs still being written end with
// ErrClosed at their next piece. Close is idempotent.
func (q *Queue) Close() error {
	q.closed.Do(func() {
		q.closing.Store(true)
		close(q.stop)
		q.loops.Wait()
		q.closeErr = q.closeStores()
		q.lock.release()
	})
	return q.closeErr
}

// closeStores closes every open database. One that cannot be flushed for lack
// of space is left as a crash would leave it, which recovery handles; flushing
// it would kill the process.
func (q *Queue) closeStores() error {
	q.mu.Lock()
	open := make([]*segment, 0, len(q.segs)+1)
	for _, s := range q.segs {
		open = append(open, s)
	}
	spare := q.spare
	q.spare = nil
	q.mu.Unlock()
	var errs []error
	if spare != nil {
		errs = append(errs, q.removeSegment(spare))
	}
	for _, s := range open {
		s.openMu.Lock()
		s.removed = true
		q.mu.Lock()
		for s.pins > 0 { // reads are short, and a database must not close under one
			q.unpinned.Wait()
		}
		q.mu.Unlock()
		if s.store != nil && (!s.writable || q.disk.roomToFlush(s.indexBytes)) {
			errs = append(errs, s.store.Close())
			s.store = nil
		}
		s.openMu.Unlock()
	}
	return errors.Join(errs...)
}

// ActiveSegment is the number of the newest active segment. Segment numbers
// grow: every frame of an Append that has not begun yet gets this one or a
// higher one, and a frame with a lower one was appended before, unless it is
// [Frame.Copied]. Copies on shelves and parts of older frames are numbered by
// the same counter when they are made, so theirs may be higher than this.
func (q *Queue) ActiveSegment() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active.id
}
