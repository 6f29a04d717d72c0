package exported

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Writer writes lines.
type Writer struct{ enc *json.Encoder }

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // what is in the data stays as it is
	return &Writer{enc}
}

// Write writes one line.
func (w *Writer) Write(l *Line) error {
	if err := w.enc.Encode(l); err != nil {
		return fmt.Errorf("write a line of an export: %w", err)
	}
	return nil
}

// maxLineBytes bounds a line that is read: a frame of 64 MiB as base64 beside its
// JSON, with room.
const maxLineBytes = 512 << 20

// Reader reads lines.
type Reader struct {
	s    *bufio.Scanner
	line int
	at   int64 // bytes before the next line
}

// NewReader returns a Reader from r.
func NewReader(r io.Reader) *Reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	out := &Reader{s: s}
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, token, err := bufio.ScanLines(data, atEOF)
		out.at += int64(n)
		return n, token, err
	})
	return out
}

// Offset is how many bytes have been read as lines.
func (r *Reader) Offset() int64 { return r.at }

// Next reads the next line, io.EOF after the last one. Errors name the line.
func (r *Reader) Next() (*Line, error) {
	if !r.s.Scan() {
		if err := r.s.Err(); err != nil {
			return nil, fmt.Errorf("line %d: %w", r.line+1, err)
		}
		return nil, io.EOF
	}
	r.line++
	var l Line
	if err := json.Unmarshal(r.s.Bytes(), &l); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.line, err)
	}
	if r.line == 1 && (l.Kind != KindBegin || l.Version < 1) {
		return nil, errors.New("line 1: it does not begin as an export of weir's quarantine does")
	}
	if r.line == 1 && l.Version > Version {
		return nil, fmt.Errorf("line 1: an export of version %d; this weir reads up to version %d", l.Version, Version)
	}
	return &l, nil
}
