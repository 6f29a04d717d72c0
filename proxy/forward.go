package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"weir/proxy/diagnose"
	"weir/queue"
	"weir/quota"
)

// ForwardConfig says how data is sent.
type ForwardConfig struct {
	// MaxRequestBytes bounds a request's payload before compression; one frame
	// is sent whatever its size. Default 4 MiB.
	MaxRequestBytes int64
	// Linger is how long data waits to fill a request. Default 200 ms.
	Linger time.Duration
	// Concurrency is how many requests are under way at a time. Default 8.
	Concurrency int
	// Coalesce is how long run operations wait for updates of the runs they
	// create, so that both leave as one operation. 0: they do not wait, and are
	// one only if both are there. At most an hour.
	Coalesce time.Duration
	// Quota keeps what is sent within LangSmith's limits.
	Quota *Quota
	// Asker asks LangSmith for the date, where that decides about the month.
	// Nil: nobody asks, and a month that begins while nothing is sent waits.
	Asker Asker
	// ProbeRegions are base URLs of LangSmith's other regions to which a key that
	// is refused may be sent, to find out whether it is theirs. Empty: none.
	ProbeRegions []string
	// Certificate reads the certificate that the upstream shows, sending nothing.
	// Nil: it is not looked at.
	Certificate func(ctx context.Context) (*diagnose.Certificate, error)
	// AskUsage has it also asked for accounts, limits and usage.
	AskUsage bool
	// HoldMaxAge is how long data is held before it is dropped. Default 40 days.
	HoldMaxAge time.Duration
	// StartWindow is the start-time window of the upstream.
	StartWindow StartWindow

	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

func (c *ForwardConfig) setDefaults() {
	if c.MaxRequestBytes <= 0 {
		c.MaxRequestBytes = 4 << 20
	}
	if c.Linger <= 0 {
		c.Linger = 200 * time.Millisecond
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 8
	}
	if c.HoldMaxAge <= 0 {
		c.HoldMaxAge = defaultHoldMaxAge
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

const (
	// pollEvery bounds how often the lanes are looked at while data pours in.
	pollEvery = 5 * time.Millisecond
	// idleWait is how long the dispatcher sleeps when nothing is due.
	idleWait = time.Minute
	// newestEvery: of a lane with a backlog, every so many requests carry its
	// newest data, so that new data does not wait for the backlog.
	newestEvery = 4
	// backlogRequests is what counts as a backlog.
	backlogRequests = 4
	// maxPlainBytes bounds the run operations that are held decompressed at a
	// time, but for a single larger frame.
	maxPlainBytes = 24 << 20
)

// Forwarder sends what is pending. One goroutine, the dispatcher, leases from
// the queue and starts a bounded number of sends; Close joins them all.
type Forwarder struct {
	*Quota

	cfg   ForwardConfig
	q     *queue.Queue
	up    Upstream
	vault *Vault
	waits *waits
	cases *caseBook
	m     *forwardMetrics

	history  *history
	attempts *attempts
	guilty   *guiltyRuns
	starts   *startWindow
	recent   recentTraces
	plain    *semaphore.Weighted // bytes of run operations held decompressed

	draining atomic.Bool

	slots chan struct{} // one token per send under way
	freed chan struct{} // cap 1: a send ended, or something else changed
	stop  context.CancelFunc
	cut   context.CancelFunc // interrupts sends
	sends sync.WaitGroup
	loop  chan struct{} // closed when the dispatcher has ended

	watchWake chan struct{}  // cap 1: LangSmith should be asked
	medicWake chan struct{}  // cap 1: a case should be looked at
	minders   sync.WaitGroup // the goroutines beside the dispatcher

	// keptFull is set while quarantine is known to have no room.
	keptFull atomic.Bool

	mu    sync.Mutex // guards lanes, what they point to, and the fields below
	lanes map[queue.LaneID]*laneRun
	// lastDelivered is when a request last came through.
	lastDelivered time.Time
	leases        uint64               // so far, of all lanes
	casework      map[queue.Place]bool // cases that a person is having released or discarded
	holdError     string               // the last one logged

	counts traceCounts
}

// laneRun is what this process knows of a lane's sending.
type laneRun struct {
	sending     int
	turns       int    // leases so far
	lastTurn    uint64 // Forwarder.leases at the latest of them
	maxRawBytes int64  // smaller than configured after a 413; 0: as configured
	tooLarge    int64  // a size that was refused with 413 lately; 0: none
	tooLargeAt  time.Time
	delivered   int64
	lastError   string
	storeError  string // the last one logged
	idleSince   time.Time
	sendSince   time.Time

	relapses    int       // releases in a row that were refused again
	releasedAt  time.Time // of the latest release that was not refused again so far
	releaseFrom time.Time // no release before

	pausedUntil time.Time // no round before: what there is waits for updates
	laterFrom   time.Time // no release before of what was not there yet
	laterTries  int       // of those releases

	moving   int  // nothing is sent while its data goes to another lane
	entering bool // a send is about to begin
}

// NewForwarder returns a forwarder that has not started.
func NewForwarder(q *queue.Queue, up Upstream, v *Vault, cfg ForwardConfig) *Forwarder {
	cfg.setDefaults()
	f := &Forwarder{
		Quota: cfg.Quota, watchWake: make(chan struct{}, 1), medicWake: make(chan struct{}, 1),
		cfg: cfg, q: q, up: up, vault: v, waits: newWaits(q, cfg.Now), cases: newCaseBook(q),
		m:     newForwardMetrics(),
		slots: make(chan struct{}, cfg.Concurrency), freed: make(chan struct{}, 1),
		loop: make(chan struct{}), lanes: map[queue.LaneID]*laneRun{},
		attempts: newAttempts(q), plain: semaphore.NewWeighted(maxPlainBytes),
	}
	f.history = newHistory(q, cfg.Now)
	f.guilty = newGuiltyRuns(q, f.cases)
	f.starts = newStartWindow(&f.cfg)
	return f
}

// Start begins sending. Close ends it, not ctx.
func (f *Forwarder) Start(ctx context.Context) {
	ctx = context.WithoutCancel(ctx) // Close decides when sends end
	run, stop := context.WithCancel(ctx)
	send, cut := context.WithCancel(ctx)
	f.stop, f.cut = stop, cut
	go func() {
		defer close(f.loop)
		f.dispatch(run, send)
	}()
	f.minders.Go(func() { (&holder{f: f}).run(run) })
	if f.cfg.Asker != nil {
		f.minders.Go(func() { (&watch{f: f, asker: f.cfg.Asker, next: map[string]*schedule{}}).run(run) })
		f.minders.Go(func() { newMedic(f).run(run) })
	}
}

// Close stops starting sends, lets those under way finish until ctx is done,
// and interrupts the rest, whose data stays pending. It returns how many it
// interrupted.
func (f *Forwarder) Close(ctx context.Context) (interrupted int) {
	f.stop()
	<-f.loop
	f.minders.Wait()
	done := make(chan struct{})
	go func() {
		f.sends.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		interrupted = len(f.slots)
		f.cut()
		<-done
	}
	f.cut()
	if err := f.starts.close(); err != nil {
		f.cfg.Logger.Error("the moved start times could not be closed", "error", err)
	}
	return interrupted
}

// SetDestination replaces weir's own key, workspace and project. What waits
// for them is tried at once.
func (f *Forwarder) SetDestination(d Destination) {
	f.setDestination(&d)
	f.strand() // what is held may be another account's now
	f.pokeWatch()
	f.Wake()
	f.pokeMedic()
}

// Destination is weir's own key, workspace and project as they are now.
func (f *Forwarder) Destination() Destination { return *f.dest.Load() }

// Wake tries everything that waits at once.
func (f *Forwarder) Wake() {
	f.mu.Lock()
	for _, r := range f.lanes {
		r.releaseFrom, r.laterFrom, r.pausedUntil = time.Time{}, time.Time{}, time.Time{}
	}
	f.mu.Unlock()
	f.waits.wake()
	f.poke()
}

func (f *Forwarder) pokeWatch() {
	select {
	case f.watchWake <- struct{}{}:
	default:
	}
}

func (f *Forwarder) pokeMedic() {
	select {
	case f.medicWake <- struct{}{}:
	default:
	}
}

func (f *Forwarder) poke() {
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// dispatch is the dispatcher: it starts sends for lanes that are due until run
// is done. Sends run under the context send.
func (f *Forwarder) dispatch(run, send context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for run.Err() == nil {
		started := f.cfg.Now()
		next := f.pass(run, send)
		select {
		case <-run.Done():
			return
		default:
		}
		timer.Reset(next)
		select {
		case <-run.Done():
			return
		case <-timer.C:
		case <-f.freed:
		case <-f.q.Changed():
			// Commits come by the thousand; look at most every pollEvery.
			if gap := pollEvery - f.cfg.Now().Sub(started); gap > 0 {
				timer.Reset(gap)
				select {
				case <-run.Done():
					return
				case <-timer.C:
				case <-f.freed:
				}
			}
		}
	}
}

// pass starts what is due, lanes in turn, and returns when to look again.
func (f *Forwarder) pass(run, send context.Context) time.Duration {
	next := idleWait
	lanes := f.q.Lanes()
	for _, id := range f.forget(lanes) {
		f.attempts.forgetLane(id)
		f.guilty.forgetLane(id)
	}
	f.rotate(lanes)
	for again := true; again && run.Err() == nil; {
		again = false
		for i := range lanes {
			if len(f.slots) == cap(f.slots) {
				return next // a send that ends wakes the dispatcher
			}
			started, wait := f.tryLane(send, &lanes[i])
			again = again || started
			if wait > 0 {
				next = min(next, wait)
			}
		}
	}
	return next
}

// rotate orders the lanes so that those with the fewest requests under way come
// first, and of those the one that has waited for its turn the longest. Without
// the latter, lanes in excess of the slots would starve, and of many lanes that
// wait for one upstream always the same one would be the probe.
func (f *Forwarder) rotate(lanes []queue.LaneStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var unseen laneRun
	run := func(l *queue.LaneStats) *laneRun {
		if r := f.lanes[l.ID]; r != nil {
			return r
		}
		return &unseen
	}
	slices.SortStableFunc(lanes, func(a, b queue.LaneStats) int {
		ra, rb := run(&a), run(&b)
		return cmp.Or(cmp.Compare(ra.sending, rb.sending), cmp.Compare(ra.lastTurn, rb.lastTurn))
	})
}

// forgetSlack is how many lanes that are gone may be remembered.
const forgetSlack = 256

// forget drops what is known of lanes that the queue has forgotten: callers
// choose projects, so new lanes come for as long as weir runs.
func (f *Forwarder) forget(lanes []queue.LaneStats) (gone []queue.LaneID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lanes) <= len(lanes)+forgetSlack {
		return nil
	}
	live := make(map[queue.LaneID]bool, len(lanes))
	for i := range lanes {
		live[lanes[i].ID] = true
	}
	for id, r := range f.lanes {
		if !live[id] && r.sending == 0 {
			delete(f.lanes, id)
			gone = append(gone, id)
		}
	}
	return gone
}

// tryLane starts one send for a lane if it is due. wait is when to look again
// if it is not, 0 if a change will tell.
func (f *Forwarder) tryLane(send context.Context, s *queue.LaneStats) (started bool, wait time.Duration) {
	lane, err := parseLane(s.Descriptor)
	if err != nil {
		return false, 0
	}
	run := f.lane(s.ID)
	later := f.releaseLater(s.ID, run)
	if s.PendingFrames == 0 && !f.cases.mayRelease(s.ID, healsWithLane) {
		return false, later
	}
	keys := f.waitKeys(lane, s.ID)
	ok, probe, until := f.waits.due(keys)
	if !ok {
		return false, untilOr(until, f.cfg.Now())
	}
	if probe && f.probesCase(s, lane) {
		return f.probeCase(send, &sending{lane: lane, keys: keys, run: run, probe: probe, turn: run.turns}, s)
	}
	if s.PendingFrames == 0 {
		return false, f.releaseHealed(s.ID, run)
	}
	if int64(s.LeasedFrames) >= s.PendingFrames {
		return false, later
	}
	if lane.Protocol == ProtocolRuns {
		if wait, ready := f.roundDue(s, run, probe); !ready {
			return false, wait
		}
		return f.lease(send, &sending{lane: lane, keys: keys, run: run, probe: probe, turn: run.turns}, s, f.roundLease(s.ID))
	}
	maxRaw := f.requestBytes(run)
	if age := f.cfg.Now().Sub(s.OldestAt); !probe && !f.draining.Load() && s.LeasedFrames == 0 &&
		s.PendingRawBytes < maxRaw && age >= 0 && age < f.cfg.Linger {
		return false, f.cfg.Linger - age
	}
	opts := queue.LeaseOptions{Lane: s.ID, MaxRawBytes: maxRaw}
	if probe {
		// From both ends in turn: a frame that fails by itself, but looks like
		// an outage, must not be the only probe for ever.
		opts.MaxFrames, opts.Newest = 1, run.turns%2 == 1
	} else if s.PendingRawBytes > backlogRequests*maxRaw && run.turns%newestEvery == newestEvery-1 {
		opts.Newest = true
	}
	return f.lease(send, &sending{lane: lane, keys: keys, run: run, probe: probe}, s, opts)
}

// lease leases for a send and starts it.
func (f *Forwarder) lease(send context.Context, one *sending, s *queue.LaneStats, opts queue.LeaseOptions) (started bool, wait time.Duration) {
	select {
	case f.slots <- struct{}{}:
	default:
		return false, 0
	}
	defer func() {
		if !started {
			<-f.slots
		}
	}()
	if !f.enter(one.run) {
		return false, 0
	}
	defer f.leave(one.run)
	lease, err := f.q.Lease(opts)
	if err != nil {
		f.noteError(s.ID, err)
		return false, retryBase
	}
	if lease == nil {
		return false, 0
	}
	one.lease = lease
	if one.probe {
		f.waits.beginProbe(one.keys)
	}
	s.LeasedFrames += len(lease.Frames)
	s.PendingRawBytes -= rawBytes(lease)
	f.begin(one.run)
	f.sends.Go(func() {
		defer func() {
			f.end(one.run)
			<-f.slots
			f.poke()
		}()
		f.send(send, one)
	})
	return true, 0
}

func untilOr(until, now time.Time) time.Duration {
	if until.IsZero() {
		return 0
	}
	return max(until.Sub(now), time.Millisecond)
}

func rawBytes(l *queue.Lease) (n int64) {
	for i := range l.Frames {
		n += int64(l.Frames[i].RawBytes)
	}
	return n
}

// sending is one lease on its way.
type sending struct {
	lane  Lane
	lease *queue.Lease
	keys  []waitKey
	run   *laneRun
	probe bool
	turn  int // of the lane
	began time.Time

	as     caller    // whose key is sent, in which workspace
	traces []TraceID // of the lease, distinct
	// passage is the guard's leave to send them; nil: none is needed.
	passage *quota.Passage
	fresh   bool // some of them are not counted this month
}

// send sends a lease and settles it by the outcome.
func (f *Forwarder) send(ctx context.Context, s *sending) {
	if s.probe {
		defer f.waits.endProbe(s.keys)
	}
	s.began = f.cfg.Now()
	req, err := f.request(s)
	if err != nil {
		s.lease.Return()
		f.waits.failed(credentialWait(s.lane), &Outcome{
			Kind: Refused, Reason: "credential_unreadable", Scope: ScopeCredential, Exchange: Exchange{Error: err.Error()},
		}, s.began)
		return
	}
	lane := s.lease.Lane
	claimed, err := f.claim(s)
	if s.passage != nil {
		defer f.guard.Ended(s.passage)
	}
	switch {
	case !claimed:
	case s.lane.Protocol == ProtocolRuns:
		err = f.sendRound(ctx, s, req)
	default:
		err = f.sendSpans(ctx, s, req)
	}
	if err != nil {
		f.noteError(lane, err)
		// The data is pending again: sent at once, it would arrive over and over.
		f.waits.failed(laneWait(lane), &Outcome{
			Kind: Retry, Reason: "not_settled", Scope: ScopeLane, Exchange: Exchange{Error: err.Error()},
		}, s.began)
	}
}

// sendSpans sends a lease of spans as one request and settles it.
func (f *Forwarder) sendSpans(ctx context.Context, s *sending, req *Request) error {
	one := sentRequest{traces: s.traces}
	for i := range s.lease.Frames {
		fr := &s.lease.Frames[i]
		req.Parts = append(req.Parts, partOf(fr))
		req.Items += fr.Items
		one.bytes += int64(fr.RawBytes)
	}
	one.events = int64(req.Items)
	if full, ok := f.take(s.lane, &one); !ok {
		return f.settle(ctx, s, req, &full)
	}
	out := f.up.Send(ctx, req)
	f.m.count(&out, req.Items)
	if err := f.sent(s, &one, &out); err != nil {
		s.lease.Return()
		return err
	}
	return f.settle(ctx, s, req, &out)
}

func partOf(fr *queue.Frame) Part {
	return Part{Payload: fr.Payload, Zstd: fr.Zstd, RawBytes: fr.RawBytes}
}

// lane returns the run of a lane.
func (f *Forwarder) lane(id queue.LaneID) *laneRun {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.lanes[id]
	if r == nil {
		r = &laneRun{idleSince: f.cfg.Now()}
		f.lanes[id] = r
	}
	return r
}

func (f *Forwarder) begin(r *laneRun) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.sending == 0 {
		r.sendSince = f.cfg.Now()
	}
	f.leases++
	r.sending++
	r.turns++
	r.lastTurn = f.leases
}

func (f *Forwarder) end(r *laneRun) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.sending--
	r.idleSince = f.cfg.Now()
}

func (f *Forwarder) noteError(id queue.LaneID, err error) {
	if errors.Is(err, queue.ErrClosed) {
		return
	}
	r := f.lane(id)
	f.mu.Lock()
	said := r.storeError == err.Error()
	r.lastError, r.storeError = err.Error(), err.Error()
	f.mu.Unlock()
	f.m.storeErrors.Inc()
	if said {
		return // it is counted, and one line is enough until it changes
	}
	f.cfg.Logger.Error("the buffer could not be read or settled; it is tried again", "lane", id, "error", err)
}
