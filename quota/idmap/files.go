package idmap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// file is an open file of the map.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes the content durable, and its length.
	Sync() error
	// Reserve sees to blocks on disk for the first size bytes, without changing
	// the length. Not every system can; that is no error.
	Reserve(size int64) error
	Size() (int64, error)
}

// fsys is the map's directory, which tests make fail.
type fsys interface {
	create(name string) (file, error) // empty, for reading and writing
	open(name string) (file, error)   // for reading and writing
	rename(from, to string) error
	remove(name string) error
	list() ([]string, error)
	syncDir() error
}

// osDir is a directory of the operating system.
type osDir string

func (d osDir) path(name string) string { return filepath.Join(string(d), name) }

func (d osDir) create(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDir) open(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDir) rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }
func (d osDir) remove(name string) error     { return os.Remove(d.path(name)) }

func (d osDir) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d osDir) syncDir() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return syncDirectory(f)
}

// osFile is a file of the operating system. Sync is the system's cheapest that
// keeps the promise.
type osFile struct{ *os.File }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Reserve(size int64) error { return reserve(f.File, size) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readAll reads a whole file of at most maxBytes. What cannot be read is zero,
// and an error.
func readAll(f file, maxBytes int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxBytes {
		size, err = maxBytes, fmt.Errorf("%d bytes, more than can be", size)
	}
	const piece = 1 << 20
	content := make([]byte, size)
	for at := int64(0); at < size; at += piece {
		_, readErr := f.ReadAt(content[at:min(at+piece, size)], at)
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			err = readErr
		}
	}
	return content, err
}
