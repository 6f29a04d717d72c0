package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is the reference: where each message is, and nothing else.
type model struct {
	t   *rapid.T
	dir string
	n   int // directories used
	q   *Queue

	next      uint64
	lane      map[uint64]string // live messages
	place     map[uint64]Place  // of live messages
	sizes     map[uint64]int
	delivered int64
	dropped   int64
	quota     int64            // items dropped by their export
	discarded int64            // items dropped with their case, or while pending
	cases     map[Place]string // data
	holds     map[Place]bool   // cases that are holds
	opened    Place            // the last case
	notes     map[string][]byte
	leases    []*modelLease
	blobs     map[uint64][]Blob // of live messages
	loose     []Blob            // of no message
}

type modelLease struct {
	l   *Lease
	ids [][]uint64 // by frame
}

func TestQueueBehavesLikeTheModel(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &model{
			t: rt, dir: filepath.Join(root, fmt.Sprint(runs)), lane: map[uint64]string{}, place: map[uint64]Place{},
			sizes: map[uint64]int{}, cases: map[Place]string{}, notes: map[string][]byte{},
			blobs: map[uint64][]Blob{}, holds: map[Place]bool{},
		}
		m.open()
		defer func() {
			_ = m.q.Close()
			_ = os.RemoveAll(m.dir)
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"append":  m.append,
			"append2": m.append,
			"lease":   m.takeLease,
			"lease2":  m.takeLease,
			"kept":    m.leaseKept,
			"kept2":   m.leaseKept,
			"walk":    m.walk,
			"settle":  m.settle,
			"settle2": m.settle,
			"return":  m.giveBack,
			"case":    m.openCase,
			"release": m.release,
			"discard": m.discard,
			"drop":    m.discardPending,
			"list":    m.list,
			"close":   m.closeCase,
			"note":    m.setNote,
			"blob":    m.dropBlob,
			"keep":    m.keep,
			"reopen":  m.reopen,
			"crash":   m.crash,
			"":        m.check,
		})
		m.finish()
	})
}

func (m *model) open() {
	q, err := Open(smallConfig(filepath.Join(m.dir, fmt.Sprint(m.n))))
	if err != nil {
		m.t.Fatalf("open: %v", err)
	}
	if len(q.reports) > 0 {
		m.t.Fatalf("recovery complains: %q", q.reports)
	}
	m.q = q
}

// append appends up to three exports at once, some of them in cases or dropped.
func (m *model) append(t *rapid.T) {
	var exports []*Export
	for range rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "exports") {
		exports = append(exports, m.export(t))
	}
	if err := m.q.Append(context.Background(), exports...); err != nil {
		t.Fatalf("append: %v", err)
	}
}

func (m *model) export(t *rapid.T) *Export {
	lane := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "lane")
	size := rapid.SampledFrom([]int{1, 100, 3000, 9000, 60000}).Draw(t, "size")
	var place Place
	dropped := false
	switch rapid.IntRange(0, 5).Draw(t, "fate") {
	case 0:
		place = m.pickCase(t)
	case 1:
		place = m.anyCase(t)
	case 2:
		dropped = true
	}
	var ids []uint64
	for range rapid.IntRange(1, 4).Draw(t, "messages") {
		m.next++
		ids = append(ids, m.next)
	}
	e := export(lane, size, ids...)
	e.Place = place
	if dropped {
		e.Dropped = "quota"
		m.quota += int64(len(ids))
	}
	for _, id := range ids {
		if dropped {
			break
		}
		m.lane[id], m.sizes[id], m.place[id] = lane, size, Pending
		if _, open := m.cases[place]; open {
			m.place[id] = place
		}
	}
	for _, id := range ids[:rapid.IntRange(0, 1).Draw(t, "with blobs")] {
		for range rapid.IntRange(1, 2).Draw(t, "blobs") {
			b, err := writeBlob(m.q, id, rapid.SampledFrom([]int{0, 1, 5000}).Draw(t, "blob bytes"))
			if err != nil {
				t.Fatalf("write blob: %v", err)
			}
			e.Blobs = append(e.Blobs, b)
			if !dropped {
				m.blobs[id] = append(m.blobs[id], b)
			}
		}
	}
	return e
}

