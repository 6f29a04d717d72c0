package smith

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStatsAddUp(t *testing.T) {
	s, c := start(t, Config{Keys: knownKeys()})
	one, two := payload(t, newSpan(1, 1), newSpan(1, 2)), payload(t, newSpan(1, 2), newSpan(2, 3))
	packed := zipped(t, two)
	c.export(one).want(t, 200, "")
	c.export(packed, "Content-Encoding", "gzip", "X-Api-Key", keyB, "Langsmith-Project", "chat").want(t, 200, "")
	c.export(nil, "X-Api-Key", "").want(t, 401, bodyUnauthorized)
	first := Tally{1, 2, int64(len(one)), int64(len(one)), 0}
	second := Tally{1, 2, int64(len(packed)), int64(len(two)), 0}
	want := Stats{
		Requests: 3, Answers: map[int]int64{200: 2, 401: 1}, Faults: map[string]int64{},
		Taken:         Tally{2, 4, first.WireBytes + second.WireBytes, first.RawBytes + second.RawBytes, 0},
		DistinctSpans: 3, Duplicates: 1, Traces: 2,
		ByKey:       map[APIKey]Tally{keyA: first, keyB: second},
		ByWorkspace: map[string]Tally{tenantA: first, tenantB: second},
		ByEncoding:  map[string]Tally{"identity": first, "gzip": second},
		ByProject:   map[string]int64{"default": 2, "chat": 2},
		Runs:        newRunStats(),
	}
	if diff := cmp.Diff(want, s.Stats()); diff != "" {
		t.Errorf("Stats() (-want +got):\n%s", diff)
	}
	if n := s.Received(id(1, 2)); n != 2 {
		t.Errorf("span 2 was received %d times, want 2", n)
	}
	wantIDs := map[SpanID]int{id(1, 1): 1, id(1, 2): 2, id(2, 3): 1}
	if got := s.SpanIDs(); !maps.Equal(got, wantIDs) {
		t.Errorf("SpanIDs() = %v, want %v", got, wantIDs)
	}

	s.Reset()
	if st := s.Stats(); st.Requests != 0 || st.Taken != (Tally{}) || st.DistinctSpans != 0 || len(s.Spans()) != 0 || s.Received(id(1, 1)) != 0 {
		t.Errorf("after Reset: %+v", st)
	}
	c.export(one).want(t, 200, "")
	if r := s.Requests(); len(r) != 1 || r[0].Seq != 1 {
		t.Errorf("requests after Reset = %+v", r)
	}
}

