package live

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// otlpQuestions are about OTLP.
var otlpQuestions = []question{
	{id: "otlp_answer", text: "What is answered to OTLP in gzip, and when can its runs be read, under which ids?", budget: 1, ask: askOTLP},
	{id: "otlp_zstd", text: "Is OTLP in zstd taken, refused, or answered and lost?", sw: "otlp_zstd", budget: 1, ask: askZstd},
	{id: "otlp_zstd_frames", text: "Are several zstd frames read, of OTLP?", sw: "zstd_frames", budget: 1, ask: askFrames},
	{id: "otlp_json", text: "Is OTLP in JSON taken, refused, or answered and lost?", sw: "otlp_json", budget: 1, ask: askJSON},
	{id: "otlp_bare_path", text: "Is OTLP taken at /otel, without /v1/traces?", sw: "otlp_bare_path", budget: 1, ask: askBarePath},
	{id: "otlp_project", text: "Does the header or the span's attribute name the project?", sw: "otlp_project", budget: 1, ask: askProject},
	{id: "otlp_window", text: "What becomes of a span that began 25 hours ago?", sw: "otlp_window", budget: 1, ask: askSpanWindow},
	{
		id: "otlp_window_mixed", text: "Is a fresh span lost that comes with one of 25 hours ago?", sw: "otlp_window",
		budget: 2, ask: askSpansMixed,
	},
}

func askOTLP(ctx context.Context, q *asker) finding {
	t := newTrace(time.Now())
	root, child := t.rootSpan("a span"), t.childSpan("its child")
	a := q.do(ctx, sendOTLP(q.cfg.Project, "gzip", zipped(export(root, child)), 1))
	if !a.ok() {
		return found(a.word(), "%s", a.text())
	}
	reply := fmt.Sprintf("%d bytes of %s", len(a.body), a.header.Get("Content-Type"))
	got, took := q.await(ctx, []uuid{t.id}, root.GetName(), child.GetName())
	top, ok := got[root.GetName()]
	if q.otlpShow = ok; !ok {
		return found(a.word(), "%s; not read back within %s", reply, took)
	}
	ids := "the root has another id than its trace"
	if top.ID == t.id.String() {
		ids = "the root has its trace's id"
	}
	if below, ok := got[child.GetName()]; ok {
		ids += fmt.Sprintf(", the child with span id %s has %s", hex.EncodeToString(child.GetSpanId()), below.ID)
	}
	return found(a.word(), "%s; read back after %s; %s", reply, took, ids)
}

// spanFate sends one span, a trace of its own, and follows it.
func (q *asker) spanFate(ctx context.Context, t *trace, name string, c call) finding {
	a := q.do(ctx, c)
	return q.fate(ctx, &a, q.otlpShow, t.id, namePrefix+name)
}

func askZstd(ctx context.Context, q *asker) finding {
	const name = "zstd"
	t := newTrace(time.Now())
	return q.spanFate(ctx, t, name, sendOTLP(q.cfg.Project, "zstd", zstdded(export(t.rootSpan(name))), 1))
}

// askFrames sends a root in one frame and its child in the next: concatenated,
// they are one message.
func askFrames(ctx context.Context, q *asker) finding {
	t := newTrace(time.Now())
	root, child := t.rootSpan("first zstd frame"), t.childSpan("second zstd frame")
	a := q.do(ctx, sendOTLP(q.cfg.Project, "zstd", zstdded(export(root), export(child)), 1))
	if !a.ok() {
		return found(a.word(), "%s", a.text())
	}
	got, took := q.await(ctx, []uuid{t.id}, root.GetName(), child.GetName())
	_, first := got[root.GetName()]
	_, second := got[child.GetName()]
	switch {
	case first && second:
		return found("all", "read back after %s", took)
	case first:
		return found("first", "only the first was read back within %s", took)
	case !q.otlpShow:
		return found(answerUnknown, "not read back; but nothing of the kind was")
	default:
		return found(answerLost, "neither was read back within %s", took)
	}
}

func askJSON(ctx context.Context, q *asker) finding {
	const name = "JSON"
	t := newTrace(time.Now())
	c := sendOTLP(q.cfg.Project, "", exportJSON(t.rootSpan(name)), 1)
	c.header["Content-Type"] = jsonType
	return q.spanFate(ctx, t, name, c)
}

func askBarePath(ctx context.Context, q *asker) finding {
	const name = "/otel"
	t := newTrace(time.Now())
	c := sendOTLP(q.cfg.Project, "gzip", zipped(export(t.rootSpan(name))), 1)
	c.path = pathBareOTLP
	return q.spanFate(ctx, t, name, c)
}

// askProject names one project in the header and another in the attribute, and
// reads the name of the one that has the run.
func askProject(ctx context.Context, q *asker) finding {
	header, attribute := q.cfg.Project, q.cfg.Project+"-attribute"
	t := newTrace(time.Now())
	root := t.rootSpan("two projects", "langsmith.trace.session_name", attribute)
	a := q.do(ctx, sendOTLP(header, "gzip", zipped(export(root)), 1))
	if !a.ok() {
		return found(answerUnknown, "%s %s", a.word(), a.text())
	}
	got, took := q.await(ctx, []uuid{t.id}, root.GetName())
	run, ok := got[root.GetName()]
	if !ok {
		return found(answerUnknown, "not read back within %s", took)
	}
	a = q.do(ctx, call{path: "/sessions/" + run.SessionID})
	var session struct {
		Name string `json:"name"`
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &session) != nil {
		return found(answerUnknown, "its project cannot be read: %s", a.word())
	}
	switch session.Name {
	case header:
		return found("header", "")
	case attribute:
		return found("attribute", "")
	default:
		return found("other", "it is in neither")
	}
}

func askSpanWindow(ctx context.Context, q *asker) finding {
	const name = "25 hours old span"
	t := newTrace(time.Now().Add(-stale))
	return q.spanFate(ctx, t, name, sendOTLP(q.cfg.Project, "gzip", zipped(export(t.rootSpan(name))), 1))
}

func askSpansMixed(ctx context.Context, q *asker) finding {
	old, fresh := newTrace(time.Now().Add(-stale)), newTrace(time.Now())
	oldSpan, freshSpan := old.rootSpan("25 hours old span, in company"), fresh.rootSpan("fresh span, in old company")
	a := q.do(ctx, sendOTLP(q.cfg.Project, "gzip", zipped(export(oldSpan, freshSpan)), 2))
	return q.freshFate(ctx, &a, q.otlpShow, [2]item{{old.id, oldSpan.GetName()}, {fresh.id, freshSpan.GetName()}})
}
