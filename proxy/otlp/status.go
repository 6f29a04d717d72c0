package otlp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"weir/internal/callerheaders"
	"weir/proxy"
)

// Stable words for why an export was not taken, as metrics and status show
// them. A sink's own reasons come beside these.
const (
	reasonMalformed      = "malformed"
	reasonTooManySpans   = "too_many_spans"
	reasonTooLarge       = "too_large"
	reasonBadHeader      = "bad_header"
	reasonBadCompression = "bad_compression"
	reasonEncoding       = "encoding"
	reasonMediaType      = "media_type"
	reasonMethod         = "method"
	reasonPath           = "path"
	reasonSlow           = "slow_sender"
	reasonCanceled       = "canceled"
	reasonDeadline       = "deadline"
	reasonInternal       = "internal"
)

// maxMessageRunes bounds an error text on the wire; gRPC puts it in a trailer.
const maxMessageRunes = 1024

// verdict is how one kind of refusal looks in each protocol. What a sender
// makes of an answer is fixed by the OTLP specification (sections Failures,
// OTLP/gRPC and OTLP/HTTP): it drops the data unless the code is a retryable
// one, and RESOURCE_EXHAUSTED is retryable only with a RetryInfo.
type verdict struct {
	code      codes.Code
	http      int
	retryable bool
}

// The verdicts, the whole mapping.
//
// Pressure is 503 over HTTP and not 429: both are retryable by the
// specification, but OpenTelemetry's Python exporter retries only the former
// (opentelemetry-python issue 5339). A request that is too large is
// INVALID_ARGUMENT, so that RESOURCE_EXHAUSTED always means later; only where
// grpc-go itself measures a message does the answer carry its own
// RESOURCE_EXHAUSTED, without RetryInfo, which senders read as final too.
var (
	verdictMalformed   = verdict{codes.InvalidArgument, http.StatusBadRequest, false}
	verdictTooLarge    = verdict{codes.InvalidArgument, http.StatusRequestEntityTooLarge, false}
	verdictUnsupported = verdict{codes.Unimplemented, http.StatusUnsupportedMediaType, false}
	verdictToken       = verdict{codes.Unauthenticated, http.StatusUnauthorized, false}
	verdictMethod      = verdict{codes.Unimplemented, http.StatusMethodNotAllowed, false}
	verdictPath        = verdict{codes.Unimplemented, http.StatusNotFound, false}
	verdictPressure    = verdict{codes.ResourceExhausted, http.StatusServiceUnavailable, true}
	verdictUnavailable = verdict{codes.Unavailable, http.StatusServiceUnavailable, true}
	verdictCanceled    = verdict{codes.Canceled, http.StatusServiceUnavailable, true}
	verdictSlow        = verdict{codes.DeadlineExceeded, http.StatusServiceUnavailable, true}
	verdictDeadline    = verdict{codes.DeadlineExceeded, http.StatusGatewayTimeout, true}
)

// refusal is an export that was not taken, and what its sender is told.
type refusal struct {
	verdict

	reason     string        // for metrics
	message    string        // for people
	path       string        // of the field at fault, if one is
	token      bool          // the ingest token is at fault
	retryAfter time.Duration // positive if retryable
}

func refuse(v verdict, reason, format string, args ...any) *refusal {
	r := &refusal{verdict: v, reason: reason, message: fmt.Sprintf(format, args...)}
	if v.retryable {
		r.retryAfter = time.Second
	}
	return r
}

