package idmap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

// Open opens the map in cfg.Dir, or makes one. What is damaged there is not
// used, set aside, and one of the Problems; an error means that the directory
// or one of its files cannot be opened at all.
func Open(cfg Config) (*Map, error) {
	if cfg.MemEntries <= 0 {
		cfg.MemEntries = defaultMemEntries
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.retryAfter <= 0 {
		cfg.retryAfter = time.Second
	}
	if cfg.fs == nil {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("idmap: make the ledger's directory: %w", err)
		}
		cfg.fs = osDir(cfg.Dir)
	}
	m := &Map{
		cfg: cfg, fs: cfg.fs, log: cfg.Logger,
		active: map[Key]Entry{}, records: map[string][]byte{},
		kick: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	known := cfg.boot
	if known == "" {
		known = bootID()
	}
	m.cfg.boot = (known + strings.Repeat("\x00", bootSize))[:bootSize]
	r := &recovery{m: m, boot: known}
	if err := r.recover(); err != nil {
		for _, run := range m.runs {
			run.release()
		}
		if m.w.f != nil {
			_ = m.w.f.Close()
		}
		return nil, fmt.Errorf("idmap: open %s: %w", cfg.Dir, err)
	}
	if !cfg.manual {
		m.done.Go(m.background)
		m.wake()
	}
	return m, nil
}

// recovery is what a start finds out.
type recovery struct {
	m          *Map
	boot       string // empty if not known
	names      []string
	runs, logs []uint64 // numbers of the files there, ascending
	manifest   bool     // there is a good one
	changed    bool     // it has to be written again
	named      bool     // the names found are durable
	expect     uint64   // the next batch
	lastBoot   string   // of the newest mark
	closed     bool     // which says closed, and nothing is after it
}

func (r *recovery) recover() error {
	if err := r.look(); err != nil {
		return err
	}
	fresh := !slices.Contains(r.names, manifestName) && len(r.runs)+len(r.logs) == 0
	if err := r.readManifest(fresh); err != nil {
		return err
	}
	m := r.m
	if r.manifest {
		err := r.openNamedRuns()
		if err != nil {
			return err
		}
	} else if err := r.openFoundRuns(); err != nil {
		return err
	}
	r.dropStrays()
	if fresh || r.changed {
		if _, err := m.saveManifest(m.manifest, m.runs); err != nil && fresh {
			return err
		} else if err != nil {
			m.log.Warn("cannot write the manifest of the ledger; trying again later", "error", err)
		}
	}
	virgin := m.manifest.flushedSeq == 0 && len(m.manifest.runs) == 0 && len(r.logs) == 0 && len(m.problems) == 0
	if len(r.logs) == 0 && !virgin {
		m.problem("there is no log; what was applied last is lost")
	}
	if err := r.replayAll(); err != nil {
		return err
	}
	switch {
	case virgin:
		m.start = StartNew
	case r.closed:
		m.start = StartClosed
	case r.boot != "" && r.lastBoot == r.boot:
		m.start = StartKilled
	default:
		m.start = StartPowerCut
	}
	return nil
}

// look lists the directory.
func (r *recovery) look() error {
	names, err := r.m.fs.list()
	if err != nil {
		return err
	}
	r.names = names
	// A crash may have come between a rename and its sync. What is appended to
	// or removed in the light of a name needs that to be durable.
	if err := r.m.fs.syncDir(); err != nil {
		r.m.log.Warn("cannot sync the directory of the ledger; its files are left as they are", "error", err)
	} else {
		r.named = true
	}
	next := uint64(1)
	for _, name := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(name, damagedSuffix), newSuffix)
		run, isRun := fileNumber(base, runPrefix)
		log, isLog := fileNumber(base, logPrefix)
		next = max(next, run+1, log+1)
		switch {
		case strings.HasSuffix(name, newSuffix) && (isRun || isLog || base == manifestName):
			_ = r.m.fs.remove(name)
		case name != base:
		case isRun:
			r.runs = append(r.runs, run)
		case isLog:
			r.logs = append(r.logs, log)
		}
	}
	slices.Sort(r.runs)
	slices.Sort(r.logs)
	r.m.nextFile.Store(next)
	return nil
}

const maxManifestBytes = 64 << 20

// readManifest reads the manifest, or makes do without.
func (r *recovery) readManifest(fresh bool) error {
	m := r.m
	m.manifest = manifest{firstLog: 1}
	if fresh {
		r.manifest = true
		return nil
	}
	if !slices.Contains(r.names, manifestName) {
		m.problem("the manifest is missing; its runs are found by their names, records may be lost")
		return nil
	}
	f, err := m.fs.open(manifestName)
	if err != nil {
		return err
	}
	content, err := readAll(f, maxManifestBytes)
	_ = f.Close()
	if err == nil {
		m.manifest, r.manifest = parseManifest(content)
	}
	if !r.manifest {
		m.manifest = manifest{firstLog: 1}
		m.problem("the manifest is damaged; its runs are found by their names, records may be lost")
		return r.setAside(manifestName)
	}
	m.nextFile.Store(max(m.nextFile.Load(), m.manifest.nextFile))
	for name, value := range m.manifest.records {
		m.setRecord(name, value)
	}
	return nil
}

