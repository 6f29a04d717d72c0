package main

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	weirv1 "weir/proto/weir/v1"
)

// Escape sequences of terminals (ECMA-48; the alternate screen is xterm's).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J" // and hide the cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	clearToEnd  = "\x1b[K" // of the line
	clearBelow  = "\x1b[J"
)

// watchScreen draws the state on the terminal, in place.
type watchScreen struct {
	con     *console
	state   watched
	entered bool
	gone    string    // why weir went away; empty: it is there
	since   time.Time // when it went
}

func (v *watchScreen) show(m *weirv1.WatchResponse) error {
	v.gone = ""
	v.state.take(m)
	return v.tick()
}

func (v *watchScreen) lost(why error) error {
	v.gone, v.since = oneLine(why.Error(), maxSentence), v.con.now()
	return v.tick()
}

// tick draws the screen anew.
func (v *watchScreen) tick() error {
	if v.state.status == nil {
		return nil
	}
	columns, height := screenSize(v.con.Out)
	if columns <= 0 || height <= 0 { // a terminal that does not tell
		columns, height = noTerminalWidth, 24
	}
	var b strings.Builder
	if !v.entered {
		v.entered = true
		b.WriteString(enterScreen)
	}
	b.WriteString(homeCursor)
	for i, line := range fitHeight(v.lines(columns), height, v.con.OutColor) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(cutLine(line, columns) + clearToEnd)
	}
	b.WriteString(clearBelow)
	_, err := v.con.Out.Write([]byte(b.String()))
	return err
}

// close leaves the screen, and the last picture below what was there before.
func (v *watchScreen) close() {
	if !v.entered {
		return
	}
	columns, _ := screenSize(v.con.Out)
	columns = cmp.Or(columns, noTerminalWidth)
	var b strings.Builder
	b.WriteString(leaveScreen)
	for _, line := range v.lines(columns) {
		b.WriteString(cutLine(line, columns) + "\r\n")
	}
	_, _ = v.con.Out.Write([]byte(b.String())) // the terminal is gone, or it is not
}

// fitHeight cuts lines to the height of the terminal, and says so.
func fitHeight(lines []string, height int, color bool) []string {
	if len(lines) <= height {
		return lines
	}
	more := len(lines) - height + 1
	return append(lines[:height-1:height-1], paint(fmt.Sprintf("… %s, see `weir status`", andMore(int64(more), "line", "lines")), dim, color))
}

// lines is the picture: what flows, what needs a person, what is stuck. What
// matters most comes first, for a terminal that is not high enough.
func (v *watchScreen) lines(columns int) []string {
	var out, head bytes.Buffer
	con := &console{Out: &head, OutColor: v.con.OutColor, columns: columns, now: v.con.now}
	st := v.state.status
	fmt.Fprintf(con.Out, "%s %s, data in %s\n", paint("weir "+oneLine(st.GetVersion(), maxName), bold, con.OutColor),
		upSince(con.now(), st.GetStartedAt()), oneLine(st.GetDataDir(), maxSentence))
	if v.gone != "" {
		fmt.Fprintln(con.Out, paint(fmt.Sprintf("weir went away %s ago (%s). This is what was seen last; trying again every second.",
			humanDuration(con.now().Sub(v.since)), v.gone), red, con.OutColor))
	}
	if st.GetDraining() {
		fmt.Fprintln(con.Out, paint("draining: no new data is taken", yellow, con.OutColor))
	}
	writeUpstream(con, st.GetUpstream(), con.now())
	writeDisk(con, st.GetDisk())
	con.Out = &out
	for line := range strings.Lines(head.String()) {
		con.say("", line, plain)
	}
	fmt.Fprintln(con.Out)
	v.state.writeFlow(con)
	v.state.writeGauges(con)
	v.state.writeProblems(con)
	fmt.Fprintln(con.Out)
	if columns < phoneColumns {
		con.say(watchTitle("items", con.OutColor), countsText(st.GetTotals()), plain)
	} else {
		writeTotals(con, st.GetTotals())
	}
	fmt.Fprintln(con.Out)
	v.state.writeStuck(con)
	return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
}

