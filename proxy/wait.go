package proxy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// Pauses between attempts. Outages are retried for as long as it takes; what a
// person must mend is probed less often.
const (
	retryFloor = 200 * time.Millisecond
	retryBase  = time.Second
	retryCap   = time.Minute
	probeBase  = 2 * time.Second // refused access: short bursts of 403 heal by themselves
	probeCap   = 5 * time.Minute
	waitNotes  = "wait/"
)

// wait is a pause before the next attempt, owned by whatever refused: the
// upstream, a credential, or a lane. It is kept as a note of the queue, so a
// restart waits on.
type wait struct {
	Scope   string    `json:"scope"` // upstream, credential, lane
	Reason  string    `json:"reason"`
	Detail  string    `json:"detail,omitempty"` // a sentence, redacted
	Cause   string    `json:"cause,omitempty"`  // a code of diagnose
	Remedy  string    `json:"remedy,omitempty"` // where a person has to do something
	Refused bool      `json:"refused,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Attempt int       `json:"attempt"`

	renewed time.Time // when it was last extended by a failure
	named   bool      // the server named the pause
	probing bool      // a single request is under way to see whether it is over
}

// waitKey names the owner of a wait.
type waitKey string

const upstreamWait waitKey = "upstream"

func credentialWait(l Lane) waitKey { return waitKey("credential/" + l.Credential + "/" + l.Workspace) }

// waitKeys are the owners of the waits that a lane is subject to.
func (f *Forwarder) waitKeys(l Lane, id queue.LaneID) []waitKey {
	return []waitKey{upstreamWait, accountWait(f.accounts.name(l)), credentialWait(l), laneWait(id)}
}

func laneWait(id queue.LaneID) waitKey {
	return waitKey(fmt.Sprintf("lane/%d", id))
}

// waits holds the waits in force. Its methods may be called from any number
// of goroutines.
type waits struct {
	q   *queue.Queue
	now func() time.Time

	mu sync.Mutex // guards m and the waits in it
	m  map[waitKey]*wait
}

func newWaits(q *queue.Queue, now func() time.Time) *waits {
	w := &waits{q: q, now: now, m: map[waitKey]*wait{}}
	for name, b := range q.Notes(waitNotes) {
		var one wait
		if json.Unmarshal(b, &one) != nil {
			continue // of a later version: begin without it
		}
		if limit := now().Add(one.bound()); one.Until.After(limit) {
			one.Until = limit // the clock was set back, or is yet to be set
		}
		w.m[waitKey(name[len(waitNotes):])] = &one
	}
	return w
}

// maxWait bounds any wait, whatever a server or a stepped clock says: the
// longest a server can ask for, with its jitter.
const maxWait = time.Hour + 10*time.Second

// maxAccountWait bounds the wait of an account: a month and a little.
const maxAccountWait = 32 * 24 * time.Hour

// bound is the longest that a wait can be.
func (w *wait) bound() time.Duration {
	if w.Scope == ScopeAccount.String() {
		return maxAccountWait
	}
	return maxWait
}

// due reports whether requests under the keys may go now; if not, until when
// they wait (zero while a probe decides). With probe, one request may go to
// see whether the wait is over.
func (w *waits) due(keys []waitKey) (ok, probe bool, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	for _, k := range keys {
		one := w.m[k]
		switch {
		case one == nil:
		case one.probing:
			return false, false, time.Time{}
		case one.Until.After(now):
			if one.Until.After(until) {
				until = one.Until
			}
		default:
			probe = true
		}
	}
	if !until.IsZero() {
		return false, false, until
	}
	return true, probe, time.Time{}
}

// beginProbe marks the waits that have run out as being probed.
func (w *waits) beginProbe(keys []waitKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if one := w.m[k]; one != nil {
			one.probing = true
		}
	}
}

// endProbe lets the waits that a probe has not settled be probed again.
func (w *waits) endProbe(keys []waitKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if one := w.m[k]; one != nil {
			one.probing = false
		}
	}
}

// failed begins or extends a wait because of a request started at began. Of
// several requests that met the same trouble at once, only the first counts.
func (w *waits) failed(k waitKey, o *Outcome, began time.Time) {
	w.mu.Lock()
	now := w.now()
	one := w.m[k]
	if one != nil && one.renewed.After(began) {
		w.mu.Unlock()
		return
	}
	if one == nil {
		one = &wait{Since: now}
		w.m[k] = one
	}
	one.Scope, one.Reason, one.Detail = o.Scope.String(), o.Reason, sentence(o)
	one.Refused = o.Kind == Refused
	one.renewed, one.probing = now, false
	one.named = o.Kind == Retry && o.RetryAfter > 0
	one.Until = now.Add(min(pause(one, o, rand.Float64()), one.bound()))
	one.Attempt++
	note, err := json.Marshal(one)
	w.mu.Unlock()
	if err == nil {
		// A wait that cannot be written is still waited out by this process.
		_ = w.q.SetNote(waitNotes+string(k), note)
	}
}

// explain notes why there is a wait, and what to do about it.
func (w *waits) explain(k waitKey, cause, remedy string) {
	w.mu.Lock()
	one := w.m[k]
	if one == nil || one.Cause == cause && one.Remedy == remedy {
		w.mu.Unlock()
		return
	}
	one.Cause, one.Remedy = cause, remedy
	note, err := json.Marshal(one)
	w.mu.Unlock()
	if err == nil {
		_ = w.q.SetNote(waitNotes+string(k), note) // else it is explained again
	}
}

// pause is how long to wait after one more failure: the server's own wait with
// a little jitter on top, or exponential backoff with full jitter.
func pause(one *wait, o *Outcome, random float64) time.Duration {
	if o.Kind == Retry && o.RetryAfter > 0 {
		return o.RetryAfter + time.Duration(random*float64(min(o.RetryAfter/10, 10*time.Second)))
	}
	base, limit := retryBase, retryCap
	if o.Kind == Refused {
		base, limit = probeBase, probeCap
	}
	d := limit
	if one.Attempt < 16 {
		d = min(limit, base<<one.Attempt)
	}
	return max(retryFloor, time.Duration(random*float64(d)))
}

// succeeded ends the waits under the keys: a request started at began came
// through. One that was under way already when the server named a pause, or
// refused a key, says nothing about that. It returns the waits that it ended.
func (w *waits) succeeded(keys []waitKey, began time.Time) (over []wait) {
	w.mu.Lock()
	var ended []waitKey
	for _, k := range keys {
		if one := w.m[k]; one != nil && !(one.definite() && one.renewed.After(began)) {
			delete(w.m, k)
			ended, over = append(ended, k), append(over, *one)
		}
	}
	w.mu.Unlock()
	for _, k := range ended {
		_ = w.q.SetNote(waitNotes+string(k), nil) // a stale note costs one early probe
	}
	return over
}

// definite reports whether a wait is for what the upstream said, not for what it
// failed to do: that one request of several fails tells little of the others.
func (w *wait) definite() bool {
	return w.named || w.Refused || w.Reason == string(diagnose.UpstreamIncident)
}

// end ends the wait under a key if it is for a reason.
func (w *waits) end(k waitKey, reason string) {
	w.endIf(k, func(one *wait) bool { return one.Reason == reason })
}

// endQuota ends the wait under a key if a limit is the reason.
func (w *waits) endQuota(k waitKey) {
	w.endIf(k, func(one *wait) bool { return quotaReasons[one.Reason] != "" })
}

func (w *waits) endIf(k waitKey, ends func(*wait) bool) {
	w.mu.Lock()
	one := w.m[k]
	ended := one != nil && ends(one)
	if ended {
		delete(w.m, k)
	}
	w.mu.Unlock()
	if ended {
		_ = w.q.SetNote(waitNotes+string(k), nil) // a stale note costs one early probe
	}
}

// move has the wait under a key be another's, unless that one waits already.
func (w *waits) move(from, to waitKey) {
	w.mu.Lock()
	one := w.m[from]
	if one == nil || from == to {
		w.mu.Unlock()
		return
	}
	delete(w.m, from)
	var note []byte
	if w.m[to] == nil {
		one.probing = false // the probe knows it by its old name
		w.m[to] = one
		note, _ = json.Marshal(one) // strings and times: cannot fail
	}
	w.mu.Unlock()
	if note != nil {
		_ = w.q.SetNote(waitNotes+string(to), note) // else this process waits it out all the same
	}
	_ = w.q.SetNote(waitNotes+string(from), nil)
}

// get returns the wait under a key.
func (w *waits) get(k waitKey) (wait, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.m[k]; one != nil {
		return *one, true
	}
	return wait{}, false
}

// hasten ends waits for a key in doubt no later than at a time.
func (w *waits) hasten(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.m {
		if one.Reason == string(diagnose.UpstreamIncident) && one.Until.After(at) {
			one.Until = at
		}
	}
}

// wake makes every wait due now.
func (w *waits) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.m {
		one.Until = time.Time{}
	}
}

// wakeRefusedKeys makes the waits due now of keys that are refused.
func (w *waits) wakeRefusedKeys() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.m {
		if one.Scope == ScopeCredential.String() && !one.named {
			one.Until = time.Time{}
		}
	}
}

// sentence says what happened, for status and logs.
func sentence(o *Outcome) string {
	x := &o.Exchange
	switch {
	case x.Error != "":
		return x.Error
	case x.Status != 0 && x.Body != "":
		return fmt.Sprintf("HTTP %d: %s", x.Status, clip(strings.TrimSpace(x.Body), 200))
	case x.Status != 0:
		return fmt.Sprintf("HTTP %d", x.Status)
	default:
		return o.Reason
	}
}

// clip cuts s to n bytes, at a character's edge.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
