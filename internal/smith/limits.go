package smith

import (
	"fmt"
	"maps"
	"net/http"
	"time"
)

// Limits are what a workspace may send before it is refused with 429. A field
// of 0 or less is no limit. Months, hours and minutes are those of UTC by the
// server's clock, and they count what arrives in them, whenever it happened
// (LangSmith docs: usage and billing).
type Limits struct {
	// MonthlyTraces is how many unique traces a calendar month may have. It is
	// met to the trace: a request that would exceed it is refused whole.
	MonthlyTraces int64 `json:"monthly_traces"`
	// HourlyEvents is how many events a clock hour may have: a run's create or
	// its update is one, so is a span.
	HourlyEvents int64 `json:"hourly_events"`
	// HourlyBytes is how many bytes of payload a clock hour may have: bodies
	// uncompressed, of OTLP as protobuf, without attachments. The service
	// counts inputs, outputs and metadata, which is a little less.
	HourlyBytes int64 `json:"hourly_bytes"`
	// MinuteEvents is how many events a clock minute may have. The service's
	// API knows of that limit; its size is not published.
	MinuteEvents int64 `json:"minute_events"`

	// UserMonthlyTraces and UserLonglivedTraces are limits that an
	// organization sets itself. The second is of traces upgraded to extended
	// retention, which here only feedback does.
	UserMonthlyTraces   int64 `json:"user_monthly_traces"`
	UserLonglivedTraces int64 `json:"user_longlived_traces"`
}

// Validate reports the first limit that is negative.
func (l Limits) Validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"monthly_traces", l.MonthlyTraces},
		{"hourly_events", l.HourlyEvents},
		{"hourly_bytes", l.HourlyBytes},
		{"minute_events", l.MinuteEvents},
		{"user_monthly_traces", l.UserMonthlyTraces},
		{"user_longlived_traces", l.UserLonglivedTraces},
	} {
		if f.value < 0 {
			return fmt.Errorf("%s %d is negative; 0 is no limit", f.name, f.value)
		}
	}
	return nil
}

// any reports whether there is any limit.
func (l Limits) any() bool {
	return max(l.MonthlyTraces, l.HourlyEvents, l.HourlyBytes, l.MinuteEvents, l.UserMonthlyTraces, l.UserLonglivedTraces) > 0
}

// LimitKind names a limit as the service's API does, in usage_limit_type
// (LangSmith API reference: usage limits info).
type LimitKind string

// The kinds of limit.
const (
	LimitMonthlyTraces       LimitKind = "total_unique_traces"
	LimitUserMonthlyTraces   LimitKind = "user_defined_monthly_traces"
	LimitHourlyEvents        LimitKind = "events_ingested_per_hour"
	LimitHourlyBytes         LimitKind = "payload_size"
	LimitMinuteEvents        LimitKind = "events_ingested_per_minute"
	LimitUserLonglivedTraces LimitKind = "user_defined_monthly_longlived_traces"
)

// limitError refuses a request for a limit of its tenant.
type limitError struct {
	kind  LimitKind
	limit int64
}

// Error is the sentence that the service answers with. That of the month has
// been published, and so has the form of user-defined limits; what the service
// says of hours, bytes and minutes is not known, so those sentences are named
// after the API's kinds of limit in the form of the month's.
func (o *limitError) Error() string {
	const prefix = "Too many requests: tenant exceeded usage limits: "
	switch o.kind {
	case LimitMonthlyTraces:
		return prefix + "Monthly unique traces usage limit exceeded"
	case LimitHourlyEvents:
		return prefix + "Hourly events usage limit exceeded"
	case LimitHourlyBytes:
		return prefix + "Hourly payload size usage limit exceeded"
	case LimitMinuteEvents:
		return prefix + "Events per minute usage limit exceeded"
	case LimitUserMonthlyTraces:
		return fmt.Sprintf("usage limit monthly_traces of %d exceeded", o.limit)
	case LimitUserLonglivedTraces:
		return fmt.Sprintf("usage limit monthly_longlived_traces of %d exceeded", o.limit)
	default:
		return prefix + string(o.kind)
	}
}

