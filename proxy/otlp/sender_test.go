package otlp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"weir/proxy"
)

// fakeSink keeps what it accepts. With respond set it does what that says.
type fakeSink struct {
	respond func(context.Context, *proxy.Export) (proxy.Receipt, error)

	mu   sync.Mutex // guards kept
	kept []proxy.Export
}

func (s *fakeSink) Accept(ctx context.Context, e *proxy.Export) (proxy.Receipt, error) {
	var receipt proxy.Receipt
	if s.respond != nil {
		var err error
		if receipt, err = s.respond(ctx, e); err != nil {
			return receipt, err
		}
	}
	mine := *e
	mine.Payload = bytes.Clone(e.Payload)
	mine.TraceIDs = slices.Clone(e.TraceIDs)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, mine)
	return receipt, nil
}

func (s *fakeSink) exports() []proxy.Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept)
}

// answer is what a sender makes of a response, by the OTLP specification.
type answer struct {
	ok         bool
	warning    string
	retry      bool          // the data is to be sent again
	retryAfter time.Duration // as the server asked
	field      string        // of the violation, if one was named
	message    string
	code       string // gRPC code or HTTP status
}

// request is one export to send.
type request struct {
	payload  []byte // serialized ExportTraceServiceRequest, or anything
	headers  map[string]string
	encoding string // "", gzip, zstd
}

// sender sends exports over one of the transports.
type sender interface {
	send(ctx context.Context, t testing.TB, r request) answer
}

// eachTransport runs test against a handler made for each transport.
func eachTransport(t *testing.T, cfg Config, test func(t *testing.T, sink *fakeSink, s sender)) {
	t.Helper()
	for name, start := range map[string]func(*testing.T, *Handler) sender{
		"grpc":          func(t *testing.T, h *Handler) sender { t.Helper(); return startGRPC(t, h, cfg) },
		"http-protobuf": func(t *testing.T, h *Handler) sender { t.Helper(); return startHTTP(t, h, mediaProtobuf) },
		"http-json":     func(t *testing.T, h *Handler) sender { t.Helper(); return startHTTP(t, h, mediaJSON) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := &fakeSink{}
			test(t, sink, start(t, newHandler(t, cfg, sink)))
		})
	}
}

func newHandler(t testing.TB, cfg Config, sink proxy.Sink) *Handler {
	t.Helper()
	h, err := New(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// grpcSender is a client of a real server.
type grpcSender struct {
	conn   *grpc.ClientConn
	server *grpc.Server
	addr   string
}

func startGRPC(t testing.TB, h *Handler, cfg Config, more ...grpc.ServerOption) *grpcSender {
	t.Helper()
	ln := listen(t)
	server := grpc.NewServer(append(ServerOptions(cfg), more...)...)
	RegisterGRPC(server, h)
	if err := RegisterReflection(server); err != nil {
		t.Fatal(err)
	}
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
	return &grpcSender{conn, server, ln.Addr().String()}
}

// rawClientCodec sends []byte as it is and receives protobuf.
type rawClientCodec struct{ codec }

func (c rawClientCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.codec.Marshal(v)
}

func (s *grpcSender) send(ctx context.Context, t testing.TB, r request) answer {
	t.Helper()
	var trailer metadata.MD
	opts := []grpc.CallOption{grpc.ForceCodecV2(rawClientCodec{newCodec()}), grpc.WaitForReady(true), grpc.Trailer(&trailer)}
	if r.encoding != "" {
		opts = append(opts, grpc.UseCompressor(r.encoding))
	}
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(r.headers))
	var reply tracecollector.ExportTraceServiceResponse
	err := s.conn.Invoke(ctx, exportMethod, r.payload, &reply, opts...)
	if err == nil {
		return accepted(t, &reply)
	}
	st := status.Convert(err)
	a := answer{message: st.Message(), code: st.Code().String()}
	hasRetryInfo := a.read(st.Proto())
	if hasRetryInfo { // Python's exporter reads it from a trailer
		var info errdetails.RetryInfo
		if v := trailer.Get(retryInfoTrailer); len(v) != 1 || proto.Unmarshal([]byte(v[0]), &info) != nil ||
			info.GetRetryDelay().AsDuration() != a.retryAfter {
			t.Errorf("trailer %s is %q, want a RetryInfo of %s", retryInfoTrailer, v, a.retryAfter)
		}
	}
	// OTLP specification, OTLP/gRPC: the table of retryable codes.
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		a.retry = true
	case codes.ResourceExhausted:
		a.retry = hasRetryInfo
	default:
	}
	return a
}

