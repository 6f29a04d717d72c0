package smith

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// ingest is a request with run operations on its way into the store.
type ingest struct {
	r    *request
	in   *Request
	body []byte // decompressed
}

// runsMultipart takes POST /runs/multipart.
func (s *Server) runsMultipart(r *request, from caller) reply {
	return s.ingest(r, from, "Multipart runs ingested", func(x *ingest) error {
		boundary, err := multipartBoundary(r.Header.Get("Content-Type"))
		if err != nil {
			return err
		}
		if s.shallow(r.sw, x.in.Workspace) {
			counts, err := countParts(x.body, boundary)
			if err != nil {
				return err
			}
			return s.store.countRuns(x.in, r.route.pattern, counts, nil)
		}
		parts, err := readParts(x.body, boundary, s.cfg.MaxAttachmentBytes)
		if err != nil {
			return err
		}
		ops, err := opsOfParts(parts)
		if err != nil {
			return err
		}
		return s.takeOps(x, ops)
	})
}

// runsBatch takes POST /runs/batch.
func (s *Server) runsBatch(r *request, from caller) reply {
	return s.ingest(r, from, "Runs batch ingested", func(x *ingest) error {
		var batch struct {
			Post  []json.RawMessage `json:"post"`
			Patch []json.RawMessage `json:"patch"`
		}
		if err := json.Unmarshal(x.body, &batch); err != nil {
			return unprocessable("invalid batch JSON: %v", err)
		}
		if r.sw.EmptyBatch == Empty422 && len(batch.Post)+len(batch.Patch) == 0 {
			return unprocessable("invalid batch JSON: the batch is empty")
		}
		if s.shallow(r.sw, x.in.Workspace) {
			return s.store.countRuns(x.in, r.route.pattern, [4]int64{int64(len(batch.Post)), int64(len(batch.Patch))}, nil)
		}
		var ops []op
		for kind, list := range [][]json.RawMessage{batch.Post, batch.Patch} {
			for i, raw := range list {
				o, err := batchOp(OpKind(kind), i, raw)
				if err != nil {
					return err
				}
				ops = append(ops, o)
			}
		}
		return s.takeOps(x, ops)
	})
}

// batchOp reads one run of a batch. The wording is the service's (litellm
// 14996).
func batchOp(kind OpKind, i int, raw []byte) (op, error) {
	o, err := parseObject(raw)
	if err != nil {
		return op{}, unprocessable("invalid batch JSON: batch schema error %s.%d: %v", kind, i, err)
	}
	if err := checkSchema(o, requiredOf(kind)...); err != nil {
		return op{}, unprocessable("invalid batch JSON: batch schema error %s.%d%v", kind, i, err)
	}
	return runOp(kind, o)
}

// postRun takes POST /runs: one run, whose place in its trace may be left to
// the service (LangSmith docs: trace-with-api).
func (s *Server) postRun(r *request, from caller) reply {
	return s.ingest(r, from, "Run queued", func(x *ingest) error {
		o, err := parseObject(x.body)
		if err != nil {
			return unprocessable("invalid run JSON: %v", err)
		}
		if err := checkSchema(o, "id", "name", "run_type"); err != nil {
			return unprocessable("invalid run JSON: run schema error %s", strings.TrimPrefix(strings.TrimPrefix(err.Error(), ": "), "."))
		}
		return s.takeOne(x, OpPost, o)
	})
}

// patchRun takes PATCH /runs/{id}: what changed of one run.
func (s *Server) patchRun(r *request, from caller) reply {
	id, ok := parseUUID(r.route.id)
	if !ok {
		return familyPython.failure(http.StatusUnprocessableEntity, "run_id must be a UUID")
	}
	return s.ingest(r, from, "Run update queued", func(x *ingest) error {
		o, err := parseObject(x.body)
		if err != nil {
			return unprocessable("%v", err)
		}
		if err := checkSchema(o); err != nil {
			return unprocessable("%s", strings.TrimPrefix(err.Error(), "."))
		}
		if own, ok := parseUUID(o.Text("id")); ok && own != id {
			return unprocessable("id %s is not that of the path, %s", RunID(own), RunID(id))
		}
		return s.takeOne(x, OpPatch, o.with("id", RunID(id).String()))
	})
}

// takeOne takes a run that came alone, and finds its place where it is silent.
func (s *Server) takeOne(x *ingest, kind OpKind, o Object) error {
	if s.shallow(x.r.sw, x.in.Workspace) {
		var counts [4]int64
		counts[kind] = 1
		return s.store.countRuns(x.in, x.r.route.pattern, counts, nil)
	}
	// Both or none: half of a place is none.
	if isNull(o.Get("trace_id")) || isNull(o.Get("dotted_order")) {
		out, err := runOp(kind, o.without("dotted_order"))
		if err != nil {
			return err
		}
		s.derive(&out, x.in.Workspace)
		return s.takeOps(x, []op{out})
	}
	out, err := runOp(kind, o)
	if err != nil {
		return err
	}
	return s.takeOps(x, []op{out})
}

