package smith

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Member is one member of a JSON object, its value as it was sent.
type Member struct {
	Name  string
	Value json.RawMessage
}

// Object is a JSON object whose members keep their order and their values
// their text, so that a test can tell whether a number, a space or an escape
// changed on the way. Of a name that came twice the last value is kept.
type Object []Member

// Get returns the value of a member, or nil where there is none.
func (o Object) Get(name string) json.RawMessage {
	for i := range o {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

// Text returns the value of a member that is a string, or "".
func (o Object) Text(name string) string {
	var s string
	if raw := o.Get(name); len(raw) > 0 && raw[0] == '"' {
		_ = json.Unmarshal(raw, &s) // it was decoded before
	}
	return s
}

// MarshalJSON implements json.Marshaler. Note that encoding/json takes spaces
// out of what it returns.
func (o Object) MarshalJSON() ([]byte, error) { return o.appendJSON(nil), nil }

// appendJSON appends the object, its values letter for letter.
func (o Object) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range o {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSON(dst, o[i].Name), ':')
		dst = append(dst, o[i].Value...)
	}
	return append(dst, '}')
}

// set replaces a member, or appends it.
func (o Object) set(name string, value json.RawMessage) Object {
	for i := range o {
		if o[i].Name == name {
			o[i].Value = value
			return o
		}
	}
	return append(o, Member{Name: name, Value: value})
}

// with is set for a value that is not JSON yet. The receiver stays as it is.
func (o Object) with(name string, value any) Object {
	return slices.Clone(o).set(name, appendJSON(nil, value))
}

// over returns o laid over an earlier object: members that are null say
// nothing, unless the other has no such member at all.
func (o Object) over(base Object) Object {
	merged := slices.Clone(base)
	index := make(map[string]int, len(base))
	for i := range base {
		index[base[i].Name] = i
	}
	for _, m := range o {
		at, ok := index[m.Name]
		switch {
		case !ok:
			index[m.Name] = len(merged)
			merged = append(merged, m)
		case !isNull(m.Value):
			merged[at] = m
		}
	}
	return merged
}

// maxMergeDepth is how deep objects are merged (langsmith-go: models/merge.go).
// Below that the later one stands, where langsmith-go keeps the earlier one.
const maxMergeDepth = 5

// mergeValues returns the later of two values or, where both are objects, one
// laid over the other: their members likewise, depth levels down.
func mergeValues(later, earlier json.RawMessage, depth int) json.RawMessage {
	if depth < 1 || bytes.Equal(later, earlier) {
		return later
	}
	from, err := parseObject(later)
	if err != nil {
		return later
	}
	into, err := parseObject(earlier)
	if err != nil {
		return later
	}
	merged := from.over(into)
	for i := range into { // over leaves the members of into where they are
		merged[i].Value = mergeValues(merged[i].Value, into[i].Value, depth-1)
	}
	return merged.appendJSON(nil)
}

// size is the memory the object takes, roughly.
func (o Object) size() int64 {
	const perMember = 48
	var n int64
	for i := range o {
		n += int64(len(o[i].Name)+len(o[i].Value)) + perMember
	}
	return n
}

// parseObject reads a JSON object and nothing after it. The result shares
// nothing with raw.
func parseObject(raw []byte) (Object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	first, err := dec.Token()
	if err != nil {
		return nil, jsonError(err)
	}
	if first != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var o Object
	index := map[string]int{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a member's name is not a string")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, jsonError(err)
		}
		if i, again := index[name]; again {
			o[i].Value = value
			continue
		}
		index[name] = len(o)
		o = append(o, Member{Name: name, Value: value})
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, jsonError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return o, nil
}

// jsonError words the end of the text like any other mistake in it.
func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("unexpected end of JSON input")
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

// appendJSON appends v, which must be fit for JSON, as it is: without the
// escapes that make it safe to paste into HTML.
func appendJSON(dst []byte, v any) []byte {
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("smith: encode: " + err.Error()) // v is of this package's making
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// isNull reports whether a JSON value is absent or null.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