// anyCase is a place that may be of no open case: never opened, or released.
func (m *model) anyCase(t *rapid.T) Place {
	return Place(rapid.IntRange(0, int(m.opened)+2).Draw(t, "place"))
}

func (m *model) takeLease(t *rapid.T) { m.lease(t, Pending) }

func (m *model) leaseKept(t *rapid.T) {
	if p := m.pickCase(t); p != Pending {
		m.lease(t, p)
	}
}

func (m *model) lease(t *rapid.T, place Place) {
	lane := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "lane")
	order := rapid.SampledFrom([]LeaseOptions{{}, {Newest: true}, {InOrder: true}}).Draw(t, "order")
	l, err := m.q.Lease(LeaseOptions{
		Lane: laneID(m.q, lane), Place: place, Newest: order.Newest, InOrder: order.InOrder,
		MaxRawBytes: rapid.SampledFrom([]int64{1, 10_000, 200_000}).Draw(t, "bytes"),
		MaxFrames:   rapid.IntRange(1, 5).Draw(t, "frames"),
	})
	if err != nil {
		t.Fatalf("lease: %v", err)
	}
	ready := m.ready(lane, place)
	if l == nil {
		if len(ready) > 0 {
			t.Fatalf("nothing to lease in lane %s at %d, and %v should be", lane, place, ready)
		}
		return
	}
	ml := &modelLease{l: l}
	for i, f := range l.Frames {
		ids := frameIDs(t, f)
		for _, id := range ids {
			if !slices.Contains(ready, id) {
				t.Fatalf("leased message %d, which is not ready in lane %s at %d", id, lane, place)
			}
		}
		ml.ids = append(ml.ids, ids)
		if order.InOrder && i > 0 && f.AcceptedAt.Before(l.Frames[i-1].AcceptedAt) {
			t.Fatalf("leased frame %s of %v after one of %v", f.ID, f.AcceptedAt, l.Frames[i-1].AcceptedAt)
		}
	}
	m.leases = append(m.leases, ml)
}

// walk goes through every frame: each live message is seen, where it stands.
func (m *model) walk(t *rapid.T) {
	lane := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "lane")
	if lane != "" && laneID(m.q, lane) == 0 {
		return
	}
	kept := rapid.Bool().Draw(t, "kept only")
	leased := m.leased()
	want := map[uint64]Place{}
	for id, l := range m.lane {
		if (lane == "" || l == lane) && (!kept || m.place[id] != Pending) {
			want[id] = m.place[id]
		}
	}
	got := map[uint64]Place{}
	err := m.q.EachFrame(context.Background(), FrameFilter{
		Lane: laneID(m.q, lane), Newest: rapid.Bool().Draw(t, "newest"),
		Places: func(p Place) bool { return !kept || p != Pending },
	}, func(f FrameMeta) bool {
		for _, trace := range f.Traces {
			id := messageOfTrace(trace)
			if _, live := m.lane[id]; !live { // of a blob, or delivered of the frame
				continue
			}
			got[id] = f.Place
			if f.Leased != leased[id] {
				t.Fatalf("frame %s of message %d: leased %v, want %v", f.ID, id, f.Leased, leased[id])
			}
		}
		return true
	})
	if err != nil {
		t.Fatalf("walk: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("messages of frames (-want +got):\n%s", diff)
	}
}

func (m *model) leased() map[uint64]bool {
	leased := map[uint64]bool{}
	for _, l := range m.leases {
		for _, frame := range l.ids {
			for _, id := range frame {
				leased[id] = true
			}
		}
	}
	return leased
}

