package runs

import (
	"bytes"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Window is the time in which a run has to start for LangSmith to take it. The
// zero Window holds no time.
type Window struct{ from, to int64 } // seconds since 1970, both included

// NewWindow is the window from one time to another, in whole seconds.
func NewWindow(from, to time.Time) Window { return Window{from.Unix(), to.Unix()} }

// holds reports whether a time lies in the window.
func (w Window) holds(s *stamp) bool {
	at := s.unix()
	return at >= w.from && at <= w.to
}

// Together they are the name start_time as it is written.
var startTimeBegin, startTimeEnd = []byte(`"start`), []byte(`_time"`)

// StartsOutside reports whether a run says that it started outside a window
// (Create, Update). One that says nothing of its start, or something that
// cannot be read, does not: what LangSmith makes of that is for it to say.
//
// It is run for each run that is sent, so it decodes nothing where it need not:
// where every start_time in the object, at whatever depth, lies in the window,
// so does the run's own.
func (op *Op) StartsOutside(w Window) bool {
	body := op.Body
	for {
		// An underscore is seldom, and so found faster than a quote.
		i := bytes.Index(body, startTimeEnd)
		if i < 0 {
			break
		}
		ours := bytes.HasSuffix(body[:i], startTimeBegin)
		if body = body[i+len(startTimeEnd):]; !ours {
			continue
		}
		s, ok := stampAfterName(body)
		if !ok || !w.holds(&s) {
			return op.startsOutside(w)
		}
	}
	return mayHideName(op.Body) && op.startsOutside(w)
}

// mayHideName reports whether a name of ASCII letters may be written with
// escapes in JSON. Nobody is known to do that: what encoders escape is control
// characters, those of HTML, and what is not ASCII.
func mayHideName(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 || i+1 >= len(text) {
			return false
		}
		if text[i+1] == 'u' {
			if len(text) < i+6 {
				return false
			}
			if text[i+2] == '0' && text[i+3] == '0' && text[i+4] >= '5' && text[i+4] <= '7' {
				return true // an underscore or a small letter, or near it
			}
		}
		text = text[i+2:]
	}
}

// stampAfterName reads the time in a string that is the value of a name.
func stampAfterName(text []byte) (s stamp, ok bool) {
	text = trimSpace(text)
	if len(text) == 0 || text[0] != ':' {
		return s, false
	}
	text = trimSpace(text[1:])
	if len(text) == 0 || text[0] != '"' {
		return s, false
	}
	end := bytes.IndexByte(text[1:], '"')
	if end < 0 {
		return s, false
	}
	return parseStamp(text[1 : 1+end])
}

func trimSpace(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\n' || text[0] == '\t' || text[0] == '\r') {
		text = text[1:]
	}
	return text
}

// startsOutside decodes the object's names.
func (op *Op) startsOutside(w Window) bool {
	outside := false
	_ = eachMember(op.Body, func(m member) error { // what is no object has no start
		if string(m.name) != memberStartTime {
			return nil
		}
		at, err := timeOf(m.value)
		outside = err == nil && !at.IsZero() && (at.Unix() < w.from || at.Unix() > w.to)
		return nil
	})
	return outside
}

// timeOf reads a time that is a JSON value, zero if it is null.
func timeOf(value []byte) (time.Time, error) {
	switch jsontext.Value(value).Kind() {
	case 'n':
		return time.Time{}, nil
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return time.Time{}, errTime
		}
		s, ok := parseStamp(text)
		if !ok {
			return time.Time{}, errTime
		}
		return s.time(), nil
	case '0':
		ms, _, err := cutMillis(value)
		if err != nil {
			return time.Time{}, err
		}
		return time.UnixMilli(ms).UTC(), nil
	default:
		return time.Time{}, errTime
	}
}

// Span is what a run says of when it was. What is zero it does not say.
type Span struct {
	// Start is its start_time, else the time in its own part of dotted_order.
	Start time.Time
	// End is its end_time.
	End time.Time
}

// Span reads a run's times (Create, Update). The error is a *ProblemError: one
// of them cannot be read.
func (op *Op) Span() (Span, error) {
	var s Span
	var order []byte
	err := eachMember(op.Body, func(m member) (err error) {
		switch string(m.name) {
		case memberStartTime:
			s.Start, err = timeOf(m.value)
		case memberEndTime:
			s.End, err = timeOf(m.value)
		case memberDottedOrder:
			order = m.value
		}
		if err != nil {
			return &ProblemError{Run: op.ID.String(), Field: string(m.name), Detail: err.Error()}
		}
		return nil
	})
	if err != nil {
		return Span{}, op.problem("", err)
	}
	if s.Start.IsZero() && jsontext.Value(order).Kind() == '"' {
		if text, err := jsontext.AppendUnquote(nil, order); err == nil {
			s.Start = lastStart(string(text))
		}
	}
	return s, nil
}
