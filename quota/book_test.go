package quota

import (
	"errors"
	"testing"

	"weir/quota/idmap"
)

// brittle is a store that fails when it is told to.
type brittle struct {
	*memoryStore

	apply, syncing error
	torn           bool          // records cannot be read
	syncs          chan struct{} // if set, each sync is announced, and waits for leave
	leave          chan struct{}
}

func (s *brittle) Apply(b *idmap.Batch) error {
	if s.apply != nil {
		return s.apply
	}
	return s.memoryStore.Apply(b)
}

func (s *brittle) Sync() error {
	if s.syncs != nil {
		s.syncs <- struct{}{}
		<-s.leave
	}
	return s.syncing
}

func (s *brittle) Records(prefix string) map[string][]byte {
	out := s.memoryStore.Records(prefix)
	if s.torn {
		for name := range out {
			out[name] = nil
		}
	}
	return out
}

var errBrittle = errors.New("it broke")

func brittleBook(t *testing.T) (*book, *brittle) {
	t.Helper()
	s := &brittle{memoryStore: &memoryStore{entries: map[idmap.Key]idmap.Entry{}, records: map[string][]byte{}}}
	b, err := newBook(s, false)
	if err != nil {
		t.Fatal(err)
	}
	return b, s
}

const bookMonth = Month(682)

func bookClaim(n byte) *Claim {
	return &Claim{
		Account: "a", Month: bookMonth, At: bookMonth.Begin(), Traces: []Trace{{ID: TraceID{n}}},
		Limits: Limits{Traces: 1}, Over: Dropped,
	}
}

// TestWhatMustBeDurableIsSyncedWhenToldAgain: the second call changes nothing,
// and what the first one changed is not on disk.
func TestWhatMustBeDurableIsSyncedWhenToldAgain(t *testing.T) {
	t.Parallel()
	id := []TraceID{{1}}
	for name, call := range map[string]func(b *book) error{
		"count":     func(b *book) error { return b.Count("a", bookMonth, bookMonth.Begin(), id) },
		"attempted": func(b *book) error { return b.Attempted("a", id) },
		"drop": func(b *book) error {
			_, err := b.Claim(bookClaim(2))
			return err
		},
		"note": func(b *book) error { return b.SetNote("n", []byte("v")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, s := brittleBook(t)
			if _, err := b.Claim(bookClaim(1)); err != nil {
				t.Fatal(err)
			}
			s.syncing = errBrittle
			for range 2 {
				if err := call(b); !errors.Is(err, errBrittle) {
					t.Fatalf("it is said to be durable (%v), and was never synced", err)
				}
			}
			s.syncing = nil
			if err := call(b); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestWhatAnotherMakesDurableIsWaitedFor: of two who count the same trace, the
// one that finds it counted returns no earlier than it is on disk.
func TestWhatAnotherMakesDurableIsWaitedFor(t *testing.T) {
	t.Parallel()
	b, s := brittleBook(t)
	s.syncs, s.leave = make(chan struct{}), make(chan struct{})
	done := make(chan error, 2)
	count := func() { done <- b.Count("a", bookMonth, bookMonth.Begin(), []TraceID{{1}}) }
	go count()
	<-s.syncs
	go count()
	select {
	case <-s.syncs:
	case err := <-done:
		t.Fatalf("the second count returned (%v) while the first was being synced", err)
	}
	close(s.leave)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestFiguresAreThoseOfTheStoreAfterAFailedWrite, also if that could not be read
// at once: an account must not begin again beside its own traces.
func TestFiguresAreThoseOfTheStoreAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	b, s := brittleBook(t)
	if _, err := b.Claim(bookClaim(1)); err != nil {
		t.Fatal(err)
	}
	want := b.Totals("a")
	for _, torn := range []bool{false, true} {
		s.apply, s.torn = errBrittle, torn
		if err := b.Count("a", bookMonth, bookMonth.Begin(), []TraceID{{1}, {2}}); !errors.Is(err, errBrittle) {
			t.Fatalf("a write that failed: %v", err)
		}
		s.apply = nil
		if _, err := b.Claim(bookClaim(1)); (err != nil) != torn {
			t.Errorf("claim after a failed write, records torn %t: %v", torn, err)
		}
		s.torn = false
		v, err := b.Claim(bookClaim(1))
		if err != nil || v[0] != (Verdict{State: Reserved}) || b.Totals("a") != want {
			t.Errorf("after a failed write (%t) the trace is %v, totals %+v, %v; want %+v", torn, v, b.Totals("a"), err, want)
		}
	}
}
