package langsmith

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strconv"
	"strings"
	"sync"
)

// Bounds of a multipart body's grammar.
const (
	readBufferBytes  = 64 << 10 // also the longest header line
	maxHeaderLines   = 32
	maxPreambleBytes = 64 << 10
	maxEpilogueBytes = 64 << 10
	maxBoundaryBytes = 200 // RFC 2046 allows 70
)

// part is the head of one part.
type part struct {
	name   string // of Content-Disposition
	media  string // Content-Type without its length
	length int64
}

// partReader reads a multipart/form-data body whose parts say how long they
// are, which LangSmith demands (API reference: ingest-runs-multipart), so that
// no content has to be searched for the boundary. It does not read ahead of
// what it is asked for by more than its buffer.
type partReader struct {
	*bufio.Reader

	boundary []byte // with the two hyphens before it
	newline  string // as after the first boundary; empty: that is still to come
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBufferBytes) }}

// newPartReader reads the parts of a body with the Content-Type given. The
// caller releases it.
func newPartReader(body io.Reader, contentType string) (*partReader, error) {
	media, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	switch {
	case err != nil || media != "multipart/form-data":
		return nil, malformed("content type %q is not supported here, want multipart/form-data with a boundary", clip(contentType))
	case boundary == "" || len(boundary) > maxBoundaryBytes:
		return nil, malformed("the boundary in the content type has %d bytes, want 1 to 70", len(boundary))
	}
	b := readers.Get().(*bufio.Reader)
	b.Reset(body)
	return &partReader{Reader: b, boundary: []byte("--" + boundary)}, nil
}

func (p *partReader) release() {
	p.Reset(nil)
	readers.Put(p.Reader)
}

// next reads the head of the next part, io.EOF after the last one. What the
// part before has announced must have been read.
func (p *partReader) next() (part, error) {
	last, err := p.line()
	if err != nil {
		return part{}, err
	}
	if last {
		return part{}, p.drain()
	}
	return p.head()
}

// line reads up to and including a boundary.
func (p *partReader) line() (last bool, err error) {
	skipped := 0
	started := p.newline != ""
	if started {
		// The line break before a boundary belongs to it.
		b, err := p.Peek(len(p.newline))
		if err == nil && string(b) != p.newline {
			return false, errNoBoundary()
		}
		_, _ = p.Discard(len(b)) // it is there
	}
	for {
		text, err := p.ReadSlice('\n')
		if rest, ok := bytes.CutPrefix(text, p.boundary); ok {
			end := string(bytes.TrimRight(rest, " \t\r\n"))
			if strings.HasPrefix(end, "--") {
				return true, nil
			}
			if end == "" && err == nil {
				p.newline = "\n"
				if bytes.HasSuffix(text, []byte("\r\n")) {
					p.newline = "\r\n"
				}
				return false, nil
			}
		}
		switch {
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			return false, err
		case started:
			return false, errNoBoundary()
		case err != nil:
			return false, malformed("error reading multipart data: the body holds no boundary as its content type names it")
		}
		if skipped += len(text); skipped > maxPreambleBytes {
			return false, malformed("error reading multipart data: no boundary within the first %d bytes", maxPreambleBytes)
		}
	}
}

func errNoBoundary() error {
	return malformed("error reading multipart data: no boundary follows where the part's length says it ends")
}

// drain reads what follows the last boundary: a decompressor meets damage only
// at its end.
func (p *partReader) drain() error {
	n, err := io.CopyN(io.Discard, p, maxEpilogueBytes)
	if n == maxEpilogueBytes {
		return malformed("error reading multipart data: more than %d bytes follow the last boundary", maxEpilogueBytes)
	}
	return err // io.EOF, or what is wrong
}

// head reads a part's headers.
func (p *partReader) head() (part, error) {
	h := part{length: -1}
	err := h.read(p)
	return h, err
}

