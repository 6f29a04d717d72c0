package smith

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// attach keeps a file, in place of one of the same name.
func (c *runContent) attach(o *op, again bool) {
	a := Attachment{
		Name: o.name, ContentType: o.contentType, Bytes: int64(len(o.data)),
		SHA256: sha256.Sum256(o.data), Data: o.data,
	}
	c.bytes += a.Bytes
	at, found := slices.BinarySearchFunc(c.attachments, a, func(x, y Attachment) int {
		return strings.Compare(x.Name, y.Name)
	})
	if again && found {
		c.bytes -= c.attachments[at].Bytes
		c.attachments[at] = a
		return
	}
	c.attachments = slices.Insert(c.attachments, at, a)
}

// takeFeedbackLocked keeps a feedback, in place of one of the same id.
func (st *store) takeFeedbackLocked(in *Request, o *op) *feedbackState {
	key := traceKey{in.Workspace, o.id}
	f := st.runs.byFeed[key]
	if f == nil {
		f = &feedbackState{at: len(st.runs.feedback)}
		f.ID, f.Workspace, f.Key, f.Request, f.Time = o.id, in.Workspace, in.Key, in.Seq, in.Time
		st.runs.byFeed[key] = f
		st.runs.feedback = append(st.runs.feedback, f)
		st.stats.Runs.DistinctFeedback++
		if st.keep == KeepSpans {
			st.runs.kept = append(st.runs.kept, f)
		}
	} else {
		f.Changes++
	}
	if o.parent != (RunID{}) {
		f.Run = o.parent
	}
	if o.trace != (RunID{}) {
		f.Trace = o.trace
	}
	if st.keep == KeepSpans && !f.Forgotten {
		merged := o.object.over(f.Members)
		st.runs.bytes += merged.size() - f.bytes
		f.Members, f.bytes = merged, merged.size()
	}
	return f
}

// changeFeedback updates a feedback that exists, or deletes it where the
// object is nil. It reports whether there was one.
func (st *store) changeFeedback(in *Request, path string, id RunID, change Object) (Feedback, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	defer st.wakeLocked()
	f := st.runs.byFeed[traceKey{in.Workspace, id}]
	if f == nil {
		return Feedback{}, false
	}
	in.Operations = 1
	st.tallyRunsLocked(in, path)
	st.stats.Runs.count(OpFeedback, 1)
	st.logLocked(Operation{Kind: OpFeedback, ID: id, Request: in})
	if change != nil {
		st.takeFeedbackLocked(in, &op{kind: OpFeedback, id: id, object: change})
		st.forgetLocked()
		return f.Feedback, true
	}
	st.runs.bytes -= f.forget()
	st.runs.feedback[f.at] = nil
	delete(st.runs.byFeed, traceKey{in.Workspace, id})
	st.stats.Runs.DistinctFeedback--
	return f.Feedback, true
}

// feedbackOf lists a workspace's feedback, in order of arrival.
func (st *store) feedbackOf(tenant string) []Feedback {
	st.mu.Lock()
	defer st.mu.Unlock()
	var list []Feedback
	for _, f := range st.runs.feedback {
		if f != nil && f.Workspace == tenant {
			list = append(list, f.Feedback)
		}
	}
	return list
}

// lineage is what the service derives a child's place from.
func (st *store) lineage(tenant string, id RunID) (trace RunID, dotted string, ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.runs.find(tenant, id)
	if r == nil || r.seq == 0 {
		return RunID{}, "", false
	}
	if r.content != nil {
		dotted = r.content.dotted
	}
	return r.trace, dotted, true
}
