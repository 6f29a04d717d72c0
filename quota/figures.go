package quota

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"weir/quota/idmap"
)

// figures are totals with the record that keeps them.
type figures struct {
	Totals

	record string
	name   string
}

type projectFigures struct {
	figures

	num uint16
}

type dayFigures struct {
	DayTotals

	record string
}

// account is what a book knows of an account besides its entries.
type account struct {
	figures

	num      uint16
	projects map[uint16]*projectFigures
	byName   map[string]*projectFigures
	dayList  []*dayFigures // oldest first
}

const (
	// Records of the store. N is an account's number.
	accountRecords = "a/" // a/N
	projectRecords = "p/" // p/N/PROJECT
	dayRecords     = "d/" // d/N/DAY
	pastRecords    = "m/" // m/N/MONTH
	noteRecords    = "n/" // n/NAME

	maxProjects   = 1024  // of an account that are told apart
	otherProjects = 65535 // number of all others together
	maxDays       = 62
	maxPast       = 24 // months
	maxNameBytes  = 512
)

// otherProjectsName stands for the projects beyond maxProjects.
const otherProjectsName = "…"

func newAccount(num uint16, name string, month Month) *account {
	return &account{
		figures: figures{Totals: Totals{Month: month}, record: fmt.Sprintf("%s%d", accountRecords, num), name: name},
		num:     num, projects: map[uint16]*projectFigures{}, byName: map[string]*projectFigures{},
	}
}

// project finds a project by its number, beginning it if need be.
func (a *account) project(b *book, num uint16) *projectFigures {
	if p := a.projects[num]; p != nil {
		return p
	}
	name := ""
	if num == otherProjects {
		name = otherProjectsName
	}
	return a.addProject(b, num, name)
}

func (a *account) addProject(b *book, num uint16, name string) *projectFigures {
	p := &projectFigures{figures: figures{
		Totals: Totals{Month: a.Month}, record: fmt.Sprintf("%s%d/%d", projectRecords, a.num, num), name: name,
	}, num: num}
	a.projects[num] = p
	a.byName[name] = p
	b.touched[&p.figures] = struct{}{}
	return p
}

// projectNamed finds a project by its name, numbering it if it is new.
func (a *account) projectNamed(b *book, name string) *projectFigures {
	if len(name) > maxNameBytes {
		name = strings.ToValidUTF8(name[:maxNameBytes], "")
	}
	if p := a.byName[name]; p != nil {
		return p
	}
	if name == "" {
		return a.project(b, 0)
	}
	num := uint16(1)
	for ; a.projects[num] != nil; num++ {
	}
	if num >= maxProjects || name == otherProjectsName {
		return a.project(b, otherProjects)
	}
	return a.addProject(b, num, strings.Clone(name))
}

// leave takes an entry out of the figures.
func (a *account) leave(b *book, e *idmap.Entry) { a.count(b, e, -1) }

// enter adds an entry to the figures.
func (a *account) enter(b *book, e *idmap.Entry) { a.count(b, e, 1) }

func (a *account) count(b *book, e *idmap.Entry, n int64) {
	if State(e.State) == Unknown || State(e.State) == Follower {
		return
	}
	p := a.project(b, e.Project)
	for _, f := range []*figures{&a.figures, &p.figures} {
		b.touched[f] = struct{}{}
		switch State(e.State) {
		case Reserved:
			f.Reserved += n
		case Releasing:
			f.Releasing += n
		case Held:
			f.Held += n
		case Dropped:
			if Month(e.Month) >= a.Month {
				f.Dropped += n
			}
		case Counted:
			switch {
			case Month(e.Month) > a.Month:
				f.Next += n
			case Month(e.Month) == a.Month:
				f.Counted += n
			}
		case Unknown, Follower:
		}
	}
}

// keepCounted has a trace stay counted in this month that was just counted in
// the next one, too, where the month has not turned yet.
func (a *account) keepCounted(b *book, project uint16) {
	for _, f := range []*figures{&a.figures, &a.project(b, project).figures} {
		f.Counted++
		b.touched[f] = struct{}{}
	}
}

// turn begins a month, if it is later than the account's.
func (a *account) turn(b *book, month Month) {
	if month <= a.Month {
		return
	}
	b.batch.Records[a.pastRecord(a.Month)] = binary.AppendUvarint(nil, uint64(max(a.Counted, 0)))
	if a.Month >= maxPast {
		b.batch.Records[a.pastRecord(a.Month-maxPast)] = nil
	}
	b.month = max(b.month, month)
	b.turned(b.month)
	all := []*figures{&a.figures}
	for _, p := range a.projects {
		all = append(all, &p.figures)
	}
	for _, f := range all {
		// What was delivered in a later month is of this one: if this clock was
		// behind for more than a month, that is as well as can be known.
		f.Counted, f.Dropped = f.Next, 0
		f.Next, f.Month = 0, month
		b.touched[f] = struct{}{}
	}
}

// pristine reports whether nothing was ever counted. mu is held.
func (b *book) pristine() bool {
	for _, a := range b.accounts {
		if a.Counted != 0 || a.Next != 0 {
			return false
		}
	}
	return len(b.st.Records(pastRecords)) == 0
}

// turnBack corrects the first month, in which nothing was counted.
func (a *account) turnBack(b *book, month Month) {
	a.Month = month
	b.touched[&a.figures] = struct{}{}
	for _, p := range a.projects {
		p.Month = month
		b.touched[&p.figures] = struct{}{}
	}
}

func (a *account) pastRecord(m Month) string { return fmt.Sprintf("%s%d/%d", pastRecords, a.num, m) }

// day finds the figures of a day. One that is older than all that are kept
// counts as the first of them.
func (a *account) day(b *book, d Day) *dayFigures {
	if len(a.dayList) >= maxDays {
		d = max(d, a.dayList[0].Day)
	}
	f := a.dayAt(d)
	b.days[f] = struct{}{}
	a.trimDays(b)
	return f
}

// dayAt finds the figures of a day, which may be in the past: a clock that was
// ahead must not gather all days to come in one.
func (a *account) dayAt(d Day) *dayFigures {
	i, found := slices.BinarySearchFunc(a.dayList, d, func(f *dayFigures, d Day) int { return cmp.Compare(f.Day, d) })
	if found {
		return a.dayList[i]
	}
	f := &dayFigures{DayTotals: DayTotals{Day: d}, record: fmt.Sprintf("%s%d/%d", dayRecords, a.num, d)}
	a.dayList = slices.Insert(a.dayList, i, f)
	return f
}

// trimDays forgets the oldest days.
func (a *account) trimDays(b *book) {
	for len(a.dayList) > maxDays {
		first := a.dayList[0]
		b.batch.Records[first.record] = nil
		delete(b.days, first)
		a.dayList = slices.Delete(a.dayList, 0, 1)
	}
}
