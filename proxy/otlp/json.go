package otlp

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// jsonKind is how OTLP/JSON writes a scalar (OTLP specification, JSON Protobuf
// Encoding): as protobuf's JSON mapping does, but ids in hex and enums as
// integers.
type jsonKind uint8

const (
	jsonByKind jsonKind = iota // what the field's kind says: text, message
	jsonUint32
	jsonInt32
	jsonUint64
	jsonInt64
	jsonDouble
	jsonBool
	jsonEnum
	jsonHex
	jsonBase64
)

// appendJSON appends the binary form of an OTLP/JSON ExportTraceServiceRequest
// to dst. What the text says is neither completed nor judged: that is Scan's
// work, as for a request that came in binary.
//
// It is as generous as receivers should be: names may be lowerCamelCase or
// snake_case, integers numbers or strings, enums integers or names; unknown
// names and nulls are passed over. Its error is a *ScanError.
func appendJSON(dst, text []byte) ([]byte, error) {
	t := transcoder{lexer: lexer{text: text}, out: dst}
	t.space()
	if e := t.message(requestType, 1); e != nil {
		return t.out, e
	}
	t.space()
	if t.pos < len(t.text) {
		return t.out, t.unexpected("the end of the request")
	}
	return t.out, nil
}

// transcoder turns JSON into the protobuf wire format, guided by the message
// types that Scan uses. Order is kept, so nothing has to be held back.
type transcoder struct {
	lexer

	out []byte
}

// inJSON puts a field in front of an error's path, named as JSON names it.
func (e *ScanError) inJSON(f *field, index int) *ScanError {
	segment := f.jsonName
	if f.repeated {
		segment += "[" + strconv.Itoa(index) + "]"
	}
	if e.Path != "" {
		segment += "." + e.Path
	}
	e.Path = segment
	return e
}

// message writes the fields of one JSON object.
func (t *transcoder) message(m *messageType, depth int) *ScanError {
	if depth > maxDepth {
		return malformed("messages nest deeper than %d levels", maxDepth)
	}
	if !t.take('{') {
		return t.unexpected("an object")
	}
	for first := true; ; first = false {
		name, done, e := t.nextKey(first)
		if e != nil || done {
			return e
		}
		num, known := m.byName[string(name)]
		if !known {
			if e := t.skipValue(0); e != nil {
				return e
			}
			continue
		}
		if e := t.field(&m.fields[num], protowire.Number(num), depth); e != nil {
			return e
		}
	}
}

// field writes a field's value, or all values of a repeated field.
func (t *transcoder) field(f *field, num protowire.Number, depth int) *ScanError {
	if t.null() {
		return nil
	}
	if !f.repeated {
		if e := t.value(f, num, depth); e != nil {
			return e.inJSON(f, 0)
		}
		return nil
	}
	if !t.take('[') {
		return t.unexpected("an array").inJSON(f, 0)
	}
	for i := 0; ; i++ {
		done, e := t.nextElement(i == 0)
		if e != nil {
			return e.inJSON(f, i)
		}
		if done {
			return nil
		}
		if e := t.value(f, num, depth); e != nil {
			return e.inJSON(f, i)
		}
	}
}

// value writes one value, with its tag.
func (t *transcoder) value(f *field, num protowire.Number, depth int) *ScanError {
	t.out = protowire.AppendTag(t.out, num, f.wire)
	start := len(t.out)
	switch f.kind {
	case kindMessage:
		if e := t.message(f.message, depth+1); e != nil {
			return e
		}
	case kindString:
		text, ok := t.str()
		if !ok {
			return t.unexpected("a string")
		}
		t.out = append(t.out, text...)
	case kindBytes:
		if e := t.bytes(f); e != nil {
			return e
		}
	default:
		return t.scalar(f)
	}
	t.prefixLength(start)
	return nil
}

