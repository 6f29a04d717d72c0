package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/proxy/diagnose"
	"weir/queue"
)

// service is a LangSmith that says who is taken, and answers questions.
type service struct {
	mu      sync.Mutex // guards what follows
	status  map[string]int
	tenant  map[string]string
	reads   func(q *Question) Answer // nil: by the key
	regions map[string]int
	asked   map[string]int
	now     func() time.Time
}

const forbidden = `{"error":"Forbidden"}` + "\n"

func newService() *service {
	return &service{status: map[string]int{}, tenant: map[string]string{}, regions: map[string]int{}, asked: map[string]int{}, now: time.Now}
}

// takes says how requests with a key are answered.
func (s *service) takes(key string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[key] = status
}

func (s *service) answerReads(fn func(q *Question) Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = fn
}

func (s *service) answer(r *Request, _ []string) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch status := s.status[r.APIKey]; status {
	case 0, http.StatusOK:
		return Outcome{Kind: Delivered, Reason: "ok", Exchange: Exchange{Time: s.now(), Status: 200}}
	default:
		out := refused(RefusedAccess, status)
		out.Exchange.Time, out.Exchange.URL, out.Exchange.Body = s.now(), "https://upstream.test/otel/v1/traces", forbidden
		return out
	}
}

func (s *service) Ask(_ context.Context, q *Question) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[q.Base+q.Path]++
	if q.Base != "" {
		return Answer{Status: s.regions[q.Base], Body: []byte(`[]`)}
	}
	if s.reads != nil {
		return s.reads(q)
	}
	if status := s.status[q.APIKey]; status >= 300 && q.Path != pathInfo {
		return Answer{Status: status, Body: []byte(forbidden)}
	}
	if tenant := s.tenant[q.APIKey]; q.Path == pathTenant && tenant != "" {
		return Answer{Status: 200, Body: []byte(`[{"tenant_id":"` + tenant + `"}]`)}
	}
	return Answer{Status: 200, Body: []byte(`[]`)}
}

// ward is a rig with a service to ask, and its log.
type ward struct {
	*rig

	service *service
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) lines(with string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func newWard(t *testing.T, change func(*ForwardConfig)) *ward {
	t.Helper()
	s := newService()
	up := newFakeUpstream()
	up.set(s.answer)
	w := &ward{rig: newRig(t, up), service: s, log: &lockedBuffer{}}
	w.reopen(func() {
		w.dest.APIKey, w.dest.Workspace = ownKey, ""
		w.cfg.Asker, w.cfg.AskUsage, w.cfg.Logger = s, true, slog.New(slog.NewTextHandler(w.log, nil))
		if change != nil {
			change(&w.cfg)
		}
	})
	w.f.Start(t.Context())
	return w
}

const (
	ownKey   = "lsv2_pt_0123456789abcdef0123456789abcdef_0000000001"
	otherKey = "lsv2_pt_0123456789abcdef0123456789abcdef_0000000002"
	thirdKey = "lsv2_pt_0123456789abcdef0123456789abcdef_0000000003"
)

// cause waits until the only case has a first cause.
func (w *ward) cause(want diagnose.Code) finding {
	w.t.Helper()
	var last string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		last = ""
		for _, fd := range w.f.cases.healing() {
			if fd.Diagnosis.Top().Code == want {
				return fd
			}
			last += fmt.Sprintf("%+v\n", fd.Diagnosis.Causes)
		}
		w.f.pokeMedic()
		select {
		case <-w.up.arrived:
		case <-time.After(5 * time.Millisecond):
		}
	}
	w.t.Fatalf("no case is due to %s: %s", want, last)
	return finding{}
}

// wasTaken reports whether a cause says that the key was taken before.
func wasTaken(c diagnose.Cause) bool {
	return strings.Contains(strings.Join(c.Evidence, "\n"), "was taken until")
}

