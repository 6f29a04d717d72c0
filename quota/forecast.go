package quota

import (
	"math"
	"time"
)

// Forecast is where a month is heading.
type Forecast struct {
	// Known is false while there is too little data to say anything.
	Known bool
	// PerDay is the pace: new traces a day, recent days weighing more.
	PerDay float64
	// Projected is how many traces the month will have had at its end.
	Projected int64
	// ExhaustedAt is when the limit is reached at this pace; zero if that is not
	// in this month.
	ExhaustedAt time.Time
}

const (
	// forecastDays is how far back the pace looks, and halfLifeDays how fast a
	// day loses weight: last week counts for about a fifth of today.
	forecastDays = 14
	halfLifeDays = 3.0
	// forecastLeast is the time that must have been observed before anything
	// is said.
	forecastLeast = 6 * time.Hour
)

// ForecastInput is what a forecast is made of.
type ForecastInput struct {
	Now   time.Time
	Month Month
	Used  int64 // counted, reserved, and what others sent
	Limit int64 // negative: none
	Days  []DayTotals
	// Since is when watching began, zero if that is long ago or not known.
	Since time.Time
}

// Predict forecasts the month. Days without an entry after the first had no
// traces. It is pure.
func Predict(in *ForecastInput) Forecast {
	perDay, ok := pace(in.Now, in.Since, in.Days)
	if !ok {
		return Forecast{}
	}
	left := in.Month.End().Sub(in.Now).Hours() / 24
	f := Forecast{Known: true, PerDay: perDay}
	f.Projected = in.Used + int64(math.Round(perDay*max(left, 0)))
	switch {
	case in.Limit < 0:
	case in.Used >= in.Limit:
		f.ExhaustedAt = in.Now
	case perDay > 0:
		days := float64(in.Limit-in.Used) / perDay
		if days < left {
			f.ExhaustedAt = in.Now.Add(time.Duration(days * 24 * float64(time.Hour)))
		}
	}
	return f
}

// pace is the weighted mean of new traces a day. The first day counts from when
// watching began, or from its middle if that is not known; today up to now.
func pace(now, since time.Time, days []DayTotals) (perDay float64, ok bool) {
	if len(days) == 0 {
		return 0, false
	}
	today := DayOf(now)
	first := days[0].Day
	wanted := make(map[Day]int64, len(days))
	for _, d := range days {
		wanted[d.Day] += d.Wanted
	}
	from := first
	if today > forecastDays && from+forecastDays < today {
		from = today - forecastDays
	}
	var sum, weight float64
	var observed time.Duration
	for d := from; d <= today; d++ {
		length := 24 * time.Hour
		if d == today {
			length = now.Sub(d.Begin())
		}
		switch {
		case d != first:
		case !since.IsZero():
			length -= max(since.Sub(d.Begin()), 0)
		default:
			length -= min(length/2, 12*time.Hour)
		}
		if length <= 0 {
			continue
		}
		observed += length
		share := length.Hours() / 24
		w := math.Exp2(-float64(today-d)/halfLifeDays) * share
		sum += w * float64(wanted[d]) / share
		weight += w
	}
	if observed < forecastLeast || weight == 0 {
		return 0, false
	}
	return sum / weight, true
}

// Cost is what a number of traces in a month costs.
func (r *Rules) Cost(traces int64) float64 {
	if r.Hard || traces <= r.Included {
		return 0
	}
	return float64(traces-r.Included) / 1000 * r.PricePerThousandUSD
}
