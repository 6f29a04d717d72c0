package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

// The bounds of a history, and its span where none is asked for.
const (
	minHistory     = time.Minute
	maxHistory     = 24 * time.Hour
	defaultHistory = time.Hour
)

// GetHistory implements weirv1connect.AdminServiceHandler.
func (s *service) GetHistory(ctx context.Context, req *weirv1.GetHistoryRequest) (*weirv1.GetHistoryResponse, error) {
	span, err := durationWithin("span", req.GetSpan(), minHistory, maxHistory, defaultHistory)
	if err != nil {
		return nil, err
	}
	out, err := s.src.History(ctx, span)
	if err != nil {
		return nil, s.callError(ctx, "GetHistory", err)
	}
	return out, nil
}

// durationWithin checks a duration of a request; unset it is other.
func durationWithin(name string, d *durationpb.Duration, least, most, other time.Duration) (time.Duration, error) {
	if d == nil {
		return other, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, connect.NewError(connect.CodeInvalidArgument, errors.New(name+" is not a duration: "+err.Error()))
	}
	if t := d.AsDuration(); t < least || t > most {
		return 0, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s is %s; it must be from %s to %s", name, t, least, most))
	}
	return d.AsDuration(), nil
}

// historyPoints are steps as the API gives them.
func historyPoints(steps []step) []*weirv1.HistoryPoint {
	out := make([]*weirv1.HistoryPoint, len(steps))
	for i := range steps {
		begin, end := &steps[i].begin.Reading, &steps[i].end.Reading
		out[i] = &weirv1.HistoryPoint{
			Time:           timestamppb.New(steps[i].end.at),
			AcceptedItems:  max(end.Totals.Accepted-begin.Totals.Accepted, 0),
			DeliveredItems: max(end.Totals.Delivered-begin.Totals.Delivered, 0),
			DroppedItems:   max(end.Totals.Dropped-begin.Totals.Dropped, 0),
			PendingItems:   end.Totals.Pending, HeldItems: end.Totals.Held, QuarantinedItems: end.Totals.Quarantined,
			PendingBytes: end.PendingBytes, UsedBytes: end.UsedBytes,
		}
	}
	return out
}
