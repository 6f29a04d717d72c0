package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	weirv1 "weir/proto/weir/v1"
)

// watchJSON prints each message as a line of JSON.
type watchJSON struct {
	con  *console
	gone bool
}

func (v *watchJSON) show(m *weirv1.WatchResponse) error {
	if v.gone {
		v.gone = false
		fmt.Fprintln(v.con.Err, "weir: status: "+weirIsBack)
	}
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil { // protojson varies its spacing
		return err
	}
	line.WriteByte('\n')
	_, err = v.con.Out.Write(line.Bytes())
	return err
}

func (v *watchJSON) lost(why error) error {
	v.gone = true
	fmt.Fprintln(v.con.Err, "weir: status: "+weirWentAway(why))
	return nil
}

func (v *watchJSON) tick() error { return nil }
func (v *watchJSON) close()      {}

const weirIsBack = "weir is back"

func weirWentAway(why error) string {
	return fmt.Sprintf("weir went away (%s); trying again every second", oneLine(why.Error(), maxSentence))
}

// watchLines prints a line for each change.
type watchLines struct {
	con   *console
	state watched
	said  []fact
	gone  bool
}

// fact is one thing that is true of a weir, in words without times that pass.
type fact struct {
	key  string // what it is about
	text string // what to say when it becomes true
	same string // while this is the same, nothing has changed; empty: text
	ends string // what to say when it is not true any more; empty: nothing
}

func (v *watchLines) show(m *weirv1.WatchResponse) error {
	at := v.con.now()
	if m.GetTime() != nil {
		at = m.GetTime().AsTime()
	}
	if v.gone {
		v.gone = false
		if err := v.say(at, weirIsBack); err != nil {
			return err
		}
	}
	v.state.take(m)
	facts := v.state.facts()
	for _, text := range changes(v.said, facts) {
		if err := v.say(at, text); err != nil {
			return err
		}
	}
	v.said = facts
	return nil
}

func (v *watchLines) say(at time.Time, text string) error {
	_, err := fmt.Fprintf(v.con.Out, "%s %s\n", at.UTC().Format(time.RFC3339), text)
	return err
}

func (v *watchLines) lost(why error) error {
	v.gone = true
	return v.say(v.con.now(), weirWentAway(why))
}

func (v *watchLines) tick() error { return nil }
func (v *watchLines) close()      {}

// changes are the texts of facts that are new or different, and of those that
// ended.
func changes(before, after []fact) []string {
	known, still := make(map[string]string, len(before)), make(map[string]bool, len(after))
	for _, f := range before {
		known[f.key] = cmp.Or(f.same, f.text)
	}
	var texts []string
	for _, f := range after {
		still[f.key] = true
		if known[f.key] != cmp.Or(f.same, f.text) {
			texts = append(texts, f.text)
		}
	}
	for _, f := range before {
		if !still[f.key] && f.ends != "" {
			texts = append(texts, f.ends)
		}
	}
	return texts
}

// facts are what a person would want to know, the whole first.
func (w *watched) facts() []fact {
	counts := countsText(w.status.GetTotals())
	items := fact{key: "items", text: "items: " + counts, same: counts}
	if flow := flowText(w.status, w.backlog()); flow != "" {
		items.text += "; " + flow
	}
	facts := []fact{{key: "version", text: "weir " + oneLine(w.status.GetVersion(), maxName) + " runs"}, items}
	add := func(key, text, ends string) { facts = append(facts, fact{key: key, text: text, ends: ends}) }
	if w.status.GetDraining() {
		add("draining", "draining: no new data is taken", "not draining any more: new data is taken")
	}
	if why := w.status.GetDisk().GetRefusing(); why != "" {
		add("refusing", "refusing exports: "+oneLine(why, maxSentence), "exports are taken again")
	}
	if why := w.status.GetUpstream().GetWaitingReason(); why != "" {
		add("upstream", "upstream waits: "+oneLine(why, maxNote), "upstream is sent to again")
	}
	plainConsole := &console{}
	for _, s := range w.accounts() {
		add("quota "+s.GetAccount(), quotaLine(plainConsole, s, len(w.scopes) > 1), "")
	}
	for _, l := range w.stuck() {
		state, _ := laneState(l.GetState())
		parts := []string{fmt.Sprintf("lane %d is %s", l.GetId(), state)}
		for _, part := range []string{l.GetReason(), l.GetLastError()} {
			if part != "" {
				parts = append(parts, oneLine(part, maxNote))
			}
		}
		add(fmt.Sprintf("lane %d", l.GetId()), strings.Join(parts, ", "), fmt.Sprintf("lane %d goes on", l.GetId()))
	}
	// Of more than a hundred cases, not all are told; one that is missing may be open.
	counted := w.status.GetCaseCounts().GetCases()
	for _, c := range w.openCases() {
		ends := ""
		if int(counted) <= len(w.cases) {
			ends = fmt.Sprintf("case %d is closed", c.GetId())
		}
		add(fmt.Sprintf("case %d", c.GetId()), fmt.Sprintf("case %d: %s, %s", c.GetId(), oneLine(c.GetCause(), maxName), caseState(c).text), ends)
	}
	for _, p := range w.status.GetProblems() {
		p = oneLine(p, maxSentence)
		add("problem "+p, "needs a person: "+p, "mended: "+p)
	}
	return facts
}

// countsText is how many items are where.
func countsText(t *weirv1.Totals) string {
	var parts []string
	for _, part := range []struct {
		n    int64
		name string
		also bool // name it when there is none, too
	}{
		{t.GetAcceptedItems(), "accepted", true},
		{t.GetDeliveredItems(), "delivered", true},
		{t.GetPendingItems(), "pending", true},
		{t.GetHeldItems(), "held", false},
		{t.GetQuarantinedItems(), "quarantined", false},
		{t.GetDroppedItems(), "dropped", false},
	} {
		if part.n > 0 || part.also {
			parts = append(parts, humanCount(part.n)+" "+part.name)
		}
	}
	return strings.Join(parts, ", ")
}
