package smith

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bodyQuota is the published answer to a month that is used up.
const bodyQuota = `{"error":"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded"}` + "\n"

// quotaConfig is a look-alike that tells the time of noon, and two keys of one
// tenant.
func quotaConfig(l Limits) Config {
	return Config{
		Limits: l, Control: true, Now: func() time.Time { return noon },
		Keys: map[string]Key{
			keyA: {Tenant: tenantA}, "lsv2_pt_rotated_A2": {Tenant: tenantA}, keyB: {Tenant: tenantB, OrgRead: true},
		},
	}
}

// postRun sends the root run n, which starts a trace.
func (c *client) postRun(n int, pairs ...string) answer {
	c.t.Helper()
	return c.runs(http.MethodPost, "/runs", []byte(runJSON([]int{n})), pairs...)
}

// limits asks whether the tenant of keyA is being refused.
func (c *client) limits() string {
	c.t.Helper()
	return c.do(http.MethodGet, "/api/v1/workspaces/current/usage_limits", header("X-Api-Key", keyA), nil).body
}

const notRejecting = `{"in_reject_set":false,"tenant_limit":null,"usage_limit_type":null}`

func rejecting(kind LimitKind, limit int64) string {
	return fmt.Sprintf(`{"in_reject_set":true,"tenant_limit":%d,"usage_limit_type":%q}`, limit, kind)
}

func TestTheMonthIsMetToTheTrace(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 3}))
	c.export(payload(t, newSpan(1, 1), newSpan(1, 2), newSpan(2, 1))).want(t, 200, "")
	if got := c.limits(); got != notRejecting {
		t.Errorf("usage_limits = %s", got)
	}
	// One of its two traces would still fit.
	a := c.export(payload(t, newSpan(3, 1), newSpan(4, 1)))
	a.want(t, 429, bodyQuota)
	if got, ok := a.header["Retry-After"]; ok || a.header.Get("Content-Type") != contentJSON {
		t.Errorf("Retry-After = %q, Content-Type = %q", got, a.header.Get("Content-Type"))
	}
	c.postRun(5).want(t, 202, `{"message":"Run queued"}`)
	if got, want := c.limits(), rejecting(LimitMonthlyTraces, 3); got != want {
		t.Errorf("usage_limits = %s, want %s", got, want)
	}
	c.postRun(6).want(t, 429, bodyQuota)
	c.multipart(newForm(t).json("post."+rid(6).String(), runJSON([]int{6}))).want(t, 429, bodyQuota)
	c.runs(http.MethodPost, "/runs/batch", []byte(`{"post":[`+runJSON([]int{5, 7})+`,`+runJSON([]int{6})+`]}`)).want(t, 429, bodyQuota)
	c.export(payload(t, newSpan(1, 9), newSpan(4, 1))).want(t, 429, bodyQuota)
	c.runs(http.MethodPatch, "/runs/"+rid(6).String(), []byte(runJSON([]int{6}))).want(t, 429, bodyQuota)
	// Other tenants, and what belongs to counted traces, go on.
	c.export(payload(t, newSpan(9, 1)), "X-Api-Key", keyB).want(t, 200, "")
	c.export(payload(t, newSpan(1, 3))).want(t, 200, "")
	c.postRun(5).want(t, 409, bodyConflictGo)
	c.runs(http.MethodPatch, "/runs/"+rid(5).String(), []byte(`{"outputs":{}}`)).want(t, 202, `{"message":"Run update queued"}`)

	u := s.TenantUsage(tenantA)
	if diff := cmp.Diff([]MonthUsage{{Month: "2026-11", Traces: 3}}, u.Months); diff != "" {
		t.Errorf("months (-want +got):\n%s", diff)
	}
	if u.Refused[LimitMonthlyTraces] != 6 || len(u.Lost) != 0 || u.Rejecting != LimitMonthlyTraces {
		t.Errorf("usage = %+v, want 6 refused", u)
	}
	if st := s.Stats(); st.Traces != 4 || st.Answers[429] != 6 {
		t.Errorf("%d traces arrived and %d requests were refused, want 4 and 6", st.Traces, st.Answers[429])
	}
}

