package smith

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// feedbackOp makes an operation of a feedback part. Its name carries the
// feedback's id, as the Python SDK sends it (LangSmith SDK: _operations.py),
// and it must say which trace it belongs to.
func feedbackOp(id RunID, o Object) (op, error) {
	if isNull(o.Get("trace_id")) {
		return op{}, unprocessable("feedback %s: trace_id is required", id)
	}
	if own, ok := parseUUID(o.Text("id")); ok {
		id = own
	}
	for _, name := range feedbackTimes {
		if raw := o.Get(name); !isNull(raw) {
			// A time without a zone is refused (langsmith-sdk 2533).
			if _, err := time.Parse(time.RFC3339Nano, o.Text(name)); err != nil {
				return op{}, unprocessable("feedback %s: %s: %v", id, name, err)
			}
		}
	}
	return checkFeedback(id, o)
}

// feedbackTimes are the members of a feedback that are times.
var feedbackTimes = []string{"created_at", "modified_at", "start_time"}

// checkFeedback makes an operation of a feedback. By itself it may have a time
// of any form that a run's may have: the JS SDK sends milliseconds.
func checkFeedback(id RunID, o Object) (op, error) {
	out := op{kind: OpFeedback, id: id, object: o}
	switch {
	case o.Text("key") == "":
		return out, unprocessable("feedback %s: key is required", id)
	case id == (RunID{}):
		return out, unprocessable("the zero UUID names no feedback")
	}
	for name, dst := range map[string]*RunID{"run_id": &out.parent, "trace_id": &out.trace} {
		raw := o.Get(name)
		if isNull(raw) {
			continue
		}
		parsed, ok := parseUUID(o.Text(name))
		if !ok {
			return out, unprocessable("feedback %s: %s is not a UUID", id, name)
		}
		*dst = parsed
	}
	for _, name := range feedbackTimes {
		if raw := o.Get(name); !isNull(raw) {
			if _, err := parseTime(raw); err != nil {
				return out, unprocessable("feedback %s: %s %v", id, name, err)
			}
		}
	}
	return out, nil
}

// postFeedback takes POST /feedback and answers with the feedback.
func (s *Server) postFeedback(r *request, from caller) reply {
	var made op
	answer := s.ingest(r, from, "", func(x *ingest) error {
		o, err := parseObject(x.body)
		if err != nil {
			return unprocessable("%v", err)
		}
		id, ok := parseUUID(o.Text("id"))
		if !ok {
			if !isNull(o.Get("id")) {
				return unprocessable("id is not a UUID")
			}
			id = newID()
			o = o.with("id", RunID(id).String())
		}
		if made, err = checkFeedback(id, o); err != nil {
			return err
		}
		if x.r.sw.FeedbackOrder == FeedbackRunFirst && made.parent != (RunID{}) {
			if _, _, known := s.store.lineage(from.tenant, made.parent); !known && s.cfg.Keep != KeepCounts {
				return &refusal{http.StatusNotFound, "Run not found"}
			}
		}
		return s.takeOps(x, []op{made})
	})
	if answer.status != http.StatusAccepted {
		return answer
	}
	shown := Feedback{ID: made.id, Run: made.parent, Workspace: from.tenant, Members: made.object, Time: s.cfg.Now()}
	return literal(http.StatusOK, string(s.store.readableFeedback(&shown).appendJSON(nil)))
}

// patchFeedback takes PATCH /feedback/{id} and answers with what it is then.
func (s *Server) patchFeedback(r *request, from caller) reply {
	return s.changeFeedback(r, from, func(body []byte) (Object, error) {
		o, err := parseObject(body)
		if err == nil && o == nil {
			o = Object{}
		}
		return o, err
	})
}

// deleteFeedback takes DELETE /feedback/{id}.
func (s *Server) deleteFeedback(r *request, from caller) reply {
	return s.changeFeedback(r, from, func([]byte) (Object, error) { return nil, nil })
}

