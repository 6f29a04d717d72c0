package smith

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseChaosReadsSharesOfFaults(t *testing.T) {
	c, err := ParseChaos(" 429=0.2, 503=0.1,reset=0.05,reset_stored=0.05,hang=0.01,slow=0.1,monthly_quota=0.1,599=0 ")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.rolls {
		f := r.fault
		got = append(got, fmt.Sprintf("%s %g %s %d %t%t %s %s", f.Name, r.share, f.Match, f.Status, f.Reset, f.Hang, f.Stage, f.Latency))
	}
	want := []string{
		"429 0.2 ingest 429 falsefalse read 0s",
		"503 0.1 ingest 503 falsefalse read 0s",
		"reset 0.05 ingest 0 truefalse read 0s",
		"reset_stored 0.05 ingest 0 truefalse stored 0s",
		"hang 0.01 ingest 0 falsetrue read 0s",
		"slow 0.1 ingest 0 falsefalse read 500ms",
		"monthly_quota 0.1 ingest 429 falsefalse read 0s",
		"599 0 ingest 599 falsefalse read 0s",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rolls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.HasPrefix(c.String(), "429=0.2, 503") {
		t.Errorf("String() = %q", c)
	}
}

func TestParseChaosSaysWhatIsWrong(t *testing.T) {
	for spec, want := range map[string]string{
		"429":              `chaos: "429" has no share; write WHAT=SHARE, such as 503=0.1`,
		"429=":             `chaos: share "" of 429 is not a number from 0 to 1`,
		"429=2":            `chaos: share "2" of 429 is not a number from 0 to 1`,
		"429=-0.1":         `chaos: share "-0.1" of 429 is not a number from 0 to 1`,
		"429=NaN":          `chaos: share "NaN" of 429 is not a number from 0 to 1`,
		"429=0.6,503=0.6":  `chaos: the shares add up to 1.2; at most 1 is possible`,
		"200=0.1":          `chaos: "200" is not known; use a status from 300 to 599, reset`,
		"explode=0.1":      `chaos: "explode" is not known; use a status from 300 to 599, reset`,
		"429=0.1,,503=0.1": `chaos: "" has no share`,
	} {
		if _, err := ParseChaos(spec); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("ParseChaos(%q) = %v, want %s", spec, err, want)
		}
	}
	if c, err := ParseChaos(""); err != nil || c.roll(nil, route(http.MethodPost, tracesPath)) != nil {
		t.Errorf("ParseChaos of nothing = %v, %v", c, err)
	}
}

func TestChaosIsRepeatableAndKeepsItsShares(t *testing.T) {
	c, err := ParseChaos("429=0.3,503=0.1")
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	play := func(seed uint64) map[string]int {
		p, seen := newFaultPlan(seed, c), map[string]int{}
		for range n {
			name := "none"
			if f := p.next(route(http.MethodPost, tracesPath), time.Time{}); f != nil {
				name = f.label()
			}
			seen[name]++
		}
		return seen
	}
	first := play(1)
	if again := play(1); !maps.Equal(first, again) {
		t.Errorf("the same seed gives %v, then %v", first, again)
	}
	if other := play(2); maps.Equal(first, other) {
		t.Errorf("another seed gives the same: %v", other)
	}
	for name, share := range map[string]float64{"429": 0.3, "503": 0.1, "none": 0.6} {
		if got := float64(first[name]) / n; math.Abs(got-share) > 0.02 {
			t.Errorf("%s struck %.3f of the requests, want about %.1f", name, got, share)
		}
	}
	if f := c.roll(rand.New(rand.NewPCG(1, 1)), route(http.MethodGet, "/info")); f != nil {
		t.Errorf("chaos strikes /info: %v", f)
	}
}

func TestChaosStrikesRequests(t *testing.T) {
	for spec, want := range map[string]struct {
		status int
		body   string
	}{
		"429=1":           {429, ""},
		"401=1":           {401, bodyUnauthorized},
		"403=1":           {403, bodyForbidden},
		"413=1":           {413, page413},
		"502=1":           {502, page502},
		"503=1":           {503, "{\"error\":\"Service Unavailable\"}\n"},
		"599=1":           {599, ""},
		"monthly_quota=1": {429, bodyMonthlyQuota},
	} {
		c, err := ParseChaos(spec)
		if err != nil {
			t.Fatal(err)
		}
		s, to := start(t, Config{Chaos: c})
		to.export(nil).want(t, want.status, want.body)
		s.SetChaos(Chaos{})
		to.export(nil).want(t, 200, "")
	}
}
