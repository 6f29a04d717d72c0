package queue

import (
	"context"
	"slices"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// list goes through all frames page by page: each live frame comes once, in
// order, and is what a walk says it is.
func (m *model) list(t *rapid.T) {
	o := FrameQuery{
		Max: rapid.IntRange(1, 4).Draw(t, "page"),
		FrameFilter: FrameFilter{
			Lane:   laneID(m.q, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "lane")),
			Newest: rapid.Bool().Draw(t, "newest"),
		},
	}
	if rapid.Bool().Draw(t, "pending only") {
		o.Places = isPending
	}
	var want, got []FrameMeta
	if err := m.q.EachFrame(context.Background(), o.FrameFilter, func(f FrameMeta) bool {
		if f.TraceCount != len(f.Traces) {
			t.Fatalf("frame %s has %d traces, and counts %d", f.ID, len(f.Traces), f.TraceCount)
		}
		f.Traces = nil
		want = append(want, f)
		return true
	}); err != nil {
		t.Fatalf("walk: %v", err)
	}
	for more := true; more; {
		var page []FrameMeta
		var err error
		if page, more, err = m.q.Frames(context.Background(), o); err != nil || len(page) > o.Max || more && len(page) == 0 {
			t.Fatalf("page of %d frames of at most %d, %v", len(page), o.Max, err)
		}
		if len(page) > 0 {
			o.After = page[len(page)-1].ID
		}
		got = append(got, page...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("frames listed (-walk +pages):\n%s", diff)
	}
	for i := range got {
		f, err := m.q.StatFrame(got[i].ID)
		if len(f.Traces) != f.TraceCount {
			t.Fatalf("frame %s has %d traces, and counts %d", f.ID, len(f.Traces), f.TraceCount)
		}
		f.Traces = nil
		if diff := cmp.Diff(got[i], f); err != nil || diff != "" {
			t.Fatalf("frame %s by itself: %v (-listed +got):\n%s", got[i].ID, err, diff)
		}
	}
}

// discardPending drops what is pending and not leased, of all lanes or one, all of
// it or some frames.
func (m *model) discardPending(t *rapid.T) {
	name := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "lane")
	d := PendingDiscard{Discarding: Discarding{Reason: "discarded"}, Lane: laneID(m.q, name)}
	if name != "" && d.Lane == 0 {
		return
	}
	var meant []uint64
	some := rapid.Bool().Draw(t, "some")
	if some {
		d.Only = map[FrameID]bool{{99, 99}: true} // one that is not there
	}
	keep, leased, leasedFrames := rapid.IntRange(1, 3).Draw(t, "keep every"), m.leased(), int64(0)
	n := 0
	if err := m.q.EachFrame(context.Background(), FrameFilter{Lane: d.Lane, Places: isPending}, func(f FrameMeta) bool {
		if n++; some && n%keep == 0 {
			return true
		}
		if some {
			d.Only[f.ID] = true
		}
		if f.Leased {
			leasedFrames++
		}
		for _, trace := range f.Traces {
			if id := messageOfTrace(trace); m.lane[id] != "" && !leased[id] {
				meant = append(meant, id)
			}
		}
		return true
	}); err != nil {
		t.Fatalf("walk: %v", err)
	}
	slices.Sort(meant)
	d.DryRun = true
	dry, err := m.q.DiscardPending(context.Background(), d)
	if err != nil {
		t.Fatalf("discard, dry: %v", err)
	}
	var asked []uint64
	d.DryRun = false
	d.Blobs = func(lane string, f Frame) []string {
		ids := frameIDs(t, f)
		asked = append(asked, ids...)
		return m.blobIDs(ids)
	}
	sum, err := m.q.DiscardPending(context.Background(), d)
	slices.Sort(asked)
	if err != nil || sum != dry || sum.Items != int64(len(meant)) || sum.Leased != leasedFrames || !slices.Equal(asked, meant) {
		t.Fatalf("discard: %+v of %v, %v; a dry run said %+v; want %v and %d leased", sum, asked, err, dry, meant, leasedFrames)
	}
	m.discarded += sum.Items
	m.forget(meant...)
}
