package admin

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

// Observer is what shows a weir while it changes.
type Observer interface {
	// Record keeps what GetHistory shows until ctx ends. The server runs it once,
	// in a goroutine of its own, from Start to Close.
	Record(ctx context.Context)
	// History is the last while; span is valid.
	History(ctx context.Context, span time.Duration) (*weirv1.GetHistoryResponse, error)
	// PointsSince are the points of the finest step that ended after t, at most
	// an hour of them, and when the last step ended.
	PointsSince(t time.Time) (points []*weirv1.HistoryPoint, last time.Time)
	// Picture shows everything at once. It is taken anew if the last one is older
	// than maxAge, else that is returned: it is shared, and never changed.
	Picture(ctx context.Context, maxAge time.Duration) (*Picture, error)
}

// Picture is a weir at one moment. Nothing in it is changed after it was taken.
type Picture struct {
	Time   time.Time
	Status *weirv1.GetStatusResponse // without lanes and cases
	Lanes  []*weirv1.Lane
	Cases  []*weirv1.QuarantineCase // the first hundred, traces not counted
	Scopes []*weirv1.QuotaScope
}

// The bounds of a watch.
const (
	minInterval     = 250 * time.Millisecond
	maxInterval     = time.Minute
	defaultInterval = time.Second
	// heartbeat is the longest silence of a watch.
	heartbeat = 15 * time.Second
	// maxWatchers bounds the watches at a time. Each keeps one picture alive.
	maxWatchers = 32
)

// errTooManyWatch refuses one more watch.
var errTooManyWatch = errors.New("32 others watch already; close a dashboard or a `weir status --watch`")

// Watch implements weirv1connect.AdminServiceHandler. Pictures are shared: all
// watchers together take few more of them than the hastiest would alone, and
// nobody takes any while nobody watches. What is different is found by each for
// itself, without a lock, since each may have seen another picture before.
func (s *service) Watch(ctx context.Context, req *weirv1.WatchRequest, stream *connect.ServerStream[weirv1.WatchResponse]) error {
	interval, err := durationWithin("interval", req.GetInterval(), minInterval, maxInterval, defaultInterval)
	if err != nil {
		return err
	}
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		return connect.NewError(connect.CodeResourceExhausted, errTooManyWatch)
	}
	ctx, cancel := s.untilStopping(ctx)
	defer cancel()
	if err := s.watch(ctx, watcher{without: req}, interval, stream.Send); err != nil {
		return s.callError(ctx, "Watch", err)
	}
	return nil
}

// watch sends what changes until ctx ends or send fails.
func (s *service) watch(ctx context.Context, w watcher, interval time.Duration, send func(*weirv1.WatchResponse) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextLook, nextBeat time.Time
	var seen, seenAt time.Time // the last picture's time, by weir's clock and by this one
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		var m *weirv1.WatchResponse
		looked := !time.Now().Before(nextLook)
		if looked {
			maxAge := interval * 3 / 4
			if !w.began {
				maxAge = 0 // what its caller did before must show
			}
			p, err := s.src.Picture(ctx, maxAge)
			if err != nil {
				return err
			}
			m, seen, seenAt = w.next(p, s.src), p.Time, time.Now()
		}
		if m == nil && !time.Now().Before(nextBeat) {
			m = &weirv1.WatchResponse{Time: timestamppb.New(seen.Add(time.Since(seenAt)))}
		}
		if m != nil {
			if err := send(m); err != nil {
				return err
			}
			nextBeat = time.Now().Add(heartbeat)
		}
		if looked {
			nextLook = time.Now().Add(interval)
		}
		timer.Reset(min(time.Until(nextLook), time.Until(nextBeat)))
	}
}

// watcher is what one receiver asked for and has.
type watcher struct {
	without *weirv1.WatchRequest
	began   bool
	has     Picture   // entries of it are of several pictures
	full    time.Time // when all was last compared, also what only drifts
	points  time.Time // the end of the last step that was sent
}

