package proxy

import "weir/proxy/runs"

// Limits of a request of run operations: what LangSmith's own clients send at
// most (LangSmith's GET /info: size_limit and size_limit_bytes).
const (
	maxRequestOps      = 100
	maxRequestRunBytes = 20 << 20

	// partOverheadBytes is about what a part's headers add to a request.
	partOverheadBytes = 200
)

// unit is what leaves as one operation: a run's create with the updates folded
// into it, or another operation, and the attachments that came with it.
type unit struct {
	op          runs.Op
	members     []int // of the round's operations: all that op stands for, and the attachments
	attachments []int // those of members that are attachments
	group       requestGroup
}

// batch is one request. Batches of a wave may be sent in any order, or at the
// same time.
type batch struct{ units []unit }

type planLimits struct {
	maxOps   int
	maxBytes int64
	// project is put into runs that name none; empty: nothing is.
	project string
}

// plan makes requests of a round's operations that have no fate yet. It is
// pure: it reads ops and changes nothing.
//
// An update is folded into its create where both are still on weir's side and
// neither has ever been attempted, or both have been in one request that goes
// again. Operations of one run keep their order: in one request, or in requests
// of waves that follow each other. Calls are waves of their own, because what
// they depend on is not known. Requests that were attempted before are not
// filled up with others: a 409 would then say nothing.
func plan(ops []roundOp, limits planLimits) [][]batch {
	p := planner{ops: ops, limits: limits, open: map[runs.ID]int{}}
	for i := range ops {
		if ops[i].fate.kind == fatePending {
			p.add(i)
		}
	}
	return p.pack()
}

type planner struct {
	ops    []roundOp
	limits planLimits
	units  []unit
	open   map[runs.ID]int // run to its latest unit
}

// add makes operation i a unit, or part of one.
func (p *planner) add(i int) {
	o := &p.ops[i]
	last, have := p.open[o.ID]
	switch {
	case have && o.Kind == runs.Attachment && p.cameWith(&p.units[last], o):
		u := &p.units[last]
		u.attachments = append(u.attachments, i)
		u.members = append(u.members, i)
		return
	case have && o.Kind == runs.Update && p.fold(&p.units[last], i):
		return
	}
	if o.young {
		if o.Kind == runs.Create || o.Kind == runs.Update {
			delete(p.open, o.ID)
		}
		return
	}
	u := unit{op: o.Op, members: []int{i}, group: o.group}
	if o.NoProject && p.limits.project != "" {
		if body, err := runs.WithProject(o.Body, p.limits.project); err == nil {
			u.op.Body, u.op.NoProject = body, false
		}
	}
	p.units = append(p.units, u)
	if o.Kind == runs.Create || o.Kind == runs.Update {
		p.open[o.ID] = len(p.units) - 1
	}
}

// cameWith reports whether an attachment came with one of a unit's operations.
func (p *planner) cameWith(u *unit, o *roundOp) bool {
	for _, m := range u.members {
		if p.ops[m].frame == o.frame {
			return true
		}
	}
	return false
}

// fold folds update i into a create, and reports whether it could.
func (p *planner) fold(u *unit, i int) bool {
	again := u.group >= groupFirst // they were one before
	if u.op.Kind != runs.Create || u.group != p.ops[i].group || (u.group != groupNone && !again) {
		return false
	}
	merged, err := runs.Merge(&u.op, &p.ops[i].Op)
	if err != nil {
		return false // the upstream will say what is wrong with it
	}
	u.op = merged
	u.members = append(u.members, i)
	return true
}

// pack distributes units over requests and waves.
func (p *planner) pack() [][]batch {
	var k packer
	for i := range p.units {
		k.put(&p.units[i], p)
	}
	k.endWave()
	return k.waves
}

// packer fills the current batch of the current wave.
type packer struct {
	waves  [][]batch
	wave   []batch
	runs   map[runs.ID]int // run to the batch of the wave with its latest unit
	traces map[runs.ID]int // trace to the batch with its runs, manyBatches if there are several
	ops    int             // in the current batch
	bytes  int64
	alone  bool // nothing may join the current batch
}

const manyBatches = -1

func (k *packer) put(u *unit, p *planner) {
	if u.op.Kind == runs.Call {
		k.endWave()
	}
	bytes, blob := p.size(u)
	alone := blob || u.op.Kind == runs.Call
	target := len(k.wave) - 1
	if target < 0 || alone || k.alone || k.ops >= p.limits.maxOps || k.bytes+bytes > p.limits.maxBytes ||
		k.wave[target].units[0].group != u.group {
		target++
	}
	if k.waitsForOther(u, target) {
		k.endWave()
		target = 0
	}
	if target == len(k.wave) {
		k.wave = append(k.wave, batch{})
		k.ops, k.bytes = 0, 0
	}
	k.wave[target].units = append(k.wave[target].units, *u)
	k.ops++
	k.bytes += bytes
	k.alone = alone
	k.note(u, target)
	if u.op.Kind == runs.Call {
		k.endWave()
	}
}

// waitsForOther reports whether a unit meant for a batch depends on what is in
// another batch of the wave: on its run, or as a feedback on its trace.
func (k *packer) waitsForOther(u *unit, target int) bool {
	at, dependent := k.runs[u.op.ID]
	if u.op.Kind == runs.Feedback {
		at, dependent = k.traces[u.op.Trace]
	}
	return dependent && at != target
}

// note remembers where a unit went.
func (k *packer) note(u *unit, target int) {
	if k.runs == nil {
		k.runs, k.traces = map[runs.ID]int{}, map[runs.ID]int{}
	}
	if u.op.Kind == runs.Feedback {
		return
	}
	k.runs[u.op.ID] = target
	if at, have := k.traces[u.op.Trace]; have && at != target {
		target = manyBatches
	}
	k.traces[u.op.Trace] = target
}

func (k *packer) endWave() {
	if len(k.wave) > 0 {
		k.waves = append(k.waves, k.wave)
	}
	*k = packer{waves: k.waves}
}

// size is what a unit adds to a request, and whether part of it is in a blob.
func (p *planner) size(u *unit) (bytes int64, blob bool) {
	bytes = u.op.Size() + (1+runs.NumFields)*partOverheadBytes
	blob = u.op.Blob != ""
	for _, a := range u.attachments {
		bytes += p.ops[a].Size() + partOverheadBytes
		blob = blob || p.ops[a].Blob != ""
	}
	return bytes, blob
}
