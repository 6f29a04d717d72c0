package runs

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const memberEndTime = "end_time"

// What a run whose times were moved says about it, in extra.metadata.
const (
	// MetadataOriginalStart is when it started by what its caller said, UTC.
	MetadataOriginalStart = "weir_original_start_time"
	// MetadataRestampedBy is by how many seconds all of its times were moved.
	MetadataRestampedBy = "weir_restamped_by_seconds"
)

// Restamp returns op with its times moved by whole seconds: a run's start_time
// and end_time, the times in its events, and all those in its dotted_order
// (Create, Update), or the start_time of a feedback's run (Feedback). Others
// have none that are moved. Everything else stays byte by byte as it was, and
// so do fractions of seconds, zones and ids; inputs and outputs are not looked
// at. A shift of a trace as a whole thus keeps durations, order and tree.
//
// A run's original start and the shift are put into its extra.metadata, unless
// it is an update that says nothing of extra: what it said would replace what
// the create did.
//
// Moved by a and then by b, the times are the same as moved by a+b. The error
// is a *ProblemError: a time cannot be read or would be no time, and nothing
// says how the run could be moved consistently.
func (op *Op) Restamp(seconds int64) (Op, error) {
	out := *op
	switch op.Kind {
	case Create, Update, Feedback:
	default:
		return out, nil
	}
	var err error
	if out.Body, err = shiftMembers(op.Body, seconds, op.Kind != Feedback); err != nil {
		return Op{}, op.problem("", err)
	}
	if op.Kind == Feedback {
		return out, nil
	}
	if events := op.Fields[Events]; len(events) > 0 && !isNull(events) {
		if out.Fields[Events], err = shiftEvents(events, seconds); err != nil {
			return Op{}, op.problem(FieldNames[Events], err)
		}
	}
	span, err := op.Span()
	if err != nil {
		return Op{}, err
	}
	out.Fields[Extra] = noteShift(op.Fields[Extra], span.Start, seconds, op.Kind == Create)
	return out, nil
}

// problem says in the terms of the run what is wrong.
func (op *Op) problem(field string, err error) error {
	if known, ok := errors.AsType[*ProblemError](err); ok {
		known.Run = op.ID.String()
		if field != "" {
			known.Field = field + "." + known.Field
		}
		return known
	}
	return &ProblemError{Run: op.ID.String(), Field: field, Detail: err.Error()}
}

// splice is JSON in which some values are replaced, in the order they stand.
type splice struct {
	from []byte
	done int // of from
	out  []byte
}

// put replaces from[at:to].
func (s *splice) put(at, to int, text []byte) {
	if s.out == nil {
		s.out = make([]byte, 0, len(s.from)+len(text))
	}
	s.out = append(append(s.out, s.from[s.done:at]...), text...)
	s.done = to
}

// bytes is the result: from itself if nothing was replaced.
func (s *splice) bytes() []byte {
	if s.out == nil {
		return s.from
	}
	return append(s.out, s.from[s.done:]...)
}

