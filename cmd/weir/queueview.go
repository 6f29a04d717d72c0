package main

import (
	"fmt"
	"strconv"
	"time"

	weirv1 "weir/proto/weir/v1"
)

// frameStyles are the colours of the states of frames.
var frameStyles = map[string]style{"pending": plain, "held": yellow, "quarantined": red}

func frameState(f *weirv1.QueueFrame) cell {
	if f.GetSending() {
		return cell{text: "sending", style: green}
	}
	return cell{text: oneLine(f.GetState(), maxName), style: frameStyles[f.GetState()]}
}

// numberText is n, or nothing for 0.
func numberText(n uint32) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

// writeFrames prints frames for a person.
func writeFrames(con *console, c *queueLsCmd, r *weirv1.ListFramesResponse) {
	if len(r.GetFrames()) == 0 {
		if c.filtered() {
			fmt.Fprintln(con.Out, "No frame matches.")
		} else {
			fmt.Fprintln(con.Out, "Nothing is on disk to be sent, held or in quarantine.")
		}
		return
	}
	now := con.now()
	rows := make([][]cell, 0, len(r.GetFrames()))
	var items, bytes int64
	for _, f := range r.GetFrames() {
		items += int64(f.GetItems())
		bytes += f.GetBytes()
		rows = append(rows, []cell{
			{text: oneLine(f.GetId(), maxName)},
			{text: numberText(f.GetLane())},
			frameState(f),
			{text: numberText(f.GetCase())},
			{text: agoText(now, f.GetAcceptedAt())},
			{text: humanCount(int64(f.GetItems()))},
			{text: humanCount(int64(f.GetTraces()))},
			{text: humanBytes(f.GetBytes())},
		})
	}
	writeTable(con.Out, []column{
		{title: "FRAME"},
		{title: "LANE", right: true},
		{title: "STATE"},
		{title: "CASE", right: true},
		{title: "ACCEPTED"},
		{title: "ITEMS", right: true},
		{title: "TRACES", right: true},
		{title: "SIZE", right: true},
	}, rows, con.OutColor)
	fmt.Fprintf(con.Out, "\n%s with %s, %s.", plural(int64(len(rows)), "frame", "frames"), plural(items, "item", "items"), humanBytes(bytes))
	if r.GetNextPageToken() != "" {
		fmt.Fprintf(con.Out, " There are more: --limit lists them.")
	}
	fmt.Fprintln(con.Out)
}

// shownTraces is how many traces of a frame a person is shown.
const shownTraces = 10