// Two keys of one tenant, spans and runs, all at once: not one trace too many,
// and none too few.
func TestTheMonthIsExactUnderConcurrentSenders(t *testing.T) {
	for _, keep := range []Keep{KeepSpans, KeepIDs, KeepCounts} {
		t.Run(keep.String(), func(t *testing.T) {
			const senders, each, limit = 32, 40, 500
			cfg := quotaConfig(Limits{MonthlyTraces: limit})
			cfg.Keep = keep
			s, c := start(t, cfg)
			var taken, refused atomic.Int64
			var wg sync.WaitGroup
			for sender := range senders {
				wg.Go(func() {
					key := []string{keyA, "lsv2_pt_rotated_A2"}[sender%2]
					for i := range each {
						// Each trace comes from two senders.
						n := sender/2*each + i + 1
						var a answer
						if sender%4 < 2 {
							a = c.export(payload(t, newSpan(uint64(n), uint64(sender+1))), "X-Api-Key", key)
						} else {
							a = c.runs(http.MethodPost, "/runs", []byte(runJSON([]int{n})), "X-Api-Key", key)
						}
						switch a.status {
						case 200, 202, 409:
							taken.Add(1)
						case 429:
							refused.Add(1)
						default:
							t.Errorf("answer = %d %s", a.status, a.body)
						}
					}
				})
			}
			wg.Wait()
			u := s.TenantUsage(tenantA)
			if got := s.MonthlyTraces(tenantA, noon); got != limit {
				t.Errorf("%d traces counted, want %d", got, limit)
			}
			if keep != KeepCounts && s.Stats().Traces != limit {
				t.Errorf("%d traces arrived, want %d", s.Stats().Traces, limit)
			}
			if u.Refused[LimitMonthlyTraces] != refused.Load() || taken.Load()+refused.Load() != senders*each {
				t.Errorf("refused %v, saw %d refused and %d taken", u.Refused, refused.Load(), taken.Load())
			}
		})
	}
}

func TestARotatedKeyStartsNoNewCount(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 2}))
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	s.RemoveKey(keyA)
	s.SetKey("lsv2_pt_fresh_A3", Key{Tenant: strings.ToUpper(tenantA)})
	c.export(payload(t, newSpan(2, 1)), "X-Api-Key", "lsv2_pt_fresh_A3").want(t, 200, "")
	c.export(payload(t, newSpan(3, 1)), "X-Api-Key", "lsv2_pt_fresh_A3").want(t, 429, bodyQuota)
}

func TestSpansAndRunsOfOneTraceCountOnce(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{}))
	c.postRun(1).want(t, 202, `{"message":"Run queued"}`)
	c.export(payload(t, newSpan(7, 1, str(attrTraceID, rid(1).String())))).want(t, 200, "")
	c.runs(http.MethodPatch, "/runs/"+rid(1).String(), []byte(runJSON([]int{1}))).want(t, 202, `{"message":"Run update queued"}`)
	if got := s.MonthlyTraces(strings.ToUpper(tenantA), noon); got != 1 {
		t.Errorf("%d traces counted, want 1", got)
	}
}

