package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy/diagnose"
	"weir/queue"
)

// caseCollector shows what is in quarantine, read anew for each scrape.
type caseCollector struct {
	tallies func() map[caseLabels]caseTally

	open, items *prometheus.Desc
}

// caseLabels is what metrics tell cases apart by: as many as there are causes
// and states, however many cases there are.
type caseLabels struct{ cause, state string }

type caseTally struct{ cases, items int64 }

// caseTallies counts the open cases that hold anything.
func (f *Forwarder) caseTallies() map[caseLabels]caseTally { return f.tally(f.q.Cases()) }

func (f *Forwarder) tally(cases []queue.Case) map[caseLabels]caseTally {
	briefs := f.briefs(cases)
	out := map[caseLabels]caseTally{}
	for i := range briefs {
		l := caseLabels{causeLabel(briefs[i].cause), string(briefs[i].state)}
		t := out[l]
		t.cases++
		t.items += briefs[i].Items
		out[l] = t
	}
	return out
}

// causeLabel is a cause as a label: codes of another version, which a note on
// disk may have, are not told apart.
func causeLabel(c diagnose.Code) string {
	if !diagnose.Known(c) {
		c = diagnose.Unknown
	}
	return string(c)
}

func newCaseCollector(tallies func() map[caseLabels]caseTally) *caseCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("weir_quarantine_"+name, help, []string{"cause", "state"}, nil)
	}
	return &caseCollector{
		tallies: tallies,
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
	for l, t := range c.tallies() {
		out <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(t.cases), l.cause, l.state)
		out <- prometheus.MustNewConstMetric(c.items, prometheus.GaugeValue, float64(t.items), l.cause, l.state)
	}
}
