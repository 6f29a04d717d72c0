package smith

import (
	"fmt"
	"strings"
	"time"
)

// Defaults for the zero values of [Config].
const (
	// DefaultMaxBodyBytes is what LangSmith's self-hosted front end takes
	// (LangSmith helm chart: client_max_body_size 25M).
	DefaultMaxBodyBytes = 25 << 20
	// DefaultMaxRawBytes bounds a body after decompression. The service's own
	// bound is not published.
	DefaultMaxRawBytes = 100 << 20
	// DefaultRetainBytes is how much received payload is kept for Spans.
	DefaultRetainBytes = 256 << 20
	// DefaultTraceRuns is how many runs a trace may have (LangSmith docs:
	// observability concepts).
	DefaultTraceRuns = 25_000
	// DefaultTenant is the workspace of a key that names none.
	DefaultTenant = "00000000-0000-4000-8000-000000000001"
)

// Config says how a [Server] behaves. The zero value takes any key, keeps what
// it receives (up to DefaultRetainBytes) and never fails on purpose.
type Config struct {
	// Keys are the keys that exist. Empty: any key is taken.
	Keys map[string]Key
	// AllowAnyKey takes keys that Keys does not list, too, as if each were a
	// personal key of DefaultTenant.
	AllowAnyKey bool

	// Switches choose between behaviours nobody has seen the service decide.
	Switches Switches

	// Limits are those of every tenant that TenantLimits does not name. The
	// zero value refuses nothing.
	Limits Limits
	// TenantLimits are limits of single tenants, in place of all of Limits.
	TenantLimits map[string]Limits

	// Chaos fails requests at random from the start; see SetChaos.
	Chaos Chaos
	// Seed makes chaos repeatable: the same requests in the same order fare
	// the same. 0 is a seed like any other.
	Seed uint64

	// Keep is how much is remembered of what arrives.
	Keep Keep
	// RetainBytes bounds the payload bytes kept under KeepSpans; beyond it the
	// oldest requests are forgotten and counted in Stats.Forgotten. Runs with
	// their attachments and feedback have a second bound of the same size. 0
	// means DefaultRetainBytes, a negative value none.
	RetainBytes int64

	// MaxBodyBytes bounds a request body as sent; beyond it the answer is
	// nginx's 413 page. 0 means DefaultMaxBodyBytes.
	MaxBodyBytes int64
	// MaxRawBytes bounds a body after decompression. 0 means DefaultMaxRawBytes.
	MaxRawBytes int64

	// MaxAttachmentBytes bounds one attachment; beyond it the whole request is
	// answered 413. The service's own bound is not published. 0 means none but
	// that of the body.
	MaxAttachmentBytes int64
	// MaxTraceRuns is how many runs a trace may have; further ones are
	// answered 400. 0 means DefaultTraceRuns.
	MaxTraceRuns int

	// Now is the clock behind arrival times, the Date header, the start-time
	// window and the windows of Limits; nil is time.Now. SetClock moves it.
	Now func() time.Time

	// Control serves the control API below /__smith/. It has no access
	// control of its own: switch it on only on a loopback listener.
	Control bool
}

// Key is what LangSmith knows about an API key.
type Key struct {
	// Tenant is the id of the workspace the key belongs to, a UUID; used where
	// a request names none. Empty: DefaultTenant.
	Tenant string `json:"tenant,omitempty"`
	// Workspaces are further workspaces that X-Tenant-Id may name. An
	// org-scoped key with none listed reaches every workspace.
	Workspaces []string `json:"workspaces,omitempty"`
	// OrgScoped keys are refused unless the request names its workspace
	// (LangSmith docs: organization-scoped service keys).
	OrgScoped bool `json:"org_scoped,omitempty"`
	// ReadOnly keys may read, but not send traces.
	ReadOnly bool `json:"read_only,omitempty"`
	// OrgRead keys may read the usage of their organization, which takes the
	// permission organization:read (LangSmith docs: granular usage).
	OrgRead bool `json:"org_read,omitempty"`
	// NoPlan keys belong to an organization without a plan: what they send is
	// refused with 403. What their reads get is not known; here they are
	// answered.
	NoPlan bool `json:"no_plan,omitempty"`
	// Bearer marks an OAuth token, taken as "Authorization: Bearer" only; an
	// API key in that header is refused with 401.
	Bearer bool `json:"bearer,omitempty"`
}

