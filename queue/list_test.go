package queue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPagesFollowEachOtherWhateverHappens has frames settled and appended between
// pages: those that stay come once each.
func TestPagesFollowEachOtherWhateverHappens(t *testing.T) {
	for _, newest := range []bool{false, true} {
		q := mustOpen(t, smallConfig(t.TempDir()))
		for id := uint64(1); id <= 40; id++ {
			mustAppend(t, q, export([]string{"goes", "stays"}[id%2], 9000, id))
		}
		var got []FrameID
		o := FrameQuery{FrameFilter: FrameFilter{Lane: laneID(q, "stays"), Newest: newest}, Max: 3}
		all, _, err := q.Frames(t.Context(), FrameQuery{FrameFilter: o.FrameFilter})
		if err != nil || len(all) != 20 {
			t.Fatalf("%d frames, %v", len(all), err)
		}
		for more := true; more; {
			var page []FrameMeta
			if page, more, err = q.Frames(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			for _, m := range page {
				got = append(got, m.ID)
				o.After = m.ID
			}
			l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "stays"), MaxFrames: 1, Newest: true, MaxRawBytes: 1})
			gone := l.Frames[0].ID
			if err := l.Settle(Settlement{Result: ResultDelivered}); err != nil {
				t.Fatal(err)
			}
			all = slices.DeleteFunc(all, func(m FrameMeta) bool { return m.ID == gone && !slices.Contains(got, gone) })
			if newest { // ahead of the first page
				mustAppend(t, q, export("stays", 100, 100+uint64(len(got))))
			}
		}
		var want []FrameID
		for _, m := range all {
			want = append(want, m.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("newest first %v: frames of all pages (-want +got):\n%s", newest, diff)
		}
	}
}

