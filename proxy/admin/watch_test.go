package admin

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
)

// scene is a source that shows what a test sets.
type scene struct {
	Source

	mu     sync.Mutex
	shows  Picture
	points []*weirv1.HistoryPoint
	taken  int
}

func (s *scene) change(f func(*scene)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *scene) Picture(context.Context, time.Duration) (*Picture, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	p := s.shows
	p.Time = time.Now()
	return &p, nil
}

func (s *scene) PointsSince(t time.Time) (points []*weirv1.HistoryPoint, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last = t
	for _, p := range s.points {
		if at := p.GetTime().AsTime(); at.After(t) {
			points, last = append(points, p), at
		}
	}
	return points, last
}

// everything is a scene with one of each.
func everything() *scene {
	return &scene{shows: Picture{
		Status: &weirv1.GetStatusResponse{Version: "v1", Disk: &weirv1.Disk{UsedBytes: 5, FreeBytes: 100}},
		Lanes:  []*weirv1.Lane{{Id: 1, PendingItems: 3, OldestAge: durationpb.New(time.Second)}, {Id: 2}},
		Cases:  []*weirv1.QuarantineCase{{Id: 7, Items: 2}},
		Scopes: []*weirv1.QuotaScope{{Account: "a", TracesUsed: 1, PerDay: new(1.5)}},
	}}
}

// watching opens a watch that the test's end closes.
func watching(t *testing.T, client weirv1connect.AdminServiceClient, req *weirv1.WatchRequest,
) *connect.ServerStreamForClient[weirv1.WatchResponse] {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Watch(ctx, req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel() // a stream closed early would be read to its end
		_ = stream.Close()
	})
	return stream
}

// expect reads the next message and compares it, but for its time.
func expect(t *testing.T, stream *connect.ServerStreamForClient[weirv1.WatchResponse], want *weirv1.WatchResponse) time.Time {
	t.Helper()
	if !stream.Receive() {
		t.Fatalf("the watch ended: %v", stream.Err())
	}
	got := stream.Msg()
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&weirv1.WatchResponse{}, "time")); diff != "" {
		t.Fatalf("message (-want +got):\n%s", diff)
	}
	return got.GetTime().AsTime()
}

func TestWatchSendsAllThenWhatIsDifferent(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		s := everything()
		_, client := b.serveSource(t, s)
		stream := watching(t, client, &weirv1.WatchRequest{})
		expect(t, stream, &weirv1.WatchResponse{
			First: true, Status: s.shows.Status, Lanes: s.shows.Lanes, Cases: s.shows.Cases, Scopes: s.shows.Scopes,
		})
		lane := &weirv1.Lane{Id: 2, PendingItems: 9}
		s.change(func(s *scene) { s.shows.Lanes = []*weirv1.Lane{s.shows.Lanes[0], lane} })
		expect(t, stream, &weirv1.WatchResponse{Lanes: []*weirv1.Lane{lane}})
		s.change(func(s *scene) { s.shows.Cases = nil; s.shows.Scopes = nil; s.shows.Lanes = []*weirv1.Lane{lane} })
		expect(t, stream, &weirv1.WatchResponse{LanesGone: []uint32{1}, CasesGone: []uint32{7}, ScopesGone: []string{"a"}})
		status := &weirv1.GetStatusResponse{Version: "v1", Draining: true}
		s.change(func(s *scene) { s.shows.Status = status })
		expect(t, stream, &weirv1.WatchResponse{Status: status})
		point := &weirv1.HistoryPoint{Time: timestamppb.Now(), AcceptedItems: 4}
		s.change(func(s *scene) { s.points = append(s.points, point) })
		expect(t, stream, &weirv1.WatchResponse{Points: []*weirv1.HistoryPoint{point}})
	})
}

func TestWatchLeavesOutWhatIsNotWanted(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		s := everything()
		_, client := b.serveSource(t, s)
		stream := watching(t, client, &weirv1.WatchRequest{WithoutLanes: true, WithoutCases: true, WithoutQuota: true})
		expect(t, stream, &weirv1.WatchResponse{First: true, Status: s.shows.Status})
	})
}