func TestKeepDecidesWhatIsRemembered(t *testing.T) {
	body := payload(t, newSpan(1, 1), newSpan(1, 1, str("langsmith.trace.session_name", "own")))
	tests := []struct {
		keep                   Keep
		spans                  int
		distinct, again, trace int64
		projects               map[string]int64
	}{
		{KeepSpans, 2, 1, 1, 1, map[string]int64{"default": 1, "own": 1}},
		{KeepIDs, 0, 1, 1, 1, map[string]int64{"default": 1, "own": 1}},
		{KeepCounts, 0, 0, 0, 0, map[string]int64{"default": 2}},
	}
	for _, tt := range tests {
		t.Run(tt.keep.String(), func(t *testing.T) {
			s, c := start(t, Config{Keep: tt.keep})
			c.export(zstdded(t, body), "Content-Encoding", "zstd").want(t, 200, "")
			st := s.Stats()
			if len(s.Spans()) != tt.spans || st.DistinctSpans != tt.distinct || st.Duplicates != tt.again || st.Traces != tt.trace || st.Taken.Spans != 2 {
				t.Errorf("%d spans and %+v", len(s.Spans()), st)
			}
			if !maps.Equal(st.ByProject, tt.projects) {
				t.Errorf("ByProject = %v, want %v", st.ByProject, tt.projects)
			}
			if err := s.WaitSpans(t.Context(), 1); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRetentionForgetsTheOldestPayloads(t *testing.T) {
	size := int64(len(payload(t, newSpan(1, 1))))
	tests := []struct {
		retain    int64
		kept      int
		forgotten int64
	}{
		{-1, 0, 5},
		{size - 1, 0, 5},
		{size, 1, 4},
		{3*size + 1, 3, 2},
		{0, 5, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.retain), func(t *testing.T) {
			s, c := start(t, Config{RetainBytes: tt.retain})
			for i := range uint64(5) {
				c.export(payload(t, newSpan(1, i+1))).want(t, 200, "")
			}
			spans := s.Spans()
			if st := s.Stats(); len(spans) != tt.kept || st.Forgotten != tt.forgotten || st.DistinctSpans != 5 {
				t.Errorf("%d kept, %d forgotten of %d; want %d and %d", len(spans), st.Forgotten, st.DistinctSpans, tt.kept, tt.forgotten)
			}
			if tt.kept > 0 && spans[tt.kept-1].ID() != id(1, 5) {
				t.Errorf("the last kept span is %s", spans[tt.kept-1].ID())
			}
		})
	}
}

func TestLastSpansAreTheNewest(t *testing.T) {
	s, c := start(t, Config{})
	c.export(payload(t, newSpan(1, 1), newSpan(1, 2))).want(t, 200, "")
	c.export(payload(t, newSpan(1, 3), newSpan(1, 4))).want(t, 200, "")
	for n, want := range map[int]string{0: "", 1: "4", 3: "234", 4: "1234", 9: "1234"} {
		var got strings.Builder
		for _, sp := range s.LastSpans(n) {
			fmt.Fprint(&got, sp.ID().Span[7])
		}
		if got.String() != want {
			t.Errorf("LastSpans(%d) = %q, want %q", n, got.String(), want)
		}
	}
}

func TestWaitsEndWhenTheirConditionIsMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		done := make(chan error, 3)
		go func() { done <- s.WaitSpans(t.Context(), 2) }()
		go func() { done <- s.WaitRequests(t.Context(), 2) }()
		go func() { done <- s.WaitAnswers(t.Context(), 200, 2) }()
		for i, trace := range []uint64{1, 2} {
			synctest.Wait()
			if len(done) != 0 {
				t.Fatalf("a wait ended after %d requests", i)
			}
			in := &Request{Spans: 1}
			s.store.arrived(nil)
			if err := s.store.record(in, []spanHead{{id: id(trace, 1)}}); err != nil {
				t.Fatal(err)
			}
			s.store.answered(200)
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWaitsSayHowFarTheyGot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		if err := s.store.record(&Request{Spans: 1}, []spanHead{{id: id(1, 1)}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.WaitSpans(ctx, 2)
		const want = "waiting for 2 spans: 1 spans in 0 requests have arrived: context deadline exceeded"
		if err == nil || err.Error() != want || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitSpans() = %v, want %s", err, want)
		}
		done := make(chan error)
		go func() { done <- s.WaitSpans(t.Context(), 2) }()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("WaitSpans() while closing = %v, want ErrClosed", err)
		}
		if err := s.WaitSpans(t.Context(), 2); !errors.Is(err, ErrClosed) {
			t.Errorf("WaitSpans() after Close = %v, want ErrClosed", err)
		}
		if err := s.WaitSpans(t.Context(), 1); err != nil {
			t.Errorf("WaitSpans() for what is there = %v", err)
		}
	})
}

func TestSubscriptionsDeliverWithoutHoldingAnyoneUp(t *testing.T) {
	for _, keep := range []Keep{KeepSpans, KeepIDs, KeepCounts} {
		t.Run(keep.String(), func(t *testing.T) {
			s, c := start(t, Config{Keep: keep})
			sub := s.Subscribe(1)
			for i := range uint64(3) {
				c.export(payload(t, newSpan(1, 2*i+1), newSpan(1, 2*i+2))).want(t, 200, "")
			}
			got := <-sub.C
			if len(got) != 2 || got[0].ID() != id(1, 1) || got[0].Project != "default" {
				t.Errorf("first delivery = %v", got)
			}
			if n := sub.Missed(); n != 4 {
				t.Errorf("Missed() = %d, want 4", n)
			}
			if n := sub.Missed(); n != 0 {
				t.Errorf("Missed() again = %d, want 0", n)
			}
			sub.Close()
			sub.Close()
			if _, ok := <-sub.C; ok {
				t.Error("C still delivers after Close")
			}
			c.export(payload(t, newSpan(1, 9))).want(t, 200, "")
		})
	}
}

func TestCloseEndsSubscriptions(t *testing.T) {
	s := New(Config{})
	sub := s.Subscribe(0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-sub.C; ok {
		t.Error("C delivers after Close")
	}
	if _, ok := <-s.Subscribe(0).C; ok {
		t.Error("a subscription to a closed server delivers")
	}
}

func TestGroupsAreBounded(t *testing.T) {
	s := New(Config{})
	const n = maxGroups + 10
	for i := range n {
		in := &Request{Spans: 1, Key: APIKey(fmt.Sprintf("key-%d", i)), Workspace: "w", Project: fmt.Sprintf("p-%d", i)}
		if err := s.store.record(in, []spanHead{{id: id(uint64(i)+1, 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if len(st.ByKey) != maxGroups+1 || st.ByKey[otherGroup].Spans != 10 {
		t.Errorf("%d keys, %+v others; want %d and 10", len(st.ByKey), st.ByKey[otherGroup], maxGroups+1)
	}
	if len(st.ByProject) != maxGroups+1 || st.ByProject[otherGroup] != 10 {
		t.Errorf("%d projects, %d others", len(st.ByProject), st.ByProject[otherGroup])
	}
	if got := len(s.store.rows("w", &sessionKind)); got > maxGroups+1 {
		t.Errorf("%d projects are listed", got)
	}
}

func TestSpanIDsAreReadAsWritten(t *testing.T) {
	want := id(0xabc, 0xdef)
	if got, err := ParseSpanID(want.String()); err != nil || got != want {
		t.Errorf("ParseSpanID(%q) = %v, %v", want, got, err)
	}
	for _, text := range []string{"", "x", strings.Repeat("0", 49), strings.Repeat("0", 32) + "/" + strings.Repeat("z", 16)} {
		if _, err := ParseSpanID(text); err == nil {
			t.Errorf("ParseSpanID(%q) = nil error", text)
		}
	}
}
