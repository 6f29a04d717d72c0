package otlp

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"weir/internal/llmspans"
	"weir/proxy"
)

func TestGRPCSenderThatStallsIsCutOff(t *testing.T) {
	t.Parallel()
	cfg := Config{ReceiveTimeout: 30 * time.Millisecond}
	sink := &fakeSink{}
	h := newHandler(t, cfg, sink)
	s := startGRPC(t, h, cfg)
	for name, payload := range map[string][]byte{"says nothing": nil, "never ends": marshal(t, requestOf(okSpan()))} {
		desc := &grpc.StreamDesc{ClientStreams: true}
		stream, err := s.conn.NewStream(t.Context(), desc, exportMethod, grpc.ForceCodecV2(rawClientCodec{newCodec()}))
		if err != nil {
			t.Fatal(err)
		}
		if payload != nil {
			if err := stream.SendMsg(payload); err != nil {
				t.Fatal(err)
			}
		}
		err = stream.RecvMsg(&healthpb.HealthCheckResponse{})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: got %v, want DEADLINE_EXCEEDED, which senders retry", name, err)
		}
	}
	if n := len(sink.exports()); n != 0 {
		t.Errorf("the sink was given %d exports", n)
	}
	if used := h.gate.Used(); used != 0 {
		t.Errorf("%d bytes are still counted as in flight", used)
	}
}

func TestGRPCOtherServicesShareTheServer(t *testing.T) {
	t.Parallel()
	cfg := Config{ReceiveTimeout: 30 * time.Millisecond}
	h := newHandler(t, cfg, &fakeSink{})
	ln := listen(t)
	server := grpc.NewServer(ServerOptions(cfg)...)
	RegisterGRPC(server, h)
	checks := health.NewServer()
	healthpb.RegisterHealthServer(server, checks)
	served := make(chan error, 1)
	go func() { served <- server.Serve(h.LimitGRPC(ln)) }()
	conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), insecureCredentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	client := healthpb.NewHealthClient(conn)
	reply, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("check: %v, %v", reply, err)
	}
	// A long stream of another service outlives the receive timeout.
	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(5*cfg.ReceiveTimeout, checks.Shutdown)
	defer timer.Stop()
	if reply, err = watch.Recv(); err != nil || reply.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch: %v, %v", reply, err)
	}
}

func TestGRPCReflectionDescribesOTLP(t *testing.T) {
	t.Parallel()
	s := startGRPC(t, newHandler(t, Config{}, &fakeSink{}), Config{})
	stream, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		reply, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	list := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, serviceName) {
		t.Errorf("services are %v", names)
	}
	files := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: serviceName},
	}).GetFileDescriptorResponse().GetFileDescriptorProto()
	found := map[string]bool{}
	for _, b := range files {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		found[file.GetName()] = true
		if strings.Contains(file.String(), "slim") && strings.Contains(file.GetPackage(), "slim") {
			t.Errorf("%s is in package %s", file.GetName(), file.GetPackage())
		}
	}
	for _, name := range []string{"collector/trace/v1/trace_service", "trace/v1/trace", "common/v1/common", "resource/v1/resource"} {
		if !found["opentelemetry/proto/"+name+".proto"] {
			t.Errorf("%s is missing among %v", name, found)
		}
	}
	// What is not OTLP's is found as well.
	other := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "grpc.reflection.v1.ServerReflection"},
	})
	if other.GetErrorResponse() != nil {
		t.Errorf("reflection of itself: %v", other.GetErrorResponse())
	}
}

func TestGRPCInterceptorSeesTheCall(t *testing.T) {
	t.Parallel()
	deny := func(_ context.Context, _ any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Unauthenticated, "not "+info.FullMethod)
	}
	allow := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return next(ctx, req)
	}
	r := request{payload: marshal(t, requestOf(okSpan()))}
	sink := &fakeSink{}
	s := startGRPC(t, newHandler(t, Config{}, sink), Config{}, grpc.UnaryInterceptor(deny))
	if a := s.send(t.Context(), t, r); a.code != "Unauthenticated" || a.message != "not "+exportMethod {
		t.Errorf("%+v", a)
	}
	if n := len(sink.exports()); n != 0 {
		t.Errorf("the sink was given %d exports", n)
	}
	s = startGRPC(t, newHandler(t, Config{}, sink), Config{}, grpc.UnaryInterceptor(allow))
	if a := s.send(t.Context(), t, r); !a.ok || len(sink.exports()) != 1 {
		t.Errorf("%+v, %d exports", a, len(sink.exports()))
	}
}

