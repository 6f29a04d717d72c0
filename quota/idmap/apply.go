package idmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
)

// Batch is what is applied together or not at all.
type Batch struct {
	Keys    []Key   // at most MaxBatch; of two that are the same the later counts
	Entries []Entry // one for each key; the zero Entry deletes
	// Records are small values by name, held in memory; nil deletes. Names have
	// at most 1024 bytes, all records together MaxRecordBytes.
	Records map[string][]byte
	// Sync makes Apply return only when the batch and all before it are on
	// disk. Without it a batch survives the end of the process, and perhaps not
	// that of the machine.
	Sync bool
}

// request is a batch and what became of it.
type request struct {
	batch *Batch
	done  bool // under lead
	err   error
}

// writer is the log being written.
type writer struct {
	f      file // nil: there is no log that may be appended to
	number uint64
	size   int64
	span   int64 // bytes of older logs with batches that are in active
	seq    uint64
	// durable is the newest batch on disk for certain.
	durable  uint64
	mark     bool  // the log does not name this boot yet
	reserved int64 // bytes of the log that have blocks on disk
	skip     int   // commits until a table is tried to be frozen again, after a failure
	buf      []byte
}

func (w *writer) spanBytes() int64 { return w.size + w.span }

// oldLog is a log that is to go once its batches are in runs.
type oldLog struct {
	number  uint64
	damaged bool // it is set aside, not removed
}

const (
	maxGroupBytes  = 4 << 20 // committed at once, and one batch
	rotateInterval = 256     // commits
)

// Apply applies a batch: all of it or, when it returns an error, nothing.
// Batches take effect one after the other, and every Get sees all of a batch
// or nothing. Batches that wait at the same time are written, and synced,
// together. The batch may be reused after the return.
//
// After a disk error the map tries again with the next batch. A batch that
// failed while it was synced can be there after a power cut all the same.
func (m *Map) Apply(b *Batch) error {
	if len(b.Keys) != len(b.Entries) {
		return fmt.Errorf("idmap: batch of %d keys has %d entries", len(b.Keys), len(b.Entries))
	}
	if len(b.Keys) > MaxBatch {
		return fmt.Errorf("%w: %d keys, the bound is %d", ErrTooLarge, len(b.Keys), MaxBatch)
	}
	for name := range b.Records {
		if len(name) > maxRecordName {
			return fmt.Errorf("%w: the name of a record has %d bytes, the bound is %d", ErrTooLarge, len(name), maxRecordName)
		}
	}
	r := &request{batch: b}
	m.qmu.Lock()
	m.waiting = append(m.waiting, r)
	m.qmu.Unlock()
	m.lead.Lock()
	defer m.lead.Unlock()
	for !r.done { // else another goroutine led
		m.commit(m.nextGroup())
	}
	return r.err
}

// Sync makes everything durable that was applied before.
func (m *Map) Sync() error { return m.Apply(&Batch{Sync: true}) }

// nextGroup takes what is committed at once.
func (m *Map) nextGroup() []*request {
	m.qmu.Lock()
	defer m.qmu.Unlock()
	size, n := 0, 0
	for n < len(m.waiting) && size < maxGroupBytes {
		b := m.waiting[n].batch
		size += recordHeaderSize + len(b.Keys)*entrySize
		for name, value := range b.Records {
			size += len(name) + len(value)
		}
		n++
	}
	group := m.waiting[:n:n]
	if m.waiting = m.waiting[n:]; len(m.waiting) == 0 {
		m.waiting = nil
	}
	return group
}

