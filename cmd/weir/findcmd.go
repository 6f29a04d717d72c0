package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
)

// findCmd is `weir find`.
type findCmd struct {
	TraceID string `arg:"" name:"trace-id" help:"Id of the trace (of its root run): a UUID, or 32 hexadecimal digits."`
	JSON    bool   `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

// findTimeout is more than the admin API takes for it.
const findTimeout = 40 * time.Second

func (c *findCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "find"
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	out, err := call.client.FindTrace(ctx, &weirv1.FindTraceRequest{TraceId: c.TraceID})
	switch {
	case connect.CodeOf(err) == connect.CodeInvalidArgument && err != nil:
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w", operation, cause(err))}
	case err != nil:
		return call.explain(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	writeFound(&inv.console, out)
	return nil
}

// traceStyles are the colours of what becomes of a trace.
var traceStyles = map[string]style{
	"pending": yellow, "held": yellow, "quarantined": red, "delivered": green, "passed_on": green, "dropped": red, "discarded": red,
}

// writeFound prints where a trace is.
func writeFound(con *console, r *weirv1.FindTraceResponse) {
	id := oneLine(r.GetTraceId(), maxName)
	if len(r.GetPlaces()) == 0 {
		fmt.Fprintf(con.Out, "Nothing is known of trace %s.\n"+
			"It did not come through this weir, or under another id: a trace has the id of its root run.\n", id)
		return
	}
	now := con.now()
	fmt.Fprintln(con.Out, paint("trace "+id, bold, con.OutColor))
	rows := make([][]cell, 0, len(r.GetPlaces()))
	for _, p := range r.GetPlaces() {
		number := func(n uint32) string {
			if n == 0 {
				return ""
			}
			return strconv.FormatUint(uint64(n), 10)
		}
		items, until := "", ""
		if p.GetItems() > 0 {
			items = humanCount(int64(p.GetItems()))
			if p.GetItemsAtLeast() {
				items += "+"
			}
		}
		if isSet(p.GetUntil()) {
			until = inTime(now, p.GetUntil())
		}
		rows = append(rows, []cell{
			{text: strings.ReplaceAll(oneLine(p.GetState(), maxName), "_", " "), style: traceStyles[p.GetState()]},
			{text: items},
			{text: foundSince(now, p)},
			{text: number(p.GetLane())},
			{text: number(p.GetCase())},
			{text: oneLine(p.GetProject(), maxName)},
			{text: oneLine(p.GetReason(), maxName)},
			{text: until},
		})
	}
	writeTable(con.Out, []column{
		{title: "STATE"},
		{title: "ITEMS", right: true},
		{title: "SINCE"},
		{title: "LANE", right: true},
		{title: "CASE", right: true},
		{title: "PROJECT"},
		{title: "WHY"},
		{title: "NEXT"},
	}, rows, con.OutColor)
	for _, p := range r.GetPlaces() {
		if p.GetDetail() != "" {
			con.say(strings.ReplaceAll(oneLine(p.GetState(), maxName), "_", " ")+": ", oneLine(p.GetDetail(), maxSentence), plain)
		}
		if p.GetCase() != 0 {
			fmt.Fprintf(con.Out, "`weir quarantine show %d` shows the case in full.\n", p.GetCase())
		}
	}
}

// foundSince says since when, or when: to the second if this weir did it, else by
// the month in which it counted.
func foundSince(now time.Time, p *weirv1.TracePlace) string {
	switch {
	case isSet(p.GetSince()) && p.GetState() != "delivered" && p.GetState() != "discarded":
		return agoText(now, p.GetSince())
	case isSet(p.GetSince()):
		first, last := p.GetSince().AsTime().UTC(), p.GetLast().AsTime().UTC()
		text := first.Format("2006-01-02 15:04:05 UTC")
		if last.Sub(first) >= time.Second {
			text += " to " + last.Format("15:04:05")
		}
		return text
	case p.GetMonth() != "":
		return "in " + oneLine(p.GetMonth(), maxName)
	default:
		return ""
	}
}
