package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
)

// Caseworker is what a person does with quarantine, and the search for a trace.
// Requests are valid when it gets them, but for what only it can know. Errors
// are connect's where a caller can act on them.
type Caseworker interface {
	// ListCases returns what is in quarantine.
	ListCases(ctx context.Context) (*weirv1.ListCasesResponse, error)
	// GetCase returns one case in full.
	GetCase(ctx context.Context, id uint32) (*weirv1.GetCaseResponse, error)
	// ReleaseCases makes what cases hold pending again.
	ReleaseCases(ctx context.Context, req *weirv1.ReleaseCasesRequest) (*weirv1.ReleaseCasesResponse, error)
	// DiscardCases drops what cases hold.
	DiscardCases(ctx context.Context, req *weirv1.DiscardCasesRequest) (*weirv1.DiscardCasesResponse, error)
	// ExportCases hands out what cases hold in pieces, and at the end what it
	// was. It ends with send's error.
	ExportCases(ctx context.Context, req *weirv1.ExportCasesRequest, send func(*weirv1.ExportCasesResponse) error) error
	// FindTrace tells where a trace is.
	FindTrace(ctx context.Context, id proxy.TraceID) (*weirv1.FindTraceResponse, error)
}

// findTimeout bounds the search for a trace.
const findTimeout = 30 * time.Second

// ListCases implements weirv1connect.AdminServiceHandler.
func (s *service) ListCases(ctx context.Context, _ *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error) {
	out, err := s.src.ListCases(ctx)
	if err != nil {
		return nil, s.callError(ctx, "ListCases", err)
	}
	return out, nil
}

// GetCase implements weirv1connect.AdminServiceHandler.
func (s *service) GetCase(ctx context.Context, req *weirv1.GetCaseRequest) (*weirv1.GetCaseResponse, error) {
	out, err := s.src.GetCase(ctx, req.GetId())
	if err != nil {
		return nil, s.callError(ctx, "GetCase", caseError(err))
	}
	return out, nil
}

// ReleaseCases implements weirv1connect.AdminServiceHandler.
func (s *service) ReleaseCases(ctx context.Context, req *weirv1.ReleaseCasesRequest) (*weirv1.ReleaseCasesResponse, error) {
	if err := checkChoice(req.GetIds(), req.GetAll()); err != nil {
		return nil, err
	}
	ctx, cancel := s.untilStopping(ctx)
	defer cancel()
	out, err := s.src.ReleaseCases(ctx, req)
	if err != nil {
		return nil, s.callError(ctx, "ReleaseCases", caseError(err))
	}
	return out, nil
}

// DiscardCases implements weirv1connect.AdminServiceHandler.
func (s *service) DiscardCases(ctx context.Context, req *weirv1.DiscardCasesRequest) (*weirv1.DiscardCasesResponse, error) {
	if err := checkChoice(req.GetIds(), req.GetAll()); err != nil {
		return nil, err
	}
	ctx, cancel := s.untilStopping(ctx)
	defer cancel()
	out, err := s.src.DiscardCases(ctx, req)
	if err != nil {
		return nil, s.callError(ctx, "DiscardCases", caseError(err))
	}
	return out, nil
}

// ExportCases implements weirv1connect.AdminServiceHandler.
func (s *service) ExportCases(ctx context.Context, req *weirv1.ExportCasesRequest, stream *connect.ServerStream[weirv1.ExportCasesResponse]) error {
	if err := checkChoice(req.GetIds(), req.GetAll()); err != nil {
		return err
	}
	ctx, cancel := s.untilStopping(ctx)
	defer cancel()
	if err := s.src.ExportCases(ctx, req, stream.Send); err != nil {
		return s.callError(ctx, "ExportCases", caseError(err))
	}
	return nil
}

// FindTrace implements weirv1connect.AdminServiceHandler.
func (s *service) FindTrace(ctx context.Context, req *weirv1.FindTraceRequest) (*weirv1.FindTraceResponse, error) {
	id, err := proxy.ParseTraceID(req.GetTraceId())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	out, err := s.src.FindTrace(ctx, id)
	if err != nil {
		return nil, s.callError(ctx, "FindTrace", err)
	}
	return out, nil
}

// untilStopping is ctx until the server stops.
func (s *service) untilStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.stopping, cancel) //nolint:contextcheck // the server ends here, not the call
	return ctx, func() { stop(); cancel() }
}

// checkChoice checks which cases a caller means.
func checkChoice(ids []uint32, all bool) error {
	switch {
	case all && len(ids) > 0:
		return connect.NewError(connect.CodeInvalidArgument, errors.New("ids and all exclude each other: give one"))
	case !all && len(ids) == 0:
		return connect.NewError(connect.CodeInvalidArgument, errors.New("no case is named: give ids, or all"))
	}
	return nil
}

// caseError gives what the pipeline says of cases its code.
func caseError(err error) error {
	switch {
	case errors.Is(err, proxy.ErrNoCase):
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("%w; `weir quarantine ls` lists what there is", err))
	case errors.Is(err, proxy.ErrCaseBusy):
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%w; try again when that is done", err))
	default:
		return err
	}
}
