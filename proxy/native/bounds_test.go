package native

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	weirv1 "weir/proto/weir/v1"
)

// within puts a message into fields, the innermost first.
func within(message []byte, fields ...protowire.Number) []byte {
	for _, n := range fields {
		message = protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), message)
	}
	return message
}

// unknown is a message that is sent as the bytes that it is made of.
func unknown(message []byte) *emptypb.Empty {
	e := new(emptypb.Empty)
	e.ProtoReflect().SetUnknown(message)
	return e
}

// A request of few bytes can be many messages. What it would take is found out
// before it is decoded.
func TestRequestsThatWouldGrowAreNotDecoded(t *testing.T) {
	t.Parallel()
	deep := []byte{}
	for range 1100 {
		deep = within(deep, 6, 1) // a list in a list
	}
	for name, tc := range map[string]struct {
		message []byte
		want    string
	}{
		"many operations": {bytes.Repeat([]byte{0x0a, 0x00}, 100_000), "take more than 3145728 bytes of memory"},
		"many values":     {within(bytes.Repeat([]byte{0x0a, 0x00}, 100_000), 3, 15, 1, 1), "take more than 3145728 bytes of memory"},
		"many tags":       {within(bytes.Repeat([]byte{0x5a, 0x00}, 200_000), 1, 1), "take more than 3145728 bytes of memory"},
		"deep":            {within(deep, 3, 15, 1, 1), "nested more than 1000 levels deep"},
		"large":           {within(make([]byte, 1<<20), 5, 4, 1), "1048576 are allowed"},
		"wrong within":    {within([]byte{0xff}, 1), "malformed"},
		"not UTF-8":       {within([]byte{0xff}, 5, 1, 1), "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &sink{}
			client, h, _ := serveAll(t, Config{MaxMessageBytes: 1 << 20}, s)
			err := client.conn.Invoke(t.Context(), weirv1.IngestService_Ingest_FullMethodName, unknown(tc.message), new(weirv1.IngestResponse))
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
			if len(s.exports) != 0 || h.gate.Used() != 0 {
				t.Errorf("%d exports, %d bytes taken", len(s.exports), h.gate.Used())
			}
			st, err := client.IngestStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			message := append([]byte{0x08, 0x07}, renumbered(tc.message)...)
			if err := st.SendMsg(unknown(message)); err != nil {
				t.Fatal(err)
			}
			reply, err := st.Recv()
			if err != nil || reply.GetSequence() != 7 || codes.Code(reply.GetError().GetCode()) != codes.InvalidArgument {
				t.Errorf("stream: %v, %v", reply, err)
			}
		})
	}
}

// renumbered makes the operations of an IngestRequest those of an
// IngestStreamRequest.
func renumbered(message []byte) (out []byte) {
	for len(message) > 0 {
		_, _, n := protowire.ConsumeTag(message)
		value, m := protowire.ConsumeBytes(message[n:])
		out = append(out, within(value, 2)...)
		message = message[n+m:]
	}
	return out
}

func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	client, h, server := serveAll(t, Config{}, &sink{})
	st, err := client.IngestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&weirv1.IngestStreamRequest{Sequence: 1, Operations: []*weirv1.Operation{create(&weirv1.Run{Name: "n"})}}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	_ = h.Close()
	server.GracefulStop() // returns, though the client has not ended the stream
	_, err = st.Recv()
	if status.Code(err) != codes.Unavailable || !retryable(err) {
		t.Errorf("the stream ended with %v, want UNAVAILABLE and a wait", err)
	}
}

func TestClosedHandlerTakesNoStream(t *testing.T) {
	t.Parallel()
	client, h, _ := serveAll(t, Config{}, &sink{})
	_ = h.Close()
	_ = h.Close()
	st, err := client.IngestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); status.Code(err) != codes.Unavailable || !retryable(err) {
		t.Errorf("got %v", err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	client, _, _ := serveAll(t, Config{MaxStreams: 1}, &sink{})
	first, err := client.IngestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Send(&weirv1.IngestStreamRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	second, err := client.IngestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(); status.Code(err) != codes.ResourceExhausted || !retryable(err) {
		t.Errorf("a second stream: %v", err)
	}
	if err := first.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream: %v", err)
	}
}

// retryable reports whether a status says when to come again.
func retryable(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration() > 0
		}
	}
	return false
}

func TestSequenceOfWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	whole, err := proto.Marshal(&weirv1.IngestStreamRequest{Sequence: 300, Operations: []*weirv1.Operation{{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		message []byte
		want    uint64
	}{{nil, 0}, {whole, 300}, {append(bytes.Clone(whole), 0xff), 300}, {whole[:1], 0}, {[]byte{0x12, 0x05}, 0}} {
		if got := sequenceOf(tc.message); got != tc.want {
			t.Errorf("%x: %d, want %d", tc.message, got, tc.want)
		}
	}
}

func TestWeightIsNoLessThanWhatIsTaken(t *testing.T) {
	const n = 1 << 14
	entry := within([]byte{0x0a, 1, 'k', 0x12, 0}, 1) // a Struct with one empty value
	for name, message := range map[string][]byte{
		"operations":  bytes.Repeat([]byte{0x0a, 0}, n),
		"runs":        bytes.Repeat(within(nil, 1, 1), n),
		"feedback":    bytes.Repeat(within(nil, 3, 1), n),
		"attachments": bytes.Repeat(within(nil, 4, 1), n),
		"values":      within(bytes.Repeat(within(nil, 1), n), 3, 15, 1, 1),
		"numbers":     within(bytes.Repeat(within([]byte{0x11, 1, 2, 3, 4, 5, 6, 7, 8}, 1), n), 3, 15, 1, 1),
		"objects":     within(bytes.Repeat(within(entry, 5, 1), n), 3, 15, 1, 1),
		"tags":        within(bytes.Repeat([]byte{0x5a, 0}, n), 1, 1),
	} {
		var req weirv1.IngestRequest
		weight, err := weigh(message, req.ProtoReflect().Descriptor(), 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		before := heapBytes()
		if err := proto.Unmarshal(message, &req); err != nil {
			t.Fatal(err)
		}
		if taken := heapBytes() - before; weight < taken {
			t.Errorf("%s: %d bytes take %d, weighed %d", name, len(message), taken, weight)
		}
		runtime.KeepAlive(&req)
	}
}

// heapBytes is how much is alive.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
