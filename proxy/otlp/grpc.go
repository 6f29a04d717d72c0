package otlp

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"weir/internal/callerheaders"
	"weir/proxy"
)

const (
	serviceName  = "opentelemetry.proto.collector.trace.v1.TraceService"
	exportMethod = "/" + serviceName + "/Export"
)

// ServerOptions returns the options of a grpc.Server that RegisterGRPC can be
// used on: the codec that keeps OTLP messages raw, and the limits of cfg, which
// hold for every service on that server. Connections are bounded by
// Handler.LimitGRPC.
//
// A message is bounded by MaxMessageBytes twice: as it comes and decompressed.
// ReceiveTimeout bounds OTLP's calls and those of the methods in unary, given by
// their full names, whose handlers must call inflight.Arrived.
func ServerOptions(cfg Config, unary ...string) []grpc.ServerOption {
	cfg = cfg.withDefaults()
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.InTapHandle(arrivals{cfg.ReceiveTimeout, unary, cfg.GRPCDoor}.begin),
		grpc.MaxRecvMsgSize(int(cfg.MaxMessageBytes)),
		grpc.MaxConcurrentStreams(uint32(cfg.MaxStreams)),
		grpc.MaxHeaderListSize(uint32(cfg.MaxHeaderBytes)),
		grpc.ConnectionTimeout(connectTimeout), // for the handshake
		grpc.KeepaliveParams(keepalive.ServerParameters{ // dead peers are noticed, idle ones let go
			MaxConnectionIdle: idleTimeout,
			Time:              2 * time.Minute,
			Timeout:           20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			// Clients are on this machine and often set 10 s; the default of
			// 5 minutes would cut their connections.
			MinTime:             5 * time.Second,
			PermitWithoutStream: true,
		}),
	}
}

// RegisterGRPC registers OTLP's TraceService, served by h, on a server made
// with ServerOptions.
func RegisterGRPC(s grpc.ServiceRegistrar, h *Handler) {
	s.RegisterService(&traceServiceDesc, &traceService{h})
}

// traceServiceDesc is written by hand because generated code would decode the
// message before the handler sees it.
var traceServiceDesc = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*traceServer)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: handleExport}},
	Metadata:    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
}

type traceServer interface {
	begin(ctx context.Context) *call
}

type traceService struct{ h *Handler }

// call is one Export call under way.
type call struct {
	intake
	h       *Handler
	origin  origin
	message rawMessage
	charged int64 // bytes taken from the gate
}

var calls = sync.Pool{New: func() any { return new(call) }}

// emptyReply is an ExportTraceServiceResponse without fields: all was taken.
var emptyReply = &rawReply{}

func (s *traceService) begin(ctx context.Context) *call {
	c := calls.Get().(*call)
	c.h = s.h
	c.origin = origin{transportGRPC, grpcEncoding(ctx)}
	return c
}

func (c *call) end() {
	c.h.gate.Release(c.charged)
	c.message.free()
	c.intake.release()
	c.h, c.charged = nil, 0
	calls.Put(c)
}

// handleExport is the grpc.MethodDesc handler of Export.
func handleExport(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	c := srv.(traceServer).begin(ctx)
	defer c.end()
	if err := c.receive(ctx, dec); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return c.keep(ctx)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: exportMethod}
	return interceptor(ctx, &c.message, info, func(ctx context.Context, _ any) (any, error) { return c.keep(ctx) })
}

// receive waits for the message to be complete.
func (c *call) receive(ctx context.Context, dec func(any) error) error {
	h := c.h
	if a := arrivalOf(ctx); a != nil {
		defer a.complete()
	}
	if !h.gate.HasRoom(1) {
		return h.turnAway(ctx, c.origin, h.gate.Pressure()).grpc()
	}
	if err := dec(&c.message); err != nil {
		reason := receiveRefusal(err)
		h.metrics.turnedAway(c.origin, reason, reason == reasonSlow || reason == reasonCanceled)
		return err
	}
	size := int64(len(c.message.bytes()))
	if !h.gate.Acquire(size) {
		return h.turnAway(ctx, c.origin, h.gate.Pressure()).grpc()
	}
	c.charged = size
	return nil
}

// keep checks the message, makes it durable and answers.
func (c *call) keep(ctx context.Context) (any, error) {
	h, began := c.h, time.Now()
	caller, err := grpcCaller(ctx, h.cfg.GRPCDoor)
	if err != nil {
		return nil, h.turnAway(ctx, c.origin, err).grpc()
	}
	receipt, err := h.admit(ctx, &c.intake, caller, c.message.bytes())
	if err != nil {
		return nil, h.turnAway(ctx, c.origin, err).grpc()
	}
	h.metrics.took(c.origin, c.summary.Spans, len(c.message.bytes()), began)
	if receipt.Warning == "" {
		return emptyReply, nil
	}
	reply, err := proto.Marshal(warned(receipt.Warning))
	if err != nil {
		return emptyReply, nil //nolint:nilerr // the export is durable, and that is what matters to the sender
	}
	return &rawReply{reply}, nil
}

// grpcCaller returns what the call's metadata says. Read once when the call
// began, if the server was made with ServerOptions.
func grpcCaller(ctx context.Context, door *callerheaders.Door) (proxy.Caller, error) {
	if a := arrivalOf(ctx); a != nil {
		return a.caller, a.callerErr
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return callerOfMetadata(md, door)
}

func callerOfMetadata(md metadata.MD, door *callerheaders.Door) (proxy.Caller, error) {
	return door.Read(func(name string) string {
		if values := md[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	})
}

// grpcEncoding tells how the call's message is compressed. grpc-go keeps the
// header to itself, but its stream can be asked.
func grpcEncoding(ctx context.Context) compression {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string })
	if !ok {
		return encodingOther
	}
	e, _ := encodingOf(stream.RecvCompress())
	return e
}
