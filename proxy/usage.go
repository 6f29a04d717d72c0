package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"weir/quota"
)

// Question is a read of LangSmith's API that weir makes for itself. It costs no
// trace.
type Question struct {
	Base      string // base URL of another region; empty: the upstream's
	Path      string // below the base URL, with its query
	APIKey    string
	Workspace string
	Body      []byte // JSON: it is a POST that only reads; nil: a GET
}

// Answer is what became of a Question.
type Answer struct {
	Status int       // 0: no answer came
	Body   []byte    // at most 1 MiB
	Date   time.Time // the server's; zero if it named none
	Err    error     // redacted
}

// Asker asks questions. Ask returns when the exchange has ended or ctx is done,
// after ten seconds at the latest. Any number of goroutines may call it.
type Asker interface {
	Ask(ctx context.Context, q *Question) Answer
}

// The reads that the watch makes (LangSmith API reference; none verified against
// the live service).
const (
	pathInfo   = "/info"
	pathTenant = "/sessions?limit=1"
	pathLimits = "/api/v1/workspaces/current/usage_limits"
	pathUsage  = "/api/v1/orgs/current/billing/granular-usage"
)

// How often is asked. A card that was added, or a limit that was raised, takes
// effect within two minutes (LangSmith docs: usage limits).
const (
	watchTick    = time.Second
	askFirst     = 5 * time.Second
	askCap       = 15 * time.Minute
	askTenantCap = time.Hour
	askUsage     = time.Hour
	trialEvery   = time.Hour // where LangSmith does not say
)

// watch asks LangSmith what it knows of the accounts in use. One goroutine runs
// it.
type watch struct {
	f     *Forwarder
	asker Asker

	next map[string]*schedule // by subject
}

// schedule is when something is asked next.
type schedule struct {
	at, set time.Time // set: when that was decided
	tries   int
	// denied: the key may not ask this.
	denied bool
	busy   bool // a refusal was known when it was last asked
}

// due reports whether it is time. A clock that was set back makes it so.
func (s *schedule) due(now time.Time) bool { return !s.at.After(now) || now.Before(s.set) }

// in puts off the next time.
func (s *schedule) in(now time.Time, d time.Duration) { s.at, s.set = now.Add(d), now }

// again puts off the next time, doubling up to a cap.
func (s *schedule) again(now time.Time, first, limit time.Duration) {
	d := limit
	if s.tries < 16 {
		d = min(limit, first<<s.tries)
	}
	s.tries++
	s.in(now, d)
}

func (w *watch) of(subject string) *schedule {
	s := w.next[subject]
	if s == nil {
		s = &schedule{}
		w.next[subject] = s
	}
	return s
}

// run works until ctx is done.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		w.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.f.watchWake:
		}
	}
}

func (w *watch) round(ctx context.Context) {
	if len(w.next) > 4*maxCachedLanes {
		clear(w.next) // keys come and go; it is asked again
	}
	w.date(ctx)
	if !w.f.cfg.AskUsage {
		return
	}
	for _, c := range w.f.accounts.unknown() {
		w.tenant(ctx, c)
	}
	for _, account := range w.f.accounts.all() {
		if ctx.Err() != nil {
			return
		}
		w.limits(ctx, account)
		w.usage(ctx, account)
	}
}

// ask asks, and tells the guard what the answer says about the time.
func (w *watch) ask(ctx context.Context, q *Question) Answer {
	a := w.asker.Ask(ctx, q)
	if a.Status != 0 {
		if err := w.f.guard.Observe(a.Date); err != nil {
			w.f.noteHoldError(err)
		}
	}
	return a
}

// date confirms the month, if that is wanted.
func (w *watch) date(ctx context.Context) {
	now := w.f.cfg.Now()
	s := w.of("date")
	if !w.f.guard.NeedsDate() || !s.due(now) {
		return
	}
	if a := w.ask(ctx, &Question{Path: pathInfo}); a.Status == 0 || w.f.guard.NeedsDate() {
		s.again(now, watchTick, time.Minute) // also if it was answered without a date
		return
	}
	*s = schedule{}
	for _, account := range w.f.accounts.all() {
		w.f.waits.end(accountWait(account), reasonMonth)
	}
	w.f.poke()
}

