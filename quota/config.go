package quota

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Config says what a guard guards. Limits and policy may be replaced while it
// runs (Guard.SetRules).
type Config struct {
	Rules

	// TurnJitter bounds how long after the month's turn held data is released,
	// at random: many weirs must not all do so at once. Default 5 minutes.
	TurnJitter time.Duration

	Logger *slog.Logger
	Now    func() time.Time // default time.Now
	Random func() float64   // in [0, 1); default math/rand
}

// Rules are the user's limits and policy.
type Rules struct {
	// Traces is the most traces in a month, of each account; 0 is no limit.
	Traces int64
	// Policy is what becomes of the others. Default PolicyHold.
	Policy Policy
	// EventsPerHour and BytesPerHour bound what is sent in a clock hour, of
	// each account; 0 is no limit.
	EventsPerHour, BytesPerHour int64
	// Projects bounds single projects within the month's traces.
	Projects map[string]int64
	// HoldReleaseShare is how much of a new month's traces may be spent on what
	// is held from before. Default 0.2.
	HoldReleaseShare float64
	// SampleFrom is the share of the limit from which PolicySample samples, and
	// SampleRate the share of traces that it then takes. Default 0.8 and 0.1.
	SampleFrom, SampleRate float64
	// Included is how many traces a month cost nothing, PricePerThousandUSD the
	// price of a thousand others. Hard: none cost anything, for the others are
	// refused.
	Included            int64
	PricePerThousandUSD float64
	Hard                bool
}

func (c *Config) setDefaults() error {
	if c.TurnJitter <= 0 {
		c.TurnJitter = 5 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	return c.Rules.setDefaults()
}

func (r *Rules) setDefaults() error {
	if r.Policy == "" {
		r.Policy = PolicyHold
	}
	if r.HoldReleaseShare == 0 {
		r.HoldReleaseShare = 0.2
	}
	if r.SampleFrom == 0 {
		r.SampleFrom = 0.8
	}
	if r.SampleRate == 0 {
		r.SampleRate = 0.1
	}
	switch {
	case r.Traces < 0 || r.EventsPerHour < 0 || r.BytesPerHour < 0 || r.Included < 0:
		return errors.New("quota: limits must not be negative; 0 is no limit")
	case r.HoldReleaseShare < 0 || r.HoldReleaseShare > 1:
		return fmt.Errorf("quota: HoldReleaseShare %v is out of bounds: 0 to 1", r.HoldReleaseShare)
	case r.SampleFrom < 0 || r.SampleFrom > 1 || r.SampleRate < 0 || r.SampleRate > 1:
		return errors.New("quota: SampleFrom and SampleRate are shares: 0 to 1")
	case r.PricePerThousandUSD < 0:
		return errors.New("quota: PricePerThousandUSD must not be negative")
	}
	for name, n := range r.Projects {
		if n < 0 {
			return fmt.Errorf("quota: the budget of project %q must not be negative", name)
		}
	}
	return r.Policy.Validate()
}

// project is the budget of a project, negative for none.
func (r *Rules) project(name string) int64 {
	if n, ok := r.Projects[name]; ok {
		return n
	}
	return -1
}
