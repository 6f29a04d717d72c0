package runs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// testID is an id that ends in n.
func testID(n byte) ID {
	return ID{0x01, 0x9a, 0x2b, 0x3c, 0x4d, 0x5e, 0x7f, 0x60, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, n}
}

// form writes a form; what is in a blob is the blob's id, over and over.
func form(f *Form) []byte {
	var out []byte
	for p := f.Pieces(); ; {
		piece, ok := p.Next()
		if !ok {
			return out
		}
		out = append(out, piece.Bytes...)
		if b := piece.Blob; b != nil {
			out = append(out, bytes.Repeat([]byte(b.Blob), int(b.BlobBytes))[:b.BlobBytes]...)
		}
	}
}

func TestFormIsWhatLangSmithTakes(t *testing.T) {
	f := &Form{Boundary: "BOUNDARY", Ops: []*Op{
		{Kind: Create, ID: testID(1), Body: []byte(`{"name":"a"}`), Fields: [NumFields][]byte{Inputs: []byte(`{}`), Error: []byte(`"no"`)}},
		{Kind: Call, ID: testID(9), Body: []byte("not a part")},
		{Kind: Attachment, ID: testID(1), Name: "photo", ContentType: "image/png", Data: []byte("\x89PNG\r\n")},
		{Kind: Attachment, ID: testID(1), Name: "empty"},
		{Kind: Attachment, ID: testID(1), Name: "large", ContentType: "video/mp4", Blob: "b", BlobBytes: 3, Data: []byte("not this")},
		{
			Kind: Update, ID: testID(2), Body: []byte(`{}`),
			Fields: [NumFields][]byte{[]byte(`1`), []byte(`2`), []byte(`3`), []byte(`4`), []byte(`5`), []byte(``)},
		},
		{Kind: Feedback, ID: testID(3), Body: []byte(`{"score":1}`)},
	}}
	part := func(name, contentType, content string) string {
		return fmt.Sprintf("--BOUNDARY\r\nContent-Disposition: form-data; name=%q\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s\r\n",
			name, contentType, len(content), content)
	}
	const id, json = "019a2b3c-4d5e-7f60-8192-a3b4c5d6e7", "application/json"
	want := part("post."+id+"01", json, `{"name":"a"}`) +
		part("post."+id+"01.inputs", json, `{}`) +
		part("post."+id+"01.error", json, `"no"`) +
		part("attachment."+id+"01.photo", "image/png", "\x89PNG\r\n") +
		part("attachment."+id+"01.empty", "application/octet-stream", "") +
		part("attachment."+id+"01.large", "video/mp4", "bbb") +
		part("patch."+id+"02", json, `{}`) +
		part("patch."+id+"02.inputs", json, "1") +
		part("patch."+id+"02.outputs", json, "2") +
		part("patch."+id+"02.events", json, "3") +
		part("patch."+id+"02.extra", json, "4") +
		part("patch."+id+"02.error", json, "5") +
		part("patch."+id+"02.serialized", json, "") +
		part("feedback."+id+"03", json, `{"score":1}`) +
		"--BOUNDARY--\r\n"
	if diff := cmp.Diff(want, string(form(f))); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
	if got := f.Size(); got != int64(len(want)) {
		t.Errorf("Size = %d, the form has %d bytes", got, len(want))
	}
	if got, want := f.ContentType(), "multipart/form-data; boundary=BOUNDARY"; got != want {
		t.Errorf("ContentType = %q, want %q", got, want)
	}
}

func TestFormWithoutOperations(t *testing.T) {
	f := &Form{Boundary: "B"}
	if got := string(form(f)); got != "--B--\r\n" || f.Size() != int64(len(got)) {
		t.Errorf("form %q of %d bytes", got, f.Size())
	}
	var none Pieces
	if piece, ok := none.Next(); ok {
		t.Errorf("the zero walk has a piece %v", piece)
	}
}

func TestFormsDoNotShareABoundary(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		b := NewForm(nil).Boundary
		if seen[b] || len(b) < 24 || len(b) > 70 {
			t.Errorf("boundary %q", b)
		}
		seen[b] = true
		if got := mime.FormatMediaType("multipart/form-data", map[string]string{"boundary": b}); got != (&Form{Boundary: b}).ContentType() {
			t.Errorf("boundary %q needs quotes: %s", b, got)
		}
	}
}