func (h *part) read(p *partReader) error {
	for range maxHeaderLines {
		text, err := p.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return malformed("error reading multipart data: the body ends within the headers of a part")
		case errors.Is(err, bufio.ErrBufferFull):
			return malformed("error reading multipart data: a part has a header of more than %d bytes", readBufferBytes)
		case err != nil:
			return err
		}
		text = bytes.TrimRight(text, "\r\n")
		if len(text) == 0 {
			return h.check()
		}
		name, value, found := bytes.Cut(text, []byte{':'})
		if !found {
			return malformed("error reading multipart data: %.80q is not a header", text)
		}
		if err := h.header(string(name), string(bytes.Trim(value, " \t"))); err != nil {
			return err
		}
	}
	return malformed("error reading multipart data: a part has more than %d headers", maxHeaderLines)
}

func (h *part) check() error {
	switch {
	case h.name == "":
		return malformed("error reading multipart data: a part has no name in its Content-Disposition")
	case h.length < 0:
		return malformed("part %.80q: it does not say its length, in a Content-Length header or as length=N in its Content-Type", h.name)
	}
	return nil
}

func (h *part) header(name, value string) error {
	switch {
	case strings.EqualFold(name, "Content-Disposition"):
		h.name = dispositionName(value)
	case strings.EqualFold(name, "Content-Type"):
		media, length := splitLength(value)
		h.media = media
		if length != "" {
			return h.setLength(length)
		}
	case strings.EqualFold(name, "Content-Length"):
		return h.setLength(value)
	case strings.EqualFold(name, "Content-Encoding"):
		return malformed("part %.80q: a part may not have a Content-Encoding; compress the whole request", h.name)
	case strings.EqualFold(name, "Content-Transfer-Encoding"):
		if !strings.EqualFold(value, "binary") && !strings.EqualFold(value, "8bit") && !strings.EqualFold(value, "7bit") {
			return malformed("part %.80q: Content-Transfer-Encoding %.40q is not supported", h.name, value)
		}
	}
	return nil
}

func (h *part) setLength(text string) error {
	n, err := strconv.ParseInt(text, 10, 63)
	switch {
	case err != nil || n < 0:
		return malformed("part %.80q: %.40q is not a length", h.name, text)
	case h.length >= 0 && h.length != n:
		return malformed("part %.80q: its Content-Length and its Content-Type disagree: %d and %d bytes", h.name, h.length, n)
	}
	h.length = n
	return nil
}

// dispositionName reads the name of a form-data disposition, empty if it has
// none. What the SDKs write is read without the work of the general case.
func dispositionName(value string) string {
	const plain = `form-data; name="`
	if rest, ok := strings.CutPrefix(value, plain); ok {
		if name, after, found := strings.Cut(rest, `"`); found && after == "" && !strings.Contains(name, `\`) {
			return name
		}
	}
	media, params, err := mime.ParseMediaType(value)
	if err != nil || media != "form-data" {
		return ""
	}
	return params["name"]
}

// splitLength takes the length parameter out of a media type.
func splitLength(value string) (media, length string) {
	media, params, found := strings.Cut(value, ";")
	if !found {
		return value, ""
	}
	media = strings.TrimSpace(media)
	if n, ok := strings.CutPrefix(strings.TrimSpace(params), "length="); ok && isDigits(n) {
		return media, n
	}
	parsed, all, err := mime.ParseMediaType(value)
	if err != nil {
		return value, ""
	}
	length = all["length"]
	if length == "" {
		return value, ""
	}
	delete(all, "length")
	if with := mime.FormatMediaType(parsed, all); with != "" {
		media = with
	}
	return media, length
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// content reads a part's content to the end it has announced.
type content struct {
	r    *partReader
	name string
	left int64
}

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	switch {
	case c.left == 0:
		return n, nil
	case errors.Is(err, io.EOF):
		return n, endsWithin(c.name)
	}
	return n, err
}

func endsWithin(name string) error {
	return malformed("error reading multipart data: the body ends within part %.80q, before the length it announces", name)
}
