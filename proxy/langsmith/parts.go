package langsmith

import (
	"context"
	"errors"
	"io"
	"sort"
	"strings"

	"weir/proxy/runs"
)

// readMultipart takes the operations of POST /runs/multipart.
func (in *intake) readMultipart(ctx context.Context, body io.Reader) error {
	p, err := newPartReader(body, in.r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	defer p.release()
	a := assembly{intake: in, last: -1}
	most := (runs.NumFields + 1) * in.h.cfg.MaxOperations
	for n := 0; ; n++ {
		head, err := p.next()
		switch {
		case errors.Is(err, io.EOF):
			return a.finish()
		case err != nil:
			return err
		case n == most:
			return refuse(verdictTooLarge, reasonTooMany, "the request has more than %d parts; send smaller batches", most)
		}
		if err := a.take(ctx, p, head); err != nil {
			return err
		}
	}
}

// assembly makes operations of parts.
type assembly struct {
	*intake

	last        int            // the run that came last, -1 at first
	index       map[runKey]int // of the runs, made once one is asked for
	attachments int
	incomplete  int // runs of which only fields have come
}

type runKey struct {
	kind runs.Kind
	id   runs.ID
}

// take takes one part. Its name is EVENT.ID, and .FIELD or .NAME for some.
func (a *assembly) take(ctx context.Context, p *partReader, head part) error {
	event, rest, _ := strings.Cut(head.name, ".")
	idText, detail, hasDetail := strings.Cut(rest, ".")
	id, err := runs.ParseID(idText)
	if err != nil {
		return malformed("part %.120q: %v; want a name like post.RUN_ID", head.name, err)
	}
	switch {
	case event == "attachment" && hasDetail:
		return a.attachment(ctx, p, head, runs.Op{Kind: runs.Attachment, ID: id, Name: detail})
	case event == "feedback" && !hasDetail:
		return a.feedback(p, head, id)
	case event == "post" && hasDetail:
		return a.field(p, head, runKey{runs.Create, id}, detail)
	case event == "patch" && hasDetail:
		return a.field(p, head, runKey{runs.Update, id}, detail)
	case event == "post":
		return a.run(p, head, runKey{runs.Create, id})
	case event == "patch":
		return a.run(p, head, runKey{runs.Update, id})
	}
	return malformed("part %.120q: want a name like post.RUN_ID, patch.RUN_ID.FIELD, feedback.ID or attachment.RUN_ID.NAME", head.name)
}

// text reads a part into memory.
func (a *assembly) text(p *partReader, head part) ([]byte, error) {
	b, err := a.memory.take(p, head.length)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = endsWithin(head.name)
	}
	return b, err
}

func (a *assembly) run(p *partReader, head part, key runKey) error {
	object, err := a.text(p, head)
	if err != nil {
		return err
	}
	op, err := operation(key, object)
	if err != nil {
		return err
	}
	if err := a.chargeCopy(op.Body, object); err != nil {
		return err
	}
	if at := a.find(key); at >= 0 && a.ops[at].Body == nil {
		a.incomplete--
		fields := a.ops[at].Fields
		a.ops[at], a.last = op, at
		for f, value := range fields {
			if value == nil {
				continue
			}
			if err := setField(&a.ops[at], runs.Field(f), value); err != nil {
				return err
			}
		}
		return nil
	}
	return a.addRun(key, &op)
}

// operation makes one of a run's object that has to say its trace.
func operation(key runKey, object []byte) (runs.Op, error) {
	run, err := runs.ReadRun(key.kind, object)
	if err != nil {
		return runs.Op{}, named(err, key.id)
	}
	op := run.Op
	op.ID = key.id // an object that names another is for LangSmith to refuse
	if op.Trace.IsZero() {
		return op, &runs.ProblemError{Run: key.id.String(), Field: "trace_id", Detail: "it is missing"}
	}
	return op, nil
}

// named puts the run into an error that does not know it.
func named(err error, id runs.ID) error {
	var problem *runs.ProblemError
	if errors.As(err, &problem) && problem.Run == "" {
		problem.Run = id.String()
	}
	return err
}

func (a *assembly) addRun(key runKey, op *runs.Op) error {
	if err := a.add(op); err != nil {
		return err
	}
	a.last = len(a.ops) - 1
	if a.index != nil {
		a.index[key] = a.last
	}
	return nil
}

// find returns the run's place in ops, the latest one, or -1. As a rule the
// run has come last.
func (a *assembly) find(key runKey) int {
	if a.last >= 0 && a.ops[a.last].ID == key.id && a.ops[a.last].Kind == key.kind {
		return a.last
	}
	if a.last < 0 {
		return -1
	}
	if a.index == nil {
		a.index = make(map[runKey]int, len(a.ops))
		for i := range a.ops {
			if k := a.ops[i].Kind; k == runs.Create || k == runs.Update {
				a.index[runKey{k, a.ops[i].ID}] = i
			}
		}
	}
	if at, ok := a.index[key]; ok {
		return at
	}
	return -1
}