// Validate reports the first id of k that is not a UUID, as all of LangSmith's
// are.
func (k Key) Validate() error {
	for _, id := range append([]string{k.Tenant}, k.Workspaces...) {
		if id != "" && !isUUID(id) {
			return fmt.Errorf("workspace %q is not a UUID, such as %s", id, DefaultTenant)
		}
	}
	return nil
}

// Keep is how much a server remembers of what it receives.
type Keep uint8

// What to keep, by rising thrift.
const (
	// KeepSpans keeps payloads (bounded by RetainBytes) and every id.
	KeepSpans Keep = iota
	// KeepIDs keeps ids, so that traces and duplicates are still counted, and
	// no payload. It costs about 60 bytes of memory per distinct span, 500 per
	// run, and 40 per trace and month.
	KeepIDs
	// KeepCounts keeps running totals alone and looks no deeper into a payload
	// than it must to count its spans. Meant as the far end of a benchmark.
	KeepCounts
)

var keepNames = []string{"spans", "ids", "counts"}

// String returns the name that UnmarshalText takes.
func (k Keep) String() string { return enumName(keepNames, k) }

// MarshalText implements encoding.TextMarshaler.
func (k Keep) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes spans, ids or counts.
func (k *Keep) UnmarshalText(text []byte) error { return parseEnum("keep", keepNames, text, k) }

// Switches decide what nobody could verify against the live service. The zero
// value of each is the kindest possibility.
type Switches struct {
	// OTLPZstd is what becomes of zstd-compressed OTLP.
	OTLPZstd Treatment `json:"otlp_zstd"`
	// OTLPJSON is what becomes of OTLP in JSON.
	OTLPJSON Treatment `json:"otlp_json"`
	// OTLPMalformed is the answer to a body that does not decode.
	OTLPMalformed Malformed `json:"otlp_malformed"`
	// OTLPWindow is whether a span that started more than 24 hours from now
	// fails its whole request, as it does on the runs API (LangSmith data
	// migration tool, PR 152).
	OTLPWindow Window `json:"otlp_window"`
	// OTLPProject is which of the Langsmith-Project header and a span's own
	// attribute names its project where both do.
	OTLPProject ProjectSource `json:"otlp_project"`
	// OTLPBarePath also takes OTLP at /otel, where the Python SDK's
	// OpenTelemetry mode sends it (LangSmith SDK: _otel_client.py).
	OTLPBarePath bool `json:"otlp_bare_path"`

	// RunsZstd is what becomes of zstd-compressed run operations.
	RunsZstd Treatment `json:"runs_zstd"`
	// RunsWindow is whether a run whose start_time is more than 24 hours from
	// now fails its whole request. The service refuses it; with which status
	// is not known (LangSmith data migration tool, PR 152).
	RunsWindow Window `json:"runs_window"`
	// RunsDuplicate is what becomes of a request of which some operations were
	// received before. It is answered 409 either way.
	RunsDuplicate Duplicate `json:"runs_duplicate"`
	// RunsMax is how many posts and patches a request may have; more are
	// answered 422. /info asks for at most 100; what the service does with
	// more is not known. 0 is no limit.
	RunsMax int `json:"runs_max"`
	// FeedbackOrder is whether feedback may come before its run.
	FeedbackOrder FeedbackOrder `json:"feedback_order"`
	// ExtraUpdate is what becomes of a run's extra when an update has one, too.
	ExtraUpdate ExtraUpdate `json:"extra_update"`

	// AuthWording is how a request without a key that is good is refused.
	AuthWording Wording `json:"auth_wording"`
	// RevokedKey is the answer to a key that was revoked.
	RevokedKey RevokedKey `json:"revoked_key"`
	// QuotaWording is how a month whose traces are used up is told.
	QuotaWording Wording `json:"quota_wording"`

	// NameMax is how many characters a run's name may have; a longer one fails
	// its whole request with 422, as it did in 2024 at 128 (langchain 17950). 0
	// is no limit.
	NameMax int `json:"name_max"`
	// BigIntegers is whether an integer that fits into no 64 bits fails its
	// whole request; some calls passed and others failed (langsmith-sdk 637).
	BigIntegers Check `json:"big_integers"`
	// NULBytes is whether a NUL character in a run's or span's text fails the
	// whole request. It has been reported of a neighbour of the service only.
	NULBytes Check `json:"nul_bytes"`
	// CutBytes is the size of a body, as sent, beyond which the connection is
	// reset during the upload, as LangSmith Cloud has been reported to do at
	// about 20 MB (LangChain forum 217 and 2717). 0 is no limit.
	CutBytes int64 `json:"cut_bytes"`

	// QuotaUpdates is what becomes, once the month's traces are used up, of
	// requests that hold only traces counted already.
	QuotaUpdates QuotaUpdates `json:"quota_updates"`
	// QuotaOTLP is the answer to OTLP over a limit.
	QuotaOTLP QuotaOTLP `json:"quota_otlp"`
	// UsageLag is how far the usage reads are behind.
	UsageLag Lag `json:"usage_lag"`

	// ZstdFrames is how much is looked at of a body of several zstd frames, of
	// OTLP and of run operations.
	ZstdFrames ZstdFrames `json:"zstd_frames"`
	// ReadLag is how long what was taken cannot be read yet: the service works
	// on it after its answer (LangSmith docs: trace-with-opentelemetry).
	ReadLag Delay `json:"read_lag"`
	// EmptyBatch is the answer to a batch without runs.
	EmptyBatch EmptyBatch `json:"empty_batch"`
	// InfoNeedsKey has /info ask for a key, as a setting of self-hosted
	// installations does (langsmith-go: info.go).
	InfoNeedsKey bool `json:"info_needs_key"`
}