// ready lists the messages of a lane that stand at a place and are not leased.
func (m *model) ready(lane string, place Place) (ids []uint64) {
	leased := m.leased()
	for id, l := range m.lane {
		if l == lane && m.place[id] == place && !leased[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *model) pickLease(t *rapid.T) *modelLease {
	if len(m.leases) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(m.leases)-1).Draw(t, "lease")
	l := m.leases[i]
	m.leases = slices.Delete(m.leases, i, i+1)
	return l
}

func (m *model) forget(ids ...uint64) {
	for _, id := range ids {
		delete(m.lane, id)
		delete(m.place, id)
		delete(m.blobs, id)
	}
}

// blobIDs names the blobs of messages that are settled.
func (m *model) blobIDs(ids []uint64) (names []string) {
	for _, id := range ids {
		for _, b := range m.blobs[id] {
			names = append(names, b.ID)
		}
	}
	return names
}

// dropBlob writes a blob for nobody, or removes one.
func (m *model) dropBlob(t *rapid.T) {
	if len(m.loose) > 0 && rapid.Bool().Draw(t, "remove") {
		m.q.RemoveBlob(m.loose[0])
		m.loose = m.loose[1:]
		return
	}
	b, err := writeBlob(m.q, m.next, 100)
	if err != nil {
		t.Fatalf("write blob: %v", err)
	}
	m.loose = append(m.loose, b)
}

func (m *model) pickCase(t *rapid.T) Place {
	if len(m.cases) == 0 {
		return 0
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.cases))).Draw(t, "case")
}

func (m *model) settle(t *rapid.T) {
	ml := m.pickLease(t)
	if ml == nil {
		return
	}
	var settlements []Settlement
	for i, ids := range ml.ids {
		if s := m.settlement(t, ids); s.Result != 0 {
			s.Frame = i
			settlements = append(settlements, s)
		}
	}
	if err := ml.l.Settle(settlements...); err != nil {
		t.Fatalf("settle: %v", err)
	}
}

// settlement draws what becomes of a frame; nothing, if it has no result.
func (m *model) settlement(t *rapid.T, ids []uint64) (s Settlement) {
	place := m.pickCase(t)
	switch rapid.IntRange(0, 5).Draw(t, "result") {
	case 1:
		s.Result, s.Blobs = ResultDelivered, m.blobIDs(ids)
		m.delivered += int64(len(ids))
		m.forget(ids...)
	case 2:
		s.Result, s.Reason, s.Blobs = ResultDropped, "policy", m.blobIDs(ids)
		m.dropped += int64(len(ids))
		m.forget(ids...)
	case 3:
		if place == Pending {
			return s
		}
		s.Result, s.Place = ResultKept, place
		m.move(place, ids...)
	case 4:
		s.Result = ResultReplaced
		s.Delivered = rapid.IntRange(0, len(ids)).Draw(t, "delivered")
		m.delivered += int64(s.Delivered)
		s.Blobs = m.blobIDs(ids[:s.Delivered])
		m.forget(ids[:s.Delivered]...)
		for _, id := range ids[s.Delivered:] {
			p := Part{Payload: message(id, m.sizes[id]), Items: 1, Traces: []TraceID{traceOf(id)}}
			if rapid.Bool().Draw(t, "kept") {
				p.Place = m.pickCase(t)
			}
			if rapid.IntRange(0, 3).Draw(t, "other lane") == 0 {
				p.Lane = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "to lane")
				m.lane[id] = p.Lane
			}
			m.move(p.Place, id)
			s.Parts = append(s.Parts, p)
		}
	case 5:
		s.Result = ResultPending
		m.move(Pending, ids...)
	}
	return s
}

func (m *model) move(to Place, ids ...uint64) {
	for _, id := range ids {
		m.place[id] = to
	}
}

func (m *model) giveBack(t *rapid.T) {
	if l := m.pickLease(t); l != nil {
		l.l.Return()
	}
}

func (m *model) openCase(t *rapid.T) {
	if len(m.cases) > 3 {
		return
	}
	data := fmt.Sprint("case ", m.next)
	kind := rapid.SampledFrom([]CaseKind{CaseQuarantine, CaseHold}).Draw(t, "kind")
	p, err := m.q.OpenCase(Case{Kind: kind, Data: []byte(data)})
	if err != nil {
		t.Fatalf("open case: %v", err)
	}
	if _, ok := m.cases[p]; ok || p == Pending {
		t.Fatalf("case number %d is not new", p)
	}
	m.cases[p] = data
	m.holds[p] = kind == CaseHold
	m.opened = max(m.opened, p)
	for id, at := range m.place { // a number that was named before its time is not given out
		if at == p {
			t.Fatalf("case %d has message %d as it is opened", p, id)
		}
	}
}

