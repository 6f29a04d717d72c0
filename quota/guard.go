package quota

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"
)

// Guard decides what becomes of traces, by the rules of the user and by what
// the upstream says. Its methods may be called from any number of goroutines.
type Guard struct {
	ledger Ledger

	// claims is held across a claim where the room of one account depends on
	// what another uses; taken before mu.
	claims sync.Mutex

	// sends is held while traces that are about to be sent are claimed, and while
	// a reservation is taken back; taken before claims.
	sends sync.Mutex
	under passages

	mu     sync.Mutex // guards what follows; held across a sync of the ledger only for notes
	cfg    Config
	clock  clock
	scopes map[string]*scope
	kept   time.Time // when Advance last looked for notes to keep
	// shared is set while an account's tenant is not known: accounts of one
	// upstream may then turn out to be the same.
	shared bool
}

// Open returns a guard before a ledger, which it then owns.
func Open(ledger Ledger, cfg Config) (*Guard, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	g := &Guard{ledger: ledger, cfg: cfg, scopes: map[string]*scope{}}
	if b := ledger.Note(monthNote); len(b) == 2 {
		g.clock.month = Month(binary.BigEndian.Uint16(b))
	} else {
		// A new ledger: the first month needs nobody's consent, and the first
		// Date corrects it.
		g.clock.first = true
		if err := g.turn(MonthOf(cfg.Now())); err != nil {
			return nil, err
		}
	}
	if !ledger.Whole() {
		if err := ledger.SetNote(restoreNote, []byte{1}); err != nil {
			return nil, err
		}
	}
	for _, account := range ledger.Accounts() {
		g.scope(account)
	}
	g.findShared()
	return g, nil
}

// SetRules replaces limits and policy. Where there is more room than before,
// what is held is released.
func (g *Guard) SetRules(r Rules) error {
	if err := r.setDefaults(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.cfg.Rules
	g.cfg.Rules = r
	if before.Policy == r.Policy && !raised(before.Traces, r.Traces) && maps.Equal(before.Projects, r.Projects) {
		return nil
	}
	var errs []error
	for account, s := range g.scopes {
		s.Day = paceDay{} // spread anew
		errs = append(errs, g.order(account, s, Order{Most: -1, Reason: ReasonLimit}))
	}
	return errors.Join(errs...)
}

// raised reports whether a limit is higher than before; 0 is none.
func raised(before, after int64) bool { return before != 0 && (after == 0 || after > before) }

// Account names whom LangSmith meters.
type Account struct {
	// Name is the account's, unique among all upstreams.
	Name string
	// Upstream is what it is an account of.
	Upstream string
	// Provisional: its tenant is not known, so that it may turn out to be that
	// of another account of the same upstream. They share one limit until then.
	Provisional bool
}

// Use makes an account known. It must come before the first claim.
func (g *Guard) Use(a Account) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scope(a.Name)
	if s.Upstream != a.Upstream || s.Provisional != a.Provisional {
		s.Upstream, s.Provisional = a.Upstream, a.Provisional
		_ = g.save(a.Name, s) // what it has used limits others, also after a crash
	}
	g.findShared()
}

// findShared notes whether accounts share a limit. g.mu is held.
func (g *Guard) findShared() {
	g.shared = false
	for _, s := range g.scopes {
		g.shared = g.shared || s.Provisional
	}
}

// Unite makes a provisional account part of another.
func (g *Guard) Unite(from string, into Account) error {
	if from == into.Name {
		return nil
	}
	g.claims.Lock()
	defer g.claims.Unlock()
	g.under.rename(from, into.Name)
	if err := g.ledger.Unite(from, into.Name); err != nil {
		return err
	}
	g.mu.Lock()
	_, known := g.scopes[into.Name]
	g.mu.Unlock()
	g.Use(into)
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.scopes[from]
	delete(g.scopes, from)
	s := g.scope(into.Name)
	if old != nil {
		now := g.upstreamTime()
		s.Window.at(now)
		old.Window.at(now) // of hours before nothing counts
		s.adopt(old)
	}
	g.findShared()
	errs := []error{g.save(into.Name, s), g.ledger.SetNote(scopeNotes+from, nil)}
	if len(g.scopes) > 1 || known {
		// They may have kept back for each other what one of them had room for.
		errs = append(errs, g.order(into.Name, s, Order{Most: -1, Reason: ReasonLimit}))
	}
	return errors.Join(errs...)
}

// Admission is the decision about an export.
type Admission struct {
	// Verdicts are in the order of the traces asked about.
	Verdicts []Verdict
	// Warning is a sentence for the application's own log, or empty.
	Warning string

	fresh []TraceID
}

// Passes reports whether a trace in the state may be sent.
func (s State) Passes() bool { return s == Reserved || s == Counted || s == Follower || s == Unknown }

