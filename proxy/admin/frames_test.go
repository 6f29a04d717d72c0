package admin_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
	"weir/proxy"
	"weir/proxy/admin"
	"weir/queue"
)

// shelf is a source whose frames fail as a test says. It remembers what it was
// asked.
type shelf struct {
	err     error
	choice  *proxy.FrameChoice
	discard *proxy.FrameDiscard
	id      queue.FrameID
}

func (s *shelf) ListFrames(_ context.Context, c *proxy.FrameChoice) (*weirv1.ListFramesResponse, error) {
	s.choice = c
	return &weirv1.ListFramesResponse{}, s.err
}

func (s *shelf) GetFrame(_ context.Context, id queue.FrameID, _ bool) (*weirv1.GetFrameResponse, error) {
	s.id = id
	return &weirv1.GetFrameResponse{}, s.err
}

func (s *shelf) GetDiskUse(context.Context) (*weirv1.GetDiskUseResponse, error) {
	return &weirv1.GetDiskUseResponse{}, s.err
}

func (s *shelf) DiscardFrames(_ context.Context, d *proxy.FrameDiscard) (*weirv1.DiscardFramesResponse, error) {
	s.discard = d
	return &weirv1.DiscardFramesResponse{}, s.err
}

func shelfClient(t *testing.T, s *shelf) weirv1connect.AdminServiceClient {
	t.Helper()
	return admin.Dial(start(t, admin.Config{}, &fakeSource{FrameKeeper: s}).Addr().String(), "")
}

func TestListFramesChecksItsRequest(t *testing.T) {
	s := &shelf{}
	client := shelfClient(t, s)
	for _, tt := range []struct {
		req  *weirv1.ListFramesRequest
		want *proxy.FrameChoice
		says string
	}{
		{&weirv1.ListFramesRequest{}, &proxy.FrameChoice{}, ""},
		{
			&weirv1.ListFramesRequest{Lane: 3, State: "held", Case: 7, OlderThan: durationpb.New(time.Hour), NewestFirst: true, PageSize: 50, PageToken: "12.3041"},
			&proxy.FrameChoice{Lane: 3, State: proxy.FrameHeld, Case: 7, OlderThan: time.Hour, Newest: true, Max: 50, After: queue.FrameID{Segment: 12, Seq: 3041}}, "",
		},
		{&weirv1.ListFramesRequest{State: "lost"}, nil, "pending, held or quarantined"},
		{&weirv1.ListFramesRequest{PageSize: -1}, nil, "page_size"},
		{&weirv1.ListFramesRequest{PageToken: "x"}, nil, "page_token"},
		{&weirv1.ListFramesRequest{OlderThan: durationpb.New(-1)}, nil, "older_than"},
		{&weirv1.ListFramesRequest{OlderThan: durationpb.New(0)}, nil, "older_than"},
	} {
		s.choice = nil
		_, err := client.ListFrames(t.Context(), tt.req)
		if tt.says == "" && err != nil || tt.says != "" && (connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%v: %v", tt.req, err)
		}
		if diff := cmp.Diff(tt.want, s.choice); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.req, diff)
		}
	}
}

func TestDiscardFramesMustNameSome(t *testing.T) {
	s := &shelf{}
	client := shelfClient(t, s)
	many := make([]string, 1001)
	for i := range many {
		many[i] = "1.2"
	}
	for _, tt := range []struct {
		req  *weirv1.DiscardFramesRequest
		want *proxy.FrameDiscard
		says string
	}{
		{&weirv1.DiscardFramesRequest{All: true, DryRun: true}, &proxy.FrameDiscard{DryRun: true}, ""},
		{
			&weirv1.DiscardFramesRequest{Ids: []string{"1.2", "3.4"}, Lane: 5, OlderThan: durationpb.New(time.Hour)},
			&proxy.FrameDiscard{IDs: []queue.FrameID{{Segment: 1, Seq: 2}, {Segment: 3, Seq: 4}}, Lane: 5, OlderThan: time.Hour}, "",
		},
		{&weirv1.DiscardFramesRequest{Ids: many[:1000]}, &proxy.FrameDiscard{}, ""},
		{&weirv1.DiscardFramesRequest{}, nil, "no frame is named"},
		{&weirv1.DiscardFramesRequest{DryRun: true}, nil, "no frame is named"},
		{&weirv1.DiscardFramesRequest{Ids: many}, nil, "at most 1000"},
		{&weirv1.DiscardFramesRequest{Ids: []string{"1/2"}, All: true}, nil, "not a frame's name"},
		{&weirv1.DiscardFramesRequest{OlderThan: durationpb.New(0), All: true}, nil, "older_than"},
	} {
		s.discard = nil
		_, err := client.DiscardFrames(t.Context(), tt.req)
		if tt.says == "" && err != nil || tt.says != "" && (connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%.60v: %v", tt.req, err)
		}
		if s.discard != nil && len(s.discard.IDs) == 1000 {
			s.discard.IDs = nil
		}
		if diff := cmp.Diff(tt.want, s.discard); diff != "" {
			t.Errorf("%.60v (-want +got):\n%s", tt.req, diff)
		}
	}
}

func TestFrameErrorsHaveCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code connect.Code
	}{
		{proxy.ErrNoFrame, connect.CodeNotFound},
		{queue.ErrDamaged, connect.CodeDataLoss},
		{queue.ErrClosed, connect.CodeUnavailable},
		{errors.New("else"), connect.CodeInternal},
	} {
		client := shelfClient(t, &shelf{err: tt.err})
		if _, err := client.GetFrame(t.Context(), &weirv1.GetFrameRequest{Id: "1.2"}); connect.CodeOf(err) != tt.code {
			t.Errorf("%v: %v, want %v", tt.err, err, tt.code)
		}
	}
	client := shelfClient(t, &shelf{})
	if _, err := client.GetFrame(t.Context(), &weirv1.GetFrameRequest{Id: "two"}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a name that is none: %v", err)
	}
}
