package otlp

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// What a sender concludes from an answer, copied from the tables of the OTLP
// specification and not from this package.
var (
	specRetryableCodes = map[codes.Code]bool{
		codes.Canceled: true, codes.DeadlineExceeded: true, codes.Aborted: true, codes.OutOfRange: true,
		codes.Unavailable: true, codes.DataLoss: true,
		codes.ResourceExhausted: true, // with a RetryInfo, which TestRefusalsOfTheSink checks
	}
	specRetryableHTTP = map[int]bool{
		http.StatusTooManyRequests: true, http.StatusBadGateway: true,
		http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true,
	}
)

func TestEveryVerdictMeansTheSameInBothProtocols(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]verdict{
		"malformed": verdictMalformed, "too large": verdictTooLarge, "unsupported": verdictUnsupported,
		"method": verdictMethod, "path": verdictPath, "pressure": verdictPressure, "unavailable": verdictUnavailable,
		"canceled": verdictCanceled, "slow": verdictSlow, "deadline": verdictDeadline,
	} {
		if got := specRetryableCodes[v.code]; got != v.retryable {
			t.Errorf("%s: a sender that is told %s retries: %v, meant: %v", name, v.code, got, v.retryable)
		}
		if got := specRetryableHTTP[v.http]; got != v.retryable {
			t.Errorf("%s: a sender that is told %d retries: %v, meant: %v", name, v.http, got, v.retryable)
		}
	}
}

func TestEveryRetryableRefusalNamesAWait(t *testing.T) {
	t.Parallel()
	for _, v := range []verdict{verdictPressure, verdictUnavailable, verdictCanceled, verdictSlow, verdictDeadline, verdictMalformed} {
		r := refuse(v, "reason", "message")
		if (r.retryAfter > 0) != v.retryable || (r.retryAfterSeconds() != "") != v.retryable {
			t.Errorf("%s: wait %s, Retry-After %q", v.code, r.retryAfter, r.retryAfterSeconds())
		}
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{
		time.Millisecond:        "1",
		time.Second:             "1",
		1001 * time.Millisecond: "2",
		time.Minute:             "60",
	} {
		r := refuse(verdictPressure, "reason", "message")
		r.retryAfter = wait
		if got := r.retryAfterSeconds(); got != want {
			t.Errorf("%s: %s, want %s", wait, got, want)
		}
	}
}