// TestQuietWatchBeats: silence means trouble.
func TestQuietWatchBeats(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		s := everything()
		_, client := b.serveSource(t, s)
		stream := watching(t, client, &weirv1.WatchRequest{Interval: durationpb.New(maxInterval)})
		first := expect(t, stream, &weirv1.WatchResponse{
			First: true, Status: s.shows.Status, Lanes: s.shows.Lanes, Cases: s.shows.Cases, Scopes: s.shows.Scopes,
		})
		last := first
		for range 7 {
			at := expect(t, stream, &weirv1.WatchResponse{})
			if gap := at.Sub(last); gap > heartbeat {
				t.Fatalf("%s without a message", gap)
			}
			last = at
		}
		if s.taken > 2 {
			t.Errorf("%d looks in %s at an interval of a minute", s.taken, last.Sub(first))
		}
	})
}

// TestWhatDriftsIsSentNowAndThen: an age grows with every look, and no message
// is to come of that alone.
func TestWhatDriftsIsSentNowAndThen(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		s := everything()
		_, client := b.serveSource(t, s)
		stream := watching(t, client, &weirv1.WatchRequest{})
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		began := stream.Msg().GetTime().AsTime()
		lane := &weirv1.Lane{Id: 1, PendingItems: 3, OldestAge: durationpb.New(time.Hour)}
		scope := &weirv1.QuotaScope{Account: "a", TracesUsed: 1, PerDay: new(2.5)}
		status := &weirv1.GetStatusResponse{Version: "v1", Disk: &weirv1.Disk{UsedBytes: 5, FreeBytes: 200}}
		s.change(func(s *scene) {
			s.shows.Lanes = []*weirv1.Lane{lane, s.shows.Lanes[1]}
			s.shows.Scopes, s.shows.Status = []*weirv1.QuotaScope{scope}, status
		})
		at := expect(t, stream, &weirv1.WatchResponse{Status: status, Lanes: []*weirv1.Lane{lane}, Scopes: []*weirv1.QuotaScope{scope}})
		if gap := at.Sub(began); gap != heartbeat {
			t.Errorf("it was sent after %s, want %s", gap, heartbeat)
		}
	})
}

func TestWatchersAreBounded(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		_, client := b.serveSource(t, everything())
		ctx, cancel := context.WithCancel(t.Context())
		first, err := client.Watch(ctx, &weirv1.WatchRequest{})
		if err != nil || !first.Receive() {
			t.Fatal(err, first)
		}
		for range maxWatchers - 1 {
			if stream := watching(t, client, &weirv1.WatchRequest{}); !stream.Receive() {
				t.Fatal(stream.Err())
			}
		}
		if over := watching(t, client, &weirv1.WatchRequest{}); over.Receive() || connect.CodeOf(over.Err()) != connect.CodeResourceExhausted {
			t.Errorf("one more watch: %v", over.Err())
		}
		cancel()
		_ = first.Close()
		synctest.Wait()
		if stream := watching(t, client, &weirv1.WatchRequest{}); !stream.Receive() {
			t.Errorf("a watch after another has ended: %v", stream.Err())
		}
	})
}

func TestWatchRefusesAnIntervalOutOfBounds(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		_, client := b.serveSource(t, everything())
		for _, d := range []*durationpb.Duration{{}, {Nanos: 249_999_999}, {Seconds: 60, Nanos: 1}, {Seconds: 1, Nanos: -1}} {
			if stream := watching(t, client, &weirv1.WatchRequest{Interval: d}); stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeInvalidArgument {
				t.Errorf("interval %v: %v", d, stream.Err())
			}
		}
	})
}

func TestWatchEndsWithTheServer(t *testing.T) {
	overBothVersions(t, func(t *testing.T, b *bubble) {
		server, client := b.serveSource(t, everything())
		stream := watching(t, client, &weirv1.WatchRequest{})
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		closed := make(chan error, 1)
		go func() { closed <- server.Close(context.WithoutCancel(t.Context())) }()
		for stream.Receive() {
		}
		if connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
			t.Errorf("the watch ended with %v", stream.Err())
		}
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
	})
}
