package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var errInjected = errors.New("injected failure")

// faulty makes the nth storage operation from arming on fail, once.
type faulty struct {
	left   atomic.Int64 // operations until the failure; negative: none
	failed atomic.Bool
}

func newFaulty() *faulty {
	f := &faulty{}
	f.left.Store(-1)
	return f
}

func (f *faulty) arm(n int) {
	f.failed.Store(false)
	f.left.Store(int64(n))
}

func (f *faulty) hit() error {
	if f.left.Load() < 0 || f.left.Add(-1) != 0 {
		return nil
	}
	f.left.Store(-1)
	f.failed.Store(true)
	return errInjected
}

// install puts the seams into a config: every commit, open, close and
// preallocation may fail, and every operation that writes or removes a blob.
func (f *faulty) install(cfg *Config) {
	cfg.blobFault = func(operation string) error {
		if operation == "open" { // for reading: the caller's to handle
			return nil
		}
		return f.hit()
	}
	cfg.open = func(dir string, mode storeMode, c storeConfig) (store, error) {
		if err := f.hit(); err != nil {
			return nil, err
		}
		s, err := openBadger(dir, mode, c)
		if err != nil {
			return nil, err
		}
		return &faultyStore{store: s, f: f}, nil
	}
	cfg.preallocate = func(path string, n int64) error {
		if err := f.hit(); err != nil {
			return errors.Join(errNoSpace, err)
		}
		return preallocate(path, n)
	}
}

type faultyStore struct {
	store
	f      *faulty
	broken bool
}

func (s *faultyStore) Commit(entries []entry) error {
	if s.broken {
		return errInjected
	}
	if err := s.f.hit(); err != nil {
		s.broken = true // as promised by store
		return err
	}
	return s.store.Commit(entries)
}

// faultRun is a queue under test with what must be in it.
type faultRun struct {
	t     *testing.T
	q     *Queue
	want  map[uint64]bool // acknowledged and not settled
	maybe map[uint64]bool // an operation on it failed
	next  uint64
}

func (r *faultRun) append(lane string, n int) error {
	var ids []uint64
	for range n {
		r.next++
		ids = append(ids, r.next)
	}
	err := r.q.Append(context.Background(), export(lane, 3000, ids...))
	for _, id := range ids {
		if err == nil {
			r.want[id] = true
		} else {
			r.maybe[id] = true
		}
	}
	return err
}

// appendBlobs appends an export with n blobs.
func (r *faultRun) appendBlobs(lane string, n int) error {
	r.next++
	id := r.next
	e := export(lane, 3000, id)
	for range n {
		b, err := writeBlob(r.q, id, 2*blobPieceBytes)
		if err != nil {
			for _, b := range e.Blobs {
				r.q.RemoveBlob(b)
			}
			return err
		}
		withBlob(e, b)
	}
	if err := r.q.Append(context.Background(), e); err != nil {
		r.maybe[id] = true
		for _, b := range e.Blobs {
			r.q.RemoveBlob(b)
		}
		return err
	}
	r.want[id] = true
	return nil
}

// appendTogether appends to lane a at place, to lane b, and something dropped.
func (r *faultRun) appendTogether(place Place) error {
	id := r.next + 1
	r.next += 3
	held, dropped := export("a", 3000, id), export("a", 3000, id+2)
	held.Place, dropped.Dropped = place, "quota"
	err := r.q.Append(context.Background(), held, export("b", 3000, id+1), dropped)
	for _, id := range []uint64{id, id + 1} {
		if err == nil {
			r.want[id] = true
		} else {
			r.maybe[id] = true
		}
	}
	if n := r.q.Stats().Totals.DroppedByReason["quota"]; (n == 1) != (err == nil) {
		r.t.Fatalf("%d items were dropped by an append that returned %v", n, err)
	}
	return err
}

// settle leases some of a lane and settles it with do.
func (r *faultRun) settle(lane string, do func(ids []uint64, i int) Settlement) error {
	return r.settleAt(lane, Pending, do)
}

