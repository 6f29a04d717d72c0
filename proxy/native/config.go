package native

import (
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/callerheaders"
)

// Config bounds what is received. The zero value of a field stands for its
// default.
type Config struct {
	// MaxMessageBytes bounds one request, and what its operations take to be
	// kept. The server bounds messages too. Default 20 MiB.
	MaxMessageBytes int64
	// MaxOperations bounds the operations of one request. Default 10,000.
	MaxOperations int
	// MaxInflightBytes bounds the memory of all requests that are not yet
	// answered; beyond it they are refused for now. It must be at least five
	// times MaxMessageBytes. Default 100 MiB, or what MaxMessageBytes needs.
	MaxInflightBytes int64
	// MaxUnanswered bounds the requests of one stream that are not yet
	// answered; beyond it the stream is not read. Default 64.
	MaxUnanswered int
	// MaxStreams bounds the streams that are open at a time; each may hold a
	// message that has not yet arrived whole. Default 64.
	MaxStreams int
	// MaxKnownRuns bounds how many runs are remembered, to place what follows
	// on them. Default 16,384.
	MaxKnownRuns int

	// Door says which callers may send under weir's own key. Nil: all that
	// reach the listener.
	Door *callerheaders.Door

	// Registerer receives the weir_native_receive_* metrics; nil registers
	// them nowhere.
	Registerer prometheus.Registerer
	// Logger is told of faults that are weir's own, not a caller's; nil logs
	// nothing.
	Logger *slog.Logger
}

// weightLimit is how many times MaxMessageBytes a decoded request may take. To
// that come its content as JSON and in the form in which it is kept.
const (
	weightLimit = 3
	copies      = weightLimit + 2
)

func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessageBytes, 20<<20)
	setDefault(&c.MaxOperations, 10_000)
	setDefault(&c.MaxInflightBytes, max(100<<20, copies*c.MaxMessageBytes))
	setDefault(&c.MaxUnanswered, 64)
	setDefault(&c.MaxStreams, 64)
	setDefault(&c.MaxKnownRuns, 16_384)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// LeastInflightBytes is the least MaxInflightBytes that goes with the other
// limits.
func (c Config) LeastInflightBytes() int64 { return copies * c.withDefaults().MaxMessageBytes }

func setDefault[T int | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Validate reports every field that makes no sense, the defaults filled in.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	for _, f := range []struct {
		name             string
		value, low, high int64
	}{
		{"MaxMessageBytes", c.MaxMessageBytes, 1 << 10, math.MaxInt32},
		{"MaxOperations", int64(c.MaxOperations), 1, 1 << 20},
		{"MaxInflightBytes", c.MaxInflightBytes, copies * c.MaxMessageBytes, math.MaxInt64},
		{"MaxUnanswered", int64(c.MaxUnanswered), 1, 1 << 16},
		{"MaxStreams", int64(c.MaxStreams), 1, 1 << 16},
		{"MaxKnownRuns", int64(c.MaxKnownRuns), 1, 1 << 20},
	} {
		if f.value < f.low || f.value > f.high {
			errs = append(errs, fmt.Errorf("%s is %d, must be between %d and %d", f.name, f.value, f.low, f.high))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("native API settings: %w", err)
	}
	return nil
}
