//go:build !linux

package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// preallocate writes nothing where the system has no fallocate that this
// package knows: the free-space floor alone keeps writes from a full disk.
func preallocate(string, int64) error { return nil }

// isNoSpace reports whether err says the file system is exhausted.
func isNoSpace(err error) bool {
	return errors.Is(err, errNoSpace) || errors.Is(err, syscall.ENOSPC)
}

// diskBytes is the size of the files below dir; sparse parts count as used.
func diskBytes(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return total, nil
}

// syncDir makes the directory's entries durable where the system can.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync: %w", err)
	}
	defer func() { _ = f.Close() }()
	_ = f.Sync() // not supported for directories everywhere
	return nil
}

// fileSystemBytes is the size of the file system of dir, 0 if unknown.
func fileSystemBytes(string) int64 { return 0 }

// isTransientOpen reports whether opening failed for lack of a resource that
// comes back.
func isTransientOpen(err error) bool { return errors.Is(err, fs.ErrPermission) || isNoSpace(err) }
