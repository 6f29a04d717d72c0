package smith

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fuzzBoundary is the boundary of the bodies that fuzzing starts from.
const fuzzBoundary = "b"

// canonical writes parts as clients do.
func canonical(t testing.TB, parts []runPart) []byte {
	t.Helper()
	f := newForm(t)
	if err := f.w.SetBoundary(fuzzBoundary); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		name := p.kind.String() + "." + p.id.String()
		if p.field != "" {
			name += "." + p.field
		}
		f.part(name, p.contentType, string(p.data))
	}
	return f.body()
}

// FuzzMultipart holds the count of operations against the reader that follows
// the service's rules: whatever that takes is counted the same when it is
// written anew, and is the same when it is read again.
func FuzzMultipart(f *testing.F) {
	good := newForm(f).json("post."+rid(1).String(), "{}").json("post."+rid(1).String()+".inputs", "{}").
		part("attachment."+rid(1).String()+".x", "text/plain", "\r\n--bx").json("feedback."+rid(2).String(), "{}")
	f.Add(bytes.ReplaceAll(good.body(), []byte(good.w.Boundary()), []byte(fuzzBoundary)))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := countParts(body, fuzzBoundary); err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
		parts, err := readParts(body, fuzzBoundary, 0)
		if err != nil {
			return
		}
		var want [4]int64
		for i := range parts {
			if parts[i].field == "" || parts[i].kind == OpAttachment {
				want[parts[i].kind]++
			}
		}
		for _, p := range parts {
			if bytes.ContainsAny([]byte(p.field), "\"\\\r\n") {
				return // clients escape these, each in its own way
			}
		}
		again := canonical(t, parts)
		if got, err := countParts(again, fuzzBoundary); got != want || err != nil {
			t.Fatalf("counted %v, %v; want %v in %q", got, err, want, again)
		}
		reread, err := readParts(again, fuzzBoundary, 0)
		if diff := cmp.Diff(parts, reread, cmp.AllowUnexported(runPart{})); diff != "" || err != nil {
			t.Fatalf("read again: %v\n%s", err, diff)
		}
	})
}

// FuzzRunOperations sends any body by any path: the answer is one of those
// documented, nothing is half taken, and what is taken can be read back.
func FuzzRunOperations(f *testing.F) {
	run := runJSON([]int{1})
	good := newForm(f).json("post."+rid(1).String(), run).json("post."+rid(1).String()+".inputs", "{}")
	f.Add(bytes.ReplaceAll(good.body(), []byte(good.w.Boundary()), []byte(fuzzBoundary)), uint8(0))
	f.Add([]byte(`{"post":[`+run+`,`+runJSON([]int{1, 2})+`],"patch":[`+run+`]}`), uint8(1))
	f.Add([]byte(`{"id":"`+rid(1).String()+`","name":"n","run_type":"llm"}`), uint8(2))
	f.Add([]byte(`{"outputs":{"a":1},"end_time":1795435200000}`), uint8(3))
	f.Add([]byte(`{"key":"k","run_id":null,"score":0.1}`), uint8(4))
	calls := []struct{ method, path, contentType string }{
		{http.MethodPost, "/runs/multipart", "multipart/form-data; boundary=" + fuzzBoundary},
		{http.MethodPost, "/runs/batch", contentJSON},
		{http.MethodPost, "/runs", contentJSON},
		{http.MethodPatch, "/runs/" + rid(1).String(), contentJSON},
		{http.MethodPost, "/feedback", contentJSON},
		{http.MethodPost, "/examples/bulk", contentJSON},
		{http.MethodPost, "/runs/query", contentJSON},
	}
	s := New(Config{MaxBodyBytes: 1 << 20, MaxRawBytes: 1 << 20, Control: true})
	f.Cleanup(func() { _ = s.Close() })
	send := func(t *testing.T, method, path, contentType string, body []byte) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
		r.Header = header("X-Api-Key", keyA, "Content-Type", contentType)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	f.Fuzz(func(t *testing.T, body []byte, call uint8) {
		s.Reset()
		c := calls[int(call)%len(calls)]
		w := send(t, c.method, c.path, c.contentType, body)
		st := s.Stats().Runs
		taken := st.Posts + st.Patches + st.Feedback + st.Attachments
		switch w.Code {
		case http.StatusOK, http.StatusAccepted, http.StatusConflict:
			if n := int64(len(s.Operations())); n != taken || int64(len(s.Runs())) != st.Distinct || int64(len(s.Feedbacks())) != st.DistinctFeedback {
				t.Fatalf("%d operations can be read back of %+v", n, st)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			if taken != 0 || len(s.Runs()) != 0 || len(s.Feedbacks()) != 0 {
				t.Fatalf("refused with %d, and taken: %+v", w.Code, st)
			}
		default:
			t.Fatalf("answer = %d %s", w.Code, w.Body)
		}
		// What was taken can be shown, and is JSON.
		for _, path := range []string{"/__smith/runs", "/__smith/feedback", "/__smith/operations", "/feedback"} {
			if w := send(t, http.MethodGet, path, contentJSON, nil); w.Code != http.StatusOK {
				t.Fatalf("GET %s = %d %s", path, w.Code, w.Body)
			} else if !validJSON(w.Body.Bytes()) {
				t.Fatalf("GET %s is no JSON: %q", path, w.Body)
			}
		}
		if w := send(t, http.MethodPost, "/runs/query", contentJSON, []byte("{}")); w.Code != http.StatusOK || !validJSON(w.Body.Bytes()) {
			t.Fatalf("query = %d %q", w.Code, w.Body)
		}
	})
}