func TestTheMonthTurnsWithTheClock(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 1}))
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	c.post("clock", `{"now":"2026-11-30T23:59:59Z"}`)
	c.export(payload(t, newSpan(2, 1))).want(t, 429, bodyQuota)
	c.post("clock", `{"now":"2026-12-01T01:00:00+01:00"}`) // by UTC
	if got := c.limits(); got != notRejecting {
		t.Errorf("usage_limits = %s", got)
	}
	// A trace of last month counts in this one, too.
	c.export(payload(t, newSpan(1, 2))).want(t, 200, "")
	c.export(payload(t, newSpan(2, 1))).want(t, 429, bodyQuota)
	if got, want := c.limits(), rejecting(LimitMonthlyTraces, 1); got != want {
		t.Errorf("usage_limits = %s, want %s", got, want)
	}
	// A clock set back finds November as it was.
	if err := s.SetClockOffset(0); err != nil {
		t.Fatal(err)
	}
	c.export(payload(t, newSpan(2, 1))).want(t, 429, bodyQuota)
	want := []MonthUsage{{Month: "2026-11", Traces: 1}, {Month: "2026-12", Traces: 1}}
	if diff := cmp.Diff(want, s.TenantUsage(tenantA).Months); diff != "" {
		t.Errorf("months (-want +got):\n%s", diff)
	}
}

func TestARepeatCountsNoTraceInALaterMonth(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 5}))
	batch := func(runs ...string) answer {
		return c.runs(http.MethodPost, "/runs/batch", []byte(`{"post":[`+strings.Join(runs, ",")+`]}`))
	}
	batch(runJSON([]int{1}), runJSON([]int{2})).want(t, 202, `{"message":"Runs batch ingested"}`)
	if err := s.SetClock(time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	// 1 comes again with nothing new, 2 with a child, 3 is new.
	batch(runJSON([]int{1}), runJSON([]int{2, 4}), runJSON([]int{3})).want(t, 409, bodyConflictGo)
	if got := s.MonthlyTraces(tenantA, s.Now()); got != 2 {
		t.Errorf("%d traces counted, want 2", got)
	}
}

func TestARefusedRequestCountsNothing(t *testing.T) {
	cfg := quotaConfig(Limits{MonthlyTraces: 2})
	cfg.Switches.RunsDuplicate = DuplicateWhole
	cfg.MaxTraceRuns = 1
	s, c := start(t, cfg)
	c.postRun(1).want(t, 202, `{"message":"Run queued"}`)
	whole := `{"post":[` + runJSON([]int{1}) + `,` + runJSON([]int{2}) + `]}`
	c.runs(http.MethodPost, "/runs/batch", []byte(whole)).want(t, 409, bodyConflictGo)
	large := `{"post":[` + runJSON([]int{3}) + `,` + runJSON([]int{3, 4}) + `]}`
	if a := c.runs(http.MethodPost, "/runs/batch", []byte(large)); a.status != 400 {
		t.Errorf("a trace too large = %d %s", a.status, a.body)
	}
	u := s.TenantUsage(tenantA)
	if len(u.Months) != 1 || u.Months[0].Traces != 1 || u.Hours[0].Events != 1 || u.Hours[0].Traces != 1 {
		t.Errorf("usage = %+v, want one trace and one event", u)
	}
}

// hourStart is the hour of noon.
var hourStart = noon.Truncate(time.Hour)