func (r *faultRun) settleAt(lane string, place Place, do func(ids []uint64, i int) Settlement) error {
	l, err := r.q.Lease(LeaseOptions{Lane: laneID(r.q, lane), Place: place, MaxRawBytes: everything})
	if err != nil || l == nil {
		return err
	}
	var s []Settlement
	var gone []uint64
	for i, f := range l.Frames {
		ids := frameIDs(r.t, f)
		one := do(ids, i)
		one.Blobs = blobsOf(frameBlobs(r.t, r.q, f), ids)
		switch one.Result {
		case ResultDelivered, ResultDropped:
			gone = append(gone, ids...)
		case ResultReplaced:
			gone = append(gone, ids[:one.Delivered]...)
		case ResultKept, ResultPartly, ResultPending:
		}
		s = append(s, one)
	}
	err = l.Settle(s...)
	for _, id := range gone {
		delete(r.want, id)
		if err != nil {
			r.maybe[id] = true
		}
	}
	return err
}

// verify checks that everything acknowledged is readable, once, and that the
// queue takes, settles and adds up.
func (r *faultRun) verify(when string) {
	r.t.Helper()
	for _, c := range r.q.Cases() {
		if err := r.q.Release(c.Place); err != nil {
			r.t.Fatalf("%s: release: %v", when, err)
		}
	}
	found := map[uint64]int{}
	for _, ids := range pendingIDs(r.t, r.q) {
		for _, id := range ids {
			found[id]++
		}
	}
	for id := range r.want {
		if found[id] != 1 {
			r.t.Fatalf("%s: message %d is there %d times, want once", when, id, found[id])
		}
	}
	for id, n := range found {
		if !r.want[id] && !r.maybe[id] || n > 1 {
			r.t.Fatalf("%s: message %d is there %d times, and should not be", when, id, n)
		}
	}
	checkFrameBlobs(r.t, r.q)
	checkTotals(r.t, r.q)
	if err := r.append("after", 1); err != nil {
		r.t.Fatalf("%s: append after the failure: %v", when, err)
	}
}

// TestEveryStorageFailureIsSurvived makes the 1st, 2nd, 3rd... storage
// operation of each of the queue's operations fail, and every fifth from the
// tenth on, until it passes untouched.
func TestEveryStorageFailureIsSurvived(t *testing.T) {
	for name, operation := range faultOperations() {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				if n > 10 { // the long operations repeat themselves
					n += 4
				}
				if n > 400 {
					t.Fatal("the operation never passes untouched")
				}
				if !runWithFault(t, n, operation) {
					if n < 2 && name != "lease" {
						t.Fatal("the operation does not touch storage: nothing was tested")
					}
					return
				}
			}
		})
	}
}

