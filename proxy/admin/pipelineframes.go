package admin

import (
	"context"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/runs"
	"weir/queue"
)

// ListFrames implements Source.
func (p *Pipeline) ListFrames(ctx context.Context, choice *proxy.FrameChoice) (*weirv1.ListFramesResponse, error) {
	frames, more, err := p.Forwarder.Frames(ctx, choice)
	if err != nil {
		return nil, err
	}
	out := &weirv1.ListFramesResponse{Frames: make([]*weirv1.QueueFrame, len(frames))}
	for i := range frames {
		out.Frames[i] = frameMessage(&frames[i])
	}
	if more && len(frames) > 0 {
		out.NextPageToken = out.Frames[len(frames)-1].GetId()
	}
	return out, nil
}

func frameMessage(f *proxy.FrameStatus) *weirv1.QueueFrame {
	m := &weirv1.QueueFrame{
		Id: proxy.FrameName(f.ID), Lane: uint32(f.Lane), State: string(f.State), AcceptedAt: timestamp(f.AcceptedAt),
		Items: count32(int64(f.Items)), Traces: count32(int64(f.TraceCount)), Bytes: f.Bytes, Sending: f.Leased && f.State == proxy.FramePending,
	}
	if f.State == proxy.FrameQuarantined {
		m.Case = caseID(f.Place)
	}
	return m
}

// maxFrameTraces bounds the traces that a GetFrame names.
const maxFrameTraces = 1000

// GetFrame implements Source.
func (p *Pipeline) GetFrame(_ context.Context, id queue.FrameID, content bool) (*weirv1.GetFrameResponse, error) {
	f, err := p.Forwarder.Frame(id)
	if err != nil {
		return nil, err
	}
	out := &weirv1.GetFrameResponse{Frame: frameMessage(&f), RawBytes: f.RawBytes}
	for _, trace := range f.Traces[:min(len(f.Traces), maxFrameTraces)] {
		out.TraceIds = append(out.TraceIds, runs.ID(trace).String())
	}
	if !content {
		return out, nil
	}
	c, err := p.Forwarder.FrameContent(&f)
	if err != nil {
		return nil, err
	}
	out.Content, out.ContentCut = c.Lines, c.Cut
	return out, nil
}

// DiscardFrames implements Source.
func (p *Pipeline) DiscardFrames(ctx context.Context, discard *proxy.FrameDiscard) (*weirv1.DiscardFramesResponse, error) {
	done, err := p.Forwarder.DiscardFrames(ctx, *discard)
	if err != nil {
		return nil, err
	}
	return &weirv1.DiscardFramesResponse{Frames: done.Frames, Items: done.Items, Bytes: done.Bytes, SendingFrames: done.Sending}, nil
}

// maxLanesShown bounds the lanes of a GetDiskUse.
const maxLanesShown = 100

// GetDiskUse implements Source.
func (p *Pipeline) GetDiskUse(context.Context) (*weirv1.GetDiskUseResponse, error) {
	u := p.Forwarder.DiskUse()
	pending, held, kept := sumMessage("pending", &u.Pending), sumMessage("held", &u.Held), sumMessage("quarantined", &u.Kept)
	held.MaxBytes, kept.MaxBytes = u.MaxHeld, u.MaxKept
	if pending.GetBytes() > 0 {
		pending.DiscardableBytes, pending.Command = pending.GetBytes(), "weir queue discard --all"
	}
	if held.GetBytes() > 0 { // by sending it: nobody loses anything
		held.Command = "weir quota release"
	}
	if kept.GetBytes() > 0 {
		kept.DiscardableBytes, kept.Command = kept.GetBytes(), "weir quarantine discard --all"
	}
	out := &weirv1.GetDiskUseResponse{
		Uses: []*weirv1.DiskUse{
			pending, held, kept,
			{Kind: "attachments", Count: int64(u.Blobs), Bytes: u.BlobBytes},
			{Kind: "settled", Count: int64(u.Segments), Bytes: u.SettledBytes},
			{Kind: "reserve", Count: int64(u.ReserveFiles), Bytes: u.ReserveBytes},
		},
		MaxBytes: u.MaxBytes, FreeBytes: u.FreeBytes, MinFreeBytes: u.MinFree,
	}
	if p.LedgerDir != "" {
		bytes, err := queue.BytesBelow(p.LedgerDir)
		if err != nil {
			return nil, err
		}
		out.Uses = append(out.Uses, &weirv1.DiskUse{Kind: "quota", Bytes: bytes})
	}
	for _, use := range out.GetUses() {
		out.TotalBytes += use.GetBytes()
	}
	for i := range u.Lanes[:min(len(u.Lanes), maxLanesShown)] {
		l := &u.Lanes[i]
		out.Lanes = append(out.Lanes, &weirv1.LaneDiskUse{
			Lane: uint32(l.ID), PendingBytes: l.PendingBytes, HeldBytes: l.HeldBytes, QuarantinedBytes: l.KeptBytes,
		})
	}
	return out, nil
}

func sumMessage(kind string, s *queue.FrameSum) *weirv1.DiskUse {
	return &weirv1.DiskUse{Kind: kind, Count: s.Frames, Items: s.Items, Bytes: s.Bytes, OldestAt: timestamp(s.OldestAt)}
}
