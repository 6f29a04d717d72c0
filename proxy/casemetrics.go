package proxy

import "github.com/prometheus/client_golang/prometheus"

// caseCollector shows what is in quarantine, read anew for each scrape.
type caseCollector struct {
	cases func() []caseBrief

	open, items *prometheus.Desc
}

func newCaseCollector(cases func() []caseBrief) *caseCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("weir_quarantine_"+name, help, []string{"cause", "state"}, nil)
	}
	return &caseCollector{
		cases: cases,
		open: desc("cases", "Open cases, by cause (docs/diagnosis.md) and state: probing (weir tries by itself), "+
			"needs_person, releasing."),
		items: desc("items", "Items in quarantine, by the cause and state of their case."),
	}
}

// Describe implements prometheus.Collector.
func (c *caseCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.open
	out <- c.items
}

// Collect implements prometheus.Collector.
func (c *caseCollector) Collect(out chan<- prometheus.Metric) {
	type labels struct{ cause, state string }
	open, items := map[labels]float64{}, map[labels]float64{}
	cases := c.cases()
	for i := range cases {
		l := labels{string(cases[i].cause), string(cases[i].state)}
		open[l]++
		items[l] += float64(cases[i].Items)
	}
	for l, n := range open {
		out <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, n, l.cause, l.state)
		out <- prometheus.MustNewConstMetric(c.items, prometheus.GaugeValue, items[l], l.cause, l.state)
	}
}
