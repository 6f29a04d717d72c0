package native

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/runs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink keeps exports, or refuses them.
type sink struct {
	mu      sync.Mutex
	ops     []runs.Op
	exports []proxy.Export
	err     error
	gate    chan struct{} // if set, Accept waits for one
}

func (s *sink) Accept(ctx context.Context, e *proxy.Export) (proxy.Receipt, error) {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return proxy.Receipt{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return proxy.Receipt{}, s.err
	}
	s.exports = append(s.exports, *e)
	return proxy.Receipt{}, runs.Scan(append([]byte(nil), e.Payload...), func(op runs.Op) error {
		s.ops = append(s.ops, op)
		return nil
	})
}

func serve(t *testing.T, cfg Config, s proxy.Sink) weirv1.IngestServiceClient {
	t.Helper()
	client, _, _ := serveAll(t, cfg, s)
	return client
}

// client speaks to a server of the test's own.
type client struct {
	weirv1.IngestServiceClient

	conn *grpc.ClientConn
}

func serveAll(t *testing.T, cfg Config, s proxy.Sink) (client, *Handler, *grpc.Server) {
	t.Helper()
	cfg.Registerer = prometheus.NewRegistry()
	h, err := New(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	Register(server, h)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	conn, err := grpc.NewClient("passthrough:weir", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
		_ = h.Close()
		if used := h.gate.Used(); used != 0 {
			t.Errorf("%d bytes are still taken", used)
		}
	})
	return client{weirv1.NewIngestServiceClient(conn), conn}, h, server
}

func create(run *weirv1.Run) *weirv1.Operation {
	return &weirv1.Operation{Operation: &weirv1.Operation_Create{Create: run}}
}

func update(run *weirv1.Run) *weirv1.Operation {
	return &weirv1.Operation{Operation: &weirv1.Operation_Update{Update: run}}
}

func text(s string) *weirv1.Json { return &weirv1.Json{Value: &weirv1.Json_Text{Text: []byte(s)}} }

const (
	root  = "0198f000-0000-7000-8000-000000000001"
	child = "0198f000-0000-7000-8000-000000000002"
)

