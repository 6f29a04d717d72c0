package native

import (
	"crypto/rand"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy/runs"
)

// The members of a run's and a feedback's object that have fields.
const (
	runMembers = " id trace_id parent_run_id dotted_order name run_type start_time end_time session_name session_id" +
		" tags error reference_example_id status inputs outputs extra serialized events "
	feedbackMembers = " id run_id trace_id key score value comment correction feedback_source session_id feedback_group_id" +
		" comparative_experiment_id extra error extend_trace_retention created_at "
)

// runTypes are those that LangSmith knows (LangSmith SDK, client.py).
var runTypes = [...]string{"chain", "llm", "tool", "retriever", "embedding", "prompt", "parser"}

// sent is what LangSmith takes once.
type sent struct {
	kind runs.Kind
	id   runs.ID
}

// converter makes operations of what a caller sent.
type converter struct {
	filler  runs.Filler
	ops     []runs.Op
	results []*weirv1.ItemResult
	learned []runs.Placed // the good creates
	places  map[runs.ID]runs.Placed
	had     map[sent]bool // the good creates and updates
	placed  runs.Placed   // what the create under way becomes
	sent    sent          // what the create or update under way is
	bad     int
}

func newConverter(now time.Time, find func(runs.ID) (runs.Placed, bool)) *converter {
	c := &converter{places: map[runs.ID]runs.Placed{}, had: map[sent]bool{}}
	c.filler = runs.Filler{Now: now, Random: rand.Reader, Find: func(id runs.ID) (runs.Placed, bool) {
		if here, ok := c.places[id]; ok {
			return here, true
		}
		return find(id)
	}}
	return c
}

// convert takes one operation. A bad one leaves its result only.
func (c *converter) convert(index int, operation *weirv1.Operation) {
	path := "operations[" + strconv.Itoa(index) + "]"
	result := &weirv1.ItemResult{Index: int32(index)} // bounded by MaxOperations
	c.results = append(c.results, result)
	o := &object{path: path}
	c.sent = sent{}
	var op runs.Op
	switch v := operation.GetOperation().(type) {
	case *weirv1.Operation_Create:
		o.path += ".create"
		op = c.run(o, runs.Create, v.Create, result)
	case *weirv1.Operation_Update:
		o.path += ".update"
		op = c.run(o, runs.Update, v.Update, result)
	case *weirv1.Operation_Feedback:
		o.path += ".feedback"
		op = c.feedback(o, v.Feedback)
	case *weirv1.Operation_Attachment:
		o.path += ".attachment"
		op = c.attachment(o, v.Attachment)
	default:
		o.wrong("", "it is empty, want one of create, update, feedback and attachment")
	}
	if len(o.problems) == 0 {
		if err := op.Check(); err != nil {
			o.refuse(err)
		}
	}
	if !op.ID.IsZero() {
		result.Id = op.ID.String()
	}
	if !op.Trace.IsZero() {
		result.TraceId = op.Trace.String()
	}
	if len(o.problems) > 0 {
		c.bad++
		result.DottedOrder = ""
		result.Error = &weirv1.ItemError{
			Code: int32(codes.InvalidArgument), Message: o.problems[0].GetField() + ": " + o.problems[0].GetDescription(), Violations: o.problems,
		}
		return
	}
	if c.sent.kind != 0 {
		c.had[c.sent] = true
	}
	if op.Kind == runs.Create {
		c.places[op.ID] = c.placed
		c.learned = append(c.learned, c.placed)
	}
	c.ops = append(c.ops, op)
}

// refuse notes an error of package runs.
func (o *object) refuse(err error) {
	if problem, ok := errors.AsType[*runs.ProblemError](err); ok {
		o.wrong(problem.Field, "%s", problem.Detail)
		return
	}
	o.wrong("", "%v", err)
}

