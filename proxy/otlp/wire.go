package otlp

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxDepth bounds how deep messages may nest, the request itself counted.
// protobuf for Go would accept 10,000 levels, but for C++, Java and Python stop
// at 100: a deeper message would only be refused further on, where nobody is
// waiting for the answer any more.
const maxDepth = 100

// fieldKind is how a field's value is checked.
type fieldKind uint8

const (
	kindUnknown fieldKind = iota
	kindVarint
	kindFixed32
	kindFixed64
	kindBytes
	kindString
	kindMessage
)

// hook names what a scan notes at a field, beyond checking it.
type hook uint8

const (
	hookNone hook = iota
	hookTraceID
	hookSpanID
	hookParentID
	hookLinkTraceID
	hookLinkSpanID
	hookKey
	hookEventName
	hookSpanAttribute // the first one on a message; those before are on values
	hookResourceAttribute
	hookResourceSpans
	hookStatus
	hookLink
	hookSpan
)

// field describes one field of a message. The zero field is unknown.
type field struct {
	kind     fieldKind
	hook     hook
	repeated bool
	wire     protowire.Type // redundant with kind, here to be compared at once
	name     string
	message  *messageType // for kindMessage

	// For OTLP/JSON only.
	json     jsonKind
	jsonName string
	enum     map[string]int32 // for jsonEnum
}

// messageType lists a message's fields by number; OTLP's trace messages have
// none above 16.
type messageType struct {
	fields [17]field
	byName map[string]int // numbers by name, in lowerCamelCase and in snake_case
}

// set describes field number num. The name is OTLP's, and ends in [] if the
// field is repeated.
func (m *messageType) set(num int, kind fieldKind, name string) *field {
	f := &m.fields[num]
	f.kind = kind
	f.name, f.repeated = strings.CutSuffix(name, "[]")
	f.jsonName = lowerCamel(f.name)
	if m.byName == nil {
		m.byName = map[string]int{}
	}
	m.byName[f.name], m.byName[f.jsonName] = num, num
	switch kind {
	case kindVarint:
		f.wire, f.json = protowire.VarintType, jsonUint32
	case kindFixed32:
		f.wire, f.json = protowire.Fixed32Type, jsonUint32
	case kindFixed64:
		f.wire, f.json = protowire.Fixed64Type, jsonUint64
	case kindBytes:
		f.wire, f.json = protowire.BytesType, jsonBase64
	case kindUnknown, kindString, kindMessage:
		f.wire = protowire.BytesType
	}
	return f
}

// id describes a field that holds a trace or span id.
func (m *messageType) id(num int, name string, h hook) {
	f := m.set(num, kindBytes, name)
	f.hook, f.json = h, jsonHex
}

