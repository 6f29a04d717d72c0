package diagnose

import "slices"

// Code names a cause. Codes are stable: metrics, the admin API and scripts use
// them.
type Code string

// The causes.
const (
	KeyMissing         Code = "key_missing"
	KeyPlaceholder     Code = "key_placeholder"
	KeyMalformed       Code = "key_malformed"
	KeyLegacy          Code = "key_legacy"
	KeyInWrongHeader   Code = "key_in_wrong_header"
	KeyRevoked         Code = "key_revoked"
	StaleKey           Code = "stale_key"
	RegionMismatch     Code = "region_mismatch"
	WorkspaceRequired  Code = "workspace_required"
	WorkspaceNotUUID   Code = "workspace_not_uuid"
	WorkspaceMismatch  Code = "workspace_mismatch"
	NoWritePermission  Code = "no_write_permission"
	PlanMissing        Code = "plan_missing"
	UpstreamIncident   Code = "upstream_incident"
	UIHost             Code = "ui_host"
	EndpointMalformed  Code = "endpoint_malformed"
	EndpointPath       Code = "endpoint_path"
	Redirect           Code = "redirect"
	TLSInterception    Code = "tls_interception"
	UpstreamCert       Code = "upstream_certificate"
	Network            Code = "network"
	IntermediaryBlock  Code = "intermediary_block"
	QuotaMonth         Code = "quota_month"
	QuotaUserLimit     Code = "quota_user_limit"
	RateHourEvents     Code = "rate_hour_events"
	RateHourBytes      Code = "rate_hour_bytes"
	RateGateway        Code = "rate_gateway"
	PayloadTooLarge    Code = "payload_too_large"
	BodyDamaged        Code = "body_damaged"
	DottedOrder        Code = "dotted_order"
	SessionIDNotUUID   Code = "session_id_not_uuid"
	IntegerOverflow    Code = "integer_overflow"
	FieldTooLong       Code = "field_too_long"
	StartTimeWindow    Code = "start_time_window"
	TraceTooManyRuns   Code = "trace_too_many_runs"
	ClockSkew          Code = "clock_skew"
	Duplicate          Code = "duplicate"
	NotFoundYet        Code = "not_found_yet"       // what a feedback or an update is about is not there yet
	CredentialUnusable Code = "credential_unusable" //nolint:gosec // a word, not a secret
	Unreadable         Code = "unreadable"          // damage on weir's own disk
	Unknown            Code = "unknown"
)

// Known reports whether a code is one of these: one that was read from disk may
// be of another version.
func Known(c Code) bool {
	return slices.ContainsFunc(reference, func(e entry) bool { return e.code == c })
}

// Confidence says how sure a cause is.
type Confidence string

// The confidences, from the strongest.
const (
	Certain  Confidence = "certain"  // the answer or a probe says so
	Likely   Confidence = "likely"   // what is known fits nothing else as well
	Possible Confidence = "possible" // it cannot be told from another
)

// Cause is one possible cause of a refusal.
type Cause struct {
	Code       Code       `json:"code"`
	Confidence Confidence `json:"confidence"`
	// Evidence is what speaks for it, in sentences.
	Evidence []string `json:"evidence"`
	// Remedy is what to do, in sentences that name the variable, value or page.
	Remedy string `json:"remedy"`
}

// Diagnosis is what is known of a refusal's cause.
type Diagnosis struct {
	// Causes is ranked and never empty.
	Causes []Cause `json:"causes"`
	// Wants names probes whose results would tell more.
	Wants []Probe `json:"wants,omitempty"`
}

// Top is the first cause.
func (d *Diagnosis) Top() Cause {
	if len(d.Causes) == 0 {
		return Cause{Code: Unknown, Confidence: Possible}
	}
	return d.Causes[0]
}

// Probe names a question whose answer tells causes apart. None costs a trace.
type Probe string

// The probes.
const (
	ProbeInfo          Probe = "info"                       // GET /info without a key
	ProbeSessions      Probe = "sessions"                   // GET /sessions?limit=1 as the data was sent
	ProbeWithoutHeader Probe = "sessions_without_workspace" // the same without the workspace header
	ProbeLimits        Probe = "usage_limits"
	ProbeRegions       Probe = "regions" // sends the key to LangSmith's other regions: opt-in
	ProbeCertificate   Probe = "certificate"
)
