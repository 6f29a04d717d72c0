package main

import (
	"context"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
)

// fakeCases is what a fakeAdmin has in quarantine.
type fakeCases struct {
	cases    []*weirv1.QuarantineCase
	exchange *weirv1.CaseExchange
	released *weirv1.ReleaseCasesRequest   // the last one
	discards []*weirv1.DiscardCasesRequest // all of them
	discard  *weirv1.DiscardCasesResponse
	chunks   []string
	found    *weirv1.FindTraceResponse
	caseErr  error
}

func (f *fakeCases) ListCases(context.Context, *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error) {
	return &weirv1.ListCasesResponse{Cases: f.cases}, f.caseErr
}

func (f *fakeCases) GetCase(context.Context, *weirv1.GetCaseRequest) (*weirv1.GetCaseResponse, error) {
	return &weirv1.GetCaseResponse{Case: f.cases[0], Exchange: f.exchange}, f.caseErr
}

func (f *fakeCases) ReleaseCases(_ context.Context, r *weirv1.ReleaseCasesRequest) (*weirv1.ReleaseCasesResponse, error) {
	f.released = r
	out := &weirv1.ReleaseCasesResponse{Cases: f.cases}
	for _, c := range f.cases {
		out.Items += c.GetItems()
		out.WaitingItems += c.GetWaitingItems()
	}
	return out, f.caseErr
}

func (f *fakeCases) DiscardCases(_ context.Context, r *weirv1.DiscardCasesRequest) (*weirv1.DiscardCasesResponse, error) {
	f.discards = append(f.discards, r)
	return f.discard, f.caseErr
}

func (f *fakeCases) ExportCases(_ context.Context, _ *weirv1.ExportCasesRequest, stream *connect.ServerStream[weirv1.ExportCasesResponse]) error {
	for _, c := range f.chunks {
		if err := stream.Send(&weirv1.ExportCasesResponse{Chunk: []byte(c)}); err != nil {
			return err
		}
	}
	if f.caseErr != nil {
		return f.caseErr
	}
	return stream.Send(&weirv1.ExportCasesResponse{Summary: &weirv1.ExportSummary{Cases: 1, Items: 2, UnreadableItems: 1}})
}

func (f *fakeCases) FindTrace(context.Context, *weirv1.FindTraceRequest) (*weirv1.FindTraceResponse, error) {
	return f.found, f.caseErr
}
