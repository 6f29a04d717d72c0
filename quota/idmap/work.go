package idmap

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// mergeRatio is how many times larger than all newer runs together a run
	// is at least. So there are about log5(entries / MemEntries) of them, five
	// for 50 million, and an entry is rewritten about five times for each.
	mergeRatio = 4
	// workInterval is after how many entries a merge looks up from its work.
	workInterval = 65536
)

var errStopped = errors.New("idmap: closing")

// background writes runs and merges them until Close.
func (m *Map) background() {
	for {
		select {
		case <-m.stop:
			return
		case <-m.kick:
		}
		more, err := true, error(nil)
		for more && err == nil {
			more, err = m.work()
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, errStopped) {
			m.log.Warn("cannot write the ledger's sorted files; trying again", "error", err)
		}
		pause := time.NewTimer(m.cfg.retryAfter)
		select {
		case <-m.stop:
			pause.Stop()
			return
		case <-pause.C:
		}
		m.wake()
	}
}

// work does the most urgent piece of background work, and reports whether
// there may be more.
func (m *Map) work() (more bool, err error) {
	m.wmu.Lock()
	defer m.wmu.Unlock()
	m.reap()
	m.mu.RLock()
	frozen, runs := m.frozen, m.runs
	m.mu.RUnlock()
	if frozen != nil {
		return true, m.flush(frozen)
	}
	span, bottom := mergeSpan(runs)
	if m.spanCap > 0 && len(span) > m.spanCap {
		span, bottom = span[:m.spanCap], false
	}
	if len(span) < 2 {
		return false, nil
	}
	if err := m.merge(span, bottom); err != nil {
		m.spanCap = max(2, len(span)/2) // perhaps there is room for a smaller one
		return true, err
	}
	m.spanCap = 0
	return true, nil
}

// mergeSpan returns neighbouring runs that are to become one, and whether no
// older one is beyond them.
func mergeSpan(runs []*run) (span []*run, bottom bool) {
	for from := range runs {
		sum, to := runs[from].bytes, from+1
		for to < len(runs) && runs[to].bytes < mergeRatio*sum {
			sum += runs[to].bytes
			to++
		}
		if to-from >= 2 {
			return runs[from:to], to == len(runs)
		}
	}
	return nil, false
}

// flush writes the frozen table as the newest run; wmu is held.
func (m *Map) flush(t *table) error {
	entries := make([][entrySize]byte, 0, len(t.entries))
	for k, e := range t.entries {
		entries = append(entries, [entrySize]byte(appendEntry(make([]byte, 0, entrySize), k, e)))
	}
	m.mu.RLock()
	bottom := len(m.runs) == 0
	m.mu.RUnlock()
	r, err := m.writeRun([]source{newTableSource(entries)}, runOptions{
		firstSeq: m.manifest.flushedSeq + 1, lastSeq: t.lastSeq, bottom: bottom,
	})
	if err != nil {
		return fmt.Errorf("write a run: %w", err)
	}
	next := m.manifest
	next.firstLog, next.flushedSeq, next.records = t.nextLog, t.lastSeq, t.records
	if err := m.install(next, r, nil); err != nil {
		return err
	}
	m.removeOldLogs(t.nextLog)
	return nil
}

// merge makes one run of several; wmu is held.
func (m *Map) merge(span []*run, bottom bool) error {
	var sources []source
	for _, r := range span {
		sources = append(sources, newRunSource(r, nil))
	}
	r, err := m.writeRun(sources, runOptions{
		firstSeq: span[len(span)-1].foot.firstSeq, lastSeq: span[0].foot.lastSeq, bottom: bottom, merging: true,
	})
	if err != nil {
		return fmt.Errorf("merge runs: %w", err)
	}
	return m.install(m.manifest, r, span)
}

// runOptions say what a run is made of.
type runOptions struct {
	firstSeq, lastSeq uint64
	bottom            bool // there is nothing older for a deletion to hide
	merging           bool // a table frozen meanwhile is written in between
}

// writeRun writes what the sources say as a run, nil if that is nothing. The
// run's file is in place and durable, but for its name, which the manifest's
// sync of the directory takes along.
func (m *Map) writeRun(sources []source, opt runOptions) (*run, error) {
	merged, err := newMerger(sources)
	if err != nil {
		return nil, err
	}
	number := m.nextFile.Add(1) - 1
	name := fileName(runPrefix, number)
	f, err := m.fs.create(name + newSuffix)
	if err != nil {
		return nil, err
	}
	w := &runWriter{f: f, foot: foot{number: number, firstSeq: opt.firstSeq, lastSeq: opt.lastSeq}}
	if err = m.fillRun(w, merged, opt); err == nil && w.foot.entries > 0 {
		err = w.finish()
	}
	if err = errors.Join(err, f.Close()); err != nil || w.foot.entries == 0 {
		_ = m.fs.remove(name + newSuffix)
		return nil, err
	}
	err = m.fs.rename(name+newSuffix, name)
	if err == nil {
		f, err = m.fs.open(name)
	}
	if err != nil {
		_, _ = m.fs.remove(name+newSuffix), m.fs.remove(name)
		return nil, err
	}
	r := &run{f: f, foot: w.foot, fences: slices.Clip(w.fences), bytes: w.at, problem: m.problem}
	r.refs.Store(1)
	return r, nil
}