func TestAttachmentNamesAndTypesBreakNothing(t *testing.T) {
	tests := []struct{ name, contentType, wantName, wantType string }{
		{`a "quoted" name`, "text/plain", `a "quoted" name`, "text/plain"},
		{`back\slash\`, "text/plain", `back\slash\`, "text/plain"},
		{"Rechnung für Zoë 発票 🧾", "text/plain", "Rechnung für Zoë 発票 🧾", "text/plain"},
		{"two\r\nlines: X-Evil", "text/plain", "two%0D%0Alines: X-Evil", "text/plain"},
		{"nul\x00, del\x7f", "text/plain", "nul%00, del%7F", "text/plain"},
		{"", "text/plain", "", "text/plain"},
		{"a; name=b; filename=c", "text/plain", "a; name=b; filename=c", "text/plain"},
		{"x", "text/plain; charset=utf-8; length=4", "x", "text/plain; charset=utf-8; length=4"},
		{"x", "", "x", "application/octet-stream"},
		{"x", "text/plain\r\nX-Evil: 1\r\n\r\n", "x", "application/octet-stream"},
	}
	for _, tt := range tests {
		f := NewForm([]*Op{{Kind: Attachment, ID: testID(1), Name: tt.name, ContentType: tt.contentType, Data: []byte("data")}})
		parts := readForm(t, f)
		if len(parts) != 1 {
			t.Fatalf("%q: %d parts", tt.name, len(parts))
		}
		got := parts[0]
		want := formPart{"attachment." + testID(1).String() + "." + tt.wantName, tt.wantType, "data"}
		if got != want {
			t.Errorf("%q of type %q arrives as %q, want %q", tt.name, tt.contentType, got, want)
		}
	}
}

// formPart is a part as a receiver sees it.
type formPart struct{ name, contentType, content string }

// fataler is a test or a property.
type fataler interface {
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// readForm reads a form as LangSmith does, which needs a length in each header.
func readForm(t fataler, f *Form) []formPart {
	mediaType, params, err := mime.ParseMediaType(f.ContentType())
	if err != nil || mediaType != "multipart/form-data" {
		t.Fatalf("content type %q: %v", f.ContentType(), err)
	}
	body := form(f)
	if int64(len(body)) != f.Size() {
		t.Errorf("the form has %d bytes, Size says %d", len(body), f.Size())
	}
	rest := bytes.NewReader(body)
	r := multipart.NewReader(rest, params["boundary"])
	var parts []formPart
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("part %d: %v", len(parts), err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatalf("part %d: %v", len(parts), err)
		}
		if got, want := p.Header.Get("Content-Length"), fmt.Sprint(len(content)); got != want || len(p.Header) != 3 || p.FileName() != "" {
			t.Errorf("part %q of %s bytes: header %v", p.FormName(), want, p.Header)
		}
		parts = append(parts, formPart{p.FormName(), p.Header.Get("Content-Type"), string(content)})
	}
	if rest.Len() != 0 {
		t.Errorf("%d bytes after the end", rest.Len())
	}
	return parts
}

// TestFormsSayWhatTheOperationsSay: whatever operations go into a form, a
// receiver can make them again.
func TestFormsSayWhatTheOperationsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(rapid.Custom(drawOp), 1, 12).Draw(t, "ops")
		want := make([]Op, len(ops))
		for i, op := range ops {
			want[i] = *op
		}
		got := reassemble(t, readForm(t, NewForm(ops)))
		if diff := cmp.Diff(want, got, cmp.Comparer(sameBytes)); diff != "" {
			t.Errorf("operations (-want +got):\n%s", diff)
		}
	})
}

// sameBytes compares contents; to send none is not to send an empty one.
func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// drawOp draws an operation that can be a part.
func drawOp(t *rapid.T) *Op {
	// Among the contents is what separates parts, but for the boundary itself.
	content := rapid.OneOf(
		rapid.SliceOf(rapid.Byte()),
		rapid.SampledFrom([][]byte{{}, []byte("--"), []byte("\r\n--"), []byte("\r\n--weir\r\n\r\n"), []byte("{}\r\n"), bytes.Repeat([]byte("x\r\n"), 3000)}),
	)
	op := &Op{Kind: rapid.SampledFrom([]Kind{Create, Update, Feedback, Attachment}).Draw(t, "kind"), ID: testID(rapid.Byte().Draw(t, "id"))}
	switch op.Kind {
	case Attachment:
		op.Name = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == '.' {
				return -1 // no name has a dot; the others do not come back
			}
			return r
		}, rapid.String().Draw(t, "name"))
		op.ContentType = rapid.SampledFrom([]string{"image/png", "text/plain; charset=\"utf-8\"", "x"}).Draw(t, "type")
		op.Data = content.Draw(t, "data")
	case Create, Update:
		for i := range op.Fields {
			if rapid.Bool().Draw(t, "present") {
				op.Fields[i] = content.Draw(t, "field")
			}
		}
		op.Body = content.Draw(t, "body")
	default:
		op.Body = content.Draw(t, "body")
	}
	return op
}

// reassemble makes operations of parts.
func reassemble(t fataler, parts []formPart) []Op {
	var ops []Op
	for _, p := range parts {
		event, rest, _ := strings.Cut(p.name, ".")
		text, field, more := strings.Cut(rest, ".")
		id, err := ParseID(text)
		if err != nil {
			t.Fatalf("part %q: %v", p.name, err)
		}
		content := append([]byte{}, p.content...)
		if event == "attachment" {
			ops = append(ops, Op{Kind: Attachment, ID: id, Name: field, ContentType: p.contentType, Data: content})
			continue
		}
		if p.contentType != "application/json" {
			t.Errorf("part %q is of type %q", p.name, p.contentType)
		}
		kind := map[string]Kind{"post": Create, "patch": Update, "feedback": Feedback}[event]
		if !more {
			ops = append(ops, Op{Kind: kind, ID: id, Body: content})
			continue
		}
		f, known := FieldNamed(field)
		if last := len(ops) - 1; known && last >= 0 && ops[last].Kind == kind && ops[last].ID == id {
			ops[last].Fields[f] = content
		} else {
			t.Errorf("part %q does not follow its run", p.name)
		}
	}
	return ops
}

// TestWalkingAFormAllocatesOneHeader: what a form costs does not grow with
// what is in it.
func TestWalkingAFormAllocatesOneHeader(t *testing.T) {
	var ops []*Op
	for i := range 100 {
		ops = append(ops, &Op{Kind: Create, ID: testID(byte(i)), Body: []byte("{}"), Fields: [NumFields][]byte{Inputs: make([]byte, 5000), Outputs: make([]byte, 5000)}})
	}
	f := NewForm(ops)
	if n := testing.AllocsPerRun(20, func() { f.Size() }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}
