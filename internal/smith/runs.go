package smith

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// RunID is a UUID: of a run, of a trace (its root run), or of a feedback. The
// zero RunID stands for one that is not known.
type RunID [16]byte

// String returns the hyphenated form in lower case.
func (id RunID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseRunID reads a UUID in its hyphenated form or as 32 hexadecimal digits,
// which the service takes both (LangSmith docs: trace-with-api).
func ParseRunID(text string) (RunID, error) {
	id, ok := parseUUID(text)
	if !ok {
		return RunID{}, fmt.Errorf("%.60q is not a UUID", text)
	}
	return id, nil
}

// OpKind is what an operation does.
type OpKind uint8

// The kinds of operation, by the word a multipart part begins with (LangSmith
// API reference: ingest-runs-multipart).
const (
	// OpPost creates a run.
	OpPost OpKind = iota
	// OpPatch updates a run.
	OpPatch
	// OpFeedback creates, changes or deletes a feedback.
	OpFeedback
	// OpAttachment adds a file to a run.
	OpAttachment
)

var opNames = []string{"post", "patch", "feedback", "attachment"}

// String returns the name that UnmarshalText takes.
func (k OpKind) String() string { return enumName(opNames, k) }

// MarshalText implements encoding.TextMarshaler.
func (k OpKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes post, patch, feedback or attachment.
func (k *OpKind) UnmarshalText(text []byte) error {
	return parseEnum("operation", opNames, text, k)
}

// Operation is one operation that was taken. Its Request is shared: read only.
type Operation struct {
	Kind OpKind
	// ID is the run's id; of a feedback its own.
	ID RunID
	// Name is an attachment's name.
	Name string
	// Duplicate is set where an operation of that kind had already been taken
	// for that id, so that this one changed nothing.
	Duplicate bool
	// Request is what brought it: its Seq, key, workspace, path, encoding and
	// size.
	Request *Request
}

// Attachment is a file of a run.
type Attachment struct {
	Name        string
	ContentType string
	Bytes       int64
	SHA256      [sha256.Size]byte
	// Data is the content. It is shared: read only.
	Data []byte
}

// Run is what is known of a run. Everything in it is shared: read only.
type Run struct {
	ID     RunID
	Trace  RunID // zero: not known
	Parent RunID // zero: a root, or not known

	DottedOrder string
	Project     string
	Workspace   string
	Key         APIKey

	// Members are the run's, an update's laid over those of its create. Post
	// and Patch are the two by themselves, the fields that came in parts of
	// their own included. All are there under KeepSpans only, and nil where
	// Forgotten.
	Members, Post, Patch Object
	Attachments          []Attachment // by name

	// Posts and Patches are how many of either came, duplicates included.
	Posts, Patches int
	// Seq counts the runs in the order of their first arrival, from 1.
	Seq int64
	// FirstPost and FirstPatch are the Seq of the requests that brought them,
	// 0 where none has come.
	FirstPost, FirstPatch int64
	// Forgotten runs have lost their content to Config.RetainBytes.
	Forgotten bool
	// Time is the first arrival.
	Time time.Time
}

// Get returns a member's value as it was sent, or nil.
func (r *Run) Get(name string) json.RawMessage { return r.Members.Get(name) }

// Text returns a member that is a string, or "".
func (r *Run) Text(name string) string { return r.Members.Text(name) }

// Ended reports whether the run has an end time.
func (r *Run) Ended() bool { return !isNull(r.Get("end_time")) }

// Feedback is a feedback as it is now. It is shared: read only.
type Feedback struct {
	ID    RunID
	Run   RunID // zero: on a whole project, or not known
	Trace RunID // zero: the sender did not say

	Workspace string
	Key       APIKey
	// Members are there under KeepSpans, unless Forgotten.
	Members Object
	// Changes counts the updates.
	Changes   int
	Request   int64 // Seq of the request that brought it first
	Time      time.Time
	Forgotten bool
}

// Runs returns every run that has arrived, in order of first arrival. It is
// empty under KeepCounts.
func (s *Server) Runs() []Run {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	all := make([]Run, 0, len(st.runs.order))
	for _, r := range st.runs.order {
		all = append(all, r.view())
	}
	return all
}

// Run returns the run with that id, in whichever workspace it came first.
func (s *Server) Run(id RunID) (Run, bool) {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	for r := st.runs.byID[id]; r != nil; r = r.next {
		if r.seq > 0 {
			return r.view(), true
		}
	}
	return Run{}, false
}

// Feedbacks returns every feedback that was not deleted, in order of arrival.
// It is empty under KeepCounts.
func (s *Server) Feedbacks() []Feedback {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	all := []Feedback{}
	for _, f := range st.runs.feedback {
		if f != nil {
			all = append(all, f.Feedback)
		}
	}
	return all
}

// Operations returns the operations taken, in order; of very many the most
// recent (see Stats.Runs.LogDropped). It is empty under KeepCounts.
func (s *Server) Operations() []Operation {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.runs.log)
}

// WaitRuns blocks until n distinct runs have arrived; under KeepCounts n
// creates. The error of a wait that ctx or Close ends says how far it got.
func (s *Server) WaitRuns(ctx context.Context, n int) error {
	return s.store.await(ctx, fmt.Sprintf("%d runs", n), func(st *Stats) bool {
		if s.cfg.Keep == KeepCounts {
			return st.Runs.Posts >= int64(n)
		}
		return st.Runs.Distinct >= int64(n)
	})
}
