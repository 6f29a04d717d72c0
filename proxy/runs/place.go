package runs

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Place writes into the run where it belongs, over whatever its object said of
// it: what a run needs to travel with others and a single call may leave out.
// The Body is a new one.
func (op *Op) Place(id, trace ID, dottedOrder string) error {
	m := memberReader{object: op.Body, drop: bitsOf(memberID, memberTrace, memberDottedOrder)}
	if err := m.read(); err != nil {
		return m.problem(err)
	}
	rest := bytes.TrimLeft(m.object, " \t\r\n")[1:]
	if m.moved > 0 {
		rest = m.rest()[1:]
	}
	body := make([]byte, 0, len(rest)+len(dottedOrder)+160)
	body = append(id.AppendString(append(body, `{"`+memberID+`":"`...)), `","`+memberTrace+`":"`...)
	body = append(append(trace.AppendString(body), `","`+memberDottedOrder+`":"`...), dottedOrder...)
	body = append(body, '"')
	if m.kept != [len(m.kept)]extent{} {
		body = append(body, ',')
	}
	op.ID, op.Trace, op.Body = id, trace, append(body, rest...)
	return nil
}

func bitsOf(names ...string) (bits uint32) {
	for i, n := range members {
		for _, name := range names {
			if n == name {
				bits |= 1 << i
			}
		}
	}
	return bits
}

// rootOrderTime is the layout of the time in a dotted_order, the fraction's dot
// taken out (LangSmith SDK, run_trees.py).
const rootOrderTime = "20060102T150405.000000"

// RootOrder is the dotted_order of a root run: its start_time and its id. A
// time without a zone is taken as UTC, as LangSmith's docs (trace-with-api)
// have it.
func RootOrder(startTime []byte, id ID) (string, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		at, err := time.Parse(layout, string(startTime)) // a fraction is read where there is one
		if err != nil {
			continue
		}
		if year := at.UTC().Year(); year < 1 || year > 9999 {
			return "", fmt.Errorf("the year %d cannot be part of a dotted_order", year)
		}
		return orderSegment(at, id), nil
	}
	return "", errors.New("it is not a time like 2006-01-02T15:04:05.000000Z")
}

// CheckValue tells whether text is one JSON value, by the same rules as
// ReadRun. The error is a *ProblemError.
func CheckValue(text []byte) error {
	m := memberReader{object: text}
	d := newDecoder(text)
	defer d.release()
	if _, err := d.ReadValue(); err != nil {
		return m.problem(err)
	}
	if err := d.end(); err != nil {
		return m.problem(err)
	}
	return nil
}
