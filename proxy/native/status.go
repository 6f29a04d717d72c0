package native

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"weir/internal/callerheaders"
	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
)

// Stable words for why a request was not taken, as metrics show them. A sink's
// own reasons come beside these.
const (
	reasonMalformed = "malformed"
	reasonTooMany   = "too_many_operations"
	reasonTooLarge  = "too_large"
	reasonBadHeader = "bad_header"
	reasonStreams   = "streams"
	reasonStopping  = "stopping"
	reasonCanceled  = "canceled"
	reasonInternal  = "internal"
)

// maxViolations bounds the faults that one refusal lists; gRPC puts them into a
// trailer.
const maxViolations = 16

// refusal is a request of which nothing was kept, and what its sender is told.
// It travels as an error.
type refusal struct {
	code       codes.Code
	reason     string // for metrics
	message    string // for people
	violations []*weirv1.FieldViolation
	token      bool          // the ingest token is at fault
	retryAfter time.Duration // zero: never again
}

// Error implements error.
func (r *refusal) Error() string { return r.message }

func invalid(reason, format string, args ...any) *refusal {
	return &refusal{code: codes.InvalidArgument, reason: reason, message: fmt.Sprintf(format, args...)}
}

// refusalOf finds the refusal that err stands for. Whatever is not known to be
// the sender's fault is retryable: dropping data must be decided, never
// defaulted to.
func refusalOf(err error) *refusal {
	var (
		ready    *refusal
		header   *callerheaders.HeaderError
		token    *callerheaders.TokenError
		pressure *proxy.PressureError
		reject   *proxy.RejectError
	)
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &header):
		r := invalid(reasonBadHeader, "%v", header)
		r.violations = []*weirv1.FieldViolation{{Field: header.Header, Description: header.Detail}}
		return r
	case errors.As(err, &token):
		return &refusal{code: codes.Unauthenticated, reason: token.Reason, message: token.Error(), token: true}
	case errors.As(err, &pressure):
		code := codes.ResourceExhausted
		if pressure.Unavailable {
			code = codes.Unavailable
		}
		return &refusal{code: code, reason: pressure.Reason, message: pressure.Detail, retryAfter: max(pressure.RetryAfter, time.Millisecond)}
	case errors.As(err, &reject):
		return invalid(reject.Reason, "%s", reject.Detail)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code := codes.Canceled
		if errors.Is(err, context.DeadlineExceeded) {
			code = codes.DeadlineExceeded
		}
		return &refusal{
			code: code, reason: reasonCanceled, retryAfter: time.Second,
			message: "the call ended before its operations were durable; they may or may not have been kept",
		}
	default:
		return &refusal{code: codes.Unavailable, reason: reasonInternal, message: fmt.Sprintf("weir could not keep the operations: %v", err), retryAfter: time.Second}
	}
}

// grpc returns the refusal as a gRPC status error.
func (r *refusal) grpc() error {
	st := status.New(r.code, clip(r.message))
	var details []protoadapt.MessageV1
	if r.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)})
	}
	if r.token {
		details = append(details, &errdetails.ErrorInfo{Reason: strings.ToUpper(r.reason), Domain: "weir"})
	}
	if len(r.violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range r.violations[:min(len(r.violations), maxViolations)] {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: clip(v.GetField()), Description: v.GetDescription()})
		}
		details = append(details, bad)
	}
	if detailed, err := st.WithDetails(details...); err == nil && len(details) > 0 {
		st = detailed
	}
	return st.Err()
}

// item returns the refusal as a stream's answer has it.
func (r *refusal) item() *weirv1.ItemError {
	e := &weirv1.ItemError{Code: int32(r.code), Message: clip(r.message), Violations: r.violations[:min(len(r.violations), maxViolations)]}
	if r.retryAfter > 0 {
		e.RetryDelay = durationpb.New(r.retryAfter)
	}
	return e
}
