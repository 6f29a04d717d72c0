package smith

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxLog bounds the log of operations; of more the older half is dropped.
const maxLog = 1 << 20

// RunStats is what a server has seen of run operations.
type RunStats struct {
	// Posts, Patches, Feedback and Attachments are the operations taken,
	// duplicates included.
	Posts       int64 `json:"posts"`
	Patches     int64 `json:"patches"`
	Feedback    int64 `json:"feedback"`
	Attachments int64 `json:"attachments"`
	// AttachmentBytes is the content of the attachments taken.
	AttachmentBytes int64 `json:"attachment_bytes"`

	// Distinct counts runs by id, DistinctFeedback feedback likewise. Under
	// KeepCounts they stay 0.
	Distinct         int64 `json:"distinct"`
	DistinctFeedback int64 `json:"distinct_feedback"`

	// Duplicates counts, by kind, the operations that had been taken before,
	// whether their request was refused as a whole or only in part.
	Duplicates map[string]int64 `json:"duplicates"`
	// Conflicts counts the requests that were answered 409.
	Conflicts int64 `json:"conflicts"`

	// Forgotten counts runs and feedback whose content was dropped to stay
	// within Config.RetainBytes.
	Forgotten int64 `json:"forgotten"`
	// LogDropped counts operations that Server.Operations no longer has.
	LogDropped int64 `json:"log_dropped"`

	// ByPath is what came by which path, such as /runs/multipart.
	ByPath map[string]Tally `json:"by_path"`
}

// newRunStats returns statistics of nothing.
func newRunStats() RunStats {
	return RunStats{Duplicates: map[string]int64{}, ByPath: map[string]Tally{}}
}

// count adds operations of a kind.
func (s *RunStats) count(kind OpKind, n int64) {
	switch kind {
	case OpPost:
		s.Posts += n
	case OpPatch:
		s.Patches += n
	case OpFeedback:
		s.Feedback += n
	case OpAttachment:
		s.Attachments += n
	}
}

var (
	errConflict      = errors.New("payload already received: payloads already received")
	errTraceTooLarge = errors.New("trace has too many runs")
)

// op is an operation on its way into the store.
type op struct {
	kind   OpKind
	id     RunID
	trace  RunID // zero: not known
	parent RunID // zero: none, or not known
	dotted string
	object Object // of a post, patch or feedback
	extra  ExtraUpdate

	name, contentType string // of an attachment
	data              []byte
}

// runRules are what a request's operations are held to.
type runRules struct {
	whole        bool // a duplicate refuses its whole request
	maxTraceRuns int
	extra        ExtraUpdate
}

// runStore is what a store remembers of runs; store.mu covers it.
type runStore struct {
	byID     map[RunID]*runState
	order    []*runState
	traces   map[traceKey]int
	feedback []*feedbackState // nil where deleted
	byFeed   map[traceKey]*feedbackState
	log      []Operation
	projects map[string]string // one copy of each name
	kept     []forgetter       // what has content, oldest first
	bytes    int64             // content in kept
}

// traceKey is an id in a workspace.
type traceKey struct {
	tenant string
	id     RunID
}

// runState is a run in the store.
type runState struct {
	id, trace, parent     RunID
	tenant, project       string
	key                   APIKey
	posts, patches        int32
	seq                   int64 // 0: nothing but attachments has come
	firstPost, firstPatch int64
	time                  time.Time
	content               *runContent // nil: not kept
	next                  *runState   // same id, another workspace
}

// runContent is what is kept of a run under KeepSpans.
type runContent struct {
	dotted      string
	post, patch Object
	extra       ExtraUpdate // what the patch's does with the post's
	attachments []Attachment
	bytes       int64
	forgotten   bool
}

// feedbackState is a feedback in the store.
type feedbackState struct {
	Feedback

	at    int // in runStore.feedback
	bytes int64
}

// forgetter has content that can be dropped. It returns how many bytes it was.
type forgetter interface{ forget() int64 }

func (r *runState) forget() int64 {
	n := r.content.bytes
	r.content = &runContent{forgotten: true}
	return n
}

func (f *feedbackState) forget() int64 {
	n := f.bytes
	f.Members, f.bytes, f.Forgotten = nil, 0, true
	return n
}

func newRunStore() runStore {
	return runStore{
		byID: map[RunID]*runState{}, traces: map[traceKey]int{}, byFeed: map[traceKey]*feedbackState{},
		projects: map[string]string{},
	}
}

// find returns a run of a workspace, or nil.
func (rs *runStore) find(tenant string, id RunID) *runState {
	for r := rs.byID[id]; r != nil; r = r.next {
		if r.tenant == tenant {
			return r
		}
	}
	return nil
}

// view returns the run as callers see it.
func (r *runState) view() Run {
	v := Run{
		ID: r.id, Trace: r.trace, Parent: r.parent, Project: r.project, Workspace: r.tenant, Key: r.key,
		Posts: int(r.posts), Patches: int(r.patches), Seq: r.seq,
		FirstPost: r.firstPost, FirstPatch: r.firstPatch, Time: r.time,
	}
	if c := r.content; c != nil {
		v.DottedOrder, v.Post, v.Patch, v.Forgotten = c.dotted, c.post, c.patch, c.forgotten
		v.Members = c.members()
		v.Attachments = slices.Clone(c.attachments)
	}
	return v
}