// changeFeedback applies what change makes of the body to the feedback that
// the path names.
func (s *Server) changeFeedback(r *request, from caller, change func(body []byte) (Object, error)) reply {
	var after Feedback
	answer := s.ingest(r, from, "", func(x *ingest) error {
		id, ok := parseUUID(r.route.id)
		if !ok {
			return unprocessable("feedback_id must be a UUID")
		}
		o, err := change(x.body)
		if err != nil {
			return unprocessable("%v", err)
		}
		if s.cfg.Keep == KeepCounts {
			return s.store.countRuns(x.in, r.route.pattern, [4]int64{OpFeedback: 1}, nil)
		}
		if after, ok = s.store.changeFeedback(x.in, r.route.pattern, id, o); !ok {
			return &refusal{http.StatusNotFound, "Feedback not found"}
		}
		return nil
	})
	if answer.status != http.StatusAccepted {
		return answer
	}
	return literal(http.StatusOK, string(s.store.readableFeedback(&after).appendJSON(nil)))
}

// getFeedback answers GET /feedback/{id}.
func (s *Server) getFeedback(r *request, from caller) reply {
	for _, f := range s.store.feedbackOf(from.tenant) {
		if id, ok := parseUUID(r.route.id); ok && f.ID == RunID(id) {
			return literal(http.StatusOK, string(s.store.readableFeedback(&f).appendJSON(nil)))
		}
	}
	return literal(http.StatusNotFound, `{"detail":"Feedback not found"}`)
}

// listFeedback answers GET /feedback, narrowed by run, key and session.
func (s *Server) listFeedback(r *request, from caller) reply {
	limit, offset, err := pageOf(r)
	if err != nil {
		return familyPython.failure(http.StatusUnprocessableEntity, err.Error())
	}
	query := r.URL.Query()
	runs, err := queryIDs(query["run"])
	if err != nil {
		return familyPython.failure(http.StatusUnprocessableEntity, err.Error())
	}
	keys, sessions := query["key"], query["session"]
	var rows []Object
	for _, f := range s.store.feedbackOf(from.tenant) {
		if len(runs) > 0 && !slices.Contains(runs, f.Run) ||
			len(keys) > 0 && !slices.Contains(keys, f.Members.Text("key")) ||
			len(sessions) > 0 && !slices.Contains(sessions, f.Members.Text("session_id")) {
			continue
		}
		rows = append(rows, s.store.readableFeedback(&f))
	}
	return objectsReply(pick(rows, limit, offset))
}

// queryIDs reads ids that a query names once or more, or in one value with
// commas between them.
func queryIDs(values []string) ([]RunID, error) {
	var ids []RunID
	for _, value := range values {
		for text := range strings.SplitSeq(value, ",") {
			id, ok := parseUUID(text)
			if !ok {
				return nil, errors.New("run: value is not a valid uuid")
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// pageOf reads limit and offset from the query, as the service bounds them.
func pageOf(r *request) (limit, offset int, err error) {
	limit, ok := queryInt(r, "limit", maxPage)
	if !ok || limit < 1 || limit > maxPage {
		return 0, 0, errors.New("limit must be between 1 and 100")
	}
	offset, ok = queryInt(r, "offset", 0)
	if !ok || offset < 0 {
		return 0, 0, errors.New("offset must not be negative")
	}
	return limit, offset, nil
}

// maxPage is how many rows a list answers at most.
const maxPage = 100

// pick returns one page of a list.
func pick[T any](rows []T, limit, offset int) []T {
	rows = rows[min(offset, len(rows)):]
	return rows[:min(limit, len(rows))]
}

// objectsReply answers 200 with a list of objects.
func objectsReply(rows []Object) reply {
	body := []byte{'['}
	for i, o := range rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = o.appendJSON(body)
	}
	return literal(http.StatusOK, string(append(body, ']')))
}

// newID makes up a random UUID.
func newID() RunID {
	var id RunID
	_, _ = rand.Read(id[:])   // never fails
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80
	return id
}

// textOf encodes a string as JSON.
func textOf(s string) json.RawMessage { return appendJSON(nil, s) }
