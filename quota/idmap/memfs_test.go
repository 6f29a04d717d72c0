package idmap

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// memDir is a directory in memory that can fail, and be cut off from power.
type memDir struct {
	mu      sync.Mutex
	names   map[string]*memInode
	durable map[string]*memInode
	ops     int           // that change something, so far
	failAt  int           // the operation that fails; 0 is none
	forever bool          // and all after it
	err     error         // how; nil is ENOSPC
	block   chan struct{} // syncs wait for it; nil is no wait
	syncing chan struct{} // is told of a sync that waits
	opens   int           // opens that fail with EMFILE from now on
	reads   int           // reads that fail with EIO from now on
}

type memInode struct{ now, durable []byte }

func newMemDir() *memDir {
	return &memDir{names: map[string]*memInode{}, durable: map[string]*memInode{}}
}

// op counts an operation, and says whether it fails; mu is held.
func (d *memDir) op() error {
	d.ops++
	if d.failAt == 0 || d.ops < d.failAt || d.ops > d.failAt && !d.forever {
		return nil
	}
	if d.err != nil {
		return d.err
	}
	return syscall.ENOSPC
}

func (d *memDir) create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return nil, err
	}
	n := &memInode{}
	d.names[name] = n
	return &memFile{d: d, n: n}, nil
}

func (d *memDir) open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opens > 0 {
		d.opens--
		return nil, syscall.EMFILE
	}
	n := d.names[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{d: d, n: n}, nil
}

func (d *memDir) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	n := d.names[from]
	if n == nil {
		return fs.ErrNotExist
	}
	delete(d.names, from)
	d.names[to] = n
	return nil
}

func (d *memDir) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	if d.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.names, name)
	return nil
}

func (d *memDir) list() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (d *memDir) syncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.durable = maps.Clone(d.names)
	return nil
}

// killed is what another process finds: all that was written.
func (d *memDir) killed() *memDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newMemDir()
	for name, n := range d.names {
		next.names[name] = &memInode{slices.Clone(n.now), slices.Clone(n.durable)}
	}
	for name, n := range d.durable {
		// An inode under one name in both is one inode.
		if d.names[name] == n {
			next.durable[name] = next.names[name]
		} else {
			next.durable[name] = &memInode{slices.Clone(n.now), slices.Clone(n.durable)}
		}
	}
	return next
}

// powerCut is what another process finds after the machine was off: what was
// synced, and of the rest any pages. Of names, all or only the synced.
func (d *memDir) powerCut(r *rand.Rand) *memDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.durable
	if r.IntN(2) == 0 {
		names = d.names
	}
	next := newMemDir()
	for name, n := range names {
		content := slices.Clone(n.durable)
		if size := len(n.now); size > len(content) {
			content = append(content, make([]byte, r.IntN(size-len(content)+1))...)
		} else if r.IntN(2) == 0 {
			content = content[:size]
		}
		const page = 64 // small, for small tests
		for at := 0; at < len(content); at += page {
			if r.IntN(2) == 0 && at < len(n.now) {
				copy(content[at:min(at+page, len(content))], n.now[at:])
			}
		}
		next.names[name] = &memInode{content, slices.Clone(content)}
	}
	next.durable = maps.Clone(next.names)
	return next
}

type memFile struct {
	d      *memDir
	n      *memInode
	closed bool
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	if f.d.reads > 0 {
		f.d.reads--
		return 0, syscall.EIO
	}
	if off >= int64(len(f.n.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	err := f.d.op()
	if err != nil {
		p = p[:len(p)/2]
	}
	if grow := int(off) + len(p) - len(f.n.now); grow > 0 {
		f.n.now = append(f.n.now, make([]byte, grow)...)
	}
	return copy(f.n.now[off:], p), err
}

func (f *memFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	if int(size) > len(f.n.now) {
		return errors.New("memFile: truncate beyond the end")
	}
	f.n.now = f.n.now[:size:size]
	return nil
}

func (f *memFile) Reserve(int64) error { return nil }

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	block := f.d.block
	f.d.mu.Unlock()
	if block != nil {
		f.d.syncing <- struct{}{}
		<-block
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	f.n.durable = slices.Clone(f.n.now)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.now)), nil
}

func (f *memFile) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	return nil
}
