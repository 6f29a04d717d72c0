package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

const emptyQuarantine = "Quarantine is empty."

// caseStates are the states of cases, as they are shown.
var caseStates = map[string]cell{
	"probing":      {text: "probing", style: yellow},
	"needs_person": {text: "needs a person", style: red},
	"releasing":    {text: "releasing", style: green},
}

func caseState(c *weirv1.QuarantineCase) cell {
	if s, ok := caseStates[c.GetState()]; ok {
		return s
	}
	return cell{text: oneLine(c.GetState(), maxName)}
}

// writeQuarantine prints the cases for a person.
func writeQuarantine(con *console, l *weirv1.ListCasesResponse) {
	if len(l.GetCases()) == 0 {
		fmt.Fprintln(con.Out, emptyQuarantine)
		return
	}
	now := con.now()
	rows := make([][]cell, 0, len(l.GetCases()))
	for _, c := range l.GetCases() {
		next, waiting, status := "", "", ""
		if isSet(c.GetNextProbe()) {
			next = inTime(now, c.GetNextProbe())
		}
		if c.GetWaitingItems() > 0 {
			waiting = humanCount(int64(c.GetWaitingItems()))
		}
		if c.GetHttpStatus() != 0 {
			status = strconv.Itoa(int(c.GetHttpStatus()))
		}
		rows = append(rows, []cell{
			{text: strconv.FormatUint(uint64(c.GetId()), 10)},
			{text: oneLine(c.GetCause(), maxName), style: red},
			{text: oneLine(c.GetConfidence(), maxName)},
			caseState(c),
			{text: humanCount(int64(c.GetItems()))},
			{text: traceCount(c)},
			{text: humanBytes(c.GetBytes())},
			{text: status},
			{text: agoText(now, c.GetFirstSeen())},
			{text: agoText(now, c.GetLastSeen())},
			{text: next},
			{text: waiting},
		})
	}
	writeTable(con.Out, []column{
		{title: "CASE", right: true},
		{title: "CAUSE"},
		{title: "SURE"},
		{title: "STATE"},
		{title: "ITEMS", right: true},
		{title: "TRACES", right: true},
		{title: "SIZE", right: true},
		{title: "HTTP", right: true},
		{title: "FIRST"},
		{title: "LAST"},
		{title: "NEXT TRY"},
		{title: "WAITING BEHIND IT", right: true},
	}, rows, con.OutColor)
	fmt.Fprintln(con.Out)
	for _, r := range remedies(l.GetCases()) {
		fmt.Fprintf(con.Out, "%s %s\n", paint(r.caseNames()+":", bold, con.OutColor), oneLine(r.text, maxSentence))
	}
	fmt.Fprintf(con.Out, "`weir quarantine show %d` shows one in full.\n", l.GetCases()[0].GetId())
}

func traceCount(c *weirv1.QuarantineCase) string {
	if c.GetTracesAtLeast() {
		return humanCount(int64(c.GetTraces())) + "+"
	}
	return humanCount(int64(c.GetTraces()))
}

func agoText(now time.Time, t *timestamppb.Timestamp) string {
	if !isSet(t) {
		return ""
	}
	return humanDuration(now.Sub(t.AsTime())) + " ago"
}

// plural is a count of things in words.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanCount(n) + " " + many
}

// writeCase prints one case in full.
func writeCase(con *console, r *weirv1.GetCaseResponse) {
	c := r.GetCase()
	title := fmt.Sprintf("Case %d: %s", c.GetId(), oneLine(c.GetCause(), maxName))
	fmt.Fprintf(con.Out, "%s (%s), %s\n", paint(title, bold, con.OutColor), oneLine(c.GetConfidence(), maxName),
		paint(caseState(c).text, caseState(c).style, con.OutColor))
	traces := plural(int64(c.GetTraces()), "trace", "traces")
	if c.GetTracesAtLeast() {
		traces = "at least " + traces
	}
	fmt.Fprintf(con.Out, "%s of %s, %s on disk", plural(int64(c.GetItems()), "item", "items"), traces, humanBytes(c.GetBytes()))
	if isSet(c.GetFirstSeen()) {
		fmt.Fprintf(con.Out, ", first refused %s, last %s", agoText(con.now(), c.GetFirstSeen()), agoText(con.now(), c.GetLastSeen()))
	}
	fmt.Fprintln(con.Out)
	fmt.Fprintln(con.Out, laneLine(c))
	section(con, "Traces", traceLines(c, r.GetTraceIds()))
	section(con, "Why", c.GetEvidence())
	section(con, "What to do", []string{c.GetRemedy()})
	var others []string
	for _, a := range c.GetAlternatives() {
		others = append(others, fmt.Sprintf("%s (%s): %s", a.GetCause(), a.GetConfidence(), a.GetRemedy()))
	}
	section(con, "It could also be", others)
	writeExchange(con, c, r.GetExchange())
	section(con, "Meanwhile", []string{meanwhile(con.now(), c)})
	section(con, "You can", nextSteps(c))
}

// laneLine says where the data came from.
func laneLine(c *weirv1.QuarantineCase) string {
	parts := []string{fmt.Sprintf("lane %d", c.GetLane())}
	for _, part := range [][2]string{
		{"", c.GetProtocol()}, {"key ", c.GetCredential()}, {"workspace ", c.GetWorkspace()}, {"project ", c.GetProject()},
	} {
		if part[1] != "" {
			parts = append(parts, part[0]+oneLine(part[1], maxName))
		}
	}
	return strings.Join(parts, ", ")
}