func TestLimitsOfWindowsRefuseAndClear(t *testing.T) {
	one := payload(t, newSpan(1, 1))
	tests := []struct {
		limits Limits
		kind   LimitKind
		limit  int64
		body   string
		turn   time.Duration // from noon
	}{
		{
			limits: Limits{HourlyEvents: 2}, kind: LimitHourlyEvents, limit: 2, turn: time.Hour,
			body: `{"error":"Too many requests: tenant exceeded usage limits: Hourly events usage limit exceeded"}` + "\n",
		},
		{
			limits: Limits{HourlyBytes: int64(2*len(one)) + 1}, kind: LimitHourlyBytes, limit: int64(2*len(one)) + 1, turn: time.Hour,
			body: `{"error":"Too many requests: tenant exceeded usage limits: Hourly payload size usage limit exceeded"}` + "\n",
		},
		{
			limits: Limits{MinuteEvents: 2}, kind: LimitMinuteEvents, limit: 2, turn: time.Minute,
			body: `{"error":"Too many requests: tenant exceeded usage limits: Events per minute usage limit exceeded"}` + "\n",
		},
	}
	for _, tt := range tests {
		t.Run(string(tt.kind), func(t *testing.T) {
			s, c := start(t, quotaConfig(tt.limits))
			c.export(one).want(t, 200, "")
			c.export(zipped(t, one), "Content-Encoding", "gzip").want(t, 200, "") // bytes count uncompressed
			c.export(one).want(t, 429, tt.body)
			c.postRun(3).want(t, 429, tt.body)
			c.export(nil).want(t, 200, "") // brings nothing
			c.export(one, "X-Api-Key", keyB).want(t, 200, "")
			if got, want := c.limits(), rejecting(tt.kind, tt.limit); got != want {
				t.Errorf("usage_limits = %s, want %s", got, want)
			}
			if got := s.TenantUsage(tenantA).Refused; len(got) != 1 || got[tt.kind] != 2 {
				t.Errorf("refused = %v, want 2", got)
			}
			want := []HourUsage{{Start: hourStart, Events: 2, Bytes: int64(2 * len(one)), Traces: 1}}
			if diff := cmp.Diff(want, s.TenantUsage(tenantA).Hours); diff != "" {
				t.Errorf("hours (-want +got):\n%s", diff)
			}
			if err := s.SetClockOffset(tt.turn - time.Nanosecond); err != nil {
				t.Fatal(err)
			}
			c.export(one).want(t, 429, tt.body)
			if err := s.SetClockOffset(tt.turn); err != nil {
				t.Fatal(err)
			}
			if got := c.limits(); got != notRejecting {
				t.Errorf("after the turn usage_limits = %s", got)
			}
			c.export(one).want(t, 200, "")
		})
	}
}

func TestAWindowThatRefusedOnceRefusesUntilItsLimitIsRaised(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{HourlyEvents: 3}))
	c.export(payload(t, newSpan(1, 1), newSpan(1, 2))).want(t, 200, "")
	if got := c.limits(); got != notRejecting {
		t.Errorf("usage_limits = %s", got)
	}
	if a := c.export(payload(t, newSpan(1, 3), newSpan(1, 4))); a.status != 429 {
		t.Fatalf("answer = %d", a.status)
	}
	if got, want := c.limits(), rejecting(LimitHourlyEvents, 3); got != want {
		t.Errorf("usage_limits = %s, want %s", got, want)
	}
	if a := c.export(payload(t, newSpan(1, 3))); a.status != 429 {
		t.Errorf("what would fit = %d, want 429", a.status)
	}
	s.SetLimits(Limits{HourlyEvents: 4})
	if got := c.limits(); got != notRejecting {
		t.Errorf("usage_limits = %s", got)
	}
	c.export(payload(t, newSpan(1, 3), newSpan(1, 4))).want(t, 200, "")
}

func TestEveryMinuteHasItsLimitAlsoWhenTheClockIsSetBack(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MinuteEvents: 1}))
	n := uint64(0)
	for minute := range 4 * maxMinutes {
		at := time.Duration(minute) * time.Minute
		if minute >= 2*maxMinutes {
			at = -at
		}
		if err := s.SetClockOffset(at); err != nil {
			t.Fatal(err)
		}
		for _, status := range []int{200, 429} {
			n++
			if a := c.export(payload(t, newSpan(1, n))); a.status != status {
				t.Fatalf("minute %d: answer = %d, want %d", minute, a.status, status)
			}
		}
	}
	if got := len(s.store.quota.account(tenantA).minutes); got > maxMinutes {
		t.Errorf("%d minutes are kept, want at most %d", got, maxMinutes)
	}
}