// members are the run's own, its update laid over them.
func (c *runContent) members() Object {
	merged := c.patch.over(c.post)
	earlier, later := c.post.Get("extra"), c.patch.Get("extra")
	if c.extra == ExtraMerge && !isNull(earlier) && !isNull(later) {
		merged = merged.set("extra", mergeValues(later, earlier, maxMergeDepth))
	}
	return merged
}

// countRuns takes a request in, unless it exceeds a limit of its tenant. Only
// the numbers of its operations are kept, by kind; ops may be nil where the
// tenant has no limit.
func (st *store) countRuns(in *Request, path string, counts [4]int64, ops []op) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	used, err := st.claimLocked(in, demand{
		events: counts[OpPost] + counts[OpPatch], bytes: in.RawBytes - attachmentBytes(ops), ops: ops,
	})
	if err != nil {
		return err
	}
	used.settle()
	for kind, n := range counts {
		st.stats.Runs.count(OpKind(kind), n)
		in.Operations += int(n)
	}
	st.tallyRunsLocked(in, path)
	st.wakeLocked()
	return nil
}

// tallyRunsLocked counts a request with run operations that is taken.
func (st *store) tallyRunsLocked(in *Request, path string) {
	st.seq++
	in.Seq = st.seq
	st.stats.Taken.add(in)
	tally(st.stats.ByKey, in.Key, in)
	tally(st.stats.ByWorkspace, in.Workspace, in)
	tally(st.stats.ByEncoding, in.Encoding, in)
	tally(st.stats.Runs.ByPath, path, in)
}

// takeRuns takes a request's operations in, all or none of them, unless rules
// let some of them be duplicates: then the others are in and the error is
// errConflict all the same. Over a limit of the tenant it is an *limitError. What became of the runs goes to the subscriptions.
func (st *store) takeRuns(in *Request, path string, ops []op, rules runRules) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	defer st.wakeLocked()
	// Which of quota and duplicates the service looks at first is not known.
	used, err := st.claimLocked(in, demand{events: runsAmong(ops), bytes: in.RawBytes - attachmentBytes(ops), ops: ops})
	if err != nil {
		return err
	}
	again, duplicates := st.duplicatesLocked(in.Workspace, ops)
	if duplicates > 0 {
		st.stats.Runs.Conflicts++
		if rules.whole {
			used.undo()
			return errConflict
		}
		used.drop(again)
	}
	if err := st.runs.checkTraces(in.Workspace, ops, rules.maxTraceRuns); err != nil {
		used.undo()
		return err
	}
	used.settle()
	in.Operations = len(ops)
	st.tallyRunsLocked(in, path)
	var touched []*runState // in order, each once
	seen := map[*runState]bool{}
	for i := range ops {
		o := &ops[i]
		o.extra = rules.extra
		st.stats.Runs.count(o.kind, 1)
		st.logLocked(Operation{Kind: o.kind, ID: o.id, Name: o.name, Duplicate: again[i], Request: in})
		if o.kind == OpFeedback {
			st.takeFeedbackLocked(in, o)
			continue
		}
		if r := st.takeRunLocked(in, o, again[i]); !seen[r] {
			seen[r] = true
			touched = append(touched, r)
		}
	}
	st.forgetLocked()
	st.publishRunsLocked(touched)
	if duplicates > 0 {
		return errConflict
	}
	return nil
}

// duplicatesLocked finds the operations that were taken before, within the
// same request included, and counts them. The number is that of posts and
// patches: a file or a feedback that comes again merely replaces itself.
func (st *store) duplicatesLocked(tenant string, ops []op) (again []bool, conflicts int) {
	type operation struct {
		kind OpKind
		id   RunID
		name string
	}
	here := make(map[operation]bool, len(ops))
	again = make([]bool, len(ops))
	for i := range ops {
		o := &ops[i]
		key := operation{o.kind, o.id, o.name}
		r := st.runs.find(tenant, o.id)
		switch {
		case here[key]:
			again[i] = true
		case o.kind == OpFeedback:
			again[i] = st.runs.byFeed[traceKey{tenant, o.id}] != nil
		case r == nil:
		case o.kind == OpPost:
			again[i] = r.posts > 0
		case o.kind == OpPatch:
			again[i] = r.patches > 0
		case r.content != nil:
			again[i] = slices.ContainsFunc(r.content.attachments, func(a Attachment) bool { return a.Name == o.name })
		}
		here[key] = true
		if !again[i] {
			continue
		}
		bump(st.stats.Runs.Duplicates, o.kind.String(), 1)
		if o.kind == OpPost || o.kind == OpPatch {
			conflicts++
		}
	}
	return again, conflicts
}