// section prints sentences under a head; nothing, if there are none.
func section(con *console, head string, sentences []string) {
	var lines []string
	for _, s := range sentences {
		if s = oneLine(s, 4*maxSentence); s != "" {
			lines = append(lines, "  "+s)
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(con.Out, "\n%s\n%s\n", paint(head, bold, con.OutColor), strings.Join(lines, "\n"))
	}
}

// writeExchange prints what was asked and answered.
func writeExchange(con *console, c *weirv1.QuarantineCase, x *weirv1.CaseExchange) {
	if x.GetMethod() == "" && c.GetHttpStatus() == 0 && x.GetError() == "" {
		return
	}
	var lines []string
	request := oneLine(x.GetMethod()+" "+x.GetUrl(), maxSentence)
	if x.GetSentBytes() > 0 {
		request += ", " + humanBytes(x.GetSentBytes())
	}
	if x.GetEncoding() != "" {
		request += " " + oneLine(x.GetEncoding(), maxName)
	}
	if isSet(x.GetTime()) {
		request += ", " + x.GetTime().AsTime().UTC().Format("2006-01-02 15:04:05 UTC")
	}
	if x.GetMethod() != "" {
		lines = append(lines, request)
	}
	answer := "no answer"
	if x.GetHttpStatus() != 0 {
		answer = fmt.Sprintf("HTTP %d", x.GetHttpStatus())
	}
	if x.GetElapsed().AsDuration() > 0 {
		answer += fmt.Sprintf(" after %s", x.GetElapsed().AsDuration().Round(time.Millisecond))
	}
	if x.GetRequestId() != "" {
		answer += ", request id " + oneLine(x.GetRequestId(), maxName)
	}
	lines = append(lines, answer)
	if x.GetError() != "" {
		lines = append(lines, x.GetError())
	}
	for _, h := range x.GetHeaders() {
		lines = append(lines, oneLine(h.GetName()+": "+h.GetValue(), maxSentence))
	}
	if x.GetResponse() != "" {
		lines = append(lines, x.GetResponse())
	}
	section(con, "The refusal", lines)
}

// meanwhile says what weir does by itself.
func meanwhile(now time.Time, c *weirv1.QuarantineCase) string {
	var text string
	switch c.GetState() {
	case "probing":
		text = "weir keeps the data and tries again by itself"
		if isSet(c.GetNextProbe()) {
			text += ", next " + inTime(now, c.GetNextProbe())
		}
		text += "; once LangSmith takes it, everything goes in order."
	case "releasing":
		text = "Somebody has released or discarded the case; that is being done."
	default:
		text = "weir keeps the data and does not send it again by itself. Other data goes on."
	}
	if n := int64(c.GetWaitingItems()); n > 0 {
		text += " Behind it, " + plural(n, "item waits", "items wait") + " in its lane."
	}
	return text
}

// nextSteps are the commands that go on from here.
func nextSteps(c *weirv1.QuarantineCase) []string {
	id := c.GetId()
	steps := []string{fmt.Sprintf("weir quarantine release %d               send it again now", id)}
	if !c.GetOwnKey() {
		steps = append(steps, fmt.Sprintf("weir quarantine release %d --as-own-key  send it under weir's own key", id))
	}
	return append(steps,
		fmt.Sprintf("weir quarantine export %d --out FILE     write it into a file that weir import takes back", id),
		fmt.Sprintf("weir quarantine discard %d               drop it for good", id))
}

// releasedSentence says what came of a release.
func releasedSentence(c *quarantineReleaseCmd, r *weirv1.ReleaseCasesResponse) string {
	if len(r.GetCases()) == 0 {
		return emptyQuarantine
	}
	cases := plural(int64(len(r.GetCases())), "case", "cases")
	text := plural(int64(r.GetItems()), "item", "items") + " of " + cases
	if c.DryRun {
		text += " would be sent again"
	} else {
		text += ": released, to be sent at once"
	}
	if c.AsOwnKey {
		text += " under weir's own key"
	}
	if n := int64(r.GetWaitingItems()); n > 0 {
		text += ", and " + plural(n, "item that waits", "items that wait") + " behind"
	}
	return text + "."
}

// discardSize says what a discard drops and frees.
func discardSize(r *weirv1.DiscardCasesResponse) string {
	freed := humanBytes(r.GetBytes())
	if r.GetBytesAtLeast() {
		freed = "at least " + freed
	}
	text := fmt.Sprintf("%s of %s (%s on disk", plural(int64(r.GetItems()), "item", "items"), plural(int64(len(r.GetCases())), "case", "cases"), freed)
	if r.GetAttachmentBytes() > 0 {
		text += ", " + humanBytes(r.GetAttachmentBytes()) + " of it attachments"
	}
	return text + ")"
}

// discardedSentence says what came of a discard.
func discardedSentence(c *quarantineDiscardCmd, r *weirv1.DiscardCasesResponse) string {
	switch {
	case len(r.GetCases()) == 0:
		return emptyQuarantine
	case c.DryRun:
		return discardSize(r) + " would be dropped for good."
	default:
		return discardSize(r) + ": dropped."
	}
}

// exportedSentence says what an export wrote.
func exportedSentence(path string, s *weirv1.ExportSummary) string {
	if s.GetCases() == 0 {
		return fmt.Sprintf("%s %s was not written.", emptyQuarantine, path)
	}
	text := fmt.Sprintf("%s of %s written to %s; nothing was changed. `weir import %s` takes them in again.",
		plural(int64(s.GetItems()), "item", "items"), plural(int64(s.GetCases()), "case", "cases"), path, path)
	if n := int64(s.GetUnreadableItems()); n > 0 {
		text += " " + plural(n, "item is", "items are") + " missing: they cannot be read from weir's disk."
	}
	return text
}