// prefixLength puts the length of what was written since start in front of it.
// Moving it is cheaper than measuring the text beforehand.
func (t *transcoder) prefixLength(start int) {
	size := len(t.out) - start
	var prefix [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(prefix[:], uint64(size))
	t.out = append(t.out, prefix[:n]...)
	copy(t.out[start+n:], t.out[start:start+size])
	copy(t.out[start:], prefix[:n])
}

func (t *transcoder) bytes(f *field) *ScanError {
	text, ok := t.str()
	if !ok {
		return t.unexpected("a string")
	}
	var err error
	if f.json == jsonHex {
		t.out, err = hex.AppendDecode(t.out, text)
		if err != nil {
			return malformed("%q is not hex; OTLP/JSON writes ids in hex, not in base64", clip(string(text)))
		}
		return nil
	}
	// Both alphabets, padded or not, as protobuf's JSON mapping accepts.
	coding := base64.RawStdEncoding
	plain := strings.TrimRight(string(text), "=")
	if strings.ContainsAny(plain, "-_") {
		coding = base64.RawURLEncoding
	}
	t.out, err = coding.AppendDecode(t.out, []byte(plain))
	if err != nil {
		return malformed("not base64: %v", err)
	}
	return nil
}

// scalar writes a number, a boolean or an enum.
func (t *transcoder) scalar(f *field) *ScanError {
	at := t.pos
	switch f.json {
	case jsonBool:
		b, ok := t.boolean()
		if !ok {
			return t.unexpected("true or false")
		}
		t.out = protowire.AppendVarint(t.out, protowire.EncodeBool(b))
		return nil
	case jsonDouble:
		v, ok := t.double()
		if !ok {
			return t.wrongNumber(at, "a number")
		}
		t.out = protowire.AppendFixed64(t.out, math.Float64bits(v))
		return nil
	case jsonUint64:
		v, ok := t.unsigned(64)
		if !ok {
			return t.wrongNumber(at, "an integer from 0 to 2^64-1")
		}
		t.out = protowire.AppendFixed64(t.out, v)
		return nil
	case jsonUint32:
		v, ok := t.unsigned(32)
		if !ok {
			return t.wrongNumber(at, "an integer from 0 to 2^32-1")
		}
		if f.kind == kindFixed32 {
			t.out = protowire.AppendFixed32(t.out, uint32(v))
			return nil
		}
		t.out = protowire.AppendVarint(t.out, v)
		return nil
	case jsonEnum:
		return t.enum(f)
	default:
		bits := 64
		if f.json == jsonInt32 {
			bits = 32
		}
		v, ok := t.signed(bits)
		if !ok {
			return t.wrongNumber(at, fmt.Sprintf("an integer of %d bits", bits))
		}
		t.out = protowire.AppendVarint(t.out, uint64(v))
		return nil
	}
}

func (t *transcoder) enum(f *field) *ScanError {
	at := t.pos
	if name, ok := t.str(); ok {
		if v, known := f.enum[string(name)]; known {
			t.out = protowire.AppendVarint(t.out, uint64(v))
			return nil
		}
		t.pos = at
	}
	v, ok := t.signed(32)
	if !ok {
		return t.wrongNumber(at, "the integer of an enum value")
	}
	t.out = protowire.AppendVarint(t.out, uint64(v))
	return nil
}

// double reads a number, or a string with a number or one of the names that
// protobuf's JSON mapping has for what is none.
func (t *transcoder) double() (float64, bool) {
	text, ok := t.numeral()
	if !ok {
		return 0, false
	}
	switch string(text) {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	if !isNumber(text) {
		return 0, false // ParseFloat knows more spellings than JSON
	}
	v, err := strconv.ParseFloat(string(text), 64)
	return v, err == nil
}

func (t *transcoder) unsigned(bits int) (uint64, bool) {
	text, ok := t.numeral()
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseUint(string(text), 10, bits)
	if err == nil {
		return v, true
	}
	whole, ok := wholeFloat(text)
	if !ok || whole < 0 || whole >= math.Ldexp(1, bits) {
		return 0, false
	}
	return uint64(whole), true
}

func (t *transcoder) signed(bits int) (int64, bool) {
	text, ok := t.numeral()
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(string(text), 10, bits)
	if err == nil {
		return v, true
	}
	whole, ok := wholeFloat(text)
	if !ok || whole < -math.Ldexp(1, bits-1) || whole >= math.Ldexp(1, bits-1) {
		return 0, false
	}
	return int64(whole), true
}

// wholeFloat reads an integer written with a fraction or an exponent, such as
// 1e3 or 5.0. Beyond 2^53 it is as exact as whoever wrote it so could be.
func wholeFloat(text []byte) (float64, bool) {
	if !isNumber(text) || !strings.ContainsAny(string(text), ".eE") {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(text), 64)
	return v, err == nil && v == math.Trunc(v)
}

func (t *transcoder) wrongNumber(at int, want string) *ScanError {
	t.pos = at
	return t.unexpected(want)
}
