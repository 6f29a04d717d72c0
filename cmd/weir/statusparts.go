package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	weirv1 "weir/proto/weir/v1"
)

// droppedReasons lists why items were dropped, most first.
func droppedReasons(byReason map[string]int64) string {
	reasons := slices.Sorted(maps.Keys(byReason))
	slices.SortStableFunc(reasons, func(a, b string) int {
		return int(max(-1, min(1, byReason[b]-byReason[a])))
	})
	parts := make([]string, 0, len(reasons))
	for _, reason := range reasons {
		parts = append(parts, humanCount(byReason[reason])+" "+oneLine(reason, maxName))
	}
	return strings.Join(parts, ", ")
}

// writeCases prints what the upstream refused, and its answer in brief.
// maxCaseRows bounds the cases in a status.
const maxCaseRows = 10

func writeCases(con *console, st *weirv1.GetStatusResponse, all bool) {
	if len(st.GetCases()) == 0 {
		return
	}
	now, cases := con.now(), st.GetCases()
	if !all {
		cases = cases[:min(len(cases), maxCaseRows)]
	}
	fmt.Fprintln(con.Out)
	rows := make([][]cell, 0, len(cases))
	for _, c := range cases {
		opened := ""
		if isSet(c.GetOpenedAt()) {
			opened = humanDuration(now.Sub(c.GetOpenedAt().AsTime())) + " ago"
		}
		rows = append(rows, []cell{
			{text: strconv.FormatUint(c.GetId(), 10)},
			{text: strconv.FormatUint(uint64(c.GetLaneId()), 10)},
			{text: oneLine(cmp.Or(c.GetCause(), c.GetReason()), maxName), style: red},
			{text: humanCount(c.GetItems())},
			{text: humanBytes(c.GetBytes())},
			{text: opened},
			{text: oneLine(c.GetRequestId(), maxName)},
			{text: oneLine(c.GetBody(), maxNote)},
		})
	}
	writeTable(con.Out, []column{
		{title: "CASE", right: true},
		{title: "LANE", right: true},
		{title: "CAUSE"},
		{title: "ITEMS", right: true},
		{title: "SIZE", right: true},
		{title: "OPENED"},
		{title: "REQUEST ID"},
		{title: "ANSWER"},
	}, rows, con.OutColor)
	known := max(int64(st.GetCaseCounts().GetCases()), int64(len(st.GetCases())))
	if more := known - int64(len(cases)); more > 0 {
		fmt.Fprintf(con.Out, "%s, in all %s; `weir quarantine` lists them\n", andMore(more, "case", "cases"), caseSummary(st.GetCaseCounts()))
	}
}

// caseSummary counts cases by who has to act.
func caseSummary(counts *weirv1.CaseCounts) string {
	text := plural(int64(counts.GetCases()), "case", "cases")
	var parts []string
	for _, part := range []struct {
		n    int32
		text string
	}{
		{counts.GetNeedsPerson(), isAre(counts.GetNeedsPerson(), "needs a person", "need a person")},
		{counts.GetProbing(), "probing"},
		{counts.GetReleasing(), "releasing"},
	} {
		if part.n > 0 {
			parts = append(parts, humanCount(int64(part.n))+" "+part.text)
		}
	}
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	return text
}

// flowText says how fast data comes and goes, and how long a backlog takes;
// nothing, while nothing moves and nothing waits.
func flowText(st *weirv1.GetStatusResponse, backlog bool) string {
	flow, pending := st.GetFlow(), st.GetTotals().GetPendingItems()
	if flow == nil || flow.GetAcceptedPerSecond() <= 0 && flow.GetDeliveredPerSecond() <= 0 && pending == 0 {
		return ""
	}
	text := fmt.Sprintf("%s in, %s out", rate(flow.GetAcceptedPerSecond()), rate(flow.GetDeliveredPerSecond()))
	if flow.GetSentBytesPerSecond() >= 1 {
		text += fmt.Sprintf(" (%s/s sent)", humanBytes(int64(flow.GetSentBytesPerSecond())))
	}
	switch {
	case pending == 0 || !backlog:
	case flow.GetDrainedIn() != nil:
		text += ", the backlog is delivered in about " + humanDuration(flow.GetDrainedIn().AsDuration())
	default:
		text += ", the backlog does not shrink"
	}
	return text
}

// rate is a number of items in a second.
func rate(perSecond float64) string {
	switch {
	case perSecond <= 0:
		return "0/s"
	case perSecond < 9.95:
		return fmt.Sprintf("%.1f/s", perSecond)
	default:
		return humanCount(int64(perSecond+0.5)) + "/s"
	}
}

// writeProblems prints what needs a person last, where it is seen.
func writeProblems(con *console, problems []string) {
	if len(problems) == 0 {
		return
	}
	fmt.Fprintf(con.Out, "\n%s\n", paint("Needs a person:", red, con.OutColor))
	for _, p := range problems {
		con.say("  - ", oneLine(p, maxSentence), plain)
	}
}
