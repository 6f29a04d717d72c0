package queue

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the queue counts for its Collector, beyond what its state
// says anyway. All of it is cheap enough for every commit.
type metrics struct {
	commitSeconds  histogram
	groupExports   histogram
	commitFailures atomic.Uint64
	rawBytes       atomic.Uint64 // of accepted frames, before compression
	storedBytes    atomic.Uint64 // of the same, as they are on disk

	mu       sync.Mutex // guards refusals; leaf lock
	refusals map[string]uint64
}

// Buckets of the histograms: a sync takes 0.1 ms on a good disk and 100 ms on
// a throttled one.
var (
	commitBuckets = []float64{0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2}
	groupBuckets  = []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512}
)

// histogram counts observations without a lock. Prometheus' own would do; this
// one is read by the Collector at the moment of a scrape, like everything else.
type histogram struct {
	counts   [16]atomic.Uint64
	count    atomic.Uint64
	sumMicro atomic.Uint64 // millionths
}

func (h *histogram) observe(bounds []float64, v float64) {
	if i, _ := slices.BinarySearch(bounds, v); i < len(bounds) {
		h.counts[i].Add(1)
	}
	h.count.Add(1)
	h.sumMicro.Add(uint64(v * 1e6))
}

func (h *histogram) metric(d *prometheus.Desc, bounds []float64) prometheus.Metric {
	cumulative := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, b := range bounds {
		n += h.counts[i].Load()
		cumulative[b] = n
	}
	return prometheus.MustNewConstHistogram(d, max(n, h.count.Load()), float64(h.sumMicro.Load())/1e6, cumulative)
}

// committed records a commit that was synced.
func (m *metrics) committed(g *group, took time.Duration) {
	m.commitSeconds.observe(commitBuckets, took.Seconds())
	m.groupExports.observe(groupBuckets, float64(len(g.appends)))
	var raw, stored uint64
	for i := range g.frames {
		if h := &g.frames[i].header; h.accepted {
			raw += uint64(h.rawBytes)
			stored += uint64(len(g.frames[i].value))
		}
	}
	m.rawBytes.Add(raw)
	m.storedBytes.Add(stored)
}

// refused records an export that was turned away.
func (m *metrics) refused(err error) {
	reason := "error"
	var full *FullError
	switch {
	case errors.As(err, &full):
		reason = full.Reason
	case errors.Is(err, ErrClosed):
		reason = "closed"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals == nil {
		m.refusals = map[string]uint64{}
	}
	m.refusals[reason]++
}

// Metric describes one metric of the Collector.
type Metric struct {
	Name   string
	Type   string // counter, gauge, histogram
	Labels []string
	Help   string
}

// metricTable is every metric of the queue, in the order of Metrics.
var metricTable = []Metric{
	{"weir_queue_items", "gauge", []string{"state"}, "Spans and operations on disk, by state: pending, held, quarantined."},
	{"weir_queue_accepted_items_total", "counter", nil, "Spans and operations made durable, over the life of the data directory."},
	{"weir_queue_delivered_items_total", "counter", nil, "Spans and operations the upstream took, over the life of the data directory."},
	{"weir_queue_dropped_items_total", "counter", []string{"reason"}, "Spans and operations dropped, by reason, over the life of the data directory."},
	{"weir_queue_bytes", "gauge", []string{"state"}, "Stored bytes of live frames, by state: pending, held, kept."},
	{"weir_queue_max_bytes", "gauge", []string{"state"}, "The most stored bytes that held and kept frames may have, by state: held, kept."},
	{"weir_queue_oldest_age_seconds", "gauge", []string{"state"}, "Time since the oldest item on disk was accepted, at most, by state: pending, held, quarantined; 0 where there is none."},
	{"weir_queue_accepted_raw_bytes_total", "counter", nil, "Uncompressed bytes of what was made durable since the start."},
	{"weir_queue_accepted_stored_bytes_total", "counter", nil, "Bytes on disk of the same, trace ids and headers included."},
	{"weir_queue_lanes", "gauge", nil, "Lanes known to the queue."},
	{"weir_queue_segments", "gauge", nil, "Segments on disk."},
	{"weir_queue_blobs", "gauge", nil, "Attachments kept in files of their own."},
	{"weir_queue_blob_bytes", "gauge", nil, "Bytes of attachments kept in files of their own."},
	{"weir_queue_disk_used_bytes", "gauge", nil, "Disk space the segments and attachments occupy."},
	{"weir_queue_disk_max_bytes", "gauge", nil, "Disk space the segments and attachments may occupy."},
	{"weir_queue_disk_free_bytes", "gauge", nil, "Free space of the file system of the data directory."},
	{"weir_queue_disk_min_free_bytes", "gauge", nil, "Free space of the file system below which exports are refused."},
	{"weir_queue_refusing", "gauge", nil, "1 while appends are refused for lack of disk space, else 0."},
	{"weir_queue_refused_exports_total", "counter", []string{"reason"}, "Exports refused since the start, by reason: disk_full, buffer_full, held_full, kept_full, lanes, busy, blobs, closed, error."},
	{"weir_queue_commit_failures_total", "counter", nil, "Commits that failed since the start; nothing of them was acknowledged."},
	{"weir_queue_damage_reports", "gauge", nil, "What could not be read when the data directory was opened, as `weir status` names it."},
	{"weir_queue_open_seconds", "gauge", nil, "Time that opening the data directory took, recovery included."},
	{"weir_queue_commit_seconds", "histogram", nil, "Time from building a group to its being synced."},
	{"weir_queue_commit_exports", "histogram", nil, "Exports that shared a commit; 0 for commits of settlements alone."},
}

// Metrics lists the metrics of the Collector.
func Metrics() []Metric { return slices.Clone(metricTable) }

// Collector returns a collector of the queue's metrics. It reads the queue
// when it is scraped, and may outlive it.
func (q *Queue) Collector() prometheus.Collector {
	c := &collector{q: q, descs: make(map[string]*prometheus.Desc, len(metricTable))}
	for _, m := range metricTable {
		c.descs[m.Name] = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	}
	return c
}

type collector struct {
	q     *Queue
	descs map[string]*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metricTable {
		ch <- c.descs[m.Name]
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.q.Stats()
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v, labels...)
	}
	counter := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, v, labels...)
	}
	counter("weir_queue_accepted_items_total", float64(s.Totals.Accepted))
	counter("weir_queue_delivered_items_total", float64(s.Totals.Delivered))
	for _, reason := range append([]string{reasonDamaged}, c.q.cfg.DropReasons...) {
		s.Totals.DroppedByReason[reason] += 0
	}
	for reason, n := range boundedReasons(s.Totals.DroppedByReason) {
		counter("weir_queue_dropped_items_total", float64(n), reason)
	}
	c.collectStates(gauge, &s)
	gauge("weir_queue_lanes", float64(len(s.Lanes)))
	gauge("weir_queue_segments", float64(s.Segments))
	gauge("weir_queue_blobs", float64(s.Blobs))
	gauge("weir_queue_blob_bytes", float64(s.BlobBytes))
	gauge("weir_queue_disk_used_bytes", float64(s.UsedBytes))
	gauge("weir_queue_disk_max_bytes", float64(s.MaxBytes))
	gauge("weir_queue_disk_free_bytes", float64(s.FreeBytes))
	gauge("weir_queue_disk_min_free_bytes", float64(s.MinFree))
	refusing := 0.0
	if s.Refusing != nil {
		refusing = 1
	}
	gauge("weir_queue_refusing", refusing)
	gauge("weir_queue_damage_reports", float64(len(s.Reports)))
	gauge("weir_queue_open_seconds", c.q.openTook.Seconds())
	m := &c.q.metrics
	m.mu.Lock()
	for reason, n := range m.refusals {
		counter("weir_queue_refused_exports_total", float64(n), reason)
	}
	m.mu.Unlock()
	counter("weir_queue_accepted_raw_bytes_total", float64(m.rawBytes.Load()))
	counter("weir_queue_accepted_stored_bytes_total", float64(m.storedBytes.Load()))
	counter("weir_queue_commit_failures_total", float64(m.commitFailures.Load()))
	ch <- m.commitSeconds.metric(c.descs["weir_queue_commit_seconds"], commitBuckets)
	ch <- m.groupExports.metric(c.descs["weir_queue_commit_exports"], groupBuckets)
}

