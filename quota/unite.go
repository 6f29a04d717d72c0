package quota

import (
	"encoding/binary"
	"fmt"

	"weir/quota/idmap"
)

// uniteChunk is how many traces are moved in one write.
const uniteChunk = 4096

// Unite implements Ledger. If it is cut short, what is left of from is still
// there, and Unite can be called again.
func (b *book) Unite(from, into string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(); err != nil {
		return err
	}
	src := b.accounts[from]
	if src == nil || from == into {
		return nil
	}
	dst, err := b.account(into, src.Month)
	if err != nil {
		return err
	}
	month := max(src.Month, dst.Month)
	src.turn(b, month)
	dst.turn(b, month)
	for {
		keys, entries, err := b.some(src)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return b.dissolve(src, dst)
		}
		if err := b.load(dst, len(keys), func(i int) TraceID { return keys[i].ID }); err != nil {
			return err
		}
		for i, k := range keys {
			b.uniteOne(src, dst, k, entries[i])
		}
		if err := b.write(); err != nil {
			return fmt.Errorf("unite accounts: %w", err)
		}
	}
}

// some reads a chunk of an account's entries.
func (b *book) some(a *account) (keys []idmap.Key, entries []idmap.Entry, err error) {
	err = b.st.Scan(a.num, func(k idmap.Key, e idmap.Entry) bool {
		keys, entries = append(keys, k), append(entries, e)
		return len(keys) < uniteChunk
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the ledger: %w", err)
	}
	return keys, entries, nil
}

func (b *book) uniteOne(src, dst *account, k idmap.Key, e idmap.Entry) {
	src.leave(b, &e)
	b.batch.Keys = append(b.batch.Keys, k)
	b.batch.Entries = append(b.batch.Entries, idmap.Entry{})
	name := ""
	if p := src.projects[e.Project]; p != nil {
		name = p.name
	}
	e.Project = dst.projectNamed(b, name).num
	have := *b.entry(k.ID)
	if weight(have, dst.Month) >= weight(e, dst.Month) {
		e, have = have, e
	}
	// have is now what gives way to e.
	e.Flags |= have.Flags &^ flagCounted
	if State(have.State) == Counted && (State(e.State).takesShare() || State(e.State) == Held) {
		e.Flags |= flagCounted
		e.Month = have.Month
	}
	b.set(dst, k.ID, e)
	if State(e.State) == Counted && State(have.State) == Counted && Month(e.Month) > dst.Month && Month(have.Month) == dst.Month {
		dst.keepCounted(b, e.Project) // one knew it of this month, the other of the next
	}
}

// weight orders what two accounts know of a trace: what binds more is kept.
func weight(e idmap.Entry, month Month) int {
	switch State(e.State) {
	case Counted:
		switch {
		case Month(e.Month) > month:
			return 8
		case Month(e.Month) == month:
			return 7
		}
		return 2
	case Releasing:
		return 6
	case Reserved:
		return 5
	case Held:
		return 4
	case Dropped:
		return 3
	case Follower:
		return 1
	default:
		return 0
	}
}

// dissolve ends an account that has no entries left.
func (b *book) dissolve(src, dst *account) error {
	for _, p := range src.projects {
		// What has no entries is of traces that were counted in the next month, too.
		for range p.Counted {
			dst.keepCounted(b, dst.projectNamed(b, p.name).num)
		}
	}
	for _, d := range src.dayList {
		to := dst.dayAt(d.Day)
		to.Counted += d.Counted
		to.Wanted += d.Wanted
		b.days[to] = struct{}{}
		b.batch.Records[d.record] = nil
	}
	dst.trimDays(b)
	for m := src.Month; m > 0 && m+maxPast >= src.Month; m-- {
		name := src.pastRecord(m)
		v := b.st.Record(name)
		if v == nil {
			continue
		}
		n, _ := binary.Uvarint(v)
		have, _ := binary.Uvarint(b.st.Record(dst.pastRecord(m)))
		b.batch.Records[dst.pastRecord(m)] = binary.AppendUvarint(nil, n+have)
		b.batch.Records[name] = nil
	}
	for _, p := range src.projects {
		delete(b.touched, &p.figures)
		b.batch.Records[p.record] = nil
	}
	delete(b.touched, &src.figures)
	b.batch.Records[src.record] = nil
	delete(b.accounts, src.name)
	if err := b.write(); err != nil {
		return fmt.Errorf("unite accounts: %w", err)
	}
	return nil
}

// Each implements Ledger.
func (b *book) Each(account string, s State, fn func(TraceID) bool) error {
	b.mu.Lock()
	err := b.ready()
	a := b.accounts[account]
	b.mu.Unlock()
	if err != nil || a == nil {
		return err
	}
	err = b.st.Scan(a.num, func(k idmap.Key, e idmap.Entry) bool {
		return State(e.State) != s || fn(k.ID)
	})
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	return nil
}
