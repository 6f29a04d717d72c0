package runs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Run is what a caller's JSON object of a run says: the operation, and what
// else weir goes by. Its slices refer to the object.
type Run struct {
	Op Op

	// Parent and DottedOrder are parent_run_id and dotted_order, StartTime is
	// start_time if it is a string; nil where the object says nothing or null.
	Parent, DottedOrder, StartTime []byte
}

// ProblemError says what is wrong with an operation.
type ProblemError struct {
	Run    string // the run's or feedback's id as far as it is known
	Field  string // the member at fault, empty if it is the whole
	Detail string
}

// Error implements error.
func (e *ProblemError) Error() string {
	var b strings.Builder
	if e.Run != "" {
		b.WriteString("run " + e.Run + ": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Detail)
	return b.String()
}

// The members of a run or a feedback that weir reads, beside the Fields.
const (
	memberID           = "id"
	memberTrace        = "trace_id"
	memberDottedOrder  = "dotted_order"
	memberParent       = "parent_run_id"
	memberStartTime    = "start_time"
	memberProjectName  = "session_name"
	memberProjectID    = "session_id"
	memberAddress      = "address" // of an agent, instead of a project (LangSmith SDK: _addressing.py)
	memberRetention    = "extend_trace_retention"
	memberSkipsUpgrade = "_skip_trace_upgrade"
)

var members = [...]string{
	memberID, memberTrace, memberDottedOrder, memberParent, memberStartTime,
	memberProjectName, memberProjectID, memberAddress, memberRetention, memberSkipsUpgrade,
}

// FromObject makes a Create or an Update of a run's JSON object, as ReadRun
// does. It refuses an object without an id; Check looks at the rest.
func FromObject(kind Kind, object []byte) (Op, error) {
	run, err := ReadRun(kind, object)
	if err == nil && run.Op.ID.IsZero() {
		err = &ProblemError{Field: memberID, Detail: "it is missing, and a run cannot be told from others without it"}
	}
	if err != nil {
		return Op{}, err
	}
	return run.Op, nil
}

// ReadRun reads a run's JSON object for an operation of the given kind.
//
// The fields that travel in parts of their own become Fields, as they are in
// the object; null counts as absent, as it does to the SDKs. The other members
// are the Body, as they are: object itself if there were none of the former.
// An id or trace_id that is absent or null leaves the Op's zero.
//
// Everything is as the caller wrote it: nothing is decoded, and text that is
// no valid UTF-8 or half a surrogate pair passes, since the JSON package
// of Go, in which LangSmith's endpoint is written, takes it too. Names that
// occur twice are refused only where weir reads them: which of two ids counts
// is anybody's guess, while twice the same key in inputs is the caller's own
// affair (orjson writes it for {1: ..., "1": ...}). Nesting is bounded to
// 10,000 levels, as it is in that package.
//
// The error is a *ProblemError.
func ReadRun(kind Kind, object []byte) (Run, error) {
	m := memberReader{object: object}
	if err := m.read(); err != nil {
		return Run{}, m.problem(err)
	}
	run := Run{Op: Op{
		Kind:      kind,
		Fields:    m.fields,
		Body:      m.rest(),
		NoProject: kind == Create && !m.has(memberProjectName) && !m.has(memberProjectID) && !m.has(memberAddress),
	}}
	var err error
	if run.Op.ID, err = m.id(memberID); err != nil {
		return Run{}, err
	}
	if run.Op.Trace, err = m.id(memberTrace); err != nil {
		return Run{}, err
	}
	run.Parent = m.text(memberParent)
	run.DottedOrder = m.text(memberDottedOrder)
	run.StartTime = m.text(memberStartTime)
	return run, nil
}

// FeedbackFromObject makes a Feedback of its JSON object, which becomes the
// Body as it is. asPart is false where it cannot be a part of a multipart
// request (LangSmith SDK, client.py create_feedback): it names no trace or no
// id of its own, or it asks not to extend the trace's retention. Such a
// feedback has to go to /feedback by itself; op then has what is known.
//
// The error is a *ProblemError.
func FeedbackFromObject(object []byte) (op Op, asPart bool, err error) {
	m := memberReader{object: object, whole: true}
	if err := m.read(); err != nil {
		return Op{}, false, m.problem(err)
	}
	op = Op{Kind: Feedback, Body: object}
	// An id that is none is for LangSmith to refuse.
	op.ID, _ = m.id(memberID)
	op.Trace, _ = m.id(memberTrace)
	asPart = !op.ID.IsZero() && !op.Trace.IsZero() &&
		string(m.value(memberRetention)) != "false" && string(m.value(memberSkipsUpgrade)) != "true"
	return op, asPart, nil
}

// memberReader walks once over a JSON object.
type memberReader struct {
	object []byte
	whole  bool   // leave the fields in the object
	drop   uint32 // bits of members that are not to stay

	values [len(members)][]byte // by index in members; nil: absent or null
	seen   uint32               // bits: members, then fields
	fields [NumFields][]byte

	kept  [NumFields + len(members) + 1]extent // what stays, between what does not
	moved int                                  // how many did not stay
}

// extent is a range of an object.
type extent struct{ from, to int64 }

// decoders holds decoders that have their buffers.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

type decoder struct {
	jsontext.Decoder

	source bytes.Buffer
}

func newDecoder(text []byte) *decoder {
	d := decoders.Get().(*decoder)
	// A decoder reads a bytes.Buffer in place, and never writes to it.
	d.source = *bytes.NewBuffer(slices.Clip(text))
	d.Reset(&d.source, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return d
}

// release gives the decoder back without what it has read.
func (d *decoder) release() {
	d.source = bytes.Buffer{}
	d.Reset(&d.source)
	decoders.Put(d)
}

func (m *memberReader) read() error {
	d := newDecoder(m.object)
	defer d.release()
	if d.PeekKind() != '{' {
		if _, err := d.ReadValue(); err != nil {
			return err
		}
		return errors.New("it is not a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		if err := m.member(d); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil { // the object's end
		return err
	}
	return d.end()
}

// end checks that nothing follows what was read.
func (d *decoder) end() error {
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("something follows the JSON value at byte %d", d.InputOffset())
		}
		return err
	}
	return nil
}

// member reads one name and its value.
func (m *memberReader) member(d *decoder) error {
	name, err := d.ReadValue()
	if err != nil {
		return err
	}
	from := d.InputOffset() - int64(len(name))
	index := indexOf(name) // before the value: it may take the name's place
	if m.whole && index >= len(members) {
		index = -1
	}
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	to := d.InputOffset()
	value = m.object[to-int64(len(value)) : to : to]
	if index >= 0 {
		if m.seen&(1<<index) != 0 {
			return &ProblemError{Field: nameOf(index), Detail: "it occurs twice"}
		}
		m.seen |= 1 << index
	}
	isNull := value.Kind() == 'n'
	if field := index - len(members); field >= 0 {
		m.moved++
		if !isNull {
			m.fields[field] = value
		}
		return nil
	}
	if index >= 0 && !isNull {
		m.values[index] = value
	}
	if index >= 0 && m.drop&(1<<index) != 0 {
		m.moved++
		return nil
	}
	stays := &m.kept[m.moved]
	if stays.to == 0 {
		stays.from = from
	}
	stays.to = to
	return nil
}

// indexOf tells which member or field a name is, -1 if none of those.
func indexOf(quoted []byte) int {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		if len(name) > 6*32 { // no name of ours, however it is escaped
			return -1
		}
		unquoted, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return -1 // half a surrogate pair: no name of ours either
		}
		name = unquoted
	}
	for i, n := range members {
		if string(name) == n {
			return i
		}
	}
	for i, n := range FieldNames {
		if string(name) == n {
			return len(members) + i
		}
	}
	return -1
}

