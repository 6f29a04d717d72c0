package queue

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CaseKind says why a case keeps data back. Numbers are on disk.
type CaseKind uint8

// The kinds of case.
const (
	// CaseQuarantine: the upstream refused the data.
	CaseQuarantine CaseKind = 1
	// CaseHold: the quota guard keeps the data back.
	CaseHold CaseKind = 2
	// CaseDamage: the data could not be read back from disk.
	CaseDamage CaseKind = 3
)

const (
	maxCases     = 1024
	maxCaseBytes = 64 << 10
	maxNotes     = 8192
	maxNoteBytes = 64 << 10
	maxKeyBytes  = 1024

	// Every segment begins with a checkpoint that holds all of these.
	maxAllCaseBytes = 8 << 20
	maxAllNoteBytes = 8 << 20
)

// Case is a place where data is kept back, with the caller's account of why.
type Case struct {
	Place    Place
	Lane     LaneID
	Kind     CaseKind
	OpenedAt time.Time
	Data     []byte // the caller's, at most 64 KiB

	Frames, Items, Bytes int64 // what it holds

	// OldestAt is when the oldest of it was accepted, or earlier: what has left
	// a segment may count until the segment has none of it. Zero: it is empty.
	OldestAt time.Time
}

// newPlaceLocked numbers a new case. mu is held.
func (q *Queue) newPlaceLocked() Place {
	p := q.st.nextPlace
	q.st.nextPlace++
	return p
}

// OpenCase opens a case durably and returns its place. c.Place, the times and
// the counts are ignored.
func (q *Queue) OpenCase(c Case) (Place, error) {
	if len(c.Data) > maxCaseBytes {
		return 0, fmt.Errorf("open case: %d bytes of data, at most %d are kept", len(c.Data), maxCaseBytes)
	}
	q.mu.Lock()
	n, bytes := len(q.st.cases), len(c.Data)
	for _, other := range q.st.cases {
		bytes += len(other.data)
	}
	if n >= maxCases || bytes > maxAllCaseBytes {
		q.mu.Unlock()
		return 0, fmt.Errorf("open case: %d cases are open, with %s of data: %w", n, sizeText(int64(bytes)), ErrKeptFull)
	}
	place := q.newPlaceLocked()
	q.mu.Unlock()
	e := event{kind: eventCase, to: place, lane: c.Lane, done: int64(c.Kind), atMS: q.cfg.now().UnixMilli(), data: c.Data}
	if err := q.commitChange(&change{events: []event{e}}, true); err != nil {
		return 0, fmt.Errorf("open case: %w", err)
	}
	return place, nil
}

// CloseCase forgets a case that holds nothing; it is a no-op otherwise.
func (q *Queue) CloseCase(p Place) error {
	for _, c := range q.Cases() {
		if c.Place == p && c.Frames == 0 {
			return q.commitChange(&change{events: []event{{kind: eventClosed, from: p}}}, false) // checked again when applied
		}
	}
	return nil
}

// Release makes everything in a case pending again and closes the case. It
// costs no more for a large case than for a small one.
func (q *Queue) Release(p Place) error {
	if p == Pending {
		return errors.New("release case 0: there is no such case")
	}
	if err := q.commitChange(&change{events: []event{{kind: eventReleased, from: p}}}, true); err != nil {
		return fmt.Errorf("release case %d: %w", p, err)
	}
	return nil
}

// Cases lists the open cases with what they hold, oldest first.
func (q *Queue) Cases() []Case {
	q.mu.Lock()
	out := q.casesLocked()
	q.mu.Unlock()
	sortCases(out)
	return out
}

func sortCases(all []Case) {
	slices.SortFunc(all, func(a, b Case) int { return cmp.Compare(a.Place, b.Place) })
}

// casesLocked lists the open cases in no order. mu is held.
func (q *Queue) casesLocked() []Case {
	sums := map[Place]*tally{}
	for _, s := range q.st.segments {
		for b, t := range s.live {
			if b.place == Pending {
				continue
			}
			sum := sums[b.place]
			if sum == nil {
				sum = &tally{}
				sums[b.place] = sum
			}
			sum.add(*t)
		}
	}
	out := make([]Case, 0, len(q.st.cases))
	for p, c := range q.st.cases {
		item := Case{Place: p, Lane: c.lane, Kind: c.kind, OpenedAt: time.UnixMilli(c.openedAtMS), Data: c.data}
		if t := sums[p]; t != nil {
			item.Frames, item.Items, item.Bytes = t.frames, t.items, t.bytes
			item.OldestAt = earlier(time.Time{}, t.oldestMS)
		}
		out = append(out, item)
	}
	return out
}

// SetNote makes a note durable; a nil value removes it. Notes are small facts
// of the caller's: at most 8,192, of at most 64 KiB each and 8 MiB together.
// Keys that begin with "blob/" are the queue's own, at most 4,096 beside these.
func (q *Queue) SetNote(key string, value []byte) error {
	if len(value) > maxNoteBytes || len(key) > maxKeyBytes {
		return fmt.Errorf("note %.40q of %d bytes: at most %d are kept", key, len(value), maxNoteBytes)
	}
	if strings.HasPrefix(key, blobNotes) {
		return fmt.Errorf("note %.40q: keys that begin with %q are the queue's own", key, blobNotes)
	}
	q.mu.Lock()
	old, have := q.st.notes[key]
	n, bytes := q.st.callerNotes, q.st.callerNoteBytes+int64(len(value))
	if have {
		bytes -= int64(len(old))
	} else {
		bytes += int64(len(key))
	}
	q.mu.Unlock()
	if !have && value == nil {
		return nil
	}
	if (!have && n >= maxNotes) || (value != nil && bytes > maxAllNoteBytes) {
		return ErrTooManyNotes
	}
	if value != nil {
		value = append([]byte{}, value...)
	}
	if err := q.commitChange(&change{events: []event{{kind: eventNote, text: key, data: value}}}, true); err != nil {
		return fmt.Errorf("write note %.40q: %w", key, err)
	}
	return nil
}

// Notes returns the notes whose keys begin with prefix, the queue's own
// included. The values must not be changed.
func (q *Queue) Notes(prefix string) map[string][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := map[string][]byte{}
	for k, v := range q.st.notes {
		if strings.HasPrefix(k, prefix) {
			out[k] = v
		}
	}
	return out
}

// commitChange hands a change to the committer and waits until it is durable.
func (q *Queue) commitChange(c *change, urgent bool) error {
	c.done = make(chan error, 1)
	if err := q.in.putChange(c, urgent); err != nil {
		return err
	}
	return <-c.done
}
