package native

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"weir/internal/inflight"
	weirv1 "weir/proto/weir/v1"
)

// Register registers weir.v1.IngestService, served by h, on a server whose
// codec leaves protobuf's messages to protobuf. The server bounds messages.
func Register(s grpc.ServiceRegistrar, h *Handler) { s.RegisterService(&serviceDesc, h) }

// UnaryMethods are the full names of the methods whose message should arrive
// within a time that the server sets. Streams may live long.
func UnaryMethods() []string { return []string{weirv1.IngestService_Ingest_FullMethodName} }

// serviceDesc is written by hand because generated code would decode a request
// before anybody has looked at what it takes: a request of 20 MiB can be
// 700 MiB of messages.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: weirv1.IngestService_ServiceDesc.ServiceName,
	HandlerType: (*service)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Ingest", Handler: handleIngest}},
	Streams:     []grpc.StreamDesc{{StreamName: "IngestStream", Handler: handleStream, ServerStreams: true, ClientStreams: true}},
	Metadata:    weirv1.IngestService_ServiceDesc.Metadata,
}

type service interface {
	receive(ctx context.Context, dec func(any) error) (*envelope, error)
	unary(ctx context.Context, message *envelope) (any, error)
	stream(s grpc.ServerStream) error
}

func handleIngest(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	s := srv.(service)
	message, err := s.receive(ctx, dec)
	switch {
	case err != nil:
		return nil, err
	case interceptor == nil:
		return s.unary(ctx, message)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: weirv1.IngestService_Ingest_FullMethodName}
	return interceptor(ctx, message, info, func(ctx context.Context, _ any) (any, error) { return s.unary(ctx, message) })
}

func handleStream(srv any, s grpc.ServerStream) error { return srv.(service).stream(s) }

// envelope is a request that stays the bytes it came as: to a message without
// fields they are unknown, and kept.
type envelope = emptypb.Empty

// receive waits for the message of a unary call.
func (h *Handler) receive(ctx context.Context, dec func(any) error) (*envelope, error) {
	if !h.gate.HasRoom(1) {
		return nil, h.turnAway(ctx, newIntake("Ingest"), h.gate.Pressure()).grpc()
	}
	message := new(envelope)
	if err := dec(message); err != nil {
		return nil, err // grpc-go has made it a status
	}
	inflight.Arrived(ctx)
	return message, nil
}

func (h *Handler) unary(ctx context.Context, message *envelope) (any, error) {
	in := newIntake("Ingest")
	defer func() { h.gate.Release(in.charged) }()
	reply, err := h.ingest(ctx, in, message.ProtoReflect().GetUnknown())
	if err != nil {
		return nil, h.turnAway(ctx, in, err).grpc()
	}
	h.metrics.ended(in, nil)
	return reply, nil
}

// decode decodes a request, if there is memory for all that becomes of it.
func (h *Handler) decode(in *intake, message []byte, into proto.Message) error {
	limit := weightLimit * h.cfg.MaxMessageBytes
	size := int64(len(message))
	if size > h.cfg.MaxMessageBytes {
		return invalid(reasonTooLarge, "the request has %d bytes, %d are allowed; send fewer operations at a time", size, h.cfg.MaxMessageBytes)
	}
	weight, err := weigh(message, into.ProtoReflect().Descriptor(), limit)
	switch {
	case errors.Is(err, errTooHeavy):
		return invalid(reasonTooLarge, "the request would take more than %d bytes of memory; send fewer operations at a time, and large values as JSON text", limit)
	case err != nil:
		return invalid(reasonMalformed, "the request is malformed: %v", err)
	}
	charge := weight + 2*size
	if !h.gate.Acquire(charge) {
		return h.gate.Pressure()
	}
	in.charged += charge
	if err := proto.Unmarshal(message, into); err != nil {
		return invalid(reasonMalformed, "the request is malformed: %v", err)
	}
	return nil
}