// setAside renames a damaged file to a name that nothing has.
func (r *recovery) setAside(name string) error {
	to := name + damagedSuffix
	for i := 2; slices.Contains(r.names, to); i++ {
		to = fmt.Sprintf("%s.%d%s", name, i, damagedSuffix)
	}
	r.names = append(r.names, to)
	return r.m.fs.rename(name, to)
}

// openNamedRuns opens the runs of the manifest.
func (r *recovery) openNamedRuns() error {
	m := r.m
	for _, info := range m.manifest.runs {
		name := fileName(runPrefix, info.number)
		found, ok, err := openRun(m, info)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			m.problem(fmt.Sprintf("%s is missing; up to %d entries are forgotten", name, info.entries))
			r.changed = true
		case err != nil:
			return err
		case !ok:
			m.problem(fmt.Sprintf("%s is damaged as a whole; up to %d entries are forgotten", name, info.entries))
			r.changed = true
			if err := r.setAside(name); err != nil {
				return err
			}
		default:
			m.runs = append(m.runs, found)
		}
	}
	return nil
}

// openFoundRuns opens what runs there are, when no manifest names them, in the
// order of the batches they have. A run whose batches another has too was
// merged into it.
func (r *recovery) openFoundRuns() error {
	m := r.m
	r.changed = true
	var found []*run
	for _, number := range r.runs {
		one, ok, err := openRun(m, runInfo{number: number})
		if err != nil {
			return err
		}
		if !ok {
			m.problem(fileName(runPrefix, number) + " is damaged, and set aside")
			if err := r.setAside(fileName(runPrefix, number)); err != nil {
				return err
			}
			continue
		}
		found = append(found, one)
	}
	slices.SortFunc(found, func(a, b *run) int {
		return cmp.Or(cmp.Compare(b.foot.lastSeq, a.foot.lastSeq), cmp.Compare(a.foot.firstSeq, b.foot.firstSeq),
			cmp.Compare(b.foot.number, a.foot.number))
	})
	for _, one := range found {
		if n := len(m.runs); n > 0 && one.foot.firstSeq >= m.runs[n-1].foot.firstSeq {
			one.release() // dropStrays removes it
			continue
		}
		m.runs = append(m.runs, one)
		m.manifest.flushedSeq = max(m.manifest.flushedSeq, one.foot.lastSeq)
	}
	return nil
}

// dropStrays removes runs and logs that a crash left behind.
func (r *recovery) dropStrays() {
	m := r.m
	for _, number := range r.runs {
		used := slices.ContainsFunc(m.runs, func(one *run) bool { return one.foot.number == number })
		if !used && r.named {
			_ = m.fs.remove(fileName(runPrefix, number))
		}
	}
	r.logs = slices.DeleteFunc(r.logs, func(number uint64) bool {
		if number < m.manifest.firstLog && r.named {
			_ = m.fs.remove(fileName(logPrefix, number))
		}
		return number < m.manifest.firstLog
	})
}

// foundLog is a log as read.
type foundLog struct {
	number   uint64
	f        file
	header   logHeader
	good     bool // the header is
	records  []record
	last     record // the last that was taken
	size     int    // of what is used of the file
	damaged  bool   // not all that was durable can be read
	torn     bool   // there is something after that
	boundary uint64 // the batch with which a later log begins
	nextFull bool   // that has all that is in memory
}

const noBoundary = 1<<64 - 1

// readLog finds all records of a log.
func readLog(m *Map, number uint64) (*foundLog, error) {
	f, err := m.fs.open(fileName(logPrefix, number))
	if err != nil {
		return nil, err
	}
	data, err := readAll(f, 8*fullFactor*m.maxLogBytes()+maxPayload)
	l := &foundLog{number: number, f: f, size: len(data), damaged: err != nil}
	l.header, l.good = parseLogHeader(data)
	l.good = l.good && l.header.number == number
	l.records = findRecords(data)
	return l, nil
}

