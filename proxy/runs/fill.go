package runs

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// Placed is where a run belongs.
type Placed struct {
	ID, Trace   ID
	DottedOrder string

	// Project and ProjectID are what the run said of its project; empty where
	// it said nothing, or nobody remembered it.
	Project, ProjectID string
}

// Draft is what a caller said of a run and its place. What is zero it did not
// say.
type Draft struct {
	ID, Trace, Parent ID
	DottedOrder       string
	StartTime         time.Time

	Project, ProjectID string
}

// Filler completes drafts. Its methods change nothing but the draft.
type Filler struct {
	// Now is the time of a run that does not say when it started.
	Now time.Time
	// Random is where new ids come from.
	Random io.Reader
	// Find returns where an earlier run belongs.
	Find func(ID) (Placed, bool)
}

// Create completes a new run: its start, its id, and its place, by its own
// dotted_order, its parent's, or as a root. placed is false where the parent is
// not known, and with it the place: LangSmith then finds it for a run that is
// created by a call of its own (LangSmith docs: trace-with-api). A child that
// names no project is given its parent's.
//
// A run that says no start has that of its dotted_order, or the one that it had
// when it came before, so that its children still fit when it is sent again. In
// a dotted_order that is made here no run begins before its parent, because
// LangSmith refuses that (langsmith-sdk issue 2236).
//
// The error is a *ProblemError.
func (f *Filler) Create(d *Draft) (placed bool, err error) {
	if d.StartTime.IsZero() {
		d.StartTime = f.start(d)
	}
	if d.DottedOrder != "" {
		if err := d.readOrder(); err != nil {
			return false, err
		}
		if parent, ok := f.Find(d.Parent); ok {
			d.inherit(&parent)
		}
		return true, nil
	}
	if d.ID.IsZero() {
		if d.ID, err = NewID(d.StartTime, f.Random); err != nil {
			return false, &ProblemError{Field: memberID, Detail: err.Error()}
		}
	}
	if d.Parent.IsZero() {
		if !d.Trace.IsZero() && d.Trace != d.ID {
			return false, d.problem(memberTrace, fmt.Sprintf("it is %s; a run without a parent_run_id is a root, whose trace_id is its id", d.Trace))
		}
		d.Trace, d.DottedOrder = d.ID, orderSegment(d.StartTime, d.ID)
		return true, nil
	}
	if d.Parent == d.ID {
		return false, d.problem(memberParent, "it is the run's own id")
	}
	parent, ok := f.Find(d.Parent)
	switch {
	case !ok:
		return false, nil
	case !d.Trace.IsZero() && d.Trace != parent.Trace:
		return false, d.problem(memberTrace, fmt.Sprintf("it is %s, want the parent's, %s", d.Trace, parent.Trace))
	}
	began := lastStart(parent.DottedOrder)
	if began.Before(d.StartTime) {
		began = d.StartTime
	}
	d.Trace, d.DottedOrder = parent.Trace, parent.DottedOrder+"."+orderSegment(began, d.ID)
	d.inherit(&parent)
	return true, nil
}

// start is when a run began that does not say so.
func (f *Filler) start(d *Draft) time.Time {
	order := d.DottedOrder
	if known, ok := f.Find(d.ID); ok && order == "" {
		order = known.DottedOrder
	}
	if at := lastStart(order); !at.IsZero() {
		return at
	}
	return f.Now
}

// inherit puts a run that names no project into its parent's.
func (d *Draft) inherit(parent *Placed) {
	if d.Project == "" && d.ProjectID == "" {
		d.Project, d.ProjectID = parent.Project, parent.ProjectID
	}
}

// Update completes the change of a run, which has to name it. placed is false
// where the run's place is not known: the update has to be a call of its own.
//
// The error is a *ProblemError.
func (f *Filler) Update(d *Draft) (placed bool, err error) {
	if d.DottedOrder != "" {
		return true, d.readOrder()
	}
	if d.ID.IsZero() {
		return false, d.problem(memberID, "it is missing, and an update has to name its run")
	}
	known, ok := f.Find(d.ID)
	switch {
	case !ok:
		return false, nil
	case !d.Trace.IsZero() && d.Trace != known.Trace:
		return false, d.problem(memberTrace, fmt.Sprintf("it is %s, want that of the run's create, %s", d.Trace, known.Trace))
	}
	d.Trace, d.DottedOrder = known.Trace, known.DottedOrder
	return true, nil
}

// readOrder takes from the dotted_order what else was not said.
func (d *Draft) readOrder() error {
	var first, before, last ID
	n := 0
	for segment := range strings.SplitSeq(d.DottedOrder, ".") {
		id, err := parseSegment([]byte(segment))
		if err != nil {
			return d.problem(memberDottedOrder, fmt.Sprintf("segment %d: %v", n, err))
		}
		if n == 0 {
			first = id
		}
		before, last = last, id
		n++
	}
	if d.ID.IsZero() {
		d.ID = last
	}
	if d.Trace.IsZero() {
		d.Trace = first
	}
	if d.Parent.IsZero() {
		d.Parent = before
	}
	return nil
}

func (d *Draft) problem(field, detail string) error {
	p := &ProblemError{Field: field, Detail: detail}
	if !d.ID.IsZero() {
		p.Run = d.ID.String()
	}
	return p
}

// orderSegment is a run's own segment of its dotted_order. Years that have not
// four digits cannot be written; callers keep to 1 to 9999.
func orderSegment(at time.Time, id ID) string {
	text := at.UTC().Format(rootOrderTime)
	return text[:len(segmentTime)] + text[len(segmentTime)+1:] + "Z" + id.String()
}

// lastStart is the time in the last segment of a dotted_order, zero if there is
// none.
func lastStart(order string) time.Time {
	at, _, _ := strings.Cut(order[strings.LastIndexByte(order, '.')+1:], "Z")
	if len(at) < len(segmentTime) {
		return time.Time{}
	}
	// A fraction of any length is read after seconds, but only behind a dot.
	start, err := time.Parse(segmentTime, at[:len(segmentTime)]+strings.TrimSuffix("."+at[len(segmentTime):], "."))
	if err != nil {
		return time.Time{}
	}
	return start
}

// NewID makes a UUID of version 7 (RFC 9562, 5.7): a time in milliseconds, and
// 74 bits from random. A time before 1970 counts as that year's start, so that
// the rest still makes the id unique.
func NewID(at time.Time, random io.Reader) (ID, error) {
	var id ID
	if _, err := io.ReadFull(random, id[6:]); err != nil {
		return ID{}, fmt.Errorf("make an id: %w", err)
	}
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(0, at.UnixMilli())))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// EachMember calls fn for each member of a JSON object, in order, without
// decoding any. Values refer to object. It returns fn's first error, or that
// object is none.
func EachMember(object []byte, fn func(name string, value []byte) error) error {
	return eachMember(object, func(m member) error { return fn(string(m.name), m.value) })
}
