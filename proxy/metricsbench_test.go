package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy/diagnose"
	"weir/queue"
)

// benchPipeline is a pipeline that sends nothing, with lanes and, in every
// other one, a case.
func benchPipeline(b *testing.B, lanes, cases int) (*Forwarder, *queue.Queue) {
	b.Helper()
	dir := b.TempDir()
	q, err := queue.Open(queue.Config{Dir: dir, NoSync: true, MaxLanes: lanes + 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close() })
	v, _, err := OpenVault(q, filepath.Join(dir, "credential.key"))
	if err != nil {
		b.Fatal(err)
	}
	limits, err := NewQuota(QuotaConfig{
		Queue: q, Vault: v, Destination: Destination{UpstreamURL: "https://upstream.test", APIKey: "lsv2_pt_own_key_0001"},
		Dividers: map[Protocol]Divider{protocolLines: lineDivider{}},
	})
	if err != nil {
		b.Fatal(err)
	}
	a := NewAcceptor(q, v, limits)
	f := NewForwarder(q, newFakeUpstream(), v, ForwardConfig{Quota: limits, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	for i := range lanes {
		e := &Export{
			Protocol: protocolLines, Caller: Caller{Project: fmt.Sprint("project-", i)}, Payload: []byte("x:1\n"), Items: 1, TraceIDs: []TraceID{{1}},
		}
		if _, err := a.Accept(context.Background(), e); err != nil {
			b.Fatal(err)
		}
	}
	for i, l := range q.Lanes() {
		if i >= cases {
			break
		}
		out := refused(RefusedAccess, 403)
		place, _, err := f.cases.open(l.ID, &out, true, diagnose.Diagnosis{Causes: []diagnose.Cause{{Code: diagnose.KeyRevoked}}})
		if err != nil {
			b.Fatal(err)
		}
		lease, err := q.Lease(queue.LeaseOptions{Lane: l.ID})
		if err != nil || lease == nil {
			b.Fatal("no lease", err)
		}
		if err := lease.Settle(queue.Settlement{Result: queue.ResultKept, Place: place}); err != nil {
			b.Fatal(err)
		}
	}
	return f, q
}

// BenchmarkGather scrapes a pipeline with few lanes and with as many as there
// may be, half of them with a case.
func BenchmarkGather(b *testing.B) {
	for _, lanes := range []int{8, 1024} {
		b.Run(fmt.Sprint("lanes=", lanes), func(b *testing.B) {
			f, q := benchPipeline(b, lanes, lanes/2)
			reg := prometheus.NewRegistry()
			reg.MustRegister(append(f.Collectors(), q.Collector())...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reg.Gather(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCaseTallies counts ten thousand cases.
func BenchmarkCaseTallies(b *testing.B) {
	f, q := benchPipeline(b, 8, 8)
	one := q.Cases()[0]
	cases := make([]queue.Case, 10_000)
	for i := range cases {
		cases[i] = one
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := f.tally(cases); len(got) != 1 {
			b.Fatal(got)
		}
	}
}

// BenchmarkCount is what metrics cost for each request sent.
func BenchmarkCount(b *testing.B) {
	m := newForwardMetrics()
	out := delivered(nil, nil)
	r := &Request{Protocol: ProtocolOTLP, Items: 100, Parts: make([]Part, 4)}
	ages := []time.Duration{time.Second, time.Second, time.Second, time.Second}
	b.ReportAllocs()
	for b.Loop() {
		m.count(&out, r, 200_000)
		m.settled(ProtocolOTLP, ages)
	}
}