func (m *model) release(t *rapid.T) {
	p := m.pickCase(t)
	if p == Pending {
		return
	}
	if err := m.q.Release(p); err != nil {
		t.Fatalf("release: %v", err)
	}
	m.released(p)
}

func (m *model) released(p Place) {
	delete(m.cases, p)
	for id, at := range m.place {
		if at == p {
			m.place[id] = Pending
		}
	}
}

// discard drops what a case holds and is not leased.
func (m *model) discard(t *rapid.T) {
	p := m.pickCase(t)
	if p == Pending {
		return
	}
	var gone []uint64
	for _, lane := range []string{"a", "b", "c"} {
		gone = append(gone, m.ready(lane, p)...)
	}
	slices.Sort(gone)
	var asked []uint64
	items, err := m.q.Discard(context.Background(), p, Discarding{Reason: "discarded", Blobs: func(lane string, f Frame) []string {
		ids := frameIDs(t, f)
		for _, id := range ids {
			if m.lane[id] != lane {
				t.Fatalf("message %d of lane %q is discarded with lane %q", id, m.lane[id], lane)
			}
		}
		asked = append(asked, ids...)
		return m.blobIDs(ids)
	}})
	slices.Sort(asked)
	if err != nil || items != int64(len(gone)) || !slices.Equal(asked, gone) {
		t.Fatalf("discard case %d: %d items %v, %v; want %v", p, items, asked, err, gone)
	}
	m.discarded += items
	m.forget(gone...)
	if !slices.Contains(slices.Collect(maps.Values(m.place)), p) {
		delete(m.cases, p)
	}
}

func (m *model) closeCase(t *rapid.T) {
	p := m.pickCase(t)
	if p == Pending {
		return
	}
	if err := m.q.CloseCase(p); err != nil {
		t.Fatalf("close case: %v", err)
	}
	if !slices.Contains(slices.Collect(maps.Values(m.place)), p) {
		delete(m.cases, p)
	}
}

func (m *model) setNote(t *rapid.T) {
	key := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "key")
	value := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
	if rapid.Bool().Draw(t, "delete") {
		value = nil
		delete(m.notes, key)
	} else {
		m.notes[key] = value
	}
	if err := m.q.SetNote(key, value); err != nil {
		t.Fatalf("note: %v", err)
	}
}

func (m *model) keep(t *rapid.T) {
	for range 3 {
		if err := m.q.keep(); err != nil {
			t.Fatalf("keep: %v", err)
		}
	}
}

func (m *model) reopen(t *rapid.T) {
	if err := m.q.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	for _, l := range m.leases {
		l.l.Return()
		if _, err := m.q.Lease(LeaseOptions{Lane: 1}); !errors.Is(err, ErrClosed) {
			t.Fatalf("lease after close: %v, want %v", err, ErrClosed)
		}
	}
	m.leases, m.loose = nil, nil
	m.open()
	m.checkBlobs()
}

func (m *model) crash(t *rapid.T) {
	old := m.q
	from := m.q.cfg.Dir
	m.n++
	crashCopy(t, old, filepath.Join(m.dir, fmt.Sprint(m.n)))
	if err := old.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	_ = os.RemoveAll(from)
	m.leases, m.loose = nil, nil
	m.open()
	m.checkBlobs()
}

// checkBlobs reads every blob, and looks for others.
func (m *model) checkBlobs() {
	want := []string{}
	for id, blobs := range m.blobs {
		for _, b := range blobs {
			want = append(want, b.ID)
			if got := checkBlob(m.t, m.q, b.ID); got != id {
				m.t.Fatalf("blob %s is of message %d, want %d", b.ID, got, id)
			}
		}
	}
	for _, b := range m.loose {
		want = append(want, b.ID)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, blobNames(m.t, m.q.cfg.Dir)); diff != "" {
		m.t.Fatalf("files of blobs (-want +got):\n%s", diff)
	}
	if s := m.q.Stats(); s.Blobs != len(want) {
		m.t.Fatalf("stats say %d blobs, want %d", s.Blobs, len(want))
	}
}

