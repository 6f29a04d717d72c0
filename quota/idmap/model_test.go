package idmap

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func key(account uint16, n int) Key {
	k := Key{Account: account}
	k.ID[0], k.ID[15], k.ID[14] = byte(n*37), byte(n), byte(n>>8)
	return k
}

func testConfig(d *memDir) Config {
	return Config{fs: d, MemEntries: 8, manual: true, boot: "boot-boot-boot-1"}
}

func mustOpen(t fataler, cfg Config) *Map {
	t.Helper()
	m, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return m
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// content is what a map says of itself.
type content struct {
	entries map[Key]Entry
	records map[string][]byte
}

func newContent() content { return content{map[Key]Entry{}, map[string][]byte{}} }

func (c content) clone() content { return content{maps.Clone(c.entries), maps.Clone(c.records)} }

func (c content) apply(b *Batch) {
	for i, k := range b.Keys {
		if delete(c.entries, k); b.Entries[i] != (Entry{}) {
			c.entries[k] = b.Entries[i]
		}
	}
	for name, value := range b.Records {
		if delete(c.records, name); value != nil {
			c.records[name] = value
		}
	}
}

// read asks a map in every way, which must agree.
func read(t fataler, m *Map) content {
	t.Helper()
	c := newContent()
	c.records = m.Records("")
	for account := range uint16(3) {
		var before []byte
		err := m.Scan(account, func(k Key, e Entry) bool {
			if b := appendKey(nil, k); bytes.Compare(before, b) >= 0 {
				t.Fatalf("scan of %d is out of order at %v", account, k)
			} else {
				before = b
			}
			c.entries[k] = e
			return true
		})
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		var keys []Key
		for n := range 64 {
			keys = append(keys, key(account, n))
		}
		got := make([]Entry, len(keys))
		if err := m.Get(keys, got); err != nil {
			t.Fatalf("get: %v", err)
		}
		for i, k := range keys {
			if got[i] != c.entries[k] {
				t.Fatalf("get of %v says %v, scan %v", k, got[i], c.entries[k])
			}
		}
	}
	return c
}

func (c content) diff(other content) string {
	if maps.Equal(c.entries, other.entries) && maps.EqualFunc(c.records, other.records, bytes.Equal) {
		return ""
	}
	return cmp.Diff(c.entries, other.entries) + cmp.Diff(c.records, other.records)
}

func drawBatch(t *rapid.T) *Batch {
	b := &Batch{Sync: rapid.Bool().Draw(t, "sync")}
	for range rapid.IntRange(0, 6).Draw(t, "keys") {
		b.Keys = append(b.Keys, key(uint16(rapid.IntRange(0, 2).Draw(t, "account")), rapid.IntRange(0, 63).Draw(t, "id")))
		b.Entries = append(b.Entries, Entry{State: uint8(rapid.IntRange(0, 3).Draw(t, "state")), Project: uint16(rapid.IntRange(0, 1).Draw(t, "project"))})
	}
	if rapid.Bool().Draw(t, "with records") {
		b.Records = map[string][]byte{}
		for range rapid.IntRange(1, 2).Draw(t, "records") {
			value := rapid.SampledFrom([][]byte{nil, {}, []byte("value"), []byte("another")}).Draw(t, "value")
			b.Records[rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "name")] = value
		}
	}
	return b
}

// TestMapIsAMap compares a map with one of Go's, through restarts, kills,
// power cuts and disks that fail for a while.
func TestMapIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &modelled{dir: newMemDir(), history: []content{newContent()}}
		s.cfg = testConfig(s.dir)
		s.m = mustOpen(t, s.cfg)
		t.Repeat(map[string]func(*rapid.T){
			"":      s.check,
			"apply": s.apply,
			"sync":  func(t *rapid.T) { s.applyBatch(t, &Batch{Sync: true}) },
			"work": func(t *rapid.T) {
				if _, err := s.m.work(); err != nil && s.dir.failAt == 0 {
					t.Fatalf("work: %v", err)
				}
			},
			"close": s.close,
			"kill": func(t *rapid.T) {
				want := []Start{StartKilled}
				if s.start == StartPowerCut && !s.touched {
					want = []Start{StartPowerCut} // nobody wrote since
					if len(s.failed) > 0 {
						want = append(want, StartKilled)
					}
				}
				s.reopen(t, s.dir.killed(), want...)
				s.is(t, append([]content{s.now()}, s.failed...))
			},
			"power cut": func(t *rapid.T) {
				s.cfg.boot = nextBoot(s.cfg.boot)
				s.reopen(t, s.dir.powerCut(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))), StartPowerCut)
				s.is(t, slices.Concat(s.history, s.failed))
				s.history = []content{s.now()}
			},
			"disk fails": func(t *rapid.T) {
				s.dir.failAt = s.dir.ops + rapid.IntRange(1, 8).Draw(t, "operation")
				s.dir.forever = rapid.Bool().Draw(t, "and all after it")
			},
			"disk is mended": func(*rapid.T) { s.dir.failAt = 0 },
		})
	})
}

