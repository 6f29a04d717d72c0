package admin

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/diagnose"
	"weir/proxy/runs"
	"weir/queue"
)

// ListCases implements Source.
func (p *Pipeline) ListCases(ctx context.Context, req *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error) {
	after, err := casesAfter(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	page := p.Forwarder.Cases(proxy.CaseFilter{
		After: after, Cause: diagnose.Code(req.GetCause()), State: proxy.CaseState(req.GetState()), Lane: queue.LaneID(req.GetLane()),
	}, int(req.GetPageSize()))
	out := &weirv1.ListCasesResponse{Cases: p.caseMessages(ctx, page.Cases), Counts: countsMessage(&page.Counts)}
	if page.More {
		out.NextPageToken = strconv.FormatUint(uint64(page.Cases[len(page.Cases)-1].Place), 10)
	}
	return out, nil
}

// GetCase implements Source.
func (p *Pipeline) GetCase(ctx context.Context, id uint32) (*weirv1.GetCaseResponse, error) {
	c, err := p.Forwarder.Case(queue.Place(id))
	if err != nil {
		return nil, err
	}
	traces := p.Forwarder.CountTraces(ctx, c)[c.Place]
	out := &weirv1.GetCaseResponse{Case: quarantineMessage(&c, traces), Exchange: exchangeMessage(&c.Refusal.Exchange)}
	for _, id := range traces.First {
		out.TraceIds = append(out.TraceIds, runs.ID(id).String())
	}
	return out, nil
}

// chosen are the cases that a request names, all of them there.
func (p *Pipeline) chosen(ids []uint32, all bool) ([]proxy.CaseStatus, error) {
	if all {
		return p.Forwarder.Quarantine(), nil
	}
	out := make([]proxy.CaseStatus, 0, len(ids))
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		c, err := p.Forwarder.Case(queue.Place(id))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// ReleaseCases implements Source.
func (p *Pipeline) ReleaseCases(ctx context.Context, req *weirv1.ReleaseCasesRequest) (*weirv1.ReleaseCasesResponse, error) {
	cases, err := p.chosen(slices.Clone(req.GetIds()), req.GetAll())
	if err != nil {
		return nil, err
	}
	out := &weirv1.ReleaseCasesResponse{Cases: p.caseMessages(ctx, cases)}
	var items, waiting int64
	lanes := map[queue.LaneID]bool{} // what waits behind two cases waits once
	for i := range cases {
		done, err := p.Forwarder.ReleaseCase(ctx, cases[i].Place, proxy.Release{AsOwnKey: req.GetAsOwnKey(), DryRun: req.GetDryRun()})
		if err != nil && !(req.GetAll() && errors.Is(err, proxy.ErrNoCase)) { // released by itself meanwhile
			return nil, err
		}
		items += done.Items
		if !lanes[cases[i].Lane] {
			waiting += done.Waiting
		}
		lanes[cases[i].Lane] = lanes[cases[i].Lane] || done.Waiting > 0
	}
	out.Items, out.WaitingItems = count32(items), count32(waiting)
	return out, nil
}

// DiscardCases implements Source.
func (p *Pipeline) DiscardCases(ctx context.Context, req *weirv1.DiscardCasesRequest) (*weirv1.DiscardCasesResponse, error) {
	cases, err := p.chosen(slices.Clone(req.GetIds()), req.GetAll())
	if err != nil {
		return nil, err
	}
	out := &weirv1.DiscardCasesResponse{Cases: p.caseMessages(ctx, cases)}
	var items int64
	for i := range cases {
		done, err := p.Forwarder.DiscardCase(ctx, cases[i].Place, req.GetDryRun())
		if err != nil && !(req.GetAll() && errors.Is(err, proxy.ErrNoCase)) {
			return nil, err
		}
		items += done.Items
		out.Bytes += done.Bytes
		out.AttachmentBytes += done.Attachments
		out.BytesAtLeast = out.BytesAtLeast || done.AtLeast
	}
	out.Items = count32(items)
	return out, nil
}

// ExportCases implements Source.
func (p *Pipeline) ExportCases(ctx context.Context, req *weirv1.ExportCasesRequest, send func(*weirv1.ExportCasesResponse) error) error {
	cases, err := p.chosen(slices.Clone(req.GetIds()), req.GetAll())
	if err != nil {
		return err
	}
	places := make([]queue.Place, len(cases))
	for i := range cases {
		places[i] = cases[i].Place
	}
	sum, err := p.Forwarder.ExportCases(ctx, places, chunkWriter{send})
	if err != nil {
		return err
	}
	return send(&weirv1.ExportCasesResponse{Summary: &weirv1.ExportSummary{
		Cases: int32(sum.Cases), Items: count32(sum.Items), UnreadableItems: count32(sum.Unreadable),
	}})
}

// chunkWriter sends what is written in pieces.
type chunkWriter struct {
	send func(*weirv1.ExportCasesResponse) error
}

// maxChunkBytes bounds a piece of an export.
const maxChunkBytes = 64 << 10

// Write implements io.Writer.
func (w chunkWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		piece := b[:min(len(b), maxChunkBytes)]
		if err := w.send(&weirv1.ExportCasesResponse{Chunk: piece}); err != nil {
			return n, err
		}
		n += len(piece)
		b = b[len(piece):]
	}
	return n, nil
}

// FindTrace implements Source.
func (p *Pipeline) FindTrace(ctx context.Context, id proxy.TraceID) (*weirv1.FindTraceResponse, error) {
	found, err := p.Forwarder.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &weirv1.FindTraceResponse{TraceId: runs.ID(id).String(), State: string(found.State())}
	for i := range found.Places {
		out.Places = append(out.Places, placeMessage(&found.Places[i]))
	}
	return out, nil
}

func placeMessage(p *proxy.TracePlace) *weirv1.TracePlace {
	m := &weirv1.TracePlace{
		State: string(p.State), Items: count32(p.Items), ItemsAtLeast: p.AtLeast, Lane: uint32(p.Lane), Since: timestamp(p.Since),
		Last: timestamp(p.Last), Reason: p.Reason, Detail: p.Detail, Until: timestamp(p.Until), Account: p.Account, Project: p.Project,
	}
	if p.Case != nil {
		m.Case = caseID(p.Case.Place)
	}
	if p.Month != 0 {
		m.Month = p.Month.String()
	}
	return m
}

// caseID is a case's number. It would take thousands of millions of cases to
// need more than 32 bits.
func caseID(p queue.Place) uint32 { return uint32(min(p, math.MaxUint32)) }

// caseMessages describes cases, their traces counted.
func (p *Pipeline) caseMessages(ctx context.Context, cases []proxy.CaseStatus) []*weirv1.QuarantineCase {
	traces := p.Forwarder.CountTraces(ctx, cases...)
	out := make([]*weirv1.QuarantineCase, len(cases))
	for i := range cases {
		out[i] = quarantineMessage(&cases[i], traces[cases[i].Place])
	}
	return out
}

func quarantineMessage(c *proxy.CaseStatus, traces proxy.TraceCount) *weirv1.QuarantineCase {
	top, x := c.Diagnosis.Top(), &c.Refusal.Exchange
	m := &weirv1.QuarantineCase{
		Id: caseID(c.Place), Cause: string(top.Code), Confidence: string(top.Confidence), Evidence: top.Evidence, Remedy: top.Remedy,
		State: string(c.State), Items: count32(c.Items), Traces: count32(int64(traces.Traces)), TracesAtLeast: traces.AtLeast, Bytes: c.Bytes,
		FirstSeen: timestamp(c.FirstSeen), LastSeen: timestamp(c.LastSeen), HttpStatus: int32(x.Status), Response: x.Body, RequestId: x.RequestID,
		NextProbe: timestamp(c.NextProbe), Lane: uint32(c.Lane), WaitingItems: count32(c.WaitingItems), Reason: c.Refusal.Reason,
		Alternatives: alternatives(&c.Diagnosis),
	}
	if l := c.Of; l != nil {
		m.OwnKey = l.Lane.OwnKey()
		m.Protocol, m.Credential, m.Workspace, m.Project = l.Lane.Protocol.String(), l.Credential, l.Workspace, l.Project
	}
	return m
}

func alternatives(d *diagnose.Diagnosis) (out []*weirv1.CaseCause) {
	for i := 1; i < len(d.Causes); i++ {
		c := &d.Causes[i]
		out = append(out, &weirv1.CaseCause{Cause: string(c.Code), Confidence: string(c.Confidence), Evidence: c.Evidence, Remedy: c.Remedy})
	}
	return out
}

func exchangeMessage(x *proxy.Exchange) *weirv1.CaseExchange {
	m := &weirv1.CaseExchange{
		Time: timestamp(x.Time), Method: x.Method, Url: x.URL, HttpStatus: int32(x.Status), Response: x.Body, RequestId: x.RequestID,
		SentBytes: int64(x.SentBytes), Encoding: x.Encoding, Error: x.Error, ServerDate: timestamp(x.ServerDate),
	}
	if x.Elapsed > 0 {
		m.Elapsed = durationpb.New(x.Elapsed.Round(time.Microsecond))
	}
	for _, name := range slices.Sorted(maps.Keys(x.Header)) {
		for _, value := range x.Header[name] {
			m.Headers = append(m.Headers, &weirv1.CaseHeader{Name: name, Value: value})
		}
	}
	return m
}