// reply is the 429. It has no Retry-After (langsmith-sdk 3377), and both of
// the service's halves word it the same. The old words are known of the month.
func (o *limitError) reply(w Wording) reply {
	if w == WordingOld && o.kind == LimitMonthlyTraces {
		return literal(http.StatusTooManyRequests, bodyMonthlyOld)
	}
	return familyGo.failure(http.StatusTooManyRequests, o.Error())
}

// SetLimits replaces the limits of every tenant without limits of its own. The
// next request sees them; what was counted stays counted.
func (s *Server) SetLimits(l Limits) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.quota.standard = l
}

// SetTenantLimits gives a tenant limits of its own, in place of all of the
// default ones; nil takes them away again.
func (s *Server) SetTenantLimits(tenant string, l *Limits) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if l == nil {
		delete(s.store.quota.own, accountKey(tenant))
		return
	}
	s.store.quota.own[accountKey(tenant)] = *l
}

// Limits returns the default limits and those that tenants have of their own.
func (s *Server) Limits() (standard Limits, own map[string]Limits) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.store.quota.standard, maps.Clone(s.store.quota.own)
}

// QuotaUpdates is what becomes, once the month's traces are used up, of a
// request that holds only traces counted already.
type QuotaUpdates uint8

// The possibilities of updates over quota.
const (
	// UpdatesTaken takes it: open traces can be finished.
	UpdatesTaken QuotaUpdates = iota
	// UpdatesRefused refuses it, as it does everything else.
	UpdatesRefused
)

var quotaUpdatesNames = []string{"taken", "refused"}

// String returns the name that UnmarshalText takes.
func (q QuotaUpdates) String() string { return enumName(quotaUpdatesNames, q) }

// MarshalText implements encoding.TextMarshaler.
func (q QuotaUpdates) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText takes taken or refused.
func (q *QuotaUpdates) UnmarshalText(text []byte) error {
	return parseEnum("treatment of updates", quotaUpdatesNames, text, q)
}

// QuotaOTLP is the answer to OTLP over a limit.
type QuotaOTLP uint8

// The possibilities of OTLP over a limit.
const (
	// QuotaOTLP429 answers 429, as the runs API does.
	QuotaOTLP429 QuotaOTLP = iota
	// QuotaOTLPLost answers 200 and drops the request, as a service that looks
	// only later would. Stats.Lost and Usage.Lost count it.
	QuotaOTLPLost
)

var quotaOTLPNames = []string{"429", "lost"}

// String returns the name that UnmarshalText takes.
func (q QuotaOTLP) String() string { return enumName(quotaOTLPNames, q) }

// MarshalText implements encoding.TextMarshaler.
func (q QuotaOTLP) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText takes 429 or lost.
func (q *QuotaOTLP) UnmarshalText(text []byte) error {
	return parseEnum("answer to OTLP over a limit", quotaOTLPNames, text, q)
}

// Lag is how far usage reads are behind what was counted. The zero value is
// DefaultLag, a negative one is none.
type Lag time.Duration

// DefaultLag lies within the "1-2 hours" that LangSmith promises (LangSmith
// docs: pricing FAQ).
const DefaultLag = 90 * time.Minute

// duration is how long the lag is.
func (l Lag) duration() time.Duration {
	switch {
	case l == 0:
		return DefaultLag
	case l < 0:
		return 0
	}
	return time.Duration(l)
}

// String returns the lag as a duration.
func (l Lag) String() string { return l.duration().String() }

// MarshalText implements encoding.TextMarshaler.
func (l Lag) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText takes a duration that is not negative, such as 90m; 0s is no
// lag.
func (l *Lag) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch {
	case err != nil || d < 0:
		return fmt.Errorf("lag %q is not a duration from 0s up, such as 90m", text)
	case d == 0:
		*l = -1
	default:
		*l = Lag(d)
	}
	return nil
}
