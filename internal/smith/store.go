package smith

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
)

// maxGroups bounds how many keys, projects and workspaces are told apart; what
// comes after is counted under otherGroup.
const (
	maxGroups  = 4096
	otherGroup = "(other)"
)

// ErrClosed ends waits and subscriptions when the server closes.
var ErrClosed = errors.New("smith: server closed")

// Tally is an amount of received data.
type Tally struct {
	Requests  int64 `json:"requests"`
	Spans     int64 `json:"spans"`
	WireBytes int64 `json:"wire_bytes"` // bodies as sent
	RawBytes  int64 `json:"raw_bytes"`  // bodies uncompressed
	// Operations are run operations; see RunStats.
	Operations int64 `json:"operations,omitempty"`
}

func (t *Tally) add(in *Request) {
	t.Requests++
	t.Spans += int64(in.Spans)
	t.Operations += int64(in.Operations)
	t.WireBytes += in.WireBytes
	t.RawBytes += in.RawBytes
}

// Stats is what a server has seen since it started or was reset.
type Stats struct {
	// Requests counts every request but those of the control API, as it arrives.
	Requests int64
	// Answers counts requests by the status they were answered with, 0 being a
	// connection broken off on purpose.
	Answers map[int]int64
	// Faults counts the faults that struck, by name.
	Faults map[string]int64

	// Taken is the data that was taken; Lost that which was answered 200 and
	// dropped, as the switches say. What is lost is never counted in spans.
	Taken, Lost Tally

	// DistinctSpans, Duplicates and Traces are counted by id: a span that
	// comes again is a duplicate. Traces are those of spans and of runs. Under
	// KeepCounts they stay 0.
	DistinctSpans, Duplicates, Traces int64

	// Forgotten counts spans whose payload was dropped to stay within
	// Config.RetainBytes. Their ids are still known.
	Forgotten int64

	ByKey       map[APIKey]Tally
	ByWorkspace map[string]Tally
	ByEncoding  map[string]Tally
	// ByProject counts spans and runs. Under KeepCounts only the header names
	// projects, and runs are not counted.
	ByProject map[string]int64

	// Runs is what came as run operations. Their requests and bytes are in the
	// tallies above, too.
	Runs RunStats
}

// store is what a server remembers.
type store struct {
	keep        Keep
	retainBytes int64

	// mu covers all fields below, those of subscriptions included. Nothing
	// waits while holding it.
	mu        sync.Mutex
	stats     Stats
	seq       int64
	spans     map[SpanID]uint32 // times received
	traces    map[TraceID]struct{}
	projects  map[string][]string // by tenant, in order of appearance
	log       []*Request          // retained, oldest first
	retained  int64               // payload bytes in log
	runs      runStore
	quota     quotas
	resources resourceStore
	waiters   []*waiter
	subs      map[*Subscription]struct{}
	closed    bool
}

// waiter is somebody waiting for the statistics to say something.
type waiter struct {
	met  func(*Stats) bool
	done chan struct{} // closed when met, or when the store closes
}

func newStore(cfg Config) *store {
	st := &store{keep: cfg.Keep, retainBytes: cfg.RetainBytes, subs: map[*Subscription]struct{}{}}
	st.quota = quotas{standard: cfg.Limits, own: make(map[string]Limits, len(cfg.TenantLimits))}
	for tenant, l := range cfg.TenantLimits {
		st.quota.own[accountKey(tenant)] = l
	}
	st.clearLocked()
	return st
}

// clearLocked forgets everything received.
func (st *store) clearLocked() {
	st.stats = Stats{
		Answers: map[int]int64{}, Faults: map[string]int64{}, ByKey: map[APIKey]Tally{},
		ByWorkspace: map[string]Tally{}, ByEncoding: map[string]Tally{}, ByProject: map[string]int64{},
		Runs: newRunStats(),
	}
	st.seq, st.retained, st.log = 0, 0, nil
	st.spans = map[SpanID]uint32{}
	st.traces = map[TraceID]struct{}{}
	st.projects = map[string][]string{}
	st.runs = newRunStore()
	st.quota.accounts = map[string]*account{} // limits stay
	st.resources = resourceStore{}
}

// arrived counts a request, and the fault that strikes it.
func (st *store) arrived(f *Fault) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.stats.Requests++
	if f != nil {
		bump(st.stats.Faults, f.label(), 1)
	}
	st.wakeLocked()
}

// answered counts an answer; 0 is a connection broken off.
func (st *store) answered(status int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.stats.Answers[status]++
	st.wakeLocked()
}

// lost counts a request that was answered as if it had been taken.
func (st *store) lost(in *Request) {
	st.mu.Lock()
	defer st.mu.Unlock()
	in.Spans = 0
	st.stats.Lost.add(in)
	st.wakeLocked()
}

// record takes a request in, unless it exceeds a limit of its tenant. The heads
// are those of its spans, or nil where nobody looked.
func (st *store) record(in *Request, heads []spanHead) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	used, err := st.claimLocked(in, demand{events: int64(in.Spans), bytes: in.RawBytes, heads: heads})
	if err != nil {
		return err
	}
	used.settle()
	st.seq++
	in.Seq = st.seq
	st.stats.Taken.add(in)
	tally(st.stats.ByKey, in.Key, in)
	tally(st.stats.ByWorkspace, in.Workspace, in)
	tally(st.stats.ByEncoding, in.Encoding, in)
	if st.keep == KeepCounts {
		st.countProjectLocked(in.Workspace, projectOf(in, ""), int64(in.Spans))
	} else {
		st.recordIDsLocked(in, heads)
	}
	if st.keep == KeepSpans {
		st.retainLocked(in)
	}
	st.wakeLocked()
	return nil
}