func (a *assembly) field(p *partReader, head part, key runKey, name string) error {
	f, ok := runs.FieldNamed(name)
	if !ok {
		return malformed("part %.120q: %.40q is not one of %s", head.name, name, strings.Join(runs.FieldNames[:], ", "))
	}
	value, err := a.text(p, head)
	if err != nil {
		return err
	}
	if err := runs.CheckValue(value); err != nil {
		return malformed("run %s: %s: %v", key.id, name, err)
	}
	at := a.find(key)
	if at < 0 {
		a.incomplete++
		if err := a.addRun(key, &runs.Op{Kind: key.kind, ID: key.id}); err != nil {
			return err
		}
		at = a.last
	}
	return setField(&a.ops[at], f, value)
}

func setField(op *runs.Op, f runs.Field, value []byte) error {
	if op.Fields[f] != nil {
		return &runs.ProblemError{Run: op.ID.String(), Field: runs.FieldNames[f], Detail: "it is given twice"}
	}
	op.Fields[f] = value
	return nil
}

func (a *assembly) feedback(p *partReader, head part, id runs.ID) error {
	object, err := a.text(p, head)
	if err != nil {
		return err
	}
	op, _, err := runs.FeedbackFromObject(object)
	if err != nil {
		return malformed("feedback %s: %v", id, err)
	}
	if op.Trace.IsZero() {
		return malformed("feedback %s: trace_id: it is missing or not a UUID, and a feedback part needs it", id)
	}
	if op.ID.IsZero() {
		op.ID = id
	}
	return a.add(&op)
}

func (a *assembly) attachment(ctx context.Context, p *partReader, head part, op runs.Op) error {
	if err := op.Check(); err != nil {
		return err
	}
	op.ContentType = head.media
	a.attachments++
	if head.length <= inlineBytes && a.memory.bytes+head.length <= a.memory.limit/2 {
		data, err := a.text(p, head)
		if err != nil {
			return err
		}
		op.Data = data
		return a.add(&op)
	}
	limit := a.h.cfg.MaxAttachmentBytes
	if a.blobBytes+head.length > limit || len(a.blobs) == maxBlobs {
		return tooLarge("run %s: attachment %.80q: the request's large attachments have more than %d bytes or are more than %d; send them with fewer runs",
			op.ID, op.Name, limit, maxBlobs)
	}
	a.blobBytes += head.length
	blob, err := a.h.spooler.Spool(ctx, &content{r: p, name: head.name, left: head.length}, head.length)
	if err != nil {
		return err
	}
	a.blobs = append(a.blobs, blob)
	op.Blob, op.BlobBytes = blob.ID, blob.Bytes
	return a.add(&op)
}

// finish checks that all runs are whole and puts attachments after their runs.
func (a *assembly) finish() error {
	if a.incomplete > 0 {
		for i := range a.ops {
			if op := &a.ops[i]; op.Body == nil && (op.Kind == runs.Create || op.Kind == runs.Update) {
				return &runs.ProblemError{Run: op.ID.String(), Detail: "it has parts of fields, and no part " + op.Kind.String() + "." + op.ID.String()}
			}
		}
	}
	if a.attachments == 0 {
		return nil
	}
	if err := a.memory.charge(int64(len(a.ops)) * 8); err != nil {
		return err
	}
	order := byRun{ops: a.ops, keys: make([]int, len(a.ops))}
	for i := range a.ops {
		order.keys[i] = i
		op := &a.ops[i]
		if op.Kind != runs.Attachment {
			continue
		}
		run := a.find(runKey{runs.Create, op.ID})
		if run < 0 {
			run = a.find(runKey{runs.Update, op.ID})
		}
		if run >= 0 {
			op.Trace = a.ops[run].Trace
			order.keys[i] = run
		}
	}
	if !sort.IsSorted(order) {
		sort.Stable(order)
	}
	return nil
}

// byRun sorts operations by the place of the run they belong to.
type byRun struct {
	ops  []runs.Op
	keys []int
}

func (b byRun) Len() int { return len(b.ops) }

func (b byRun) Less(i, j int) bool {
	if b.keys[i] != b.keys[j] {
		return b.keys[i] < b.keys[j]
	}
	return b.ops[i].Kind != runs.Attachment && b.ops[j].Kind == runs.Attachment
}

func (b byRun) Swap(i, j int) {
	b.ops[i], b.ops[j] = b.ops[j], b.ops[i]
	b.keys[i], b.keys[j] = b.keys[j], b.keys[i]
}
