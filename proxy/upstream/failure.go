package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"golang.org/x/net/http2"

	"weir/proxy"
)

// largeBodyBytes is from where a connection cut under an upload means "too
// large" rather than "network": LangSmith Cloud has been reported to cut
// uploads over about 20 MB instead of answering 413 (public reports, not
// verified against the live service). A wrong guess costs one split.
const largeBodyBytes = 20_000_000

// deadAfterBytes is how much of a large body a connection takes at most that
// was dead before it was used: what fits into buffers on the way. A cut after
// more than that is about the body, and a second upload would fare the same.
const deadAfterBytes = 8 << 20

// The causes with which weir itself ends an exchange.
var (
	errTimeout       = errors.New("no answer in time")
	errAnswerTimeout = errors.New("the answer's body did not come in time")
	errClosed        = errors.New("the client is closing")
)

// failure is an exchange without a complete answer.
type failure struct {
	err    error           // what the transport said
	cause  error           // why weir ended the exchange; nil if it did not
	caller context.Context // of the send
	size   int64           // of the body
}

// classifyFailure judges an exchange that brought no complete answer. Nothing
// in it speaks against the request, so it goes again, with one exception: a
// large upload that was cut.
func classifyFailure(f failure) proxy.Outcome {
	v := retryUpstream
	switch {
	case f.caller.Err() != nil, errors.Is(f.cause, errClosed):
		v = verdict{kind: proxy.Interrupted, reason: reasonStopping}
	case f.cause != nil:
		v = v.because(reasonTimeout)
	case isCut(f.err) && f.size > largeBodyBytes:
		v = refusedSize.because(reasonLargeReset)
	default:
		v = v.because(failureReason(f.err))
	}
	return v.outcome(0)
}

// failureReason names what went wrong on the way.
func failureReason(err error) string {
	var (
		proxyErr *proxyError
		dnsErr   *net.DNSError
		opErr    *net.OpError
		netErr   net.Error
	)
	switch {
	case errors.As(err, &proxyErr):
		return reasonProxy
	case errors.As(err, &opErr) && opErr.Op == "proxyconnect":
		return reasonProxy
	case errors.As(err, &dnsErr):
		return reasonDNS
	case isTLS(err):
		return reasonTLS
	case errors.As(err, &netErr) && netErr.Timeout():
		return reasonTimeout
	case isProtocol(err):
		return reasonProtocol
	default:
		return reasonNetwork
	}
}

// isTLS reports whether the two sides could not agree on a secure connection.
func isTLS(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	if errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) {
		return true
	}
	// The rest of what crypto/tls and net/http say has no type.
	s := err.Error()
	return strings.Contains(s, "tls: ") || strings.Contains(s, "TLS handshake") ||
		strings.Contains(s, "HTTP response to HTTPS client")
}

// isProtocol reports whether what answered does not speak HTTP. net/http has
// no types for it.
func isProtocol(err error) bool {
	s := err.Error()
	return strings.Contains(s, "malformed") || strings.Contains(s, "response headers exceeded") ||
		strings.Contains(s, "unsupported transfer encoding") || strings.Contains(s, "bad Content-Length")
}

// isCut reports whether the peer ended the connection or the stream, in
// whatever layer it shows.
func isCut(err error) bool {
	if isReset(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	// net/http's own copy of the type converts to this one.
	if _, ok := errors.AsType[http2.StreamError](err); ok {
		return true
	}
	s := err.Error()
	return strings.Contains(s, "server closed idle connection") || strings.Contains(s, "http2: server sent GOAWAY") ||
		strings.Contains(s, "http2: client connection lost")
}