// tenant finds out whose a key is: every project names its tenant, which is how
// LangSmith's SDKs learn it, too (LangSmith SDK: client.py, _get_tenant_id).
func (w *watch) tenant(ctx context.Context, c caller) {
	now := w.f.cfg.Now()
	s := w.of("tenant " + c.upstream + c.credential)
	key, ok := w.f.accounts.key(c)
	if !ok || !s.due(now) {
		return
	}
	a := w.ask(ctx, &Question{Path: pathTenant, APIKey: key})
	var sessions []struct {
		TenantID string `json:"tenant_id"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &sessions) != nil || len(sessions) == 0 || sessions[0].TenantID == "" {
		s.again(now, askFirst, askTenantCap)
		return
	}
	before, after, err := w.f.accounts.learn(c, sessions[0].TenantID)
	if err != nil {
		w.f.noteHoldError(err)
		s.again(now, askFirst, askTenantCap)
		return
	}
	w.f.waits.move(accountWait(before), accountWait(after))
	w.f.pokeHold()
	w.f.poke()
}

// limits asks whether LangSmith refuses an account's data: at once after it was
// refused, then at growing intervals, and now and then for its limit.
func (w *watch) limits(ctx context.Context, account string) {
	now := w.f.cfg.Now()
	s := w.of("limits " + account)
	waiting := w.f.waitsForQuota(account)
	if waiting && !s.busy {
		*s = schedule{}
	}
	s.busy = waiting
	c, key, ok := w.f.accounts.caller(account)
	if !ok || key == "" || !s.due(now) {
		return
	}
	a := w.ask(ctx, &Question{Path: pathLimits, APIKey: key, Workspace: c.workspace})
	var u struct {
		InRejectSet    *bool  `json:"in_reject_set"`
		UsageLimitType string `json:"usage_limit_type"`
		TenantLimit    *int64 `json:"tenant_limit"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &u) != nil || u.InRejectSet == nil {
		w.unsaid(account, s, &a, waiting)
		return
	}
	if waiting {
		s.again(now, askFirst, askCap)
	} else {
		s.in(now, askUsage)
	}
	kind, until, err := w.f.guard.Reported(account, quota.UsageLimits{Rejecting: *u.InRejectSet, Type: u.UsageLimitType, Limit: u.TenantLimit})
	if err != nil {
		w.f.noteHoldError(err)
	}
	if kind != "" {
		w.f.waitFor(account, kind, until)
		return
	}
	if waiting {
		w.f.waits.endQuota(accountWait(account))
		w.f.pokeHold()
		w.f.poke()
	}
}

// unsaid sees to an account of which LangSmith does not say whether it refuses:
// now and then something is sent to find out.
func (w *watch) unsaid(account string, s *schedule, a *Answer, waiting bool) {
	now := w.f.cfg.Now()
	if a.Status == 0 || a.Status >= http.StatusInternalServerError || a.Status == http.StatusTooManyRequests {
		s.again(now, askFirst, askCap)
		return
	}
	// It was understood, and is not answered: by another service than LangSmith,
	// or not for this key.
	first := !s.denied
	s.denied = true
	s.in(now, trialEvery)
	if first || !waiting {
		return
	}
	if err := w.f.guard.Trial(account); err != nil {
		w.f.noteHoldError(err)
	}
	w.f.waits.endQuota(accountWait(account))
	w.f.pokeHold()
	w.f.poke()
}

