package otlp

import (
	"unicode/utf16"
	"unicode/utf8"
)

// maxSkipDepth bounds how deep a value may nest that is only passed over.
const maxSkipDepth = 1000

// lexer reads JSON (RFC 8259) from text. It allocates only for strings with
// escapes.
type lexer struct {
	text    []byte
	pos     int
	scratch []byte // a string whose escapes were resolved
}

// space passes over white space.
func (l *lexer) space() {
	for l.pos < len(l.text) {
		switch l.text[l.pos] {
		case ' ', '\t', '\n', '\r':
			l.pos++
		default:
			return
		}
	}
}

// take passes over c if it is next.
func (l *lexer) take(c byte) bool {
	if l.pos < len(l.text) && l.text[l.pos] == c {
		l.pos++
		return true
	}
	return false
}

// unexpected says that something else stands where want should.
func (l *lexer) unexpected(want string) *ScanError {
	if l.pos >= len(l.text) {
		return malformed("the JSON text ends at byte %d, want %s", l.pos, want)
	}
	rest := l.text[l.pos:min(len(l.text), l.pos+24)]
	return malformed("found %q at byte %d, want %s", rest, l.pos, want)
}

// literal passes over a word if it is next.
func (l *lexer) literal(word string) bool {
	end := l.pos + len(word)
	if end > len(l.text) || string(l.text[l.pos:end]) != word {
		return false
	}
	l.pos = end
	return true
}

func (l *lexer) null() bool { return l.literal("null") }

func (l *lexer) boolean() (value, ok bool) {
	if l.literal("true") {
		return true, true
	}
	return false, l.literal("false")
}

// nextKey goes to the next member of an object: past a comma unless it is the
// first, past the key and the colon. done is set at the object's end.
func (l *lexer) nextKey(first bool) (key []byte, done bool, e *ScanError) {
	done, e = l.next(first, '}')
	if e != nil || done {
		return nil, done, e
	}
	key, ok := l.str()
	if !ok {
		return nil, false, l.unexpected("a name in double quotes")
	}
	l.space()
	if !l.take(':') {
		return nil, false, l.unexpected("':'")
	}
	l.space()
	return key, false, nil
}

// nextElement goes to the next element of an array.
func (l *lexer) nextElement(first bool) (done bool, e *ScanError) { return l.next(first, ']') }

func (l *lexer) next(first bool, end byte) (done bool, e *ScanError) {
	l.space()
	if l.take(end) {
		return true, nil
	}
	if !first {
		if !l.take(',') {
			return false, l.unexpected("',' or '" + string(end) + "'")
		}
		l.space()
	}
	return false, nil
}

// str reads a string. It is valid until the next one is read; on failure the
// position is that of the fault.
func (l *lexer) str() (s []byte, ok bool) {
	if l.pos >= len(l.text) || l.text[l.pos] != '"' {
		return nil, false
	}
	start := l.pos + 1
	for i := start; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case c == '"':
			l.pos = i + 1
			return l.text[start:i], true
		case c == '\\':
			return l.escaped(start, i)
		case c < ' ':
			l.pos = i
			return nil, false
		}
	}
	l.pos = len(l.text)
	return nil, false
}

// escaped reads the rest of a string that began at start and has its first
// escape at i.
func (l *lexer) escaped(start, i int) ([]byte, bool) {
	s := append(l.scratch[:0], l.text[start:i]...)
	for i < len(l.text) {
		c := l.text[i]
		switch {
		case c == '"':
			l.scratch = s
			l.pos = i + 1
			return s, true
		case c < ' ':
			l.pos = i
			return nil, false
		case c != '\\':
			s = append(s, c)
			i++
		default:
			r, size := unescape(l.text[i:])
			if size == 0 {
				l.pos = i
				return nil, false
			}
			s = utf8.AppendRune(s, r)
			i += size
		}
	}
	l.pos = len(l.text)
	return nil, false
}

// unescape reads one escape sequence; size 0 means that it is none. Half of a
// surrogate pair becomes U+FFFD: JavaScript writes such halves when it cuts a
// text within an emoji, and the rest of the trace is well worth having.
func unescape(b []byte) (r rune, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r, ok := hex4(b)
		if !ok {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if low, ok := hex4(b[6:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return utf8.RuneError, 6
	default:
		return 0, 0
	}
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// numeral reads a number, or a string, as the text in it.
func (l *lexer) numeral() ([]byte, bool) {
	if l.pos < len(l.text) && l.text[l.pos] == '"' {
		return l.str()
	}
	n := numberLen(l.text[l.pos:])
	s := l.text[l.pos : l.pos+n]
	l.pos += n
	return s, n > 0
}

func isNumber(s []byte) bool { return len(s) > 0 && numberLen(s) == len(s) }

// numberLen returns the length of the JSON number at the start of b, 0 if
// there is none.
func numberLen(b []byte) int {
	digits := func(i int) int {
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i
	}
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	whole := i
	if i = digits(i); i == whole || (b[whole] == '0' && i > whole+1) {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		end := digits(i + 1)
		if end == i+1 {
			return 0
		}
		i = end
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := digits(i)
		if end == i {
			return 0
		}
		i = end
	}
	return i
}

// skipValue passes over any value.
func (l *lexer) skipValue(depth int) *ScanError {
	if depth > maxSkipDepth {
		return malformed("an unknown value nests deeper than %d levels", maxSkipDepth)
	}
	switch {
	case l.pos >= len(l.text):
		return l.unexpected("a value")
	case l.take('{'):
		for first := true; ; first = false {
			_, done, e := l.nextKey(first)
			if e != nil || done {
				return e
			}
			if e := l.skipValue(depth + 1); e != nil {
				return e
			}
		}
	case l.take('['):
		for first := true; ; first = false {
			done, e := l.nextElement(first)
			if e != nil || done {
				return e
			}
			if e := l.skipValue(depth + 1); e != nil {
				return e
			}
		}
	case l.text[l.pos] == '"':
		if _, ok := l.str(); !ok {
			return l.unexpected("a string")
		}
		return nil
	}
	if _, ok := l.boolean(); ok || l.null() {
		return nil
	}
	if _, ok := l.numeral(); ok {
		return nil
	}
	return l.unexpected("a value")
}