func accepted(t testing.TB, reply *tracecollector.ExportTraceServiceResponse) answer {
	t.Helper()
	if n := reply.GetPartialSuccess().GetRejectedSpans(); n != 0 {
		t.Errorf("%d spans rejected in a success", n)
	}
	return answer{ok: true, warning: reply.GetPartialSuccess().GetErrorMessage()}
}

// read takes what the details say, and tells whether there was a RetryInfo.
func (a *answer) read(st *spb.Status) (hasRetryInfo bool) {
	for _, d := range st.GetDetails() {
		m, err := d.UnmarshalNew()
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *errdetails.RetryInfo:
			a.retryAfter, hasRetryInfo = m.GetRetryDelay().AsDuration(), true
		case *errdetails.BadRequest:
			a.field = m.GetFieldViolations()[0].GetField()
		}
	}
	return hasRetryInfo
}

// httpSender is a client of a real server.
type httpSender struct {
	client *http.Client
	url    string
	media  string
}

func startHTTP(t testing.TB, h *Handler, media string) *httpSender {
	t.Helper()
	server := httptest.NewUnstartedServer(h.HTTP())
	h.SetLimits(server.Config)
	server.Listener = h.LimitHTTP(server.Listener)
	server.Start()
	t.Cleanup(server.Close)
	return &httpSender{server.Client(), server.URL + "/v1/traces", media}
}

func (s *httpSender) send(ctx context.Context, t testing.TB, r request) answer {
	t.Helper()
	body := r.payload
	if s.media == mediaJSON {
		body = asJSON(t, body)
	}
	body = compress(t, r.encoding, body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", s.media)
	if r.encoding != "" {
		req.Header.Set("Content-Encoding", r.encoding)
	}
	for k, v := range r.headers {
		req.Header.Set(k, v)
	}
	return s.do(t, req)
}

func (s *httpSender) do(t testing.TB, req *http.Request) answer {
	t.Helper()
	resp, err := s.client.Do(req)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return answer{retry: true, code: "canceled", message: err.Error()}
		}
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	// OTLP specification: the response has the request's content type.
	unmarshal := proto.Unmarshal
	if resp.Header.Get("Content-Type") == mediaJSON {
		unmarshal = protojson.Unmarshal
	}
	if want := req.Header.Get("Content-Type"); want == mediaJSON || want == mediaProtobuf {
		if got := resp.Header.Get("Content-Type"); got != want {
			t.Errorf("content type of the response is %q, of the request %q", got, want)
		}
	}
	if resp.StatusCode == http.StatusOK {
		var reply tracecollector.ExportTraceServiceResponse
		if err := unmarshal(body, &reply); err != nil {
			t.Fatalf("body of a success: %v: %q", err, body)
		}
		return accepted(t, &reply)
	}
	var st spb.Status
	if err := unmarshal(body, &st); err != nil {
		t.Fatalf("body of status %d: %v: %q", resp.StatusCode, err, body)
	}
	a := answer{message: st.GetMessage(), code: strconv.Itoa(resp.StatusCode)}
	a.read(&st)
	// OTLP specification, OTLP/HTTP: the table of retryable codes.
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.retry = true
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || seconds < 1 {
			t.Errorf("Retry-After of status %d is %q", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		if asked := time.Duration(seconds) * time.Second; asked < a.retryAfter {
			t.Errorf("Retry-After is %s, the RetryInfo of the body says %s", asked, a.retryAfter)
		}
	default:
		if after := resp.Header.Get("Retry-After"); after != "" {
			t.Errorf("Retry-After %q on status %d", after, resp.StatusCode)
		}
	}
	return a
}

// asJSON turns a serialized request into OTLP/JSON, and leaves what is none.
func asJSON(t testing.TB, payload []byte) []byte {
	t.Helper()
	var req tracecollector.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &req); err != nil {
		return payload
	}
	return toJSON(t, &req)
}

func compress(t testing.TB, encoding string, b []byte) []byte {
	t.Helper()
	switch encoding {
	case nameGzip:
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	case nameZstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	default:
		return b
	}
}

func insecureCredentials() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
