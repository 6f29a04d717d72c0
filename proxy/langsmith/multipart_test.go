package langsmith

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
	"weir/proxy/runs"
)

func TestMultipartBecomesOperations(t *testing.T) {
	t.Parallel()
	feedback := fmt.Sprintf(`{"id":%q,"trace_id":%q,"key":"k"}`, idText(9), idText(1))
	for name, tc := range map[string]struct {
		parts []string
		want  []string
	}{
		"nothing": {nil, nil},
		"a run with fields": {
			[]string{jsonPart("post."+idText(1), runObject(1)), jsonPart("post."+idText(1)+".inputs", `{"a":1}`), jsonPart("post."+idText(1)+".error", `"boom"`)},
			[]string{`post 1 of 1 inputs={"a":1} error="boom"`},
		},
		"create and update of one run": {
			[]string{
				jsonPart("post."+idText(1), runObject(1)), jsonPart("post."+idText(1)+".inputs", `1`),
				jsonPart("patch."+idText(1), runObject(1)), jsonPart("patch."+idText(1)+".outputs", `2`),
			},
			[]string{`post 1 of 1 inputs=1`, `patch 1 of 1 outputs=2`},
		},
		"fields after all runs": {
			[]string{
				jsonPart("post."+idText(1), runObject(1)), jsonPart("post."+idText(2), runObject(2)),
				jsonPart("post."+idText(1)+".inputs", `1`), jsonPart("post."+idText(2)+".inputs", `2`), jsonPart("post."+idText(1)+".extra", `3`),
			},
			[]string{`post 1 of 1 inputs=1 extra=3`, `post 2 of 1 inputs=2`},
		},
		"fields before their run": {
			[]string{jsonPart("post."+idText(1)+".inputs", `1`), jsonPart("post."+idText(2), runObject(2)), jsonPart("post."+idText(1), runObject(1))},
			[]string{`post 1 of 1 inputs=1`, `post 2 of 1`},
		},
		"fields within the object": {
			[]string{jsonPart("post."+idText(1), strings.Replace(runObject(1), "{", `{"inputs":7,`, 1))},
			[]string{`post 1 of 1 inputs=7`},
		},
		"feedback": {
			[]string{jsonPart("feedback."+idText(9), feedback)},
			[]string{"feedback 9 of 1 " + feedback},
		},
		"feedback named by its run": {
			[]string{jsonPart("feedback."+idText(1), feedback)},
			[]string{"feedback 9 of 1 " + feedback},
		},
		"attachments after their run": {
			[]string{
				jsonPart("post."+idText(1), runObject(1)), filePart("attachment."+idText(1)+".a", "image/png", "A"),
				jsonPart("post."+idText(2), runObject(2)), filePart("attachment."+idText(2)+".b", "text/plain; charset=utf-8", "B"),
			},
			[]string{`post 1 of 1`, `attachment 1 of 1 a (image/png) A`, `post 2 of 1`, `attachment 2 of 1 b (text/plain; charset=utf-8) B`},
		},
		"attachments out of order": {
			[]string{
				filePart("attachment."+idText(2)+".b", "x/y", "B"), jsonPart("post."+idText(1), runObject(1)), jsonPart("post."+idText(2), runObject(2)),
				filePart("attachment."+idText(1)+".a", "x/y", "A"), filePart("attachment."+idText(7)+".c", "x/y", "C"),
			},
			[]string{`post 1 of 1`, `attachment 1 of 1 a (x/y) A`, `post 2 of 1`, `attachment 2 of 1 b (x/y) B`, `attachment 7 c (x/y) C`},
		},
		"content that looks like a boundary": {
			[]string{jsonPart("post."+idText(1), runObject(1)), filePart("attachment."+idText(1)+".a", "x/y", "\r\n--"+boundary+"--\r\n")},
			[]string{"post 1 of 1", "attachment 1 of 1 a (x/y) \r\n--" + boundary + "--\r\n"},
		},
		"an empty attachment": {
			[]string{filePart("attachment."+idText(1)+".a", "x/y", "")},
			[]string{"attachment 1 a (x/y) "},
		},
	} {
		for _, encoding := range []string{"", "gzip", "zstd"} {
			s := newStage(t, Config{})
			w := s.send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": formType, "Content-Encoding": encoding},
				strings.NewReader(string(compress(t, encoding, []byte(form(tc.parts...))))))
			if w.Code != http.StatusAccepted || w.Body.String() != "{}" {
				t.Errorf("%s (%s): status %d: %s", name, encoding, w.Code, w.Body)
				continue
			}
			if tc.want == nil {
				if n := len(s.sink.exports()); n != 0 {
					t.Errorf("%s: %d exports were kept", name, n)
				}
				continue
			}
			if diff := cmp.Diff(tc.want, told(s.sink.only(t).ops)); diff != "" {
				t.Errorf("%s (%s) (-want +got):\n%s", name, encoding, diff)
			}
		}
	}
}

