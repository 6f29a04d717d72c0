package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of Config.
const (
	DefaultTimeout         = 60 * time.Second
	DefaultAnswerTimeout   = 10 * time.Second
	DefaultConcurrency     = 8
	DefaultMaxRequestBytes = 64 << 20

	// minBytesPerSecond is the slowest upload that is waited for: each such
	// number of body bytes lengthens a request's time by a second.
	minBytesPerSecond = 64 << 10
)

// Config says how to reach LangSmith. The zero value of every field but
// BaseURL is usable.
type Config struct {
	// BaseURL is the upstream as the user wrote it; see ParseBaseURL.
	BaseURL string

	// Version is weir's own, for the User-Agent header; empty: "dev".
	Version string

	// Encoding is the encoding of OTLP requests; empty: EncodingAuto. Run
	// operations begin with zstd.
	Encoding Encoding

	// RefusedEncodings are the encodings this upstream is known not to take,
	// as OnEncodingRefused reported them before. They are not tried again.
	RefusedEncodings []Encoding

	// OnEncodingRefused is called, once per encoding and client, when the
	// upstream has refused the encoding and taken the same request in
	// another. It is called from within Send, and must not block for long.
	OnEncodingRefused func(Encoding)

	// ProvenEncodings are those of which a request was read back: EncodingAuto
	// uses them. See Client.Prove.
	ProvenEncodings []Encoding

	// RefusedRunsEncodings and OnRunsEncodingRefused are the same for run
	// operations: it is another service of LangSmith that takes them.
	RefusedRunsEncodings  []Encoding
	OnRunsEncodingRefused func(Encoding)

	// OpenBlob opens the content of an operation that is kept aside, from its
	// start. It is called from within Send, once for each connection on which
	// the request is tried, by one goroutine at a time, and what it returns is
	// closed before Send returns. An error that is fs.ErrNotExist means that
	// the content is gone for good. nil: requests with blobs are refused.
	OpenBlob func(id string) (io.ReadCloser, error)

	// Timeout bounds one exchange, from dialling to the answer's header, plus
	// a second for each 64 KiB of body; 0: DefaultTimeout.
	Timeout time.Duration

	// AnswerTimeout bounds reading the answer's body; 0: DefaultAnswerTimeout.
	AnswerTimeout time.Duration

	// Concurrency is the number of sends expected at a time: as many idle
	// connections are kept. It limits nothing. 0: DefaultConcurrency.
	Concurrency int

	// MaxRequestBytes is the largest request, uncompressed and blobs aside,
	// that is sent at all; larger ones are refused for their size without
	// sending. 0: DefaultMaxRequestBytes.
	MaxRequestBytes int64

	// MaxBlobBytes is the same for a request's blobs, which cost no memory;
	// 0: no limit.
	MaxBlobBytes int64

	// CAFile is a PEM file with certificate authorities to trust besides the
	// system's; empty: none.
	CAFile string

	// Proxy chooses the proxy for a request, like http.Transport.Proxy; nil:
	// http.ProxyFromEnvironment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), which
	// never sends requests to a loopback upstream through a proxy.
	Proxy func(*http.Request) (*url.URL, error)

	// Registerer gets the client's metrics; nil: they are kept to the client.
	// Clients that follow one another (a reload) may share one.
	Registerer prometheus.Registerer
}

// prepared returns a checked copy of c with defaults filled in.
func (c Config) prepared() (*Config, error) {
	var errs []error
	base, err := ParseBaseURL(c.BaseURL)
	if err != nil {
		errs = append(errs, err)
	}
	c.BaseURL = base
	if c.Encoding, err = ParseEncoding(string(c.Encoding)); err != nil {
		errs = append(errs, err)
	}
	for _, e := range slices.Concat(c.RefusedEncodings, c.RefusedRunsEncodings, c.ProvenEncodings) {
		if !slices.Contains(fallbacks, e) {
			errs = append(errs, fmt.Errorf("refused or proven encoding %q is unknown; use zstd, gzip or identity", e))
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"timeout", int64(c.Timeout)},
		{"answer timeout", int64(c.AnswerTimeout)},
		{"concurrency", int64(c.Concurrency)},
		{"largest request", c.MaxRequestBytes},
		{"largest blob", c.MaxBlobBytes},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("upstream %s is negative (%d); use a positive value, or 0 for the default", n.name, n.value))
		}
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.AnswerTimeout == 0 {
		c.AnswerTimeout = DefaultAnswerTimeout
	}
	if c.Concurrency == 0 {
		c.Concurrency = DefaultConcurrency
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	return &c, errors.Join(errs...)
}
