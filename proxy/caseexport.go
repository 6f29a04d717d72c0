package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"weir/proxy/exported"
	"weir/proxy/runs"
	"weir/queue"
)

// Renderer shows a stored item to people. A Divider may be one, too.
type Renderer interface {
	// JSON is a payload as JSON on one line.
	JSON(payload []byte) ([]byte, error)
}

// BlobOpener reads content that is kept aside (queue.Queue).
type blobOpener interface {
	OpenBlob(id string) (io.ReadCloser, error)
}

// Exported says what an export wrote.
type Exported struct {
	Cases      int
	Items      int64
	Unreadable int64 // items of frames that cannot be read; they are named in the file
}

// maxExportedKeys bounds what is remembered of frames, to leave out copies of
// those that were written already.
const maxExportedKeys = 1 << 19

// ExportCases writes what cases hold in the form of package exported: lines that
// `weir import` takes back and a person can read. It changes nothing; what is
// released or settled meanwhile may be in it or not. It holds one frame in memory
// and a megabyte of an attachment. No key is written.
//
// A frame that is copied while more than half a million others are being written
// may be written twice.
func (f *Forwarder) ExportCases(ctx context.Context, places []queue.Place, w io.Writer) (Exported, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	e := exporter{f: f, w: exported.NewWriter(out)}
	if err := e.w.Write(&exported.Line{Kind: exported.KindBegin, Version: exported.Version, Time: f.cfg.Now().UTC()}); err != nil {
		return e.sum, err
	}
	for _, p := range places {
		c, err := f.Case(p)
		if err != nil {
			return e.sum, err
		}
		if err := e.oneCase(ctx, &c); err != nil {
			return e.sum, fmt.Errorf("export case %d: %w", p, err)
		}
		e.sum.Cases++
	}
	err := e.w.Write(&exported.Line{Kind: exported.KindEnd, Items: e.sum.Items, Unreadable: e.sum.Unreadable})
	return e.sum, errors.Join(err, out.Flush())
}

// exporter writes one export.
type exporter struct {
	f   *Forwarder
	w   *exported.Writer
	sum Exported

	place   queue.Place // of what is written; Pending: it is in no case
	bare    bool        // leave out what attachments in files of their own hold
	omitted bool        // something was left out
}

// oneCase writes a case: what it is, and all it holds.
func (e *exporter) oneCase(ctx context.Context, c *CaseStatus) error {
	e.place = c.Place
	top, x := c.Diagnosis.Top(), &c.Refusal.Exchange
	about := &exported.Case{
		Cause: string(top.Code), Confidence: string(top.Confidence), Evidence: top.Evidence, Remedy: top.Remedy,
		Reason: c.Refusal.Reason, HTTPStatus: x.Status, Response: x.Body, RequestID: x.RequestID,
		FirstSeen: c.FirstSeen.UTC(), LastSeen: c.LastSeen.UTC(), Items: c.Items,
	}
	if c.Of != nil {
		l := c.Of.Lane
		about.Protocol, about.OwnKey = l.Protocol.String(), l.Credential == refKey
		about.Workspace, about.Project = resolve(l.Workspace, "", ""), resolve(l.Project, "", "")
	}
	if err := e.w.Write(&exported.Line{Kind: exported.KindCase, Case: uint64(c.Place), About: about}); err != nil {
		return err
	}
	return e.f.eachKept(ctx, c.Place, e.frame, e.unreadable)
}

// unreadable names a frame that cannot be read.
func (e *exporter) unreadable(m *queue.FrameMeta, cause error) error {
	e.sum.Unreadable += int64(m.Items)
	return e.w.Write(&exported.Line{
		Kind: exported.KindUnreadable, Case: uint64(e.place), Time: m.AcceptedAt.UTC(), Frame: m.ID.String(), Items: int64(m.Items), Why: cause.Error(),
	})
}