// derive finds a run's trace and dotted_order: its own where it is known, else
// those of its parent, else a root's.
func (s *Server) derive(o *op, tenant string) {
	start := s.cfg.Now()
	if raw := o.object.Get("start_time"); !isNull(raw) {
		start, _ = parseTime(raw) // it was read before
	}
	own := strings.Replace(start.UTC().Format(dottedStamp), ".", "", 1) + o.id.String()
	switch {
	case o.kind == OpPatch:
		if trace, dotted, ok := s.store.lineage(tenant, o.id); ok {
			o.trace, o.dotted = trace, dotted
		}
	case o.parent == (RunID{}):
		o.trace, o.dotted = o.id, own
	default:
		if trace, dotted, ok := s.store.lineage(tenant, o.parent); ok {
			o.trace = trace
			if dotted != "" { // kept under KeepSpans only
				o.dotted = dotted + "." + own
			}
		}
	}
}

// opsOfParts puts the parts of a request together. Their order is free, but a
// field needs its run's own part in the same request.
func opsOfParts(parts []runPart) ([]op, error) {
	type owner struct {
		kind OpKind
		id   RunID
	}
	fields := map[owner]Object{}
	for i := range parts {
		p := &parts[i]
		if p.kind > OpPatch || p.field == "" {
			continue
		}
		if !json.Valid(p.data) {
			return nil, unprocessable("part %s.%s.%s: invalid JSON", p.kind, p.id, p.field)
		}
		key := owner{p.kind, p.id}
		fields[key] = fields[key].set(p.field, compactOwn(p.data))
	}
	var ops []op
	for i := range parts {
		p := &parts[i]
		switch {
		case p.kind == OpAttachment:
			ops = append(ops, op{kind: OpAttachment, id: p.id, name: p.field, contentType: p.contentType, data: p.data})
			continue
		case p.field != "":
			continue
		}
		o, err := parseObject(p.data)
		if err != nil {
			return nil, unprocessable("part %s.%s: %v", p.kind, p.id, err)
		}
		if p.kind == OpFeedback {
			f, err := feedbackOp(p.id, o)
			if err != nil {
				return nil, err
			}
			ops = append(ops, f)
			continue
		}
		key := owner{p.kind, p.id}
		for _, m := range fields[key] {
			o = o.set(m.Name, m.Value)
		}
		delete(fields, key)
		out, err := partOp(p, o)
		if err != nil {
			return nil, err
		}
		ops = append(ops, out)
	}
	for key, left := range fields {
		return nil, unprocessable("part %s.%s.%s: there is no part %[1]s.%[2]s", key.kind, key.id, left[0].Name)
	}
	return ops, nil
}

// partOp makes an operation of a run's own part, its fields put in.
func partOp(p *runPart, o Object) (op, error) {
	if err := checkSchema(o, requiredOf(p.kind)...); err != nil {
		return op{}, unprocessable("invalid run JSON: run schema error %s.%s%v", p.kind, p.id, err)
	}
	out, err := runOp(p.kind, o)
	if err != nil {
		return op{}, err
	}
	if out.id != p.id {
		return op{}, unprocessable("part %s.%s: its id is %s", p.kind, p.id, out.id)
	}
	return out, nil
}

// takeOps holds operations to what the switches say and takes them in.
func (s *Server) takeOps(x *ingest, ops []op) error {
	if most, runs := x.r.sw.RunsMax, runsAmong(ops); most > 0 && runs > int64(most) {
		return unprocessable("%d runs in one request, more than %d", runs, most)
	}
	if x.r.sw.RunsWindow != WindowOff {
		if err := checkRunWindow(ops, x.in.Time); err != nil {
			return err
		}
	}
	if err := checkRunValues(ops, &x.r.sw); err != nil {
		return err
	}
	if s.cfg.Keep == KeepCounts {
		var counts [4]int64
		for i := range ops {
			counts[ops[i].kind]++
		}
		return s.store.countRuns(x.in, x.r.route.pattern, counts, ops)
	}
	return s.store.takeRuns(x.in, x.r.route.pattern, ops, runRules{
		whole: x.r.sw.RunsDuplicate == DuplicateWhole, maxTraceRuns: s.cfg.MaxTraceRuns, extra: x.r.sw.ExtraUpdate,
	})
}

