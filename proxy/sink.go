package proxy

import (
	"context"
	"fmt"
	"io"
	"time"

	"weir/proxy/runs"
)

// Protocol names the wire format of an export's payload. It is part of a
// lane, so data of different protocols never shares a request.
type Protocol uint8

// The protocols weir stores. The numbers are written to disk: never reuse one.
const (
	// ProtocolOTLP is a serialized OTLP ExportTraceServiceRequest. Requests
	// may be concatenated: the result is the merged message.
	ProtocolOTLP Protocol = 1
	// ProtocolRuns is LangSmith run operations in the form of package runs,
	// which concatenates likewise.
	ProtocolRuns Protocol = 2
)

// String returns the protocol's name as shown in status and logs.
func (p Protocol) String() string {
	switch p {
	case ProtocolOTLP:
		return "otlp"
	case ProtocolRuns:
		return "runs"
	default:
		return fmt.Sprintf("protocol-%d", uint8(p))
	}
}

// TraceID identifies what LangSmith bills: a span's trace id, or the
// trace id its langsmith.trace.id attribute names where it has one.
type TraceID = [16]byte

// Caller is what one request said about where its data belongs. Empty fields
// mean the caller left the choice to weir's own configuration.
type Caller struct {
	APIKey    string // x-api-key; a secret: never logged, stored encrypted
	Workspace string // x-tenant-id
	Project   string // langsmith-project
}

// Export is one request from an application: what becomes durable as a whole
// and is acknowledged once.
type Export struct {
	Protocol Protocol
	Caller   Caller

	// Payload is the message in the protocol's binary form, uncompressed and
	// already checked to be well formed. The sink only reads it, and keeps no
	// reference after Accept returns.
	Payload []byte

	// Items is the number of spans or run operations in Payload, at least 1.
	Items int

	// TraceIDs are the distinct trace ids in Payload, in any order. The sink
	// keeps no reference after Accept returns.
	TraceIDs []TraceID

	// Marks say more of each of TraceIDs, in their order; nil if there is nothing
	// to say.
	Marks []TraceMark

	// NamesProject is set when the data says itself which project it belongs
	// to; weir's default project is then not put over it. Run operations say
	// so one by one instead.
	NamesProject bool

	// Blobs is content of the export that was too large to be held in memory
	// and has been spooled to disk before (ProtocolRuns). Once Accept has
	// returned nil they belong to the sink.
	Blobs []runs.Blob
}

// TraceMark is what an export says about one of its traces.
type TraceMark struct {
	Project string // the project its data names itself; empty: the lane's
	Failed  bool   // some span or run of it shows an error
	Follows bool   // the export only adds to it: attachments and feedback, and no run of it (runs only)
}

// Receipt is what a sink says about an export it has made durable.
type Receipt struct {
	// Warning is a sentence for the application's own log, or empty. OTLP
	// adapters put it into partial_success with nothing rejected.
	Warning string
}

// Sink takes exports. Accept returns nil only once the export is synced to
// disk. It returns a *PressureError when the caller should try again later and
// a *RejectError when trying again is useless; ctx ending while the export
// waits returns ctx.Err(), and the export may or may not have been kept.
// Accept may be called from any number of goroutines.
type Sink interface {
	Accept(ctx context.Context, e *Export) (Receipt, error)
}

// Spooler takes content that is too large to be held in memory, ahead of the
// export that it belongs to. Its methods may be called from any number of
// goroutines.
type Spooler interface {
	// Spool reads r to its end and returns once that is synced to disk. It
	// returns a *PressureError when there is no room now, a *RejectError for
	// content over maxBytes, and r's own error as it is; nothing is then kept.
	Spool(ctx context.Context, r io.Reader, maxBytes int64) (runs.Blob, error)
	// Discard forgets a blob whose export was not accepted. A blob that is
	// neither accepted nor discarded is gone after the next start.
	Discard(b runs.Blob)
}

// PressureError refuses an export for now: nothing of it was kept, and the
// same export is welcome after RetryAfter.
type PressureError struct {
	// Reason is a stable word for metrics: disk_full, buffer_full, memory,
	// lanes, draining, starting.
	Reason string
	// Detail says in a sentence what is short and what helps.
	Detail string
	// RetryAfter is how long the caller should wait; always positive.
	RetryAfter time.Duration
	// Unavailable is set where weir as a whole is not taking data (starting,
	// draining) rather than being out of a resource.
	Unavailable bool
}

// Error implements error.
func (e *PressureError) Error() string {
	return fmt.Sprintf("export refused for now (%s): %s; retry in %s", e.Reason, e.Detail, e.RetryAfter)
}

// RejectError refuses an export for good: the same bytes will never be taken.
type RejectError struct {
	// Reason is a stable word for metrics: malformed, too_large, too_many_spans.
	Reason string
	// Detail says where the input is wrong and what would be right.
	Detail string
}

// Error implements error.
func (e *RejectError) Error() string { return "export rejected (" + e.Reason + "): " + e.Detail }
