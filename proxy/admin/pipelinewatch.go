package admin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
)

// Record implements Source.
func (p *Pipeline) Record(ctx context.Context) {
	p.recorder.record(ctx, p.now, p.Forwarder.Reading)
}

// History implements Source.
func (p *Pipeline) History(_ context.Context, span time.Duration) (*weirv1.GetHistoryResponse, error) {
	steps, length := p.recorder.history(p.now(), span)
	return &weirv1.GetHistoryResponse{Points: historyPoints(steps), Step: durationpb.New(length)}, nil
}

// PointsSince implements Source.
func (p *Pipeline) PointsSince(t time.Time) (points []*weirv1.HistoryPoint, last time.Time) {
	steps := p.recorder.since(t)
	if len(steps) == 0 {
		return nil, p.recorder.lastStep()
	}
	return historyPoints(steps), steps[len(steps)-1].end.at
}

// pictures keeps the last picture that was taken.
type pictures struct {
	mu   sync.Mutex // held while one is taken: whoever waits for it shares it
	last *Picture
}

// Picture implements Source.
func (p *Pipeline) Picture(ctx context.Context, maxAge time.Duration) (*Picture, error) {
	asked := p.now()
	p.pictures.mu.Lock()
	defer p.pictures.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if last := p.pictures.last; last != nil && !last.Time.Before(asked.Add(-maxAge)) && !last.Time.After(p.now()) {
		return last, nil
	}
	now := p.now()
	s := p.Forwarder.Status(p.Acceptor)
	out := &Picture{Time: now, Status: p.statusMessage(&s, now), Lanes: laneMessages(&s, now)}
	for i := range s.Cases {
		out.Cases = append(out.Cases, quarantineMessage(&s.Cases[i], proxy.TraceCount{}))
	}
	out.Scopes = quotaDesk{p.Forwarder}.show().GetScopes()
	p.pictures.last = out
	return out, nil
}

// flowMessage is how fast data comes and goes, up to a status.
func (p *Pipeline) flowMessage(s *proxy.Status, now time.Time) *weirv1.Flow {
	f := p.recorder.flow(sample{now, proxy.Reading{Totals: s.Queue.Totals, SentBytes: s.SentBytes}})
	m := &weirv1.Flow{AcceptedPerSecond: f.accepted, DeliveredPerSecond: f.delivered, SentBytesPerSecond: f.sentBytes}
	if f.drainedIn > 0 {
		m.DrainedIn = durationpb.New(f.drainedIn.Round(time.Second))
	}
	return m
}

func countsMessage(c *proxy.CaseCounts) *weirv1.CaseCounts {
	return &weirv1.CaseCounts{
		Cases: int32(c.Cases), NeedsPerson: int32(c.NeedsPerson), Probing: int32(c.Probing), Releasing: int32(c.Releasing), Items: c.Items,
	}
}