func TestARevokedKeyIsOneCaseAndOneLine(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.accept(Caller{}, "one:1")
	w.allDelivered(1)
	w.service.takes(ownKey, http.StatusForbidden)
	for n := range 20 {
		w.accept(Caller{}, fmt.Sprintf("more:%d", n))
	}
	fd := w.cause(diagnose.KeyRevoked)
	if top := fd.Diagnosis.Top(); top.Confidence != diagnose.Likely || !wasTaken(top) {
		t.Errorf("diagnosis %+v", top)
	}
	for range 5 { // it is refused over and over
		w.f.Wake()
		w.until("the lane to be refused again", func(t queue.Totals) bool { return t.Pending == 0 || t.Quarantined > 0 })
	}
	if n := w.log.lines("level=WARN"); n > 2 { // opened, and what the probes found
		t.Errorf("%d lines about one case:\n%s", n, w.log.b.String())
	}
	want := `# HELP weir_quarantine_cases Open cases, by cause (docs/diagnosis.md) and state: probing (weir tries by itself), needs_person, releasing.
# TYPE weir_quarantine_cases gauge
weir_quarantine_cases{cause="key_revoked",state="probing"} 1
`
	if err := testutil.CollectAndCompare(newCaseCollector(w.f.caseTallies), strings.NewReader(want), "weir_quarantine_cases"); err != nil {
		t.Error(err)
	}
	if p := w.f.Status(w.a).Problems; len(p) != 1 || !strings.Contains(p[0], "key_revoked, likely") || !strings.Contains(p[0], "Create a new key") {
		t.Errorf("problems: %q", p)
	}
	if len(w.f.Status(w.a).Cases) != 1 {
		t.Errorf("cases: %+v", w.f.Status(w.a).Cases)
	}
	w.f.SetDestination(Destination{UpstreamURL: w.dest.UpstreamURL, APIKey: otherKey, Project: "own-project"})
	w.allDelivered(21)
	if left := w.q.Notes(diagnosisNotes); len(left) != 0 {
		t.Errorf("notes of cases that are gone: %v", left)
	}
}

func TestALastSuccessIsRememberedAcrossARestart(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.accept(Caller{}, "one:1")
	w.allDelivered(1)
	w.reopen(func() {})
	w.service.takes(ownKey, http.StatusForbidden)
	w.f.Start(t.Context())
	w.accept(Caller{}, "two:1")
	if fd := w.cause(diagnose.KeyRevoked); !wasTaken(fd.Diagnosis.Top()) {
		t.Errorf("it is not known that the key was taken before: %+v", fd.Diagnosis)
	}
}

func TestAnIncidentIsAnOutage(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.accept(Caller{}, "one:1")
	w.allDelivered(1)
	w.service.answerReads(func(*Question) Answer { return Answer{Status: 500, Body: []byte("Internal Server Error")} })
	w.service.takes(ownKey, http.StatusForbidden)
	w.accept(Caller{}, "two:1")
	w.until("it to be refused", func(queue.Totals) bool { return w.up.count() > 3 })
	w.f.Wake()
	w.accept(Caller{}, "three:1")
	w.until("the incident to be known", func(queue.Totals) bool {
		for _, l := range w.f.Status(w.a).Lanes {
			if l.Reason == string(diagnose.UpstreamIncident) {
				return true
			}
		}
		return false
	})
	if cases := w.f.Status(w.a).Cases; len(cases) != 0 {
		t.Errorf("an incident opens cases: %+v", cases)
	}
	for _, p := range w.f.Status(w.a).Problems {
		if strings.Contains(p, "key") {
			t.Errorf("a person is asked to do something: %s", p)
		}
	}
	w.service.answerReads(nil)
	w.service.takes(ownKey, http.StatusOK)
	w.f.Wake()
	w.allDelivered(3)
	if cases := w.f.Status(w.a).Cases; len(cases) != 0 {
		t.Errorf("cases are left: %+v", cases)
	}
	w.until("the log to say that it is over", func(queue.Totals) bool { return w.log.lines("takes data again") > 0 })
}

