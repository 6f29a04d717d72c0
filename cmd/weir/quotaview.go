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

// inUse leaves out accounts that a person need not see, such as those of former
// keys: without traces this month and without data. Where none is in use, all
// are there.
func inUse(scopes []*weirv1.QuotaScope) []*weirv1.QuotaScope {
	used := slices.DeleteFunc(slices.Clone(scopes), func(s *weirv1.QuotaScope) bool {
		return s.GetTracesUsed() == 0 && s.GetTracesOthers() == 0 && s.GetTracesReserved() == 0 &&
			s.GetTracesHeld() == 0 && s.GetTracesDropped() == 0 && s.GetRefusedReason() == "" && len(s.GetReleases()) == 0
	})
	if len(used) == 0 {
		return scopes
	}
	return used
}

// writeQuota prints the quota for a person.
func writeQuota(con *console, q *weirv1.GetQuotaResponse, all bool) {
	if len(q.GetScopes()) == 0 {
		fmt.Fprintln(con.Out, "No traces yet this month.")
		return
	}
	scopes := q.GetScopes()
	if !all {
		scopes = inUse(scopes)
	}
	for i, s := range scopes {
		if i > 0 {
			fmt.Fprintln(con.Out)
		}
		writeScope(con, s)
	}
	if more := len(q.GetScopes()) - len(scopes); more > 0 {
		fmt.Fprintf(con.Out, "\n%s without traces this month: `weir quota --all` shows them\n", plural(int64(more), "account", "accounts"))
	}
}

func writeScope(con *console, s *weirv1.QuotaScope) {
	fmt.Fprintln(con.Out, paint(oneLine(s.GetAccount(), maxAccount), bold, con.OutColor))
	if s.TracesLimit != nil {
		fmt.Fprintln(con.Out, gauge(s, con.OutColor))
	}
	con.say("", quotaSentence(s), plain)
	if s.GetRefusedReason() != "" {
		con.say("", refusedSentence(s), red)
	}
	if s.GetProjectedCostUsd() > 0 {
		at := "Beyond what the plan includes, the month will cost"
		if s.ProjectedTraces == nil {
			at = "Beyond what the plan includes, the month has cost"
		}
		con.say("", fmt.Sprintf("%s about $%.2f at the configured price.", at, s.GetProjectedCostUsd()), plain)
	}
	if s.GetProvisional() {
		con.say("", "The workspace of this key is not known yet; until it is, the account shares its limit with the others of this upstream.", plain)
	}
	for _, r := range s.GetReleases() {
		con.say("", "To be released: "+releaseNote(r)+".", plain)
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
	limit := int64(s.GetTracesLimit())
	percent := percentOf(taken(s), limit)
	drawn := partOf(s).bar(gaugeWidth, fillStyle(percent), color)
	text := fmt.Sprintf("%s %d %%  %s of %s used", drawn, percent, humanCount(int64(s.GetTracesUsed())), humanCount(limit))
	if s.GetTracesReserved() > 0 {
		text += fmt.Sprintf(", %s on their way", humanCount(int64(s.GetTracesReserved())))
	}
	return text
}

// part is what is done of all, and what is about to be.
type part struct{ done, soon, all int64 }

// bar draws a part in so many cells.
func (p part) bar(cells int, s style, color bool) string {
	full := barCells(p.done, p.all, cells)
	half := barCells(p.done+p.soon, p.all, cells) - full
	if half == 0 && p.soon > 0 && full > 0 && full == cells {
		full, half = full-1, 1
	}
	return paint(strings.Repeat("█", full), s, color) + paint(strings.Repeat("▒", half), s, color) +
		paint(strings.Repeat("░", cells-full-half), dim, color)
}

// partOf is what an account has taken of its limit.
func partOf(s *weirv1.QuotaScope) part {
	return part{done: int64(s.GetTracesUsed()), soon: int64(s.GetTracesReserved()), all: int64(s.GetTracesLimit())}
}

// barCells is how much of a bar n fills: something if n is more than nothing,
// and all of it only if n is all.
func barCells(n, all int64, cells int) int {
	switch {
	case n >= all:
		return cells
	case n <= 0:
		return 0
	default:
		return int(min(max((n*int64(cells)+all/2)/all, 1), int64(cells)-1))
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
func writeQuotaLines(con *console, q *weirv1.GetQuotaResponse, all bool) {
	scopes, shown := q.GetScopes(), len(q.GetScopes())
	if !all {
		scopes = inUse(scopes)
		shown = min(len(scopes), maxQuotaLines)
	}
	for _, s := range scopes[:shown] {
		fmt.Fprintln(con.Out, quotaLine(con, s, len(scopes) > 1))
	}
	if more := len(scopes) - shown; more > 0 {
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
