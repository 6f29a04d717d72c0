package smith

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// ownMembers are what the control API says about a run itself. A member of the
// sender's with one of these names is not shown.
var ownMembers = []string{
	"id", "trace_id", "dotted_order", "attachments", "posts", "patches",
	"workspace", "key", "project", "sequence", "first_post", "first_patch", "received_at", "forgotten",
}

// attachmentView is an attachment as the control API shows it.
type attachmentView struct {
	ContentType string `json:"content_type"`
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"`
}

// appendRun appends a run as the control API shows it: its merged members,
// their values letter for letter, and what came of it.
func appendRun(dst []byte, r *Run) []byte {
	o := Object{{Name: "id", Value: textOf(r.ID.String())}}
	if r.Trace != (RunID{}) {
		o = append(o, Member{Name: "trace_id", Value: textOf(r.Trace.String())})
	}
	if r.DottedOrder != "" {
		o = append(o, Member{Name: "dotted_order", Value: textOf(r.DottedOrder)})
	}
	for _, m := range r.Members {
		if !slices.Contains(ownMembers, m.Name) {
			o = append(o, m)
		}
	}
	files := make(map[string]attachmentView, len(r.Attachments))
	for _, a := range r.Attachments {
		files[a.Name] = attachmentView{a.ContentType, a.Bytes, hex.EncodeToString(a.SHA256[:])}
	}
	for _, own := range []struct {
		name  string
		value any
	}{
		{"attachments", files},
		{"posts", r.Posts},
		{"patches", r.Patches},
		{"workspace", r.Workspace},
		{"key", r.Key.String()},
		{"project", r.Project},
		{"sequence", r.Seq},
		{"first_post", r.FirstPost},
		{"first_patch", r.FirstPatch},
		{"received_at", r.Time},
		{"forgotten", r.Forgotten},
	} {
		o = append(o, Member{Name: own.name, Value: appendJSON(nil, own.value)})
	}
	return o.appendJSON(dst)
}

// feedbackView is a feedback as the control API shows it.
type feedbackView struct {
	ID        string          `json:"id"`
	Run       string          `json:"run_id,omitempty"`
	Trace     string          `json:"trace_id,omitempty"`
	Workspace string          `json:"workspace"`
	Key       string          `json:"key"`
	Changes   int             `json:"changes"`
	Request   int64           `json:"request"`
	Forgotten bool            `json:"forgotten"`
	Feedback  json.RawMessage `json:"feedback"` // as it was sent
}

// operationView is an operation as the control API shows it.
type operationView struct {
	Kind      OpKind    `json:"kind"`
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"`
	Duplicate bool      `json:"duplicate"`
	Request   int64     `json:"request"`
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Encoding  string    `json:"encoding"`
	Workspace string    `json:"workspace"`
	Key       string    `json:"key"`
}

// writeList writes {"NAME":[...]} an element at a time.
func writeList[T any](w http.ResponseWriter, name string, list []T, element func([]byte, *T) []byte) {
	w.Header().Set("Content-Type", contentJSON)
	out := bufio.NewWriter(w)
	defer func() { _ = out.Flush() }() // the client has left
	_, _ = out.WriteString(`{"` + name + `":[`)
	var buf []byte
	for i := range list {
		buf = buf[:0]
		if i > 0 {
			buf = append(buf, ",\n"...)
		}
		buf = element(buf, &list[i])
		_, _ = out.Write(buf)
	}
	_, _ = out.WriteString("]}\n")
}

// newest returns the last n of a list, as the limit of a query asks.
func newest[T any](r *http.Request, list []T) ([]T, error) {
	const most = 1 << 40
	n, err := queryBounded(r, "limit", most, most)
	if err != nil {
		return nil, err
	}
	return list[max(0, len(list)-n):], nil
}

func (s *Server) controlRuns(w http.ResponseWriter, r *http.Request) error {
	list, err := newest(r, s.Runs())
	if err != nil {
		return err
	}
	writeList(w, "runs", list, appendRun)
	return nil
}

func (s *Server) controlFeedback(w http.ResponseWriter, r *http.Request) error {
	list, err := newest(r, s.Feedbacks())
	if err != nil {
		return err
	}
	writeList(w, "feedback", list, func(dst []byte, f *Feedback) []byte {
		v := feedbackView{
			ID: f.ID.String(), Workspace: f.Workspace, Key: f.Key.String(), Changes: f.Changes,
			Request: f.Request, Forgotten: f.Forgotten, Feedback: f.Members.appendJSON(nil),
		}
		if f.Run != (RunID{}) {
			v.Run = f.Run.String()
		}
		if f.Trace != (RunID{}) {
			v.Trace = f.Trace.String()
		}
		return appendJSON(dst, v)
	})
	return nil
}

func (s *Server) controlOperations(w http.ResponseWriter, r *http.Request) error {
	list, err := newest(r, s.Operations())
	if err != nil {
		return err
	}
	writeList(w, "operations", list, func(dst []byte, o *Operation) []byte {
		in := o.Request
		return appendJSON(dst, operationView{
			Kind: o.Kind, ID: o.ID.String(), Name: o.Name, Duplicate: o.Duplicate, Request: in.Seq, Time: in.Time,
			Method: in.Method, Path: in.Path, Encoding: in.Encoding, Workspace: in.Workspace, Key: in.Key.String(),
		})
	})
	return nil
}
