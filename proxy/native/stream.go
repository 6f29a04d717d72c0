package native

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/runs"
)

// maxStreamRuns bounds the runs that a stream remembers for itself, before they
// are durable.
const maxStreamRuns = 1024

// sequenceNumber is the number of IngestStreamRequest's field sequence.
const sequenceNumber protowire.Number = 1

// streamed is a request of a stream, read and not yet answered.
type streamed struct {
	*intake

	sequence uint64
	err      error // why nothing of it can be kept
}

// stream is one IngestStream call. A goroutine of the handler reads requests;
// the call's own keeps and answers them, in order, and ends the call.
type stream struct {
	h      *Handler
	grpc   grpc.ServerStream
	caller proxy.Caller
	recent *runs.Known[struct{}]
	read   chan *streamed // closed by the reader
	room   chan struct{}  // as many as may be unanswered
	over   chan struct{}  // closed once the call ends
	ended  error          // why reading did; set before read is closed
}

// stream serves IngestStream.
func (h *Handler) stream(server grpc.ServerStream) error {
	ctx, none := server.Context(), newIntake("IngestStream")
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		busy := &refusal{code: codes.ResourceExhausted, reason: reasonStreams, retryAfter: time.Second, message: "as many streams are open as may be; close one, or use Ingest"}
		return h.turnAway(ctx, none, busy).grpc()
	}
	caller, err := h.callerOf(ctx)
	if err != nil {
		return h.turnAway(ctx, none, err).grpc()
	}
	s := &stream{
		h: h, grpc: server, caller: caller, recent: runs.NewKnown[struct{}](maxStreamRuns),
		read: make(chan *streamed, h.cfg.MaxUnanswered),
		room: make(chan struct{}, h.cfg.MaxUnanswered),
		over: make(chan struct{}),
	}
	defer close(s.over)
	// It may wait for a message until the call ends, so that Close joins it.
	if !h.startReader(s.readAll) {
		return h.turnAway(ctx, none, stopped()).grpc()
	}
	return s.answerAll(ctx)
}

// readAll reads requests until the sender has no more or the call ends, and
// then gives back what those take that nobody answered.
func (s *stream) readAll() {
	s.ended = s.readOn()
	close(s.read)
	<-s.over
	for in := range s.read {
		s.h.gate.Release(in.charged)
	}
}

func (s *stream) readOn() error {
	for {
		select {
		case s.room <- struct{}{}:
		case <-s.over:
			return nil
		case <-s.grpc.Context().Done():
			return refusalOf(s.grpc.Context().Err()).grpc()
		}
		var message envelope
		if err := s.grpc.RecvMsg(&message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		s.read <- s.request(message.ProtoReflect().GetUnknown()) // room has seen to it that this does not wait
	}
}

// request reads one request.
func (s *stream) request(message []byte) *streamed {
	in := &streamed{intake: newIntake("IngestStream"), sequence: sequenceOf(message)}
	var req weirv1.IngestStreamRequest
	if in.err = s.h.decode(in.intake, message, &req); in.err == nil {
		in.err = s.h.read(in.intake, req.GetOperations(), s.find)
	}
	if in.err == nil {
		s.recent.Add(struct{}{}, in.learned)
	}
	return in
}

// find looks for a run in the stream, then among the caller's.
func (s *stream) find(id runs.ID) (runs.Placed, bool) {
	if here, ok := s.recent.Find(struct{}{}, id); ok {
		return here, true
	}
	return s.h.known.Find(s.caller, id)
}

// answerAll keeps and answers what is read, until there is no more or weir
// stops; then what has been read already.
func (s *stream) answerAll(ctx context.Context) error {
	stopping := s.h.stopping
	var next *streamed
	for {
		first := next
		for first == nil {
			in, state := s.take(stopping)
			switch state {
			case readEnded:
				return s.ended
			case readStopped:
				stopping = nil
				continue
			case readNothing:
				return s.h.turnAway(ctx, newIntake("IngestStream"), stopped()).grpc()
			case readOne:
				first = in
			}
		}
		var batch []*streamed
		batch, next = s.batch(first)
		s.keep(ctx, batch)
		failed := error(nil)
		for _, in := range batch {
			if err := s.answer(ctx, in); err != nil && failed == nil {
				failed = err
			}
		}
		if failed != nil {
			if next != nil {
				s.h.gate.Release(next.charged)
			}
			return failed
		}
	}
}

// stopped is how a stream ends that weir ends.
func stopped() *refusal {
	return &refusal{
		code: codes.Unavailable, reason: reasonStopping, retryAfter: time.Second,
		message: "weir is stopping; requests without an answer were not kept",
	}
}

// readState is what take has found.
type readState uint8

const (
	readOne     readState = iota
	readEnded             // there will be no more
	readStopped           // weir is stopping
	readNothing           // weir is stopping, and nothing waits
)

// take waits for a request, or until weir stops. stopping is nil once it does:
// then nothing is waited for.
func (s *stream) take(stopping <-chan struct{}) (*streamed, readState) {
	if stopping == nil {
		select {
		case in, ok := <-s.read:
			if !ok {
				return nil, readEnded
			}
			return in, readOne
		default:
			return nil, readNothing
		}
	}
	select {
	case in, ok := <-s.read:
		if !ok {
			return nil, readEnded
		}
		return in, readOne
	case <-stopping:
		return nil, readStopped
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
func (s *stream) keep(ctx context.Context, batch []*streamed) {
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
func (s *stream) answer(ctx context.Context, in *streamed) error {
	reply := &weirv1.IngestStreamResponse{Sequence: in.sequence}
	if in.err != nil {
		r := s.h.turnAway(ctx, in.intake, in.err)
		reply.Error = r.item()
		if r.reason == reasonMalformed {
			reply.Results = in.results
		}
	} else {
		s.h.metrics.ended(in.intake, nil)
		reply.Results, reply.Warning = in.results, clip(in.warning)
	}
	err := s.grpc.SendMsg(reply)
	s.h.gate.Release(in.charged)
	<-s.room
	return err
}

// sequenceOf finds the number of a request of a stream without decoding it,
// so that one which cannot be decoded is answered by its number too.
func sequenceOf(message []byte) (sequence uint64) {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return sequence
		}
		message = message[n:]
		if num == sequenceNumber && typ == protowire.VarintType {
			sequence, n = protowire.ConsumeVarint(message)
		} else {
			n = protowire.ConsumeFieldValue(num, typ, message)
		}
		if n < 0 {
			return sequence
		}
		message = message[n:]
	}
	return sequence
}