// collectStates reports what stands where.
func (c *collector) collectStates(gauge func(name string, v float64, labels ...string), s *Stats) {
	gauge("weir_queue_items", float64(s.Totals.Pending), "pending")
	gauge("weir_queue_items", float64(s.Totals.Held), "held")
	gauge("weir_queue_items", float64(s.Totals.Quarantined), "quarantined")
	var pendingBytes int64
	var pending, held, kept time.Time
	for i := range s.Lanes {
		l := &s.Lanes[i]
		pendingBytes += l.PendingBytes
		pending, held, kept = earliest(pending, l.OldestAt), earliest(held, l.OldestHeldAt), earliest(kept, l.OldestKeptAt)
	}
	gauge("weir_queue_bytes", float64(pendingBytes), "pending")
	gauge("weir_queue_bytes", float64(s.HeldBytes), "held")
	gauge("weir_queue_bytes", float64(s.KeptBytes), "kept")
	gauge("weir_queue_max_bytes", float64(s.MaxHeld), "held")
	gauge("weir_queue_max_bytes", float64(s.MaxKept), "kept")
	now := c.q.cfg.now()
	gauge("weir_queue_oldest_age_seconds", ageSeconds(now, pending), "pending")
	gauge("weir_queue_oldest_age_seconds", ageSeconds(now, held), "held")
	gauge("weir_queue_oldest_age_seconds", ageSeconds(now, kept), "quarantined")
}

// earliest is the earlier of two times, of which each may be zero for none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// ageSeconds is how long ago at was; 0 for none, and for a clock set back.
func ageSeconds(now, at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at).Seconds(), 0)
}

// maxReasons bounds the reasons of drops that metrics tell apart: those with
// most. Callers of the queue have a dozen, but a data directory may come from
// another version.
const maxReasons = 32

// reasonDamaged is the reason of what was lost to damage on disk.
const reasonDamaged = "damaged_on_disk"

// otherReasons is the label of the others together.
const otherReasons = "other"

// boundedReasons is counts with few reasons, fit to be labels.
func boundedReasons(counts map[string]int64) map[string]int64 {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	out := make(map[string]int64, len(counts))
	for i, name := range names {
		label := strings.ToValidUTF8(name, "\uFFFD")
		if i >= maxReasons {
			label = otherReasons
		}
		out[label] += counts[name]
	}
	return out
}
