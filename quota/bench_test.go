package quota_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"weir/quota"
)

const benchAccount = "https://upstream.test 00000000-0000-4000-8000-000000000001"

// benchID is the n-th of a sequence of ids that look random, as
// OpenTelemetry's are.
func benchID(n uint64) (id quota.TraceID) {
	for i := range 2 {
		n += 0x9E3779B97F4A7C15
		x := n
		x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
		x = (x ^ x>>27) * 0x94D049BB133111EB
		binary.BigEndian.PutUint64(id[8*i:], x^x>>31)
	}
	return id
}

// benchGuard is a guard without a limit over a ledger on disk that knows traces.
func benchGuard(b *testing.B, known int) *quota.Guard {
	b.Helper()
	ledger, err := quota.OpenDisk(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	g, err := quota.Open(ledger, quota.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = g.Close() })
	g.Use(quota.Account{Name: benchAccount, Upstream: "https://upstream.test"})
	const chunk = 8192
	for from := 0; from < known; from += chunk {
		var traces []quota.Trace
		var ids []quota.TraceID
		for n := from; n < min(from+chunk, known); n++ {
			traces = append(traces, quota.Trace{ID: benchID(uint64(n))})
			ids = append(ids, benchID(uint64(n)))
		}
		if _, err := g.Admit(benchAccount, traces); err != nil {
			b.Fatal(err)
		}
		if err := g.Delivered(benchAccount, ids); err != nil {
			b.Fatal(err)
		}
	}
	return g
}

// reportHeap says what lives on the heap.
func reportHeap(b *testing.B) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
}

// BenchmarkGuard is what the guard adds to an export with one trace, and to the
// sending of one, beside a month with so many traces. 50 million are measured
// where they lie, in quota/idmap.
func BenchmarkGuard(b *testing.B) {
	for _, known := range []int{5_000, 1_000_000} {
		b.Run(fmt.Sprintf("known=%d", known), func(b *testing.B) {
			g := benchGuard(b, known)
			ask := make([]quota.Trace, 1)
			next := uint64(1) << 40
			admit := func(b *testing.B, id quota.TraceID) {
				b.Helper()
				ask[0] = quota.Trace{ID: id}
				if _, err := g.Admit(benchAccount, ask); err != nil {
					b.Fatal(err)
				}
			}
			b.Run("admit-same", func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					admit(b, benchID(7))
				}
			})
			b.Run("admit-known", func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					admit(b, benchID(uint64(i*7919%known)))
				}
			})
			b.Run("admit-new", func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					next++
					admit(b, benchID(next))
				}
				b.StopTimer()
				reportHeap(b)
			})
			b.Run("claim-100-known", func(b *testing.B) {
				b.ReportAllocs()
				ids := make([]quota.TraceID, 100)
				for i := range b.N {
					for j := range ids {
						ids[j] = benchID(uint64((i*100 + j) % known))
					}
					p, err := g.Claim(benchAccount, ids)
					if err != nil {
						b.Fatal(err)
					}
					g.Ended(p)
				}
			})
		})
	}
}

// BenchmarkGuardInMemory is the guard's own share: what it adds where the store
// costs nothing.
func BenchmarkGuardInMemory(b *testing.B) {
	open := func(b *testing.B) *quota.Guard {
		b.Helper()
		g, err := quota.Open(quota.NewMemory(), quota.Config{})
		if err != nil {
			b.Fatal(err)
		}
		g.Use(quota.Account{Name: benchAccount, Upstream: "https://upstream.test"})
		return g
	}
	for _, size := range []int{1, 100} {
		traces, ids := make([]quota.Trace, size), make([]quota.TraceID, size)
		fill := func(n int) {
			for j := range ids {
				ids[j] = benchID(uint64(n*size + j))
				traces[j] = quota.Trace{ID: ids[j]}
			}
		}
		for name, call := range map[string]func(g *quota.Guard, n int) error{
			"admit-known": func(g *quota.Guard, _ int) error { _, err := g.Admit(benchAccount, traces); return err },
			"admit-new":   func(g *quota.Guard, n int) error { fill(n); _, err := g.Admit(benchAccount, traces); return err },
			"claim-known": func(g *quota.Guard, _ int) error {
				p, err := g.Claim(benchAccount, ids)
				if err == nil {
					g.Ended(p)
				}
				return err
			},
			"deliver-new": func(g *quota.Guard, n int) error { fill(n); return g.Delivered(benchAccount, ids) },
		} {
			b.Run(fmt.Sprintf("%s/traces=%d", name, size), func(b *testing.B) {
				g := open(b)
				fill(0)
				if _, err := g.Admit(benchAccount, traces); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for n := range b.N {
					if err := call(g, n); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
