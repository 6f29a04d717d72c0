package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter bounds the wait a server may ask for. A longer one would let a
// single wrong header keep data back for days; asking again once an hour
// hammers nobody.
const MaxRetryAfter = time.Hour

// ParseRetryAfter reads a Retry-After header (RFC 9110, 10.2.3): a number of
// seconds or an HTTP date. A date is measured against date, the answer's own
// Date header, so that a skewed clock on either side does not matter; where the
// answer carried none (the zero time) it is measured against now.
//
// The wait is within [0, MaxRetryAfter]. ok is false when value names no wait
// (empty, negative, neither number nor date); the wait is then 0. Fractions of
// a second are outside the standard but sent by some gateways, and taken.
func ParseRetryAfter(value string, date, now time.Time) (wait time.Duration, ok bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if value[0] >= '0' && value[0] <= '9' {
		return parseSeconds(value)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date.IsZero() {
		date = now
	}
	return min(max(at.Sub(date), 0), MaxRetryAfter), true
}

// parseSeconds reads decimal seconds, bounded like ParseRetryAfter.
func parseSeconds(value string) (time.Duration, bool) {
	for i := range len(value) {
		// ParseFloat also takes 0x1p4, 1_0 and 1e9, which no server means.
		if c := value[i]; c != '.' && (c < '0' || c > '9') {
			return 0, false
		}
	}
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil && seconds == 0 {
		return 0, false
	}
	if seconds >= MaxRetryAfter.Seconds() { // also +Inf, from a number out of range
		return MaxRetryAfter, true
	}
	return time.Duration(seconds * float64(time.Second)), true
}
