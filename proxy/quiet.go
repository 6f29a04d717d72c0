package proxy

import (
	"fmt"
	"slices"

	"weir/queue"
)

// What may have arrived is noted for each trace in the ledger, when an answer
// has come or failed to. A kill leaves open only what was under way: in a lane
// of run operations, the request or the few of one round. Those are among the
// oldest of the lane, so that they are in its first lease after the start.
//
// A lane that waits has nothing under way, and may wait for days. A note says
// so while it does, or every reboot of a machine that is offline would leave
// open whether its oldest data has arrived.
const quietNotes = "quiet/"

// readQuiet finds the lanes in which something was under way when the process
// before this one ended.
func (a *attempts) readQuiet() {
	for lane := range a.before {
		a.suspect[lane] = true
	}
	for name := range a.q.Notes(quietNotes) {
		var lane queue.LaneID
		if _, err := fmt.Sscanf(name, quietNotes+"%d", &lane); err == nil {
			a.quiet[lane] = true
			delete(a.suspect, lane)
		}
	}
}

func quietNote(lane queue.LaneID) string { return fmt.Sprint(quietNotes, lane) }

// isSuspect reports whether it is open what of the lane's oldest has arrived.
func (a *attempts) isSuspect(lane queue.LaneID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.suspect[lane]
}

// stir says that something of the lane may be under way from now on. Durable.
func (a *attempts) stir(lane queue.LaneID) error {
	a.mu.Lock()
	quiet := a.quiet[lane]
	a.mu.Unlock()
	if !quiet {
		return nil
	}
	if err := a.q.SetNote(quietNote(lane), nil); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.quiet, lane)
	return nil
}

// rest says that nothing of the lane is under way, and what may have arrived is
// in the ledger.
func (a *attempts) rest(lane queue.LaneID) {
	a.mu.Lock()
	quiet := a.quiet[lane]
	a.mu.Unlock()
	if quiet || a.q.SetNote(quietNote(lane), []byte{1}) != nil {
		return // without the note, more is taken for attempted after a kill
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quiet[lane] = true
}

// forgetQuiet drops the note of a lane that is gone.
func (a *attempts) forgetQuiet(lane queue.LaneID) {
	_ = a.stir(lane) // a note of a lane that is gone says what is true
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.suspect, lane)
}

// settleSuspicion notes of what may have been under way when the process before
// this one ended that it may have arrived.
func (f *Forwarder) settleSuspicion(s *sending) error {
	lane := s.lease.Lane
	if !f.attempts.isSuspect(lane) {
		return nil
	}
	var ids []TraceID
	for i, known := range f.attempts.of(s.lease) {
		if known.earlier {
			ids = append(ids, s.lease.Frames[i].Traces...)
		}
	}
	slices.SortFunc(ids, func(a, b TraceID) int { return slices.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	err := f.accounts.with(s.lane, func(account string) error { return f.guard.Attempted(account, ids) })
	if err != nil {
		return fmt.Errorf("note what may have arrived before the restart: %w", err)
	}
	f.attempts.mu.Lock()
	defer f.attempts.mu.Unlock()
	delete(f.attempts.suspect, lane)
	return nil
}
