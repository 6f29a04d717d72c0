package idmap

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

var large = flag.Bool("idmap.large", false, "benchmark with 50 million entries too; needs 3 GB of disk below the temporary directory")

// benchID is a trace id as random ones are, but found again by its number.
// The numbers of a map are even, so that odd ones are unknown.
func benchID(n uint64) (k Key) {
	x := n*0x9e3779b97f4a7c15 + 0x7f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	binary.BigEndian.PutUint64(k.ID[:], x^x>>31)
	binary.BigEndian.PutUint64(k.ID[8:], n)
	return k
}

func benchSizes(b *testing.B) []int {
	b.Helper()
	if *large {
		return []int{5_000, 1_000_000, 50_000_000}
	}
	return []int{5_000, 1_000_000}
}

// buildRuns writes entries as runs of the sizes that merging leaves behind,
// each drawn from all numbers.
func buildRuns(b *testing.B, dir string, entries int) {
	b.Helper()
	m := mustOpen(b, Config{Dir: dir, manual: true})
	var parts []int
	for left := entries; left > 0; {
		part := left * 4 / 5
		if part < 2*defaultMemEntries {
			part = left
		}
		parts, left = append(parts, part), left-part
	}
	first := 0
	for _, part := range parts { // the oldest and largest first
		sorted := make([]Key, part)
		for i := range sorted {
			sorted[i] = benchID(2 * uint64(first+i))
		}
		slices.SortFunc(sorted, func(a, b Key) int {
			x, y := binary.BigEndian.Uint64(a.ID[:]), binary.BigEndian.Uint64(b.ID[:])
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		})
		r, err := m.writeRun([]source{&keySource{keys: sorted}}, runOptions{firstSeq: m.manifest.flushedSeq + 1, lastSeq: m.manifest.flushedSeq + 1})
		if err != nil {
			b.Fatal(err)
		}
		next := m.manifest
		next.flushedSeq++
		if err := m.install(next, r, nil); err != nil {
			b.Fatal(err)
		}
		first += part
	}
	m.w.seq = max(m.w.seq, m.manifest.flushedSeq)
	if err := m.Apply(&Batch{}); err != nil {
		b.Fatal(err)
	}
	if err := m.startLog(kindFull); err != nil { // numbered after the runs
		b.Fatal(err)
	}
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
}

// keySource yields sorted keys.
type keySource struct {
	keys []Key
	buf  [entrySize]byte
}

func (s *keySource) next() ([]byte, error) {
	if len(s.keys) == 0 {
		return nil, nil
	}
	appendEntry(s.buf[:0], s.keys[0], Entry{State: 1, Month: 1})
	s.keys = s.keys[1:]
	return s.buf[:], nil
}

// enoughDisk fails the benchmark when there is none.
func enoughDisk(b *testing.B, dir string, need int64) {
	b.Helper()
	if free := freeBytes(b, dir); free < need {
		b.Fatalf("%d bytes are free below %s, this needs %d", free, dir, need)
	}
}