// Treatment is what becomes of a body in a given encoding or format.
type Treatment uint8

// The treatments.
const (
	// Taken: decoded and kept.
	Taken Treatment = iota
	// Unsupported: answered 415.
	Unsupported
	// Lost: answered 200, then gone without a word.
	Lost
)

var treatmentNames = []string{"taken", "415", "lost"}

// String returns the name that UnmarshalText takes.
func (t Treatment) String() string { return enumName(treatmentNames, t) }

// MarshalText implements encoding.TextMarshaler.
func (t Treatment) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes taken, 415 or lost.
func (t *Treatment) UnmarshalText(text []byte) error {
	return parseEnum("treatment", treatmentNames, text, t)
}

// Malformed is the answer to OTLP that does not decode.
type Malformed uint8

// The answers to malformed OTLP.
const (
	// Malformed400 answers 400.
	Malformed400 Malformed = iota
	// MalformedLost answers 200, as a service that looks only later would.
	MalformedLost
)

var malformedNames = []string{"400", "lost"}

// String returns the name that UnmarshalText takes.
func (m Malformed) String() string { return enumName(malformedNames, m) }

// MarshalText implements encoding.TextMarshaler.
func (m Malformed) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes 400 or lost.
func (m *Malformed) UnmarshalText(text []byte) error {
	return parseEnum("malformed", malformedNames, text, m)
}

// Window is how start times far from now are met.
type Window uint8

// The possibilities of the start-time window.
const (
	// WindowOff takes every start time.
	WindowOff Window = iota
	// Window400 refuses the whole request with 400.
	Window400
	// Window422 refuses the whole request with 422.
	Window422
	// WindowLost answers as if the request had been taken, and drops all of it.
	WindowLost
)

var windowNames = []string{"off", "400", "422", "lost"}

// String returns the name that UnmarshalText takes.
func (w Window) String() string { return enumName(windowNames, w) }

// MarshalText implements encoding.TextMarshaler.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText takes off, 400, 422 or lost.
func (w *Window) UnmarshalText(text []byte) error { return parseEnum("window", windowNames, text, w) }

// ProjectSource is what names a span's project where two things do.
type ProjectSource uint8

// The sources of a project's name.
const (
	// HeaderFirst lets the Langsmith-Project header win, as LangChain's own
	// collector-proxy does.
	HeaderFirst ProjectSource = iota
	// AttributeFirst lets the span's langsmith.trace.session_name win.
	AttributeFirst
)

