package proxy

import "weir/queue"

// Reading is what a chart of the pipeline is drawn from: counts that only grow,
// and what is on disk at the moment.
type Reading struct {
	Totals       queue.Totals
	PendingBytes int64 // stored bytes of what is pending
	UsedBytes    int64 // on disk, as last measured
	SentBytes    int64 // of requests, as encoded, in this process
}

// Reading reads the meters. It costs about as much as queue.Stats.
func (f *Forwarder) Reading() Reading {
	s := f.q.Stats()
	r := Reading{Totals: s.Totals, UsedBytes: s.UsedBytes, SentBytes: f.m.sentBytes.Load()}
	for i := range s.Lanes {
		r.PendingBytes += s.Lanes[i].PendingBytes
	}
	return r
}
