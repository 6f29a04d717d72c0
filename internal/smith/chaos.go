package smith

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// slowBy is the latency of chaos's "slow".
const slowBy = 500 * time.Millisecond

// Chaos fails requests at random. The zero value fails none.
type Chaos struct {
	spec  string
	rolls []roll
}

// roll is one possible misfortune and its share of requests.
type roll struct {
	share float64
	fault Fault
}

// ParseChaos reads a list such as "429=0.2,503=0.1,reset=0.05,hang=0.01": what
// goes wrong, and with which share of the requests that carry traces. It takes
// status codes from 300 to 599; reset, and reset_stored for a connection that
// breaks after the data was taken; hang; slow, half a second late; and the
// name of any Canned fault. The shares may add up to at most 1. The empty
// string is no chaos.
func ParseChaos(spec string) (Chaos, error) {
	c := Chaos{spec: strings.TrimSpace(spec)}
	if c.spec == "" {
		return c, nil
	}
	var sum float64
	for entry := range strings.SplitSeq(c.spec, ",") {
		name, text, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok {
			return Chaos{}, fmt.Errorf("chaos: %q has no share; write WHAT=SHARE, such as 503=0.1", entry)
		}
		share, err := strconv.ParseFloat(text, 64)
		if err != nil || !(share >= 0 && share <= 1) { // the negation catches NaN
			return Chaos{}, fmt.Errorf("chaos: share %q of %s is not a number from 0 to 1", text, name)
		}
		f, err := chaosFault(name)
		if err != nil {
			return Chaos{}, err
		}
		sum += share
		c.rolls = append(c.rolls, roll{share: share, fault: f})
	}
	const roundingSlack = 1e-9
	if sum > 1+roundingSlack {
		return Chaos{}, fmt.Errorf("chaos: the shares add up to %.4g; at most 1 is possible", sum)
	}
	return c, nil
}

// String returns the list that ParseChaos was given.
func (c Chaos) String() string { return c.spec }

// roll throws the dice for a request to e.
func (c Chaos) roll(dice *rand.Rand, e endpoint) *Fault {
	if len(c.rolls) == 0 || !e.ingest {
		return nil
	}
	at := dice.Float64()
	for i := range c.rolls {
		if at -= c.rolls[i].share; at < 0 {
			f := c.rolls[i].fault
			return &f
		}
	}
	return nil
}

// chaosFault makes the fault that a name in a chaos list stands for.
func chaosFault(name string) (Fault, error) {
	f := Fault{Name: name, Match: MatchIngest}
	switch name {
	case "reset":
		f.Reset = true
		return f, nil
	case "reset_stored":
		f.Reset, f.Stage = true, StageStored
		return f, nil
	case "hang":
		f.Hang = true
		return f, nil
	case "slow":
		f.Latency = slowBy
		return f, nil
	}
	if c := Canned(name); slices.Contains(CannedFaults(), c) {
		f = c.Fault()
		f.Match = MatchIngest
		return f, nil
	}
	code, err := strconv.Atoi(name)
	if err != nil || code < 300 || code > 599 {
		return Fault{}, fmt.Errorf(
			"chaos: %q is not known; use a status from 300 to 599, reset, reset_stored, hang, slow or one of %s",
			name, joinCanned())
	}
	f = statusFault(code)
	f.Match = MatchIngest
	return f, nil
}

// statusFault answers with a status and the body that usually comes with it.
func statusFault(code int) Fault {
	usual := map[int]Canned{
		http.StatusUnauthorized:          Unauthorized,
		http.StatusForbidden:             Forbidden,
		http.StatusRequestEntityTooLarge: HTML413,
		http.StatusTooManyRequests:       GatewayRate,
		http.StatusBadGateway:            HTML502,
	}
	if c, ok := usual[code]; ok {
		f := c.Fault()
		f.Name = strconv.Itoa(code)
		return f
	}
	f := Fault{Name: strconv.Itoa(code), Status: code}
	if text := http.StatusText(code); text != "" {
		f.Body = string(familyGo.failure(code, text).body)
	}
	return f
}
