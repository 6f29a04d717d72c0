package quota

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"weir/quota/idmap"
)

// Flags of an entry. The numbers are written to disk.
const (
	flagAttempted = 1 << 0 // something of it may have arrived upstream
	flagFailed    = 1 << 1 // something of it shows an error
	flagCounted   = 1 << 2 // it was counted in the month of its entry, and is due again
)

// book is a Ledger over a store: the arithmetic of it. Every change of a figure
// is written together with the entries that it counts, so that the two never
// disagree.
type book struct {
	st store

	mu       sync.Mutex // guards what follows; held across reads and unsynced writes of the store
	accounts map[string]*account
	month    Month // the latest that any account has seen; new accounts begin in it
	next     uint16
	whole    bool
	closed   bool
	turned   func(Month) // called when a month begins; set before use
	unread   bool        // a write failed, and so did reading again what the store has

	// wanted counts the changes that must be durable, and durable those that
	// are: what changes nothing must still wait for one that is on its way.
	wanted, durable uint64

	// Of the change being put together; reused.
	batch   idmap.Batch
	keys    []idmap.Key
	entries []idmap.Entry
	touched map[*figures]struct{}
	days    map[*dayFigures]struct{}
	at      map[TraceID]int // where a trace stands in keys
}

var _ Ledger = (*book)(nil)

// errClosed is returned by every call after Close.
var errClosed = errors.New("the ledger is closed")

func newBook(st store, whole bool) (*book, error) {
	b := &book{
		st: st, whole: whole, accounts: map[string]*account{}, next: 1, turned: func(Month) {},
		touched: map[*figures]struct{}{}, days: map[*dayFigures]struct{}{}, at: map[TraceID]int{},
	}
	b.batch.Records = map[string][]byte{}
	if err := b.read(); err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return b, nil
}

// ready reports why nothing can be done. mu is held.
func (b *book) ready() error {
	switch {
	case b.closed:
		return errClosed
	case b.unread:
		return b.reread()
	default:
		return nil
	}
}

// reread forgets the figures for those that the store has. mu is held.
func (b *book) reread() error {
	b.accounts, b.unread = map[string]*account{}, true
	if err := b.read(); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	b.unread = false
	return nil
}

// account finds an account, or begins one. mu is held.
func (b *book) account(name string, month Month) (*account, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	if a := b.accounts[name]; a != nil {
		return a, nil
	}
	if len(b.accounts) >= maxAccounts {
		return nil, fmt.Errorf("account %.40q: there are %d accounts, the most there may be", name, len(b.accounts))
	}
	if b.month == 0 {
		b.month = month
	}
	a := newAccount(b.next, name, b.month)
	b.next++
	b.accounts[name] = a
	b.touched[&a.figures] = struct{}{}
	return a, nil
}

// maxAccounts bounds what a stream of made-up keys can cost.
const maxAccounts = 4096

// load reads the entries of traces into keys and entries. mu is held.
func (b *book) load(a *account, n int, id func(int) TraceID) error {
	b.keys, b.entries = b.keys[:0], b.entries[:0]
	clear(b.at)
	for i := range n {
		t := id(i)
		if _, have := b.at[t]; have {
			continue
		}
		b.at[t] = len(b.keys)
		b.keys = append(b.keys, idmap.Key{Account: a.num, ID: t})
	}
	for len(b.entries) < len(b.keys) {
		b.entries = append(b.entries, idmap.Entry{})
	}
	if err := b.st.Get(b.keys, b.entries); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	return nil
}

// entry is the loaded entry of a trace.
func (b *book) entry(id TraceID) *idmap.Entry { return &b.entries[b.at[id]] }

// set changes a loaded entry and the figures of its account and project.
func (b *book) set(a *account, id TraceID, to idmap.Entry) {
	e := b.entry(id)
	if *e == to {
		return
	}
	a.leave(b, e)
	*e = to
	a.enter(b, e)
	b.batch.Keys = append(b.batch.Keys, idmap.Key{Account: a.num, ID: id})
	b.batch.Entries = append(b.batch.Entries, to)
}

// write applies the change. If that fails, the figures are read again from what
// the store has. mu is held.
func (b *book) write() error {
	if len(b.touched) == 0 && len(b.batch.Keys) == 0 && len(b.batch.Records) == 0 {
		return nil
	}
	for f := range b.touched {
		b.batch.Records[f.record] = f.encode()
	}
	for d := range b.days {
		b.batch.Records[d.record] = d.encode()
	}
	err := b.st.Apply(&b.batch)
	b.batch.Keys, b.batch.Entries = b.batch.Keys[:0], b.batch.Entries[:0]
	clear(b.batch.Records)
	clear(b.touched)
	clear(b.days)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("write the ledger: %w", err), b.reread())
}