// run makes a Create or an Update, or the Call that stands for it.
func (c *converter) run(o *object, kind runs.Kind, run *weirv1.Run, result *weirv1.ItemResult) runs.Op {
	draft := runs.Draft{
		ID: o.parseID("id", run.GetId()), Trace: o.parseID("trace_id", run.GetTraceId()),
		Parent: o.parseID("parent_run_id", run.GetParentRunId()), DottedOrder: run.GetDottedOrder(),
		StartTime: o.parseTime("start_time", run.GetStartTime()),
		Project:   run.GetProject(), ProjectID: run.GetProjectId(),
	}
	op := runs.Op{Kind: kind, ID: draft.ID, Trace: draft.Trace}
	runType := run.GetRunType()
	if kind == runs.Create {
		if run.GetName() == "" {
			o.wrong("name", "it is missing, and a run must have one")
		}
		if runType == "" {
			runType = runTypes[0]
		}
	}
	if runType != "" && !slices.Contains(runTypes[:], runType) {
		o.wrong("run_type", "it is %.40q, want one of %s", runType, strings.Join(runTypes[:], ", "))
	}
	if draft.Project != "" && draft.ProjectID != "" {
		o.wrong("project_id", "it is set and project is too; one of them is right")
	}
	if len(o.problems) > 0 {
		return op
	}
	fill := c.filler.Create
	if kind == runs.Update {
		fill = c.filler.Update
	}
	placed, err := fill(&draft)
	op.ID, op.Trace = draft.ID, draft.Trace
	if err != nil {
		o.refuse(err)
		return op
	}
	c.sent = sent{kind, draft.ID}
	if c.had[c.sent] {
		o.wrong("id", "the request has such an operation of this run already; LangSmith takes one create and one update of a run")
		return op
	}
	result.DottedOrder = draft.DottedOrder
	c.placed = runs.Placed{ID: draft.ID, Trace: draft.Trace, DottedOrder: draft.DottedOrder, Project: draft.Project, ProjectID: draft.ProjectID}
	op.NoProject = kind == runs.Create && draft.Project == "" && draft.ProjectID == ""
	o.run(run, &draft, runType)
	op.Fields = o.fields(run)
	if !placed {
		return call(o, &op)
	}
	op.Body = o.end()
	return op
}

// run writes the members of a run that do not travel beside it.
func (o *object) run(run *weirv1.Run, draft *runs.Draft, runType string) {
	for _, id := range []struct {
		name string
		id   runs.ID
	}{{"id", draft.ID}, {"trace_id", draft.Trace}, {"parent_run_id", draft.Parent}} {
		if !id.id.IsZero() {
			o.string(id.name, id.id.String())
		}
	}
	o.string("dotted_order", draft.DottedOrder)
	o.string("name", run.GetName())
	o.string("run_type", runType)
	o.time("start_time", draft.StartTime)
	o.time("end_time", o.parseTime("end_time", run.GetEndTime()))
	o.string("session_name", draft.Project)
	o.id("session_id", "project_id", draft.ProjectID)
	if tags := run.GetTags(); len(tags) > 0 {
		list := []byte{'['}
		for i, tag := range tags {
			if i > 0 {
				list = append(list, ',')
			}
			list = quote(list, tag)
		}
		o.raw("tags", append(list, ']'))
	}
	o.id("reference_example_id", "reference_example_id", run.GetReferenceExampleId())
	o.string("status", run.GetStatus())
	o.members(run.GetMembers(), runMembers)
}

// fields are those that travel beside the run.
func (o *object) fields(run *weirv1.Run) (fields [runs.NumFields][]byte) {
	fields[runs.Inputs] = o.json("inputs", run.GetInputs(), "{")
	fields[runs.Outputs] = o.json("outputs", run.GetOutputs(), "{")
	fields[runs.Events] = o.json("events", run.GetEvents(), "[")
	fields[runs.Extra] = o.withMetadata(o.json("extra", run.GetExtra(), "{"), run.GetMetadata())
	fields[runs.Serialized] = o.json("serialized", run.GetSerialized(), "{")
	if run.GetError() != "" {
		fields[runs.Error] = quote(nil, run.GetError())
	}
	return fields
}

// call makes the request that LangSmith places a run by itself for: POST /runs
// or PATCH /runs/{id} (LangSmith docs: trace-with-api).
func call(o *object, op *runs.Op) runs.Op {
	for f, value := range op.Fields {
		o.raw(runs.FieldNames[f], value)
	}
	c := runs.Op{Kind: runs.Call, ID: op.ID, Trace: op.Trace, NoProject: op.NoProject, ContentType: "application/json", Body: o.end()}
	c.Method, c.Path = http.MethodPost, "/runs"
	if op.Kind == runs.Update {
		c.Method, c.Path = http.MethodPatch, "/runs/"+op.ID.String()
	}
	return c
}

