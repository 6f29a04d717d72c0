package exported

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"weir/proxy/runs"
)

// Version is the version of the form.
const Version = 1

// Kind is what a line is.
type Kind string

// The kinds of line, in the order in which they come: the beginning, then each
// case with what it holds, and the end. A file without an end was cut off.
const (
	KindBegin      Kind = "weir-quarantine"
	KindCase       Kind = "case"
	KindRun        Kind = "run"        // a run operation
	KindSpan       Kind = "span"       // an OTLP message with one span
	KindContent    Kind = "content"    // a piece of an attachment, before the run operation that has it
	KindUnreadable Kind = "unreadable" // what could not be read from weir's disk
	KindEnd        Kind = "end"
)

// Line is one line. Fields that its kind does not have are left out.
type Line struct {
	Kind    Kind      `json:"kind"`
	Version int       `json:"version,omitempty"` // KindBegin
	Case    uint64    `json:"case,omitempty"`    // the case's number
	Time    time.Time `json:"time,omitzero"`     // when weir accepted it; of the export, where it begins

	About *Case `json:"about,omitempty"` // KindCase

	Op *Op `json:"op,omitempty"` // KindRun

	// Span is for people: an OTLP request in JSON, with ids in hexadecimal.
	Span json.RawMessage `json:"span,omitempty"`
	// Payload is what is imported: an OTLP request (KindSpan), or an operation in
	// weir's own form where Op cannot say all of it (KindRun).
	Payload []byte `json:"payload,omitempty"`

	// Content names an attachment, Data is a piece of it (KindContent).
	Content string `json:"content,omitempty"`
	Data    []byte `json:"data,omitempty"`

	Frame      string `json:"frame,omitempty"` // KindUnreadable
	Why        string `json:"why,omitempty"`
	Items      int64  `json:"items,omitempty"` // KindUnreadable, KindEnd
	Unreadable int64  `json:"unreadable,omitempty"`
}

// Case says what a case is.
type Case struct {
	Cause      string    `json:"cause"`
	Confidence string    `json:"confidence"`
	Evidence   []string  `json:"evidence,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
	Reason     string    `json:"reason"`
	HTTPStatus int       `json:"httpStatus,omitempty"`
	Response   string    `json:"response,omitempty"`
	RequestID  string    `json:"requestId,omitempty"`
	FirstSeen  time.Time `json:"firstSeen,omitzero"`
	LastSeen   time.Time `json:"lastSeen,omitzero"`
	Items      int64     `json:"items"`
	Protocol   string    `json:"protocol,omitempty"`
	// OwnKey: it was to go under weir's own key. Else its caller had one, which
	// is not exported.
	OwnKey bool `json:"ownKey"`
	// Workspace and Project are those that the caller named in headers.
	Workspace string `json:"workspace,omitempty"`
	Project   string `json:"project,omitempty"`
}

// Op is a run operation for people. Where it is the same as what is stored, it
// is imported, too.
type Op struct {
	Kind        string                     `json:"kind"` // post, patch, feedback, attachment, call
	ID          string                     `json:"id,omitempty"`
	Trace       string                     `json:"trace,omitempty"`
	Body        json.RawMessage            `json:"body,omitempty"`
	Fields      map[string]json.RawMessage `json:"fields,omitempty"` // inputs, outputs, ...
	Name        string                     `json:"name,omitempty"`
	ContentType string                     `json:"contentType,omitempty"`
	Data        []byte                     `json:"data,omitempty"`
	Content     string                     `json:"content,omitempty"` // the lines of an attachment's content
	Bytes       int64                      `json:"bytes,omitempty"`   // of it
	Method      string                     `json:"method,omitempty"`
	Path        string                     `json:"path,omitempty"`
	NoProject   bool                       `json:"noProject,omitempty"`
}

// SetOp makes the line one of a run operation. It refers to op's content.
func (l *Line) SetOp(op *runs.Op) {
	l.Op = &Op{
		Kind: op.Kind.String(), Name: op.Name, ContentType: op.ContentType, Data: op.Data, Content: op.Blob, Bytes: op.BlobBytes,
		Method: op.Method, Path: op.Path, NoProject: op.NoProject,
	}
	if !op.ID.IsZero() {
		l.Op.ID = op.ID.String()
	}
	if !op.Trace.IsZero() {
		l.Op.Trace = op.Trace.String()
	}
	exact := utf8.ValidString(op.Name + op.ContentType + op.Method + op.Path)
	var ok bool
	if l.Op.Body, ok = rawJSON(op.Body); !ok {
		exact = false
	}
	for i, value := range op.Fields {
		if value == nil {
			continue
		}
		if l.Op.Fields == nil {
			l.Op.Fields = map[string]json.RawMessage{}
		}
		if l.Op.Fields[runs.FieldNames[i]], ok = rawJSON(value); !ok {
			exact = false
		}
	}
	if !exact {
		l.Payload = runs.Append(nil, op)
	}
}

// rawJSON is text as it can stand in a line. ok reports whether that is just what
// it was.
func rawJSON(text []byte) (raw json.RawMessage, ok bool) {
	if text == nil {
		return nil, true
	}
	var b bytes.Buffer
	if !utf8.Valid(text) || json.Compact(&b, text) != nil {
		quoted, err := json.Marshal(string(text))
		if err != nil {
			return nil, false // a string: cannot fail
		}
		return quoted, false
	}
	return b.Bytes(), bytes.Equal(b.Bytes(), text)
}

// Operation is the run operation of a line. Its content may be in other lines:
// op.Blob then names it.
func (l *Line) Operation() (op runs.Op, err error) {
	if l.Payload != nil {
		n := 0
		err = runs.Scan(l.Payload, func(one runs.Op) error { op = one; n++; return nil })
		if err == nil && n != 1 {
			err = fmt.Errorf("a payload of %d operations", n)
		}
		return op, err
	}
	if l.Op == nil {
		return op, fmt.Errorf("a line of kind %q without an operation", l.Kind)
	}
	o := l.Op
	op = runs.Op{
		Body: o.Body, Name: o.Name, ContentType: o.ContentType, Data: o.Data, Blob: o.Content, BlobBytes: o.Bytes,
		Method: o.Method, Path: o.Path, NoProject: o.NoProject,
	}
	for k := runs.Create; k <= runs.Call; k++ {
		if k.String() == o.Kind {
			op.Kind = k
		}
	}
	if op.Kind == 0 {
		return op, fmt.Errorf("an operation of kind %q", o.Kind)
	}
	for _, id := range []struct {
		text string
		to   *runs.ID
	}{{o.ID, &op.ID}, {o.Trace, &op.Trace}} {
		if id.text == "" {
			continue
		}
		if *id.to, err = runs.ParseID(id.text); err != nil {
			return op, err
		}
	}
	for name, value := range o.Fields {
		f, ok := runs.FieldNamed(name)
		if !ok {
			return op, fmt.Errorf("an operation with a field %q", name)
		}
		op.Fields[f] = value
	}
	return op, nil
}