// findRecords finds all that are records in a log.
func findRecords(data []byte) (records []record) {
	const usual = recordHeaderSize + 9 + entrySize // of one entry
	records = make([]record, 0, len(data)/usual+1)
	for at := logHeaderSize; at < len(data); {
		if r, ok := parseRecord(data, at); ok {
			records = append(records, r)
			at = r.end
			continue
		}
		next := bytes.Index(data[at+1:], []byte(recordMagic))
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return records
}

// replayAll replays the logs, and sees to one to go on with.
func (r *recovery) replayAll() error {
	m := r.m
	r.expect = m.manifest.flushedSeq + 1
	var logs []*foundLog
	for _, number := range r.logs {
		l, err := readLog(m, number)
		if err != nil {
			for _, other := range logs {
				_ = other.f.Close()
			}
			return err
		}
		logs = append(logs, l)
	}
	// A log ends where a later one begins: what comes after that was written
	// and then given up.
	boundary, full := uint64(noBoundary), false
	for _, l := range slices.Backward(logs) {
		l.boundary, l.nextFull = boundary, full
		if l.good && l.header.firstSeq < boundary {
			boundary = l.header.firstSeq
			full = len(l.records) > 0 && l.records[0].body.kind == kindFull
		}
	}
	n := 0
	for _, l := range logs {
		for _, rec := range l.records {
			n += len(rec.body.entries) / entrySize
		}
	}
	// In one go, as growing takes longer than all else; but a log may repeat
	// few keys.
	m.active = make(map[Key]Entry, min(n, m.cfg.MemEntries))
	for i, l := range logs {
		r.replay(l, i == len(logs)-1)
		if i < len(logs)-1 {
			_ = l.f.Close()
			m.addOldLog(oldLog{number: l.number, damaged: l.damaged})
			m.w.span += int64(l.size)
		}
	}
	m.w.seq = r.expect - 1
	if len(logs) > 0 {
		r.goOn(logs[len(logs)-1])
	}
	if m.w.f == nil {
		r.startAnew(logs)
	}
	return nil
}

// replay takes what a log says. In the last log a hole that no later record
// proves to have been durable is where a power cut ended it. A log that was
// given up may have holes, and the next has it all.
func (r *recovery) replay(l *foundLog, last bool) {
	end := min(logHeaderSize, l.size)
	r.closed = false
	l.damaged = l.damaged || !l.good
	for i, rec := range l.records {
		if rec.seq >= l.boundary {
			break
		}
		hole := rec.at != end
		if rec.seq < r.expect { // in a run already
			end = rec.end
			continue
		}
		if rec.body.kind != kindFull && (hole || rec.seq > r.expect) {
			if l.nextFull || last && l.good && hole && !provenDurable(l.records[i:], r.expect) {
				break
			}
			l.damaged = true
		}
		r.take(rec)
		end, l.last = rec.end, rec
	}
	if last {
		l.torn = end != l.size
		r.closed = r.closed && !l.torn
		l.size = end
	} else if r.expect < l.boundary && l.boundary != noBoundary {
		l.damaged = l.damaged || !l.nextFull // the next has it all
		r.expect = l.boundary
	}
	if l.damaged {
		r.m.problem(fileName(logPrefix, l.number) + " is damaged; what can be read is used")
	}
}

// provenDurable says whether one of the records was written when the batch
// seq was on disk.
func provenDurable(records []record, seq uint64) bool {
	return slices.ContainsFunc(records, func(rec record) bool { return rec.durable >= seq })
}

// take applies a record.
func (r *recovery) take(rec record) {
	m := r.m
	r.expect = rec.seq + 1
	m.w.durable = max(m.w.durable, rec.durable)
	b := rec.body
	if r.closed = b.kind == kindMark && b.mark == markClosed; b.kind == kindMark {
		r.lastBoot = b.boot
		return
	}
	for at := 0; at < len(b.entries); at += entrySize {
		k, e := decodeEntry(b.entries[at:])
		m.active[k] = e
	}
	if b.kind != kindBatch {
		m.records, m.recordBytes = map[string][]byte{}, 0
	}
	for name, value := range b.records {
		m.setRecord(name, value)
	}
}

// goOn appends to the last log, if it is as it should be.
func (r *recovery) goOn(l *foundLog) {
	m := r.m
	w := &m.w
	w.f, w.number, w.size = l.f, l.number, int64(l.size)
	err := error(nil)
	switch {
	case l.damaged:
		err = errors.New("it is damaged")
	case !r.named:
		err = errors.New("its name may not be durable")
	case r.closed:
		// In place: that needs no space.
		open := body{kind: kindMark, mark: markOpen, boot: m.cfg.boot}
		if _, err = w.f.WriteAt(appendRecord(nil, l.last.seq, l.last.durable, &open), int64(l.last.at)); err == nil {
			err = w.f.Sync()
		}
		w.durable = w.seq
	case l.torn:
		err = w.f.Truncate(w.size)
		w.mark = r.lastBoot != m.cfg.boot
	default:
		w.mark = r.lastBoot != m.cfg.boot
	}
	if err == nil {
		return
	}
	m.log.Warn("the ledger goes on with another log", "log", fileName(logPrefix, l.number), "reason", err)
	_ = w.f.Close()
	w.f, w.size = nil, 0
	w.span += int64(l.size)
	m.addOldLog(oldLog{number: l.number, damaged: l.damaged})
}

// startAnew starts a log with all that is in memory, which makes damaged ones
// superfluous. If it cannot, the first Apply tries again.
func (r *recovery) startAnew(logs []*foundLog) {
	m := r.m
	if err := m.startLog(kindFull); err != nil {
		m.log.Warn("cannot start a log for the ledger; trying again when there is something to write", "error", err)
		return
	}
	for _, l := range logs {
		if l.damaged && r.setAside(fileName(logPrefix, l.number)) == nil {
			m.oldLogs = slices.DeleteFunc(m.oldLogs, func(o oldLog) bool { return o.number == l.number })
		}
	}
}
