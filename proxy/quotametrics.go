package proxy

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"weir/quota"
)

const (
	// maxQuotaSeries bounds the accounts that metrics tell apart: those that
	// use most. The others are one together.
	maxQuotaSeries = 64
	// otherAccounts is the label of the others.
	otherAccounts = "other"
)

// quotaCollector shows where accounts stand, read anew for each scrape.
type quotaCollector struct {
	status func() []quota.Status

	traces, limit, threshold, refused, projected, exhausted, pace, windowUsed, windowLimit *prometheus.Desc
}

func newQuotaCollector(status func() []quota.Status) *quotaCollector {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("weir_quota_"+name, help, append([]string{"account"}, more...), nil)
	}
	return &quotaCollector{
		status: status,
		traces: desc("traces", "Traces of this month, by state: used (delivered, and what others sent), reserved (admitted, not delivered yet), "+
			"held, dropped, others (of those used: what weir did not send).", "state"),
		limit:      desc("traces_limit", "The most traces of this month; absent where there is no limit."),
		threshold:  desc("threshold_percent", "The highest threshold of the limit that was passed this month: 0, 50, 80, 95 or 100 percent."),
		refused:    desc("refused", "1 while LangSmith itself refuses new traces, else 0."),
		projected:  desc("projected_traces", "Traces that the month will have had at its end at the current pace; absent while too little is known."),
		exhausted:  desc("exhausted_timestamp_seconds", "When the limit is reached at the current pace, in Unix time; absent if that is not in this month, or not known."),
		pace:       desc("traces_per_day", "The current pace: new traces a day, recent days weighing more; absent while too little is known."),
		windowUsed: desc("window_used", "What was sent in this clock hour, in events or bytes.", "window"),
		windowLimit: desc("window_limit", "The most that is sent in a clock hour, in events or bytes; absent where there is no limit.",
			"window"),
	}
}

// Describe implements prometheus.Collector.
func (c *quotaCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.traces, c.limit, c.threshold, c.refused, c.projected, c.exhausted, c.pace, c.windowUsed, c.windowLimit} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *quotaCollector) Collect(out chan<- prometheus.Metric) {
	accounts := boundedAccounts(c.status())
	for i := range accounts {
		c.collect(out, &accounts[i])
	}
}

func (c *quotaCollector) collect(out chan<- prometheus.Metric, s *quota.Status) {
	account := strings.ToValidUTF8(s.Account, "\uFFFD") // a caller may have named the workspace in it
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{account}, labels...)...)
	}
	gauge(c.traces, float64(s.Used), "used")
	gauge(c.traces, float64(s.Reserved), "reserved")
	gauge(c.traces, float64(s.Held), "held")
	gauge(c.traces, float64(s.Dropped), "dropped")
	gauge(c.traces, float64(s.Others), "others")
	if s.Limit >= 0 {
		gauge(c.limit, float64(s.Limit))
	}
	gauge(c.threshold, float64(s.Threshold))
	refused := 0.0
	if s.Refused != nil {
		refused = 1
	}
	gauge(c.refused, refused)
	if s.Forecast.Known {
		gauge(c.projected, float64(s.Forecast.Projected))
		gauge(c.pace, s.Forecast.PerDay)
	}
	if at := s.Forecast.ExhaustedAt; !at.IsZero() {
		gauge(c.exhausted, float64(at.UnixMilli())/1e3)
	}
	for _, w := range s.Windows {
		gauge(c.windowUsed, float64(w.Used), w.Name)
		if w.Limit > 0 {
			gauge(c.windowLimit, float64(w.Limit), w.Name)
		}
	}
}

// boundedAccounts returns at most maxQuotaSeries accounts, and one more for the
// others together if there are more.
func boundedAccounts(all []quota.Status) []quota.Status {
	if len(all) <= maxQuotaSeries {
		return all
	}
	slices.SortStableFunc(all, func(a, b quota.Status) int { // Status sorts by name: ties stay in place
		return int(max(-1, min(1, b.Used+b.Reserved+b.Held-a.Used-a.Reserved-a.Held)))
	})
	other := all[maxQuotaSeries]
	other.Account, other.Windows = otherAccounts, slices.Clone(other.Windows)
	for i := range all[maxQuotaSeries+1:] {
		addAccount(&other, &all[maxQuotaSeries+1+i])
	}
	return append(all[:maxQuotaSeries:maxQuotaSeries], other)
}

// addAccount adds one account's figures to those of others. A limit, and a
// projection, of them together is known only if each has one.
func addAccount(to, s *quota.Status) {
	to.Used += s.Used
	to.Others += s.Others
	to.Reserved += s.Reserved
	to.Held += s.Held
	to.Dropped += s.Dropped
	to.Threshold = max(to.Threshold, s.Threshold)
	if to.Refused == nil {
		to.Refused = s.Refused
	}
	if to.Limit >= 0 && s.Limit >= 0 {
		to.Limit += s.Limit
	} else {
		to.Limit = -1
	}
	to.Forecast.Known = to.Forecast.Known && s.Forecast.Known
	to.Forecast.Projected += s.Forecast.Projected
	to.Forecast.PerDay += s.Forecast.PerDay
	if at := s.Forecast.ExhaustedAt; !at.IsZero() && (to.Forecast.ExhaustedAt.IsZero() || at.Before(to.Forecast.ExhaustedAt)) {
		to.Forecast.ExhaustedAt = at // the first of them
	}
	for i := range min(len(to.Windows), len(s.Windows)) {
		to.Windows[i].Used += s.Windows[i].Used
		to.Windows[i].Limit += s.Windows[i].Limit // configured alike for all: none or each has one
	}
}