// heapBytes is what is alive.
func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkMap has lookups and writes beside maps of several sizes. heap-B is
// what the open map keeps alive, with an empty table.
func BenchmarkMap(b *testing.B) {
	for _, entries := range benchSizes(b) {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			dir := b.TempDir()
			enoughDisk(b, dir, int64(entries)*2*entrySize+1<<26)
			buildRuns(b, dir, entries)
			before := heapBytes()
			m := mustOpen(b, Config{Dir: dir, manual: true})
			memory := float64(heapBytes()) - float64(before)
			report := func(b *testing.B) {
				b.Helper()
				b.ReportMetric(memory, "heap-B")
				b.ReportMetric(float64(len(m.runs)), "runs")
			}
			random := func(n int) uint64 { return 2 * uint64(rand.IntN(n)) }
			b.Run("get=disk", func(b *testing.B) {
				benchGet(b, m, Entry{State: 1, Month: 1}, func(int) Key { return benchID(random(entries)) })
				report(b)
			})
			b.Run("get=new", func(b *testing.B) {
				benchGet(b, m, Entry{}, func(int) Key { return benchID(random(entries) + 1) })
				report(b)
			})
			b.Run("open", func(b *testing.B) { benchOpen(b, dir, m) })
			m = mustOpen(b, Config{Dir: dir})
			var hot []Key
			for n := range 5000 {
				hot = append(hot, benchID(random(entries)))
				if err := m.Apply(&Batch{Keys: hot[n:], Entries: []Entry{{State: 2, Month: 1}}}); err != nil {
					b.Fatal(err)
				}
			}
			b.Run("get=memory", func(b *testing.B) {
				benchGet(b, m, Entry{State: 2, Month: 1}, func(n int) Key { return hot[n%len(hot)] })
			})
			if err := m.Close(); err != nil {
				b.Fatal(err)
			}
			for _, keys := range []int{1, 100} {
				for _, sync := range []bool{false, true} {
					b.Run(fmt.Sprintf("apply=%d/sync=%t", keys, sync), func(b *testing.B) { benchApply(b, dir, keys, sync) })
				}
			}
		})
	}
}

func benchGet(b *testing.B, m *Map, want Entry, key func(int) Key) {
	b.Helper()
	b.ReportAllocs()
	keys, out := make([]Key, 1), make([]Entry, 1)
	for n := 0; b.Loop(); n++ {
		keys[0] = key(n)
		if err := m.Get(keys, out); err != nil {
			b.Fatal(err)
		}
		if out[0] != want {
			b.Fatalf("%v is %v, want %v", keys[0], out[0], want)
		}
	}
}

// benchOpen opens and closes; m is closed first.
func benchOpen(b *testing.B, dir string, m *Map) {
	b.Helper()
	_ = m.Close() // b.Run may run this again
	for b.Loop() {
		m := mustOpen(b, Config{Dir: dir, manual: true})
		b.StopTimer()
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

var benchNew uint64 = 1 << 40 // the next new id

func benchApply(b *testing.B, dir string, keys int, sync bool) {
	b.Helper()
	b.ReportAllocs()
	m := mustOpen(b, Config{Dir: dir, MemEntries: 1 << 22}) // merges are not what is measured
	batch := &Batch{Keys: make([]Key, keys), Entries: make([]Entry, keys), Sync: sync}
	for b.Loop() {
		for i := range batch.Keys {
			batch.Keys[i], batch.Entries[i] = benchID(benchNew), Entry{State: 1, Month: 2}
			benchNew += 2
		}
		if err := m.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFill applies new entries with everything that follows from them:
// runs written and merged, until nothing is left to do.
func BenchmarkFill(b *testing.B) {
	const entries = 2_000_000
	for b.Loop() {
		m := mustOpen(b, Config{Dir: b.TempDir(), manual: true})
		batch := &Batch{Keys: make([]Key, 1000), Entries: make([]Entry, 1000)}
		for n := 0; n < entries; n += len(batch.Keys) {
			for i := range batch.Keys {
				batch.Keys[i], batch.Entries[i] = benchID(uint64(n+i)), Entry{State: 1}
			}
			if err := m.Apply(batch); err != nil {
				b.Fatal(err)
			}
			work(b, m)
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkOpenAfterKill reads the longest log there normally is: a table
// that is nearly full, entry by entry.
func BenchmarkOpenAfterKill(b *testing.B) {
	dir := b.TempDir()
	m := mustOpen(b, Config{Dir: dir, manual: true})
	for n := range defaultMemEntries - 1 {
		if err := m.Apply(&Batch{Keys: []Key{benchID(uint64(n))}, Entries: []Entry{{State: 1}}}); err != nil {
			b.Fatal(err)
		}
	}
	_ = m.w.f.Close() // and no mark
	for b.Loop() {
		m := mustOpen(b, Config{Dir: dir, manual: true})
		if m.Start() == StartClosed || len(m.active) != defaultMemEntries-1 {
			b.Fatalf("start %v with %d entries", m.Start(), len(m.active))
		}
		_ = m.w.f.Close()
	}
}
