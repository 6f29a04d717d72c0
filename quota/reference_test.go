package quota_test

import (
	"weir/quota"
)

// reference is what the model test believes of a guard: sets and loops.
type reference struct {
	month    quota.Month
	limit    int64
	budget   int64 // of project "a", negative for none
	policy   quota.Policy
	accounts map[string]*refAccount
}

type refAccount struct {
	provisional bool
	others      int64
	refused     bool
	trial       int64
	override    *int64
	traces      map[quota.TraceID]*refTrace
	counted     map[quota.Month]map[quota.TraceID]bool
	// carried, by project, is what was counted as the next month's before more
	// than one month turned at once: it is of this month for all that is known.
	carried map[string]int64
}

type refTrace struct {
	state     quota.State
	month     quota.Month // in which it was counted or dropped
	counted   bool        // once, in whatever month
	attempted bool
	project   string
}

func newRefAccount(provisional bool) *refAccount {
	return &refAccount{
		provisional: provisional,
		traces:      map[quota.TraceID]*refTrace{}, counted: map[quota.Month]map[quota.TraceID]bool{},
		carried: map[string]int64{},
	}
}

func (r *reference) get(account string) *refAccount { return r.accounts[account] }

func (a *refAccount) number(s quota.State) (n int64) {
	for _, t := range a.traces {
		if t.state == s {
			n++
		}
	}
	return n
}

func (r *reference) totals(account string) quota.Totals {
	a := r.get(account)
	t := quota.Totals{
		Month: r.month, Counted: int64(len(a.counted[r.month])), Next: int64(len(a.counted[r.month+1])),
		Reserved: a.number(quota.Reserved), Releasing: a.number(quota.Releasing), Held: a.number(quota.Held),
	}
	for _, n := range a.carried {
		t.Counted += n
	}
	for _, x := range a.traces {
		if x.state == quota.Dropped && x.month == r.month {
			t.Dropped++
		}
	}
	return t
}

// used is what takes a share of the limit.
func (r *reference) used(account string) int64 {
	t := r.totals(account)
	return t.Counted + t.Next + t.Reserved + t.Releasing
}

func (r *reference) usedBy(account, project string) (n int64) {
	a := r.get(account)
	n = a.carried[project]
	for id, t := range a.traces {
		if t.project != project {
			continue
		}
		if a.counted[r.month][id] {
			n++
		}
		if a.counted[r.month+1][id] {
			n++
		}
		if t.state == quota.Reserved || t.state == quota.Releasing {
			n++
		}
	}
	return n
}

func (r *reference) limitOf(account string) int64 {
	if o := r.get(account).override; o != nil {
		return *o
	}
	return r.limit
}

// room is how many traces the account may use, beyond what pacing allows.
func (r *reference) room(account string, confirmed bool) int64 {
	a, t := r.get(account), r.totals(account)
	limit := r.limitOf(account)
	if !confirmed {
		return limit + t.Counted + t.Next
	}
	limit -= a.others
	var most int64
	for name, o := range r.accounts {
		switch {
		case name == account:
		case o.provisional:
			limit -= r.used(name)
		case a.provisional:
			most = max(most, r.used(name)+o.others)
		}
	}
	limit = max(limit-most, 0)
	if a.refused {
		limit = min(limit, t.Counted+t.Next+a.trial)
	}
	return limit
}

// fits reports whether one more trace of a project fits.
func (r *reference) fits(account, project string, room int64) bool {
	if r.used(account) >= room {
		return false
	}
	return project != "a" || r.budget < 0 || r.usedBy(account, project) < r.budget
}

// refQuestion is one trace of a claim.
type refQuestion struct {
	trace quota.Trace
	room  int64
	// told is what the guard said, for where it may choose: the sample and the
	// day's share are not the reference's business.
	told    quota.State
	sending bool
}

// decide is the verdict that is due.
func (r *reference) decide(account string, q *refQuestion) (s quota.State, fresh bool) {
	a := r.get(account)
	t := a.traces[q.trace.ID]
	if t == nil {
		t = &refTrace{}
	}
	switch t.state {
	case quota.Held, quota.Dropped:
		return t.state, false
	case quota.Reserved, quota.Releasing:
		if !q.sending || t.attempted || r.used(account) <= q.room {
			return t.state, false
		}
		t.state = quota.Held
		return t.state, true
	case quota.Counted:
		if t.month >= r.month {
			return t.state, false
		}
	case quota.Follower:
		if q.sending || q.trace.Follows {
			return t.state, false
		}
	default:
		if q.trace.Follows {
			a.traces[q.trace.ID] = &refTrace{state: quota.Follower, month: r.month}
			return quota.Follower, true
		}
	}
	if t.state != quota.Counted {
		*t = refTrace{project: q.trace.Project}
		a.traces[q.trace.ID] = t
	}
	t.state = r.begin(account, t, q)
	if t.state == quota.Dropped {
		t.month = r.month
	}
	return t.state, true
}