// usage asks how many traces LangSmith has counted from all senders. It needs a
// key that may read the organization (LangSmith docs: granular usage).
func (w *watch) usage(ctx context.Context, account string) {
	now := w.f.cfg.Now()
	s := w.of("usage " + account)
	tenant := w.f.accounts.tenantOf(account)
	c, key, ok := w.f.accounts.caller(account)
	if !ok || key == "" || tenant == "" || !s.due(now) {
		return
	}
	month := quota.MonthOf(now)
	query := url.Values{
		"start_time": {month.Begin().Format(time.RFC3339)}, "end_time": {now.UTC().Format(time.RFC3339)},
		"workspace_ids": {tenant}, "group_by": {"workspace"},
	}
	a := w.ask(ctx, &Question{Path: pathUsage + "?" + query.Encode(), APIKey: key, Workspace: c.workspace})
	switch {
	case a.Status == 0 || a.Status >= http.StatusInternalServerError || a.Status == http.StatusTooManyRequests:
		s.again(now, askFirst, askUsage)
		return
	case a.Status != http.StatusOK:
		s.in(now, 24*time.Hour)
		return
	}
	s.tries = 0
	s.in(now, askUsage)
	traces, err := tracesIn(a.Body, tenant)
	if err != nil {
		w.f.noteHoldError(err)
		return
	}
	if err := w.f.guard.Taken(account, month, traces); err != nil {
		w.f.noteHoldError(err)
	}
}

// tracesIn adds up what a usage read says of a workspace.
func tracesIn(body []byte, tenant string) (total int64, err error) {
	var u struct {
		Usage []struct {
			Dimensions struct {
				WorkspaceID string `json:"workspace_id"`
			} `json:"dimensions"`
			Traces int64 `json:"traces"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(body, &u); err != nil {
		return 0, fmt.Errorf("read LangSmith's usage: %w", err)
	}
	for _, b := range u.Usage {
		if id := b.Dimensions.WorkspaceID; id == "" || id == tenant {
			total += b.Traces
		}
	}
	return total, nil
}

// quotaReasons are the reasons of refusals for a limit of an account.
var quotaReasons = map[string]quota.Kind{
	"quota_month": quota.KindMonth, "quota_user": quota.KindUser, "quota_hour": quota.KindHour,
	"quota_bytes": quota.KindBytes, "quota_minute": quota.KindMinute, "quota": quota.KindOther,
}

// waitsForQuota reports whether an account waits because LangSmith refused its
// data for a limit, or its new traces are held for that.
func (f *Forwarder) waitsForQuota(account string) bool {
	if _, refusing := f.guard.Refusing(account); refusing {
		return true
	}
	w, ok := f.waits.get(accountWait(account))
	return ok && quotaReasons[w.Reason] != ""
}

// waitFor has an account wait for the end of a limit that LangSmith enforces.
func (f *Forwarder) waitFor(account string, kind quota.Kind, until time.Time) {
	if kind.Monthly() {
		return // new traces are held; whether the others are taken, sending shows
	}
	now := f.cfg.Now()
	f.waits.failed(accountWait(account), &Outcome{
		Kind: Retry, Reason: string(kind), Scope: ScopeAccount, RetryAfter: max(until.Sub(now), time.Second),
		Exchange: Exchange{Error: "LangSmith says that the limit is reached (usage_limits)"},
	}, now)
}

// quotaRefusal gives an outcome the wait that fits the limit it is about. fresh:
// the request had traces that are not counted this month. Those are held from
// now on, and what is left may be taken: LangSmith is said to refuse new traces.
func (f *Forwarder) quotaRefusal(account string, out *Outcome, fresh bool) *Outcome {
	kind, ok := quotaReasons[out.Reason]
	if !ok {
		return out
	}
	until := f.guard.Refused(account, kind)
	f.pokeWatch()
	if kind.Monthly() && fresh {
		return out // soon again, without them
	}
	fit := *out
	if fit.RetryAfter == 0 {
		fit.RetryAfter = max(until.Sub(f.cfg.Now()), time.Second)
	}
	return &fit
}

// noteHoldError counts and says what went wrong beside the sending, once.
func (f *Forwarder) noteHoldError(err error) {
	f.m.storeErrors.Inc()
	f.mu.Lock()
	said := f.holdError == err.Error()
	f.holdError = err.Error()
	f.mu.Unlock()
	if !said {
		f.cfg.Logger.Error("the quota could not be seen to; it is tried again", "error", err)
	}
}