// The rows of the live view.
const (
	maxWatchRows     = 8 // of a table
	maxWatchAccounts = 3
	maxWatchProblems = 5
	watchTitleWidth  = 9
	narrowColumns    = 110 // below it tables have fewer columns
	phoneColumns     = 66  // below it there are no tables
)

func watchTitle(title string, color bool) string {
	return paint(fmt.Sprintf("%-*s", watchTitleWidth, title), dim, color)
}

// writeFlow prints how fast data moves, and how far a backlog is.
func (w *watched) writeFlow(con *console) {
	flow, pending := w.status.GetFlow(), w.status.GetTotals().GetPendingItems()
	text := fmt.Sprintf("%s in, %s out", rate(flow.GetAcceptedPerSecond()), rate(flow.GetDeliveredPerSecond()))
	if flow.GetSentBytesPerSecond() >= 1 {
		text += fmt.Sprintf(", %s/s sent", humanBytes(int64(flow.GetSentBytesPerSecond())))
	}
	con.say(watchTitle("flow", con.OutColor), text, plain)
	switch {
	case pending == 0:
		text = "none"
	case w.backlog() || w.status.GetDraining():
		done := w.peak - pending
		text = fmt.Sprintf("%s %d %%  %s left", part{done: done, all: w.peak}.bar(barWidth(con), green, con.OutColor),
			percentOf(done, w.peak), plural(pending, "item", "items"))
		if flow.GetDrainedIn() != nil {
			text += fmt.Sprintf(", %s, about %s to go", rate(flow.GetDeliveredPerSecond()), humanDuration(flow.GetDrainedIn().AsDuration()))
		} else {
			text += ", " + paint("does not shrink", yellow, con.OutColor)
		}
	default:
		text = plural(pending, "item", "items") + " on the way"
	}
	con.say(watchTitle("backlog", con.OutColor), text, plain)
}

// writeGauges prints the quota of the accounts in use.
func (w *watched) writeGauges(con *console) {
	accounts := w.accounts()
	for i, s := range accounts {
		if i == maxWatchAccounts {
			fmt.Fprintf(con.Out, "%s%s\n", watchTitle("", con.OutColor), andMore(int64(len(accounts)-i), "account", "accounts"))
			break
		}
		text := strings.TrimPrefix(quotaLine(con, s, len(accounts) > 1), "quota ")
		if s.TracesLimit != nil {
			style := fillStyle(percentOf(taken(s), int64(s.GetTracesLimit())))
			text = partOf(s).bar(barWidth(con), style, con.OutColor) + " " + text
		}
		if isSet(s.GetForecastExhaustedAt()) {
			text += ", they run out on " + day(s.GetForecastExhaustedAt().AsTime())
		}
		con.say(watchTitle("quota", con.OutColor), text, plain)
	}
}

// writeProblems prints the first of what needs a person.
func (w *watched) writeProblems(con *console) {
	problems := w.status.GetProblems()
	writeProblems(con, problems[:min(len(problems), maxWatchProblems)])
	if more := len(problems) - maxWatchProblems; more > 0 {
		fmt.Fprintf(con.Out, "  and %s more, see `weir status`\n", humanCount(int64(more)))
	}
}

// barWidth is the length of bars beside a text.
func barWidth(con *console) int { return min(max(con.width()/5, 5), 20) }