// check compares what the queue says with the model.
func (m *model) check(t *rapid.T) {
	want := Totals{Accepted: int64(m.next), Delivered: m.delivered, DroppedByReason: map[string]int64{}}
	for reason, n := range map[string]int64{"policy": m.dropped, "quota": m.quota, "discarded": m.discarded} {
		if n > 0 {
			want.DroppedByReason[reason] = n
			want.Dropped += n
		}
	}
	wantCases, gotCases := map[Place]string{}, map[Place]string{}
	items := map[Place]int64{}
	maps.Copy(wantCases, m.cases)
	held := map[string]int64{}
	for id, p := range m.place {
		items[p]++
		switch {
		case p == Pending:
			want.Pending++
		case m.holds[p]:
			want.Held++
			held[m.lane[id]]++
		default:
			want.Quarantined++
		}
	}
	for _, l := range m.q.Lanes() {
		if l.HeldItems != held[l.Descriptor] || (l.HeldFrames == 0) != (l.HeldItems == 0) || l.OldestHeldAt.IsZero() != (l.HeldItems == 0) {
			t.Fatalf("lane %s has %d held items: %+v", l.Descriptor, held[l.Descriptor], l)
		}
	}
	if diff := cmp.Diff(want, checkTotals(t, m.q)); diff != "" {
		t.Fatalf("totals (-want +got):\n%s", diff)
	}
	for _, c := range m.q.Cases() {
		gotCases[c.Place] = string(c.Data)
		if c.Items != items[c.Place] || c.OldestAt.IsZero() != (c.Items == 0) {
			t.Fatalf("case %d has %d items since %v, want %d", c.Place, c.Items, c.OldestAt, items[c.Place])
		}
	}
	if diff := cmp.Diff(wantCases, gotCases); diff != "" {
		t.Fatalf("cases (-want +got):\n%s", diff)
	}
	notes := m.q.Notes("")
	for _, blobs := range m.blobs {
		for _, b := range blobs {
			if notes[blobNotes+b.ID] == nil {
				t.Fatalf("blob %s has no note", b.ID)
			}
			delete(notes, blobNotes+b.ID)
		}
	}
	if diff := cmp.Diff(m.notes, notes, equateEmptyBytes); diff != "" {
		t.Fatalf("notes (-want +got):\n%s", diff)
	}
}

var equateEmptyBytes = cmp.Comparer(bytes.Equal)

// finish reads everything back: what is pending, and then what was kept.
func (m *model) finish() {
	for _, l := range m.leases {
		l.l.Return()
	}
	m.leases = nil
	m.compareContents()
	m.checkBlobs()
	for p := range m.cases {
		if err := m.q.Release(p); err != nil {
			m.t.Fatalf("release: %v", err)
		}
		m.released(p)
	}
	m.compareContents()
	for _, lane := range m.q.Lanes() {
		for _, l := range leaseAllOf(m.t, m.q, lane.ID) {
			var done []Settlement
			for i, f := range l.Frames {
				ids := frameIDs(m.t, f)
				done = append(done, Settlement{Frame: i, Result: ResultDelivered, Blobs: m.blobIDs(ids)})
				m.delivered += int64(len(ids))
				m.forget(ids...)
			}
			if err := l.Settle(done...); err != nil {
				m.t.Fatalf("settle: %v", err)
			}
		}
	}
	m.check(m.t)
	m.checkBlobs()
}

func (m *model) compareContents() {
	want := map[string][]uint64{}
	for id, lane := range m.lane {
		if m.place[id] == Pending {
			want[lane] = append(want[lane], id)
		}
	}
	for _, ids := range want {
		slices.Sort(ids)
	}
	got := pendingIDs(m.t, m.q)
	maps.DeleteFunc(got, func(_ string, ids []uint64) bool { return len(ids) == 0 })
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Fatalf("contents (-want +got):\n%s", diff)
	}
}