// modelled is a map, and what it must be.
type modelled struct {
	cfg     Config
	dir     *memDir
	m       *Map
	history []content // after each batch since the last that is durable
	failed  []content // what failed batches would have made; a crash may bring them
	start   Start
	touched bool // since the start
}

func (s *modelled) now() content { return s.history[len(s.history)-1] }

func (s *modelled) check(t *rapid.T) {
	if diff := s.now().diff(read(t, s.m)); diff != "" {
		t.Fatalf("want -, got +:\n%s", diff)
	}
	if s.m.Clean() != (s.start == StartClosed) {
		t.Fatalf("clean is %t after start %v", s.m.Clean(), s.start)
	}
}

func (s *modelled) apply(t *rapid.T) { s.applyBatch(t, drawBatch(t)) }

func (s *modelled) applyBatch(t *rapid.T, b *Batch) {
	next := s.now().clone()
	next.apply(b)
	switch err := s.m.Apply(b); {
	case err == nil:
		s.touched, s.failed = true, nil
		if s.history = append(s.history, next); b.Sync {
			s.history = []content{next}
		}
	case errors.Is(err, ErrFull):
		s.touched = true
	case s.dir.failAt == 0:
		t.Fatalf("apply: %v", err)
	default:
		s.failed = append(s.failed, next)
	}
}

