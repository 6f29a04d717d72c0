package smith

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// refusal is a request that is not taken. The family's service words it.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// pythonError is a refusal in the words of the Python service, whichever
// service was asked.
type pythonError refusal

func (e *pythonError) Error() string { return e.text }

// unprocessable refuses with 422, the service's answer to what it cannot read.
func unprocessable(format string, args ...any) error {
	return &refusal{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...)}
}

// runPart is one part of a multipart request.
type runPart struct {
	kind        OpKind
	id          RunID
	field       string // of a run's field, or an attachment's name; else ""
	contentType string
	data        []byte
}

// fieldNames are the fields that travel in parts of their own (LangSmith API
// reference: ingest-runs-multipart).
var fieldNames = []string{"inputs", "outputs", "events", "error", "extra", "serialized"}

// multipartBoundary reads the boundary off a request. The wording for another
// type is Go's own.
func multipartBoundary(contentType string) (string, error) {
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil || media != "multipart/form-data":
		return "", unprocessable("error reading multipart data: request Content-Type isn't multipart/form-data")
	case params["boundary"] == "":
		return "", unprocessable("error reading multipart data: no multipart boundary param in Content-Type")
	}
	return params["boundary"], nil
}

// readParts reads a multipart body. Parts that break a rule of the service
// refuse it all. maxAttachment of 0 is no bound.
func readParts(body []byte, boundary string, maxAttachment int64) ([]runPart, error) {
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	var parts []runPart
	for {
		raw, err := r.NextRawPart()
		if err == io.EOF { //nolint:errorlint // a wrapped EOF is a body cut short
			return parts, nil
		}
		if err != nil {
			return nil, unprocessable("error reading multipart data: %v", err)
		}
		part, err := readPart(raw, maxAttachment)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
}

// readPart reads one part and holds it to the service's rules: it has a
// Content-Type, says its length and is that long, and is not compressed by
// itself (LangSmith API reference: ingest-runs-multipart). Only that a breach
// is a 422 is documented; the wordings are ours.
func readPart(raw *multipart.Part, maxAttachment int64) (runPart, error) {
	name := raw.FormName()
	part, err := parsePartName(name)
	if err != nil {
		return part, err
	}
	if raw.Header.Get("Content-Encoding") != "" {
		return part, unprocessable("part %.200q: Content-Encoding is not allowed on a part", name)
	}
	part.contentType = raw.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(part.contentType)
	if err != nil {
		return part, unprocessable("part %.200q: missing or invalid Content-Type", name)
	}
	if part.kind != OpAttachment && media != contentJSON {
		return part, unprocessable("part %.200q: Content-Type %.200q is not %s", name, media, contentJSON)
	}
	length, err := partLength(raw.Header.Get("Content-Length"), params["length"])
	if err != nil {
		return part, unprocessable("part %.200q: %v", name, err)
	}
	if _, ok := params["length"]; ok {
		delete(params, "length")
		part.contentType = mime.FormatMediaType(media, params)
	}
	if part.data, err = io.ReadAll(raw); err != nil {
		return part, unprocessable("error reading multipart data: %v", err)
	}
	if int64(len(part.data)) != length {
		return part, unprocessable("part %.200q: it says a length of %d and has %d bytes", name, length, len(part.data))
	}
	if part.kind == OpAttachment && maxAttachment > 0 && length > maxAttachment {
		return part, &refusal{
			http.StatusRequestEntityTooLarge,
			fmt.Sprintf("attachment %.200q has %d bytes, more than %d", part.field, length, maxAttachment),
		}
	}
	return part, nil
}

// partLength reads the length that a part claims, in its header or as a
// parameter of its Content-Type. Where both are there they must agree.
func partLength(header, param string) (int64, error) {
	if header == "" && param == "" {
		return 0, errors.New("missing Content-Length, or length in its Content-Type")
	}
	length := int64(-1)
	for _, text := range []string{header, param} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("length %.200q is not a number", text)
		}
		if length >= 0 && n != length {
			return 0, fmt.Errorf("Content-Length %d and length=%d differ", length, n)
		}
		length = n
	}
	return length, nil
}

// parsePartName takes a part's name apart: EVENT.ID[.FIELD].
func parsePartName(name string) (runPart, error) {
	var part runPart
	event, rest, _ := strings.Cut(name, ".")
	text, field, beside := strings.Cut(rest, ".")
	if event == "" || part.kind.UnmarshalText([]byte(event)) != nil || event != part.kind.String() {
		return part, unprocessable("invalid part name %.200q: it does not begin with post, patch, feedback or attachment", name)
	}
	id, ok := parseUUID(text)
	if !ok {
		return part, unprocessable("invalid part name %.200q: %.200q is not a UUID", name, text)
	}
	part.id, part.field = id, field
	switch part.kind {
	case OpPost, OpPatch:
		if beside && !slices.Contains(fieldNames, field) {
			return part, unprocessable("invalid part name %.200q: %.200q is not a field of its own", name, field)
		}
	case OpFeedback:
		if beside {
			return part, unprocessable("invalid part name %.200q: feedback has no fields of its own", name)
		}
	case OpAttachment:
		if field == "" || strings.Contains(field, ".") {
			return part, unprocessable("invalid part name %.200q: an attachment has a name without a dot", name)
		}
	}
	return part, nil
}

// countParts counts the operations of a multipart body as clients write it, by
// kind, by looking at the names of its parts and at nothing else. A part that
// is a run's field is no operation.
func countParts(body []byte, boundary string) ([4]int64, error) {
	var counts [4]int64
	delimiter := []byte("\r\n--" + boundary)
	if bytes.HasPrefix(body, delimiter[2:]) {
		body = body[len(delimiter)-2:]
	} else if body = afterDelimiter(body, delimiter); body == nil { // no preamble either
		return counts, unprocessable("error reading multipart data: multipart: NextPart: EOF")
	}
	for {
		if bytes.HasPrefix(body, []byte("--")) {
			return counts, nil
		}
		end := bytes.Index(body, []byte("\r\n\r\n"))
		if end < 0 {
			return counts, unprocessable("error reading multipart data: multipart: NextPart: EOF")
		}
		countPart(body[:end], &counts)
		if body = afterDelimiter(body[end:], delimiter); body == nil {
			return counts, unprocessable("error reading multipart data: unexpected EOF")
		}
	}
}

// afterDelimiter returns what follows the next delimiter; nil is none. What
// merely begins like one is content.
func afterDelimiter(body, delimiter []byte) []byte {
	for {
		at := bytes.Index(body, delimiter)
		if at < 0 {
			return nil
		}
		body = body[at+len(delimiter):]
		if bytes.HasPrefix(body, []byte("--")) || len(body) > 0 && bytes.IndexByte([]byte(" \t\r\n"), body[0]) >= 0 {
			return body
		}
	}
}

// countPart counts the part with those headers.
func countPart(header []byte, counts *[4]int64) {
	_, name, ok := bytes.Cut(header, []byte(` name="`)) // the space: not a filename
	if !ok {
		return
	}
	name, _, _ = bytes.Cut(name, []byte(`"`))
	event, rest, _ := bytes.Cut(name, []byte("."))
	var kind OpKind
	switch string(event) {
	case "post":
	case "patch":
		kind = OpPatch
	case "feedback":
		kind = OpFeedback
	case "attachment":
		counts[OpAttachment]++
		return
	default:
		return
	}
	if !bytes.Contains(rest, []byte(".")) {
		counts[kind]++
	}
}