// Admit decides about the traces of an export that arrives. They must be
// distinct.
func (g *Guard) Admit(account string, traces []Trace) (*Admission, error) {
	c, err := g.claim(account, false)
	if err != nil {
		return nil, err
	}
	c.Traces = traces
	if c.sampled {
		c.Traces = slices.Clone(traces)
		for i := range c.Traces {
			c.Traces[i].Refuse = c.Traces[i].Refuse || !sampled(c.Traces[i].ID, c.rate)
		}
	}
	verdicts, err := g.decide(c)
	if err != nil {
		return nil, err
	}
	a := &Admission{Verdicts: verdicts}
	over := 0
	for i, t := range traces {
		v := verdicts[i]
		if !v.Fresh {
			continue
		}
		switch v.State {
		case Reserved:
			a.fresh = append(a.fresh, t.ID)
		case Held, Dropped:
			over++
		default:
		}
	}
	a.Warning = g.warning(account, len(a.fresh) > 0 || over > 0, over > 0)
	return a, nil
}

// ErrMonthUnconfirmed says that weir's clock has reached a new month and the
// upstream's is not known yet: nothing can be sent before it is (see Observe).
var ErrMonthUnconfirmed = errors.New("a new month has begun by this machine's clock, and the upstream has not confirmed it yet")

// claimOrder is a claim with what is not the ledger's business.
type claimOrder struct {
	Claim

	sampled   bool
	rate      float64
	shared    bool
	confirmed bool // the month is known
}

