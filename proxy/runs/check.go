package runs

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Check tells what LangSmith is known to demand of an operation and this one
// lacks. Known are the ids that batches need (LangSmith SDK, client.py
// _validate_multipart_ingest) and the rules of dotted_order for which refusals
// of the service were published; nobody could verify them against the live
// service. What is only likely to be refused passes: a run without a name, say,
// or one whose time is before its parent's. Whether to refuse an operation or
// to let LangSmith do it is up to the caller.
//
// The error is a *ProblemError. It costs one pass over the Body of a run.
func (op *Op) Check() error {
	c := check{op}
	if op.Kind == Call {
		return c.call()
	}
	if op.ID.IsZero() {
		return c.problem(memberID, "it is missing")
	}
	switch op.Kind {
	case Create, Update:
		return c.run()
	case Feedback:
		if op.Trace.IsZero() {
			return c.problem(memberTrace, "it is missing; only a feedback that names its trace can go with others")
		}
	case Attachment:
		if op.Name == "" || strings.Contains(op.Name, ".") {
			return c.problem("attachment", fmt.Sprintf("its name is %.60q; it must be neither empty nor hold a dot", op.Name))
		}
	case Call:
	default:
		return c.problem("", fmt.Sprintf("there is no operation of kind %d", op.Kind))
	}
	return nil
}

type check struct{ op *Op }

func (c check) problem(field, detail string) error {
	p := &ProblemError{Field: field, Detail: detail}
	if !c.op.ID.IsZero() {
		p.Run = c.op.ID.String()
	}
	return p
}

func (c check) call() error {
	switch {
	case c.op.Method == "":
		return c.problem("method", "it is missing")
	case !strings.HasPrefix(c.op.Path, "/"):
		return c.problem("path", fmt.Sprintf("it is %.60q; it must begin with a slash", c.op.Path))
	}
	return nil
}

func (c check) run() error {
	if c.op.Trace.IsZero() {
		return c.problem(memberTrace, "it is missing")
	}
	run, err := ReadRun(c.op.Kind, c.op.Body)
	if err != nil {
		return err
	}
	switch {
	case !run.Op.ID.IsZero() && run.Op.ID != c.op.ID:
		return c.problem(memberID, fmt.Sprintf("it is %s in the run's object", run.Op.ID))
	case !run.Op.Trace.IsZero() && run.Op.Trace != c.op.Trace:
		return c.problem(memberTrace, fmt.Sprintf("it is %s in the run's object", run.Op.Trace))
	case run.DottedOrder == nil:
		return c.problem(memberDottedOrder, "it is missing")
	}
	return c.dottedOrder(&run)
}

// dottedOrder applies LangSmith's rules: segments of a time and a run's id,
// joined by dots, from the root to the run (LangSmith docs: run-data-format).
func (c check) dottedOrder(run *Run) error {
	var first, last, before ID // before: the one before the last
	n := 0
	for segment := range bytes.SplitSeq(run.DottedOrder, []byte{'.'}) {
		id, err := parseSegment(segment)
		if err != nil {
			return c.problem(memberDottedOrder, fmt.Sprintf("segment %d: %v", n, err))
		}
		if n == 0 {
			first = id
		}
		before, last = last, id
		n++
	}
	parent, err := ParseID(run.Parent)
	known := err == nil
	switch {
	case last != c.op.ID:
		return c.problem(memberDottedOrder, fmt.Sprintf("its last segment names %s, want the run's own id", last))
	case first != c.op.Trace:
		return c.problem(memberDottedOrder, fmt.Sprintf("its first segment names %s, want the trace_id %s", first, c.op.Trace))
	case run.Parent != nil && !known:
		return c.problem(memberParent, err.Error())
	case known && n == 1:
		return c.problem(memberDottedOrder, "it has one segment, want at least two for a run with a parent_run_id")
	case known && before != parent:
		return c.problem(memberDottedOrder, fmt.Sprintf("its last segment but one names %s, want the parent_run_id %s", before, parent))
	case run.Parent == nil && n > 1 && c.op.Kind == Create:
		return c.problem(memberDottedOrder, fmt.Sprintf("it has %d segments, want one for a run without a parent_run_id", n))
	}
	return nil
}

// segmentTime is the layout of a segment's time to the second; digits of the
// second's fraction follow it without a dot, six from the SDKs.
const segmentTime = "20060102T150405"

// parseSegment reads a segment and returns the id in it. How many digits a
// fraction may have is not known, so that up to nine pass.
func parseSegment(segment []byte) (ID, error) {
	at, id, found := bytes.Cut(segment, []byte{'Z'})
	if !found || len(at) < len(segmentTime) || len(at) > len(segmentTime)+9 {
		return ID{}, fmt.Errorf("%.80q is not a time like 20060102T150405000000Z and a run's id", segment)
	}
	if _, err := time.Parse(segmentTime, string(at[:len(segmentTime)])); err != nil {
		return ID{}, fmt.Errorf("%.40q is not a time like 20060102T150405000000Z", at)
	}
	for _, digit := range at[len(segmentTime):] {
		if digit < '0' || digit > '9' {
			return ID{}, fmt.Errorf("%.40q is not a time like 20060102T150405000000Z", at)
		}
	}
	return ParseID(id)
}