// recordIDsLocked counts spans and traces by id and by project.
func (st *store) recordIDsLocked(in *Request, heads []spanHead) {
	var project string
	var run int64 // spans in a row of the same project
	for i := range heads {
		h := &heads[i]
		st.spans[h.id]++
		if st.spans[h.id] == 1 {
			st.stats.DistinctSpans++
		} else {
			st.stats.Duplicates++
		}
		st.traces[h.billed] = struct{}{}
		if p := projectOf(in, h.project); p != project {
			st.countProjectLocked(in.Workspace, project, run)
			project, run = p, 0
		}
		run++
	}
	st.countProjectLocked(in.Workspace, project, run)
	st.stats.Traces = int64(len(st.traces))
}

// countProjectLocked counts spans of a project, which exists from then on.
func (st *store) countProjectLocked(tenant, project string, spans int64) {
	if spans == 0 {
		return
	}
	bump(st.stats.ByProject, project, spans)
	list := st.projects[tenant]
	if len(st.projects) < maxGroups && len(list) < maxGroups && !slices.Contains(list, project) {
		st.projects[tenant] = append(list, project)
	}
}

// retainLocked keeps the payload and forgets the oldest beyond the bound.
func (st *store) retainLocked(in *Request) {
	st.log = append(st.log, in)
	st.retained += int64(len(in.Payload))
	drop := 0
	for st.retained > st.retainBytes && drop < len(st.log) {
		old := st.log[drop]
		st.retained -= int64(len(old.Payload))
		st.stats.Forgotten += int64(old.Spans)
		st.log[drop] = nil // the array behind the slice would keep it alive
		drop++
	}
	st.log = st.log[drop:]
}

// tally adds a request to its group.
func tally[K ~string](groups map[K]Tally, key K, in *Request) {
	t, ok := groups[key]
	if !ok && len(groups) >= maxGroups {
		key = otherGroup
		t = groups[key]
	}
	t.add(in)
	groups[key] = t
}

// bump adds n to a group.
func bump(groups map[string]int64, key string, n int64) {
	if _, ok := groups[key]; !ok && len(groups) >= maxGroups {
		key = otherGroup
	}
	groups[key] += n
}

// snapshot returns a copy of the statistics.
func (st *store) snapshot() Stats {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.snapshotLocked()
}

func (st *store) snapshotLocked() Stats {
	s := st.stats
	s.Answers = maps.Clone(s.Answers)
	s.Faults = maps.Clone(s.Faults)
	s.ByKey = maps.Clone(s.ByKey)
	s.ByWorkspace = maps.Clone(s.ByWorkspace)
	s.ByEncoding = maps.Clone(s.ByEncoding)
	s.ByProject = maps.Clone(s.ByProject)
	s.Runs.Duplicates = maps.Clone(s.Runs.Duplicates)
	s.Runs.ByPath = maps.Clone(s.Runs.ByPath)
	return s
}

// wakeLocked wakes those whose condition is met.
func (st *store) wakeLocked() {
	if len(st.waiters) == 0 {
		return
	}
	st.waiters = slices.DeleteFunc(st.waiters, func(w *waiter) bool {
		if !w.met(&st.stats) {
			return false
		}
		close(w.done)
		return true
	})
}

// await blocks until the statistics meet a condition.
func (st *store) await(ctx context.Context, what string, met func(*Stats) bool) error {
	w := &waiter{met: met, done: make(chan struct{})}
	st.mu.Lock()
	if met(&st.stats) {
		st.mu.Unlock()
		return nil
	}
	if st.closed {
		st.mu.Unlock()
		return fmt.Errorf("waiting for %s: %w", what, ErrClosed)
	}
	st.waiters = append(st.waiters, w)
	st.mu.Unlock()
	var err error
	select {
	case <-w.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.waiters = slices.DeleteFunc(st.waiters, func(o *waiter) bool { return o == w })
	switch {
	case met(&st.stats):
		return nil
	case err == nil && st.closed:
		err = ErrClosed
	case err == nil:
		return nil // met, and reset since
	}
	var runs string
	if n := st.stats.Taken.Operations; n > 0 {
		runs = fmt.Sprintf(", %d operations of %d runs", n, st.stats.Runs.Distinct)
	}
	return fmt.Errorf("waiting for %s: %d spans%s in %d requests have arrived: %w",
		what, st.stats.Taken.Spans, runs, st.stats.Requests, err)
}

// close ends waits and subscriptions.
func (st *store) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return
	}
	st.closed = true
	for _, w := range st.waiters {
		close(w.done)
	}
	st.waiters = nil
	for sub := range st.subs {
		st.endLocked(sub)
	}
}

// publish hands a request's spans to the subscriptions. msg is the decoded
// payload where the caller has it.
func (st *store) publish(in *Request, payload []byte, msg *collectorpb.ExportTraceServiceRequest) {
	st.mu.Lock()
	idle := len(st.subs) == 0
	st.mu.Unlock()
	if idle || in.Spans == 0 {
		return
	}
	var spans []Span
	if msg != nil {
		spans = spansOf(in, msg)
	} else {
		var err error
		if spans, err = decodeSpans(in, payload); err != nil {
			return // taken by the scan alone: cannot be shown
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for sub := range st.subs {
		select {
		case sub.spans <- spans:
		default:
			sub.missed += int64(len(spans))
		}
	}
}
