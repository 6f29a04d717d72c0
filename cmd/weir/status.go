package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

// statusTimeout bounds one look at a running weir.
const statusTimeout = 10 * time.Second

// statusCmd is `weir status`.
type statusCmd struct {
	Watch bool `name:"watch" short:"w" help:"Show it live until Ctrl-C; where output is no terminal, a line for each change, or with --json each message of the admin API's Watch."`
	Check bool `name:"check" help:"Print problems only, and exit with 4 when something needs a person."`
	All   bool `name:"all" help:"Leave no lane, case or account out."`
	JSON  bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *statusCmd) run(ctx context.Context, inv *invocation) error {
	if c.Watch && c.Check {
		return &exitError{code: exitUsage, err: errors.New("status: --check looks once, and --watch does not end; give one of them")}
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	if c.Watch {
		return call.watch(ctx, &inv.console, c.JSON)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := call.client.GetStatus(ctx, &weirv1.GetStatusRequest{})
	if err != nil {
		return call.explain("status", err)
	}
	switch {
	case c.JSON:
		err = printProto(inv.Out, st)
	case c.Check:
		writeCheck(&inv.console, st)
	default:
		var q *weirv1.GetQuotaResponse
		if q, err = call.client.GetQuota(ctx, &weirv1.GetQuotaRequest{}); err != nil {
			return call.explain("status", err)
		}
		writeStatus(&inv.console, st, q, c.All)
	}
	if err != nil {
		return fmt.Errorf("status: writing the answer: %w", err)
	}
	if c.Check && len(st.GetProblems()) > 0 {
		return &exitError{code: exitNeedsPerson}
	}
	return nil
}

// printProto writes a message as protojson, with every field there so that a
// script need not know which are empty. Counts are strings, as protojson has
// it for 64-bit numbers. protojson varies its own spacing on purpose; the
// result is indented anew so that output is stable.
func printProto(w io.Writer, m proto.Message) error {
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	return printJSON(w, rawJSON(raw))
}

// rawJSON is JSON that is only re-indented.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// writeCheck prints the problems, one a line, or that there are none.
func writeCheck(con *console, st *weirv1.GetStatusResponse) {
	if len(st.GetProblems()) == 0 {
		fmt.Fprintln(con.Out, "ok")
		return
	}
	for _, p := range st.GetProblems() {
		fmt.Fprintln(con.Out, oneLine(p, maxSentence))
	}
}

// The widths to which texts from outside are cut.
const (
	maxSentence = 400
	maxName     = 40
	maxNote     = 60
)

// writeStatus prints the status for a person: all of it, or what matters most.
func writeStatus(con *console, st *weirv1.GetStatusResponse, q *weirv1.GetQuotaResponse, all bool) {
	now := con.now()
	fmt.Fprintf(con.Out, "%s %s, data in %s\n",
		paint("weir "+oneLine(st.GetVersion(), maxName), bold, con.OutColor),
		upSince(now, st.GetStartedAt()), oneLine(st.GetDataDir(), maxSentence))
	if st.GetDraining() {
		fmt.Fprintln(con.Out, paint("draining: no new data is taken", yellow, con.OutColor))
	}
	writeUpstream(con, st.GetUpstream(), now)
	writeDisk(con, st.GetDisk())
	fmt.Fprintln(con.Out)
	writeTotals(con, st.GetTotals())
	if text := flowText(st, hasBacklog(slices.Values(st.GetLanes()))); text != "" {
		fmt.Fprintln(con.Out, "flow: "+text)
	}
	if n := st.GetRestampedTraces(); n > 0 {
		fmt.Fprintf(con.Out, "restamped: %s since the start, for the start-time window\n", plural(n, "trace", "traces"))
	}
	writeQuotaLines(con, q, all)
	fmt.Fprintln(con.Out)
	writeLanes(con, st, all)
	writeCases(con, st, all)
	writeProblems(con, st.GetProblems())
}

func upSince(now time.Time, started *timestamppb.Timestamp) string {
	if !isSet(started) {
		return "running"
	}
	return "up " + humanDuration(now.Sub(started.AsTime()))
}

func isSet(t *timestamppb.Timestamp) bool {
	return t != nil && !t.AsTime().IsZero() && t.AsTime().Unix() != 0
}

func writeUpstream(con *console, up *weirv1.UpstreamStatus, now time.Time) {
	state := "nothing delivered yet"
	if isSet(up.GetLastDeliveredAt()) {
		state = "last delivery " + humanDuration(now.Sub(up.GetLastDeliveredAt().AsTime())) + " ago"
	}
	if reason := up.GetWaitingReason(); reason != "" {
		state += ", " + paint("waiting: "+oneLine(reason, maxNote), yellow, con.OutColor)
		if isSet(up.GetNextAttempt()) {
			state += ", next attempt " + inTime(now, up.GetNextAttempt())
		}
	}
	fmt.Fprintf(con.Out, "upstream %s: %s\n", oneLine(up.GetUrl(), maxSentence), state)
}

// inTime says when something is due.
func inTime(now time.Time, due *timestamppb.Timestamp) string {
	if wait := due.AsTime().Sub(now); wait >= time.Second {
		return "in " + humanDuration(wait)
	}
	return "now"
}

func writeDisk(con *console, d *weirv1.Disk) {
	fmt.Fprintf(con.Out, "disk %s of %s used, %s free\n",
		humanBytes(d.GetUsedBytes()), humanBytes(d.GetMaxBytes()), humanBytes(d.GetFreeBytes()))
	if d.GetRefusing() != "" {
		fmt.Fprintln(con.Out, paint("refusing exports: "+oneLine(d.GetRefusing(), maxSentence), red, con.OutColor))
	}
}

func writeTotals(con *console, t *weirv1.Totals) {
	columns := []column{{title: ""}}
	row := []cell{{text: "items"}}
	for _, count := range []struct {
		title string
		n     int64
		alarm style
	}{
		{"ACCEPTED", t.GetAcceptedItems(), plain},
		{"DELIVERED", t.GetDeliveredItems(), plain},
		{"PENDING", t.GetPendingItems(), plain},
		{"HELD", t.GetHeldItems(), yellow},
		{"QUARANTINED", t.GetQuarantinedItems(), red},
		{"DROPPED", t.GetDroppedItems(), red},
	} {
		s := plain
		if count.n != 0 {
			s = count.alarm
		}
		columns = append(columns, column{title: count.title, right: true})
		row = append(row, cell{text: humanCount(count.n), style: s})
	}
	writeTable(con.Out, columns, [][]cell{row}, con.OutColor)
	if reasons := droppedReasons(t.GetDroppedByReason()); reasons != "" {
		fmt.Fprintln(con.Out, "dropped: "+reasons)
	}
}

// writeLanes prints the lanes, those that are in trouble first.
func writeLanes(con *console, st *weirv1.GetStatusResponse, all bool) {
	if len(st.GetLanes()) == 0 {
		since := ""
		if isSet(st.GetStartedAt()) {
			since = " since " + st.GetStartedAt().AsTime().UTC().Format("2006-01-02 15:04:05 UTC")
		}
		fmt.Fprintf(con.Out, "No lanes yet: nothing was received%s.\n", since)
		return
	}
	columns := []column{
		{title: "LANE", right: true},
		{title: "PROTOCOL"},
		{title: "KEY"},
		{title: "WORKSPACE"},
		{title: "PROJECT"},
		{title: "STATE"},
		{title: "PENDING", right: true},
		{title: "SIZE", right: true},
		{title: "OLDEST", right: true},
		{title: "QUARANTINED", right: true},
		{title: "NOTE"},
	}
	lanes, rest := byImportance(st.GetLanes()), []*weirv1.Lane(nil)
	if !all && len(lanes) > maxLaneRows {
		lanes, rest = lanes[:maxLaneRows], lanes[maxLaneRows:]
	}
	rows := make([][]cell, 0, len(lanes))
	for _, lane := range lanes {
		rows = append(rows, laneRow(lane, con.now()))
	}
	writeTable(con.Out, columns, rows, con.OutColor)
	if len(rest) > 0 {
		fmt.Fprintf(con.Out, "%s: %s; `weir status --all` shows them\n", andMore(int64(len(rest)), "lane", "lanes"), laneSummary(rest))
	}
}