// claim prepares a claim: of an arrival, or of what is about to be sent.
func (g *Guard) claim(account string, sending bool) (*claimOrder, error) {
	if err := g.Advance(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	_, confirmed := g.clock.due(now)
	if sending && !confirmed {
		return nil, ErrMonthUnconfirmed
	}
	s := g.scope(account)
	c := &claimOrder{Claim: Claim{
		Account: account, Month: g.clock.month, At: now, Over: Held, Revoke: sending,
		Limits: Limits{Traces: -1},
	}, shared: g.shared, confirmed: confirmed}
	if len(g.cfg.Projects) > 0 && g.cfg.Policy != PolicyForward {
		rules := g.cfg.Rules
		c.Limits.Project = rules.project
	}
	if !sending {
		c.Over = g.cfg.Policy.over()
	}
	if g.cfg.Policy == PolicyForward {
		return c, nil
	}
	c.Limits.Traces = g.room(account, s, sending, confirmed)
	if limit := g.limit(s); g.cfg.Policy == PolicySample && !sending && limit >= 0 {
		used := g.ledger.Totals(account).Used() + s.Others
		c.sampled, c.rate = float64(used) >= g.cfg.SampleFrom*float64(limit), g.cfg.SampleRate
	}
	return c, nil
}

// decide makes a claim. Where accounts share a limit, one claim at a time.
func (g *Guard) decide(c *claimOrder) ([]Verdict, error) {
	if c.shared {
		g.claims.Lock()
		defer g.claims.Unlock()
		g.relimit(c)
	}
	return g.ledger.Claim(&c.Claim)
}

// relimit finds out the room for a claim anew. g.claims is held, so that it
// stays what it is.
func (g *Guard) relimit(c *claimOrder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.Limits.Traces >= 0 {
		_, c.confirmed = g.clock.due(g.cfg.Now())
		c.Limits.Traces = g.room(c.Account, g.scope(c.Account), c.Revoke, c.confirmed)
	}
}

// limit is the account's monthly limit, negative if it has none. g.mu is held.
func (g *Guard) limit(s *scope) int64 {
	limit := g.cfg.Traces
	if s.Override != nil {
		limit = *s.Override
	}
	if limit == 0 {
		limit = -1
	}
	if s.Smith != nil && (limit < 0 || *s.Smith < limit) {
		limit = *s.Smith
	}
	return limit
}

// room is how many traces of its own an account may have counted and reserved.
// Negative is no limit. g.mu is held.
func (g *Guard) room(account string, s *scope, sending, confirmed bool) int64 {
	own := g.ledger.Totals(account)
	limit := g.limit(s)
	if !confirmed && limit >= 0 {
		// The new month's limit, on top of what the old one has counted: nothing
		// is sent before it is clear which month it is.
		return limit + own.Counted + own.Next
	}
	if limit >= 0 {
		limit -= s.Others
		if g.shared {
			limit -= g.sharedUse(account, s)
		}
		if g.cfg.Policy == PolicyPace && !sending {
			limit = min(limit, g.pace(account, s, limit))
		}
		limit = max(limit, 0)
	}
	if s.Refused == nil || !s.Refused.Kind.Monthly() || !confirmed {
		return limit
	}
	most := own.Counted + own.Next + s.Refused.Trial
	if limit >= 0 {
		most = min(most, limit) // a trial is within the user's limit, too
	}
	return most
}

// sharedUse is what other accounts use that may turn out to be this one: all
// that are provisional, and of the others the one that uses most, if this one
// is provisional itself. g.mu is held.
func (g *Guard) sharedUse(account string, s *scope) int64 {
	var provisional, most int64
	for name, other := range g.scopes {
		if name == account || other.Upstream != s.Upstream {
			continue
		}
		used := g.ledger.Totals(name).Used()
		switch {
		case other.Provisional:
			provisional += used
		case s.Provisional:
			most = max(most, used+other.Others)
		}
	}
	return provisional + most
}

// pace is what may be used up to the end of today: what was left when the day
// began, spread over the days left. g.mu is held.
func (g *Guard) pace(account string, s *scope, limit int64) int64 {
	now := g.upstreamTime()
	today := DayOf(now)
	if s.Day.Day != today && (today > s.Day.Day || s.Day.Day > today+1) {
		left := int64(DayOf(g.clock.month.End())) - int64(today)
		used := g.ledger.Totals(account).Used()
		s.Day = paceDay{Day: today, Most: used + ceilDiv(max(limit-used, 0), max(left, 1)), Ordered: s.Day.Ordered}
		_ = g.save(account, s) // or a crash would give the day its share again
	}
	return s.Day.Most
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// sampled reports whether a trace is in the sample: by its id alone, so that
// every weir takes the same ones.
func sampled(id TraceID, rate float64) bool {
	h := fnv.New64a()
	_, _ = h.Write(id[:]) // never fails
	sum := h.Sum64()
	sum ^= sum >> 33 // FNV leaves the high bits weak
	sum *= 0xff51afd7ed558ccd
	sum ^= sum >> 33
	return float64(sum>>11)/(1<<53) < rate
}

// Delivered notes that the upstream has taken something of the traces. Durable:
// it comes before the data is forgotten.
func (g *Guard) Delivered(account string, ids []TraceID) error {
	if len(ids) == 0 {
		return nil
	}
	if err := g.agree(); err != nil {
		return err
	}
	g.mu.Lock()
	now := g.cfg.Now()
	month := g.clock.arrival()
	refused := g.scope(account).Refused != nil
	counted := g.ledger.Totals(account).Counted
	g.mu.Unlock()
	if err := g.ledger.Count(account, month, now, ids); err != nil {
		return err
	}
	if refused && g.ledger.Totals(account).Counted > counted {
		g.tookNew(account)
	}
	g.mu.Lock()
	g.tell(account, false) // the next reply has it
	g.mu.Unlock()
	return nil
}

// Attempted notes that something of the traces may have arrived although no
// answer came. Durable.
func (g *Guard) Attempted(account string, ids []TraceID) error {
	g.mu.Lock()
	now, month := g.cfg.Now(), g.clock.month
	turning := g.clock.arrival() > month || MonthOf(g.upstreamTime().Add(freshFor)) > month
	g.mu.Unlock()
	if turning {
		// It may have arrived in the next month already. Reservations are of both;
		// what is counted in this one must count in the next.
		states, err := g.ledger.States(account, ids)
		if err != nil {
			return err
		}
		var counted []TraceID
		for i, s := range states {
			if s == Counted {
				counted = append(counted, ids[i])
			}
		}
		if len(counted) > 0 {
			if err := g.ledger.Count(account, month+1, now, counted); err != nil {
				return err
			}
		}
	}
	return g.ledger.Attempted(account, ids)
}

// States tells the states of traces.
func (g *Guard) States(account string, ids []TraceID) ([]State, error) {
	return g.ledger.States(account, ids)
}

// Restore notes that data of the traces was found in a state, after a start
// with a ledger that is not whole.
func (g *Guard) Restore(account string, ids []TraceID, held bool) error {
	s := Reserved
	if held {
		s = Held
	}
	g.mu.Lock()
	month := g.clock.month
	g.mu.Unlock()
	return g.ledger.Restore(account, month, ids, s)
}

// Policy is the policy in force.
func (g *Guard) Policy() Policy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cfg.Policy
}

// restoreNote stands while a ledger that is not whole has not been restored: a
// process can die before it has done that.
const restoreNote = "restore"

// Whole reports whether the ledger is known to have all that was written to it.
// If not, everything on disk must be told to Restore, and then Restored called.
func (g *Guard) Whole() bool { return g.ledger.Note(restoreNote) == nil }

// Restored says that all data on disk was told to Restore.
func (g *Guard) Restored() error { return g.ledger.SetNote(restoreNote, nil) }

// Close keeps what is known and closes the ledger.
func (g *Guard) Close() error {
	g.mu.Lock()
	errs := []error{g.saveAll()}
	g.mu.Unlock()
	return errors.Join(append(errs, g.ledger.Close())...)
}

// saveAll writes the scopes that have changed. g.mu is held.
func (g *Guard) saveAll() error {
	var errs []error
	for _, account := range slices.Sorted(maps.Keys(g.scopes)) {
		if s := g.scopes[account]; s.dirty {
			errs = append(errs, g.save(account, s))
		}
	}
	return errors.Join(errs...)
}
