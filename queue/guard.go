package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxBallastBytes = 16 << 20
	minBallastBytes = 12 << 20   // what a start needs: a recovered log's table and a new segment
	smallFileSystem = 1280 << 20 // below this, floor and ballast are a share of it
	freeSampleEvery = 100 * time.Millisecond

	// flushMarginBytes is how much more than its need must be free before a
	// table is written: another process may be filling the disk meanwhile.
	flushMarginBytes = 4 << 20
)

// diskGuard keeps a full disk from Badger, which dies of it: it refuses
// appends under a floor of free space and over the cap, and holds a ballast
// file that is given up when a flush or a recovery needs its space.
type diskGuard struct {
	dir          string
	maxBytes     int64
	minFreeBytes int64
	ballastBytes int64
	now          func() time.Time
	freeBytes    func(dir string) (int64, error)
	preallocate  func(path string, n int64) error

	used    atomic.Int64              // bytes the segments occupy
	blobs   atomic.Int64              // bytes the blobs occupy
	landing atomic.Int64              // bytes of blobs that are being written at the moment
	full    atomic.Pointer[FullError] // set while appends are refused
	short   atomic.Bool               // the next segment could not be prepared
	mu      sync.Mutex                // guards the fields below; leaf lock
	free    int64
	at      time.Time
	spent   bool // the ballast is given up
}

func newDiskGuard(cfg Config) *diskGuard {
	g := &diskGuard{
		dir: cfg.Dir, maxBytes: cfg.MaxBytes, minFreeBytes: cfg.MinFreeBytes, ballastBytes: maxBallastBytes,
		now: cfg.now, freeBytes: cfg.freeBytes, preallocate: cfg.preallocate, spent: true,
	}
	size := fileSystemBytes(cfg.Dir)
	if size > 0 && size < smallFileSystem {
		g.ballastBytes = min(max(size/8, minBallastBytes), maxBallastBytes)
	}
	if g.minFreeBytes == 0 {
		g.minFreeBytes = defaultMinFree(size)
	}
	return g
}

// defaultMinFree is the free space to leave on a file system of a size, 0 if
// that is unknown.
func defaultMinFree(size int64) int64 {
	if size > 0 && size < smallFileSystem {
		return size / 20
	}
	return 64 << 20
}

// Room is the space below a directory: what can still be written, and what a
// queue there leaves free (minFree as in Config.MinFreeBytes). The directory
// must exist; a queue need not.
func Room(dir string, minFree int64) (free, floor int64, err error) {
	free, err = freeBytes(dir)
	if minFree == 0 {
		minFree = defaultMinFree(fileSystemBytes(dir))
	}
	return free, minFree, err
}

func (g *diskGuard) ballastPath() string { return filepath.Join(g.dir, "ballast") }

// freeNow reads the free space, at most every freeSampleEvery unless forced.
func (g *diskGuard) freeNow(force bool) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if force || now.Sub(g.at) >= freeSampleEvery || now.Before(g.at) {
		if free, err := g.freeBytes(g.dir); err == nil {
			g.free, g.at = free, now
		}
	}
	return g.free
}

// refusal is the standing reason to refuse appends, nil when there is none.
func (g *diskGuard) refusal() error {
	if e := g.full.Load(); e != nil {
		return e
	}
	return nil
}

// check renews the standing refusal: next is what the next commit may take.
func (g *diskGuard) check(next int64) *FullError {
	e := g.examine(g.freeNow(false), next)
	g.full.Store(e)
	return e
}

// examine looks whether next more bytes fit.
func (g *diskGuard) examine(free, next int64) *FullError {
	used := g.usedBytes()
	switch {
	case free < g.minFreeBytes+next:
		return &FullError{Reason: "disk_full", Detail: fmt.Sprintf(
			"the file system of %s has %s free and weir keeps %s of it free; free some space or move the data directory",
			g.dir, sizeText(free), sizeText(g.minFreeBytes))}
	case g.short.Load():
		return &FullError{Reason: "disk_full", Detail: fmt.Sprintf(
			"there is no room for another segment on the file system of %s, which has %s free; free some space or move the data directory",
			g.dir, sizeText(free))}
	case used+next > g.maxBytes:
		return &FullError{Reason: "buffer_full", Detail: fmt.Sprintf(
			"the buffer holds %s of at most %s; it empties as the upstream takes data, or raise buffer_max",
			sizeText(used), sizeText(g.maxBytes))}
	}
	return nil
}

// usedBytes is what the segments and the blobs occupy.
func (g *diskGuard) usedBytes() int64 { return g.used.Load() + g.blobs.Load() }

// takeBlob counts n more bytes of a blob, if there is room for them. They are
// landing until blobWritten: the file system does not count them yet. It
// leaves the standing refusal of appends alone, for they may need less.
func (g *diskGuard) takeBlob(n int64) *FullError {
	g.blobs.Add(n)
	if full := g.examine(g.freeNow(true)-g.landing.Add(n), 0); full != nil {
		g.landing.Add(-n)
		g.blobs.Add(-n)
		return full
	}
	return nil
}

// blobWritten ends what takeBlob began.
func (g *diskGuard) blobWritten(n int64) { g.landing.Add(-n) }

// blobsChanged counts bytes of blobs found or removed.
func (g *diskGuard) blobsChanged(n int64) { g.blobs.Add(n) }

// refuse records that a write found no room.
func (g *diskGuard) refuse(detail string) *FullError {
	e := &FullError{Reason: "disk_full", Detail: detail}
	g.full.Store(e)
	return e
}

// roomToFlush makes sure that closing a database with indexBytes in memory can
// write its table, giving up the ballast if it must.
func (g *diskGuard) roomToFlush(indexBytes int64) bool {
	need := indexBytes + indexBytes/4 + flushMarginBytes
	if g.freeNow(true) >= need {
		return true
	}
	g.release()
	return g.freeNow(true) >= need
}

// ballast is what the ballast takes at present.
func (g *diskGuard) ballast() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.spent {
		return 0
	}
	return g.ballastBytes
}

// release gives up the ballast, and reports whether there was any.
func (g *diskGuard) release() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := os.Remove(g.ballastPath())
	g.spent = true
	return err == nil
}

// restore takes the ballast back if there is ample space.
func (g *diskGuard) restore() {
	free := g.freeNow(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.spent || free < g.minFreeBytes+2*g.ballastBytes {
		return
	}
	f, err := os.OpenFile(g.ballastPath(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return // tried again by the keeper's next round
	}
	err = errors.Join(f.Close(), g.preallocate(g.ballastPath(), g.ballastBytes))
	if err != nil {
		_ = os.Remove(g.ballastPath())
		return
	}
	g.spent = false
}

// sizeText writes a byte count for people.
func sizeText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
}