// shallow reports whether operations are counted without a look into them.
func (s *Server) shallow(sw Switches, tenant string) bool {
	return s.cfg.Keep == KeepCounts && sw.RunsWindow == WindowOff && sw.RunsMax == 0 && !sw.checksValues() &&
		!s.store.limited(tenant)
}

// ingest reads a request, has it taken and words the answer. The 202's body is
// our guess; the SDKs do not read it.
func (s *Server) ingest(r *request, from caller, done string, take func(*ingest) error) reply {
	b := takeBuffers()
	defer b.release()
	x := &ingest{r: r, in: s.describe(r, from)}
	err := s.readRuns(x, b)
	if err == nil {
		err = take(x)
	}
	if errors.Is(err, errVanished) || errors.Is(err, errOutOfWindow) && r.sw.RunsWindow == WindowLost {
		s.store.lost(x.in)
		err = nil
	}
	if err != nil {
		return runsRefusal(r, err)
	}
	body, _ := json.Marshal(map[string]string{"message": done})
	return literal(http.StatusAccepted, string(body))
}

// describe starts the account of a request.
func (s *Server) describe(r *request, from caller) *Request {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	if encoding == "" {
		encoding = "identity"
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return &Request{
		Time: s.cfg.Now(), Key: from.key, Workspace: from.tenant, Method: r.Method, Path: r.URL.Path,
		UserAgent: r.UserAgent(), ContentType: media, Encoding: encoding,
		quota: quotaRules{refuseUpdates: r.sw.QuotaUpdates == UpdatesRefused},
	}
}

// readRuns reads and decompresses the body, which is b's to reuse.
func (s *Server) readRuns(x *ingest, b *buffers) error {
	fate := Taken
	if x.in.Encoding == "zstd" {
		fate = x.r.sw.RunsZstd
	}
	if fate == Unsupported {
		return fmt.Errorf("%w: %s", errUnsupported, x.in.Encoding)
	}
	if err := s.readBody(x.r, b); err != nil {
		return err
	}
	x.in.WireBytes = int64(b.wire.Len())
	if fate == Lost {
		return errVanished
	}
	body, err := s.decompress(x.r.sw, x.in.Encoding, b)
	if err != nil {
		return err
	}
	x.body = body
	x.in.RawBytes = int64(len(body))
	return nil
}

// runsRefusal words a refusal of run operations.
func runsRefusal(r *request, err error) reply {
	f := r.route.family
	var no *refusal
	var python *pythonError
	var over *limitError
	switch {
	case errors.As(err, &over):
		return over.reply(r.sw.QuotaWording)
	case errors.As(err, &python):
		return familyPython.refuse(python.status, python.text)
	case errors.As(err, &no):
		return f.refuse(no.status, no.text)
	case errors.Is(err, errTooLarge):
		return page(http.StatusRequestEntityTooLarge, page413)
	case errors.Is(err, errUnsupported):
		// The status is what HTTP prescribes; the wording is our guess.
		return f.failure(http.StatusUnsupportedMediaType, "Unsupported Media Type: "+err.Error())
	case errors.Is(err, errOutOfWindow):
		if r.sw.RunsWindow == Window422 {
			return f.refuse(http.StatusUnprocessableEntity, err.Error())
		}
		return f.refuse(http.StatusBadRequest, err.Error())
	case errors.Is(err, errConflict):
		if f == familyPython {
			return literal(http.StatusConflict, bodyConflictPython)
		}
		return literal(http.StatusConflict, bodyConflictGo)
	case errors.Is(err, errTraceTooLarge):
		// The status is our guess, too.
		return f.refuse(http.StatusBadRequest, err.Error())
	default: // the body ended early or does not decompress
		return f.refuse(http.StatusUnprocessableEntity, "error reading multipart data: "+err.Error())
	}
}

// refuse words a refusal: the Go service says what kind it is first.
func (f family) refuse(status int, text string) reply {
	if f == familyGo {
		switch status {
		case http.StatusBadRequest:
			text = "Bad request: " + text
		case http.StatusConflict:
			text = "Conflict: " + text
		case http.StatusRequestEntityTooLarge:
			text = "Request entity too large: " + text
		case http.StatusUnprocessableEntity:
			text = "Unprocessable entity: " + text
		}
	}
	return f.failure(status, text)
}

// compactOwn returns a field's value without the space around it. It shares
// nothing with raw.
func compactOwn(raw []byte) json.RawMessage {
	return slices.Clone(json.RawMessage(strings.TrimSpace(string(raw))))
}

// without returns o without a member.
func (o Object) without(name string) Object {
	return slices.DeleteFunc(slices.Clone(o), func(m Member) bool { return m.Name == name })
}
