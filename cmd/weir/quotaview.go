package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	weirv1 "weir/proto/weir/v1"
)

const (
	// gaugeWidth is the length of a gauge's bar, in characters.
	gaugeWidth = 40
	// maxProjectRows bounds the projects that are shown, and maxQuotaLines the
	// accounts in `weir status`.
	maxProjectRows = 20
	maxQuotaLines  = 3
	// maxAccount is the width to which an account's name is cut.
	maxAccount = 200
)

// writeQuota prints the quota for a person.
func writeQuota(con *console, q *weirv1.GetQuotaResponse) {
	if len(q.GetScopes()) == 0 {
		fmt.Fprintln(con.Out, "No traces yet this month.")
		return
	}
	for i, s := range q.GetScopes() {
		if i > 0 {
			fmt.Fprintln(con.Out)
		}
		writeScope(con, s)
	}
}

func writeScope(con *console, s *weirv1.QuotaScope) {
	fmt.Fprintln(con.Out, paint(oneLine(s.GetAccount(), maxAccount), bold, con.OutColor))
	if s.TracesLimit != nil {
		fmt.Fprintln(con.Out, gauge(s, con.OutColor))
	}
	fmt.Fprintln(con.Out, quotaSentence(s))
	if s.GetRefusedReason() != "" {
		fmt.Fprintln(con.Out, paint(refusedSentence(s), red, con.OutColor))
	}
	if s.GetProjectedCostUsd() > 0 {
		at := "Beyond what the plan includes, the month will cost"
		if s.ProjectedTraces == nil {
			at = "Beyond what the plan includes, the month has cost"
		}
		fmt.Fprintf(con.Out, "%s about $%.2f at the configured price.\n", at, s.GetProjectedCostUsd())
	}
	if s.GetProvisional() {
		fmt.Fprintln(con.Out, "The workspace of this key is not known yet; until it is, the account shares its limit with the others of this upstream.")
	}
	for _, r := range s.GetReleases() {
		fmt.Fprintln(con.Out, "To be released: "+releaseNote(r)+".")
	}
	writeProjects(con, s)
	writeWindows(con, s)
}

// taken is what counts against the limit.
func taken(s *weirv1.QuotaScope) int64 {
	return int64(s.GetTracesUsed()) + int64(s.GetTracesReserved())
}

// percentOf is n of limit in percent, cut: it is 100 only when all is used.
func percentOf(n, limit int64) int64 {
	switch {
	case limit > 0:
		return max(n, 0) * 100 / limit
	case n >= 0:
		return 100
	default:
		return 0
	}
}

// fillStyle is the colour of a share in percent.
func fillStyle(percent int64) style {
	switch {
	case percent >= 100:
		return red
	case percent >= 80:
		return yellow
	default:
		return green
	}
}

// gauge draws what is used and what is reserved of the limit.
func gauge(s *weirv1.QuotaScope, color bool) string {
	limit, all := int64(s.GetTracesLimit()), taken(s)
	used := gaugeCells(int64(s.GetTracesUsed()), limit)
	reserved := gaugeCells(all, limit) - used
	if reserved == 0 && s.GetTracesReserved() > 0 && used > 0 && used == gaugeWidth {
		used, reserved = used-1, 1
	}
	percent := percentOf(all, limit)
	bar := paint(strings.Repeat("█", used), fillStyle(percent), color) + paint(strings.Repeat("▒", reserved), fillStyle(percent), color) +
		paint(strings.Repeat("░", gaugeWidth-used-reserved), dim, color)
	text := fmt.Sprintf("%s %d %%  %s of %s used", bar, percent, humanCount(int64(s.GetTracesUsed())), humanCount(limit))
	if s.GetTracesReserved() > 0 {
		text += fmt.Sprintf(", %s on their way", humanCount(int64(s.GetTracesReserved())))
	}
	return text
}

