package sendtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"weir/internal/callerheaders"
	"weir/internal/listen"
)

const (
	exportMethod   = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	tracesPath     = "/v1/traces"
	projectHeader  = "Langsmith-Project"
	protobufType   = "application/x-protobuf"
	maxAnswerBytes = 64 << 10
)

// door is a listener, and what it asks of an application.
type door struct {
	addr  string
	tls   *tls.Config // nil: no TLS
	token string
}

// sendGRPC sends an export to a listener like an application, and returns the
// warning that weir answers with, if any.
func sendGRPC(ctx context.Context, to door, project string, export []byte) (warning string, err error) {
	addr := to.addr
	network, target := listen.Reachable(addr)
	creds := insecure.NewCredentials()
	if to.tls != nil && network != "unix" {
		creds = credentials.NewTLS(to.tls)
	}
	conn, err := grpc.NewClient("passthrough:///weir", grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, target)
		}))
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", addr, err)
	}
	defer conn.Close() //nolint:errcheck // the answer is there
	if project != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(projectHeader), project)
	}
	if to.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, callerheaders.TokenHeader, to.token)
	}
	var in collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(export, &in); err != nil {
		return "", err
	}
	var out collectorpb.ExportTraceServiceResponse
	if err := conn.Invoke(ctx, exportMethod, &in, &out, grpc.WaitForReady(false)); err != nil {
		return "", fmt.Errorf("%s: %s", addr, status.Convert(err).Message())
	}
	return out.GetPartialSuccess().GetErrorMessage(), nil
}

// sendHTTP is sendGRPC over HTTP.
func sendHTTP(ctx context.Context, to door, project string, export []byte) (warning string, err error) {
	addr := to.addr
	network, target := listen.Reachable(addr)
	scheme, host := "http://", target
	if network == "unix" {
		host = "localhost"
	} else if to.tls != nil {
		scheme = "https://"
	}
	transport := &http.Transport{
		TLSClientConfig:   to.tls,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, target)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+host+tracesPath, bytes.NewReader(export))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", protobufType)
	if project != "" {
		req.Header.Set(projectHeader, project)
	}
	if to.token != "" {
		req.Header.Set(callerheaders.TokenHeader, to.token)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", addr, err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", errors.New(addr + ": " + res.Status)
	}
	var out collectorpb.ExportTraceServiceResponse
	if err := proto.Unmarshal(body, &out); err != nil {
		return "", fmt.Errorf("%s: the answer is not OTLP: %w", addr, err)
	}
	return out.GetPartialSuccess().GetErrorMessage(), nil
}