func TestLimitsThatUsersSet(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{UserMonthlyTraces: 1, UserLonglivedTraces: 1}))
	c.postRun(1).want(t, 202, `{"message":"Run queued"}`)
	c.postRun(2).want(t, 429, `{"error":"usage limit monthly_traces of 1 exceeded"}`+"\n")
	if got, want := c.limits(), rejecting(LimitUserMonthlyTraces, 1); got != want {
		t.Errorf("usage_limits = %s, want %s", got, want)
	}
	s.SetLimits(Limits{UserMonthlyTraces: 9, UserLonglivedTraces: 1})
	c.postRun(2).want(t, 202, `{"message":"Run queued"}`)

	feedback := func(n int, more string) answer {
		return c.runs(http.MethodPost, "/feedback", fmt.Appendf(nil, `{"key":"k","run_id":%q%s}`, rid(n), more))
	}
	if a := feedback(1, `,"extend_trace_retention":false`); a.status != 200 || c.limits() != notRejecting {
		t.Errorf("feedback that upgrades nothing = %d, then %s", a.status, c.limits())
	}
	if a := feedback(1, ""); a.status != 200 {
		t.Errorf("the first upgrade = %d", a.status)
	}
	if got, want := c.limits(), rejecting(LimitUserLonglivedTraces, 1); got != want {
		t.Errorf("usage_limits = %s, want %s", got, want)
	}
	feedback(2, "").want(t, 429, `{"error":"usage limit monthly_longlived_traces of 1 exceeded"}`+"\n")
	c.runs(http.MethodPost, "/runs", []byte(runJSON([]int{1, 4}))).want(t, 202, `{"message":"Run queued"}`)
	if a := feedback(4, ""); a.status != 200 {
		t.Errorf("feedback on a child in an upgraded trace = %d", a.status)
	}
	if a := feedback(1, `,"trace_id":"`+rid(1).String()+`"`); a.status != 200 {
		t.Errorf("feedback on an upgraded trace = %d", a.status)
	}
	c.postRun(3).want(t, 202, `{"message":"Run queued"}`)
	if got := s.TenantUsage(tenantA).Months; len(got) != 1 || got[0] != (MonthUsage{Month: "2026-11", Traces: 3, Longlived: 1}) {
		t.Errorf("months = %+v", got)
	}
}

func TestUpdatesOverQuotaAreASwitch(t *testing.T) {
	cfg := quotaConfig(Limits{MonthlyTraces: 1})
	cfg.Switches.QuotaUpdates = UpdatesRefused
	s, c := start(t, cfg)
	s.SetTenantLimits(tenantA, &Limits{MonthlyTraces: 2})
	c.postRun(1).want(t, 202, `{"message":"Run queued"}`)
	patch := func() answer {
		return c.runs(http.MethodPatch, "/runs/"+rid(1).String(), []byte(runJSON([]int{1})))
	}
	patch().want(t, 202, `{"message":"Run update queued"}`) // the limit is not reached
	c.export(payload(t, newSpan(2, 1))).want(t, 200, "")
	patch().want(t, 429, bodyQuota)
	c.export(payload(t, newSpan(2, 2))).want(t, 429, bodyQuota)
	c.export(nil).want(t, 200, "")
	c.post("switches", `{"quota_updates":"taken"}`)
	patch().want(t, 409, bodyConflictPython)
	c.export(payload(t, newSpan(2, 2))).want(t, 200, "")
}

func TestOTLPOverQuotaIsASwitch(t *testing.T) {
	cfg := quotaConfig(Limits{MonthlyTraces: 1})
	cfg.Switches.QuotaOTLP = QuotaOTLPLost
	s, c := start(t, cfg)
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	c.export(payload(t, newSpan(1, 2), newSpan(2, 1))).want(t, 200, "")
	c.postRun(3).want(t, 429, bodyQuota) // of OTLP alone
	st, u := s.Stats(), s.TenantUsage(tenantA)
	if st.Lost.Requests != 1 || st.DistinctSpans != 1 || len(s.Spans()) != 1 {
		t.Errorf("lost %+v, %d spans arrived; want one request lost, one span", st.Lost, st.DistinctSpans)
	}
	if u.Lost[LimitMonthlyTraces] != 1 || u.Refused[LimitMonthlyTraces] != 1 || u.Months[0].Traces != 1 {
		t.Errorf("usage = %+v, want one lost, one refused", u)
	}
}

