package quota_test

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/quota"
)

// desk is a guard whose clock a test moves.
type desk struct {
	*quota.Guard

	t      *testing.T
	ledger quota.Ledger
	log    *bytes.Buffer
	mu     sync.Mutex
	now    time.Time
	next   uint64
}

const deskAccount = "https://upstream.test tenant"

var november = time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC)

func newDesk(t *testing.T, r quota.Rules) *desk {
	t.Helper()
	d := &desk{t: t, ledger: quota.NewMemory(), log: &bytes.Buffer{}, now: november}
	d.open(r)
	return d
}

// open opens the guard on the desk's ledger, as after a restart.
func (d *desk) open(r quota.Rules) {
	d.t.Helper()
	g, err := quota.Open(d.ledger, quota.Config{
		Rules: r, Logger: slog.New(slog.NewTextHandler(d.log, nil)), Now: d.clock,
		TurnJitter: time.Nanosecond, Random: func() float64 { return 0 },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.Guard = g
	d.Use(quota.Account{Name: deskAccount, Upstream: "https://upstream.test"})
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = t
}

// says has the upstream answer with a date.
func (d *desk) says(t time.Time) {
	d.t.Helper()
	if err := d.Observe(t); err != nil {
		d.t.Fatal(err)
	}
}

// at moves both clocks.
func (d *desk) at(t time.Time) {
	d.t.Helper()
	d.set(t)
	d.says(t)
}

// bring admits n new traces one by one, and returns how many were let in. Those
// are delivered at once.
func (d *desk) bring(n int) (admitted int) {
	d.t.Helper()
	for range n {
		var id quota.TraceID
		d.next++
		binary.BigEndian.PutUint64(id[8:], d.next)
		a, err := d.Admit(deskAccount, []quota.Trace{{ID: id}})
		if err != nil {
			d.t.Fatal(err)
		}
		if !a.Verdicts[0].State.Passes() {
			continue
		}
		admitted++
		p, err := d.Claim(deskAccount, []quota.TraceID{id})
		if err != nil {
			d.t.Fatal(err)
		}
		if err := d.Delivered(deskAccount, []quota.TraceID{id}); err != nil {
			d.t.Fatal(err)
		}
		d.Ended(p)
	}
	return admitted
}

func (d *desk) status() quota.Status {
	d.t.Helper()
	all := d.Status()
	if len(all) != 1 {
		d.t.Fatalf("%d accounts: %+v", len(all), all)
	}
	return all[0]
}

func TestPoliciesAtTheLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policy               quota.Policy
		admitted, held, lost int64
	}{
		{quota.PolicyHold, 10, 15, 0},
		{quota.PolicyDrop, 10, 0, 15},
		{quota.PolicyForward, 25, 0, 0},
	} {
		t.Run(string(tc.policy), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, quota.Rules{Traces: 10, Policy: tc.policy})
			d.says(november)
			if n := d.bring(25); int64(n) != tc.admitted {
				t.Errorf("%d traces were admitted, want %d", n, tc.admitted)
			}
			if s := d.status(); s.Used != tc.admitted || s.Held != tc.held || s.Dropped != tc.lost || s.Reserved != 0 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestSampleIsByTheIDAlone(t *testing.T) {
	t.Parallel()
	rules := quota.Rules{Traces: 100_000, Policy: quota.PolicySample, SampleFrom: 0.001, SampleRate: 0.25}
	one, two := newDesk(t, rules), newDesk(t, rules)
	one.bring(100)
	two.bring(100)
	const n = 20_000
	traces := make([]quota.Trace, n)
	for i := range traces {
		binary.BigEndian.PutUint64(traces[i].ID[4:], uint64(i)*0x9E3779B97F4A7C15)
		traces[i].ID[0] = 1
	}
	a, err := one.Admit(deskAccount, append([]quota.Trace(nil), traces...))
	if err != nil {
		t.Fatal(err)
	}
	admitted := 0
	for i, v := range a.Verdicts {
		b, err := two.Admit(deskAccount, []quota.Trace{{ID: traces[i].ID}})
		if err != nil {
			t.Fatal(err)
		}
		if b.Verdicts[0].State != v.State {
			t.Fatalf("trace %d: %s and %s", i, v.State, b.Verdicts[0].State)
		}
		if v.State.Passes() {
			admitted++
		}
	}
	if share := float64(admitted) / n; math.Abs(share-0.25) > 0.02 {
		t.Errorf("%.3f of the traces are in the sample, want 0.25", share)
	}
}

func TestPaceSpreadsWhatIsLeft(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 210, Policy: quota.PolicyPace})
	d.says(november) // 21 days are left, today included
	if n := d.bring(50); n != 10 {
		t.Errorf("%d traces on the first day, want 10", n)
	}
	if due, _ := d.Due(deskAccount); len(due) != 0 {
		t.Errorf("orders of the first day: %+v", due)
	}
	d.at(november.AddDate(0, 0, 1))
	if due, _ := d.Due(deskAccount); len(due) != 1 || due[0].Reason != quota.ReasonDay || due[0].Most != 2 {
		t.Errorf("orders of the new day: %+v", due)
	}
	if n := d.bring(50); n != 10 {
		t.Errorf("%d traces on the second day, want 10", n)
	}
	d.at(time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC))
	if n := d.bring(300); n != 190 {
		t.Errorf("%d traces on the last day, want 190", n)
	}
}

func TestThresholdsAreToldOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 100})
	d.says(november)
	var told []string
	for range 100 {
		d.next++
		var id quota.TraceID
		binary.BigEndian.PutUint64(id[8:], d.next)
		a, err := d.Admit(deskAccount, []quota.Trace{{ID: id}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Warning != "" {
			told = append(told, a.Warning)
		}
	}
	if len(told) != 4 || !strings.Contains(told[0], "50 of this month's 100") || !strings.Contains(told[3], "are used") {
		t.Errorf("replies said %q", told)
	}
	lines := strings.Count(d.log.String(), "level=WARN")
	if lines != 4 {
		t.Errorf("the log has %d warnings, want 4:\n%s", lines, d.log)
	}
	d.open(quota.Rules{Traces: 100})
	d.bring(3)
	if again := strings.Count(d.log.String(), "level=WARN"); again != lines {
		t.Errorf("a restart said it again:\n%s", d.log)
	}
}

func TestWindowsAreClockHours(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{EventsPerHour: 100, BytesPerHour: 1000})
	take := func(events, bytes int64, want bool) quota.Taken {
		t.Helper()
		taken, until, ok := d.Take(deskAccount, events, bytes)
		if ok != want || !ok && !until.After(d.clock()) {
			t.Errorf("Take(%d, %d) = %s, %v, want %v", events, bytes, until, ok, want)
		}
		return taken
	}
	lands := func(taken quota.Taken, arrived bool) { d.Landed(deskAccount, taken, arrived, time.Time{}) }
	lands(take(60, 10, true), true)
	take(60, 10, false)
	second := take(40, 980, true)
	take(1, 1, false)
	lands(second, false)
	lands(take(40, 980, true), true)
	d.set(november.Add(-30 * time.Minute)) // the clock is set back: not a new hour
	take(1, 1, false)
	d.set(november.Add(time.Hour))
	take(500, 10, true) // larger than the limit: alone, at the beginning
	take(1, 1, false)
}

// TestWhatIsUnderWayAsTheHourTurnsCountsInBoth, for LangSmith counts it when it
// arrives, unless its answer says that it came before.
func TestWhatIsUnderWayAsTheHourTurnsCountsInBoth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrived bool
		date    time.Time
		room    int64 // in the next hour, of 100
	}{
		"it came before the turn": {true, november.Add(-time.Second), 100},
		"it came after the turn":  {true, november.Add(time.Second), 70},
		"nobody knows":            {true, time.Time{}, 70},
		"it did not arrive":       {false, november.Add(time.Second), 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, quota.Rules{EventsPerHour: 100})
			d.set(november.Add(-time.Minute))
			d.says(november.Add(-time.Minute))
			taken, _, ok := d.Take(deskAccount, 30, 0)
			if !ok {
				t.Fatal("the first request does not fit")
			}
			d.set(november.Add(time.Minute))
			d.says(november.Add(time.Minute))
			d.Landed(deskAccount, taken, c.arrived, c.date)
			if _, _, ok := d.Take(deskAccount, c.room, 0); !ok {
				t.Errorf("%d events do not fit into the hour", c.room)
			}
			if _, _, ok := d.Take(deskAccount, 1, 0); ok {
				t.Errorf("%d events fit into the hour", c.room+1)
			}
		})
	}
}

