package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
	"weir/quota"
)

// GetQuota implements weirv1connect.AdminServiceHandler.
func (s *service) GetQuota(ctx context.Context, _ *weirv1.GetQuotaRequest) (*weirv1.GetQuotaResponse, error) {
	out, err := s.src.Quota(ctx)
	if err != nil {
		return nil, s.callError(ctx, "GetQuota", err)
	}
	return out, nil
}

// SetQuota implements weirv1connect.AdminServiceHandler.
func (s *service) SetQuota(ctx context.Context, req *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
	var wrong error
	switch {
	case req.TracesUsed == nil && req.TracesLimit == nil && !req.GetClearLimit():
		wrong = errors.New("there is nothing to set: give traces_used, traces_limit or clear_limit")
	case req.GetTracesUsed() < 0:
		wrong = fmt.Errorf("traces_used is %d; a month cannot have taken fewer than 0 traces", req.GetTracesUsed())
	case req.GetTracesLimit() < 0:
		wrong = fmt.Errorf("traces_limit is %d; give 0 for no limit, or the most traces of a month", req.GetTracesLimit())
	case req.TracesLimit != nil && req.GetClearLimit():
		wrong = errors.New("traces_limit and clear_limit exclude each other: give one")
	}
	if wrong != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, wrong)
	}
	account, err := s.account(ctx, req.GetAccount())
	if err != nil {
		return nil, s.callError(ctx, "SetQuota", err)
	}
	req.Account = account
	out, err := s.src.SetQuota(ctx, req)
	if err != nil {
		return nil, s.callError(ctx, "SetQuota", quotaError(err))
	}
	return out, nil
}

// ReleaseHeld implements weirv1connect.AdminServiceHandler.
func (s *service) ReleaseHeld(ctx context.Context, req *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
	if req.Traces != nil && req.GetTraces() <= 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
			"traces is %d; give how many to release, or leave it out for as many as there is room for", req.GetTraces()))
	}
	account, err := s.account(ctx, req.GetAccount())
	if err != nil {
		return nil, s.callError(ctx, "ReleaseHeld", err)
	}
	req.Account = account
	out, err := s.src.ReleaseHeld(ctx, req)
	if err != nil {
		return nil, s.callError(ctx, "ReleaseHeld", quotaError(err))
	}
	return out, nil
}

// quotaError gives what the guard refuses its code.
func quotaError(err error) error {
	if errors.Is(err, quota.ErrTooManyOrders) {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%w; try again when they are (GetQuota lists them)", err))
	}
	return err
}

// account finds the account that a caller means: by its name, by what follows
// the upstream's URL in it, or because it is the only one.
func (s *service) account(ctx context.Context, asked string) (string, error) {
	all, err := s.src.Quota(ctx)
	if err != nil {
		return "", err
	}
	var names, ending []string
	for _, scope := range all.GetScopes() {
		name := scope.GetAccount()
		if name == asked {
			return name, nil
		}
		names = append(names, name)
		if asked != "" && strings.HasSuffix(name, " "+asked) {
			ending = append(ending, name)
		}
	}
	switch {
	case len(names) == 0:
		return "", connect.NewError(connect.CodeNotFound, errors.New("no account is known yet; an account is known once the first of its data was taken"))
	case asked == "" && len(names) == 1:
		return names[0], nil
	case asked == "":
		return "", connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("there are several accounts, name one: %s", nameList(names)))
	case len(ending) == 1:
		return ending[0], nil
	case len(ending) > 1:
		return "", connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("account %q could be several, name one: %s", clipName(asked), nameList(ending)))
	default:
		return "", connect.NewError(connect.CodeNotFound, fmt.Errorf("account %q is not known; known are: %s", clipName(asked), nameList(names)))
	}
}

// maxNamed bounds the accounts that an error names.
const maxNamed = 20

func nameList(names []string) string {
	more := ""
	if len(names) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(names)-maxNamed)
		names = names[:maxNamed]
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, ", ") + more
}

// clipName bounds a name from outside for an error.
func clipName(name string) string {
	const most = 200
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "") + "..."
	}
	return name
}

// count32 is a count as the API gives it.
func count32(n int64) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }

// optional32 is a count, or nothing for a negative one.
func optional32(n int64) *int32 {
	if n < 0 {
		return nil
	}
	return new(count32(n))
}