// frame writes what a frame holds, one item a line.
func (e *exporter) frame(lane Lane, fr *queue.Frame) error {
	raw, err := plain(partOf(fr))
	if err == nil && lane.Protocol == ProtocolRuns {
		err = runs.Scan(raw, func(op runs.Op) error { return e.operation(&op, fr.AcceptedAt) })
	} else if err == nil {
		err = e.spans(lane, raw, fr)
	}
	if failed, ok := errors.AsType[*writeError](err); ok {
		return failed.cause
	}
	if err != nil { // it is no message of its protocol
		return e.unreadable(&queue.FrameMeta{ID: fr.ID, Items: fr.Items, AcceptedAt: fr.AcceptedAt}, err)
	}
	return nil
}

// writeError is an error of the one who takes the export, not of what is read.
type writeError struct{ cause error }

func (e *writeError) Error() string { return e.cause.Error() }

func (e *exporter) write(l *exported.Line) error {
	l.Case = uint64(e.place)
	if err := e.w.Write(l); err != nil {
		return &writeError{err}
	}
	return nil
}

// spans writes each item of a payload as a message of its own.
func (e *exporter) spans(lane Lane, raw []byte, fr *queue.Frame) error {
	divider := e.f.dividers[lane.Protocol]
	if divider == nil {
		return fmt.Errorf("data of protocol %s cannot be cut", lane.Protocol)
	}
	for i := range fr.Items {
		piece, err := divider.Slice(raw, i, i+1)
		if err != nil {
			return err
		}
		l := &exported.Line{Kind: exported.KindSpan, Time: fr.AcceptedAt.UTC(), Payload: piece.Payload}
		if r, ok := divider.(Renderer); ok {
			l.Span, _ = r.JSON(piece.Payload) // the payload is what counts
		}
		if err := e.write(l); err != nil {
			return err
		}
		e.sum.Items++
	}
	return nil
}

// operation writes a run operation, and before it its content that is kept aside.
func (e *exporter) operation(op *runs.Op, at time.Time) error {
	switch {
	case op.Blob != "" && e.bare:
		e.omitted = true
	case op.Blob != "":
		if err := e.content(op); err != nil {
			return err
		}
	}
	l := &exported.Line{Kind: exported.KindRun, Time: at.UTC()}
	l.SetOp(op)
	if err := e.write(l); err != nil {
		return err
	}
	e.sum.Items++
	return nil
}

// contentBytes is how much of an attachment is on one line.
const contentBytes = 1 << 20

func (e *exporter) content(op *runs.Op) error {
	blobs := blobOpener(e.f.q)
	r, err := blobs.OpenBlob(op.Blob)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	buf := make([]byte, contentBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if werr := e.write(&exported.Line{Kind: exported.KindContent, Content: op.Blob, Data: buf[:n]}); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// eachKept calls fn for every frame that a case holds, oldest segment first, with
// its payload, which is valid during the call. Frames that cannot be read go to
// unreadable, if that is set. It ends with the first error, which it returns.
func (f *Forwarder) eachKept(ctx context.Context, p queue.Place, fn func(Lane, *queue.Frame) error, unreadable func(*queue.FrameMeta, error) error) error {
	lanes := (&holder{f: f}).lanes()
	seen := map[uint64]struct{}{}
	var failed error
	err := f.q.EachFrame(ctx, queue.FrameFilter{Places: func(at queue.Place) bool { return at == p }}, func(m queue.FrameMeta) bool {
		fr, err := f.q.ReadFrame(m.ID)
		switch {
		case errors.Is(err, queue.ErrNoFrame):
			return true // gone meanwhile, or met again as a copy
		case errors.Is(err, queue.ErrDamaged):
			if unreadable != nil {
				failed = unreadable(&m, err)
			}
			return failed == nil
		case err != nil:
			failed = err
			return false
		}
		key := frameKey(&fr)
		if _, have := seen[key]; have && fr.Copied {
			return true
		}
		if len(seen) < maxExportedKeys {
			seen[key] = struct{}{}
		}
		failed = fn(lanes[m.Lane], &fr)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// frameKey tells a frame from others, and not from its copies.
func frameKey(fr *queue.Frame) uint64 {
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(fr.AcceptedAt.UnixMilli()))
	binary.BigEndian.PutUint64(b[8:], uint64(fr.Items))
	_, _ = h.Write(b[:]) // hashes do not fail
	_, _ = h.Write(fr.Payload)
	return h.Sum64()
}