func TestIngestFillsAndKeepsTheGood(t *testing.T) {
	t.Parallel()
	s := &sink{}
	client := serve(t, Config{}, s)
	metadataOf, err := structpb.NewStruct(map[string]any{"a": 1, "b": "x"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "key", "langsmith-project", "otlp's")
	reply, err := client.Ingest(ctx, &weirv1.IngestRequest{Operations: []*weirv1.Operation{
		create(&weirv1.Run{Id: root, Name: "agent", Project: "p", Metadata: metadataOf, Extra: text(`{"runtime":{},"metadata":{"a":0,"c":1.50}}`), Members: text(`{"manifest_id":null}`)}),
		create(&weirv1.Run{Id: child, ParentRunId: root, Name: "llm", RunType: "llm", Inputs: text(`{"n":1.50}`)}),
		create(&weirv1.Run{Name: "", Inputs: text(`[`)}),
		update(&weirv1.Run{Id: child, Outputs: text(`{}`), Error: "broken"}),
		update(&weirv1.Run{Id: "0198f000-0000-7000-8000-000000000009"}),
		{Operation: &weirv1.Operation_Feedback{Feedback: &weirv1.Feedback{RunId: child, Key: "good", Score: new(0.5)}}},
		{Operation: &weirv1.Operation_Attachment{Attachment: &weirv1.Attachment{RunId: child, Name: "f", Content: []byte("x")}}},
		{},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []codes.Code{0, 0, 3, 0, 0, 0, 0, 3} {
		if got := codes.Code(reply.GetResults()[i].GetError().GetCode()); got != want {
			t.Errorf("operation %d: %v, want %v: %v", i, got, want, reply.GetResults()[i])
		}
	}
	if got := reply.GetResults()[2].GetError().GetViolations(); len(got) != 1 || got[0].GetField() != "operations[2].create.name" {
		t.Errorf("violations %v", got)
	}
	if got := reply.GetResults()[1]; got.GetTraceId() != root || !strings.Contains(got.GetDottedOrder(), root+".") {
		t.Errorf("child: %v", got)
	}
	kinds := ""
	for i := range s.ops {
		kinds += s.ops[i].Kind.String() + ","
		if err := s.ops[i].Check(); err != nil {
			t.Error(err)
		}
	}
	if kinds != "post,post,patch,call,feedback,attachment," {
		t.Fatalf("kept %s", kinds)
	}
	if e := s.exports[0]; e.Caller != (proxy.Caller{APIKey: "key"}) || e.Items != 6 || len(e.TraceIDs) != 1 {
		t.Errorf("export %+v", e)
	}
	var extra map[string]map[string]any
	if err := json.Unmarshal(s.ops[0].Fields[runs.Extra], &extra); err != nil || extra["metadata"]["a"] != 1.0 || extra["metadata"]["c"] != 1.5 {
		t.Errorf("extra %s: %v", s.ops[0].Fields[runs.Extra], err)
	}
	if !strings.Contains(string(s.ops[1].Body), `"session_name":"p"`) || string(s.ops[1].Fields[runs.Inputs]) != `{"n":1.50}` || s.ops[1].NoProject {
		t.Errorf("child %s", s.ops[1].Body)
	}
	if s.ops[3].Method != "PATCH" || s.ops[3].Path != "/runs/0198f000-0000-7000-8000-000000000009" {
		t.Errorf("call %+v", s.ops[3])
	}
}

func TestIngestSendsWhatNobodyPlacedToTheProjectOfWeir(t *testing.T) {
	t.Parallel()
	s := &sink{}
	if _, err := serve(t, Config{}, s).Ingest(t.Context(), &weirv1.IngestRequest{Operations: []*weirv1.Operation{
		create(&weirv1.Run{ParentRunId: root, Name: "child of nobody known"}),
		create(&weirv1.Run{ParentRunId: root, Name: "child of nobody known", Project: "p"}),
	}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if op := s.ops[i]; op.Kind != runs.Call || op.NoProject != want {
			t.Errorf("operation %d: %+v", i, op)
		}
	}
}

func TestIngestTakesACreateAndAnUpdateOfARunOnce(t *testing.T) {
	t.Parallel()
	s := &sink{}
	named := func() *weirv1.Run { return &weirv1.Run{Id: root, Name: "n"} }
	reply, err := serve(t, Config{}, s).Ingest(t.Context(), &weirv1.IngestRequest{Operations: []*weirv1.Operation{
		create(&weirv1.Run{Id: root}), create(named()), create(named()), update(named()), update(named()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, field := range []string{"create.name", "", "create.id", "", "update.id"} {
		got := reply.GetResults()[i].GetError().GetViolations()
		if (field == "") != (len(got) == 0) || (field != "" && !strings.HasSuffix(got[0].GetField(), field)) {
			t.Errorf("operation %d: %v, want %q at fault", i, got, field)
		}
	}
	if len(s.ops) != 2 {
		t.Errorf("%d operations were kept", len(s.ops))
	}
}

func TestRefusalsSayWhetherToComeAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err       error
		operation *weirv1.Operation
		code      codes.Code
		retry     bool
		field     string
	}{
		"all bad":  {operation: create(&weirv1.Run{}), code: codes.InvalidArgument, field: "operations[0].create.name"},
		"bad type": {operation: create(&weirv1.Run{Name: "n", RunType: "x"}), code: codes.InvalidArgument, field: "operations[0].create.run_type"},
		"repeated": {operation: create(&weirv1.Run{Name: "n", Members: text(`{"id":1}`)}), code: codes.InvalidArgument, field: "operations[0].create.members"},
		"pressure": {err: &proxy.PressureError{Reason: "full", RetryAfter: time.Second}, code: codes.ResourceExhausted, retry: true},
		"draining": {err: &proxy.PressureError{Reason: "draining", RetryAfter: time.Second, Unavailable: true}, code: codes.Unavailable, retry: true},
		"rejected": {err: &proxy.RejectError{Reason: "too_large", Detail: "d"}, code: codes.InvalidArgument},
		"unknown":  {err: errors.New("disk"), code: codes.Unavailable, retry: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, Config{}, &sink{err: tc.err})
			if tc.operation == nil {
				tc.operation = create(&weirv1.Run{Name: "n"})
			}
			_, err := client.Ingest(t.Context(), &weirv1.IngestRequest{Operations: []*weirv1.Operation{tc.operation}})
			retry, field := false, ""
			for _, d := range status.Convert(err).Details() {
				switch d := d.(type) {
				case *errdetails.RetryInfo:
					retry = true
				case *errdetails.BadRequest:
					field = d.GetFieldViolations()[0].GetField()
				}
			}
			if status.Code(err) != tc.code || retry != tc.retry || field != tc.field {
				t.Errorf("%v, retry %t, field %q", err, retry, field)
			}
		})
	}
}

func TestStreamAnswersInOrderOnceKept(t *testing.T) {
	t.Parallel()
	s := &sink{gate: make(chan struct{})}
	client := serve(t, Config{MaxUnanswered: 3}, s)
	st, err := client.IngestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq, op := range []*weirv1.Operation{
		create(&weirv1.Run{Id: root, Name: "n"}), create(&weirv1.Run{Id: child, ParentRunId: root, Name: "n"}), {}, update(&weirv1.Run{Id: child}),
	} {
		if err := st.Send(&weirv1.IngestStreamRequest{Sequence: uint64(seq), Operations: []*weirv1.Operation{op}}); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	if len(s.exports) != 0 {
		t.Error("kept before the sink let it")
	}
	s.mu.Unlock()
	close(s.gate)
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(4) {
		reply, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if reply.GetSequence() != seq || (reply.GetError() != nil) != (seq == 2) || (seq != 2 && reply.GetResults()[0].GetTraceId() != root) {
			t.Errorf("answer %d: %v", seq, reply)
		}
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if len(s.ops) != 3 || s.ops[0].ID.String() != root || s.ops[2].Kind != runs.Update {
		t.Errorf("kept %+v", s.ops)
	}
}

func TestStreamEndsWhenTheClientIsGone(t *testing.T) {
	t.Parallel()
	client := serve(t, Config{MaxUnanswered: 2}, &sink{gate: make(chan struct{})}) // keeps nothing, ever
	ctx, cancel := context.WithCancel(t.Context())
	st, err := client.IngestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // more than are read
		if err := st.Send(&weirv1.IngestStreamRequest{Operations: []*weirv1.Operation{create(&weirv1.Run{Name: "n"})}}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := st.Recv(); status.Code(err) != codes.Canceled {
		t.Error(err)
	} // that nothing is left of it is up to the cleanup and TestMain
}

func FuzzIngest(f *testing.F) {
	for _, req := range []*weirv1.IngestRequest{
		{Operations: []*weirv1.Operation{create(&weirv1.Run{Name: "n", Extra: text(`{"metadata":{"a":1}}`), Metadata: &structpb.Struct{}})}},
		{Operations: []*weirv1.Operation{update(&weirv1.Run{Id: root, DottedOrder: "20250901T100000123456Z" + root}), {}}},
		{Operations: []*weirv1.Operation{{Operation: &weirv1.Operation_Feedback{Feedback: &weirv1.Feedback{RunId: root, Key: "k", TraceId: root}}}}},
	} {
		seed, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req weirv1.IngestRequest
		weight, err := weigh(data, req.ProtoReflect().Descriptor(), 1<<40)
		if proto.Unmarshal(data, &req) != nil {
			return
		}
		if err != nil || weight < int64(proto.Size(&req)) {
			t.Fatalf("%d bytes weigh %d: %v", proto.Size(&req), weight, err)
		}
		c := newConverter(time.Unix(1e9, 0), func(runs.ID) (runs.Placed, bool) { return runs.Placed{}, false })
		for i, operation := range req.GetOperations() {
			c.convert(i, operation)
		}
		if len(c.results) != len(req.GetOperations()) || len(c.ops)+c.bad != len(c.results) {
			t.Fatalf("%d operations, %d results, %d kept, %d bad", len(req.GetOperations()), len(c.results), len(c.ops), c.bad)
		}
		for i := range c.ops {
			if err := c.ops[i].Check(); err != nil {
				t.Fatal(err)
			}
			n := 0
			err := runs.Scan(runs.Append(nil, &c.ops[i]), func(op runs.Op) error {
				n++
				if op.Kind == runs.Call && !json.Valid(op.Body) {
					t.Errorf("call with %q", op.Body)
				}
				return op.Check()
			})
			if err != nil || n != 1 {
				t.Fatalf("scanned %d: %v", n, err)
			}
		}
	})
}