// checkTraces refuses runs that would make a trace larger than it may be.
func (rs *runStore) checkTraces(tenant string, ops []op, most int) error {
	fresh := map[RunID]int{}
	here := map[RunID]bool{}
	for i := range ops {
		o := &ops[i]
		if o.kind != OpPost && o.kind != OpPatch || o.trace == (RunID{}) || here[o.id] {
			continue
		}
		here[o.id] = true
		if r := rs.find(tenant, o.id); r != nil && r.seq > 0 {
			continue
		}
		fresh[o.trace]++
		if n := rs.traces[traceKey{tenant, o.trace}] + fresh[o.trace]; n > most {
			return fmt.Errorf("%w: %s would have more than %d", errTraceTooLarge, o.trace, most)
		}
	}
	return nil
}

// logLocked appends to the log of operations.
func (st *store) logLocked(o Operation) {
	if len(st.runs.log) >= maxLog {
		half := len(st.runs.log) / 2
		st.stats.Runs.LogDropped += int64(half)
		st.runs.log = slices.Clone(st.runs.log[half:])
	}
	st.runs.log = append(st.runs.log, o)
}

// takeRunLocked applies a post, a patch or an attachment.
func (st *store) takeRunLocked(in *Request, o *op, again bool) *runState {
	r := st.runs.find(in.Workspace, o.id)
	if r == nil {
		r = &runState{id: o.id, tenant: in.Workspace, key: in.Key, time: in.Time}
		if first := st.runs.byID[o.id]; first != nil {
			r.next, first.next = first.next, r
		} else {
			st.runs.byID[o.id] = r
		}
	}
	if o.kind == OpAttachment {
		st.stats.Runs.AttachmentBytes += int64(len(o.data))
		st.keepRunLocked(r, o, again)
		return r
	}
	if r.seq == 0 {
		st.stats.Runs.Distinct++
		st.runs.order = append(st.runs.order, r)
		r.seq = int64(len(st.runs.order))
	}
	if r.trace == (RunID{}) && o.trace != (RunID{}) {
		r.trace = o.trace
		st.runs.traces[traceKey{in.Workspace, o.trace}]++
		st.traces[TraceID(o.trace)] = struct{}{}
		st.stats.Traces = int64(len(st.traces))
	}
	if o.kind == OpPost {
		r.posts++
		if r.firstPost == 0 {
			r.firstPost = in.Seq
		}
	} else {
		r.patches++
		if r.firstPatch == 0 {
			r.firstPatch = in.Seq
		}
	}
	if again {
		return r
	}
	if o.parent != (RunID{}) {
		r.parent = o.parent
	}
	if project := st.projectOfRunLocked(in.Workspace, o); project != "" && (r.project == "" || o.kind == OpPost) {
		if r.project == "" {
			st.countProjectLocked(in.Workspace, project, 1)
		}
		r.project = project
	}
	st.keepRunLocked(r, o, again)
	return r
}

// projectOfRunLocked names the project of a post or patch: what it says, else
// for a post the default one, and "" for a patch.
func (st *store) projectOfRunLocked(tenant string, o *op) string {
	name := o.object.Text("session_name")
	if name == "" {
		if id := o.object.Text("session_id"); id != "" {
			name = st.projectNameLocked(tenant, id)
		}
	}
	if name == "" && o.kind == OpPost {
		name = "default"
	}
	if one, ok := st.runs.projects[name]; ok {
		return one
	}
	if len(st.runs.projects) < maxGroups {
		name = strings.Clone(name)
		st.runs.projects[name] = name
	}
	return name
}

// projectNameLocked resolves a project's id.
func (st *store) projectNameLocked(tenant, id string) string {
	id = strings.ToLower(id)
	for _, o := range st.resources.tables[resourceKey{tenant, sessionKind.table}] {
		if o.id == id {
			return o.name
		}
	}
	for _, name := range append(slices.Clone(st.projects[tenant]), "default") {
		if projectID(tenant, name) == id {
			return name
		}
	}
	return id
}

// keepRunLocked keeps what an operation brought, where anything is kept.
func (st *store) keepRunLocked(r *runState, o *op, again bool) {
	if st.keep != KeepSpans || r.content != nil && r.content.forgotten {
		return
	}
	if r.content == nil {
		r.content = &runContent{}
		st.runs.kept = append(st.runs.kept, r)
	}
	c := r.content
	before := c.bytes
	switch {
	case o.kind == OpAttachment:
		c.attach(o, again)
	case o.kind == OpPost:
		c.post = o.object
		c.bytes += o.object.size()
	default:
		c.patch, c.extra = o.object, o.extra
		c.bytes += o.object.size()
	}
	if c.dotted == "" {
		c.dotted = o.dotted
	}
	st.runs.bytes += c.bytes - before
}

// forgetLocked drops content, oldest first, until it is within the bound.
func (st *store) forgetLocked() {
	rs := &st.runs
	drop := 0
	for rs.bytes > st.retainBytes && drop < len(rs.kept) {
		rs.bytes -= rs.kept[drop].forget()
		st.stats.Runs.Forgotten++
		rs.kept[drop] = nil // the array behind the slice would keep it alive
		drop++
	}
	rs.kept = rs.kept[drop:]
}
