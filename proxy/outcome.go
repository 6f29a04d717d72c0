package proxy

import (
	"context"
	"net/http"
	"time"

	"weir/proxy/runs"
)

// OutcomeKind is how a send ended. There are exactly four.
type OutcomeKind uint8

// The four outcomes of a send.
const (
	// Delivered: the upstream took the request.
	Delivered OutcomeKind = iota + 1
	// Retry: nothing is wrong with the request; it goes again after a wait.
	Retry
	// Refused: the same request will not be taken; what is refused (the
	// credential, the size, one item) is in Outcome.Refusal.
	Refused
	// Interrupted: weir is stopping; the data stays as it was.
	Interrupted
)

// String returns the kind's name as used in metrics.
func (k OutcomeKind) String() string {
	switch k {
	case Delivered:
		return "delivered"
	case Retry:
		return "retry"
	case Refused:
		return "refused"
	case Interrupted:
		return "interrupted"
	default:
		return "unknown"
	}
}

// Scope says to what a wait or a refusal belongs, so that a thousand lanes do
// not each rediscover one outage.
type Scope uint8

// The scopes of a wait.
const (
	// ScopeUpstream: the network or the service itself (5xx, refused, DNS).
	ScopeUpstream Scope = iota + 1
	// ScopeCredential: one key in one workspace (401, 403, rate of a key).
	ScopeCredential
	// ScopeLane: this lane only.
	ScopeLane
	// ScopeAccount: a tenant's limit (429 for a quota).
	ScopeAccount
)

// String returns the scope's name as used in status.
func (s Scope) String() string {
	switch s {
	case ScopeUpstream:
		return "upstream"
	case ScopeCredential:
		return "credential"
	case ScopeLane:
		return "lane"
	case ScopeAccount:
		return "account"
	default:
		return "unknown"
	}
}

// RefusalClass says which part of a refused request the upstream refused.
type RefusalClass uint8

// The classes of refusal, by what helps.
const (
	// RefusedAccess: key, workspace, plan or path (401, 402, 403, 404, 405,
	// redirects): every request of the lane would fare the same.
	RefusedAccess RefusalClass = iota + 1
	// RefusedSize: the request is too large (413): split it.
	RefusedSize
	// RefusedContent: something in the request is bad (400, 422 and other
	// 4xx): bisect it to the guilty item.
	RefusedContent
	// RefusedEncoding: the content encoding is not understood (415): encode
	// otherwise.
	RefusedEncoding
	// RefusedDuplicate: the upstream says it has an operation of the request
	// already (409), without saying which, or whether it took the others:
	// delivered, if an earlier attempt of the same content may have arrived.
	RefusedDuplicate
	// RefusedNotYet: what the call is about is not there yet (404), such as
	// the run of a feedback: later it may be.
	RefusedNotYet
)

// Exchange is the part of an HTTP exchange that a person needs to understand
// a refusal. It never holds a key.
type Exchange struct {
	Time       time.Time     `json:"time"`
	Method     string        `json:"method"`
	URL        string        `json:"url"`
	Status     int           `json:"status,omitempty"` // 0: no answer came
	Header     http.Header   `json:"header,omitempty"` // response, at most 8 KiB, secrets removed
	Body       string        `json:"body,omitempty"`   // response, at most 4 KiB
	RequestID  string        `json:"request_id,omitempty"`
	SentBytes  int           `json:"sent_bytes"`
	Encoding   string        `json:"encoding,omitempty"` // request content encoding
	Elapsed    time.Duration `json:"elapsed"`
	Error      string        `json:"error,omitempty"` // transport error, redacted
	ServerDate time.Time     `json:"server_date,omitzero"`
}

// Outcome is the result of one send.
type Outcome struct {
	Kind OutcomeKind

	// Reason is a short stable word for metrics and status: ok, network, dns,
	// tls, timeout, http_429, http_503, http_403, stopping, ...
	Reason string

	// Scope says who should wait; set for Retry and Refused.
	Scope Scope

	// RetryAfter is the server's own wait, bounded by the client to
	// [0, 1 h]; 0 when the server named none. Set for Retry.
	RetryAfter time.Duration

	// Refusal says what was refused; set for Refused.
	Refusal RefusalClass

	// RejectedItems is how many items of a Delivered request the upstream said
	// it did not take (OTLP partial success), without saying which; at most
	// the request's items.
	RejectedItems int

	// MayHaveArrived is set when the request could have been taken although
	// no answer came (timeout, reset after the body was sent).
	MayHaveArrived bool

	// Exchange is always filled as far as the exchange got.
	Exchange Exchange
}

// Part is a stored frame's payload: a compressed (or plain) run of
// concatenated protocol messages.
type Part struct {
	Payload  []byte // read only
	Zstd     bool   // Payload is zstd frames; false: plain bytes
	RawBytes int    // size when decompressed
}

// Request is one request to send: parts of a single lane, in order.
type Request struct {
	Protocol  Protocol
	Upstream  string // as in Destination, for which the rest was resolved; empty: any
	APIKey    string // resolved; empty: none is sent
	Workspace string // X-Tenant-Id; empty: none is sent
	Project   string // Langsmith-Project; empty: none is sent
	Items     int

	// Parts is the request's content (ProtocolOTLP).
	Parts []Part

	// Runs are the operations to send, in order, read only, each with a kind
	// other than Call and attachments after their run (ProtocolRuns); or a
	// single Call. Content in a blob is read from the upstream's OpenBlob.
	Runs []*runs.Op
}

// Upstream sends requests. Send blocks until the exchange has ended or ctx is
// done (Interrupted), never returns without an outcome, and may be called
// from any number of goroutines.
type Upstream interface {
	Send(ctx context.Context, r *Request) Outcome
}