// Claim implements Ledger.
func (b *book) Claim(c *Claim) ([]Verdict, error) {
	out := make([]Verdict, len(c.Traces))
	for from := 0; from < len(c.Traces); from += maxChange {
		part := *c
		part.Traces = c.Traces[from:min(from+maxChange, len(c.Traces))]
		if err := b.claim(&part, out[from:]); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(out, func(v Verdict) bool { return v.State == Dropped }) {
		if err := b.settle(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *book) claim(c *Claim, out []Verdict) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.account(c.Account, c.Month)
	if err != nil {
		return err
	}
	if err := b.load(a, len(c.Traces), func(i int) TraceID { return c.Traces[i].ID }); err != nil {
		return err
	}
	a.turn(b, c.Month)
	for i := range c.Traces {
		out[i] = b.decide(a, c, &c.Traces[i])
		if out[i].Fresh && out[i].State == Dropped {
			b.wanted++
		}
	}
	return b.write()
}

// maxChange bounds the traces of one write.
const maxChange = idmap.MaxBatch / 4

// decide is the verdict about one trace.
func (b *book) decide(a *account, c *Claim, t *Trace) Verdict {
	e := *b.entry(t.ID)
	s := State(e.State)
	if t.Failed && s != Unknown {
		e.Flags |= flagFailed
	}
	known := true
	switch s {
	case Unknown:
		known = false
	case Follower:
		known = c.Revoke // begun elsewhere, and nothing of its beginning came here since
	case Counted:
		known = Month(e.Month) >= a.Month
	case Reserved, Releasing:
		if c.Revoke && c.Limits.Traces >= 0 && a.Used() > c.Limits.Traces && e.Flags&flagAttempted == 0 && !c.isUnderWay(t.ID) {
			e.State = uint8(Held)
			b.set(a, t.ID, e)
			return Verdict{State: Held, Fresh: true}
		}
	case Held, Dropped:
	}
	if known {
		if State(e.State) != Counted { // what was counted needs no flags
			b.set(a, t.ID, e)
		}
		return Verdict{State: s}
	}
	return b.begin(a, c, t, e)
}

// isUnderWay reports whether something of a trace is being sent.
func (c *Claim) isUnderWay(id TraceID) bool { return c.UnderWay != nil && c.UnderWay(id) }

// begin decides about a trace that is new this month. e is its entry so far.
func (b *book) begin(a *account, c *Claim, t *Trace, e idmap.Entry) Verdict {
	was := State(e.State)
	if t.Follows && was != Counted {
		if was == Unknown {
			b.set(a, t.ID, idmap.Entry{State: uint8(Follower), Month: uint16(a.Month)})
		}
		return Verdict{State: Follower, Fresh: was == Unknown}
	}
	p := a.project(b, e.Project)
	if was != Counted {
		p = a.projectNamed(b, t.Project)
		e = idmap.Entry{Project: p.num, Month: uint16(a.Month)}
		a.day(b, DayOf(c.At)).Wanted++
	}
	if was == Counted {
		e.Flags |= flagCounted
	}
	if t.Failed {
		e.Flags |= flagFailed
	}
	to := Reserved
	if t.Refuse || !c.Limits.room(a, p) {
		to = c.Over
		if to == Dropped && was == Counted {
			to = Held // what was begun is not cut off
		}
	}
	e.State = uint8(to)
	b.set(a, t.ID, e)
	return Verdict{State: to, Fresh: true}
}

// room reports whether one more trace fits.
func (l *Limits) room(a *account, p *projectFigures) bool {
	if l.Traces >= 0 && a.Used() >= l.Traces {
		return false
	}
	if l.Project == nil {
		return true
	}
	most := l.Project(p.name)
	return most < 0 || p.Used() < most
}

// Count implements Ledger.
func (b *book) Count(name string, month Month, at time.Time, ids []TraceID) error {
	err := b.begun(name, month, ids, func(a *account, id TraceID, e idmap.Entry) {
		month := min(max(month, a.Month), a.Month+1)
		if State(e.State) == Counted && Month(e.Month) >= month || State(e.State) == Follower {
			return
		}
		b.wanted++
		if State(e.State) == Unknown {
			a.day(b, DayOf(at)).Wanted++
		}
		a.day(b, DayOf(at)).Counted++
		b.set(a, id, idmap.Entry{State: uint8(Counted), Project: e.Project, Month: uint16(month)})
		if State(e.State) == Counted && Month(e.Month) == a.Month {
			a.keepCounted(b, e.Project)
		}
	})
	if err != nil {
		return err
	}
	return b.settle()
}

// begun changes traces of an account, which begins to exist with them.
func (b *book) begun(name string, month Month, ids []TraceID, fn func(*account, TraceID, idmap.Entry)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.account(name, month)
	if err != nil {
		return err
	}
	return b.change(a, ids, fn)
}

// known changes traces of an account, if there is one of that name.
func (b *book) known(name string, ids []TraceID, fn func(*account, TraceID, idmap.Entry)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(); err != nil {
		return err
	}
	a := b.accounts[name]
	if a == nil {
		return nil
	}
	return b.change(a, ids, fn)
}

// change loads traces, has fn change each, and writes. mu is held.
func (b *book) change(a *account, ids []TraceID, fn func(*account, TraceID, idmap.Entry)) error {
	for len(ids) > 0 {
		part := ids[:min(maxChange, len(ids))]
		ids = ids[len(part):]
		if err := b.load(a, len(part), func(i int) TraceID { return part[i] }); err != nil {
			return err
		}
		for _, id := range part {
			fn(a, id, *b.entry(id))
		}
		if err := b.write(); err != nil {
			return err
		}
	}
	return nil
}

// Attempted implements Ledger.
func (b *book) Attempted(name string, ids []TraceID) error {
	err := b.known(name, ids, func(a *account, id TraceID, e idmap.Entry) {
		switch {
		case State(e.State).takesShare() && e.Flags&flagAttempted == 0:
			e.Flags |= flagAttempted
		case State(e.State) == Counted && Month(e.Month) < a.Month:
			e.State, e.Flags = uint8(Reserved), e.Flags|flagAttempted|flagCounted
		default:
			return
		}
		b.set(a, id, e)
		b.wanted++
	})
	if err != nil {
		return err
	}
	return b.settle()
}

// Refund implements Ledger.
func (b *book) Refund(name string, ids []TraceID) error {
	return b.known(name, ids, func(a *account, id TraceID, e idmap.Entry) {
		switch {
		case State(e.State) != Reserved || e.Flags&flagAttempted != 0:
		case e.Flags&flagCounted != 0:
			b.set(a, id, idmap.Entry{State: uint8(Counted), Project: e.Project, Month: e.Month})
		default:
			b.set(a, id, idmap.Entry{})
		}
	})
}

// Restore implements Ledger.
func (b *book) Restore(name string, month Month, ids []TraceID, s State) error {
	return b.begun(name, month, ids, func(a *account, id TraceID, e idmap.Entry) {
		if State(e.State) == Unknown {
			b.set(a, id, idmap.Entry{State: uint8(s), Month: uint16(a.Month)})
		}
	})
}

// Move implements Ledger.
func (b *book) Move(s *Selection) ([]bool, error) {
	moved := make([]bool, len(s.IDs))
	n := int64(0)
	at := 0
	err := b.known(s.Account, s.IDs, func(a *account, id TraceID, e idmap.Entry) {
		i := at
		at++
		if i == 0 {
			a.turn(b, s.Month)
		}
		switch {
		case State(e.State) != s.From || s.Most >= 0 && n >= s.Most,
			s.OnlyFailed && e.Flags&flagFailed == 0,
			s.Project != nil && a.project(b, e.Project).name != *s.Project,
			s.To.takesShare() && !s.From.takesShare() && !s.Limits.room(a, a.project(b, e.Project)):
			return
		}
		e.State = uint8(s.To)
		if s.To == Dropped {
			e.Month = uint16(a.Month)
			e.Flags &^= flagCounted
			b.wanted++
		}
		b.set(a, id, e)
		moved[i] = true
		n++
	})
	if err == nil && s.To == Dropped {
		err = b.settle()
	}
	if err != nil {
		return nil, err
	}
	return moved, nil
}

// States implements Ledger.
func (b *book) States(account string, ids []TraceID) ([]State, error) {
	out := make([]State, len(ids))
	if err := b.look(account, ids, func(i int) { out[i] = State(b.entry(ids[i]).State) }); err != nil {
		return nil, err
	}
	return out, nil
}

// look calls fn for each of an account's traces once its entry is loaded; for
// none if the account is not known. mu is held meanwhile.
func (b *book) look(account string, ids []TraceID, fn func(i int)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(); err != nil {
		return err
	}
	a := b.accounts[account]
	if a == nil {
		return nil
	}
	if err := b.load(a, len(ids), func(i int) TraceID { return ids[i] }); err != nil {
		return err
	}
	for i := range ids {
		fn(i)
	}
	return nil
}

// Turn implements Ledger.
func (b *book) Turn(month Month) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(); err != nil {
		return err
	}
	if month < b.month && !b.pristine() {
		return nil
	}
	for _, a := range b.accounts {
		if month < a.Month {
			a.turnBack(b, month)
		}
		a.turn(b, month)
	}
	b.month = month
	return b.write()
}

// Whole implements Ledger.
func (b *book) Whole() bool { return b.whole }

// Close implements Ledger.
func (b *book) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.st.Close()
}
