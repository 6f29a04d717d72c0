package admin

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/queue"
)

// Pipeline is the Source of a running weir. Its fields are set before it is
// used and not changed.
type Pipeline struct {
	Version   string
	DataDir   string
	LedgerDir string // of the quota's ledger; empty: it is not on disk
	StartedAt time.Time
	Acceptor  *proxy.Acceptor
	Forwarder *proxy.Forwarder
	Now       func() time.Time // nil: time.Now

	// Tester makes the tests of SendTest. Nil: there are none.
	Tester func(context.Context, *weirv1.SendTestRequest, func(*weirv1.SendTestResponse) error) error

	// Reloader reads the configuration anew. Nil: it cannot be.
	Reloader func(ctx context.Context) (changed, needsRestart []string, err error)
	// Log is the level of the process's log. Nil: it cannot be changed.
	Log *LogLevel

	recorder recorder
	pictures pictures
}

func (p *Pipeline) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// Status implements Source.
func (p *Pipeline) Status(context.Context) (*weirv1.GetStatusResponse, error) {
	s := p.Forwarder.Status(p.Acceptor)
	now := p.now()
	out := p.statusMessage(&s, now)
	out.Lanes = laneMessages(&s, now)
	for i := range s.Cases {
		out.Cases = append(out.Cases, caseMessage(&s.Cases[i]))
	}
	return out, nil
}

// statusMessage is a status without its lanes and cases.
func (p *Pipeline) statusMessage(s *proxy.Status, now time.Time) *weirv1.GetStatusResponse {
	out := &weirv1.GetStatusResponse{
		Version: p.Version, StartedAt: timestamppb.New(p.StartedAt), DataDir: p.DataDir,
		Totals:   totalsMessage(s.Queue.Totals),
		Disk:     diskMessage(&s.Queue),
		Upstream: &weirv1.UpstreamStatus{Url: s.UpstreamURL, LastDeliveredAt: timestamp(s.LastDelivered)},
		Problems: s.Problems, Draining: s.Stopped != "", RestampedTraces: s.Restamped,
		Flow: p.flowMessage(s, now), CaseCounts: countsMessage(&s.CaseCounts),
	}
	if w := s.UpstreamWait; w != nil {
		out.Upstream.WaitingReason, out.Upstream.NextAttempt = w.Reason, timestamp(w.Until)
	}
	return out
}

func laneMessages(s *proxy.Status, now time.Time) []*weirv1.Lane {
	out := make([]*weirv1.Lane, 0, len(s.Lanes))
	for i := range s.Lanes {
		out = append(out, laneMessage(&s.Lanes[i], s.UpstreamURL, now))
	}
	return out
}

func totalsMessage(t queue.Totals) *weirv1.Totals {
	return &weirv1.Totals{
		AcceptedItems: t.Accepted, DeliveredItems: t.Delivered, PendingItems: t.Pending, HeldItems: t.Held,
		QuarantinedItems: t.Quarantined, DroppedItems: t.Dropped, DroppedByReason: t.DroppedByReason,
	}
}

func diskMessage(q *queue.Stats) *weirv1.Disk {
	d := &weirv1.Disk{
		UsedBytes: q.UsedBytes, MaxBytes: q.MaxBytes, FreeBytes: q.FreeBytes, MinFreeBytes: q.MinFree,
		Segments: int32(q.Segments),
	}
	if q.Refusing != nil {
		d.Refusing = q.Refusing.Reason + ": " + q.Refusing.Detail
	}
	return d
}

var laneStates = map[proxy.LaneState]weirv1.LaneState{
	proxy.LaneIdle:    weirv1.LaneState_LANE_STATE_IDLE,
	proxy.LaneSending: weirv1.LaneState_LANE_STATE_SENDING,
	proxy.LaneWaiting: weirv1.LaneState_LANE_STATE_WAITING,
	proxy.LaneParked:  weirv1.LaneState_LANE_STATE_PARKED,
}

func laneMessage(l *proxy.LaneStatus, upstreamURL string, now time.Time) *weirv1.Lane {
	m := &weirv1.Lane{
		Id: uint32(l.ID), Protocol: l.Lane.Protocol.String(), Upstream: upstreamURL, Credential: l.Credential,
		Workspace: l.Workspace, Project: l.Project, State: laneStates[l.State], Reason: l.Reason,
		Since: timestamp(l.Since), PendingItems: l.PendingItems, PendingBytes: l.PendingBytes,
		NextAttempt: timestamp(l.NextAttempt), QuarantinedItems: l.KeptItems,
		DeliveredItems: l.Delivered, LastError: l.LastError,
	}
	if !l.OldestAt.IsZero() {
		m.OldestAge = durationpb.New(max(0, now.Sub(l.OldestAt)))
	}
	return m
}

func caseMessage(c *proxy.CaseStatus) *weirv1.Case {
	x, top := &c.Refusal.Exchange, c.Diagnosis.Top()
	return &weirv1.Case{
		Cause: string(top.Code), Remedy: top.Remedy,
		Id: uint64(c.Place), LaneId: uint32(c.Lane), Reason: c.Refusal.Reason,
		Status: int32(x.Status),
		Body:   x.Body, RequestId: x.RequestID, OpenedAt: timestamppb.New(c.OpenedAt), Items: c.Items, Bytes: c.Bytes,
	}
}

// timestamp is t, or nothing for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Drain implements Source.
func (p *Pipeline) Drain(ctx context.Context, timeout time.Duration, report func(*weirv1.DrainResponse) error) error {
	drainCtx := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		drainCtx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return p.Forwarder.Drain(drainCtx, p.Acceptor, func(d proxy.DrainProgress) error {
		if err := ctx.Err(); err != nil {
			return errors.Join(errors.New("the caller left; weir keeps draining"), err)
		}
		return report(&weirv1.DrainResponse{
			PendingItems: d.PendingItems, DeliveredItems: d.DeliveredItems, Done: d.Done, Left: d.Left,
		})
	})
}

// Reload implements Source.
func (p *Pipeline) Reload(ctx context.Context) (*weirv1.ReloadResponse, error) {
	if p.Reloader == nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this weir cannot read its configuration anew"))
	}
	changed, needsRestart, err := p.Reloader(ctx)
	if err != nil {
		if ctx.Err() == nil {
			err = connect.NewError(connect.CodeFailedPrecondition, err)
		}
		return nil, err
	}
	return &weirv1.ReloadResponse{Changed: changed, NeedsRestart: needsRestart}, nil
}

// LogLevel implements Source.
func (p *Pipeline) LogLevel() *LogLevel { return p.Log }

// Ready implements Source: weir is ready while it takes exports.
func (p *Pipeline) Ready() (ok bool, reasons []string) {
	s := p.Forwarder.Status(p.Acceptor)
	ok = s.Stopped == "" && s.Queue.Refusing == nil
	if s.Stopped != "" {
		reasons = append(reasons, "weir is "+s.Stopped)
	}
	return ok, append(reasons, s.Problems...)
}