// next is what became different up to p; nil: nothing.
func (w *watcher) next(p *Picture, src Observer) *weirv1.WatchResponse {
	m := &weirv1.WatchResponse{Time: timestamppb.New(p.Time), First: !w.began}
	// What changes with the clock alone is compared now and then only: else every
	// message would bring every lane that has a backlog.
	drift := p.Time.Sub(w.full).Abs() >= heartbeat
	if drift {
		w.full = p.Time
	}
	if d := (delta[*weirv1.GetStatusResponse]{steady: steadyStatus, drift: drift}); m.First || d.differs(w.has.Status, p.Status) {
		m.Status, w.has.Status = p.Status, p.Status
	}
	if !w.without.GetWithoutLanes() {
		d := delta[*weirv1.Lane]{steady: steadyLane, drift: drift}
		m.Lanes, m.LanesGone = changes(d, &w.has.Lanes, p.Lanes, (*weirv1.Lane).GetId)
	}
	if !w.without.GetWithoutCases() {
		d := delta[*weirv1.QuarantineCase]{steady: steadyCase, drift: drift}
		m.Cases, m.CasesGone = changes(d, &w.has.Cases, p.Cases, (*weirv1.QuarantineCase).GetId)
	}
	if !w.without.GetWithoutQuota() {
		d := delta[*weirv1.QuotaScope]{steady: steadyScope, drift: drift}
		m.Scopes, m.ScopesGone = changes(d, &w.has.Scopes, p.Scopes, (*weirv1.QuotaScope).GetAccount)
	}
	points, last := src.PointsSince(w.points)
	if w.points = last; w.began {
		m.Points = points
	}
	w.began = true
	if !m.First && m.Status == nil && len(m.Lanes)+len(m.LanesGone)+len(m.Cases)+len(m.CasesGone)+
		len(m.Scopes)+len(m.ScopesGone)+len(m.Points) == 0 {
		return nil
	}
	return m
}

// delta compares messages.
type delta[M proto.Message] struct {
	steady func(M) M // a message without what changes with the clock alone
	drift  bool      // compare that, too
}

func (d delta[M]) differs(a, b M) bool {
	return !proto.Equal(a, b) && (d.drift || !proto.Equal(d.steady(a), d.steady(b)))
}

// changes are the entries of now that are new or different from what the
// receiver has, and the keys of those that are not there any more. It has what
// is sent then, and of the rest what it had.
func changes[M proto.Message, K comparable](d delta[M], has *[]M, now []M, key func(M) K) (fresh []M, gone []K) {
	had := make(map[K]M, len(*has))
	for _, m := range *has {
		had[key(m)] = m
	}
	next := make([]M, 0, len(now))
	for _, m := range now {
		old, have := had[key(m)]
		if have && !d.differs(old, m) {
			next = append(next, old)
		} else {
			next = append(next, m)
			fresh = append(fresh, m)
		}
		delete(had, key(m))
	}
	for _, m := range *has {
		if _, left := had[key(m)]; left {
			gone = append(gone, key(m))
		}
	}
	*has = next
	return fresh, gone
}

// steadyStatus leaves out what other programs change.
func steadyStatus(s *weirv1.GetStatusResponse) *weirv1.GetStatusResponse {
	if s.GetDisk() == nil {
		return s
	}
	out := proto.CloneOf(s)
	out.Disk.FreeBytes = 0
	return out
}

// steadyLane leaves out the age of what waits.
func steadyLane(l *weirv1.Lane) *weirv1.Lane {
	out := proto.CloneOf(l)
	out.OldestAge = nil
	return out
}

// steadyCase is all of a case: nothing of it drifts.
func steadyCase(c *weirv1.QuarantineCase) *weirv1.QuarantineCase { return c }

// steadyScope leaves out the forecast: the same traces over more and more time.
func steadyScope(s *weirv1.QuotaScope) *weirv1.QuotaScope {
	out := proto.CloneOf(s)
	out.ForecastExhaustedAt, out.ProjectedTraces, out.ProjectedCostUsd, out.PerDay = nil, nil, 0, nil
	return out
}