// fillRun writes what is to be kept.
func (m *Map) fillRun(w *runWriter, merged *merger, opt runOptions) error {
	for n := 1; ; n++ {
		b, err := merged.next()
		if err != nil || b == nil {
			return err
		}
		if n%workInterval == 0 {
			if err := m.lookUp(opt); err != nil {
				return err
			}
		}
		k, e := decodeEntry(b)
		if e != (Entry{}) && m.cfg.Keep != nil && !m.cfg.Keep(k, e) {
			clear(b[keySize:]) // older runs may know the key too
			e = Entry{}
		}
		if opt.bottom && e == (Entry{}) {
			continue
		}
		if err := w.add(b); err != nil {
			return err
		}
	}
}

// lookUp is what a merge does now and then: it ends when the map is closed,
// and writes a table that was frozen meanwhile, so that memory does not fill.
func (m *Map) lookUp(opt runOptions) error {
	select {
	case <-m.stop:
		return errStopped
	default:
	}
	m.mu.RLock()
	frozen := m.frozen
	m.mu.RUnlock()
	if !opt.merging || frozen == nil {
		return nil
	}
	return m.flush(frozen)
}

// install makes a run, nil if it is empty, take the place of the runs it was
// made of, or of the frozen table if replaced is nil.
func (m *Map) install(next manifest, r *run, replaced []*run) error {
	m.mu.RLock()
	current := m.runs
	m.mu.RUnlock()
	at := 0
	if len(replaced) > 0 {
		at = slices.Index(current, replaced[0])
	}
	var added []*run
	if r != nil {
		added = []*run{r}
	}
	runs := slices.Concat(current[:at], added, current[at+len(replaced):])
	if uncertain, err := m.saveManifest(next, runs); err != nil {
		if r != nil {
			_ = r.f.Close()
			if uncertain {
				m.leftover = append(m.leftover, r.name())
			} else {
				_ = m.fs.remove(r.name())
			}
		}
		return err
	}
	m.mu.Lock()
	m.runs = runs
	if replaced == nil {
		m.frozen = nil
	}
	m.mu.Unlock()
	for _, old := range replaced {
		old.retired.Store(true)
	}
	m.dead = append(m.dead, replaced...)
	m.reap()
	return nil
}

// saveManifest writes a manifest. When it fails and uncertain is set, either
// manifest may be there after a crash.
func (m *Map) saveManifest(next manifest, runs []*run) (uncertain bool, err error) {
	next.nextFile = m.nextFile.Load()
	next.runs = nil
	for _, r := range runs {
		next.runs = append(next.runs, runInfo{r.foot.number, r.foot.entries, r.foot.firstSeq, r.foot.lastSeq})
	}
	if err := writeNew(m.fs, manifestName, next.append(nil)); err != nil {
		return false, fmt.Errorf("write manifest: %w", err)
	}
	if err := publish(m.fs, manifestName); err != nil {
		return true, fmt.Errorf("put the manifest in place: %w", err)
	}
	m.manifest = next
	for _, name := range m.leftover {
		_ = m.fs.remove(name)
	}
	m.leftover = nil
	return false, nil
}

// reap removes the files of retired runs that nobody reads any more.
func (m *Map) reap() {
	m.dead = slices.DeleteFunc(m.dead, func(r *run) bool {
		if r.refs.Load() > 1 {
			return false
		}
		r.release()
		m.discard(r.name(), r.damaged.Load())
		return true
	})
}

// removeOldLogs removes the logs before first.
func (m *Map) removeOldLogs(first uint64) {
	var gone []oldLog
	m.mu.Lock()
	m.oldLogs = slices.DeleteFunc(m.oldLogs, func(l oldLog) bool {
		if l.number < first {
			gone = append(gone, l)
		}
		return l.number < first
	})
	m.mu.Unlock()
	for _, l := range gone {
		m.discard(fileName(logPrefix, l.number), l.damaged)
	}
}

// discard removes a file, or sets it aside if it is damaged.
func (m *Map) discard(name string, damaged bool) {
	var err error
	if damaged {
		err = m.fs.rename(name, name+damagedSuffix)
	} else {
		err = m.fs.remove(name)
	}
	if err != nil { // a start removes it
		m.log.Debug("cannot remove a file of the ledger", "file", name, "error", err)
	}
}