func (s *modelled) close(t *rapid.T) {
	if err := s.m.Close(); err != nil {
		if s.dir.failAt == 0 {
			t.Fatalf("close: %v", err)
		}
		s.reopen(t, s.dir.killed(), StartClosed, StartKilled, StartPowerCut)
		s.is(t, append([]content{s.now()}, s.failed...))
		return
	}
	s.history, s.failed = []content{s.now()}, nil
	next := s.dir
	if next.failAt = 0; rapid.Bool().Draw(t, "and off") {
		s.cfg.boot = nextBoot(s.cfg.boot)
		next = next.powerCut(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
	}
	s.reopen(t, next, StartClosed)
}

func (s *modelled) reopen(t *rapid.T, dir *memDir, want ...Start) {
	s.dir, s.cfg.fs = dir, dir
	s.m = mustOpen(t, s.cfg)
	s.start, s.touched = s.m.Start(), false
	if !slices.Contains(want, s.start) || len(s.m.Problems()) > 0 {
		t.Fatalf("start is %v with problems %q, want %v and none", s.start, s.m.Problems(), want)
	}
}

// is takes what the map says for the truth, if it is one of those.
func (s *modelled) is(t *rapid.T, allowed []content) {
	got := read(t, s.m)
	if !isOneOf(allowed, got) {
		t.Fatalf("is none of %d states; from the last it differs in\n%s", len(allowed), s.now().diff(got))
	}
	s.history, s.failed = append(s.history, got), nil
}

func nextBoot(boot string) string { return boot[:15] + string(boot[15]+1) }

// work does all background work there is.
func work(t fataler, m *Map) {
	t.Helper()
	for {
		more, err := m.work()
		if err != nil {
			t.Fatalf("work: %v", err)
		}
		if !more {
			return
		}
	}
}

// busy is a sequence of everything that writes. It returns what must be there,
// and what may be there instead if the last Apply failed.
func busy(m *Map, rounds int) (sure, maybe content, err error) {
	sure = newContent()
	for n := range rounds {
		b := &Batch{Sync: n%3 == 0, Records: map[string][]byte{"n": fmt.Append(nil, n)}}
		for i := range 5 {
			e := Entry{State: uint8(n + 1), Month: uint16(i)}
			if (n+i)%7 == 0 {
				e = Entry{}
			}
			b.Keys, b.Entries = append(b.Keys, key(uint16(i%3), (n*3+i*5)%64)), append(b.Entries, e)
		}
		maybe = sure.clone()
		maybe.apply(b)
		if err := m.Apply(b); err != nil {
			return sure, maybe, err
		}
		sure = maybe
		if n%2 == 0 {
			if _, err := m.work(); err != nil {
				return sure, sure, err
			}
		}
	}
	return sure, sure, m.Close()
}

const busyRounds = 40

// TestCrashAnywhereLosesNothing ends the process before each of its disk
// operations.
func TestCrashAnywhereLosesNothing(t *testing.T) {
	for failAt := 1; ; failAt++ {
		dir := newMemDir()
		dir.failAt, dir.forever, dir.err = failAt, true, errors.New("dead")
		sure, maybe := newContent(), newContent()
		m, err := Open(testConfig(dir))
		if err == nil {
			sure, maybe, err = busy(m, busyRounds)
		}
		next := mustOpen(t, testConfig(dir.killed()))
		if len(next.Problems()) > 0 {
			t.Fatalf("operation %d: problems %q", failAt, next.Problems())
		}
		if got := read(t, next); sure.diff(got) != "" && maybe.diff(got) != "" {
			t.Fatalf("operation %d: want -, got +:\n%s", failAt, sure.diff(got))
		}
		work(t, next)
		if got := read(t, next); sure.diff(got) != "" && maybe.diff(got) != "" {
			t.Fatalf("operation %d, after work: want -, got +:\n%s", failAt, sure.diff(got))
		}
		if err == nil {
			t.Logf("%d operations", failAt-1)
			if !next.Clean() {
				t.Fatal("a closed map is not clean")
			}
			return
		}
	}
}

// TestEveryDiskErrorIsSurvived makes each operation fail once, in each of two
// ways.
func TestEveryDiskErrorIsSurvived(t *testing.T) {
	for _, forever := range []int{0, 3} {
		for failAt := 1; ; failAt++ {
			dir := newMemDir()
			m, err := Open(testConfig(dir))
			if err != nil {
				t.Fatal(err)
			}
			opened := dir.ops
			dir.failAt, dir.forever = opened+failAt, forever > 0
			sure := newContent()
			for n := range busyRounds {
				b := &Batch{Sync: n%3 == 0, Records: map[string][]byte{"n": fmt.Append(nil, n)}}
				for i := range 5 {
					b.Keys = append(b.Keys, key(uint16(i%3), (n*3+i*5)%64))
					b.Entries = append(b.Entries, Entry{State: uint8(n + 1), Month: uint16(i)})
				}
				err := m.Apply(b)
				if err == nil {
					sure.apply(b)
				}
				if n%2 == 0 {
					_, _ = m.work() // tried again later
				}
				if dir.ops > dir.failAt+forever {
					dir.failAt = 0
				}
				if n < busyRounds-1 && err == nil {
					continue // only failures are worth a look
				}
				if got := read(t, m); sure.diff(got) != "" {
					t.Fatalf("operation %d, batch %d (%v): want -, got +:\n%s", failAt, n, err, sure.diff(got))
				}
			}
			touched := dir.failAt == 0
			dir.failAt = 0
			work(t, m)
			if err := m.Sync(); err != nil {
				t.Fatalf("operation %d: sync afterwards: %v", failAt, err)
			}
			cut := dir.powerCut(rand.New(rand.NewPCG(1, uint64(failAt))))
			for name, d := range map[string]*memDir{"kill": dir.killed(), "power cut": cut} {
				next := mustOpen(t, testConfig(d))
				if got := read(t, next); sure.diff(got) != "" || len(next.Problems()) > 0 {
					t.Fatalf("operation %d, %s: problems %q, want -, got +:\n%s", failAt, name, next.Problems(), sure.diff(got))
				}
			}
			if !touched {
				break
			}
		}
	}
}