// commit writes the group to the log, syncs if one of it wants that, and only
// then lets it be seen.
func (m *Map) commit(group []*request) {
	err := m.ready()
	defer func() { m.logBytes.Store(m.w.spanBytes()) }()
	buf, seq, sync := m.w.buf[:0], m.w.seq, false
	if err == nil && m.w.mark {
		seq++
		buf = appendRecord(buf, seq, m.w.durable, &body{kind: kindMark, mark: markOpen, boot: m.cfg.boot})
	}
	sizes := recordSizes{m: m}
	for _, r := range group {
		r.done, r.err = true, err
		if err != nil || len(r.batch.Keys)+len(r.batch.Records) > 0 && !m.admit(r, &sizes) {
			continue
		}
		if len(r.batch.Keys)+len(r.batch.Records) > 0 {
			seq++
			buf = appendRecord(buf, seq, m.w.durable, batchBody(r.batch))
		}
		sync = sync || r.batch.Sync
	}
	if m.w.buf = buf; cap(buf) > maxGroupBytes {
		m.w.buf = nil
	}
	if err != nil {
		return
	}
	if err := m.write(buf, seq, sync); err != nil {
		for _, r := range group {
			if r.err == nil {
				r.err = err
			}
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range group {
		if r.err == nil {
			m.take(r.batch)
		}
	}
}

func batchBody(b *Batch) *body {
	entries := make([]byte, 0, len(b.Keys)*entrySize)
	for i, k := range b.Keys {
		entries = appendEntry(entries, k, b.Entries[i])
	}
	return &body{kind: kindBatch, entries: entries, records: b.Records}
}

// take makes a batch visible; mu is held.
func (m *Map) take(b *Batch) {
	for i, k := range b.Keys {
		m.active[k] = b.Entries[i]
	}
	for name, value := range b.Records {
		m.setRecord(name, value)
	}
}

func (m *Map) setRecord(name string, value []byte) {
	if old, ok := m.records[name]; ok {
		m.recordBytes -= len(name) + len(old)
		delete(m.records, name)
	}
	if value != nil {
		m.recordBytes += len(name) + len(value)
		m.records[name] = append([]byte{}, value...)
	}
}

// recordSizes follows the bytes of records through a group.
type recordSizes struct {
	m       *Map
	started bool
	total   int
	sizes   map[string]int // of names in the group, with the name; 0 is none
}

// add reports whether the records fit, and counts them if they do.
func (s *recordSizes) add(records map[string][]byte) bool {
	if len(records) == 0 {
		return true
	}
	if !s.started {
		s.started, s.total, s.sizes = true, s.m.recordBytes, map[string]int{}
	}
	total := s.total
	next := make(map[string]int, len(records))
	for name, value := range records {
		before, ok := s.sizes[name]
		if old, there := s.m.records[name]; !ok && there {
			before = len(name) + len(old)
		}
		if value != nil {
			next[name] = len(name) + len(value)
		} else {
			next[name] = 0
		}
		total += next[name] - before
	}
	if total > MaxRecordBytes && total > s.total { // what makes it less always may
		return false
	}
	s.total = total
	maps.Copy(s.sizes, next)
	return true
}

// admit reports whether there is room for a batch, or sets its error.
func (m *Map) admit(r *request, sizes *recordSizes) bool {
	switch {
	case m.full():
		m.wake()
		r.err = ErrFull
	case !sizes.add(r.batch.Records):
		r.err = fmt.Errorf("%w: all records together may have %d bytes", ErrTooLarge, MaxRecordBytes)
	}
	return r.err == nil
}

// maxLogBytes is when a log is closed though the table is not full. A log
// begins with all records.
func (m *Map) maxLogBytes() int64 {
	return max(int64(m.cfg.MemEntries)*logBytesPerEntry, minLogBytes) + 4*int64(m.recordBytes)
}

// full says that memory or log have grown to their bound.
func (m *Map) full() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := len(m.active)
	if m.frozen != nil {
		n += len(m.frozen.entries)
	}
	return n >= fullFactor*m.cfg.MemEntries || m.w.spanBytes() >= fullFactor*m.maxLogBytes()
}

// write appends to the log. When it fails the log is as before, or is not
// used again.
func (m *Map) write(buf []byte, seq uint64, sync bool) error {
	w := &m.w
	if len(buf) > 0 {
		w.reserve(w.size + int64(len(buf)))
		if _, err := w.f.WriteAt(buf, w.size); err != nil {
			w.reserved = 0 // the cut below gives it back
			if w.f.Truncate(w.size) != nil {
				m.abandon()
			}
			return fmt.Errorf("idmap: write log: %w", err)
		}
	}
	if sync && seq > w.durable {
		if err := w.f.Sync(); err != nil {
			// What the system had not written it may have forgotten: another
			// sync of this file would have success and prove nothing.
			_ = w.f.Truncate(w.size)
			m.abandon()
			return fmt.Errorf("idmap: sync log: %w", err)
		}
		w.durable = seq
	}
	w.size += int64(len(buf))
	w.seq, w.mark = seq, false
	return nil
}

// logAhead is how much of a log has blocks on disk before it is written: a full
// disk must not keep the ledger from taking what empties it.
const logAhead = 1 << 20

// reserve sees to blocks ahead of a log that is to be size bytes long. Without
// them the write itself finds out.
func (w *writer) reserve(size int64) {
	if size+logAhead/2 <= w.reserved {
		return
	}
	if w.f.Reserve(size+logAhead) == nil {
		w.reserved = size + logAhead
	}
}

// abandon gives up the log for appending; ready starts another with all that
// is in memory.
func (m *Map) abandon() {
	w := &m.w
	if w.f == nil {
		return
	}
	_ = w.f.Close()
	w.f = nil
	w.span += w.size
	w.size = 0
	m.addOldLog(oldLog{number: w.number})
}

func (m *Map) addOldLog(l oldLog) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.oldLogs = append(m.oldLogs, l)
}