func TestTrafficOfOthersUsesTheSamePlan(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 10}))
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	c.post("traffic", `{"tenant":"`+tenantA+`","traces":8,"events":16,"bytes":100}`).want(t, 200, `{"counted":8,"refused":0}`+"\n")
	c.export(payload(t, newSpan(2, 1))).want(t, 200, "")
	c.export(payload(t, newSpan(3, 1))).want(t, 429, bodyQuota)
	c.post("traffic", `{"tenant":"`+tenantA+`","traces":5}`).want(t, 200, `{"counted":0,"refused":5}`+"\n")
	c.post("traffic", `{"tenant":"`+tenantB+`","traces":5}`).want(t, 200, `{"counted":5,"refused":0}`+"\n")
	c.export(payload(t, newSpan(1, 2))).want(t, 200, "")
	u := s.TenantUsage(tenantA)
	if got := u.Months[0]; got != (MonthUsage{Month: "2026-11", Traces: 10, Others: 8}) {
		t.Errorf("month = %+v", got)
	}
	if got := u.Hours[0]; got.Events != 19 || got.Traces != 10 {
		t.Errorf("hour = %+v, want 19 events of 10 traces", got)
	}
	if s.AddTraffic(tenantA, Traffic{Traces: -1, Events: -1, Bytes: -1}) != 0 || !cmp.Equal(u, s.TenantUsage(tenantA)) {
		t.Error("negative traffic was counted")
	}
}

func TestRunBytesLeaveAttachmentsOut(t *testing.T) {
	for _, keep := range []Keep{KeepSpans, KeepCounts} {
		cfg := quotaConfig(Limits{HourlyBytes: 1 << 20})
		cfg.Keep = keep
		s, c := start(t, cfg)
		f := newForm(t).json("post."+rid(1).String(), runJSON([]int{1})).part("attachment."+rid(1).String()+".a", "text/plain", strings.Repeat("x", 5000))
		if a := c.multipart(f); a.status != 202 {
			t.Fatalf("answer = %d %s", a.status, a.body)
		}
		size := f.b.Len() - 5000
		want := []HourUsage{{Start: hourStart, Events: 1, Bytes: int64(size)}}
		if keep == KeepSpans {
			want[0].Traces = 1 // KeepCounts tells none apart without a limit of traces
		}
		if diff := cmp.Diff(want, s.TenantUsage(tenantA).Hours); diff != "" {
			t.Errorf("%s: hours (-want +got):\n%s", keep, diff)
		}
	}
}

func TestResetForgetsCountsAndKeepsLimits(t *testing.T) {
	s, c := start(t, quotaConfig(Limits{MonthlyTraces: 1}))
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	c.export(payload(t, newSpan(2, 1))).want(t, 429, bodyQuota)
	s.Reset()
	if got := s.Usage(); len(got) != 0 || c.limits() != notRejecting {
		t.Errorf("usage = %+v, %s", got, c.limits())
	}
	c.export(payload(t, newSpan(2, 1))).want(t, 200, "")
	c.export(payload(t, newSpan(1, 1))).want(t, 429, bodyQuota)
}

func TestVeryManyTenantsShareAnAccount(t *testing.T) {
	s := New(Config{})
	defer func() { _ = s.Close() }()
	for i := range maxGroups + 3 {
		s.AddTraffic(RunID{14: byte(i >> 8), 15: byte(i), 0: 1}.String(), Traffic{Traces: 1})
	}
	if got, u := len(s.Usage()), s.TenantUsage(otherGroup); got != maxGroups+1 || u.Months[0].Traces != 3 {
		t.Errorf("%d accounts, the last with %+v; want %d and 3 traces", got, u.Months, maxGroups+1)
	}
}