// gaugeCells is how much of a gauge n fills: something if n is more than
// nothing, and all of it only if n is all.
func gaugeCells(n, limit int64) int {
	switch {
	case n >= limit:
		return gaugeWidth
	case n <= 0:
		return 0
	default:
		return int(min(max((n*gaugeWidth+limit/2)/limit, 1), gaugeWidth-1))
	}
}

// refusals are LangSmith's limits in words.
var refusals = map[string]string{
	"quota_month": "the plan's traces of a month are used",
	"quota_user":  "a limit that the organization has set is reached",
}

func refusedSentence(s *weirv1.QuotaScope) string {
	why := refusals[s.GetRefusedReason()]
	if why == "" {
		why = oneLine(s.GetRefusedReason(), maxName)
	}
	text := "LangSmith refuses new traces"
	if isSet(s.GetRefusedSince()) {
		text += " since " + utcMinute(s.GetRefusedSince().AsTime())
	}
	text += ": " + why
	if isSet(s.GetRefusedUntil()) {
		text += "; that should end by " + utcMinute(s.GetRefusedUntil().AsTime())
	}
	return text + "."
}

// utcMinute is a time as LangSmith's months and hours count: in UTC.
func utcMinute(t time.Time) string { return t.UTC().Format("2 Jan 15:04 UTC") }

// releaseReasons are the reasons of releases in words.
var releaseReasons = map[string]string{
	"month_turned": "a new month", "limit_raised": "there is more room", "langsmith_takes_traces": "LangSmith takes traces again",
	"asked_for": "asked for", "new_day": "a new day", "trial": "to see whether LangSmith takes traces again",
}

// releaseNote is a release that is to be done.
func releaseNote(r *weirv1.QuotaRelease) string {
	text := "as many as there is room for"
	if r.Traces != nil {
		text = "at most " + humanCount(int64(r.GetTraces()))
	}
	if r.Project != nil {
		text += " of " + projectName(r.GetProject())
	}
	if r.GetOldestFirst() {
		text += ", oldest first"
	}
	why := releaseReasons[r.GetReason()]
	if why == "" {
		why = oneLine(r.GetReason(), maxName)
	}
	text += " (" + why + ")"
	if isSet(r.GetAfter()) {
		text += ", from " + utcMinute(r.GetAfter().AsTime())
	}
	return text
}

func projectName(name string) string {
	if name == "" {
		return "no project"
	}
	return "project " + oneLine(name, maxName)
}

// writeProjects prints the projects if there is more than one, or one has
// something to say of its own.
func writeProjects(con *console, s *weirv1.QuotaScope) {
	all := slices.DeleteFunc(slices.Clone(s.GetProjects()), func(p *weirv1.QuotaProject) bool {
		return p.GetTracesUsed()+p.GetTracesReserved()+p.GetTracesHeld()+p.GetTracesDropped() == 0 && p.TracesLimit == nil
	})
	if len(all) == 0 || len(all) == 1 && all[0].GetProject() == "" && all[0].TracesLimit == nil {
		return
	}
	slices.SortFunc(all, func(a, b *weirv1.QuotaProject) int {
		return cmp.Or(cmp.Compare(b.GetTracesUsed(), a.GetTracesUsed()), cmp.Compare(b.GetTracesHeld(), a.GetTracesHeld()),
			strings.Compare(a.GetProject(), b.GetProject()))
	})
	more := len(all) - maxProjectRows
	rows := make([][]cell, 0, len(all))
	for _, p := range all[:min(len(all), maxProjectRows)] {
		rows = append(rows, projectRow(p))
	}
	fmt.Fprintln(con.Out)
	writeTable(con.Out, []column{
		{title: "PROJECT"},
		{title: "USED", right: true},
		{title: "SHARE", right: true},
		{title: "ON THEIR WAY", right: true},
		{title: "HELD", right: true},
		{title: "DROPPED", right: true},
		{title: "BUDGET", right: true},
	}, rows, con.OutColor)
	if more > 0 {
		fmt.Fprintf(con.Out, "and %s more; weir quota --json has all\n", humanCount(int64(more)))
	}
}

