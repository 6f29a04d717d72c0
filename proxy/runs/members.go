package runs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// errNoObject marks JSON that is something other than an object.
var errNoObject = errors.New("it is not a JSON object")

// lenient reads JSON as LangSmith's own decoders do: a repeated member is no
// error, and neither is text that is not valid UTF-8.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// eachMember calls fn for each member of a JSON object, in order, without
// decoding any. Values refer to object and have no space around them.
func eachMember(object []byte, fn func(member) error) error {
	src := bytes.NewBuffer(object)
	dec := jsontext.NewDecoder(src, lenient...)
	tok, err := dec.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return errNoObject
	case err != nil:
		return fmt.Errorf("read JSON: %w", err)
	case tok.Kind() != '{':
		return errNoObject
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		m := member{name: []byte(name.String())}
		value, err := dec.ReadValue()
		if err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		end := int(dec.InputOffset())
		m.value = object[end-len(value) : end : end]
		if err := fn(m); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	return nil
}
