package proxy

import (
	"slices"

	"weir/proxy/runs"
)

// patience bounds a search for what makes the upstream refuse a request: an
// upstream that refuses everything must not be asked about every operation.
type patience struct {
	full, left int
	units      []unit // of the whole request
}

func newPatience(units []unit) *patience {
	n := patienceFor(len(units))
	return &patience{full: n, left: n, units: units}
}

// try sends units as one request and sees to the outcome: what is refused is
// isolated, the rest delivered. A request with k bad units of n takes O(k log n)
// requests. It reports whether anything was delivered.
func (r *round) try(units []unit, p *patience) (some bool) {
	// What comes after a create that was refused follows it, also within a
	// request that is taken apart.
	if len(p.units) > 1 { // some may have gone alone
		units = slices.DeleteFunc(slices.Clone(units), func(u unit) bool { return !r.undecided(&u) })
	}
	if units = r.following(units); len(units) == 0 || r.over() {
		return false
	}
	out := r.post(units)
	switch {
	case out.Kind == Delivered:
		r.delivered(units)
		p.left = p.full
		return true
	case out.Kind != Refused:
		r.end(out)
		return false
	}
	switch out.Refusal {
	case RefusedContent, RefusedSize:
		return r.isolate(units, out, p)
	case RefusedDuplicate:
		return r.duplicate(units, out, p)
	case RefusedNotYet:
		for _, u := range units { // one: only calls are refused so
			r.keep(u, out, true)
		}
		r.f.putOffLater(r.s.run)
		return true
	default:
		r.end(out)
		return false
	}
}

// isolate sends the parts of a request that was refused for its content or size.
func (r *round) isolate(units []unit, out *Outcome, p *patience) (some bool) {
	if out.Refusal == RefusedSize {
		r.shrink(units)
	}
	if len(units) == 1 {
		return r.takeApart(units[0], out, p)
	}
	if p.left--; p.left <= 0 && !r.sample(p) {
		r.giveUp(units, out)
		return false
	}
	some = r.try(units[:len(units)/2], p)
	return r.try(units[len(units)/2:], p) || some
}

// sample tries single operations from all over the request once patience has run
// out. It reports whether one was taken.
func (r *round) sample(p *patience) (taken bool) {
	created := map[runs.ID]bool{}
	for i := range p.units {
		if u := &p.units[i]; u.op.Kind == runs.Create {
			created[u.op.ID] = true
		}
	}
	var left []int
	for i := range p.units {
		u := &p.units[i]
		// What belongs to a create of the request must not go before it.
		if (u.op.Kind == runs.Create || !created[u.op.ID]) && r.undecided(u) {
			left = append(left, i)
		}
	}
	p.left = maxSamples // while they are tried
	for _, i := range spread(left, maxSamples) {
		if r.over() {
			return taken
		}
		out := r.try(p.units[i:i+1], p)
		taken = taken || out
	}
	return taken && p.left > 0
}

// undecided reports whether a unit has not met its fate.
func (r *round) undecided(u *unit) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(u.members, func(m int) bool { return r.ops[m].fate.kind == fatePending })
}

// giveUp ends a search in which nothing was taken: the fault is then not in
// single operations. What is pending of the first frame concerned goes into
// quarantine whole, so that the lane gets on, and waits with the others, which
// may be innocent.
func (r *round) giveUp(units []unit, out *Outcome) {
	r.mu.Lock()
	r.gaveUp[r.ops[units[0].members[0]].frame] = out
	r.mu.Unlock()
	r.end(&Outcome{Kind: Refused, Reason: out.Reason, Scope: ScopeLane, Refusal: out.Refusal, Exchange: out.Exchange})
}

// shrink makes the lane's next requests smaller than one that was too large.
func (r *round) shrink(units []unit) {
	if len(units) < 2 {
		return
	}
	var n int64
	for i := range units {
		n += units[i].op.Size()
	}
	r.f.shrink(r.s.run, n)
}

// takeApart sends what a refused unit consists of, so that one bad part does
// not take the others with it: the create, each update, each attachment.
func (r *round) takeApart(u unit, out *Outcome, p *patience) (some bool) {
	if len(u.members) == 1 {
		r.keep(u, out, false)
		return false
	}
	for _, part := range r.parts(&u) {
		if r.over() {
			return some
		}
		some = r.try([]unit{part}, p) || some
	}
	return some
}

// parts are a unit's run operations one by one, then its attachments.
func (r *round) parts(u *unit) []unit {
	var own, files []unit
	for _, m := range u.members {
		part := unit{op: r.ops[m].Op, members: []int{m}, group: groupApart}
		if part.op.NoProject && r.req.Project != "" {
			if body, err := runs.WithProject(part.op.Body, r.req.Project); err == nil {
				part.op.Body, part.op.NoProject = body, false
			}
		}
		if part.op.Kind == runs.Attachment && len(u.members) > len(u.attachments) {
			files = append(files, part)
		} else {
			own = append(own, part)
		}
	}
	return append(own, files...)
}

// duplicate sees to a request of which the upstream says it has something
// already (409). That is a delivery where an answer to the very same was lost.
// Otherwise whether it has taken the rest of the request is not known, so the
// parts go one by one, and one that is refused by itself is a duplicate: it is
// kept, for it may hold what the one before did not.
func (r *round) duplicate(units []unit, out *Outcome, p *patience) (some bool) {
	if r.f.attempts.wasLost(r.s.lease.Lane, r.key(units)) || (len(units) == 1 && len(units[0].members) == 1 && r.lost(&units[0])) {
		r.f.m.presumed.Add(float64(r.delivered(units)))
		p.left = p.full
		return true
	}
	if len(units) > 1 {
		some = r.try(units[:len(units)/2], p)
		return r.try(units[len(units)/2:], p) || some
	}
	if len(units[0].members) > 1 && (!onlyAttachments(&units[0]) || r.lost(&units[0])) {
		return r.takeApart(units[0], out, p)
	}
	r.f.m.duplicates.Add(float64(len(units[0].members)))
	r.keep(units[0], out, false)
	return true
}

// onlyAttachments reports whether a unit is one run operation with files.
func onlyAttachments(u *unit) bool { return len(u.members) == len(u.attachments)+1 }

// lost reports whether an answer to a request with all of the unit was lost.
func (r *round) lost(u *unit) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range u.members {
		if !r.ops[m].lost {
			return false
		}
	}
	return true
}

// key names the content of a request: which operations, in which order.
func (r *round) key(units []unit) requestKey {
	k := newRequestKey()
	for i := range units {
		for _, m := range units[i].members {
			o := &r.ops[m]
			k.add(r.s.lease.Frames[o.frame].ID, o.number)
		}
	}
	return k.sum()
}
