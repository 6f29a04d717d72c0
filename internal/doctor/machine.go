package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"weir/queue"
)

const (
	// syncWrites and syncBytes are how much is written to measure the disk, and
	// syncTime how long at most.
	syncWrites, syncBytes = 16, 4 << 10
	syncTime              = 2 * time.Second

	// slowSync is the time of a sync from which on single applications notice
	// it; spinning disks take 10 ms.
	slowSync = 50 * time.Millisecond

	// otherFiles is how many files weir needs open besides connections.
	otherFiles = 512
)

// dataDir checks that data can be written where it is to be kept.
func (v *visit) dataDir(context.Context) []Check {
	dir := v.cfg.DataDir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := nearest(dir)
		if err := writable(parent); err != nil {
			return fail("", fmt.Sprintf("%s does not exist, and %s cannot be written: %v", dir, parent, err),
				"Create it for the user that runs weir, or choose another one with --data-dir.")
		}
		return good(dir + " does not exist yet; weir will create it")
	case err != nil:
		return fail("", err.Error(), "Let the user that runs weir reach it, or choose another one with --data-dir.")
	case !info.IsDir():
		return fail("", dir+" is no directory", "Move it away, or choose another one with --data-dir.")
	}
	if err := writable(dir); err != nil {
		return fail("", fmt.Sprintf("%s cannot be written: %v", dir, err),
			"Give it to the user that runs weir, or choose another one with --data-dir.")
	}
	return good(dir)
}

// nearest is the closest directory above path that exists.
func nearest(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

func (v *visit) diskSpace(context.Context) []Check {
	free, floor, err := queue.Room(nearest(v.cfg.DataDir), v.cfg.MinFreeBytes)
	if err != nil {
		return fail("", err.Error(), "")
	}
	room := free - floor
	switch {
	case room <= 0:
		return fail("", fmt.Sprintf("%s free, and weir leaves %s: no data is taken", sizeText(free), sizeText(floor)),
			"Make room on the file system, or lower buffer_min_free.")
	case room < v.cfg.BufferMaxBytes:
		return warn("", fmt.Sprintf("%s free, of which %s can be used; the buffer may take %s", sizeText(free), sizeText(room), sizeText(v.cfg.BufferMaxBytes)),
			"Nothing, unless an outage is to be ridden out for long: then make room, or lower buffer_max to what there is.")
	}
	return good(fmt.Sprintf("%s free; the buffer may take %s", sizeText(free), sizeText(v.cfg.BufferMaxBytes)))
}

// diskSync measures how long a small write takes to be on disk.
func (v *visit) diskSync(ctx context.Context) []Check {
	if _, err := os.Stat(v.cfg.DataDir); err != nil {
		return skip("skipped: " + v.cfg.DataDir + " does not exist yet")
	}
	took, err := measureSync(ctx, v.cfg.DataDir)
	if err != nil || len(took) == 0 {
		return fail("", fmt.Sprintf("a small file cannot be written and synced: %v", err), "Make room, or mend the file system.")
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	seen := fmt.Sprintf("a sync takes %s, %s at worst (%d tried)", msText(median), msText(worst), len(took))
	if median >= slowSync {
		return warn("", seen, "Every acknowledgement waits for a sync: put data_dir on a local disk, not a network share.")
	}
	return good(seen)
}

// measureSync writes into a file of its own in dir, and removes it.
func measureSync(ctx context.Context, dir string) (took []time.Duration, err error) {
	file, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	block := make([]byte, syncBytes)
	began := time.Now()
	for len(took) < syncWrites && ctx.Err() == nil && time.Since(began) < syncTime {
		start := time.Now()
		if _, err := file.Write(block); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, ctx.Err()
}

func (v *visit) openFiles(context.Context) []Check {
	limit, known := openFileLimit()
	if !known {
		return skip("skipped: the limit cannot be read on this system")
	}
	need := uint64(2*v.cfg.MaxConnections + otherFiles)
	switch {
	case limit < otherFiles:
		return fail("", fmt.Sprintf("%d open files allowed; weir's store alone may need %d", limit, otherFiles),
			"Raise the hard limit of open files: ulimit -n, LimitNOFILE= in systemd, ulimits in compose.")
	case limit < need:
		return warn("", fmt.Sprintf("%d open files allowed; limits.max_connections lets %d callers connect to each listener", limit, v.cfg.MaxConnections),
			fmt.Sprintf("With very many callers, raise the hard limit of open files to %d, or lower limits.max_connections.", need))
	}
	return good(fmt.Sprintf("%d open files allowed", limit))
}

// sizeText writes a size in whole units.
func sizeText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", max(n, 0))
	}
}

// msText writes a short time in milliseconds.
func msText(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
