package live

import (
	"context"
	"net/http"
	"time"
)

// stale is older than the start-time window of 24 hours.
const stale = 25 * time.Hour

// runQuestions are about run operations.
var runQuestions = []question{
	{id: "runs_answer", text: "What is the body of a 202, and when can the run be read?", budget: 1, ask: askRun},
	{
		id: "runs_duplicate", text: "Does a 409 refuse the whole request, or the duplicates only?", sw: "runs_duplicate",
		budget: 2, ask: askDuplicate,
	},
	{id: "dotted_order", text: "What is answered to a bad dotted_order?", budget: 1, ask: askDotted},
	{id: "runs_window", text: "What is answered to a run that began 25 hours ago?", sw: "runs_window", budget: 1, ask: askRunWindow},
	{
		id: "runs_window_mixed", text: "Is a fresh run lost that comes with one of 25 hours ago?", sw: "runs_window",
		budget: 2, ask: askRunsMixed,
	},
	{id: "runs_zstd_frames", text: "Are several zstd frames read, of run operations?", sw: "zstd_frames", budget: 1, ask: askRunFrames},
}

func askRun(ctx context.Context, q *asker) finding {
	r := newRun("a run", time.Now())
	a := q.do(ctx, sendRuns(q.cfg.Project, r))
	if !a.ok() {
		return found(a.word(), "%s", a.text())
	}
	got, took := q.await(ctx, []uuid{r.id}, r.name)
	if _, q.runsShow = got[r.name]; !q.runsShow {
		return found(a.word(), "%s; not read back within %s", a.text(), took)
	}
	return found(a.word(), "%s; read back after %s", a.text(), took)
}

// askDuplicate sends a run, then the same with a new one.
func askDuplicate(ctx context.Context, q *asker) finding {
	first, second := newRun("duplicate", time.Now()), newRun("beside a duplicate", time.Now())
	if a := q.do(ctx, sendRuns(q.cfg.Project, first)); !a.ok() {
		return found(answerUnknown, "the first run was not taken: %s", a.word())
	}
	if got, took := q.await(ctx, []uuid{first.id}, first.name); len(got) == 0 {
		return found(answerUnknown, "the first run was not read back within %s", took)
	}
	again := sendRuns(q.cfg.Project, first, second)
	again.traces = 1 // the first is counted
	a := q.do(ctx, again)
	if a.status != http.StatusConflict {
		return found("not_refused", "%s %s", a.word(), a.text())
	}
	got, took := q.await(ctx, []uuid{second.id}, second.name)
	if _, ok := got[second.name]; ok {
		return found("partial", "the new run was read back after %s; %s", took, a.text())
	}
	return found("whole", "the new run was not read back within %s; %s", took, a.text())
}

// askDotted sends a root whose dotted_order has two parts.
func askDotted(ctx context.Context, q *asker) finding {
	r := newRun("bad dotted_order", time.Now())
	r.dotted = r.segment() + "." + r.segment()
	a := q.do(ctx, sendRuns(q.cfg.Project, r))
	return found(a.word(), "%s", a.text())
}

func askRunWindow(ctx context.Context, q *asker) finding {
	r := newRun("25 hours old", time.Now().Add(-stale))
	a := q.do(ctx, sendRuns(q.cfg.Project, r))
	return q.fate(ctx, &a, q.runsShow, r.id, r.name)
}

func askRunsMixed(ctx context.Context, q *asker) finding {
	old, fresh := newRun("25 hours old, in company", time.Now().Add(-stale)), newRun("fresh, in old company", time.Now())
	a := q.do(ctx, sendRuns(q.cfg.Project, old, fresh))
	return q.freshFate(ctx, &a, q.runsShow, [2]item{{old.id, old.name}, {fresh.id, fresh.name}})
}

// askRunFrames cuts a form in two and compresses each half.
func askRunFrames(ctx context.Context, q *asker) finding {
	r := newRun("two zstd frames", time.Now())
	c := sendRuns(q.cfg.Project, r)
	c.body = zstdded(c.body[:len(c.body)/2], c.body[len(c.body)/2:])
	c.header["Content-Encoding"] = "zstd"
	a := q.do(ctx, c)
	return q.fate(ctx, &a, q.runsShow, r.id, r.name)
}

// fate is what became of a run: refused, read back, or lost. shown says that
// others of its kind were read back.
func (q *asker) fate(ctx context.Context, a *answer, shown bool, id uuid, name string) finding {
	if !a.ok() {
		return found(a.word(), "%s", a.text())
	}
	got, took := q.await(ctx, []uuid{id}, name)
	if _, ok := got[name]; ok {
		return found(answerTaken, "%s; read back after %s", a.word(), took)
	}
	if !shown {
		return found(answerUnknown, "%s, and not read back; but nothing of the kind was", a.word())
	}
	return found(answerLost, "%s, and not read back within %s; others were", a.word(), took)
}

// item is a run or a span by its trace and its name.
type item struct {
	trace uuid
	name  string
}

// freshFate is what became of a fresh item beside a stale one: "both_kept",
// "fresh_kept", "all_refused", "fresh_lost" or "both_lost".
func (q *asker) freshFate(ctx context.Context, a *answer, shown bool, oldAndFresh [2]item) finding {
	old, fresh := oldAndFresh[0], oldAndFresh[1]
	got, took := q.await(ctx, []uuid{old.trace, fresh.trace}, old.name, fresh.name)
	_, hasOld := got[old.name]
	_, hasFresh := got[fresh.name]
	switch {
	case hasOld && hasFresh:
		return found("both_kept", "%s; read back after %s", a.word(), took)
	case hasFresh:
		return found("fresh_kept", "%s %s", a.word(), a.text())
	case !a.ok():
		return found("all_refused", "%s %s", a.word(), a.text())
	case !shown:
		return found(answerUnknown, "%s, and nothing of the kind was read back", a.word())
	case hasOld:
		return found("fresh_lost", "%s, though the old one was read back; %s", a.word(), a.text())
	default:
		return found("both_lost", "%s; neither was read back within %s; %s", a.word(), took, a.text())
	}
}