func TestListedByAgeAndPlace(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	now := time.UnixMilli(1_700_000_000_000)
	cfg.now = func() time.Time { return now }
	q := mustOpen(t, cfg)
	hold := mustOpenCase(t, q, CaseHold)
	for id := uint64(1); id <= 12; id++ {
		now = now.Add(time.Hour)
		e := export("a", 9000, id)
		if id%3 == 0 {
			e.Place = hold
		}
		mustAppend(t, q, e)
	}
	list := func(o FrameQuery) (ages []int) {
		frames, more, err := q.Frames(t.Context(), o)
		if err != nil || more {
			t.Fatalf("more %v, %v", more, err)
		}
		for _, m := range frames {
			ages = append(ages, int(now.Sub(m.AcceptedAt)/time.Hour))
		}
		return ages
	}
	for _, tt := range []struct {
		o    FrameQuery
		want []int
	}{
		{FrameQuery{AcceptedBy: now.Add(-8 * time.Hour)}, []int{11, 10, 9, 8}},
		{FrameQuery{AcceptedBy: now.Add(-8 * time.Hour), FrameFilter: FrameFilter{Newest: true}}, []int{8, 9, 10, 11}},
		{FrameQuery{FrameFilter: FrameFilter{Places: func(p Place) bool { return p == hold }}}, []int{9, 6, 3, 0}},
		{FrameQuery{FrameFilter: FrameFilter{Places: isPending}, AcceptedBy: now.Add(-7 * time.Hour)}, []int{11, 10, 8, 7}},
		{FrameQuery{FrameFilter: FrameFilter{Lane: 99}}, nil},
		{FrameQuery{AcceptedBy: now.Add(-time.Hour * 100)}, nil},
	} {
		if diff := cmp.Diff(tt.want, list(tt.o)); diff != "" {
			t.Errorf("%+v: hours (-want +got):\n%s", tt.o, diff)
		}
	}
	_ = q.Close()
	if _, _, err := q.Frames(t.Context(), FrameQuery{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	if _, err := q.StatFrame(FrameID{1, 0}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// TestDiscardPendingMeansWhatItNames drops by age, by lane, by name and all; what
// is leased stays and is counted, what is kept in a case is not asked for.
func TestDiscardPendingMeansWhatItNames(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	now := time.UnixMilli(1_700_000_000_000)
	cfg.now = func() time.Time { return now }
	q := mustOpen(t, cfg)
	kept := mustOpenCase(t, q, CaseQuarantine)
	mustAppend(t, q, exportAt("a", 100, 99, kept))
	for id := uint64(1); id <= 20; id++ {
		now = now.Add(time.Hour)
		mustAppend(t, q, export([]string{"a", "b"}[id%2], 9000, id))
	}
	discard := func(d PendingDiscard, want DiscardSum) {
		t.Helper()
		d.Reason = "test"
		got, err := q.DiscardPending(t.Context(), d)
		got.Bytes = 0
		if err != nil || got != want {
			t.Errorf("%+v: %+v, %v, want %+v", d, got, err, want)
		}
	}
	leased := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), MaxFrames: 1, MaxRawBytes: 1})
	discard(PendingDiscard{AcceptedBy: now.Add(-16 * time.Hour)}, DiscardSum{Frames: 3, Items: 3, Leased: 1}) // 1 to 4, 2 is leased
	discard(PendingDiscard{AcceptedBy: now.Add(-12 * time.Hour), Lane: laneID(q, "b"), DryRun: true}, DiscardSum{Frames: 2, Items: 2})
	discard(PendingDiscard{AcceptedBy: now.Add(-12 * time.Hour), Lane: laneID(q, "b")}, DiscardSum{Frames: 2, Items: 2}) // 5, 7
	frames, _, err := q.Frames(t.Context(), FrameQuery{FrameFilter: FrameFilter{Places: isPending}})
	if err != nil || len(frames) != 15 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	only := map[FrameID]bool{frames[0].ID: true, frames[1].ID: true, frames[2].ID: true, {77, 7}: true}
	all, _, _ := q.Frames(t.Context(), FrameQuery{FrameFilter: FrameFilter{Places: func(p Place) bool { return p == kept }}})
	only[all[0].ID] = true
	discard(PendingDiscard{Discarding: Discarding{Only: only}}, DiscardSum{Frames: 2, Items: 2, Leased: 1}) // 2 is leased
	now = now.Add(-100 * time.Hour)                                                                         // the clock is set back
	discard(PendingDiscard{}, DiscardSum{Frames: 12, Items: 12, Leased: 1})
	leased.Return()
	discard(PendingDiscard{}, DiscardSum{Frames: 1, Items: 1})
	discard(PendingDiscard{}, DiscardSum{})
	q = reopen(t, q)
	if tot := checkTotals(t, q); tot.Dropped != 20 || tot.Quarantined != 1 || tot.Pending != 0 {
		t.Errorf("totals %+v", tot)
	}
	if _, err := q.DiscardPending(t.Context(), PendingDiscard{Discarding: Discarding{Reason: string(make([]byte, 257))}}); err == nil {
		t.Error("a reason that is too long is taken")
	}
	mustAppend(t, q, export("a", 10, 200))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sum, err := q.DiscardPending(ctx, PendingDiscard{}); !errors.Is(err, context.Canceled) || sum != (DiscardSum{}) {
		t.Errorf("called off: %+v, %v", sum, err)
	}
}

// TestDiscardPendingFindsWhatIsCopied copies frames to a shelf while others are
// dropped.
func TestDiscardPendingFindsWhatIsCopied(t *testing.T) {
	r := newOrderedRun(t)
	for _, filler := range []string{"first", "second", "third"} {
		r.segment(filler)
	}
	calls := 0
	sum, err := r.q.DiscardPending(t.Context(), PendingDiscard{Lane: laneID(r.q, "ordered"), Discarding: Discarding{Reason: "x", Blobs: func(string, Frame) []string {
		if calls++; calls == 1 {
			r.drain("second")
			r.drain("third")
		}
		return nil
	}}})
	if err != nil || sum.Items != int64(r.next-1) {
		t.Errorf("dropped %+v, %v, want %d items", sum, err, r.next-1)
	}
}

func TestDamagedFramesAreDescribedAndDropped(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	for id := uint64(1); id <= 3; id++ {
		mustAppend(t, q, export("a", 20_000, id))
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	flipPayloads(t, cfg.Dir)
	q = mustOpen(t, cfg)
	frames, _, err := q.Frames(t.Context(), FrameQuery{})
	if err != nil || len(frames) != 3 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	damaged := 0
	for _, m := range frames {
		if s, err := q.StatFrame(m.ID); err != nil || s.Items != 1 || s.Bytes != m.Bytes || s.TraceCount != 1 {
			t.Errorf("frame %s: %+v, %v", m.ID, s, err)
		}
		if _, err := q.ReadFrame(m.ID); errors.Is(err, ErrDamaged) {
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("nothing is damaged")
	}
	sum, err := q.DiscardPending(t.Context(), PendingDiscard{Discarding: Discarding{Reason: "x", Blobs: func(string, Frame) []string { return nil }}})
	if tot := checkTotals(t, q); err != nil || sum.Frames != 3 || tot.DroppedByReason["x"] != 3 {
		t.Errorf("dropped %+v, %v: %+v", sum, err, tot)
	}
}

// flipPayloads damages the payload of frames in value logs.
func flipPayloads(t *testing.T, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "segments", "*", "*.vlog"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 12_000 {
			b[11_000] ^= 0xff
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskUseAddsUp compares the rows with what the files occupy.
func TestDiskUseAddsUp(t *testing.T) {
	q := mustOpen(t, smallConfig(t.TempDir()))
	hold, kept := mustOpenCase(t, q, CaseHold), mustOpenCase(t, q, CaseQuarantine)
	for id := uint64(1); id <= 12; id++ {
		mustAppend(t, q, exportAt("a", 9000, id, []Place{Pending, hold, kept}[id%3]))
	}
	e := export("a", 100, 50)
	b, err := writeBlob(q, 50, 30_000)
	if err != nil {
		t.Fatal(err)
	}
	withBlob(e, b)
	mustAppend(t, q, e)
	l := mustLease(t, q, LeaseOptions{Lane: laneID(q, "a"), MaxFrames: 2})
	if err := l.Settle(Settlement{Result: ResultDelivered}, Settlement{Frame: 1, Result: ResultDelivered}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time measures what the first prepared
		if err := q.keep(); err != nil {
			t.Fatal(err)
		}
	}
	u := q.DiskUse()
	if u.Pending.Frames != 3 || u.Held.Frames != 4 || u.Kept.Frames != 4 || u.Held.Items != 4 || u.Blobs != 1 || u.Held.OldestAt.IsZero() {
		t.Errorf("use %+v", u)
	}
	if u.SettledBytes < 2*9000 || u.ReserveBytes < 16<<20 || u.ReserveFiles == 0 {
		t.Errorf("settled %d, reserve %d in %d files", u.SettledBytes, u.ReserveBytes, u.ReserveFiles)
	}
	sum := u.Pending.Bytes + u.Held.Bytes + u.Kept.Bytes + u.BlobBytes + u.SettledBytes + u.ReserveBytes
	files, err := BytesBelow(q.cfg.Dir)
	if err != nil || sum < files-256<<10 || sum > files+256<<10 {
		t.Errorf("the rows are %d bytes, the files %d, %v", sum, files, err)
	}
}
