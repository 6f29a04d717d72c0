package runs

import (
	"crypto/rand"
	"strconv"
)

// jsonType is the content type of all parts but attachments; unknownType that
// of an attachment which has none that can be sent.
const (
	jsonType    = "application/json"
	unknownType = "application/octet-stream"
)

// Form is a request body as POST /runs/multipart takes it (LangSmith API
// reference: ingest-runs-multipart): each operation is a part named after it
// ("post.ID", "patch.ID", "feedback.ID", "attachment.RUN.NAME"), and the fields
// that travel beside a run are parts after the run's own ("post.ID.inputs").
// Every part says its length in a header.
//
// A form is only read by its methods; any number of goroutines may use it.
type Form struct {
	// Boundary separates the parts. It must be at most 70 letters and digits
	// (RFC 2046, 5.1.1) that occur in no content.
	Boundary string

	// Ops are the operations in the order of their parts; a Call among them
	// has no part.
	Ops []*Op
}

// NewForm returns a form of ops with a boundary that nobody could foresee, so
// that no content can hold it.
func NewForm(ops []*Op) *Form {
	return &Form{Boundary: "weir" + rand.Text(), Ops: ops}
}

// ContentType is the form's media type, for the request's header.
func (f *Form) ContentType() string { return "multipart/form-data; boundary=" + f.Boundary }

// Size is the length of the whole form in bytes, content in blobs included. It
// costs a walk over the parts' headers.
func (f *Form) Size() int64 {
	var n int64
	for p := f.Pieces(); ; {
		piece, ok := p.Next()
		if !ok {
			return n
		}
		n += int64(len(piece.Bytes))
		if piece.Blob != nil {
			n += piece.Blob.BlobBytes
		}
	}
}

// Pieces returns a walk over the form from its start.
func (f *Form) Pieces() Pieces { return Pieces{form: f} }

// Piece is a stretch of a form: Bytes, or the content of Blob's blob.
type Piece struct {
	Bytes []byte
	Blob  *Op
}

// Pieces walks over a form. The zero value is at the end of an empty one.
type Pieces struct {
	form    *Form
	op      int         // Ops[op] is under way
	part    int         // the next of its parts: its own, then its fields
	content Piece       // of the part of which the header came last
	head    []byte      // the latest header, overwritten by the next
	id      [idLen]byte // of Ops[op], as text
	begun   bool        // a part came before
	ended   bool
}

// Next returns the next piece, false at the end. Piece.Bytes may be overwritten
// by the next call; it is empty only where a walk must go on regardless.
func (p *Pieces) Next() (piece Piece, ok bool) {
	if c := p.content; len(c.Bytes) > 0 || c.Blob != nil {
		p.content = Piece{}
		return c, true
	}
	if p.form == nil || p.ended {
		return Piece{}, false
	}
	for p.op < len(p.form.Ops) {
		op, part := p.form.Ops[p.op], p.part
		p.part++
		switch {
		case part == 0 && op.Kind != Call:
			p.own(op)
			return Piece{Bytes: p.head}, true
		case part > NumFields || op.Kind != Create && op.Kind != Update:
			p.op, p.part = p.op+1, 0
		case part > 0 && op.Fields[part-1] != nil:
			p.begin(op)
			p.head = append(append(p.head, '.'), FieldNames[part-1]...)
			p.end(jsonType, Piece{Bytes: op.Fields[part-1]})
			return Piece{Bytes: p.head}, true
		}
	}
	p.ended = true
	p.head = p.head[:0]
	if p.begun {
		p.head = append(p.head, "\r\n"...)
	}
	p.head = append(append(append(p.head, "--"...), p.form.Boundary...), "--\r\n"...)
	return Piece{Bytes: p.head}, true
}

// own makes the header of the operation's own part.
func (p *Pieces) own(op *Op) {
	op.ID.AppendString(p.id[:0])
	p.begin(op)
	if op.Kind != Attachment {
		p.end(jsonType, Piece{Bytes: op.Body})
		return
	}
	p.head = appendQuoted(append(p.head, '.'), op.Name)
	content := Piece{Bytes: op.Data}
	if op.Blob != "" {
		content = Piece{Blob: op}
	}
	p.end(mediaType(op.ContentType), content)
}

// begin begins the header of a part that is named after op.
func (p *Pieces) begin(op *Op) {
	p.head = p.head[:0]
	if p.begun {
		p.head = append(p.head, "\r\n"...)
	}
	p.begun = true
	p.head = append(append(append(p.head, "--"...), p.form.Boundary...), "\r\nContent-Disposition: form-data; name=\""...)
	p.head = append(append(append(p.head, op.Kind.String()...), '.'), p.id[:]...)
}

// end ends the header of a part with content of a type.
func (p *Pieces) end(contentType string, content Piece) {
	size := int64(len(content.Bytes))
	if content.Blob != nil {
		size = content.Blob.BlobBytes
	}
	p.content = content
	p.head = append(append(p.head, "\"\r\nContent-Type: "...), contentType...)
	p.head = strconv.AppendInt(append(p.head, "\r\nContent-Length: "...), size, 10)
	p.head = append(p.head, "\r\n\r\n"...)
}

// appendQuoted appends a name as the inside of a quoted string. Quotes and
// backslashes are escaped as Go's mime/multipart does and undoes, which is what
// LangSmith's error messages show behind the endpoint; the SDKs escape nothing,
// and what they send breaks at a quote. UTF-8 stays as it is, as with them.
// Control characters, which no header can hold, become %0A and so on, as line
// breaks do in browsers (WHATWG HTML: multipart/form-data).
func appendQuoted(dst []byte, name string) []byte {
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case isControl(c):
			const digits = "0123456789ABCDEF"
			dst = append(dst, '%', digits[c>>4], digits[c&0xf])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// mediaType is an attachment's type, or the unknown one where it has none that
// a header can hold.
func mediaType(s string) string {
	for i := range len(s) {
		if isControl(s[i]) {
			return unknownType
		}
	}
	if s == "" {
		return unknownType
	}
	return s
}

func isControl(c byte) bool { return c < ' ' || c == 0x7f }