func TestAnIncidentThatIsOverLeavesTheKeysOwnFault(t *testing.T) {
	t.Parallel()
	clock := &aheadClock{}
	w := newWard(t, func(c *ForwardConfig) { c.Now = clock.now })
	w.service.now = clock.now
	w.accept(Caller{}, "one:1")
	w.allDelivered(1)
	w.service.answerReads(func(*Question) Answer { return Answer{Status: 500} })
	w.service.takes(ownKey, http.StatusForbidden)
	w.accept(Caller{}, "two:1")
	w.until("the incident to be known", func(queue.Totals) bool {
		return w.f.history.reads(w.f.accounts.own()) != nil
	})
	w.service.answerReads(nil) // the service is well again, and refuses the key
	clock.ahead.Store(int64(time.Hour))
	w.f.Wake()
	w.cause(diagnose.KeyRevoked)
}

func TestKeysThatAreRefusedTogetherAreAnIncident(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.accept(Caller{}, "one:1")
	w.accept(Caller{APIKey: otherKey}, "two:1")
	w.accept(Caller{APIKey: thirdKey}, "three:1")
	w.allDelivered(3)
	for _, key := range []string{ownKey, otherKey, thirdKey} {
		w.service.takes(key, http.StatusForbidden)
	}
	w.accept(Caller{}, "one:2")
	w.until("the first to be refused", func(t queue.Totals) bool { return t.Quarantined == 1 })
	w.accept(Caller{APIKey: otherKey}, "two:2")
	w.accept(Caller{APIKey: thirdKey}, "three:2")
	w.cause(diagnose.UpstreamIncident)
	if n := len(w.f.Status(w.a).Cases); n != 1 {
		t.Errorf("%d cases of one incident, want that of the first key alone", n)
	}
	for _, key := range []string{ownKey, otherKey, thirdKey} {
		w.service.takes(key, http.StatusOK)
	}
	w.f.Wake()
	w.allDelivered(6)
}

func TestACallersKeyIsReplacedWithinItsTenantOnly(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	const tenant, stranger = "0c1b2a39-0000-4000-8000-00000000000a", "0c1b2a39-0000-4000-8000-00000000000b"
	w.service.tenant[otherKey], w.service.tenant[thirdKey], w.service.tenant[ownKey] = tenant, tenant, stranger
	w.accept(Caller{APIKey: otherKey}, "one:1")
	w.accept(Caller{}, "own:1")
	w.allDelivered(2)
	w.f.pokeWatch()
	w.until("tenants to be known", func(queue.Totals) bool { return len(w.f.accounts.unknown()) == 0 })
	w.service.takes(otherKey, http.StatusForbidden)
	w.accept(Caller{APIKey: otherKey}, "one:2")
	w.accept(Caller{}, "own:2")
	w.until("the old key to be refused", func(t queue.Totals) bool { return t.Quarantined == 1 && t.Delivered == 3 })
	w.f.Wake() // weir's own key is taken, but another tenant's
	w.accept(Caller{}, "own:3")
	w.until("weir's own data to go on", func(t queue.Totals) bool { return t.Delivered == 4 })
	if n := w.q.Stats().Totals.Quarantined + w.q.Stats().Totals.Pending; n != 1 {
		t.Fatalf("%d items wait under the old key, want 1", n)
	}
	w.accept(Caller{APIKey: thirdKey}, "one:3") // the application was restarted with a new key
	w.allDelivered(6)
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	if got := w.up.keys["one:2"]; !strings.HasPrefix(got, thirdKey) {
		t.Errorf("what waited under the old key went out as %s", KeyHint(got))
	}
	if got := w.up.keys["own:3"]; !strings.HasPrefix(got, ownKey) {
		t.Errorf("weir's own went out as %s", KeyHint(got))
	}
}

