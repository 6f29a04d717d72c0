package idmap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// run is an immutable sorted file of entries.
type run struct {
	f      file
	foot   foot
	fences []byte // the first key of each block
	bytes  int64
	refs   atomic.Int32 // one of the map while it is used, one for each reader
	// damaged says that something in it could not be read: it is set aside
	// when it is merged, not removed.
	damaged atomic.Bool
	retired atomic.Bool // no longer in use: its file goes with the last reader
	problem func(string)
}

func (r *run) name() string { return fileName(runPrefix, r.foot.number) }

// release gives back a reference, and reports how many are left; the last
// closes the file.
func (r *run) release() int32 {
	left := r.refs.Add(-1)
	if left == 0 {
		_ = r.f.Close()
	}
	return left
}

func (r *run) fence(i int) []byte { return r.fences[i*keySize : (i+1)*keySize] }

// blockBuffers are for reading one block.
var blockBuffers = sync.Pool{New: func() any { return new([blockSize]byte) }}

// find looks a key up.
func (r *run) find(key []byte) (e Entry, found bool, err error) {
	if bytes.Compare(key, r.fence(0)) < 0 || bytes.Compare(key, r.foot.last[:]) > 0 {
		return e, false, nil
	}
	n := int(r.foot.blocks)
	i := sort.Search(n, func(i int) bool { return bytes.Compare(r.fence(i), key) > 0 }) - 1
	buf := blockBuffers.Get().(*[blockSize]byte)
	defer blockBuffers.Put(buf)
	_, err = r.f.ReadAt(buf[:], int64(i)*blockSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return e, false, fmt.Errorf("idmap: read %s: %w", r.name(), err)
	}
	entries, ok := openBlock(buf[:], uint64(i))
	if !ok || err != nil {
		r.blockDamaged(i)
		return e, false, nil
	}
	count := len(entries) / entrySize
	at := sort.Search(count, func(j int) bool { return bytes.Compare(entries[j*entrySize:j*entrySize+keySize], key) >= 0 })
	if at == count || !bytes.Equal(entries[at*entrySize:at*entrySize+keySize], key) {
		return e, false, nil
	}
	_, e = decodeEntry(entries[at*entrySize : (at+1)*entrySize])
	return e, true, nil
}

// blockDamaged notes that a block does not say what was written; its entries
// count as unknown.
func (r *run) blockDamaged(i int) {
	r.damaged.Store(true)
	r.problem(fmt.Sprintf("%s: block %d is damaged; up to %d entries are forgotten", r.name(), i, blockEntries))
}

// openRun opens a run that the manifest names. It is an error if it cannot be
// opened now; ok is false if there is nothing in it that can be used.
func openRun(m *Map, info runInfo) (r *run, ok bool, err error) {
	f, err := m.fs.open(fileName(runPrefix, info.number))
	if err != nil {
		return nil, false, err
	}
	r = &run{f: f, problem: m.problem}
	r.refs.Store(1)
	if r.bytes, err = f.Size(); err == nil && r.load(info.number) {
		return r, true, nil
	}
	r.foot = foot{number: info.number, entries: info.entries, firstSeq: info.firstSeq, lastSeq: info.lastSeq}
	if info.lastSeq == 0 || !r.salvage() { // without a place among the others it is of no use
		_ = f.Close()
		return nil, false, nil
	}
	r.damaged.Store(true)
	m.problem(r.name() + ": its end is damaged; what its blocks say is used")
	return r, true, nil
}

// load reads the foot and the fences.
func (r *run) load(number uint64) bool {
	if r.bytes < footSize {
		return false
	}
	b := make([]byte, footSize)
	if _, err := r.f.ReadAt(b, r.bytes-footSize); err != nil {
		return false
	}
	var ok bool
	if r.foot, ok = parseFoot(b); !ok || r.foot.number != number {
		return false
	}
	if int64(r.foot.blocks)*(blockSize+keySize)+footSize != r.bytes {
		return false
	}
	r.fences = make([]byte, r.foot.blocks*keySize)
	if _, err := r.f.ReadAt(r.fences, int64(r.foot.blocks)*blockSize); err != nil {
		return false
	}
	return checksum(r.fences) == r.foot.fenceCRC
}

// salvage makes fences from the blocks that can be read.
func (r *run) salvage() bool {
	var last [keySize]byte // of the blocks so far
	blocks, usable := 0, false
	buf := make([]byte, blockSize)
	r.fences = nil
	for i := 0; int64(i+1)*blockSize <= r.bytes; i++ {
		_, err := r.f.ReadAt(buf, int64(i)*blockSize)
		entries, ok := openBlock(buf, uint64(i))
		if err != nil && !errors.Is(err, io.EOF) || !ok || usable && bytes.Compare(entries[:keySize], last[:]) <= 0 {
			r.fences = append(r.fences, last[:]...)
			continue
		}
		r.fences = append(r.fences, entries[:keySize]...)
		copy(last[:], entries[len(entries)-entrySize:])
		blocks, usable = i+1, true
	}
	r.fences = r.fences[:blocks*keySize]
	r.foot.blocks, r.foot.last = uint64(blocks), last
	return usable
}

// source yields encoded entries in order of their keys.
type source interface {
	// next returns the next entry, nil at the end. It is valid until the next
	// call.
	next() ([]byte, error)
}