// lowerCamel turns snake_case into the name that protobuf's JSON mapping has.
func lowerCamel(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words {
		if i > 0 && w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

func (m *messageType) embed(num int, name string, of *messageType) *field {
	f := m.set(num, kindMessage, name)
	f.message = of
	return f
}

// A ScanError says where a message is not what OTLP allows.
type ScanError struct {
	// Path leads to the field, as in
	// "resource_spans[0].scope_spans[2].spans[17].trace_id". Empty if the
	// request itself is at fault.
	Path string
	// Detail says what is wrong there and what would be right.
	Detail string
	// Reason is the stable word for metrics: malformed or too_many_spans.
	Reason string
}

// Error implements error.
func (e *ScanError) Error() string {
	if e.Path == "" {
		return e.Detail
	}
	return e.Path + ": " + e.Detail
}

// under puts a path segment in front, on the way out of a message that is the
// value of f. before is the part of the outer message that precedes it.
func (e *ScanError) under(f *field, num uint64, before []byte) *ScanError {
	segment := f.name
	if f.repeated {
		segment = fmt.Sprintf("%s[%d]", f.name, occurrences(before, num, f.wire))
	}
	if e.Path == "" {
		e.Path = segment
	} else {
		e.Path = segment + "." + e.Path
	}
	return e
}

// occurrences counts a field in a run of fields known to be well formed.
func occurrences(b []byte, num uint64, wire protowire.Type) int {
	count := 0
	for len(b) > 0 {
		n, w, size := protowire.ConsumeField(b)
		if size < 0 {
			break
		}
		if uint64(n) == num && w == wire {
			count++
		}
		b = b[size:]
	}
	return count
}

// walk checks one message and everything in it as proto.Unmarshal would: what
// it refuses is refused, unknown fields and fields of an unexpected wire type
// are passed over. b is the message's own bytes.
func (s *scanner) walk(b []byte, m *messageType, depth int) *ScanError {
	if depth > maxDepth {
		return malformed("messages nest deeper than %d levels", maxDepth)
	}
	for i := 0; i < len(b); {
		start := i
		tag := uint64(b[i])
		if tag < 0x80 {
			i++
		} else {
			var n int
			if tag, n = protowire.ConsumeVarint(b[i:]); n < 0 {
				return s.framing(b[i:], "field number", n)
			}
			i += n
		}
		num, wire := tag>>3, protowire.Type(tag&7)
		if num >= uint64(len(m.fields)) || m.fields[num].kind == kindUnknown || m.fields[num].wire != wire {
			n, e := s.skip(b[i:], num, wire)
			if e != nil {
				return e
			}
			i += n
			continue
		}
		f := &m.fields[num]
		if wire == protowire.BytesType {
			size, n := length(b[i:])
			if n < 0 {
				return s.framing(b[i:], "length", n).under(f, num, b[:start])
			}
			i += n
			if size > uint64(len(b)-i) {
				return malformed("length %d at byte %d, but only %d bytes are left", size, s.offset(b[i:])-n, len(b)-i).under(f, num, b[:start])
			}
			v := b[i : i+int(size)]
			if e := s.value(f, v, depth); e != nil {
				return e.under(f, num, b[:start])
			}
			i += int(size)
			continue
		}
		n := scalar(b[i:], wire)
		if n < 0 {
			return s.framing(b[i:], "value", n).under(f, num, b[:start])
		}
		i += n
	}
	return nil
}

// value checks one length-delimited value.
func (s *scanner) value(f *field, v []byte, depth int) *ScanError {
	switch f.kind {
	case kindString:
		if !utf8.Valid(v) {
			return malformed("not valid UTF-8")
		}
	case kindMessage:
		if f.hook >= hookSpanAttribute {
			return s.enter(f, v, depth)
		}
		return s.walk(v, f.message, depth+1)
	case kindUnknown, kindVarint, kindFixed32, kindFixed64, kindBytes:
	}
	if f.hook != hookNone {
		s.note(f.hook, v)
	}
	return nil
}

// length reads the length of a length-delimited value; n < 0 is one of
// protowire's error codes.
func length(b []byte) (size uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	if len(b) > 1 && b[1] < 0x80 {
		return uint64(b[0]&0x7f) | uint64(b[1])<<7, 2
	}
	return protowire.ConsumeVarint(b)
}

// scalar returns the size of a varint or fixed value; n < 0 is one of
// protowire's error codes.
func scalar(b []byte, wire protowire.Type) int {
	if wire == protowire.VarintType {
		if len(b) > 0 && b[0] < 0x80 {
			return 1
		}
		_, n := protowire.ConsumeVarint(b)
		return n
	}
	size := 8
	if wire == protowire.Fixed32Type {
		size = 4
	}
	if len(b) < size {
		return truncatedCode
	}
	return size
}

// truncatedCode is protowire's code for input that ends too early.
var truncatedCode = func() int {
	_, n := protowire.ConsumeVarint(nil)
	return n
}()

// skip passes over a field that OTLP does not know, or knows as something
// else. b begins after the field's tag.
func (s *scanner) skip(b []byte, num uint64, wire protowire.Type) (int, *ScanError) {
	if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return 0, malformed("field number %d before byte %d is not allowed", num, s.offset(b))
	}
	n := protowire.ConsumeFieldValue(protowire.Number(num), wire, b)
	if n < 0 {
		return 0, s.framing(b, fmt.Sprintf("field %d", num), n)
	}
	return n, nil
}

// framing describes a failure to read what at the start of b.
func (s *scanner) framing(b []byte, what string, code int) *ScanError {
	return malformed("%s at byte %d: %v", what, s.offset(b), reason(code))
}

// offset is where b begins in the request. Every slice of a walk reaches to
// the end of the request's capacity, which is what makes this work.
func (s *scanner) offset(b []byte) int { return s.capacity - cap(b) }

func reason(code int) string {
	return strings.TrimPrefix(strings.ReplaceAll(protowire.ParseError(code).Error(), "\u00a0", " "), "proto: ")
}

func malformed(format string, args ...any) *ScanError {
	return &ScanError{Reason: reasonMalformed, Detail: fmt.Sprintf(format, args...)}
}