func TestMultipartToleratesWhatGoDoes(t *testing.T) {
	t.Parallel()
	whole := form(jsonPart("post."+idText(1), runObject(1)))
	for name, body := range map[string]string{
		"line feeds only":    strings.ReplaceAll(whole, "\r\n", "\n"),
		"a preamble":         "This is a message in MIME format.\r\n" + whole,
		"an epilogue":        whole + "and more",
		"no line at the end": strings.TrimSuffix(whole, "\r\n"),
		"odd headers":        strings.Replace(whole, "Content-Disposition: form-data; name=", "X-Odd: 1\r\ncontent-DISPOSITION:form-data;name=", 1),
		"both lengths":       strings.Replace(whole, "application/json", fmt.Sprintf("application/json; charset=utf-8; length=%d", len(runObject(1))), 1),
	} {
		s := newStage(t, Config{})
		w := s.send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": formType}, strings.NewReader(body))
		if w.Code != http.StatusAccepted {
			t.Errorf("%s: status %d: %s", name, w.Code, w.Body)
			continue
		}
		s.sink.only(t)
	}
}

func TestMultipartErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	run := jsonPart("post."+idText(1), runObject(1))
	field := jsonPart("post."+idText(1)+".inputs", "1")
	resized := func(n int) string {
		return strings.Replace(run, fmt.Sprint("Content-Length: ", len(runObject(1))), fmt.Sprint("Content-Length: ", n), 1)
	}
	for name, tc := range map[string]struct{ body, want string }{
		"empty":                     {"", "error reading multipart data: the body holds no boundary as its content type names it"},
		"another boundary":          {strings.ReplaceAll(form(run), "xyz", "abc"), "error reading multipart data: the body holds no boundary as its content type names it"},
		"a length too short":        {form(resized(10)), "run " + idText(1) + ": id: not valid JSON at byte 10: unexpected EOF"},
		"a length one too short":    {form(strings.Replace(filePart("attachment."+idText(1)+".a", "x/y", "ab"), "length=2", "length=1", 1)), "error reading multipart data: no boundary follows where the part's length says it ends"},
		"a length one too long":     {form(resized(len(runObject(1)) + 1)), "error reading multipart data: no boundary follows where the part's length says it ends"},
		"a length far too long":     {form(resized(1 << 20)), `error reading multipart data: the body ends within part "post.` + idText(1) + `", before the length it announces`},
		"cut in the content":        {run[:len(run)-20], `error reading multipart data: the body ends within part "post.` + idText(1) + `", before the length it announces`},
		"cut after a part":          {run, "error reading multipart data: no boundary follows where the part's length says it ends"},
		"cut in the headers":        {run[:60], "error reading multipart data: the body ends within the headers of a part"},
		"two lengths":               {form(strings.Replace(run, "application/json", "application/json; length=1", 1)), `part "post.` + idText(1) + `": its Content-Length and its Content-Type disagree: `},
		"no length":                 {form(strings.Replace(run, "Content-Length", "X-Length", 1)), `part "post.` + idText(1) + `": it does not say its length, in a Content-Length header or as length=N in its Content-Type`},
		"a negative length":         {form(resized(-1)), `part "post.` + idText(1) + `": "-1" is not a length`},
		"no name":                   {form(strings.Replace(run, "name=", "nome=", 1)), "error reading multipart data: a part has no name in its Content-Disposition"},
		"a compressed part":         {form(strings.Replace(run, "Content-Length", "Content-Encoding: gzip\r\nContent-Length", 1)), `part "post.` + idText(1) + `": a part may not have a Content-Encoding; compress the whole request`},
		"no such event":             {form(jsonPart("put."+idText(1), "{}")), `part "put.` + idText(1) + `": want a name like post.RUN_ID, patch.RUN_ID.FIELD, feedback.ID or attachment.RUN_ID.NAME`},
		"no id":                     {form(jsonPart("post.mine", "{}")), `part "post.mine": "mine" is not a UUID; want a name like post.RUN_ID`},
		"no such field":             {form(run, jsonPart("post."+idText(1)+".tags", "[]")), `part "post.` + idText(1) + `.tags": "tags" is not one of inputs, outputs, events, extra, error, serialized`},
		"a field twice":             {form(run, field, field), "run " + idText(1) + ": inputs: it is given twice"},
		"a field without a run":     {form(field), "run " + idText(1) + ": it has parts of fields, and no part post." + idText(1)},
		"a field that is no JSON":   {form(run, jsonPart("post."+idText(1)+".inputs", "{")), "run " + idText(1) + ": inputs: not valid JSON at byte 1: unexpected EOF"},
		"a run that is no JSON":     {form(jsonPart("post."+idText(1), "[1]")), "run " + idText(1) + ": it is not a JSON object"},
		"a run without trace":       {form(jsonPart("post."+idText(1), `{"id":"`+idText(1)+`"}`)), "run " + idText(1) + ": trace_id: it is missing"},
		"a feedback without trace":  {form(jsonPart("feedback."+idText(1), `{"key":"k"}`)), "feedback " + idText(1) + ": trace_id: it is missing or not a UUID, and a feedback part needs it"},
		"an attachment with a dot":  {form(filePart("attachment."+idText(1)+".a.png", "image/png", "x")), "run " + idText(1) + `: attachment: its name is "a.png"; it must be neither empty nor hold a dot`},
		"a nameless attachment":     {form(filePart("attachment."+idText(1)+".", "image/png", "x")), "run " + idText(1) + `: attachment: its name is ""; it must be neither empty nor hold a dot`},
		"a long header":             {"--" + boundary + "\r\nX: " + strings.Repeat("x", readBufferBytes) + "\r\n\r\n", "error reading multipart data: a part has a header of more than 65536 bytes"},
		"many headers":              {"--" + boundary + "\r\n" + strings.Repeat("X: y\r\n", 33) + "\r\n", "error reading multipart data: a part has more than 32 headers"},
		"no header":                 {"--" + boundary + "\r\nwhat\r\n\r\n", `error reading multipart data: "what" is not a header`},
		"much before the first":     {strings.Repeat("x\n", 40_000) + form(run), "error reading multipart data: no boundary within the first 65536 bytes"},
		"much after the last":       {form(run) + strings.Repeat("x", 70_000), "error reading multipart data: more than 65536 bytes follow the last boundary"},
		"a part in another charset": {form(strings.Replace(run, "Content-Length", "Content-Transfer-Encoding: base64\r\nContent-Length", 1)), `part "post.` + idText(1) + `": Content-Transfer-Encoding "base64" is not supported`},
	} {
		s := newStage(t, Config{})
		w := s.send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": formType}, strings.NewReader(tc.body))
		got := errorOf(t, w)
		if w.Code != http.StatusUnprocessableEntity || !strings.HasPrefix(got, "Unprocessable entity: "+tc.want) {
			t.Errorf("%s: status %d:\ngot  %s\nwant %s", name, w.Code, got, tc.want)
		}
		if len(s.sink.exports()) != 0 {
			t.Errorf("%s: it was kept", name)
		}
	}
	for _, media := range []string{"", "application/json", "multipart/form-data", "multipart/mixed; boundary=x", "multipart/form-data; boundary=" + strings.Repeat("x", 300)} {
		w := newStage(t, Config{}).send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": media}, strings.NewReader(form(run)))
		if w.Code != http.StatusUnprocessableEntity {
			t.Errorf("content type %q: status %d: %s", media, w.Code, w.Body)
		}
	}
}