// tableSource yields a sorted table.
type tableSource struct{ entries [][entrySize]byte }

func newTableSource(entries [][entrySize]byte) *tableSource {
	slices.SortFunc(entries, func(a, b [entrySize]byte) int { return bytes.Compare(a[:keySize], b[:keySize]) })
	return &tableSource{entries: entries}
}

func (s *tableSource) next() ([]byte, error) {
	if len(s.entries) == 0 {
		return nil, nil
	}
	e := s.entries[0][:]
	s.entries = s.entries[1:]
	return e, nil
}

const readAhead = 64 // blocks

// runSource yields the entries of a run from a key on.
type runSource struct {
	r       *run
	block   int // the next to open
	buf     []byte
	first   int // block at the start of buf
	entries []byte
	from    []byte // entries with lower keys are left out
}

// newRunSource begins at the first key that is not less than from.
func newRunSource(r *run, from []byte) *runSource {
	s := &runSource{r: r, from: from}
	if i := sort.Search(int(r.foot.blocks), func(i int) bool { return bytes.Compare(r.fence(i), from) > 0 }); i > 0 {
		s.block = i - 1
	}
	return s
}

func (s *runSource) next() ([]byte, error) {
	for {
		for len(s.entries) > 0 {
			e := s.entries[:entrySize]
			s.entries = s.entries[entrySize:]
			if s.from == nil || bytes.Compare(e[:keySize], s.from) >= 0 {
				s.from = nil
				return e, nil
			}
		}
		if s.block >= int(s.r.foot.blocks) {
			return nil, nil
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
		at := (s.block - s.first) * blockSize
		entries, ok := openBlock(s.buf[at:at+blockSize], uint64(s.block))
		if !ok {
			s.r.blockDamaged(s.block)
		}
		s.entries = entries
		s.block++
	}
}

// fill sees to it that the next block is in buf.
func (s *runSource) fill() error {
	if s.buf != nil && s.block < s.first+len(s.buf)/blockSize {
		return nil
	}
	n := min(readAhead, int(s.r.foot.blocks)-s.block)
	if cap(s.buf) < n*blockSize {
		s.buf = make([]byte, n*blockSize)
	}
	s.buf, s.first = s.buf[:n*blockSize], s.block
	clear(s.buf)
	if _, err := s.r.f.ReadAt(s.buf, int64(s.block)*blockSize); err != nil && !errors.Is(err, io.EOF) {
		s.buf = nil
		return fmt.Errorf("idmap: read %s: %w", s.r.name(), err)
	}
	return nil
}

// merger yields the newest entry of each key of several sources.
type merger struct {
	sources []source // newest first
	heads   [][]byte // nil: at its end
	out     [entrySize]byte
}

func newMerger(sources []source) (*merger, error) {
	m := &merger{sources: sources, heads: make([][]byte, len(sources))}
	for i, s := range sources {
		var err error
		if m.heads[i], err = s.next(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *merger) next() ([]byte, error) {
	var least []byte
	for _, h := range m.heads {
		if h != nil && (least == nil || bytes.Compare(h[:keySize], least[:keySize]) < 0) {
			least = h
		}
	}
	if least == nil {
		return nil, nil
	}
	copy(m.out[:], least)
	for i, h := range m.heads {
		if h == nil || !bytes.Equal(h[:keySize], m.out[:keySize]) {
			continue
		}
		var err error
		if m.heads[i], err = m.sources[i].next(); err != nil {
			return nil, err
		}
	}
	return m.out[:], nil
}

// runWriter writes a run.
type runWriter struct {
	f      file
	at     int64
	buf    []byte // whole blocks, and the one being filled
	n      int    // entries in that
	synced int64
	foot   foot
	fences []byte
}

const (
	writeBehind = 64 * blockSize
	syncEvery   = 16 << 20 // so that the last sync is not of a gigabyte
)

func (w *runWriter) add(e []byte) error {
	if w.n == blockEntries {
		if err := w.endBlock(); err != nil {
			return err
		}
	}
	if w.n == 0 {
		w.fences = append(w.fences, e[:keySize]...)
		w.buf = append(w.buf, make([]byte, blockSize)...)
	}
	block := w.buf[len(w.buf)-blockSize:]
	copy(block[w.n*entrySize:], e)
	copy(w.foot.last[:], e)
	w.n++
	w.foot.entries++
	return nil
}

func (w *runWriter) endBlock() error {
	sealBlock(w.buf[len(w.buf)-blockSize:], w.n, w.foot.blocks)
	w.foot.blocks++
	w.n = 0
	if len(w.buf) < writeBehind {
		return nil
	}
	return w.flush()
}

func (w *runWriter) flush() error {
	if _, err := w.f.WriteAt(w.buf, w.at); err != nil {
		return err
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	if w.at-w.synced < syncEvery {
		return nil
	}
	w.synced = w.at
	return w.f.Sync()
}

// finish completes the file and makes its content durable.
func (w *runWriter) finish() error {
	if w.n > 0 {
		if err := w.endBlock(); err != nil {
			return err
		}
	}
	w.foot.fenceCRC = checksum(w.fences)
	w.buf = append(w.buf, w.fences...)
	w.buf = w.foot.append(w.buf)
	if err := w.flush(); err != nil {
		return err
	}
	return w.f.Sync()
}