// TestAWorkspaceThatACallerNamesProvesNothing: whoever names somebody's workspace
// is not sent in that one's place, nor the other way round.
func TestAWorkspaceThatACallerNamesProvesNothing(t *testing.T) {
	t.Parallel()
	const tenant = "0c1b2a39-0000-4000-8000-00000000000a"
	w := newWard(t, nil)
	w.service.tenant[otherKey] = tenant
	w.accept(Caller{APIKey: otherKey}, "one:1")
	w.accept(Caller{APIKey: thirdKey, Workspace: tenant}, "stranger:1")
	w.allDelivered(2)
	w.f.pokeWatch()
	w.until("the tenant to be known", func(queue.Totals) bool { return len(w.f.accounts.unknown()) == 0 })
	w.service.takes(otherKey, http.StatusForbidden)
	w.accept(Caller{APIKey: otherKey}, "one:2")
	w.until("the key to be refused", func(t queue.Totals) bool { return t.Quarantined == 1 })
	w.accept(Caller{APIKey: thirdKey, Workspace: tenant}, "stranger:2")
	w.until("the stranger's data to arrive", func(t queue.Totals) bool { return t.Delivered == 3 })
	w.f.Wake()
	w.accept(Caller{APIKey: otherKey}, "one:3")
	w.accept(Caller{APIKey: thirdKey, Workspace: tenant}, "stranger:3")
	w.until("more of it to arrive", func(t queue.Totals) bool { return t.Delivered == 4 })
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	for line, key := range w.up.keys {
		if strings.HasPrefix(line, "one") && !strings.HasPrefix(key, otherKey) {
			t.Errorf("%s went out as %s", line, KeyHint(key))
		}
	}
}

func TestTheRegionThatKnowsAKeyIsNamed(t *testing.T) {
	t.Parallel()
	w := newWard(t, func(c *ForwardConfig) {
		c.ProbeRegions = []string{"https://eu.upstream.test", "https://apac.upstream.test"}
	})
	w.service.regions["https://eu.upstream.test"], w.service.regions["https://apac.upstream.test"] = 200, 403
	w.service.takes(ownKey, http.StatusForbidden)
	w.accept(Caller{}, "one:1")
	fd := w.cause(diagnose.RegionMismatch)
	if top := fd.Diagnosis.Top(); top.Confidence != diagnose.Certain || !strings.Contains(top.Remedy, "LANGSMITH_ENDPOINT=https://eu.upstream.test") {
		t.Errorf("diagnosis %+v", top)
	}
}

func TestRegionsAreAskedOnlyIfAllowed(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.service.takes(ownKey, http.StatusForbidden)
	w.accept(Caller{}, "one:1")
	w.cause(diagnose.KeyRevoked)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for what := range w.service.asked {
		if strings.HasPrefix(what, "https://") {
			t.Errorf("the key was sent to %s", what)
		}
	}
}

func TestAReplacedKeyIsNotTakenForAMissingOne(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.service.takes(ownKey, http.StatusForbidden)
	w.service.takes(otherKey, http.StatusForbidden)
	w.accept(Caller{}, "one:1")
	refused := w.cause(diagnose.KeyRevoked)
	w.f.SetDestination(Destination{UpstreamURL: w.dest.UpstreamURL, APIKey: otherKey, Project: "own-project"})
	if shape, _ := w.f.keyShape(refused.as); shape.Kind == diagnose.KeyNone {
		t.Errorf("the key that was replaced is %+v", shape)
	}
	newMedic(w.f).round(t.Context())
	w.cause(diagnose.KeyRevoked)
	if n := w.log.lines("cause=key_missing"); n > 0 {
		t.Errorf("the log says that there is no key:\n%s", w.log.b.String())
	}
}

// TestACaseIsNotProbedWithoutItsKey: once weir's own key was replaced, nobody has
// the one that was refused.
func TestACaseIsNotProbedWithoutItsKey(t *testing.T) {
	t.Parallel()
	w := newWard(t, nil)
	w.service.takes(ownKey, http.StatusForbidden)
	w.accept(Caller{}, "one:1")
	w.cause(diagnose.KeyRevoked)
	var keyless atomic.Int32
	w.service.answerReads(func(q *Question) Answer {
		if q.APIKey == "" && q.Path == pathTenant {
			keyless.Add(1)
		}
		return Answer{Status: http.StatusForbidden, Body: []byte(forbidden)}
	})
	w.f.dest.Store(&Destination{UpstreamURL: w.dest.UpstreamURL, APIKey: otherKey})
	m := newMedic(w.f)
	for place, fd := range w.f.cases.healing() { // as if it was due
		fd.Probes = diagnose.Probes{}
		w.f.cases.found(place, fd.Diagnosis, &fd.Probes, w.f.cfg.Now())
	}
	m.round(t.Context())
	for _, fd := range w.f.cases.healing() {
		if top := fd.Diagnosis.Top(); top.Code == diagnose.KeyMissing {
			t.Errorf("diagnosis %+v", top)
		}
	}
	if n := keyless.Load(); n > 0 {
		t.Errorf("%d reads were made without a key", n)
	}
}