// ready sees to a log that can be appended to, and to room in memory.
func (m *Map) ready() error {
	m.mu.RLock()
	closed, frozen := m.closed, m.frozen
	m.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	if m.w.f == nil {
		if err := m.startLog(kindFull); err != nil {
			return err
		}
	}
	switch {
	case len(m.active) < m.cfg.MemEntries && m.w.spanBytes() < m.maxLogBytes():
		return nil
	case frozen != nil:
		m.wake()
		return nil
	case m.w.skip > 0:
		m.w.skip--
		return nil
	}
	if err := m.rotate(); err != nil {
		m.w.skip = rotateInterval
		m.log.Warn("cannot start another log for the ledger; going on with the old one", "error", err)
	}
	if m.w.f == nil {
		return m.startLog(kindFull)
	}
	return nil
}

// rotate freezes the table and starts a log for the next.
func (m *Map) rotate() error {
	w := &m.w
	if w.durable < w.seq {
		if err := w.f.Sync(); err != nil {
			m.abandon()
			return fmt.Errorf("idmap: sync log: %w", err)
		}
		w.durable = w.seq
	}
	last := w.seq
	if err := m.startLog(kindSnapshot); err != nil {
		return err
	}
	w.span = 0
	m.mu.Lock()
	m.frozen = &table{entries: m.active, records: maps.Clone(m.records), lastSeq: last, nextLog: w.number}
	m.active = make(map[Key]Entry)
	m.mu.Unlock()
	m.wake()
	return nil
}

// startLog makes another log and appends to it from now on. What is in the
// logs before, and of a kindFull what is in memory too, is durable when it
// returns nil.
func (m *Map) startLog(kind byte) error {
	w := &m.w
	number := m.nextFile.Add(1) - 1
	snapshot := body{kind: kind, records: m.records}
	if kind == kindFull {
		snapshot.entries = make([]byte, 0, len(m.active)*entrySize)
		for k, e := range m.active {
			snapshot.entries = appendEntry(snapshot.entries, k, e)
		}
	}
	seq := w.seq + 2
	buf := logHeader{number: number, firstSeq: seq - 1}.append(nil)
	buf = appendRecord(buf, seq-1, w.durable, &snapshot)
	buf = appendRecord(buf, seq, w.durable, &body{kind: kindMark, mark: markOpen, boot: m.cfg.boot})
	name := fileName(logPrefix, number)
	if err := writeNew(m.fs, name, buf); err != nil {
		return fmt.Errorf("idmap: write a new log: %w", err)
	}
	// From here on the new log may be there after a crash, and would end the
	// old one: nothing may be appended to that any more.
	m.abandon()
	err := publish(m.fs, name)
	if err == nil {
		w.f, err = m.fs.open(name)
	}
	if err != nil {
		w.f = nil
		m.addOldLog(oldLog{number: number})
		return fmt.Errorf("idmap: put a new log in place: %w", err)
	}
	w.number, w.size = number, int64(len(buf))
	w.seq, w.durable, w.mark, w.skip, w.reserved = seq, seq, false, 0, 0
	w.reserve(w.size)
	return nil
}

// writeNew writes a file under its name while it is new, and syncs it. It is
// closed again, as not every system renames open files.
func writeNew(fs fsys, name string, content []byte) error {
	f, err := fs.create(name + newSuffix)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = fs.remove(name + newSuffix)
	}
	return err
}

// publish gives a new file its name. When it fails, the file may be there
// under either name.
func publish(fs fsys, name string) error {
	if err := fs.rename(name+newSuffix, name); err != nil {
		return err
	}
	return fs.syncDir()
}

// sealLog makes the log durable and, if all is well, marks it closed.
func (m *Map) sealLog() error {
	w := &m.w
	if w.f == nil { // given up after an error: another chance
		if err := m.startLog(kindFull); err != nil {
			return err
		}
	}
	if len(m.Problems()) > 0 {
		return m.write(nil, w.seq, true)
	}
	seal := body{kind: kindMark, mark: markClosed, boot: m.cfg.boot}
	return m.write(appendRecord(nil, w.seq+1, w.durable, &seal), w.seq+1, true)
}

// wake tells the background that there is work.
func (m *Map) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// Record returns a copy of a record's value, nil if there is none.
func (m *Map) Record(name string) []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return bytes.Clone(m.records[name])
}
