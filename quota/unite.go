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
	if b.closed {
		return errClosed
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
	if p := src.projects[e.Project]; p != nil && p.num != otherProjects {
		name = p.name
	}
	e.Project = dst.projectNamed(b, name).num
	have := *b.entry(k.ID)
	if weight(have, dst.Month) >= weight(e, dst.Month) {
		e.State, e.Month, e.Project = have.State, have.Month, have.Project
	}
	e.Flags |= have.Flags
	b.set(dst, k.ID, e)
}

// weight orders what two accounts know of a trace: what binds more is kept.
func weight(e idmap.Entry, month Month) int {
	switch State(e.State) {
	case Counted:
		if Month(e.Month) >= month {
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
	for _, d := range src.dayList {
		to := dst.dayAt(b, d.Day)
		to.Counted += d.Counted
		to.Wanted += d.Wanted
		b.days[to] = struct{}{}
		b.batch.Records[d.record] = nil
	}
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
	a := b.accounts[account]
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return errClosed
	}
	if a == nil {
		return nil
	}
	err := b.st.Scan(a.num, func(k idmap.Key, e idmap.Entry) bool {
		return State(e.State) != s || fn(k.ID)
	})
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	return nil
}
