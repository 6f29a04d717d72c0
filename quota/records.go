package quota

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// errRecord marks a record that this weir did not write.
var errRecord = errors.New("a record of the ledger cannot be read")

// encode is the record of figures: the month, the counts, and the name.
func (f *figures) encode() []byte {
	b := make([]byte, 0, 32+len(f.name))
	b = binary.AppendUvarint(b, uint64(f.Month))
	for _, n := range f.counts() {
		b = binary.AppendVarint(b, *n)
	}
	return append(b, f.name...)
}

func (t *Totals) counts() []*int64 {
	return []*int64{&t.Counted, &t.Next, &t.Reserved, &t.Releasing, &t.Held, &t.Dropped}
}

func (f *figures) decode(b []byte) error {
	month, n := binary.Uvarint(b)
	if n <= 0 || month > 1<<16-1 {
		return errRecord
	}
	f.Month = Month(month)
	b = b[n:]
	for _, to := range f.counts() {
		v, n := binary.Varint(b)
		if n <= 0 {
			return errRecord
		}
		*to = v
		b = b[n:]
	}
	f.name = string(b)
	return nil
}

func (d *dayFigures) encode() []byte {
	return binary.AppendVarint(binary.AppendVarint(nil, d.Counted), d.Wanted)
}

func (d *dayFigures) decode(b []byte) error {
	var n, m int
	d.Counted, n = binary.Varint(b)
	if n > 0 {
		d.Wanted, m = binary.Varint(b[n:])
	}
	if n <= 0 || m <= 0 {
		return errRecord
	}
	return nil
}

// read makes the accounts out of the store's records.
func (b *book) read() error {
	byNum := map[uint16]*account{}
	for name, v := range b.st.Records(accountRecords) {
		num, err := recordNumbers(name, 1)
		if err != nil {
			return err
		}
		a := newAccount(uint16(num[0]), "", 0)
		if err := a.decode(v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.accounts[a.name], byNum[a.num] = a, a
		b.next = max(b.next, a.num+1)
		b.month = max(b.month, a.Month)
	}
	for name, v := range b.st.Records(projectRecords) {
		num, err := recordNumbers(name, 2)
		if err != nil {
			return err
		}
		a := byNum[uint16(num[0])]
		if a == nil {
			continue // of an account that has been united with another
		}
		p := &projectFigures{figures: figures{record: name}, num: uint16(num[1])}
		if err := p.decode(v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		a.projects[p.num], a.byName[p.name] = p, p
	}
	return b.readDays(byNum)
}

func (b *book) readDays(byNum map[uint16]*account) error {
	for name, v := range b.st.Records(dayRecords) {
		num, err := recordNumbers(name, 2)
		if err != nil {
			return err
		}
		a := byNum[uint16(num[0])]
		if a == nil {
			continue
		}
		d := &dayFigures{DayTotals: DayTotals{Day: Day(num[1])}, record: name}
		if err := d.decode(v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		a.dayList = append(a.dayList, d)
	}
	for _, a := range byNum {
		slices.SortFunc(a.dayList, func(x, y *dayFigures) int { return cmp.Compare(x.Day, y.Day) })
	}
	return nil
}

// recordNumbers reads the n numbers in the name of a record.
func recordNumbers(name string, n int) ([]uint64, error) {
	fields := strings.Split(name, "/")
	if len(fields) != n+1 {
		return nil, fmt.Errorf("%q: %w", name, errRecord)
	}
	out := make([]uint64, n)
	for i, f := range fields[1:] {
		v, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, errRecord)
		}
		out[i] = v
	}
	return out, nil
}

// Accounts implements Ledger.
func (b *book) Accounts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.accounts))
	for name := range b.accounts {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Totals implements Ledger.
func (b *book) Totals(account string) Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.accounts[account]; a != nil {
		return a.Totals
	}
	return Totals{}
}

// Projects implements Ledger.
func (b *book) Projects(account string) []ProjectTotals {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[account]
	if a == nil {
		return nil
	}
	var out []ProjectTotals
	for _, p := range a.projects {
		if p.Used() != 0 || p.Held != 0 || p.Dropped != 0 {
			out = append(out, ProjectTotals{Project: p.name, Totals: p.Totals})
		}
	}
	slices.SortFunc(out, func(x, y ProjectTotals) int {
		return cmp.Or(cmp.Compare(y.Used(), x.Used()), cmp.Compare(y.Held, x.Held), cmp.Compare(x.Project, y.Project))
	})
	return out
}

// Days implements Ledger.
func (b *book) Days(account string) []DayTotals {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[account]
	if a == nil {
		return nil
	}
	out := make([]DayTotals, len(a.dayList))
	for i, d := range a.dayList {
		out[i] = d.DayTotals
	}
	return out
}

// Past implements Ledger.
func (b *book) Past(account string, month Month) (int64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[account]
	if a == nil {
		return 0, false
	}
	n, size := binary.Uvarint(b.st.Record(a.pastRecord(month)))
	return int64(n), size > 0
}

// settle makes durable what must be.
func (b *book) settle() error {
	b.mu.Lock()
	wanted, done := b.wanted, b.durable >= b.wanted
	b.mu.Unlock()
	if done {
		return nil
	}
	if err := b.st.Sync(); err != nil {
		return fmt.Errorf("sync the ledger: %w", err)
	}
	b.mu.Lock()
	b.durable = max(b.durable, wanted)
	b.mu.Unlock()
	return nil
}

// SetNote implements Ledger.
func (b *book) SetNote(name string, value []byte) error {
	if len(value) > maxNoteBytes {
		return fmt.Errorf("note %.40q of %d bytes: at most %d are kept", name, len(value), maxNoteBytes)
	}
	if err := b.note(name, value); err != nil {
		return err
	}
	return b.settle()
}

func (b *book) note(name string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(); err != nil {
		return err
	}
	b.batch.Records[noteRecords+name] = value
	b.wanted++
	return b.write()
}

const maxNoteBytes = 64 << 10

// Note implements Ledger.
func (b *book) Note(name string) []byte { return b.st.Record(noteRecords + name) }
