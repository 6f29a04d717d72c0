package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

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
func writeCases(con *console, st *weirv1.GetStatusResponse, now time.Time) {
	if len(st.GetCases()) == 0 {
		return
	}
	fmt.Fprintln(con.Out)
	rows := make([][]cell, 0, len(st.GetCases()))
	for _, c := range st.GetCases() {
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
}

// writeProblems prints what needs a person last, where it is seen.
func writeProblems(con *console, st *weirv1.GetStatusResponse) {
	if len(st.GetProblems()) == 0 {
		return
	}
	fmt.Fprintf(con.Out, "\n%s\n", paint("Needs a person:", red, con.OutColor))
	for _, p := range st.GetProblems() {
		fmt.Fprintln(con.Out, "  - "+oneLine(p, maxSentence))
	}
}
