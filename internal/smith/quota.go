package smith

import (
	"slices"
	"strings"
	"time"
)

// quotas is what tenants have used and may use; store.mu covers it, so that a
// request is decided on, counted and taken in one step.
type quotas struct {
	standard Limits
	own      map[string]Limits // by accountKey
	accounts map[string]*account
}

// account is what one tenant has used. All keys of a tenant share it.
type account struct {
	months  map[int]*monthUse       // by monthOf
	hours   map[int64]*windowUse    // by Unix second of the start
	minutes map[int64]*windowUse    // likewise, the latest few
	fresh   map[int64]int64         // traces newly counted, by minute, for usage reads
	refused map[LimitKind]int64     // requests
	lost    map[LimitKind]int64     // requests answered 200 all the same
	stuck   map[LimitKind]rejection // limits of hours and minutes that struck
}

// monthUse is what a tenant used of a month.
type monthUse struct {
	ids      map[TraceID]struct{}
	others   int64 // traces of other senders, of which no id is known
	upgraded map[TraceID]struct{}
}

// traces is how many the month has.
func (m *monthUse) traces() int64 { return int64(len(m.ids)) + m.others }

// windowUse is what a tenant used of an hour or a minute.
type windowUse struct{ events, bytes, traces int64 }

// rejection is a window in which a limit struck.
type rejection struct{ window, limit int64 }

// maxMinutes bounds the minutes kept of an account: the one that counts, and
// some whose requests are late.
const maxMinutes = 8

// accountKey spells a tenant's id in one way.
func accountKey(tenant string) string {
	const hyphenated = 36
	tenant = strings.ToLower(tenant)
	if id, ok := parseUUID(tenant); ok && len(tenant) != hyphenated {
		return RunID(id).String()
	}
	return tenant
}

// monthOf numbers the calendar months of UTC.
func monthOf(at time.Time) int {
	at = at.UTC()
	return at.Year()*12 + int(at.Month()) - 1
}

// hourOf and minuteOf are the Unix second at which the clock hour and the
// minute of a time start.
func hourOf(at time.Time) int64   { return startOfWindow(at, time.Hour) }
func minuteOf(at time.Time) int64 { return startOfWindow(at, time.Minute) }

func startOfWindow(at time.Time, d time.Duration) int64 {
	second, length := at.Unix(), int64(d/time.Second)
	return second - ((second%length)+length)%length
}

// account returns a tenant's account. Of very many tenants the last share one.
func (q *quotas) account(key string) *account {
	a := q.accounts[key]
	if a == nil && len(q.accounts) >= maxGroups {
		key = otherGroup
		a = q.accounts[key]
	}
	if a == nil {
		a = &account{
			months: map[int]*monthUse{}, hours: map[int64]*windowUse{}, minutes: map[int64]*windowUse{}, fresh: map[int64]int64{},
			refused: map[LimitKind]int64{}, lost: map[LimitKind]int64{}, stuck: map[LimitKind]rejection{},
		}
		q.accounts[key] = a
	}
	return a
}

// limits returns the limits of a tenant.
func (q *quotas) limits(key string) Limits {
	if l, ok := q.own[key]; ok {
		return l
	}
	return q.standard
}

// month returns what was used of the month of a time.
func (a *account) month(at time.Time) *monthUse {
	m := a.months[monthOf(at)]
	if m == nil {
		m = &monthUse{ids: map[TraceID]struct{}{}, upgraded: map[TraceID]struct{}{}}
		a.months[monthOf(at)] = m
	}
	return m
}

// window returns what was used of a window.
func window(all map[int64]*windowUse, start int64) *windowUse {
	w := all[start]
	if w == nil {
		w = &windowUse{}
		all[start] = w
	}
	return w
}

// quotaRules are the switches that a request over its limits is held to.
type quotaRules struct {
	refuseUpdates bool // QuotaUpdates
	lost          bool // what is refused is answered 200
}

// demand is what a request wants of its tenant's limits. Its traces are those
// of the heads or of the ops.
type demand struct {
	events, bytes int64
	heads         []spanHead
	ops           []op
}

// runsAmong counts posts and patches.
func runsAmong(ops []op) int64 {
	var n int64
	for i := range ops {
		if ops[i].kind <= OpPatch {
			n++
		}
	}
	return n
}

