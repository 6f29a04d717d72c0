package proxy

import (
	"fmt"
	"slices"
	"sync"

	"weir/proxy/runs"
	"weir/queue"
	"weir/quota"
)

// gate stands between what arrives and the queue: it asks the guard about each
// trace of an export, and cuts the export by trace where the verdicts differ.
type gate struct {
	*Quota

	traces sync.Pool // of *[]quota.Trace
}

// Reasons of drops that the user chose.
const (
	reasonQuotaDrop   = "quota_drop"
	reasonQuotaSample = "quota_sample"
	reasonHoldAge     = "hold_max_age"
	reasonHoldFull    = "hold_full"
)

// entry is an export as it goes into the queue.
type entry struct {
	exports   []*queue.Export
	warning   string
	discarded []runs.Blob // content of what is dropped
	held      []TraceID   // of those of its traces of which something goes into the hold
	admission *quota.Admission
}

// maxProjectBytes bounds the names of projects that are told apart.
const maxProjectBytes = 256

// defaultProject is where LangSmith files what names no project (LangSmith
// docs: trace with the API).
const defaultProject = "default"

// admit decides about an export of a lane.
func (g *gate) admit(lane Lane, own *queue.Export, e *Export) (*entry, error) {
	if len(e.TraceIDs) == 0 {
		return &entry{exports: []*queue.Export{own}}, nil
	}
	traces := g.borrow()
	defer g.traces.Put(traces)
	project := g.project(lane)
	for i, id := range e.TraceIDs {
		t := quota.Trace{ID: id, Project: project}
		if e.Marks != nil {
			m := &e.Marks[i]
			t.Failed, t.Follows = m.Failed, m.Follows
			if m.Project != "" {
				t.Project = clip(m.Project, maxProjectBytes)
			}
		}
		*traces = append(*traces, t)
	}
	var a *quota.Admission
	err := g.accounts.with(lane, func(account string) (err error) {
		a, err = g.guard.Admit(account, *traces)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask the quota guard: %w", err)
	}
	out := &entry{exports: []*queue.Export{own}, warning: a.Warning, admission: a}
	if !slices.ContainsFunc(a.Verdicts, func(v quota.Verdict) bool { return !v.State.Passes() }) {
		return out, nil
	}
	if err := g.split(out, *traces, e); err != nil {
		g.undo(lane, out)
		return nil, err
	}
	return out, nil
}

func (g *gate) borrow() *[]quota.Trace {
	if t, ok := g.traces.Get().(*[]quota.Trace); ok {
		*t = (*t)[:0]
		return t
	}
	return &[]quota.Trace{}
}

// project is where a lane's data goes that does not say so itself.
func (g *gate) project(lane Lane) string {
	if p := resolve(lane.Project, refProject, g.dest.Load().Project); p != "" {
		return clip(p, maxProjectBytes)
	}
	return defaultProject
}

// undo takes back what an admission reserved, as far as that is possible.
func (g *gate) undo(lane Lane, e *entry) {
	if e.admission == nil {
		return
	}
	_ = g.accounts.with(lane, func(account string) error { // it may have been united with another
		return g.guard.Undo(account, e.admission) // else the traces keep their shares
	})
}

// maxHoldPieces bounds the pieces of one export that are held in different
// places.
const maxHoldPieces = 32

// split cuts an export by what becomes of its traces.
func (g *gate) split(out *entry, traces []quota.Trace, e *Export) error {
	own := out.exports[0]
	pass := *own
	pass.Payload, pass.Items, pass.Traces, pass.Blobs = nil, 0, nil, nil
	targets := []*queue.Export{&pass}
	byPlace := map[queue.Place]int{}
	drop := 0
	part := make(map[TraceID]int, len(traces))
	for i, v := range out.admission.Verdicts {
		switch v.State {
		case quota.Held, quota.Releasing:
			out.held = append(out.held, traces[i].ID)
			project := traces[i].Project
			if len(byPlace) >= maxHoldPieces {
				project = ""
			}
			place, err := g.holds.place(project)
			if err != nil {
				return err
			}
			if byPlace[place] == 0 {
				byPlace[place] = len(targets)
				targets = append(targets, &queue.Export{Lane: own.Lane, Place: place})
			}
			part[traces[i].ID] = byPlace[place]
		case quota.Dropped:
			if drop == 0 {
				drop = len(targets)
				targets = append(targets, &queue.Export{Lane: own.Lane, Dropped: g.dropReason()})
			}
			part[traces[i].ID] = drop
		default:
		}
	}
	pieces, err := g.dividers[e.Protocol].Split(own.Payload, len(targets), func(id TraceID) int { return part[id] })
	if err != nil {
		return fmt.Errorf("split an export by trace: %w", err)
	}
	out.exports = out.exports[:0]
	for i := range pieces {
		if pieces[i].Items == 0 {
			continue
		}
		t, p := targets[i], &pieces[i]
		t.Items = p.Items
		if t.Dropped != "" {
			out.discarded = blobsNamed(e.Blobs, p.Blobs)
		} else {
			t.Payload, t.Traces = p.Payload, p.Traces
			for _, b := range blobsNamed(e.Blobs, p.Blobs) {
				t.Blobs = append(t.Blobs, queue.Blob(b))
			}
		}
		out.exports = append(out.exports, t)
	}
	return nil
}

// blobsNamed are those of blobs that names name.
func blobsNamed(blobs []runs.Blob, names []string) (out []runs.Blob) {
	for _, b := range blobs {
		if slices.Contains(names, b.ID) {
			out = append(out, b)
		}
	}
	return out
}

// dropReason says why data is dropped when it arrives: the policy, or that the
// rest of its trace has been dropped from the hold.
func (g *gate) dropReason() string {
	switch g.guard.Policy() {
	case quota.PolicyDrop:
		return reasonQuotaDrop
	case quota.PolicySample:
		return reasonQuotaSample
	default:
		return reasonHoldAge
	}
}