func TestGRPCHeaderSizeIsBounded(t *testing.T) {
	t.Parallel()
	cfg := Config{MaxHeaderBytes: 4 << 10}
	sink := &fakeSink{}
	s := startGRPC(t, newHandler(t, cfg, sink), cfg)
	payload := marshal(t, requestOf(okSpan()))
	a := s.send(t.Context(), t, request{payload: payload, headers: map[string]string{"x-large": strings.Repeat("x", 8<<10)}})
	if a.ok || len(sink.exports()) != 0 {
		t.Errorf("%+v", a)
	}
	if a := s.send(t.Context(), t, request{payload: payload}); !a.ok {
		t.Errorf("afterwards: %+v", a)
	}
}

func TestGRPCWorksWithoutServerOptionsInPlace(t *testing.T) {
	t.Parallel()
	// The codec is needed; the tap, which also reads the metadata, is not.
	sink := &fakeSink{}
	h := newHandler(t, Config{}, sink)
	ln := listen(t)
	server := grpc.NewServer(grpc.ForceServerCodecV2(newCodec()))
	RegisterGRPC(server, h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), insecureCredentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	s := &grpcSender{conn: conn, server: server}
	a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(okSpan())), headers: map[string]string{"authorization": "bearer tok"}})
	if !a.ok || sink.exports()[0].Caller.APIKey != "Bearer tok" {
		t.Errorf("%+v", a)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHandler(t, Config{MaxConnections: 2}, &fakeSink{})
	ln := h.LimitGRPC(listen(t))
	accepted := make(chan io.ReadWriteCloser, 3)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	var clients []io.ReadWriteCloser
	for range 2 {
		clients = append(clients, dial(t, ln.Addr().String()))
	}
	first, second := <-accepted, <-accepted
	third := dial(t, ln.Addr().String())
	if _, err := third.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("the third connection reads %v, want it closed", err)
	}
	_ = first.Close()
	_ = first.Close() // closing twice frees one place, not two
	clients = append(clients, third, dial(t, ln.Addr().String()))
	fourth := <-accepted
	fifth := dial(t, ln.Addr().String())
	if _, err := fifth.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("the fifth connection reads %v, want it closed", err)
	}
	for _, c := range append(clients, second, fourth, fifth) {
		_ = c.Close()
	}
}

func TestGRPCHotPathAllocatesLittle(t *testing.T) {
	payload, _ := llmspans.New(1).Request(10)
	h := newHandler(t, Config{}, discard{})
	service := &traceService{h}
	decode := func(v any) error {
		data, err := rawClientCodec{newCodec()}.Marshal(payload)
		if err != nil {
			return err
		}
		return newCodec().Unmarshal(data, v)
	}
	ctx := t.Context()
	n := testing.AllocsPerRun(200, func() {
		if _, err := handleExport(service, ctx, decode, nil); err != nil {
			t.Fatal(err)
		}
	})
	// Two for the buffer slice that decode makes, and one for its interface.
	if n > 3 {
		t.Errorf("%v allocations per call", n)
	}
}

func TestGRPCMessageIsGivenBackToItsPool(t *testing.T) {
	t.Parallel()
	payload, _ := llmspans.New(1).Request(10)
	for name, sink := range map[string]proxy.Sink{
		"accepted": discard{},
		"refused": &fakeSink{respond: func(context.Context, *proxy.Export) (proxy.Receipt, error) {
			return proxy.Receipt{}, errors.New("broken")
		}},
	} {
		pool := &countingPool{}
		service := &traceService{newHandler(t, Config{}, sink)}
		_, err := handleExport(service, t.Context(), func(v any) error {
			data := mem.BufferSlice{mem.NewBuffer(&payload, pool)}
			defer data.Free()
			return newCodec().Unmarshal(data, v)
		}, nil)
		if (err == nil) != (name == "accepted") {
			t.Errorf("%s: %v", name, err)
		}
		if pool.put != 1 {
			t.Errorf("%s: the buffer was given back %d times", name, pool.put)
		}
	}
}

// countingPool counts what it gets back.
type countingPool struct{ put int }

func (*countingPool) Get(n int) *[]byte { b := make([]byte, n); return &b }
func (p *countingPool) Put(*[]byte)     { p.put++ }

// discard is a sink that only acknowledges.
type discard struct{}

func (discard) Accept(context.Context, *proxy.Export) (proxy.Receipt, error) {
	return proxy.Receipt{}, nil
}
