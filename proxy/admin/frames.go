package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/queue"
)

// FrameKeeper is what is on disk, frame by frame. Requests are valid when it gets
// them, but for what only it can know.
type FrameKeeper interface {
	// ListFrames returns a page of frames.
	ListFrames(ctx context.Context, choice *proxy.FrameChoice) (*weirv1.ListFramesResponse, error)
	// GetFrame returns one frame, with its content if that is asked for.
	GetFrame(ctx context.Context, id queue.FrameID, content bool) (*weirv1.GetFrameResponse, error)
	// GetDiskUse returns what takes the disk.
	GetDiskUse(ctx context.Context) (*weirv1.GetDiskUseResponse, error)
	// DiscardFrames drops pending frames, or says what it would drop.
	DiscardFrames(ctx context.Context, discard *proxy.FrameDiscard) (*weirv1.DiscardFramesResponse, error)
}

const (
	// framesTimeout bounds how long frames are looked for.
	framesTimeout = 30 * time.Second
	// maxFrameIDs bounds the frames that one call names.
	maxFrameIDs = 1000
)

// ListFrames implements weirv1connect.AdminServiceHandler.
func (s *service) ListFrames(ctx context.Context, req *weirv1.ListFramesRequest) (*weirv1.ListFramesResponse, error) {
	choice, err := frameChoice(req)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	ctx, cancel := context.WithTimeout(ctx, framesTimeout)
	defer cancel()
	out, err := s.src.ListFrames(ctx, choice)
	if err != nil {
		return nil, s.callError(ctx, "ListFrames", frameError(err))
	}
	return out, nil
}

func frameChoice(req *weirv1.ListFramesRequest) (*proxy.FrameChoice, error) {
	c := &proxy.FrameChoice{
		Lane: queue.LaneID(req.GetLane()), State: proxy.FrameState(req.GetState()), Case: queue.Place(req.GetCase()),
		Newest: req.GetNewestFirst(), Max: int(req.GetPageSize()),
	}
	switch c.State {
	case "", proxy.FramePending, proxy.FrameHeld, proxy.FrameQuarantined:
	default:
		return nil, fmt.Errorf("state %.40q: it is pending, held or quarantined, or empty for all", req.GetState())
	}
	if c.Max < 0 {
		return nil, errors.New("page_size must not be negative")
	}
	var err error
	if c.OlderThan, err = age(req.GetOlderThan()); err != nil {
		return nil, err
	}
	if req.GetPageToken() == "" {
		return c, nil
	}
	if c.After, err = proxy.ParseFrameName(req.GetPageToken()); err != nil {
		return nil, errors.New("page_token is not the next_page_token of an answer")
	}
	return c, nil
}

// age reads older_than; nothing is none.
func age(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, errors.New("older_than is not a duration: " + err.Error())
	}
	if d.AsDuration() <= 0 {
		return 0, errors.New("older_than must be more than 0s; leave it out for frames of any age")
	}
	return d.AsDuration(), nil
}

// GetFrame implements weirv1connect.AdminServiceHandler.
func (s *service) GetFrame(ctx context.Context, req *weirv1.GetFrameRequest) (*weirv1.GetFrameResponse, error) {
	id, err := proxy.ParseFrameName(req.GetId())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	out, err := s.src.GetFrame(ctx, id, req.GetContent())
	if err != nil {
		return nil, s.callError(ctx, "GetFrame", frameError(err))
	}
	return out, nil
}

// GetDiskUse implements weirv1connect.AdminServiceHandler.
func (s *service) GetDiskUse(ctx context.Context, _ *weirv1.GetDiskUseRequest) (*weirv1.GetDiskUseResponse, error) {
	out, err := s.src.GetDiskUse(ctx)
	if err != nil {
		return nil, s.callError(ctx, "GetDiskUse", err)
	}
	return out, nil
}

// DiscardFrames implements weirv1connect.AdminServiceHandler.
func (s *service) DiscardFrames(ctx context.Context, req *weirv1.DiscardFramesRequest) (*weirv1.DiscardFramesResponse, error) {
	d, err := frameDiscard(req)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	ctx, cancel := s.untilStopping(ctx)
	defer cancel()
	out, err := s.src.DiscardFrames(ctx, d)
	if err != nil {
		return nil, s.callError(ctx, "DiscardFrames", frameError(err))
	}
	return out, nil
}

func frameDiscard(req *weirv1.DiscardFramesRequest) (*proxy.FrameDiscard, error) {
	d := &proxy.FrameDiscard{Lane: queue.LaneID(req.GetLane()), DryRun: req.GetDryRun()}
	if n := len(req.GetIds()); n > maxFrameIDs {
		return nil, fmt.Errorf("%d ids: name at most %d frames in one call", n, maxFrameIDs)
	}
	for _, text := range req.GetIds() {
		id, err := proxy.ParseFrameName(text)
		if err != nil {
			return nil, err
		}
		d.IDs = append(d.IDs, id)
	}
	var err error
	if d.OlderThan, err = age(req.GetOlderThan()); err != nil {
		return nil, err
	}
	if d.IDs == nil && d.Lane == 0 && d.OlderThan == 0 && !req.GetAll() {
		return nil, errors.New("no frame is named: give ids, lane, older_than, or all")
	}
	return d, nil
}

// frameError gives what the pipeline says of frames its code.
func frameError(err error) error {
	switch {
	case errors.Is(err, proxy.ErrNoFrame):
		return connect.NewError(connect.CodeNotFound, errors.New(
			"there is no such frame, or not any more: it was sent or dropped, or has another name since it was moved on disk; `weir queue ls` lists what there is"))
	case errors.Is(err, queue.ErrDamaged):
		return connect.NewError(connect.CodeDataLoss, err)
	case errors.Is(err, queue.ErrClosed):
		return connect.NewError(connect.CodeUnavailable, errStopping)
	default:
		return err
	}
}