// writeFrame prints one frame.
func writeFrame(con *console, c *queueShowCmd, r *weirv1.GetFrameResponse) {
	f := r.GetFrame()
	state := frameState(f)
	title := paint("frame "+oneLine(f.GetId(), maxName), bold, con.OutColor)
	where := ""
	if f.GetCase() != 0 {
		where = fmt.Sprintf(" in case %d", f.GetCase())
	}
	fmt.Fprintf(con.Out, "%s, lane %d, %s%s\n", title, f.GetLane(), paint(state.text, state.style, con.OutColor), where)
	fmt.Fprintf(con.Out, "%s of %s, %s on disk, %s before compression\n", plural(int64(f.GetItems()), "item", "items"),
		plural(int64(f.GetTraces()), "trace", "traces"), humanBytes(f.GetBytes()), humanBytes(r.GetRawBytes()))
	if isSet(f.GetAcceptedAt()) {
		fmt.Fprintf(con.Out, "accepted %s, %s\n", agoText(con.now(), f.GetAcceptedAt()), f.GetAcceptedAt().AsTime().UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	var traces []string
	for i, id := range r.GetTraceIds() {
		if i == shownTraces {
			traces = append(traces, fmt.Sprintf("and %s more; --json shows up to 1,000", humanCount(int64(f.GetTraces())-shownTraces)))
			break
		}
		traces = append(traces, id)
	}
	section(con, "Traces", traces)
	if c.Content {
		fmt.Fprintf(con.Out, "\n%s\n", paint("Content", bold, con.OutColor))
		for _, line := range r.GetContent() {
			fmt.Fprintln(con.Out, printable(line))
		}
		if r.GetContentCut() {
			fmt.Fprintln(con.Out, "There is more that is not shown here.")
		}
		return
	}
	section(con, "You can", frameSteps(f))
}

// frameSteps are the commands that go on from a frame.
func frameSteps(f *weirv1.QueueFrame) []string {
	steps := []string{fmt.Sprintf("weir queue show %s --content  print what it holds", f.GetId())}
	switch {
	case f.GetCase() != 0:
		steps = append(steps, fmt.Sprintf("weir quarantine show %d  see why it is kept, and what to do", f.GetCase()))
	case f.GetState() == "held":
		steps = append(steps, "weir quota  see what it waits for")
	case f.GetState() == "pending" && !f.GetSending():
		steps = append(steps, fmt.Sprintf("weir queue discard %s  drop it for good", f.GetId()))
	}
	return steps
}

// writeDiskUse prints what takes the disk.
func writeDiskUse(con *console, r *weirv1.GetDiskUseResponse, lanes bool) {
	now := con.now()
	rows := make([][]cell, 0, len(r.GetUses())+1)
	var lost int64
	for _, u := range r.GetUses() {
		lost += u.GetDiscardableBytes()
		rows = append(rows, useRow(now, u))
	}
	total := cell{text: humanBytes(r.GetTotalBytes()), style: bold}
	rows = append(rows, []cell{{text: "total", style: bold}, {}, {}, total, {}, {}, {text: bytesText(lost)}, {}})
	writeTable(con.Out, []column{
		{title: "KIND"},
		{title: "COUNT", right: true},
		{title: "ITEMS", right: true},
		{title: "SIZE", right: true},
		{title: "AT MOST", right: true},
		{title: "OLDEST"},
		{title: "IF DISCARDED", right: true},
		{title: "FREED BY"},
	}, rows, con.OutColor)
	fmt.Fprintf(con.Out, "\nThe buffer may take %s. The file system has %s free; below %s weir refuses data.\n",
		humanBytes(r.GetMaxBytes()), humanBytes(r.GetFreeBytes()), humanBytes(r.GetMinFreeBytes()))
	if lost > 0 {
		fmt.Fprintln(con.Out, "What is discarded is lost for good. --dry-run says before what it would be.")
	}
	if lanes {
		writeLaneUse(con, r.GetLanes())
	}
}

// bytesText is a size, or nothing for 0.
func bytesText(n int64) string {
	if n == 0 {
		return ""
	}
	return humanBytes(n)
}

func useRow(now time.Time, u *weirv1.DiskUse) []cell {
	count, items := "", ""
	if u.GetCount() > 0 {
		count = humanCount(u.GetCount())
	}
	if u.GetItems() > 0 {
		items = humanCount(u.GetItems())
	}
	by := cell{text: oneLine(u.GetCommand(), maxName)}
	if u.GetKind() == "settled" && u.GetBytes() > 0 {
		by = cell{text: "weir, by itself", style: dim}
	}
	size := cell{text: humanBytes(u.GetBytes())}
	if u.GetMaxBytes() > 0 && u.GetBytes() > u.GetMaxBytes()*9/10 {
		size.style = red
	}
	return []cell{
		{text: oneLine(u.GetKind(), maxName)}, {text: count}, {text: items}, size, {text: bytesText(u.GetMaxBytes())},
		{text: agoText(now, u.GetOldestAt())}, {text: bytesText(u.GetDiscardableBytes())}, by,
	}
}

func writeLaneUse(con *console, lanes []*weirv1.LaneDiskUse) {
	fmt.Fprintln(con.Out)
	if len(lanes) == 0 {
		fmt.Fprintln(con.Out, "No lane has anything on disk.")
		return
	}
	rows := make([][]cell, 0, len(lanes))
	for _, l := range lanes {
		rows = append(rows, []cell{
			{text: numberText(l.GetLane())}, {text: bytesText(l.GetPendingBytes())}, {text: bytesText(l.GetHeldBytes())},
			{text: bytesText(l.GetQuarantinedBytes())}, {text: humanBytes(l.GetPendingBytes() + l.GetHeldBytes() + l.GetQuarantinedBytes())},
		})
	}
	writeTable(con.Out, []column{
		{title: "LANE", right: true},
		{title: "PENDING", right: true},
		{title: "HELD", right: true},
		{title: "QUARANTINED", right: true},
		{title: "ALL", right: true},
	}, rows, con.OutColor)
}

// framesSize says what a discard drops and frees.
func framesSize(r *weirv1.DiscardFramesResponse) string {
	return fmt.Sprintf("%s of %s (%s on disk)", plural(r.GetItems(), "item", "items"), plural(r.GetFrames(), "frame", "frames"), humanBytes(r.GetBytes()))
}

// discardedFrames says what came of a discard.
func discardedFrames(c *queueDiscardCmd, r *weirv1.DiscardFramesResponse) string {
	text := ""
	switch {
	case r.GetFrames() == 0:
		text = "No pending frame matches; nothing was dropped."
	case c.DryRun:
		text = framesSize(r) + " would be dropped for good."
	default:
		text = framesSize(r) + ": dropped."
	}
	if n := r.GetSendingFrames(); n > 0 {
		text += " " + plural(n, "frame that is being sent stays", "frames that are being sent stay") + "."
	}
	if n := int64(len(c.Frames)) - r.GetFrames() - r.GetSendingFrames(); n > 0 && r.GetFrames() > 0 {
		text += fmt.Sprintf(" %s of those named did not match: sent, dropped, kept in a case, or moved on disk.", humanCount(n))
	}
	return text
}