// feedback makes a Feedback, or a Call of one that cannot travel with others.
func (c *converter) feedback(o *object, f *weirv1.Feedback) runs.Op {
	id, run, trace := o.parseID("id", f.GetId()), o.parseID("run_id", f.GetRunId()), o.parseID("trace_id", f.GetTraceId())
	if f.GetRunId() == "" {
		o.wrong("run_id", "it is missing, and a feedback has to name its run")
	}
	if f.GetKey() == "" {
		o.wrong("key", "it is missing, and a feedback must say what it judges")
	}
	created := o.parseTime("created_at", f.GetCreatedAt())
	if created.IsZero() {
		created = c.filler.Now
	}
	if id.IsZero() && len(o.problems) == 0 {
		var err error
		if id, err = runs.NewID(created, c.filler.Random); err != nil {
			o.wrong("id", "%v", err)
		}
	}
	if known, ok := c.filler.Find(run); ok && trace.IsZero() {
		trace = known.Trace
	}
	o.string("id", id.String())
	o.string("run_id", run.String())
	if !trace.IsZero() {
		o.string("trace_id", trace.String())
	}
	o.string("key", f.GetKey())
	if f.Score != nil {
		if math.IsNaN(f.GetScore()) || math.IsInf(f.GetScore(), 0) {
			o.wrong("score", "it is no number that JSON has")
		} else {
			o.raw("score", strconv.AppendFloat(nil, f.GetScore(), 'g', -1, 64))
		}
	}
	o.raw("value", o.json("value", f.GetValue(), ""))
	o.string("comment", f.GetComment())
	o.raw("correction", o.json("correction", f.GetCorrection(), ""))
	o.source(f.GetSource())
	o.id("session_id", "project_id", f.GetProjectId())
	o.id("feedback_group_id", "feedback_group_id", f.GetFeedbackGroupId())
	o.id("comparative_experiment_id", "comparative_experiment_id", f.GetComparativeExperimentId())
	o.raw("extra", o.json("extra", f.GetExtra(), "{"))
	if f.Error != nil {
		o.raw("error", strconv.AppendBool(nil, f.GetError()))
	}
	if f.ExtendTraceRetention != nil {
		o.raw("extend_trace_retention", strconv.AppendBool(nil, f.GetExtendTraceRetention()))
	}
	o.time("created_at", created)
	o.members(f.GetMembers(), feedbackMembers)
	body := o.end()
	op, asPart, err := runs.FeedbackFromObject(body)
	if err != nil {
		o.refuse(err)
	}
	if !asPart {
		op = runs.Op{Kind: runs.Call, ID: id, Trace: trace, Method: http.MethodPost, Path: "/feedback", ContentType: "application/json", Body: body}
	}
	return op
}

func (o *object) source(s *weirv1.FeedbackSource) {
	kind := s.GetType()
	if kind == "" {
		kind = "api"
	}
	var source object
	source.string("type", kind)
	if m := s.GetMetadata(); m != nil {
		source.raw("metadata", o.marshal("source.metadata", m))
	}
	o.raw("feedback_source", source.end())
}

func (c *converter) attachment(o *object, a *weirv1.Attachment) runs.Op {
	op := runs.Op{
		Kind: runs.Attachment, ID: o.parseID("run_id", a.GetRunId()), Trace: o.parseID("trace_id", a.GetTraceId()),
		Name: a.GetName(), ContentType: a.GetContentType(), Data: a.GetContent(),
	}
	if a.GetRunId() == "" {
		o.wrong("run_id", "it is missing, and an attachment has to name its run")
	}
	if a.GetName() == "" || strings.Contains(a.GetName(), ".") {
		o.wrong("name", "it is %.60q; it must be neither empty nor hold a dot", a.GetName())
	}
	if op.ContentType == "" {
		op.ContentType = "application/octet-stream"
	}
	if op.Data == nil {
		op.Data = []byte{}
	}
	if known, ok := c.filler.Find(op.ID); ok && op.Trace.IsZero() {
		op.Trace = known.Trace
	}
	return op
}