func projectRow(p *weirv1.QuotaProject) []cell {
	name := oneLine(p.GetProject(), maxName)
	if name == "" {
		name = "(none named)"
	}
	some := func(n int32, s style) cell {
		if n == 0 {
			return cell{}
		}
		return cell{text: humanCount(int64(n)), style: s}
	}
	row := []cell{
		{text: name},
		{text: humanCount(int64(p.GetTracesUsed()))},
		{text: fmt.Sprintf("%.0f %%", p.GetShare()*100)},
		some(p.GetTracesReserved(), plain), some(p.GetTracesHeld(), yellow), some(p.GetTracesDropped(), red),
		{},
	}
	if p.TracesLimit != nil {
		used := int64(p.GetTracesUsed()) + int64(p.GetTracesReserved())
		row[6] = cell{text: humanCount(int64(p.GetTracesLimit()))}
		if used >= int64(p.GetTracesLimit()) {
			row[6].style = red
		}
	}
	return row
}

// writeWindows prints the hourly limits if something was sent in this hour.
func writeWindows(con *console, s *weirv1.QuotaScope) {
	var rows [][]cell
	for _, w := range s.GetWindows() {
		if w.GetUsed() <= 0 || w.Limit == nil {
			continue
		}
		percent := percentOf(int64(w.GetUsed()), int64(w.GetLimit()))
		count := humanCount
		if w.GetName() == "bytes" {
			count = humanBytes
		}
		ends := ""
		if isSet(w.GetEndsAt()) {
			ends = inTime(con.now(), w.GetEndsAt())
		}
		rows = append(rows, []cell{
			{text: oneLine(w.GetName(), maxName)},
			{text: count(int64(w.GetUsed()))},
			{text: count(int64(w.GetLimit()))},
			{text: fmt.Sprintf("%d %%", percent), style: fillStyle(percent)},
			{text: ends},
		})
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(con.Out)
	writeTable(con.Out, []column{
		{title: "THIS HOUR"}, {title: "SENT", right: true}, {title: "LIMIT", right: true}, {title: "", right: true}, {title: "BEGINS ANEW"},
	}, rows, con.OutColor)
}

// writeQuotaLines prints the quota as lines of a status.
func writeQuotaLines(con *console, q *weirv1.GetQuotaResponse) {
	scopes := q.GetScopes()
	for _, s := range scopes[:min(len(scopes), maxQuotaLines)] {
		fmt.Fprintln(con.Out, quotaLine(con, s, len(scopes) > 1))
	}
	if more := len(scopes) - maxQuotaLines; more > 0 {
		fmt.Fprintf(con.Out, "and %s more accounts, see weir quota\n", humanCount(int64(more)))
	}
}

func quotaLine(con *console, s *weirv1.QuotaScope, named bool) string {
	text := "quota "
	if named {
		text += oneLine(s.GetAccount(), maxAccount) + ": "
	}
	month, _ := monthOf(s)
	if s.TracesLimit == nil {
		text += fmt.Sprintf("%s traces used in %s, no limit", humanCount(int64(s.GetTracesUsed())), month)
	} else {
		percent := percentOf(taken(s), int64(s.GetTracesLimit()))
		of := fmt.Sprintf("%s of %s traces used in %s (%d %%)",
			humanCount(int64(s.GetTracesUsed())), humanCount(int64(s.GetTracesLimit())), month, percent)
		if percent < 80 {
			text += of
		} else {
			text += paint(of, fillStyle(percent), con.OutColor)
		}
	}
	if s.GetTracesHeld() > 0 {
		text += ", " + paint(humanCount(int64(s.GetTracesHeld()))+" held", yellow, con.OutColor)
	}
	if s.GetRefusedReason() != "" {
		text += ", " + paint("LangSmith refuses new traces", red, con.OutColor)
	}
	return text
}
