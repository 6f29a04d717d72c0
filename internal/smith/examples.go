package smith

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
)

// postExamples answers POST /v1/platform/datasets/{id}/examples, by which the
// SDKs upload examples: a part per example, named by its id, and one for each
// of its inputs and outputs (LangSmith SDK: client.py, client.ts). Attachments
// of examples are not kept; they are refused.
func (s *Server) postExamples(r *request, from caller) reply {
	return s.takeExamples(r, from, func(o Object) error {
		made, err := exampleKind.made(o.with("dataset_id", strings.ToLower(r.route.id)), from.tenant, s.cfg.Now())
		if err == nil {
			_, err = s.store.create(from.tenant, &exampleKind, []Object{made}, false)
		}
		return err
	})
}

// patchExamples answers the PATCH of the same path.
func (s *Server) patchExamples(r *request, from caller) reply {
	return s.takeExamples(r, from, func(o Object) error {
		_, err := s.store.update(from.tenant, &exampleKind, o.Text("id"), o)
		return err
	})
}

// takeExamples reads a multipart body and hands on each example.
func (s *Server) takeExamples(r *request, from caller, take func(Object) error) reply {
	ids := []string{}
	answer := s.ingestQuietly(r, from, func(x *ingest) error {
		boundary, err := multipartBoundary(r.Header.Get("Content-Type"))
		if err != nil {
			return err
		}
		examples, err := readExamples(x.body, boundary)
		if err != nil {
			return err
		}
		for _, o := range examples {
			if err := take(o); err != nil {
				return err
			}
			ids = append(ids, o.Text("id"))
		}
		return nil
	})
	if answer != nil {
		return *answer
	}
	return jsonReply(map[string]any{"count": len(ids), "example_ids": ids, "as_of": s.cfg.Now().UTC()})
}

// ingestQuietly reads a request whose data is no traces. Nil is no refusal.
func (s *Server) ingestQuietly(r *request, from caller, take func(*ingest) error) *reply {
	b := takeBuffers()
	defer b.release()
	x := &ingest{r: r, in: s.describe(r, from)}
	err := s.readRuns(x, b)
	if err == nil {
		err = take(x)
	}
	if err == nil {
		return nil
	}
	a := runsRefusal(r, err)
	return &a
}

// readExamples puts the parts of each example together, in order of arrival.
func readExamples(body []byte, boundary string) ([]Object, error) {
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	var examples []Object
	for {
		part, err := r.NextRawPart()
		if err == io.EOF { //nolint:errorlint // a wrapped EOF is a body cut short
			return examples, nil
		}
		if err != nil {
			return nil, unprocessable("error reading multipart data: %v", err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, unprocessable("error reading multipart data: %v", err)
		}
		text, field, _ := strings.Cut(part.FormName(), ".")
		id, ok := parseUUID(text)
		if !ok || field != "" && field != "inputs" && field != "outputs" {
			return nil, unprocessable("part %.200q: the look-alike knows ID, ID.inputs and ID.outputs", part.FormName())
		}
		name := RunID(id).String()
		at := slices.IndexFunc(examples, func(o Object) bool { return o.Text("id") == name })
		if at < 0 {
			at = len(examples)
			examples = append(examples, Object{}.with("id", name))
		}
		if field != "" {
			if !json.Valid(data) {
				return nil, unprocessable("part %.200q: invalid JSON", part.FormName())
			}
			examples[at] = examples[at].set(field, compactOwn(data))
			continue
		}
		o, err := parseObject(data)
		if err != nil {
			return nil, unprocessable("part %.200q: %v", part.FormName(), err)
		}
		examples[at] = examples[at].over(o)
	}
}

// exampleEndpoints are the calls of the uploads.
func exampleEndpoints() []endpoint {
	const pattern = "/platform/datasets/{id}/examples"
	return []endpoint{
		{pattern: pattern, method: http.MethodPost, write: true, handle: (*Server).postExamples},
		{pattern: pattern, method: http.MethodPatch, write: true, handle: (*Server).patchExamples},
	}
}
