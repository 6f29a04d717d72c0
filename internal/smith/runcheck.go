package smith

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// kinds is a set of JSON kinds.
type kinds uint8

const (
	kindString kinds = 1 << iota
	kindNumber
	kindObject
	kindArray
	kindBool
	kindNull
)

// kindOf returns the kind of a valid JSON value, and its name in the service's
// schema errors.
func kindOf(raw json.RawMessage) (kind kinds, name string) {
	switch raw[0] {
	case '"':
		return kindString, "string"
	case '{':
		return kindObject, "object"
	case '[':
		return kindArray, "array"
	case 't', 'f':
		return kindBool, "boolean"
	case 'n':
		return kindNull, "null"
	default:
		return kindNumber, "number"
	}
}

// memberRule is what a member of a run must be.
type memberRule struct {
	name string
	want kinds
	uuid bool // a string must be one
}

// runSchema is what is known of the service's schema of a run (LangSmith API
// reference: run ingestion; observed SDK payloads). What it does not name may
// be anything.
var runSchema = []memberRule{
	{name: "id", want: kindString, uuid: true},
	{name: "trace_id", want: kindString | kindNull, uuid: true},
	{name: "dotted_order", want: kindString | kindNull},
	{name: "parent_run_id", want: kindString | kindNull, uuid: true},
	{name: "session_id", want: kindString | kindNull, uuid: true},
	{name: "reference_example_id", want: kindString | kindNull, uuid: true},
	{name: "session_name", want: kindString | kindNull},
	{name: "name", want: kindString | kindNull},
	{name: "run_type", want: kindString | kindNull},
	{name: "start_time", want: kindString | kindNumber | kindNull},
	{name: "end_time", want: kindString | kindNumber | kindNull},
	{name: "inputs", want: kindObject | kindNull},
	{name: "outputs", want: kindObject | kindNull},
	{name: "extra", want: kindObject | kindNull},
	{name: "serialized", want: kindObject | kindNull},
	{name: "events", want: kindArray | kindNull},
	{name: "tags", want: kindArray | kindNull},
	{name: "error", want: kindString | kindNull},
	{name: "status", want: kindString | kindNull},
}

// checkSchema finds the first member that is not what it must be. The words
// are those of the JSON schema library that the service's published errors
// come from.
func checkSchema(o Object, required ...string) error {
	for _, name := range required {
		if isNull(o.Get(name)) {
			return fmt.Errorf(": %s is required", name)
		}
	}
	for _, rule := range runSchema {
		raw := o.Get(rule.name)
		if len(raw) == 0 {
			continue
		}
		kind, name := kindOf(raw)
		ok := kind&rule.want != 0
		if ok && kind == kindString && rule.uuid {
			ok = isUUID(o.Text(rule.name))
		}
		switch {
		case ok:
		case rule.uuid && rule.want&kindNull != 0:
			return fmt.Errorf(".%s: Must validate one and only one schema (oneOf)", rule.name)
		case rule.uuid:
			return fmt.Errorf(".%s: Does not match format 'uuid'", rule.name)
		default:
			return fmt.Errorf(".%s: Invalid type. Expected: %s, given: %s", rule.name, expected(rule.want), name)
		}
	}
	return nil
}