// scopeMessage is an account as the API gives it.
func scopeMessage(s *quota.Status) *weirv1.QuotaScope {
	out := &weirv1.QuotaScope{
		Account: strings.ToValidUTF8(s.Account, "\ufffd"), Month: s.Month.String(),
		TracesUsed: count32(s.Used), TracesReserved: count32(s.Reserved), TracesHeld: count32(s.Held), TracesDropped: count32(s.Dropped),
		TracesLimit: optional32(s.Limit), TracesOthers: count32(s.Others), Policy: string(s.Policy),
		ProjectedCostUsd: s.CostUSD, Provisional: s.Provisional, ThresholdPercent: int32(s.Threshold), TurnRelease: optional32(s.TurnRelease),
	}
	if f := s.Forecast; f.Known {
		out.ProjectedTraces, out.PerDay = new(count32(f.Projected)), new(f.PerDay)
		out.ForecastExhaustedAt = timestamp(f.ExhaustedAt)
	}
	if r := s.Refused; r != nil {
		out.RefusedReason, out.RefusedSince, out.RefusedUntil = string(r.Kind), timestamp(r.Since), timestamp(r.Until)
	}
	for _, w := range s.Windows {
		m := &weirv1.QuotaWindow{Name: w.Name, Used: float64(w.Used), EndsAt: timestamp(w.Ends)}
		if w.Limit > 0 {
			m.Limit = new(float64(w.Limit))
		}
		out.Windows = append(out.Windows, m)
	}
	for i := range s.Projects {
		out.Projects = append(out.Projects, projectMessage(&s.Projects[i], s.Used))
	}
	out.Days = dayMessages(s)
	for i := range s.Orders {
		o := &s.Orders[i]
		out.Releases = append(out.Releases, &weirv1.QuotaRelease{
			Reason: string(o.Reason), Traces: optional32(o.Most), Project: o.Project, OldestFirst: o.Oldest, After: timestamp(o.After),
		})
	}
	return out
}

// dayMessages are the days of an account's month. What was wanted on a day and
// not sent on it was kept back, or is still pending: pending is the newest.
func dayMessages(s *quota.Status) []*weirv1.QuotaDay {
	out := make([]*weirv1.QuotaDay, len(s.Days))
	pending := s.Reserved - s.Releasing
	for i, d := range slices.Backward(s.Days) {
		kept := max(d.Wanted-d.Counted, 0)
		waiting := min(kept, max(pending, 0))
		pending -= waiting
		out[i] = &weirv1.QuotaDay{
			Day: d.Day.Begin().Format(time.DateOnly), Traces: count32(d.Counted), TracesKeptBack: count32(kept - waiting),
		}
	}
	return out
}

func projectMessage(p *quota.ProjectStatus, used int64) *weirv1.QuotaProject {
	m := &weirv1.QuotaProject{
		Project: strings.ToValidUTF8(p.Project, "\ufffd"), TracesUsed: count32(p.Used), TracesReserved: count32(p.Reserved),
		TracesHeld: count32(p.Held), TracesDropped: count32(p.Dropped), TracesLimit: optional32(p.Limit),
	}
	if used > 0 {
		m.Share = min(float64(p.Used)/float64(used), 1)
	}
	return m
}

// releasable is how many held traces a release lets go of now: what is held
// and asked for, as far as there is room. The guard has the last word: under
// PolicyPace, and where accounts share a limit, it may let go of fewer.
func releasable(s *quota.Status, req *weirv1.ReleaseHeldRequest) int64 {
	free := s.Policy == quota.PolicyForward
	var n int64
	for i := range s.Projects {
		p := &s.Projects[i]
		if req.Project != nil && p.Project != req.GetProject() {
			continue
		}
		held := p.Held
		if !free && p.Limit >= 0 {
			held = min(held, max(p.Limit-p.Used-p.Reserved, 0))
		}
		n += held
	}
	switch {
	case free:
	case s.Refused != nil && s.Refused.Kind.Monthly():
		n = 0
	case s.Limit >= 0:
		n = min(n, max(s.Limit-s.Used-s.Reserved, 0))
	}
	if req.Traces != nil {
		n = min(n, int64(req.GetTraces()))
	}
	return n
}
