package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// What a person does with quarantine: look, release, discard, take out.

// CaseState says who has to act about a case.
type CaseState string

// The states of a case. They are stable words.
const (
	// CaseProbing: weir tries by itself, and releases the case once the cause is
	// gone.
	CaseProbing CaseState = "probing"
	// CaseNeedsPerson: it will not heal by itself.
	CaseNeedsPerson CaseState = "needs_person"
	// CaseReleasing: somebody released or discarded it, and that is being done.
	CaseReleasing CaseState = "releasing"
)

// CaseStatus is one case for people.
type CaseStatus struct {
	queue.Case
	Refusal   Refusal
	Diagnosis diagnose.Diagnosis
	State     CaseState
	// FirstSeen and LastSeen are when the upstream refused the first and the
	// latest of it.
	FirstSeen, LastSeen time.Time
	// NextProbe is when weir tries again by itself; zero if it does not.
	NextProbe time.Time
	// WaitingItems are pending behind it in its lane, and go once it heals.
	WaitingItems int64
	// Of is its lane; nil for one of an unknown lane.
	Of *LaneStatus
}

// Errors of what a person asks of a case.
var (
	// ErrNoCase is returned for a case that is not there, or not any more.
	ErrNoCase = errors.New("there is no such case in quarantine")
	// ErrCaseBusy is returned while somebody else releases or discards a case.
	ErrCaseBusy = errors.New("it is being released or discarded already")
)

// damageDiagnosis is the diagnosis of what cannot be read back from disk.
func damageDiagnosis() diagnose.Diagnosis {
	return diagnose.Diagnosis{Causes: []diagnose.Cause{{
		Code: diagnose.Unreadable, Confidence: diagnose.Certain,
		Evidence: []string{"What is on weir's disk does not match its checksum; the upstream never saw it."},
		Remedy:   "Check the disk and the memory of this machine. What the damaged frames held is lost; discard the case once you know why.",
	}}}
}

// healing is what the case waits for.
func (s *CaseStatus) healing() healing {
	return caseKey{reason: s.Refusal.Reason, heals: s.Refusal.Heals}.healing()
}

// beginCasework marks a case as being worked on by somebody.
func (f *Forwarder) beginCasework(p queue.Place) (end func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.casework[p] {
		return nil, fmt.Errorf("case %d: %w", p, ErrCaseBusy)
	}
	if f.casework == nil {
		f.casework = map[queue.Place]bool{}
	}
	f.casework[p] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.casework, p)
	}, nil
}

// Release is a release of a case that a person asks for.
type Release struct {
	// AsOwnKey sends the data under weir's own key and in its workspace, also
	// what its caller sent under a key of its own. Of a case that heals with its
	// lane that includes what waits behind it.
	AsOwnKey bool
	// DryRun changes nothing.
	DryRun bool
}

// Released says what a release did, or would do.
type Released struct {
	Case  CaseStatus // as it was
	Items int64      // pending again, those that waited behind the case not included
	// Waiting are items that waited behind the case and go with it.
	Waiting int64
}

// ReleaseCase makes what a case holds pending again, durably, and has it tried
// at once. It returns ErrNoCase and ErrCaseBusy. With Release.AsOwnKey a large
// case takes a while; what is cut short has moved some of it and left the rest
// where it was, and can be asked for again.
func (f *Forwarder) ReleaseCase(ctx context.Context, p queue.Place, r Release) (Released, error) {
	c, err := f.Case(p)
	if err != nil {
		return Released{}, err
	}
	out := Released{Case: c, Items: c.Items}
	if c.healing() == healsWithLane {
		out.Waiting = c.WaitingItems
	}
	from, to, moves := f.ownLane(&c)
	if r.AsOwnKey && c.Of == nil {
		return out, fmt.Errorf("case %d: what it holds came from a lane that is not known, so it cannot be sent under another key", p)
	}
	if r.DryRun {
		return out, nil
	}
	end, err := f.beginCasework(p)
	if err != nil {
		return out, err
	}
	defer end()
	if r.AsOwnKey && moves {
		m := mover{f: f, c: &c, from: from, to: to}
		out.Items, out.Waiting, err = m.move(ctx)
	} else {
		err = f.cases.releaseAt(p)
	}
	if err != nil {
		return out, fmt.Errorf("release case %d: %w", p, err)
	}
	f.tryAtOnce(c.Lane, from)
	f.cfg.Logger.Info("a case is released by hand", "case", p, "lane", c.Lane, "items", out.Items, "as_own_key", r.AsOwnKey && moves)
	return out, nil
}

// OwnKey reports whether data of the lane goes under weir's own key and in its
// workspace, whatever they are.
func (l Lane) OwnKey() bool { return l.Credential == refKey && l.Workspace == refWorkspace }

// ownLane is the lane of a case, and the same under weir's own key and workspace;
// moves is false where that is the same.
func (f *Forwarder) ownLane(c *CaseStatus) (from, to Lane, moves bool) {
	if c.Of == nil {
		return from, to, false
	}
	from = c.Of.Lane
	to = from
	to.Credential, to.Workspace = refKey, refWorkspace
	return from, to, from != to
}

// tryAtOnce ends the waiting of a lane and of its key, for one request to find
// out. What waits for the upstream or for a limit waits on.
func (f *Forwarder) tryAtOnce(id queue.LaneID, lane Lane) {
	f.mu.Lock()
	if r := f.lanes[id]; r != nil {
		r.releaseFrom, r.laterFrom, r.pausedUntil, r.laterTries = time.Time{}, time.Time{}, time.Time{}, 0
	}
	f.mu.Unlock()
	f.waits.wakeOnly(credentialWait(lane), laneWait(id))
	f.poke()
}

// wakeOnly makes the waits under keys due now.
func (w *waits) wakeOnly(keys ...waitKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if one := w.m[k]; one != nil {
			one.Until = time.Time{}
		}
	}
}

// releaseAt makes what a case holds pending again, whatever its cause.
func (b *caseBook) releaseAt(p queue.Place) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.q.Release(p); err != nil {
		return err
	}
	b.forgetAtLocked(p)
	return nil
}

// forgetAt has nothing more go into a case. What is on its way there may still
// come. With undo the case is known again, unless there is another for its cause.
func (b *caseBook) forgetAt(p queue.Place) (undo func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fd := b.findings[p]
	was := fd != nil && fd.parsed && b.known[fd.key()] == p
	b.forgetAtLocked(p)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !was || b.known[fd.key()] != queue.Pending {
			return
		}
		b.knowLocked(fd.key(), p)
		b.findings[p] = fd
	}
}

// forgetAtLocked forgets the case at a place. mu is held.
func (b *caseBook) forgetAtLocked(p queue.Place) {
	if fd := b.findings[p]; fd != nil && fd.parsed && b.known[fd.key()] == p {
		b.forgetLocked(fd.key(), p)
	}
}
