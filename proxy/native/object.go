package native

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy/runs"
)

// timeLayout is how the SDKs write times (LangSmith SDK, run_trees.py).
const timeLayout = "2006-01-02T15:04:05.000000Z"

// object writes a JSON object and gathers what is wrong with its source.
type object struct {
	path     string // of the message that it is made of
	text     []byte
	problems []*weirv1.FieldViolation
}

func (o *object) wrong(field, format string, args ...any) {
	if field != "" {
		field = "." + field
	}
	o.problems = append(o.problems, &weirv1.FieldViolation{Field: o.path + field, Description: clip(fmt.Sprintf(format, args...))})
}

// raw writes a member of which the value is JSON text; nil is left out.
func (o *object) raw(name string, value []byte) {
	if value == nil {
		return
	}
	separator := byte(',')
	if len(o.text) == 0 {
		separator = '{'
	}
	o.text = append(quote(append(o.text, separator), name), ':')
	o.text = append(o.text, value...)
}

func (o *object) string(name, value string) {
	if value != "" {
		o.raw(name, quote(nil, value))
	}
}

// quote appends a JSON string. Text that is not valid UTF-8, which no message
// that came over the wire has, is replaced.
func quote(dst []byte, text string) []byte {
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(text, "\ufffd"))
	return dst
}

// id writes a UUID, of which the member has another name than the field, maybe.
func (o *object) id(name, field, value string) {
	if id := o.parseID(field, value); !id.IsZero() {
		o.string(name, id.String())
	}
}

// parseID reads a UUID that may be empty.
func (o *object) parseID(field, value string) runs.ID {
	if value == "" {
		return runs.ID{}
	}
	id, err := runs.ParseID(value)
	if err != nil {
		o.wrong(field, "%v", err)
	}
	return id
}

// parseTime reads a time that may be unset.
func (o *object) parseTime(field string, at *timestamppb.Timestamp) time.Time {
	if at == nil {
		return time.Time{}
	}
	if err := at.CheckValid(); err != nil {
		o.wrong(field, "it is out of the range of times: %v", err)
		return time.Time{}
	}
	return at.AsTime()
}

func (o *object) time(name string, at time.Time) {
	if !at.IsZero() {
		o.string(name, at.UTC().Format(timeLayout))
	}
}

// json returns a value as JSON text, nil if it is unset or null. kinds are the
// kinds of JSON that it may be, as its first byte; empty: all.
func (o *object) json(field string, j *weirv1.Json, kinds string) []byte {
	var text []byte
	switch v := j.GetValue().(type) {
	case *weirv1.Json_Text:
		text = v.Text
		if err := runs.CheckValue(text); err != nil {
			o.wrong(field, "%v", err)
			return nil
		}
	case *weirv1.Json_Object:
		text = o.marshal(field, v.Object)
	case *weirv1.Json_Array:
		text = o.marshal(field, v.Array)
	}
	kind := jsontext.Value(text).Kind()
	switch {
	case len(text) == 0 || kind == 'n':
		return nil
	case kinds != "" && !strings.ContainsRune(kinds, rune(kind)):
		o.wrong(field, "it is JSON, but not %s", map[string]string{"{": "an object", "[": "an array"}[kinds])
		return nil
	}
	return text
}

// marshal writes a message that stands for JSON. Only numbers that JSON has not
// can make it fail.
func (o *object) marshal(field string, m proto.Message) []byte {
	text, err := protojson.Marshal(m)
	if err != nil {
		o.wrong(field, "it cannot be written as JSON: %v", err)
		return nil
	}
	return text
}

// members writes the further members that a caller gave as JSON.
func (o *object) members(j *weirv1.Json, fields string) {
	text := o.json("members", j, "{")
	if text == nil {
		return
	}
	seen := map[string]bool{}
	err := runs.EachMember(text, func(name string, value []byte) error {
		switch {
		case strings.Contains(fields, " "+name+" "):
			o.wrong("members", "%q has a field of its own", name)
		case seen[name]:
			o.wrong("members", "%.60q occurs twice", name)
		default:
			o.raw(name, value)
		}
		seen[name] = true
		return nil
	})
	if err != nil {
		o.wrong("members", "%v", err)
	}
}

// withMetadata puts metadata into extra.
func (o *object) withMetadata(extra []byte, metadata *structpb.Struct) []byte {
	if metadata == nil {
		return extra
	}
	text := o.marshal("metadata", metadata)
	if text == nil || extra == nil {
		if text == nil {
			return extra
		}
		extra = []byte("{}")
	}
	var outer, inner object
	err := runs.EachMember(extra, func(name string, value []byte) error {
		if name != "metadata" {
			outer.raw(name, value)
			return nil
		}
		if jsontext.Value(value).Kind() != '{' {
			return nil // nothing that could be merged
		}
		return runs.EachMember(value, func(name string, value []byte) error {
			if _, ok := metadata.GetFields()[name]; !ok {
				inner.raw(name, value)
			}
			return nil
		})
	})
	if err == nil {
		err = runs.EachMember(text, func(name string, value []byte) error {
			inner.raw(name, value)
			return nil
		})
	}
	if err != nil {
		o.wrong("extra", "%v", err)
		return nil
	}
	outer.raw("metadata", inner.end())
	return outer.end()
}

// end returns the whole object.
func (o *object) end() []byte {
	if len(o.text) == 0 {
		return []byte("{}")
	}
	return append(o.text, '}')
}

// maxTextRunes bounds an error text on the wire.
const maxTextRunes = 512

// clip bounds a text for the wire and makes it valid UTF-8.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	n := 0
	for i := range text {
		if n++; n > maxTextRunes {
			return text[:i] + "..."
		}
	}
	return text
}