// expected lists kinds as a schema error does.
func expected(want kinds) string {
	var names []string
	for _, k := range []struct {
		kind kinds
		name string
	}{
		{kindString, "string"},
		{kindNumber, "number"},
		{kindObject, "object"},
		{kindArray, "array"},
		{kindNull, "null"},
	} {
		if want&k.kind != 0 {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, "/")
}

// requiredOf are the members that a post or patch must have in a batch; a
// patch says what changed and where the run belongs.
func requiredOf(kind OpKind) []string {
	if kind == OpPatch {
		return []string{"id", "trace_id", "dotted_order"}
	}
	return []string{"id", "trace_id", "dotted_order", "name", "run_type", "start_time"}
}

// runOp makes an operation of a post or patch whose schema was checked.
func runOp(kind OpKind, o Object) (op, error) {
	out := op{kind: kind, object: o, dotted: o.Text("dotted_order")}
	out.id, _ = parseUUID(o.Text("id"))
	out.trace, _ = parseUUID(o.Text("trace_id"))
	out.parent, _ = parseUUID(o.Text("parent_run_id"))
	if out.id == (RunID{}) || out.trace == (RunID{}) && o.Text("trace_id") != "" {
		return out, unprocessable("the zero UUID names no run and no trace")
	}
	for _, name := range []string{"start_time", "end_time"} {
		if raw := o.Get(name); !isNull(raw) {
			if _, err := parseTime(raw); err != nil {
				return out, unprocessable("%s %v", name, err)
			}
		}
	}
	if out.dotted != "" {
		// An update that does not mention its parent says nothing about it.
		silent := kind == OpPatch && o.Get("parent_run_id") == nil
		if err := checkDotted(&out, silent); err != nil {
			return out, &refusal{http.StatusBadRequest, err.Error()}
		}
	}
	return out, nil
}

// checkDotted holds a run's dotted_order against its ids. All sentences but
// those about the run's and the parent's place are the service's own
// (langsmith-sdk 751, 2236; litellm 7140, 37269; langsmith-java 81).
func checkDotted(o *op, silent bool) error {
	parent := "<nil>"
	if o.parent != (RunID{}) {
		parent = o.parent.String()
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("invalid 'dotted_order': %.1000s for run_id:%s trace_id:%s dotted_order:%.4000s parent_run_id:%s",
			fmt.Sprintf(format, args...), o.id, o.trace, o.dotted, parent)
	}
	const maxDepth = 10_000 // the service's own bound is not published
	if strings.Count(o.dotted, ".") >= maxDepth {
		return fail("dotted_order has more than %d parts", maxDepth)
	}
	var chain []segment
	for text := range strings.SplitSeq(o.dotted, ".") {
		next, err := parseSegment(text)
		if err != nil {
			return fail("%s at index %d%s", err.head, len(chain), err.tail)
		}
		if n := len(chain); n > 0 && next.at.Before(chain[n-1].at) {
			return fail("dotted_order has timestamp %s earlier than parent timestamp %s", next.stamp, chain[n-1].stamp)
		}
		chain = append(chain, next)
	}
	last := len(chain) - 1
	switch {
	case o.parent == (RunID{}) && last > 0 && !silent:
		return fail("dotted_order must contain a single part for root runs")
	case o.parent != (RunID{}) && last == 0:
		return fail("dotted_order must contain at least two parts for child runs")
	case chain[0].id != o.trace:
		return fail("trace_id does not match first part of dotted_order")
	case chain[last].id != o.id:
		return fail("run_id does not match last part of dotted_order")
	case o.parent != (RunID{}) && chain[last-1].id != o.parent:
		return fail("parent_run_id does not match second to last part of dotted_order")
	}
	return nil
}

// segment is one run in a dotted_order.
type segment struct {
	stamp string
	at    time.Time
	id    RunID
}

// segmentError is what is wrong with a segment; its place goes in between.
type segmentError struct{ head, tail string }

// dottedStamp is the form of a segment's time, with the dot that Go needs.
const dottedStamp = "20060102T150405.000000Z"

// parseSegment reads a time and an id: YYYYMMDDTHHMMSSffffffZ, then a UUID with
// hyphens (LangSmith docs: run-data-format).
func parseSegment(text string) (segment, *segmentError) {
	const wholeLen = len("20060102T150405")
	const idLen = 36
	z := strings.IndexByte(text, 'Z')
	if z < 0 {
		return segment{}, &segmentError{"invalid part in dotted_order " + text, ": no timestamp"}
	}
	out := segment{stamp: text[:z+1]}
	pointed := out.stamp
	if z > wholeLen {
		pointed = out.stamp[:wholeLen] + "." + out.stamp[wholeLen:]
	}
	at, err := time.Parse(dottedStamp, pointed)
	if err != nil {
		return segment{}, &segmentError{"invalid timestamp in dotted_order " + out.stamp, ": " + err.Error()}
	}
	id, ok := parseUUID(text[z+1:])
	if !ok || len(text)-z-1 != idLen {
		return segment{}, &segmentError{"invalid run id in dotted_order " + text[z+1:], ": not a UUID"}
	}
	out.at, out.id = at, id
	return out, nil
}

// parseTime reads a run's time: ISO 8601, with a zone or without, or epoch
// milliseconds, as the JS SDK sends for an end. It lies in the years 0 to 9999.
func parseTime(raw json.RawMessage) (time.Time, error) {
	var at time.Time
	if raw[0] != '"' {
		var ms float64
		const most = 1 << 53 // beyond, milliseconds are not exact
		if json.Unmarshal(raw, &ms) != nil || ms > most || ms < -most {
			return at, errors.New("int too big to convert")
		}
		at = time.UnixMicro(int64(ms * 1000)).UTC()
	} else {
		var text string
		err := json.Unmarshal(raw, &text)
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00"} {
			if at, err = time.Parse(layout, text); err == nil {
				break
			}
		}
		if err != nil {
			return at, errors.New("must be an ISO 8601 timestamp")
		}
	}
	if year := at.UTC().Year(); year < 0 || year > 9999 {
		return at, errors.New("int too big to convert")
	}
	return at, nil
}

// checkRunWindow refuses the first run that started too far from now.
func checkRunWindow(ops []op, now time.Time) error {
	for i := range ops {
		raw := ops[i].object.Get("start_time")
		if ops[i].kind > OpPatch || isNull(raw) {
			continue
		}
		start, err := parseTime(raw)
		if err != nil {
			continue // refused before
		}
		if d := now.Sub(start); d > startWindow || d < -startWindow {
			return fmt.Errorf("%w: run %s started %s", errOutOfWindow, ops[i].id, start.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