// attachmentBytes is the size of all attachments of a request.
func attachmentBytes(ops []op) int64 {
	var n int64
	for i := range ops {
		n += int64(len(ops[i].data))
	}
	return n
}

// claim is a demand that was granted and whose traces are in the month's set.
// It ends in settle or undo, before store.mu is given back.
type claim struct {
	account *account
	month   *monthUse
	at      time.Time
	want    demand

	traces, upgraded []TraceID // new in the month
}

// claimLocked grants a request what it wants of its tenant's limits, all of it
// or nothing: then the error is an *limitError and has been counted.
func (st *store) claimLocked(in *Request, want demand) (claim, error) {
	key := accountKey(in.Workspace)
	a, limits := st.quota.account(key), st.quota.limits(key)
	c := claim{account: a, month: a.month(in.Time), at: in.Time, want: want}
	before := c.month.traces()
	if st.followsLocked(limits) {
		c.addTraces()
		c.addUpgrades(&st.runs, in.Workspace)
	}
	if limits.any() {
		if over := c.over(limits, before, in.quota.refuseUpdates); over != nil {
			c.undo()
			a.tell(over, in.quota.lost)
			return claim{}, over
		}
	}
	return c, nil
}

// tell counts a request that is refused, or answered as if it were not.
func (a *account) tell(over *limitError, lost bool) {
	if lost {
		a.lost[over.kind]++
		return
	}
	a.refused[over.kind]++
}

// followsLocked reports whether traces are told apart. Under KeepCounts they
// are only where a limit asks for it.
func (st *store) followsLocked(l Limits) bool {
	return st.keep != KeepCounts || l.MonthlyTraces > 0 || l.UserMonthlyTraces > 0 || l.UserLonglivedTraces > 0
}

// limited reports whether a tenant has any limit.
func (st *store) limited(tenant string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.quota.limits(accountKey(tenant)).any()
}

// addTraces puts the demand's traces into the month's set.
func (c *claim) addTraces() {
	var last TraceID // most spans follow one of the same trace; no trace has the zero id
	add := func(id TraceID) {
		if id == last {
			return
		}
		last = id
		if _, known := c.month.ids[id]; !known {
			c.month.ids[id] = struct{}{}
			c.traces = append(c.traces, id)
		}
	}
	for i := range c.want.heads {
		add(c.want.heads[i].billed)
	}
	for i := range c.want.ops {
		if o := &c.want.ops[i]; o.kind <= OpPatch {
			add(TraceID(o.trace))
		}
	}
}

// addUpgrades does the same for the traces that feedback upgrades to extended
// retention: all but what says extend_trace_retention false (LangSmith docs:
// usage and billing).
func (c *claim) addUpgrades(rs *runStore, tenant string) {
	for i := range c.want.ops {
		o := &c.want.ops[i]
		if o.kind != OpFeedback || string(o.object.Get("extend_trace_retention")) == "false" {
			continue
		}
		id := o.trace
		if r := rs.find(tenant, o.parent); id == (RunID{}) && r != nil {
			id = r.trace
		}
		if id == (RunID{}) {
			id = o.parent // a root, as far as is known
		}
		if _, known := c.month.upgraded[TraceID(id)]; !known && id != (RunID{}) {
			c.month.upgraded[TraceID(id)] = struct{}{}
			c.upgraded = append(c.upgraded, TraceID(id))
		}
	}
}

// over returns the first limit that the claim exceeds, or nil. A request
// without spans, posts and patches exceeds none but that of upgrades: whether
// the service refuses an empty one is not known.
func (c *claim) over(l Limits, before int64, refuseUpdates bool) *limitError {
	for _, m := range []limitError{{LimitMonthlyTraces, l.MonthlyTraces}, {LimitUserMonthlyTraces, l.UserMonthlyTraces}} {
		exceeds := len(c.traces) > 0 && c.month.traces() > m.limit
		if m.limit > 0 && (exceeds || refuseUpdates && c.want.events > 0 && before >= m.limit) {
			return &m
		}
	}
	hour, minute := hourOf(c.at), minuteOf(c.at)
	inHour, inMinute := peek(c.account.hours, hour), peek(c.account.minutes, minute)
	for _, w := range []struct {
		limitError

		window, used, more int64
	}{
		{limitError{LimitHourlyEvents, l.HourlyEvents}, hour, inHour.events, c.want.events},
		{limitError{LimitHourlyBytes, l.HourlyBytes}, hour, inHour.bytes, c.want.bytes},
		{limitError{LimitMinuteEvents, l.MinuteEvents}, minute, inMinute.events, c.want.events},
	} {
		if w.limit <= 0 || c.want.events == 0 {
			continue
		}
		if w.used+w.more > w.limit || c.account.rejects(w.kind, w.window, w.limit) {
			c.account.stuck[w.kind] = rejection{w.window, w.limit}
			return &w.limitError
		}
	}
	if most := l.UserLonglivedTraces; most > 0 && len(c.upgraded) > 0 && int64(len(c.month.upgraded)) > most {
		return &limitError{LimitUserLonglivedTraces, most}
	}
	return nil
}