// TestMonthTurnsWhenBothClocksAgree walks through what clocks do.
func TestMonthTurnsWhenBothClocksAgree(t *testing.T) {
	t.Parallel()
	date := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	type step struct {
		own, server string // server empty: nothing is heard; "none": an answer without a date
		month       string
		sends       bool // Claim knows the month
	}
	for name, steps := range map[string][]step{
		"year's end": {
			{"2026-12-31T23:59:59Z", "2026-12-31T23:59:59Z", "2026-12", true},
			{"2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-01", true},
		},
		"leap day": {
			{"2028-02-29T23:59:59Z", "2028-02-29T23:59:59Z", "2028-02", true},
			{"2028-03-01T00:00:01Z", "2028-03-01T00:00:01Z", "2028-03", true},
		},
		"another zone with summer time": {
			{"2027-03-28T01:59:59+01:00", "2027-03-28T00:59:59Z", "2027-03", true},
			{"2027-04-01T01:30:00+02:00", "2027-03-31T23:30:00Z", "2027-03", true},
			{"2027-04-01T02:00:00+02:00", "2027-04-01T00:00:00Z", "2027-04", true},
		},
		"own clock ahead": {
			{"2026-11-30T12:00:00Z", "2026-11-30T12:00:00Z", "2026-11", true},
			{"2026-12-01T00:00:00Z", "2026-11-30T23:50:00Z", "2026-11", true},
			{"2026-12-01T00:05:00Z", "", "2026-11", false},
			{"2026-12-01T00:10:00Z", "2026-12-01T00:00:00Z", "2026-12", true},
		},
		"own clock behind": {
			{"2026-11-30T23:40:00Z", "2026-11-30T23:50:00Z", "2026-11", true},
			{"2026-11-30T23:50:00Z", "2026-12-01T00:00:00Z", "2026-11", true},
			{"2026-12-01T00:00:00Z", "2026-12-01T00:10:00Z", "2026-12", true},
		},
		"set back over the border": {
			{"2026-12-01T00:00:01Z", "2026-12-01T00:00:01Z", "2026-12", true},
			{"2026-11-30T23:00:00Z", "2026-12-01T00:00:02Z", "2026-12", true},
			{"2026-11-01T00:00:00Z", "", "2026-12", true},
			{"2026-12-01T00:00:03Z", "2026-12-01T00:00:03Z", "2026-12", true},
		},
		"a year ahead, then corrected": {
			{"2026-11-10T00:00:00Z", "2026-11-10T00:00:00Z", "2026-11", true},
			{"2027-11-10T00:00:00Z", "", "2026-11", false},
			{"2027-11-10T00:00:01Z", "2026-11-10T00:00:02Z", "2026-11", true},
			{"2026-11-10T00:00:03Z", "2026-11-10T00:00:03Z", "2026-11", true},
		},
		"offline over the border": {
			{"2026-11-30T12:00:00Z", "2026-11-30T12:00:00Z", "2026-11", true},
			{"2026-12-03T12:00:00Z", "", "2026-11", false},
			{"2026-12-03T13:00:00Z", "2026-12-03T13:00:00Z", "2026-12", true},
		},
		"an upstream without a date": {
			{"2026-11-30T12:00:00Z", "none", "2026-11", true},
			{"2026-12-01T00:00:00Z", "none", "2026-12", true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, quota.Rules{Traces: 1000})
			d.set(date(steps[0].own))
			d.ledger = quota.NewMemory()
			d.open(quota.Rules{Traces: 1000})
			taken := 0
			for i, s := range steps {
				d.set(date(s.own))
				switch s.server {
				case "":
				case "none":
					d.says(time.Time{})
				default:
					d.says(date(s.server))
				}
				_, err := d.Claim(deskAccount, []quota.TraceID{{0xFF, byte(i)}})
				if (err == nil) != s.sends {
					t.Fatalf("step %d: Claim: %v, want the month to be known: %v", i, err, s.sends)
				}
				got := d.status()
				if got.Month.String() != s.month {
					t.Fatalf("step %d: month %s, want %s", i, got.Month, s.month)
				}
				if s.sends {
					taken += d.bring(1)
				}
			}
			total := d.status().Used
			for m := d.status().Month - 1; m > d.status().Month-3; m-- {
				n, _ := d.ledger.Past(deskAccount, m)
				total += n
			}
			if total != int64(taken) {
				t.Errorf("%d traces were delivered, the months have %d", taken, total)
			}
		})
	}
}

