package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/queue"
)

// Caseworker is what a person does with quarantine, and the search for a trace.
// Requests are valid when it gets them, but for what only it can know. Errors
// are connect's where a caller can act on them.
type Caseworker interface {
	// ListCases returns a page of what is in quarantine. req's page size is from 1
	// to 1,000.
	ListCases(ctx context.Context, req *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error)
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
func (s *service) ListCases(ctx context.Context, req *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	switch state := proxy.CaseState(req.GetState()); state {
	case "", proxy.CaseProbing, proxy.CaseNeedsPerson, proxy.CaseReleasing:
	default:
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("state %q: a case is %s, %s or %s",
			clipName(req.GetState()), proxy.CaseProbing, proxy.CaseNeedsPerson, proxy.CaseReleasing))
	}
	if _, err := casesAfter(req.GetPageToken()); err != nil {
		return nil, err
	}
	req.PageSize = size
	out, err := s.src.ListCases(ctx, req)
	if err != nil {
		return nil, s.callError(ctx, "ListCases", err)
	}
	return out, nil
}

// The size of a page, and of one where none is asked for.
const (
	defaultPage = 100
	maxPage     = 1000
)

// pageSize checks how many entries of a list are asked for.
func pageSize(n int32) (int32, error) {
	switch {
	case n == 0:
		return defaultPage, nil
	case n < 0 || n > maxPage:
		return 0, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("page_size is %d; it must be from 1 to %d, or 0 for %d", n, maxPage, defaultPage))
	default:
		return n, nil
	}
}

// casesAfter reads a page token: the last case of the page before. Cases that
// come and go meanwhile move no page.
func casesAfter(token string) (queue.Place, error) {
	if token == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(token, 10, 32)
	if err != nil || n == 0 {
		return 0, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
			"page_token %q is none; give next_page_token of the answer before, or nothing for the first page", clipName(token)))
	}
	return queue.Place(n), nil
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
	stop := context.AfterFunc(s.stopping, cancel)
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