var projectNames = []string{"header", "attribute"}

// String returns the name that UnmarshalText takes.
func (p ProjectSource) String() string { return enumName(projectNames, p) }

// MarshalText implements encoding.TextMarshaler.
func (p ProjectSource) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes header or attribute.
func (p *ProjectSource) UnmarshalText(text []byte) error {
	return parseEnum("project source", projectNames, text, p)
}

// Duplicate is what becomes of a request with operations received before.
type Duplicate uint8

// The possibilities of a duplicate.
const (
	// DuplicatePartial keeps the operations that are new.
	DuplicatePartial Duplicate = iota
	// DuplicateWhole keeps none.
	DuplicateWhole
)

var duplicateNames = []string{"partial", "whole"}

// String returns the name that UnmarshalText takes.
func (d Duplicate) String() string { return enumName(duplicateNames, d) }

// MarshalText implements encoding.TextMarshaler.
func (d Duplicate) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText takes partial or whole.
func (d *Duplicate) UnmarshalText(text []byte) error {
	return parseEnum("duplicate", duplicateNames, text, d)
}

// FeedbackOrder is whether feedback sent by itself may come before its run.
type FeedbackOrder uint8

// The orders of feedback and run.
const (
	// FeedbackFree takes feedback at any time.
	FeedbackFree FeedbackOrder = iota
	// FeedbackRunFirst answers 404 to POST /feedback for a run that has not
	// arrived, which the SDKs retry (LangSmith SDK: client.py).
	FeedbackRunFirst
)

var feedbackNames = []string{"free", "run_first"}

// String returns the name that UnmarshalText takes.
func (o FeedbackOrder) String() string { return enumName(feedbackNames, o) }

// MarshalText implements encoding.TextMarshaler.
func (o FeedbackOrder) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText takes free or run_first.
func (o *FeedbackOrder) UnmarshalText(text []byte) error {
	return parseEnum("feedback order", feedbackNames, text, o)
}

// ExtraUpdate is what becomes of a run's extra when an update has one, too.
type ExtraUpdate uint8

// The possibilities of an update's extra.
const (
	// ExtraMerge lays the update's over the run's, object by object, as
	// langsmith-go does within a batch (langsmith-go: models/merge.go). That
	// the service does so is our inference: updates of the SDKs would
	// otherwise erase the metadata that only their creates have.
	ExtraMerge ExtraUpdate = iota
	// ExtraReplace has the update's take the place of the run's, as the Python
	// SDK does within a batch (LangSmith SDK:
	// combine_serialized_queue_operations).
	ExtraReplace
)

var extraNames = []string{"merge", "replace"}

// String returns the name that UnmarshalText takes.
func (e ExtraUpdate) String() string { return enumName(extraNames, e) }

// MarshalText implements encoding.TextMarshaler.
func (e ExtraUpdate) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText takes merge or replace.
func (e *ExtraUpdate) UnmarshalText(text []byte) error {
	return parseEnum("update of extra", extraNames, text, e)
}

// enumName names a value, or says that it is none of the known ones.
func enumName[E ~uint8](names []string, v E) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

// parseEnum sets dst to the value that text names.
func parseEnum[E ~uint8](what string, names []string, text []byte, dst *E) error {
	for i, name := range names {
		if strings.EqualFold(name, string(text)) {
			*dst = E(i)
			return nil
		}
	}
	return fmt.Errorf("%s %q is not known; use one of %s", what, text, strings.Join(names, ", "))
}

// withDefaults returns c with its zero values filled in.
func (c Config) withDefaults() Config {
	if c.MaxBodyBytes <= 0 {
		c.MaxBodyBytes = DefaultMaxBodyBytes
	}
	if c.MaxRawBytes <= 0 {
		c.MaxRawBytes = DefaultMaxRawBytes
	}
	if c.MaxTraceRuns <= 0 {
		c.MaxTraceRuns = DefaultTraceRuns
	}
	if c.RetainBytes == 0 {
		c.RetainBytes = DefaultRetainBytes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Keys) == 0 {
		c.AllowAnyKey = true
	}
	return c
}