// shiftMembers moves the times of a run's object, or of a feedback's.
func shiftMembers(object []byte, seconds int64, ofRun bool) ([]byte, error) {
	s := splice{from: object}
	d := newDecoder(object)
	defer d.release()
	if d.PeekKind() != '{' {
		return nil, errNoObject
	}
	err := d.members(func(name string, at, to int) error {
		known := name == memberStartTime || ofRun && (name == memberEndTime || name == memberDottedOrder)
		if !known {
			return nil
		}
		moved, err := shiftValue(object[at:to], seconds, name == memberDottedOrder)
		if err != nil {
			return &ProblemError{Field: name, Detail: err.Error()}
		}
		if moved != nil {
			s.put(at, to, moved)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.bytes(), nil
}

// shiftEvents moves the times of a run's events.
func shiftEvents(events []byte, seconds int64) ([]byte, error) {
	s := splice{from: events}
	d := newDecoder(events)
	defer d.release()
	if d.PeekKind() != '[' {
		return events, nil // LangSmith will say what is wrong with them
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	for d.PeekKind() != ']' {
		if d.PeekKind() != '{' {
			if err := d.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		err := d.members(func(name string, at, to int) error {
			if name != "time" {
				return nil
			}
			moved, err := shiftValue(events[at:to], seconds, false)
			if err != nil {
				return &ProblemError{Field: name, Detail: err.Error()}
			}
			if moved != nil {
				s.put(at, to, moved)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s.bytes(), nil
}

// members reads an object, which must be next, and calls fn with each name and
// where its value is in what is read.
func (d *decoder) members(fn func(name string, at, to int) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		to := int(d.InputOffset())
		if err := fn(name, to-len(value), to); err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // the object's end, or what is wrong with it
	return err
}

// shiftValue moves a JSON value that is a time, or a dotted_order; nil for null.
func shiftValue(value []byte, seconds int64, order bool) ([]byte, error) {
	switch kind := jsontext.Value(value).Kind(); {
	case kind == 'n':
		return nil, nil
	case kind == '0' && !order:
		return shiftMillis(value, seconds)
	case kind != '"':
		return nil, errTime
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return nil, errTime
	}
	shift := shiftText
	if order {
		shift = shiftSegments
	}
	moved, err := shift(text, seconds)
	if err != nil {
		return nil, err
	}
	return append(append(append(make([]byte, 0, len(moved)+2), '"'), moved...), '"'), nil
}

// noteShift says in a run's extra what was done. What is no object, as extra
// and its metadata are for LangSmith, is left as it is.
func noteShift(extra []byte, start time.Time, seconds int64, create bool) []byte {
	absent := len(extra) == 0 || isNull(extra)
	if absent && !create {
		return extra
	}
	if absent {
		extra = []byte(`{}`)
	}
	at, to, err := findMember(extra, "metadata")
	metadata := []byte(`{}`)
	if err == nil && to > 0 && !isNull(extra[at:to]) {
		metadata = extra[at:to]
	}
	if err == nil {
		metadata, err = noteInMetadata(metadata, start, seconds)
	}
	switch {
	case err != nil:
		return extra
	case to == 0:
		return appendMember(extra, `"metadata":`+string(metadata))
	}
	s := splice{from: extra}
	s.put(at, to, metadata)
	return s.bytes()
}

// noteInMetadata sets the shift, added to that of a weir before this one, and
// the original start where none is there yet.
func noteInMetadata(metadata []byte, start time.Time, seconds int64) ([]byte, error) {
	at, to, err := findMember(metadata, MetadataRestampedBy)
	if err != nil {
		return nil, err
	}
	if to > 0 {
		if before, err := strconv.ParseInt(string(metadata[at:to]), 10, 64); err == nil {
			seconds += before
		}
		s := splice{from: metadata}
		s.put(at, to, strconv.AppendInt(nil, seconds, 10))
		metadata = s.bytes()
	} else {
		metadata = appendMember(metadata, `"`+MetadataRestampedBy+`":`+strconv.FormatInt(seconds, 10))
	}
	if _, to, _ := findMember(metadata, MetadataOriginalStart); to == 0 && !start.IsZero() {
		metadata = appendMember(metadata, `"`+MetadataOriginalStart+`":"`+start.Format(time.RFC3339Nano)+`"`)
	}
	return metadata, nil
}

// findMember finds the last value of a name in an object, which is the one that
// counts for decoders; to is 0 if there is none.
func findMember(object []byte, name string) (at, to int, err error) {
	d := newDecoder(object)
	defer d.release()
	if d.PeekKind() != '{' {
		return 0, 0, errNoObject
	}
	err = d.members(func(n string, from, end int) error {
		if n == name {
			at, to = from, end
		}
		return nil
	})
	return at, to, err
}

// appendMember adds a member, as it is to be written, to the end of an object.
func appendMember(object []byte, text string) []byte {
	end := max(bytes.LastIndexByte(object, '}'), 0)
	out := append(make([]byte, 0, len(object)+len(text)+1), object[:end]...)
	if before := bytes.TrimRight(out, " \t\r\n"); !bytes.HasSuffix(before, []byte{'{'}) {
		out = append(out, ',')
	}
	out = append(out, text...)
	return append(out, object[end:]...)
}