func runWithFault(t *testing.T, n int, operation func(*faultRun) error) (failed bool) {
	f := newFaulty()
	cfg := smallConfig(t.TempDir())
	cfg.ShelveAfter = 1
	f.install(&cfg)
	r := &faultRun{t: t, q: mustOpen(t, cfg), want: map[uint64]bool{}, maybe: map[uint64]bool{}}
	for range 3 {
		for _, lane := range []string{"a", "b"} {
			if err := r.append(lane, 3); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.appendBlobs("blobs", 2); err != nil {
		t.Fatal(err)
	}
	f.arm(n)
	err := operation(r)
	failed = f.failed.Load()
	f.left.Store(-1)
	if err != nil && !failed {
		t.Fatalf("failed without a fault: %v", err)
	}
	for range 2 {
		if err := r.q.keep(); err != nil {
			t.Fatalf("keep after fault %d: %v", n, err)
		}
	}
	r.verify(fmt.Sprintf("after fault %d (%v)", n, err))
	if err := r.q.Close(); err != nil {
		t.Fatalf("close after fault %d: %v", n, err)
	}
	r.q = mustOpen(t, cfg)
	r.verify(fmt.Sprintf("reopened after fault %d", n))
	if err := r.q.Close(); err != nil {
		t.Fatal(err)
	}
	return failed
}

func faultOperations() map[string]func(*faultRun) error {
	deliver := func(_ []uint64, i int) Settlement { return Settlement{Frame: i, Result: ResultDelivered} }
	return map[string]func(*faultRun) error{
		"append": func(r *faultRun) error { return r.append("a", 2) },
		"lease": func(r *faultRun) error {
			return r.settle("a", func(_ []uint64, i int) Settlement { return deliver(nil, i) })
		},
		"blob": func(r *faultRun) error { return r.appendBlobs("b", 2) },
		"settle blobs": func(r *faultRun) error {
			return r.settle("blobs", deliver)
		},
		"settle": func(r *faultRun) error { return r.settle("a", deliver) },
		"split": func(r *faultRun) error {
			return r.settle("a", func(ids []uint64, i int) Settlement {
				s := Settlement{Frame: i, Result: ResultReplaced, Delivered: 1}
				for _, id := range ids[1:] {
					s.Parts = append(s.Parts, Part{Payload: message(id, 3000), Items: 1, Traces: []TraceID{traceOf(id)}})
				}
				return s
			})
		},
		"case": func(r *faultRun) error {
			place, err := r.q.OpenCase(Case{Kind: CaseQuarantine})
			if err != nil {
				return err
			}
			err = r.settle("a", func(_ []uint64, i int) Settlement { return Settlement{Frame: i, Result: ResultKept, Place: place} })
			return errors.Join(err, r.q.Release(place))
		},
		"hold": func(r *faultRun) error {
			place, err := r.q.OpenCase(Case{Kind: CaseHold})
			if err != nil {
				return err
			}
			err = r.appendTogether(place)
			var errs []error
			for _, back := range []Settlement{{Result: ResultKept, Place: place}, {Result: ResultPending}} {
				from := Pending
				if back.Result == ResultPending {
					from = place
				}
				errs = append(errs, r.settleAt("a", from, func(_ []uint64, i int) Settlement {
					s := back
					s.Frame = i
					return s
				}))
			}
			errs = append(errs, r.settle("a", func(_ []uint64, i int) Settlement { return Settlement{Frame: i, Result: ResultKept, Place: place} }),
				r.settleAt("a", place, func(ids []uint64, i int) Settlement {
					s := Settlement{Frame: i, Result: ResultReplaced}
					for j, id := range ids {
						p := Part{Payload: message(id, 3000), Items: 1, Traces: []TraceID{traceOf(id)}}
						if j%2 == 0 {
							p.Place = place
						}
						s.Parts = append(s.Parts, p)
					}
					return s
				}), r.q.Release(place))
			return errors.Join(append(errs, err)...)
		},
		"rotate": func(r *faultRun) error {
			var errs []error
			for range 12 {
				errs = append(errs, r.append("a", 4), r.q.keep())
			}
			return errors.Join(errs...)
		},
		"shelve": func(r *faultRun) error {
			var errs []error
			for range 6 {
				errs = append(errs, r.append("a", 4), r.append("b", 1))
			}
			errs = append(errs, r.settle("a", deliver))
			for range 8 {
				errs = append(errs, r.append("c", 4), r.q.keep())
			}
			return errors.Join(errs...)
		},
		"open": func(r *faultRun) error {
			if err := r.q.Close(); err != nil {
				return err
			}
			q, err := Open(r.q.cfg)
			if err == nil {
				r.q = q
				return nil
			}
			if again, err := Open(r.q.cfg); err == nil {
				r.q = again
			} else {
				r.t.Fatalf("open after a failed open: %v", err)
			}
			return err
		},
	}
}

// TestCommitIsNotAcknowledgedWhenTheDatabaseLogsAnError covers the sync of
// Badger's value log, whose error is logged and not returned.
func TestCommitIsNotAcknowledgedWhenTheDatabaseLogsAnError(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	cfg.Logger = nil
	var stores []*badgerStore
	cfg.open = func(dir string, mode storeMode, c storeConfig) (store, error) {
		s, err := openBadger(dir, mode, c)
		if err == nil {
			stores = append(stores, s.(*badgerStore))
		}
		return s, err
	}
	q := mustOpen(t, cfg)
	mustAppend(t, q, export("a", 10, 1))
	failing := stores[len(stores)-1]
	log := badgerLog{logger: q.cfg.Logger, dir: failing.dir, failed: &failing.failed}
	log.Errorf("sync of value log failed: %v", errInjected)
	mustAppend(t, q, export("a", 10, 2))
	if n := len(stores); n < 2 || q.active.store == store(failing) {
		t.Fatalf("the commit was acknowledged by the segment whose sync failed")
	}
	if diff := cmp.Diff(map[string][]uint64{"a": {1, 2}}, pendingIDs(t, q)); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
}

// TestSpareThatCameLateIsNotUsed: the committer, finding no spare, makes its
// own segment while the keeper is making one with a lower number. Using that
// one afterwards would hide everything in it from recovery.
func TestSpareThatCameLateIsNotUsed(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	q := mustOpen(t, cfg)
	early, err := q.createSegment(false)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.rotate(); err != nil {
		t.Fatal(err)
	}
	q.spare = early
	if err := q.rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, export("a", 10, 1))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, cfg)
	if got := slices.Concat(settleAll(t, q)); !slices.Equal(got, []uint64{1}) {
		t.Errorf("after reopening the queue has %v, want [1]", got)
	}
}