// refusalOf finds the refusal that err stands for. Whatever is not known to be
// the sender's fault is retryable: dropping data must be decided, never
// defaulted to.
func refusalOf(err error) *refusal {
	var (
		ready    *refusalError
		scan     *ScanError
		header   *callerheaders.HeaderError
		token    *callerheaders.TokenError
		pressure *proxy.PressureError
		reject   *proxy.RejectError
	)
	switch {
	case errors.As(err, &ready):
		return ready.refusal
	case errors.As(err, &scan):
		r := refuse(rejectVerdict(scan.Reason), scan.Reason, "%v", scan)
		r.path = scan.Path
		return r
	case errors.As(err, &header):
		r := refuse(verdictMalformed, reasonBadHeader, "%v", header)
		r.path = header.Header
		return r
	case errors.As(err, &token):
		r := refuse(verdictToken, token.Reason, "%v", token)
		r.token = true
		return r
	case errors.As(err, &pressure):
		v := verdictPressure
		if pressure.Unavailable {
			v = verdictUnavailable
		}
		r := refuse(v, pressure.Reason, "%s", pressure.Detail)
		r.retryAfter = max(pressure.RetryAfter, time.Millisecond)
		return r
	case errors.As(err, &reject):
		return refuse(rejectVerdict(reject.Reason), reject.Reason, "%s", reject.Detail)
	case errors.Is(err, context.Canceled):
		return refuse(verdictCanceled, reasonCanceled, "the request was canceled before its export was durable; it may or may not have been kept")
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(verdictDeadline, reasonDeadline, "the request's deadline passed before its export was durable; it may or may not have been kept")
	default:
		return refuse(verdictUnavailable, reasonInternal, "weir could not keep the export: %v", err)
	}
}

func rejectVerdict(reason string) verdict {
	switch reason {
	case reasonTooLarge, reasonTooManySpans:
		return verdictTooLarge
	default:
		return verdictMalformed
	}
}

// refusalError lets a refusal travel as an error through a reader.
type refusalError struct{ refusal *refusal }

func (e *refusalError) Error() string { return e.refusal.message }

// proto returns the google.rpc.Status of both protocols: a RetryInfo if the
// sender should come again, the field at fault if there is one, an ErrorInfo
// with the reason if it is the ingest token.
func (r *refusal) proto() *spb.Status {
	st := status.New(r.code, clip(r.message))
	var details []protoadapt.MessageV1
	if r.retryable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)})
	}
	if r.token {
		details = append(details, &errdetails.ErrorInfo{Reason: strings.ToUpper(r.reason), Domain: "weir"})
	}
	if r.path != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: clip(r.path), Description: clip(strings.TrimPrefix(r.message, r.path+": "))},
		}})
	}
	if len(details) > 0 {
		if detailed, err := st.WithDetails(details...); err == nil {
			st = detailed
		}
	}
	return st.Proto()
}

// retryInfoTrailer is where OpenTelemetry's Python exporter looks for the wait;
// it does not read the details of the status (opentelemetry-python,
// exporter/otlp/proto/grpc/exporter.py).
const retryInfoTrailer = "google.rpc.retryinfo-bin"

// trail adds the wait to the trailers of the call that ctx belongs to.
func (r *refusal) trail(ctx context.Context) {
	b, err := proto.Marshal(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)})
	if err != nil {
		return // the details of the status say it too
	}
	// It fails only for a call that has ended, which hears nothing anyway.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(retryInfoTrailer, string(b)))
}

// grpc returns the refusal as a gRPC status error.
func (r *refusal) grpc() error { return status.ErrorProto(r.proto()) }

// retryAfterSeconds is the value of a Retry-After header: whole seconds, never
// sooner than asked, at least one. Empty if the sender should not come again.
func (r *refusal) retryAfterSeconds() string {
	if !r.retryable {
		return ""
	}
	return strconv.Itoa(int(max(1, math.Ceil(r.retryAfter.Seconds()))))
}

// receiveRefusal names what kept a gRPC message from arriving whole. grpc-go
// has answered such a call itself by then; the result is for metrics.
func receiveRefusal(err error) string {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return reasonTooLarge
	case codes.DeadlineExceeded:
		return reasonSlow
	case codes.Canceled:
		return reasonCanceled
	case codes.Internal:
		if strings.Contains(err.Error(), "decompress") {
			return reasonBadCompression
		}
		return reasonMalformed
	default:
		return reasonMalformed
	}
}

// clip bounds a text for the wire and makes it valid UTF-8.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	n := 0
	for i := range text {
		if n++; n > maxMessageRunes {
			return text[:i] + "..."
		}
	}
	return text
}
