package native

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/runs"
)

// maxStreamRuns bounds the runs that a stream remembers for itself, before they
// are durable.
const maxStreamRuns = 1024

// streamed is a request of a stream, read and not yet answered.
type streamed struct {
	*intake

	sequence uint64
	err      error // why nothing of it can be kept
}

// stream is one IngestStream call. What is read by the call's own goroutine is
// kept and answered by another, in order; the call ends after it.
type stream struct {
	h      *Handler
	grpc   grpc.BidiStreamingServer[weirv1.IngestStreamRequest, weirv1.IngestStreamResponse]
	caller proxy.Caller
	recent *runs.Known[struct{}]
	read   chan *streamed
	room   chan struct{} // as many as may be unanswered
}

// IngestStream implements weirv1.IngestServiceServer.
func (h *Handler) IngestStream(server grpc.BidiStreamingServer[weirv1.IngestStreamRequest, weirv1.IngestStreamResponse]) error {
	caller, err := callerOf(server.Context())
	if err != nil {
		in := &intake{method: "IngestStream", converter: &converter{}}
		return h.turnAway(server.Context(), in, err).grpc()
	}
	s := &stream{
		h: h, grpc: server, caller: caller, recent: runs.NewKnown[struct{}](maxStreamRuns),
		read: make(chan *streamed, h.cfg.MaxUnanswered),
		room: make(chan struct{}, h.cfg.MaxUnanswered),
	}
	answered := make(chan error, 1)
	go func() { answered <- s.answerAll() }()
	err = s.readAll()
	close(s.read)
	if failed := <-answered; err == nil {
		err = failed
	}
	return err
}

// readAll reads requests until the sender has no more or is gone.
func (s *stream) readAll() error {
	ctx := s.grpc.Context()
	for {
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return refusalOf(ctx.Err()).grpc()
		}
		req, err := s.grpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		in := &streamed{intake: &intake{method: "IngestStream", began: time.Now(), converter: &converter{}}, sequence: req.GetSequence()}
		in.err = s.h.read(in.intake, req.GetOperations(), int64(proto.Size(req)), s.find)
		if in.err == nil {
			s.recent.Add(struct{}{}, in.learned)
		}
		s.read <- in // room has seen to it that this does not wait
	}
}

// find looks for a run in the stream, then among the caller's.
func (s *stream) find(id runs.ID) (runs.Placed, bool) {
	if here, ok := s.recent.Find(struct{}{}, id); ok {
		return here, true
	}
	return s.h.known.Find(s.caller, id)
}

// answerAll keeps and answers what is read, until there is no more. It reads on
// when the sender is gone, so that readAll never waits for it.
func (s *stream) answerAll() error {
	var failed error
	var next *streamed
	for {
		first := next
		if first == nil {
			var ok bool
			if first, ok = <-s.read; !ok {
				return failed
			}
		}
		var batch []*streamed
		batch, next = s.batch(first)
		s.keep(batch)
		for _, in := range batch {
			if err := s.answer(in); err != nil && failed == nil {
				failed = err
			}
		}
	}
}

// batch adds to a request those that wait behind it, as long as the operations
// of all are no more than a request may have: they share a sync. next is the
// one that would not fit any more.
func (s *stream) batch(first *streamed) (batch []*streamed, next *streamed) {
	batch = append(batch, first)
	size, items := int64(first.keptBytes), len(first.ops)
	for {
		select {
		case in, ok := <-s.read:
			if !ok {
				return batch, nil
			}
			size, items = size+int64(in.keptBytes), items+len(in.ops)
			if size > s.h.cfg.MaxMessageBytes || items > s.h.cfg.MaxOperations {
				return batch, in
			}
			batch = append(batch, in)
		default:
			return batch, nil
		}
	}
}

// keep makes a batch durable. What is refused for good as a whole is tried one
// by one, so that no request suffers for another.
func (s *stream) keep(batch []*streamed) {
	ctx := s.grpc.Context()
	var good []*intake
	for _, in := range batch {
		if in.err == nil {
			good = append(good, in.intake)
		}
	}
	err := s.keepOnce(ctx, good)
	var reject *proxy.RejectError
	apart := len(good) > 1 && errors.As(err, &reject)
	for _, in := range batch {
		switch {
		case in.err != nil:
		case apart:
			in.err = s.keepOnce(ctx, []*intake{in.intake})
		default:
			in.err = err
		}
	}
}

func (s *stream) keepOnce(ctx context.Context, requests []*intake) error {
	receipt, err := s.h.keep(ctx, s.caller, requests)
	if err == nil {
		for _, in := range requests {
			in.warning = receipt.Warning
		}
	}
	return err
}

// answer tells the sender what became of a request, and lets one more come.
func (s *stream) answer(in *streamed) error {
	reply := &weirv1.IngestStreamResponse{Sequence: in.sequence}
	if in.err != nil {
		r := s.h.turnAway(s.grpc.Context(), in.intake, in.err)
		reply.Error = r.item()
		if r.reason == reasonMalformed {
			reply.Results = in.results
		}
	} else {
		s.h.metrics.ended(in.intake, nil)
		reply.Results, reply.Warning = in.results, clip(in.warning)
	}
	err := s.grpc.Send(reply)
	s.h.gate.Release(in.charged)
	<-s.room
	return err
}