func TestForecast(t *testing.T) {
	t.Parallel()
	day := quota.DayOf(november)
	days := func(wanted ...int64) (out []quota.DayTotals) {
		for i, n := range wanted {
			out = append(out, quota.DayTotals{Day: day - quota.Day(len(wanted)-1-i), Wanted: n})
		}
		return out
	}
	for name, tc := range map[string]struct {
		days      []quota.DayTotals
		since     time.Time
		used      int64
		known     bool
		low, high float64 // of the pace
		exhausted bool
	}{
		"nothing":              {},
		"minutes":              {days: days(50), since: november.Add(-10 * time.Minute)},
		"half a day":           {days: days(50), since: november.Add(-12 * time.Hour), known: true, low: 99, high: 101},
		"steady":               {days: days(100, 100, 100, 50), since: november.AddDate(0, 0, -4), used: 350, known: true, low: 95, high: 105},
		"rising":               {days: days(10, 10, 10, 200, 200, 100), since: november.AddDate(0, 0, -6), used: 530, known: true, low: 120, high: 200, exhausted: true},
		"idle days weigh, too": {days: append(days(300)[:0:0], quota.DayTotals{Day: day - 6, Wanted: 700}), since: november.AddDate(0, 0, -7), used: 700, known: true, low: 20, high: 100},
		"used up":              {days: days(100, 100, 100), since: november.AddDate(0, 0, -4), used: 3000, known: true, low: 90, high: 220, exhausted: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := quota.Predict(&quota.ForecastInput{Now: november, Month: quota.MonthOf(november), Used: tc.used, Limit: 3000, Days: tc.days, Since: tc.since})
			if f.Known != tc.known || tc.known && (f.PerDay < tc.low || f.PerDay > tc.high) || f.ExhaustedAt.IsZero() == tc.exhausted {
				t.Errorf("forecast %+v, want known %v, %v to %v a day, exhausted %v", f, tc.known, tc.low, tc.high, tc.exhausted)
			}
			if tc.known && !f.ExhaustedAt.IsZero() && (f.ExhaustedAt.Before(november) || f.ExhaustedAt.After(quota.MonthOf(november).End())) {
				t.Errorf("exhausted at %s", f.ExhaustedAt)
			}
		})
	}
}

func TestPlansAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	for plan, want := range map[quota.Plan]quota.PlanLimits{
		quota.PlanDeveloper:     {TracesPerMonth: 5000, EventsPerHour: 50_000, BytesPerHour: 500_000_000, Included: 5000, Hard: true},
		quota.PlanDeveloperCard: {TracesPerMonth: 5000, EventsPerHour: 250_000, BytesPerHour: 2_500_000_000, Included: 5000},
		quota.PlanPlus:          {TracesPerMonth: 10_000, EventsPerHour: 500_000, BytesPerHour: 5_000_000_000, Included: 10_000},
	} {
		if got, ok := plan.Limits(); !ok || got != want {
			t.Errorf("%s: %+v, want %+v", plan, got, want)
		}
	}
	r := quota.Rules{Included: 5000, PricePerThousandUSD: 2.5}
	if c := r.Cost(7000); c != 5 {
		t.Errorf("7,000 traces cost %v, want 5", c)
	}
	if r.Hard = true; r.Cost(7000) != 0 {
		t.Error("a plan that refuses what is over bills it")
	}
}

func TestLangSmithIsNotBelievedTwice(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 1000})
	d.says(november)
	clears := func(want bool) {
		t.Helper()
		kind, _, err := d.Reported(deskAccount, quota.UsageLimits{})
		if err != nil {
			t.Fatal(err)
		}
		if (kind == "") != want {
			t.Errorf("after %s: cleared %v, want %v", d.clock().Sub(november), kind == "", want)
		}
	}
	until := d.Refused(deskAccount, quota.KindMonth)
	if want := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC); !until.Equal(want) {
		t.Errorf("until %s, want %s", until, want)
	}
	if n := d.bring(5); n != 0 {
		t.Errorf("%d new traces pass while LangSmith refuses them", n)
	}
	clears(true)
	now := november
	for wait := 10 * time.Second; wait < 2*time.Hour; wait *= 2 {
		d.Refused(deskAccount, quota.KindMonth)
		clears(false)
		now = now.Add(min(wait, time.Hour) - time.Second)
		d.at(now)
		clears(false)
		now = now.Add(time.Second)
		d.at(now)
		clears(true)
	}
	if n := d.bring(5); n != 5 {
		t.Errorf("%d of 5 new traces pass once it is over", n)
	}
}

