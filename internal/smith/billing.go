package smith

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// usageLimits answers GET /workspaces/current/usage_limits: whether new traces
// are refused now, and for which limit (LangSmith API reference: usage limits
// info).
func (s *Server) usageLimits(_ *request, from caller) reply {
	now := s.Now()
	key := accountKey(from.tenant)
	s.store.mu.Lock()
	var over *limitError
	if a := s.store.quota.accounts[key]; a != nil {
		over = a.rejecting(now, s.store.quota.limits(key))
	}
	s.store.mu.Unlock()
	answer := struct {
		Rejecting bool       `json:"in_reject_set"`
		Limit     *int64     `json:"tenant_limit"`
		Kind      *LimitKind `json:"usage_limit_type"`
	}{}
	if over != nil {
		answer.Rejecting, answer.Kind, answer.Limit = true, &over.kind, &over.limit
	}
	return jsonReply(answer)
}

// usageQuery is what GET /orgs/current/billing/granular-usage asks for.
type usageQuery struct {
	start, end time.Time
	stride     time.Duration
	workspaces []string // as asked for
}

// maxUsageRange is the longest range of usage (LangSmith docs: granular usage).
const maxUsageRange = 31 * 24 * time.Hour

// parseUsageQuery reads the query. Up to a day is answered by the hour, more by
// the day (LangSmith docs: granular usage).
func parseUsageQuery(query url.Values) (usageQuery, error) {
	q := usageQuery{workspaces: query["workspace_ids"], stride: time.Hour}
	for i, dst := range []*time.Time{&q.start, &q.end} {
		name := [...]string{"start_time", "end_time"}[i]
		text := query.Get(name)
		if text == "" {
			return q, fmt.Errorf("%s: Field required", name)
		}
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			at, err = parseTime(textOf(text))
		}
		if err != nil {
			return q, fmt.Errorf("%s: %w", name, err)
		}
		*dst = at.UTC()
	}
	if len(q.workspaces) == 0 {
		return q, errors.New("workspace_ids: Field required")
	}
	for _, id := range q.workspaces {
		if !isUUID(id) {
			return q, errors.New("workspace_ids: Input should be a valid UUID")
		}
	}
	if by := query.Get("group_by"); by != "" && by != "workspace" {
		return q, errors.New("group_by: the look-alike groups by workspace only")
	}
	length := q.end.Sub(q.start)
	switch {
	case length <= 0:
		return q, errors.New("end_time must be after start_time")
	case length > maxUsageRange:
		return q, errors.New("the range must not exceed 31 days")
	case length > 24*time.Hour:
		q.stride = 24 * time.Hour
	}
	return q, nil
}

// usageRow is a row of the answer.
type usageRow struct {
	Bucket     time.Time         `json:"time_bucket"`
	Dimensions map[string]string `json:"dimensions"`
	Traces     int64             `json:"traces"`
}

// granularUsage answers GET /orgs/current/billing/granular-usage: traces newly
// counted, by the time of their arrival and behind it by Switches.UsageLag
// (LangSmith docs: granular usage; pricing FAQ). Buckets without traces are
// left out. How the service words its errors, and what it says of workspaces of
// other organizations, is not known: here all belong to one.
func (s *Server) granularUsage(r *request, from caller) reply {
	if !from.orgRead {
		return familyPython.failure(http.StatusForbidden, "Forbidden")
	}
	q, err := parseUsageQuery(r.URL.Query())
	if err != nil {
		return familyPython.failure(http.StatusUnprocessableEntity, err.Error())
	}
	stride := map[string]int{"days": 0, "hours": 1}
	if q.stride > time.Hour {
		stride = map[string]int{"days": 1, "hours": 0}
	}
	rows := s.store.usageRows(q, s.Now().Add(-r.sw.UsageLag.duration()))
	return jsonReply(map[string]any{"stride": stride, "usage": rows})
}

// usageRows lists the buckets of a query, without what was counted in minutes
// that start after seen.
func (st *store) usageRows(q usageQuery, seen time.Time) []usageRow {
	rows := []usageRow{}
	st.mu.Lock()
	defer st.mu.Unlock()
	asked := map[string]bool{}
	for _, id := range q.workspaces {
		asked[accountKey(id)] = true
	}
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		a := st.quota.accounts[key]
		if a == nil {
			continue
		}
		buckets := map[int64]int64{}
		for minute, traces := range a.fresh {
			if minute >= q.start.Unix() && minute < q.end.Unix() && minute <= seen.Unix() {
				buckets[startOfWindow(time.Unix(minute, 0), q.stride)] += traces
			}
		}
		for start, traces := range buckets {
			rows = append(rows, usageRow{time.Unix(start, 0).UTC(), map[string]string{"workspace_id": key}, traces})
		}
	}
	slices.SortFunc(rows, func(a, b usageRow) int {
		return cmp.Or(a.Bucket.Compare(b.Bucket), strings.Compare(a.Dimensions["workspace_id"], b.Dimensions["workspace_id"]))
	})
	return rows
}