func nameOf(index int) string {
	if index < len(members) {
		return members[index]
	}
	return FieldNames[index-len(members)]
}

// rest is the object without the fields.
func (m *memberReader) rest() []byte {
	if m.moved == 0 {
		return m.object
	}
	size := 2
	for _, k := range m.kept {
		size += int(k.to-k.from) + 1
	}
	body := append(make([]byte, 0, size), '{')
	for _, k := range m.kept {
		if k.to == k.from {
			continue
		}
		if len(body) > 1 {
			body = append(body, ',')
		}
		body = append(body, m.object[k.from:k.to]...)
	}
	return append(body, '}')
}

// value is a member's JSON, nil if it is absent or null.
func (m *memberReader) value(name string) []byte {
	for i, n := range members {
		if n == name {
			return m.values[i]
		}
	}
	return nil
}

func (m *memberReader) has(name string) bool { return m.value(name) != nil }

// text is the text of a member that is a string, nil if it is none.
func (m *memberReader) text(name string) []byte {
	v := m.value(name)
	switch {
	case len(v) == 0 || v[0] != '"':
		return nil
	case bytes.IndexByte(v, '\\') < 0:
		return v[1 : len(v)-1 : len(v)-1]
	}
	text, err := jsontext.AppendUnquote(make([]byte, 0, len(v)), v)
	if err != nil {
		return nil // half a surrogate pair: nothing that weir could go by
	}
	return text
}

// id is a member that is a UUID, zero if it is absent.
func (m *memberReader) id(name string) (ID, error) {
	if !m.has(name) {
		return ID{}, nil
	}
	id, err := ParseID(m.text(name))
	if err != nil {
		detail := err.Error()
		if m.text(name) == nil {
			detail = fmt.Sprintf("%.60s is not a UUID in a string", m.value(name))
		}
		return ID{}, &ProblemError{Run: m.run(), Field: name, Detail: detail}
	}
	return id, nil
}

// run is the id to name in an error, as far as one was read.
func (m *memberReader) run() string {
	if id, err := ParseID(m.text(memberID)); err == nil {
		return id.String()
	}
	return ""
}

// problem says in the terms of the object what is wrong.
func (m *memberReader) problem(err error) *ProblemError {
	if known, ok := errors.AsType[*ProblemError](err); ok {
		known.Run = m.run()
		return known
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return &ProblemError{
			Run:    m.run(),
			Field:  firstName(syntax.JSONPointer),
			Detail: fmt.Sprintf("not valid JSON at byte %d: %v", syntax.ByteOffset, syntax.Err),
		}
	}
	if errors.Is(err, io.EOF) {
		return &ProblemError{Detail: "it is empty, want a JSON object"}
	}
	return &ProblemError{Run: m.run(), Detail: err.Error()}
}

// firstName is the member that a place is in.
func firstName(at jsontext.Pointer) string {
	for name := range at.Tokens() {
		if len(name) > 40 {
			return ""
		}
		return strings.ToValidUTF8(name, "\ufffd")
	}
	return ""
}