// begin decides about a trace that is new this month.
func (r *reference) begin(account string, t *refTrace, q *refQuestion) quota.State {
	over := quota.Held
	if !q.sending && !t.counted && (r.policy == quota.PolicyDrop || r.policy == quota.PolicySample) {
		over = quota.Dropped
	}
	if !r.fits(account, t.project, q.room) {
		return over
	}
	if !q.sending && q.told == over && (r.policy == quota.PolicySample || r.policy == quota.PolicyPace) {
		return over
	}
	return quota.Reserved
}

// count notes a delivery.
func (r *reference) count(account string, month quota.Month, id quota.TraceID) {
	a := r.get(account)
	t := a.traces[id]
	if t == nil || t.state == quota.Follower {
		return
	}
	if a.counted[month] == nil {
		a.counted[month] = map[quota.TraceID]bool{}
	}
	a.counted[month][id] = true
	*t = refTrace{state: quota.Counted, month: max(month, t.month), counted: true, project: t.project}
}

// turn begins a month. What is older than a month is forgotten, unless there
// is data of it: a ledger may forget it, too.
func (r *reference) turn(month quota.Month) (gone map[quota.TraceID]bool) {
	before := r.month
	r.month = month
	gone = map[quota.TraceID]bool{}
	for _, a := range r.accounts {
		a.others = 0
		clear(a.carried)
		if month > before+1 {
			for id := range a.counted[before+1] {
				a.carried[a.traces[id].project]++
			}
		}
		for id, t := range a.traces {
			if t.month+1 < month && (t.state == quota.Counted || t.state == quota.Dropped || t.state == quota.Follower) {
				gone[id] = true
			}
		}
	}
	for id := range gone {
		if r.knownTo(id) > 1 || epoch(id) >= month {
			delete(gone, id) // accounts may turn out to be one; the test may name it again
			continue
		}
		for _, a := range r.accounts {
			delete(a.traces, id)
		}
	}
	return gone
}

// knownTo is how many accounts know a trace.
func (r *reference) knownTo(id quota.TraceID) (n int) {
	for _, a := range r.accounts {
		if a.traces[id] != nil {
			n++
		}
	}
	return n
}

// attempted notes a request without an answer.
func (r *reference) attempted(account string, id quota.TraceID) {
	t := r.get(account).traces[id]
	switch {
	case t == nil:
	case t.state == quota.Reserved || t.state == quota.Releasing:
		t.attempted = true
	case t.state == quota.Counted && t.month < r.month:
		t.state, t.attempted = quota.Reserved, true
	}
}

// binds orders states by what is kept of a trace that two accounts know.
func (r *reference) binds(t *refTrace) int {
	if t == nil {
		return 0
	}
	if t.state == quota.Counted && t.month >= r.month {
		return 9
	}
	return map[quota.State]int{
		quota.Follower: 1, quota.Counted: 2, quota.Dropped: 3, quota.Held: 4, quota.Reserved: 5, quota.Releasing: 6,
	}[t.state]
}

func (r *reference) unite(from, into string) {
	src, dst := r.get(from), r.get(into)
	for id, t := range src.traces {
		have := dst.traces[id]
		wins, loses := t, have
		if r.binds(have) >= r.binds(t) {
			wins, loses = have, t
		}
		if loses != nil {
			wins.counted = wins.counted || loses.counted
			wins.attempted = wins.attempted || loses.attempted
		}
		dst.traces[id] = wins
	}
	for m, set := range src.counted {
		for id := range set {
			if dst.counted[m] == nil {
				dst.counted[m] = map[quota.TraceID]bool{}
			}
			dst.counted[m][id] = true
		}
	}
	for project, n := range src.carried {
		dst.carried[project] += n
	}
	dst.others = max(dst.others, src.others)
	if src.refused && !dst.refused {
		dst.refused, dst.trial = true, src.trial
	}
	if dst.override == nil {
		dst.override = src.override
	}
	delete(r.accounts, from)
}
