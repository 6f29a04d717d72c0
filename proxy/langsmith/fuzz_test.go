package langsmith

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"weir/proxy/runs"
)

// FuzzMultipart holds that whatever is taken is what Go's own reader of
// multipart bodies, and with it LangSmith's, finds in the same bytes. That one
// may find less: it takes a boundary within content for one, and is strict
// about headers that mean nothing here. What is taken is written anew.
func FuzzMultipart(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		s := newStage(t, Config{MaxMessageBytes: 1 << 20, MaxOperations: 50})
		w := s.send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": formType}, bytes.NewReader(body))
		switch w.Code {
		case http.StatusAccepted:
		case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			errorOf(t, w)
			return
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		parts := map[string]int{}
		for r := multipart.NewReader(bytes.NewReader(body), boundary); ; {
			p, err := r.NextRawPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			content, err := io.ReadAll(p)
			if err != nil || bytes.Contains(content, []byte("\r\n--")) {
				return
			}
			event, _, _ := strings.Cut(p.FormName(), ".")
			parts[event+" "+string(bytes.TrimSpace(content))]++
		}
		var ops []runs.Op
		for _, e := range s.sink.exports() {
			ops = append(ops, e.ops...)
		}
		for _, op := range ops {
			for _, value := range append(op.Fields[:], op.Data) {
				if value != nil && parts[op.Kind.String()+" "+string(bytes.TrimSpace(value))] == 0 && !inObject(parts, value) {
					t.Errorf("%s of %s is in no part: %q", op.Kind, op.ID, value)
				}
			}
		}
	})
}

// inObject tells whether a value came within a run's object.
func inObject(parts map[string]int, value []byte) bool {
	for content := range parts {
		if strings.Contains(content, string(value)) {
			return true
		}
	}
	return false
}

// FuzzBatch holds that whatever is taken is what encoding/json finds.
func FuzzBatch(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		s := newStage(t, Config{MaxMessageBytes: 1 << 20, MaxOperations: 50})
		w := s.send(t, http.MethodPost, "/runs/batch", nil, bytes.NewReader(body))
		switch w.Code {
		case http.StatusAccepted:
		case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			errorOf(t, w)
			return
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if !json.Valid(body) {
			t.Fatal("it is not JSON")
		}
		for _, e := range s.sink.exports() {
			for _, op := range e.ops {
				if !json.Valid(op.Body) || op.ID.IsZero() || op.Trace.IsZero() {
					t.Errorf("%s of %s: %q", op.Kind, op.ID, op.Body)
				}
			}
		}
	})
}

// FuzzPartHeader holds that the short way of reading a part's headers agrees
// with the long one.
func FuzzPartHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, disposition, media string) {
		if strings.ContainsAny(disposition+media, "\r\n") {
			return
		}
		name := dispositionName(disposition)
		if kind, params, err := mime.ParseMediaType(disposition); err == nil && kind == "form-data" && name != params["name"] {
			t.Errorf("%q: name %q, Go's reader has %q", disposition, name, params["name"])
		}
		_, length := splitLength(media)
		if _, params, err := mime.ParseMediaType(media); err == nil && length != params["length"] {
			t.Errorf("%q: length %q, Go's reader has %q", media, length, params["length"])
		}
	})
}
