package torture

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// exportMethod is OTLP's TraceService/Export.
const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// rawCodec passes bytes through, so that what is sent is what was generated.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// Name is that of protobuf, which the bytes are.
func (rawCodec) Name() string { return "proto" }

// grpcSender sends over a connection of its own.
type grpcSender struct {
	conn *grpc.ClientConn
	md   metadata.MD
	opts []grpc.CallOption
}

func dialGRPC(target string, c *Client) (sender, error) {
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		// A killed weir is back within milliseconds.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.3, Jitter: 0.2, MaxDelay: 25 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	s := &grpcSender{conn: conn, md: metadata.MD{}, opts: []grpc.CallOption{grpc.ForceCodec(rawCodec{}), grpc.WaitForReady(true)}}
	if c.Gzip {
		s.opts = append(s.opts, grpc.UseCompressor(gzip.Name))
	}
	if c.APIKey != "" {
		s.md.Set("x-api-key", c.APIKey)
	}
	if c.Project != "" {
		s.md.Set("langsmith-project", c.Project)
	}
	return s, nil
}

func (s *grpcSender) close() { _ = s.conn.Close() }

func (s *grpcSender) send(ctx context.Context, payload []byte) (Answer, string) {
	var reply []byte
	err := s.conn.Invoke(metadata.NewOutgoingContext(ctx, s.md), exportMethod, &payload, &reply, s.opts...)
	if err == nil {
		return Acknowledged, rejectedSpans(reply)
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.ResourceExhausted:
		if wait := retryInfo(st); wait <= 0 {
			// A client that follows OTLP would drop the data.
			return RefusedForNow, "RESOURCE_EXHAUSTED without RetryInfo: " + st.Message()
		}
		return RefusedForNow, ""
	case codes.Unavailable:
		// Without details the transport says so, and nobody knows.
		if retryInfo(st) > 0 {
			return RefusedForNow, ""
		}
		return Lost, ""
	case codes.InvalidArgument:
		return Rejected, "INVALID_ARGUMENT for a well-formed export: " + st.Message()
	case codes.Canceled, codes.DeadlineExceeded:
		return Lost, ""
	default:
		return Lost, fmt.Sprintf("unexpected status %s: %s", st.Code(), st.Message())
	}
}

// retryInfo is the wait that the status names, 0 if it names none.
func retryInfo(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
