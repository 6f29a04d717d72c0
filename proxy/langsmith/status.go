package langsmith

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"weir/internal/callerheaders"
	"weir/proxy"
	"weir/proxy/runs"
)

// Stable words for why a request was not taken, as metrics show them. A sink's
// own reasons come beside these.
const (
	reasonMalformed      = "malformed"
	reasonTooMany        = "too_many_operations"
	reasonTooLarge       = "too_large"
	reasonBadHeader      = "bad_header"
	reasonBadCompression = "bad_compression"
	reasonEncoding       = "encoding"
	reasonMethod         = "method"
	reasonPath           = "path"
	reasonSlow           = "slow_sender"
	reasonCanceled       = "canceled"
	reasonInternal       = "internal"
)

// maxMessageRunes bounds an error text on the wire.
const maxMessageRunes = 1024

// verdict is how one kind of refusal looks: the status, whether the request is
// welcome later, and the words that LangSmith's own errors of the status begin
// with.
type verdict struct {
	http      int
	retryable bool
	prefix    string
}

// The verdicts, the whole mapping.
//
// It goes by what the SDKs make of a status (LangSmith SDK,
// test_multipart_retry_matrix.py and client.ts, observed against a recorder).
// Never 409: they take it for success. Never 404 on a path that takes runs:
// Python drops the batch, JavaScript turns to /runs/batch for good. Never 429:
// Python drops a batch unless there is a Retry-After, JavaScript ignores one;
// pressure is 503 with a Retry-After, which all of them retry. A slow body is
// 408, which all of them retry.
var (
	verdictMalformed   = verdict{http.StatusUnprocessableEntity, false, "Unprocessable entity: "}
	verdictHeader      = verdict{http.StatusBadRequest, false, "Bad request: "}
	verdictToken       = verdict{http.StatusUnauthorized, false, "Unauthorized: "}
	verdictTooLarge    = verdict{http.StatusRequestEntityTooLarge, false, "Request entity too large: "}
	verdictEncoding    = verdict{http.StatusUnsupportedMediaType, false, "Unsupported media type: "}
	verdictMethod      = verdict{http.StatusMethodNotAllowed, false, "Method not allowed: "}
	verdictPath        = verdict{http.StatusNotFound, false, "Not found: "}
	verdictSlow        = verdict{http.StatusRequestTimeout, true, "Request timeout: "}
	verdictUnavailable = verdict{http.StatusServiceUnavailable, true, "Service unavailable: "}
)

// refusal is a request that was not taken, and what its sender is told. It
// travels as an error.
type refusal struct {
	verdict

	reason     string        // for metrics
	message    string        // for people
	retryAfter time.Duration // positive if retryable
}

// Error implements error.
func (r *refusal) Error() string { return r.message }

func refuse(v verdict, reason, format string, args ...any) *refusal {
	r := &refusal{verdict: v, reason: reason, message: fmt.Sprintf(format, args...)}
	if v.retryable {
		r.retryAfter = time.Second
	}
	return r
}

func malformed(format string, args ...any) *refusal {
	return refuse(verdictMalformed, reasonMalformed, format, args...)
}

func tooLarge(format string, args ...any) *refusal {
	return refuse(verdictTooLarge, reasonTooLarge, format, args...)
}

// refusalOf finds the refusal that err stands for. Whatever is not known to be
// the sender's fault is retryable: dropping data must be decided, never
// defaulted to.
func refusalOf(err error) *refusal {
	var (
		ready    *refusal
		problem  *runs.ProblemError
		header   *callerheaders.HeaderError
		token    *callerheaders.TokenError
		pressure *proxy.PressureError
		reject   *proxy.RejectError
	)
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &problem):
		return malformed("%v", err)
	case errors.As(err, &header):
		return refuse(verdictHeader, reasonBadHeader, "%v", header)
	case errors.As(err, &token):
		return refuse(verdictToken, token.Reason, "%v", token)
	case errors.As(err, &pressure):
		r := refuse(verdictUnavailable, pressure.Reason, "%s", pressure.Detail)
		r.retryAfter = pressure.RetryAfter
		return r
	case errors.As(err, &reject):
		v := verdictMalformed
		if reject.Reason == reasonTooLarge || strings.HasPrefix(reject.Reason, "too_many") {
			v = verdictTooLarge
		}
		return refuse(v, reject.Reason, "%s", reject.Detail)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return refuse(verdictUnavailable, reasonCanceled, "the request ended before it was durable; it may or may not have been kept")
	default:
		return refuse(verdictUnavailable, reasonInternal, "weir could not keep the request: %v", err)
	}
}

// retryAfterSeconds is the value of a Retry-After header: whole seconds, never
// sooner than asked, at least one. Empty if the sender should not come again.
func (r *refusal) retryAfterSeconds() string {
	if !r.retryable {
		return ""
	}
	return strconv.Itoa(int(max(1, math.Ceil(r.retryAfter.Seconds()))))
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
