package smith

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// quotaModel is what the quotas should come to, written the slow and plain way.
type quotaModel struct {
	limits  Limits
	traces  map[string]map[TraceID]bool // by month
	others  map[string]int64
	events  map[int64]int64 // by hour
	struck  map[int64]int64 // hours whose events were exceeded, and the limit then
	refused int64
}

// wants says whether a request would be taken.
func (m *quotaModel) wants(at time.Time, ids []TraceID, refuseUpdates bool) bool {
	month, hour := at.UTC().Format("2006-01"), at.Truncate(time.Hour).Unix()
	fresh := map[TraceID]bool{}
	for _, id := range ids {
		if !m.traces[month][id] {
			fresh[id] = true
		}
	}
	have := int64(len(m.traces[month])) + m.others[month]
	if l := m.limits.MonthlyTraces; l > 0 && len(ids) > 0 &&
		(len(fresh) > 0 && have+int64(len(fresh)) > l || refuseUpdates && have >= l) {
		return false
	}
	if l := m.limits.HourlyEvents; l > 0 && len(ids) > 0 {
		if struck, ok := m.struck[hour]; ok && l <= struck || m.events[hour]+int64(len(ids)) > l {
			m.struck = map[int64]int64{hour: l} // of the last hour it struck only
			return false
		}
	}
	return true
}

// Whatever comes, in whatever month and under whatever limits: what is counted
// is what the plain model counts, and so are the verdicts.
func TestQuotasAgreeWithAPlainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := Keep(rapid.IntRange(int(KeepIDs), int(KeepCounts)).Draw(t, "keep"))
		st := newStore(Config{Keep: keep})
		m := quotaModel{
			traces: map[string]map[TraceID]bool{}, others: map[string]int64{}, events: map[int64]int64{}, struck: map[int64]int64{},
			limits: Limits{MonthlyTraces: 5},
		}
		st.quota.standard = m.limits
		at := noon
		month := func() string { return at.UTC().Format("2006-01") }
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				ids := rapid.SliceOfN(rapid.Uint64Range(1, 9), 0, 5).Draw(t, "traces")
				in := &Request{Time: at, Workspace: tenantA, Spans: len(ids)}
				in.quota.refuseUpdates = rapid.Bool().Draw(t, "refuse updates")
				heads := make([]spanHead, len(ids))
				traces := make([]TraceID, len(ids))
				for i, n := range ids {
					traces[i] = TraceID(traceID(n))
					heads[i] = spanHead{billed: traces[i]}
				}
				want := m.wants(at, traces, in.quota.refuseUpdates)
				if got := st.record(in, heads); (got == nil) != want {
					t.Fatalf("record(%v) = %v, want taken %t", ids, got, want)
				}
				if !want {
					m.refused++
					return
				}
				if m.traces[month()] == nil {
					m.traces[month()] = map[TraceID]bool{}
				}
				for _, id := range traces {
					m.traces[month()][id] = true
				}
				m.events[at.Truncate(time.Hour).Unix()] += int64(len(ids))
			},
			"others": func(t *rapid.T) {
				n := rapid.Int64Range(0, 2).Draw(t, "traces")
				s := &Server{store: st, cfg: Config{Now: func() time.Time { return at }}}
				room := max(0, m.limits.MonthlyTraces-int64(len(m.traces[month()]))-m.others[month()])
				if got := s.AddTraffic(tenantA, Traffic{Traces: n}); got != min(n, room) {
					t.Fatalf("AddTraffic(%d) = %d with room for %d", n, got, room)
				}
				m.others[month()] += min(n, room)
			},
			"move the clock": func(t *rapid.T) {
				steps := []time.Duration{time.Minute, time.Hour, 8 * 24 * time.Hour, -9 * 24 * time.Hour}
				at = at.Add(rapid.SampledFrom(steps).Draw(t, "by"))
			},
			"set limits": func(t *rapid.T) {
				m.limits = Limits{
					MonthlyTraces: rapid.Int64Range(1, 9).Draw(t, "traces"), HourlyEvents: rapid.Int64Range(0, 12).Draw(t, "events"),
				}
				st.quota.standard = m.limits
			},
			"": func(t *rapid.T) {
				s := &Server{store: st, cfg: Config{Now: func() time.Time { return at }}}
				have := int64(len(m.traces[month()])) + m.others[month()]
				if got := s.MonthlyTraces(tenantA, at); got != have {
					t.Fatalf("%d traces in %s, want %d", got, month(), have)
				}
				u := s.TenantUsage(tenantA)
				var refused int64
				for _, n := range u.Refused {
					refused += n
				}
				if refused != m.refused {
					t.Fatalf("%d refused, want %d", refused, m.refused)
				}
				if full := u.Rejecting == LimitMonthlyTraces; full != (have >= m.limits.MonthlyTraces) {
					t.Fatalf("rejecting %q with %d of %d", u.Rejecting, have, m.limits.MonthlyTraces)
				}
				for _, h := range u.Hours {
					if got := m.events[h.Start.Unix()]; got != h.Events {
						t.Fatal(fmt.Sprintf("%d events in the hour of %s, want %d", h.Events, h.Start, got))
					}
				}
			},
		})
	})
}