// TestLangSmithsNextMonthEndsNoRefusalOfThisOne: LangSmith's clock is a little
// ahead. That it takes traces again is the month's turn, with what that may
// release, and not the end of a limit. Clocks that are far apart prove nothing.
func TestLangSmithsNextMonthEndsNoRefusalOfThisOne(t *testing.T) {
	t.Parallel()
	turn := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		own, server time.Duration // after the turn
		orders      quota.Reason
	}{
		"a little ahead": {-2 * time.Second, 3 * time.Second, ""},
		"both before it": {-2 * time.Second, -time.Second, quota.ReasonCleared},
		"both after it":  {time.Second, 2 * time.Second, quota.ReasonMonth},
		"a day apart":    {-20 * time.Hour, 4 * time.Hour, quota.ReasonCleared},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, quota.Rules{Traces: 10})
			d.says(november)
			d.Refused(deskAccount, quota.KindMonth)
			d.bring(5)
			d.set(turn.Add(tc.own))
			d.says(turn.Add(tc.server))
			if _, _, err := d.Reported(deskAccount, quota.UsageLimits{}); err != nil {
				t.Fatal(err)
			}
			var got quota.Reason
			for _, o := range d.status().Orders {
				got += o.Reason
			}
			if got != tc.orders {
				t.Errorf("held traces are released for %q, want %q", got, tc.orders)
			}
		})
	}
}

func TestWhatOthersSendCounts(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 100})
	d.says(november)
	d.bring(10)
	month := quota.MonthOf(november)
	for _, taken := range []int64{60, 30, 5} { // it lags, and never lowers
		if err := d.Taken(deskAccount, month, taken); err != nil {
			t.Fatal(err)
		}
		if s := d.status(); s.Used != 60 || s.Others != 50 {
			t.Errorf("LangSmith says %d: %+v", taken, s)
		}
	}
	if n := d.bring(100); n != 40 {
		t.Errorf("%d traces were admitted, want 40", n)
	}
	if err := d.SetUsed(deskAccount, 70); err != nil { // a person knows better
		t.Fatal(err)
	}
	if due, _ := d.Due(deskAccount); len(due) != 1 || due[0].Most != -1 {
		t.Errorf("no release after the count went down: %+v", due)
	}
	if n := d.bring(100); n != 30 {
		t.Errorf("%d traces were admitted, want 30", n)
	}
}

func TestKeysOfOneTenantShareALimit(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 100})
	d.says(november)
	const up = "https://upstream.test"
	one, two := quota.Account{Name: up + " key:1", Upstream: up, Provisional: true}, quota.Account{Name: up + " key:2", Upstream: up, Provisional: true}
	d.Use(one)
	d.Use(two)
	admitted := 0
	for i := range 300 {
		account := []string{one.Name, two.Name, deskAccount}[i%3]
		a, err := d.Admit(account, []quota.Trace{{ID: quota.TraceID{1, byte(i), byte(i >> 8)}}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Verdicts[0].State.Passes() {
			admitted++
		}
	}
	if admitted > 100 {
		t.Errorf("%d traces were admitted before it was known whose the keys are", admitted)
	}
	tenant := quota.Account{Name: deskAccount, Upstream: up}
	for _, a := range []quota.Account{one, two} {
		if err := d.Unite(a.Name, tenant); err != nil {
			t.Fatal(err)
		}
	}
	if s := d.status(); s.Reserved != int64(admitted) || s.Held != int64(300-admitted) {
		t.Errorf("united: %+v", s)
	}
	d.bring(200)
	if s := d.status(); s.Used+s.Reserved != 100 {
		t.Errorf("%d traces of the tenant, want 100", s.Used+s.Reserved)
	}
}

func TestStateNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for s := quota.Unknown; s <= quota.Follower; s++ {
		seen[s.String()] = true
	}
	if len(seen) != 7 || seen["state?"] {
		t.Errorf("states are named %v", seen)
	}
}
