package quota

import (
	"fmt"
	"slices"
	"strings"
)

// Plan is a LangSmith plan whose limits weir knows.
type Plan string

// The plans (LangSmith docs: usage and billing, plan limits).
const (
	// PlanDeveloper is the free plan without a card: what is over 5,000 traces
	// is refused.
	PlanDeveloper Plan = "developer"
	// PlanDeveloperCard is the free plan with a card: what is over 5,000 traces
	// is billed.
	PlanDeveloperCard Plan = "developer-card"
	// PlanPlus includes 10,000 traces and bills the others.
	PlanPlus Plan = "plus"
	// PlanCustom has no limits but those that are set one by one.
	PlanCustom Plan = "custom"
)

// PlanLimits are the limits of a plan; 0 is none.
type PlanLimits struct {
	TracesPerMonth int64 // what weir stops at
	EventsPerHour  int64 // a run's create and update are an event each
	BytesPerHour   int64
	Included       int64 // traces a month that cost nothing
	Hard           bool  // LangSmith refuses what is over TracesPerMonth, and bills nothing
}

// plans are LangSmith's published limits. None was verified against the live
// service. The monthly limits of the plans with a card are what is included:
// beyond it each trace costs money.
var plans = map[Plan]PlanLimits{
	PlanDeveloper:     {TracesPerMonth: 5_000, EventsPerHour: 50_000, BytesPerHour: 500_000_000, Included: 5_000, Hard: true},
	PlanDeveloperCard: {TracesPerMonth: 5_000, EventsPerHour: 250_000, BytesPerHour: 2_500_000_000, Included: 5_000},
	PlanPlus:          {TracesPerMonth: 10_000, EventsPerHour: 500_000, BytesPerHour: 5_000_000_000, Included: 10_000},
	PlanCustom:        {Included: 5_000}, // as the smallest plan
}

// Plans lists the plans' names.
func Plans() []string {
	out := make([]string, 0, len(plans))
	for p := range plans {
		out = append(out, string(p))
	}
	slices.Sort(out)
	return out
}

// Limits are the plan's limits; ok is false for a plan that is not known.
func (p Plan) Limits() (l PlanLimits, ok bool) {
	l, ok = plans[p]
	return l, ok
}

// Policy is what becomes of new traces at the limit.
type Policy string

// The policies.
const (
	PolicyHold    Policy = "hold"    // kept on disk until there is room
	PolicyDrop    Policy = "drop"    // counted and forgotten
	PolicyForward Policy = "forward" // sent all the same
	PolicySample  Policy = "sample"  // near the limit, a part of them is sent and the rest dropped
	PolicyPace    Policy = "pace"    // what is left is spread over the days left; the rest is held
)

// Policies lists the policies' names.
func Policies() []string {
	return []string{string(PolicyHold), string(PolicyDrop), string(PolicyForward), string(PolicySample), string(PolicyPace)}
}

// Validate reports a policy that is not known.
func (p Policy) Validate() error {
	if !slices.Contains(Policies(), string(p)) {
		return fmt.Errorf("quota policy %q is not known; use one of %s", p, strings.Join(Policies(), ", "))
	}
	return nil
}

// over is what becomes of a new trace that finds no room.
func (p Policy) over() State {
	if p == PolicyDrop || p == PolicySample {
		return Dropped
	}
	return Held
}
