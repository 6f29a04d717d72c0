package langsmith

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"weir/proxy/runs"
)

// readBatch takes the operations of POST /runs/batch: an object with the
// arrays post and patch. Its other members are passed over.
func (in *intake) readBatch(text []byte) error {
	batch := batchReader{text: text, each: in.batched}
	if err := batch.read(); err != nil {
		var (
			syntax  *jsontext.SyntacticError
			ready   *refusal
			problem *runs.ProblemError
		)
		switch {
		case errors.As(err, &syntax):
			return malformed("invalid batch JSON at byte %d, in %.80q: %v", syntax.ByteOffset, string(syntax.JSONPointer), syntax.Err)
		case errors.As(err, &problem), errors.As(err, &ready):
			return err
		case errors.Is(err, io.EOF):
			return malformed("invalid batch JSON: the body is empty")
		}
		return err
	}
	return nil
}

// batched takes one run of a batch.
func (in *intake) batched(kind runs.Kind, object []byte) error {
	run, err := runs.ReadRun(kind, object)
	switch {
	case err != nil:
		return err
	case run.Op.ID.IsZero():
		return &runs.ProblemError{Field: "id", Detail: "it is missing, and a run cannot be told from others without it"}
	case run.Op.Trace.IsZero():
		return &runs.ProblemError{Run: run.Op.ID.String(), Field: "trace_id", Detail: "it is missing"}
	}
	if err := in.chargeCopy(run.Op.Body, object); err != nil {
		return err
	}
	in.learn(&run)
	return in.add(&run.Op)
}

// learn notes where a created run belongs, for updates that do not say it.
func (in *intake) learn(run *runs.Run) {
	if run.Op.Kind == runs.Create && len(run.DottedOrder) > 0 && len(in.learned) < in.h.cfg.MaxKnownRuns {
		in.learned = append(in.learned, runs.Placed{ID: run.Op.ID, Trace: run.Op.Trace, DottedOrder: string(run.DottedOrder)})
	}
}

// batchReader finds the runs of a batch in its JSON.
type batchReader struct {
	text []byte
	each func(kind runs.Kind, object []byte) error
	d    *jsontext.Decoder
}

func (b *batchReader) read() error {
	// As runs.ReadRun has it. The source is read in place.
	b.d = jsontext.NewDecoder(bytes.NewBuffer(slices.Clip(b.text)), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if kind := b.d.PeekKind(); kind != '{' {
		if _, err := b.d.ReadValue(); err != nil {
			return err
		}
		return malformed("invalid batch JSON: want an object with post and patch")
	}
	if _, err := b.d.ReadToken(); err != nil {
		return err
	}
	for b.d.PeekKind() == '"' {
		name, err := b.d.ReadToken()
		if err != nil {
			return err
		}
		switch name.String() {
		case "post":
			err = b.array("post", runs.Create)
		case "patch":
			err = b.array("patch", runs.Update)
		default:
			err = b.d.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	if _, err := b.d.ReadToken(); err != nil {
		return err
	}
	if _, err := b.d.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = malformed("invalid batch JSON: something follows the object at byte %d", b.d.InputOffset())
		}
		return err
	}
	return nil
}

func (b *batchReader) array(name string, kind runs.Kind) error {
	switch b.d.PeekKind() {
	case 'n':
		return b.d.SkipValue()
	case '[':
		if _, err := b.d.ReadToken(); err != nil {
			return err
		}
	default:
		if err := b.d.SkipValue(); err != nil {
			return err
		}
		return malformed("invalid batch JSON: %s is not an array", name)
	}
	for n := 0; b.d.PeekKind() != ']'; n++ {
		value, err := b.d.ReadValue()
		if err != nil {
			return err
		}
		to := b.d.InputOffset()
		if err := b.each(kind, b.text[to-int64(len(value)):to:to]); err != nil {
			var problem *runs.ProblemError
			if errors.As(err, &problem) && problem.Run == "" {
				return malformed("%s.%d: %v", name, n, err)
			}
			return err
		}
	}
	_, err := b.d.ReadToken()
	return err
}

// readCreate takes the run of POST /runs. LangSmith derives the trace and the
// dotted_order of a run that leaves them out (LangSmith docs: trace-with-api);
// of a root weir can do so too. Any other is sent as the same call.
func (in *intake) readCreate(text []byte) error {
	run, err := runs.ReadRun(runs.Create, text)
	if err != nil {
		return err
	}
	op := &run.Op
	whole := !op.Trace.IsZero() && len(run.DottedOrder) > 0
	if !whole && run.Parent == nil && !op.ID.IsZero() && (op.Trace.IsZero() || op.Trace == op.ID) && run.DottedOrder == nil {
		if order, err := runs.RootOrder(run.StartTime, op.ID); err == nil {
			if err := op.Place(op.ID, op.ID, order); err != nil {
				return err
			}
			run.DottedOrder, whole = []byte(order), true
		}
	}
	if op.ID.IsZero() || !whole {
		return in.call(text, runs.Op{ID: op.ID, Trace: op.Trace, NoProject: op.NoProject})
	}
	in.learn(&run)
	if err := in.chargeCopy(op.Body, text); err != nil {
		return err
	}
	return in.add(op)
}

// readUpdate takes the run of PATCH /runs/{id}.
func (in *intake) readUpdate(text []byte) error {
	id, err := runs.ParseID(in.id)
	if err != nil {
		return malformed("the run's id in the path: %v", err)
	}
	run, err := runs.ReadRun(runs.Update, text)
	if err != nil {
		return named(err, id)
	}
	op := &run.Op
	where := runs.Placed{ID: id, Trace: op.Trace, DottedOrder: string(run.DottedOrder)}
	if op.Trace.IsZero() || where.DottedOrder == "" {
		known, ok := in.h.known.Find(in.caller, id)
		if !ok || (!op.Trace.IsZero() && op.Trace != known.Trace) {
			return in.call(text, runs.Op{ID: id, Trace: op.Trace})
		}
		where = known
	}
	if op.ID != id || op.Trace != where.Trace || string(run.DottedOrder) != where.DottedOrder {
		if err := op.Place(id, where.Trace, where.DottedOrder); err != nil {
			return named(err, id)
		}
	}
	if err := in.chargeCopy(op.Body, text); err != nil {
		return err
	}
	return in.add(op)
}

// readFeedback takes POST /feedback and PATCH /feedback/{id}.
func (in *intake) readFeedback(text []byte) error {
	op, asPart, err := runs.FeedbackFromObject(text)
	if err != nil {
		return err
	}
	if in.endpoint == endpointFeedback && asPart {
		return in.add(&op)
	}
	if id, err := runs.ParseID(in.id); err == nil {
		op.ID = id
	}
	return in.call(text, runs.Op{ID: op.ID, Trace: op.Trace})
}

// call keeps the request as the call that it is; about says what it concerns.
func (in *intake) call(text []byte, about runs.Op) error {
	path := in.path
	if in.r.URL.RawQuery != "" {
		path += "?" + in.r.URL.RawQuery
	}
	media := in.r.Header.Get("Content-Type")
	if media == "" {
		media = mediaJSON
	}
	method := http.MethodPost
	if in.r.Method == http.MethodPatch {
		method = http.MethodPatch
	}
	about.Kind, about.Method, about.Path, about.ContentType, about.Body = runs.Call, method, path, media, text
	return in.add(&about)
}