// TestAnAnswerThatCrossesARefusalSaysNothingOfTheKey: what was sent before a key
// was refused, and is answered after it, neither clears the key nor ends its wait.
func TestAnAnswerThatCrossesARefusalSaysNothingOfTheKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, newFakeUpstream())
	began := time.Now()
	now := began
	h := newHistory(r.q, func() time.Time { return now })
	as := caller{credential: "key"}
	takenAt := func(sent time.Time) {
		h.saw(as, &Outcome{Kind: Delivered, Exchange: Exchange{Time: sent, Status: http.StatusOK}})
	}
	denied := refused(RefusedAccess, http.StatusForbidden)
	takenAt(began)
	now = began.Add(2 * time.Second)
	h.saw(as, &denied)
	r.f.waits.failed("credential/key", &denied, now)
	takenAt(began.Add(time.Second))
	if !h.doubted(as) {
		t.Error("the key is taken for well")
	}
	if over := r.f.waits.succeeded([]waitKey{"credential/key"}, began.Add(-time.Second)); len(over) > 0 {
		t.Errorf("its wait has ended: %+v", over)
	}
	takenAt(began.Add(3 * time.Second))
	if h.doubted(as) {
		t.Error("the key is in doubt although it was taken since")
	}
	if over := r.f.waits.succeeded([]waitKey{"credential/key"}, time.Now().Add(time.Second)); len(over) != 1 {
		t.Error("its wait goes on although data came through")
	}
}

// TestKeysThatAreMadeUpAreForgotten: whoever makes up keys, all of them refused,
// must not fill the memory, nor the queue's notes with ones that are taken.
func TestKeysThatAreMadeUpAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, newFakeUpstream())
	h := newHistory(r.q, time.Now)
	denied, taken := refused(RefusedAccess, http.StatusForbidden), Outcome{Kind: Delivered}
	for n := range maxHistory + 10 {
		h.saw(caller{credential: fmt.Sprint(n)}, &denied)
	}
	if len(h.keys) > maxHistory || h.refused != len(h.keys) {
		t.Errorf("%d keys are remembered, %d of them refused", len(h.keys), h.refused)
	}
	h.notes = maxAccepted - 1
	for n := range 3 {
		h.saw(caller{credential: fmt.Sprint("taken ", n)}, &taken)
	}
	if n := len(r.q.Notes(acceptedNotes)); n != 1 {
		t.Errorf("%d notes, want the one there was room for", n)
	}
	later := newHistory(r.q, func() time.Time { return time.Now().Add(acceptedFor + time.Hour) })
	if n := len(r.q.Notes(acceptedNotes)); n != 0 || later.notes != 0 {
		t.Errorf("%d notes of long ago are left", n)
	}
}

// TestASuccessorDoesNotEndOtherPauses: a new key wakes what waits for a key, and
// not what the upstream or a limit has wait.
func TestASuccessorDoesNotEndOtherPauses(t *testing.T) {
	t.Parallel()
	r := newRig(t, newFakeUpstream())
	began := time.Now()
	denied := refused(RefusedAccess, http.StatusForbidden)
	rate := Outcome{Kind: Retry, Reason: "rate", Scope: ScopeCredential, RetryAfter: time.Hour}
	limit := Outcome{Kind: Retry, Reason: "quota_month", Scope: ScopeAccount, RetryAfter: time.Hour}
	r.f.waits.failed("credential/refused", &denied, began)
	r.f.waits.failed("credential/rate", &rate, began)
	r.f.waits.failed("account/limit", &limit, began)
	r.f.wakeKeys()
	for key, due := range map[waitKey]bool{"credential/refused": true, "credential/rate": false, "account/limit": false} {
		if ok, _, _ := r.f.waits.due([]waitKey{key}); ok != due {
			t.Errorf("%s is due: %t, want %t", key, ok, due)
		}
	}
}