// writeStuck prints the lanes and cases that do not go on.
func (w *watched) writeStuck(con *console) {
	lanes, cases := w.stuck(), w.openCases()
	if len(lanes) == 0 && len(cases) == 0 {
		fmt.Fprintln(con.Out, paint("Nothing is stuck.", green, con.OutColor))
		return
	}
	if len(lanes) > 0 {
		writeRows(con, []column{
			{title: "LANE", right: true},
			{title: "STATE"},
			{title: "PENDING", right: true},
			{title: "OLDEST", right: true},
			{title: "REFUSED", right: true},
			{title: "KEY"},
			{title: "PROJECT"},
			{title: "NOTE"},
		}, lanes, watchLaneRow)
		writeMore(con, len(lanes)-maxWatchRows, "lane", "lanes")
	}
	if len(cases) == 0 {
		return
	}
	if len(lanes) > 0 {
		fmt.Fprintln(con.Out)
	}
	writeRows(con, []column{
		{title: "CASE", right: true},
		{title: "CAUSE"},
		{title: "STATE"},
		{title: "ITEMS", right: true},
		{title: "LAST"},
		{title: nextTry},
		{title: "WHAT TO DO"},
	}, cases, watchCaseRow)
	counted := max(int(w.status.GetCaseCounts().GetCases()), len(cases))
	writeMore(con, counted-min(len(cases), maxWatchRows), "case", "cases")
}

const nextTry = "NEXT TRY"

// writeRows prints the first of all as a table or, on a phone, as one sentence
// each.
func writeRows[T any](con *console, columns []column, all []T, row func(*console, T) []cell) {
	rows := make([][]cell, 0, maxWatchRows)
	for _, one := range all[:min(len(all), maxWatchRows)] {
		rows = append(rows, row(con, one))
	}
	if con.width() >= phoneColumns {
		writeTable(con.Out, columns, rows, con.OutColor)
		return
	}
	for _, cells := range rows {
		var parts []string
		for i, c := range cells[1:] {
			if c.text == "" {
				continue
			}
			text := paint(c.text, c.style, con.OutColor)
			switch title := columns[i+1].title; {
			case columns[i+1].right:
				text += " " + strings.ToLower(title)
			case title == nextTry:
				text = strings.ToLower(title) + " " + text
			}
			parts = append(parts, text)
		}
		con.say(strings.ToLower(columns[0].title)+" "+cells[0].text+" ", strings.Join(parts, ", "), plain)
	}
}

func writeMore(con *console, more int, one, many string) {
	if more > 0 {
		fmt.Fprintln(con.Out, paint(andMore(int64(more), one, many), dim, con.OutColor))
	}
}

func watchLaneRow(con *console, l *weirv1.Lane) []cell {
	state, color := laneState(l.GetState())
	row := []cell{
		{text: strconv.FormatUint(uint64(l.GetId()), 10)},
		{text: state, style: color},
		{text: humanCount(l.GetPendingItems())},
		{},
		{},
		{},
		{},
		{text: laneNote(l, con.now())},
	}
	if l.GetPendingItems() > 0 {
		row[3].text = humanDuration(l.GetOldestAge().AsDuration())
	}
	if l.GetQuarantinedItems() > 0 {
		row[4] = cell{text: humanCount(l.GetQuarantinedItems()), style: red}
	}
	if con.width() >= narrowColumns {
		row[5].text, row[6].text = oneLine(l.GetCredential(), maxName), oneLine(l.GetProject(), maxName/2)
	}
	return row
}

func watchCaseRow(con *console, c *weirv1.QuarantineCase) []cell {
	row := []cell{
		{text: strconv.FormatUint(uint64(c.GetId()), 10)},
		{text: oneLine(c.GetCause(), maxName), style: red},
		caseState(c),
		{text: humanCount(int64(c.GetItems()))},
		{},
		{},
		{text: oneLine(c.GetRemedy(), maxSentence)},
	}
	if con.width() >= narrowColumns {
		row[4].text = agoText(con.now(), c.GetLastSeen())
	}
	if isSet(c.GetNextProbe()) {
		row[5].text = inTime(con.now(), c.GetNextProbe())
	}
	return row
}