// rejects reports whether a limit has struck in a window. From then on nothing
// more is taken in it, though there may be room for something smaller: a
// service with a set of tenants to reject works that way, and what it says in
// usage_limits then agrees with what it does. A raised limit starts over.
func (a *account) rejects(kind LimitKind, window, limit int64) bool {
	r, ok := a.stuck[kind]
	return ok && r.window == window && limit <= r.limit
}

// peek is window for those who only look.
func peek(all map[int64]*windowUse, start int64) windowUse {
	if w := all[start]; w != nil {
		return *w
	}
	return windowUse{}
}

// undo takes everything out again.
func (c *claim) undo() {
	for _, id := range c.traces {
		delete(c.month.ids, id)
	}
	for _, id := range c.upgraded {
		delete(c.month.upgraded, id)
	}
}

// settle counts the claim.
func (c *claim) settle() {
	c.account.count(c.at, windowUse{events: c.want.events, bytes: c.want.bytes, traces: int64(len(c.traces))})
}

// drop gives the traces back that only operations bring which had been taken
// before, as again says of each: they are not taken anew.
func (c *claim) drop(again []bool) {
	brought := map[TraceID]bool{}
	for i, known := range again {
		if o := &c.want.ops[i]; o.kind <= OpPatch && !known {
			brought[TraceID(o.trace)] = true
		}
	}
	c.traces = slices.DeleteFunc(c.traces, func(id TraceID) bool {
		if !brought[id] {
			delete(c.month.ids, id)
		}
		return !brought[id]
	})
}

// count adds to the windows of a time.
func (a *account) count(at time.Time, use windowUse) {
	if use == (windowUse{}) {
		return
	}
	window(a.hours, hourOf(at)).add(use)
	window(a.minutes, minuteOf(at)).add(use)
	for len(a.minutes) > maxMinutes {
		farthest := minuteOf(at) // from now, as the clock can be set back
		for start := range a.minutes {
			if abs(start-minuteOf(at)) > abs(farthest-minuteOf(at)) {
				farthest = start
			}
		}
		delete(a.minutes, farthest)
	}
	if use.traces > 0 {
		a.fresh[minuteOf(at)] += use.traces
	}
}

func abs(n int64) int64 { return max(n, -n) }

func (w *windowUse) add(o windowUse) {
	w.events += o.events
	w.bytes += o.bytes
	w.traces += o.traces
}

// rejecting returns the limit for which new traces would be refused at a time,
// or nil: the first one reached.
func (a *account) rejecting(at time.Time, l Limits) *limitError {
	month := monthUse{}
	if m := a.months[monthOf(at)]; m != nil {
		month = *m
	}
	hour, minute := hourOf(at), minuteOf(at)
	inHour, inMinute := peek(a.hours, hour), peek(a.minutes, minute)
	for _, x := range []struct {
		limitError

		window, used int64
	}{
		{limitError{LimitMonthlyTraces, l.MonthlyTraces}, 0, month.traces()},
		{limitError{LimitUserMonthlyTraces, l.UserMonthlyTraces}, 0, month.traces()},
		{limitError{LimitHourlyEvents, l.HourlyEvents}, hour, inHour.events},
		{limitError{LimitHourlyBytes, l.HourlyBytes}, hour, inHour.bytes},
		{limitError{LimitMinuteEvents, l.MinuteEvents}, minute, inMinute.events},
		{limitError{LimitUserLonglivedTraces, l.UserLonglivedTraces}, 0, int64(len(month.upgraded))},
	} {
		if x.limit > 0 && (x.used >= x.limit || a.rejects(x.kind, x.window, x.limit)) {
			return &x.limitError
		}
	}
	return nil
}
