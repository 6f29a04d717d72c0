package langsmith

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/callerheaders"
)

// Bounds that are not configurable, because no honest sender comes near them.
const (
	inlineBytes      = 1 << 20  // an attachment of more goes to disk as it comes
	maxBlobs         = 1024     // attachments of one request that go to disk
	wireSlackBytes   = 1 << 20  // what headers of parts may add to a body
	leastBytesPerSec = 64 << 10 // the rate that a body must keep up beyond ReceiveTimeout
	connectTimeout   = 10 * time.Second
	idleTimeout      = 15 * time.Minute
)

// Upstream is where everything goes that is not taken.
type Upstream struct {
	// BaseURL is LangSmith's, as the upstream client uses it.
	BaseURL string
	// Transport sends requests. It should neither follow a proxy's rules of
	// its own nor decompress (http.Transport.DisableCompression), so that
	// answers pass as they are. Its owner closes it after the Handler.
	Transport http.RoundTripper
}

// Config sets what is received and where the rest goes. The zero value of a
// field stands for its default.
type Config struct {
	// Upstream must be set.
	Upstream Upstream

	// MaxMessageBytes bounds what one request may hold in memory: all but
	// large attachments, after decompression, and the same in the form in
	// which it is kept. Default 31 MiB: the SDKs' batches have 20 MiB
	// (JavaScript: 24) and one run over.
	MaxMessageBytes int64
	// MaxAttachmentBytes bounds the attachments of one request that are too
	// large for memory, together. Default 1 GiB.
	MaxAttachmentBytes int64
	// MaxOperations bounds the operations of one request. Default 10,000; the
	// SDKs send at most 100.
	MaxOperations int
	// MaxHeaderBytes bounds the headers of one request. Default 32 KiB.
	MaxHeaderBytes int64
	// ReceiveTimeout bounds how long one request may take to arrive; what is
	// longer than it has that time and one second for each 64 KiB. Default 30 s.
	ReceiveTimeout time.Duration
	// MaxInflightBytes bounds the memory of all requests that are not yet
	// answered; beyond it they are refused for now. Must be more than twice
	// MaxMessageBytes. Default 96 MiB, or what MaxMessageBytes needs.
	MaxInflightBytes int64
	// MaxKnownRuns bounds how many runs are remembered, of those created one
	// by one, to complete an update that does not say its trace. Default 16,384.
	MaxKnownRuns int
	// ReadTimeout bounds how long the upstream may do nothing before it
	// answers a request that is passed on. Default 60 s.
	ReadTimeout time.Duration

	// Door says which callers may send under weir's own key, and borrow it.
	// Nil: all that reach the listener.
	Door *callerheaders.Door

	// LendKey returns weir's own key and workspace, for requests that are
	// passed on and bring no credentials. Nil: they go without, so that
	// nobody reads through weir what it could not read itself.
	LendKey func() (key, workspace string)

	// Registerer receives the weir_runs_receive_* and weir_passed_* metrics;
	// nil registers them nowhere.
	Registerer prometheus.Registerer
	// Logger is told of faults that are weir's own, not a caller's; nil logs
	// nothing.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessageBytes, 31<<20)
	setDefault(&c.MaxAttachmentBytes, 1<<30)
	setDefault(&c.MaxOperations, 10_000)
	setDefault(&c.MaxHeaderBytes, 32<<10)
	setDefault(&c.ReceiveTimeout, 30*time.Second)
	setDefault(&c.MaxInflightBytes, max(96<<20, c.leastInflight()))
	setDefault(&c.MaxKnownRuns, 16_384)
	setDefault(&c.ReadTimeout, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// LeastInflightBytes is the least MaxInflightBytes that goes with the other
// limits.
func (c Config) LeastInflightBytes() int64 { return c.withDefaults().leastInflight() }

// leastInflight is what one request of the largest size may need: it is held as
// it came and in the form in which it is kept, the former in buffers that may
// be half empty while they grow.
func (c Config) leastInflight() int64 {
	return 3*c.MaxMessageBytes + 2*chunkBytes + int64(c.MaxOperations)*operationBytes
}

// Validate reports every field that makes no sense, the defaults filled in.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	for _, f := range []struct {
		name      string
		value     int64
		low, high int64
	}{
		{"MaxMessageBytes", c.MaxMessageBytes, 1 << 10, math.MaxInt32},
		{"MaxAttachmentBytes", c.MaxAttachmentBytes, 1 << 10, 1 << 40},
		{"MaxOperations", int64(c.MaxOperations), 1, 1 << 20},
		{"MaxHeaderBytes", c.MaxHeaderBytes, 1 << 10, math.MaxInt32},
		{"ReceiveTimeout (ns)", int64(c.ReceiveTimeout), int64(time.Millisecond), int64(24 * time.Hour)},
		{"MaxInflightBytes", c.MaxInflightBytes, 1 << 10, math.MaxInt64},
		{"MaxKnownRuns", int64(c.MaxKnownRuns), 1, 1 << 20},
		{"ReadTimeout (ns)", int64(c.ReadTimeout), int64(time.Millisecond), int64(24 * time.Hour)},
	} {
		if f.value < f.low || f.value > f.high {
			errs = append(errs, fmt.Errorf("%s is %d, must be between %d and %d", f.name, f.value, f.low, f.high))
		}
	}
	if least := c.leastInflight(); c.MaxInflightBytes < least {
		errs = append(errs, fmt.Errorf("MaxInflightBytes is %d, must be at least %d with this MaxMessageBytes and MaxOperations, or the largest request could never be taken",
			c.MaxInflightBytes, least))
	}
	if _, err := c.Upstream.parse(); err != nil {
		errs = append(errs, err)
	}
	if c.Upstream.Transport == nil {
		errs = append(errs, errors.New("Upstream.Transport is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("LangSmith API settings: %w", err)
	}
	return nil
}

// parse returns the base URL without what it cannot have and without a slash
// at its end.
func (u Upstream) parse() (*url.URL, error) {
	base, err := url.Parse(strings.TrimRight(u.BaseURL, "/"))
	switch {
	case err != nil:
		return nil, errors.New("Upstream.BaseURL is not a URL") // it may hold a password: not repeated
	case (base.Scheme != "http" && base.Scheme != "https") || base.Host == "":
		return nil, errors.New("Upstream.BaseURL must be http://HOST or https://HOST, with a path if LangSmith has one")
	case base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		return nil, errors.New("Upstream.BaseURL must have neither a user nor a query nor a fragment")
	}
	return base, nil
}