func TestLargeAttachmentsGoToDiskAsTheyCome(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", inlineBytes+1)
	parts := []string{jsonPart("post."+idText(1), runObject(1)), filePart("attachment."+idText(1)+".big", "x/y", large), filePart("attachment."+idText(1)+".small", "x/y", "s")}
	s := newStage(t, Config{})
	if w := s.sendParts(t, parts...); w.Code != http.StatusAccepted {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	e := s.sink.only(t)
	want := []string{"post 1 of 1", "attachment 1 of 1 big (x/y) blob0", "attachment 1 of 1 small (x/y) s"}
	if diff := cmp.Diff(want, told(e.ops)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(e.Blobs) != 1 || e.Blobs[0].Bytes != inlineBytes+1 || e.ops[1].BlobBytes != inlineBytes+1 || s.spooler.left() != 1 {
		t.Errorf("blobs %+v, operation %d bytes", e.Blobs, e.ops[1].BlobBytes)
	}
}

func TestWhatWasSpooledIsDiscardedOnEveryError(t *testing.T) {
	t.Parallel()
	file := filePart("attachment."+idText(1)+".big", "x/y", strings.Repeat("x", inlineBytes+1))
	run := jsonPart("post."+idText(1), runObject(1))
	for name, tc := range map[string]struct {
		body    string
		spool   error
		accept  error
		cfg     Config
		status  int
		spooled int
	}{
		"a bad part later":     {form(run, file, jsonPart("post.x", "{}")), nil, nil, Config{}, 422, 1},
		"the body ends in it":  {(run + file)[:len(run)+len(file)-100], nil, nil, Config{}, 422, 0},
		"the sink refuses":     {form(run, file), nil, &proxy.PressureError{Reason: "disk_full", RetryAfter: 1}, Config{}, 503, 1},
		"the sink rejects":     {form(run, file), nil, &proxy.RejectError{Reason: "too_large"}, Config{}, 413, 1},
		"the spooler is full":  {form(run, file), &proxy.PressureError{Reason: "disk_full", RetryAfter: 1}, nil, Config{}, 503, 0},
		"more than is allowed": {form(run, file, file), nil, nil, Config{MaxAttachmentBytes: 2 * inlineBytes}, 413, 1},
	} {
		s := newStage(t, tc.cfg)
		s.spooler.err = tc.spool
		if tc.accept != nil {
			s.sink.respond = func(context.Context, *proxy.Export) (proxy.Receipt, error) { return proxy.Receipt{}, tc.accept }
		}
		w := s.send(t, http.MethodPost, "/runs/multipart", map[string]string{"Content-Type": formType}, strings.NewReader(tc.body))
		if w.Code != tc.status || s.spooler.left() != 0 || len(s.spooler.sizes) != tc.spooled {
			t.Errorf("%s: status %d: %s; %d of %d blobs left", name, w.Code, w.Body, s.spooler.left(), len(s.spooler.sizes))
		}
	}
}

func TestTheSDKsLargestBatchesPass(t *testing.T) {
	t.Parallel()
	text := `{"x":"` + strings.Repeat("x", 256<<10) + `"}`
	var parts, list []string
	for n := 1; n <= 96; n++ { // 24 MiB, JavaScript's limit
		parts = append(parts, jsonPart("post."+idText(n), runObject(n)), jsonPart("post."+idText(n)+".inputs", text))
		list = append(list, strings.Replace(runObject(n), "{", `{"inputs":`+text+",", 1))
	}
	for path, body := range map[string]string{
		"/runs/multipart": form(parts...),
		"/runs/batch":     `{"post":[` + strings.Join(list, ",") + `]}`,
	} {
		s := newStage(t, Config{})
		w := s.send(t, http.MethodPost, path, map[string]string{"Content-Type": formType}, strings.NewReader(body))
		if w.Code != http.StatusAccepted {
			t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
			continue
		}
		if e := s.sink.only(t); e.Items != 96 || string(e.ops[95].Fields[runs.Inputs]) != text {
			t.Errorf("%s: %d operations arrived", path, e.Items)
		}
	}
}

func TestSmallAttachmentsGoToDiskBeforeTheyFillMemory(t *testing.T) {
	t.Parallel()
	parts := []string{jsonPart("post."+idText(1), runObject(1))}
	for n := range 60 {
		parts = append(parts, filePart(fmt.Sprintf("attachment.%s.a%d", idText(1), n), "x/y", strings.Repeat("x", 900<<10)))
	}
	s := newStage(t, Config{})
	if w := s.sendParts(t, parts...); w.Code != http.StatusAccepted {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	e := s.sink.only(t)
	if e.Items != 61 || len(e.Blobs) < 40 || int64(len(e.Payload)) > s.cfg.MaxMessageBytes {
		t.Errorf("%d operations with %d blobs, %d bytes", e.Items, len(e.Blobs), len(e.Payload))
	}
}

// repeated is a reader of one text n times.
type repeated struct {
	text string
	n    int
	rest string
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.rest == "" {
		if r.n == 0 {
			return 0, io.EOF
		}
		r.n--
		r.rest = r.text
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
