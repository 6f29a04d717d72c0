package smith

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Usage is what a tenant has used, all its keys together, since the server
// started or was reset. A trace that comes in two months counts in both.
type Usage struct {
	Tenant string `json:"tenant"`
	// Limits are those in force.
	Limits Limits `json:"limits"`
	// Rejecting is the limit that has been reached, as usage_limits tells it;
	// empty is none.
	Rejecting LimitKind `json:"rejecting,omitempty"`
	// Months and Hours are those in which anything was counted, in order.
	Months []MonthUsage `json:"months"`
	Hours  []HourUsage  `json:"hours"`
	// Refused counts requests answered 429 by the limit they exceeded, Lost
	// those answered 200 and dropped for it; see Switches.QuotaOTLP.
	Refused map[LimitKind]int64 `json:"refused"`
	Lost    map[LimitKind]int64 `json:"lost"`
}

// MonthUsage is what was used of a calendar month of UTC.
type MonthUsage struct {
	Month string `json:"month"` // such as 2026-11
	// Traces are unique ones by id, of OTLP and runs together, and those of
	// others. Under KeepCounts they are counted only while a limit of traces is
	// set.
	Traces int64 `json:"traces"`
	// Others is how many of Traces came by AddTraffic.
	Others int64 `json:"others"`
	// Longlived are traces upgraded to extended retention.
	Longlived int64 `json:"longlived"`
}

// HourUsage is what was used of a clock hour of UTC.
type HourUsage struct {
	Start  time.Time `json:"start"`
	Events int64     `json:"events"`
	Bytes  int64     `json:"bytes"`
	Traces int64     `json:"traces"` // newly counted in their month
}

// Usage returns the usage of every tenant that has sent anything, refused
// requests included, or has limits of its own, by tenant.
func (s *Server) Usage() []Usage {
	now := s.Now()
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	keys := slices.Collect(maps.Keys(st.quota.accounts))
	for key := range st.quota.own {
		if st.quota.accounts[key] == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	all := make([]Usage, len(keys))
	for i, key := range keys {
		all[i] = st.quota.usage(key, now)
	}
	return all
}

// TenantUsage returns the usage of a tenant, one without any included.
func (s *Server) TenantUsage(tenant string) Usage {
	now := s.Now()
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.store.quota.usage(accountKey(tenant), now)
}

// MonthlyTraces returns how many unique traces a tenant has in the month of a
// time.
func (s *Server) MonthlyTraces(tenant string, at time.Time) int64 {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if a := s.store.quota.accounts[accountKey(tenant)]; a != nil && a.months[monthOf(at)] != nil {
		return a.months[monthOf(at)].traces()
	}
	return 0
}

// usage describes a tenant.
func (q *quotas) usage(key string, now time.Time) Usage {
	u := Usage{
		Tenant: key, Limits: q.limits(key), Months: []MonthUsage{}, Hours: []HourUsage{},
		Refused: map[LimitKind]int64{}, Lost: map[LimitKind]int64{},
	}
	a := q.accounts[key]
	if a == nil {
		return u
	}
	if over := a.rejecting(now, u.Limits); over != nil {
		u.Rejecting = over.kind
	}
	for _, n := range slices.Sorted(maps.Keys(a.months)) {
		m := a.months[n]
		if m.traces() == 0 && len(m.upgraded) == 0 {
			continue
		}
		u.Months = append(u.Months, MonthUsage{
			Month: fmt.Sprintf("%04d-%02d", n/12, n%12+1), Traces: m.traces(), Others: m.others, Longlived: int64(len(m.upgraded)),
		})
	}
	for start, h := range a.hours {
		u.Hours = append(u.Hours, HourUsage{Start: time.Unix(start, 0).UTC(), Events: h.events, Bytes: h.bytes, Traces: h.traces})
	}
	slices.SortFunc(u.Hours, func(x, y HourUsage) int { return cmp.Compare(x.Start.Unix(), y.Start.Unix()) })
	u.Refused, u.Lost = maps.Clone(a.refused), maps.Clone(a.lost)
	return u
}

// Traffic is what other senders of a tenant sent.
type Traffic struct {
	Traces int64 `json:"traces"`
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
}

// AddTraffic counts traffic against a tenant as if another sender had sent it
// now, each trace new and in a request of its own: traces beyond a limit of the
// month are refused and not counted. It returns how many were counted. Negative
// numbers count as 0.
func (s *Server) AddTraffic(tenant string, t Traffic) (counted int64) {
	now := s.Now()
	key := accountKey(tenant)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	a, limits := s.store.quota.account(key), s.store.quota.limits(key)
	m := a.month(now)
	counted = max(0, t.Traces)
	for _, limit := range []int64{limits.MonthlyTraces, limits.UserMonthlyTraces} {
		if limit > 0 {
			counted = min(counted, max(0, limit-m.traces()))
		}
	}
	m.others += counted
	a.count(now, windowUse{events: max(0, t.Events), bytes: max(0, t.Bytes), traces: counted})
	return counted
}
