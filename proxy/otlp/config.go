package otlp

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/callerheaders"
)

// Bounds that are not configurable, because no honest sender comes near them.
const (
	maxRetainedIDs = 4096 // trace ids a pooled summary may keep room for
	connectTimeout = 10 * time.Second
	idleTimeout    = 15 * time.Minute
)

// Config sets the limits of what is received. The zero value of a field stands
// for its default.
type Config struct {
	// MaxMessageBytes bounds one export after decompression. Default 20 MiB,
	// which is what LangSmith's own ingest takes (LangSmith docs: limits).
	// Over gRPC it bounds the compressed message as well.
	MaxMessageBytes int64
	// MaxWireBytes bounds the body of one HTTP request as it comes, still
	// compressed. Default MaxMessageBytes.
	MaxWireBytes int64
	// MaxSpans bounds the spans of one export. Default 50,000.
	MaxSpans int
	// MaxStreams bounds the requests at a time on one gRPC connection; a
	// client waits for a free one. Default 1024.
	MaxStreams int
	// MaxConnections bounds the open connections of one listener. Default 4096.
	MaxConnections int
	// MaxHeaderBytes bounds the headers of one request. Default 32 KiB.
	MaxHeaderBytes int64
	// ReceiveTimeout bounds how long one request may take to arrive. What
	// happens to it afterwards is not counted. Default 30 s.
	ReceiveTimeout time.Duration
	// MaxInflightBytes bounds all messages that are being received (over gRPC:
	// that have arrived) and are not yet answered; beyond it exports are refused for now. Must be more than
	// twice MaxMessageBytes. Default 64 MiB, or what MaxMessageBytes needs.
	MaxInflightBytes int64

	// GRPCDoor and HTTPDoor say which callers may send under weir's own key.
	// Nil: all that reach the listener.
	GRPCDoor, HTTPDoor *callerheaders.Door

	// Registerer receives the weir_receive_* metrics; nil registers them
	// nowhere.
	Registerer prometheus.Registerer
	// Logger is told of faults that are weir's own, not a caller's; nil logs
	// nothing.
	Logger *slog.Logger
}

// withDefaults returns c with its zero fields filled.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessageBytes, 20<<20)
	setDefault(&c.MaxWireBytes, c.MaxMessageBytes)
	setDefault(&c.MaxSpans, 50_000)
	setDefault(&c.MaxStreams, 1024)
	setDefault(&c.MaxConnections, 4096)
	setDefault(&c.MaxHeaderBytes, 32<<10)
	setDefault(&c.ReceiveTimeout, 30*time.Second)
	setDefault(&c.MaxInflightBytes, max(64<<20, c.minInflight()))
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

// minInflight is what one export of the largest size may need: an OTLP/JSON
// request is held as text and in binary, and a read meets the end of a body
// only with a byte to spare.
func (c Config) minInflight() int64 { return 2*c.MaxMessageBytes + 2 }

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
		{"MaxWireBytes", c.MaxWireBytes, 1 << 10, math.MaxInt32},
		{"MaxSpans", int64(c.MaxSpans), 1, math.MaxInt32},
		{"MaxStreams", int64(c.MaxStreams), 1, math.MaxInt32},
		{"MaxConnections", int64(c.MaxConnections), 1, math.MaxInt32},
		{"MaxHeaderBytes", c.MaxHeaderBytes, 1 << 10, math.MaxInt32},
		{"ReceiveTimeout (ns)", int64(c.ReceiveTimeout), int64(time.Millisecond), int64(24 * time.Hour)},
		{"MaxInflightBytes", c.MaxInflightBytes, 1 << 10, math.MaxInt64},
	} {
		if f.value < f.low || f.value > f.high {
			errs = append(errs, fmt.Errorf("%s is %d, must be between %d and %d", f.name, f.value, f.low, f.high))
		}
	}
	if least := c.minInflight(); c.MaxInflightBytes < least {
		errs = append(errs, fmt.Errorf("MaxInflightBytes is %d, must be at least %d with this MaxMessageBytes, or the largest export could never be taken",
			c.MaxInflightBytes, least))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("OTLP receiver limits: %w", err)
	}
	return nil
}
