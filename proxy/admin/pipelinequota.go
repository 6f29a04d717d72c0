package admin

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
	"weir/quota"
)

// quotaKeeper is what of a proxy.Forwarder keeps the quota.
type quotaKeeper interface {
	QuotaStatus() []quota.Status
	SetQuotaUsed(account string, traces int64) error
	SetQuotaLimit(account string, traces *int64) error
	ReleaseHeld(account string, o quota.Order) error
}

// Quota implements Source.
func (p *Pipeline) Quota(context.Context) (*weirv1.GetQuotaResponse, error) {
	return quotaDesk{p.Forwarder}.show(), nil
}

// SetQuota implements Source.
func (p *Pipeline) SetQuota(_ context.Context, req *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
	return quotaDesk{p.Forwarder}.set(req)
}

// ReleaseHeld implements Source.
func (p *Pipeline) ReleaseHeld(_ context.Context, req *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
	return quotaDesk{p.Forwarder}.release(req)
}

// quotaDesk answers the calls about the quota.
type quotaDesk struct{ keeper quotaKeeper }

func (d quotaDesk) show() *weirv1.GetQuotaResponse {
	out := &weirv1.GetQuotaResponse{}
	all := d.keeper.QuotaStatus()
	for i := range all {
		out.Scopes = append(out.Scopes, scopeMessage(&all[i]))
	}
	return out
}

// find looks up an account that was known a moment ago: it may have become one
// with another since.
func (d quotaDesk) find(account string) (*quota.Status, error) {
	all := d.keeper.QuotaStatus()
	for i := range all {
		if all[i].Account == account {
			return &all[i], nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf(
		"account %q is not there any more: its tenant is known by now; ask for the accounts again", account))
}

func (d quotaDesk) set(req *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
	account := req.GetAccount()
	if _, err := d.find(account); err != nil {
		return nil, err
	}
	if req.TracesUsed != nil {
		if err := d.keeper.SetQuotaUsed(account, int64(req.GetTracesUsed())); err != nil {
			return nil, fmt.Errorf("set the count of account %s: %w", account, err)
		}
	}
	var err error
	switch {
	case req.GetClearLimit():
		err = d.keeper.SetQuotaLimit(account, nil)
	case req.TracesLimit != nil:
		err = d.keeper.SetQuotaLimit(account, new(int64(req.GetTracesLimit())))
	}
	if err != nil {
		return nil, fmt.Errorf("set the limit of account %s: %w", account, err)
	}
	s, err := d.find(account)
	if err != nil {
		return nil, err
	}
	return &weirv1.SetQuotaResponse{Scope: scopeMessage(s)}, nil
}

func (d quotaDesk) release(req *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
	s, err := d.find(req.GetAccount())
	if err != nil {
		return nil, err
	}
	n := releasable(s, req)
	out := &weirv1.ReleaseHeldResponse{Traces: count32(n), Scope: scopeMessage(s)}
	if n == 0 || req.GetDryRun() {
		return out, nil
	}
	// Not n but what was asked for: more room may be there when it is done.
	most := int64(-1)
	if req.Traces != nil {
		most = int64(req.GetTraces())
	}
	o := quota.Order{Most: most, Project: req.Project, Oldest: req.GetOldestFirst()}
	if err := d.keeper.ReleaseHeld(req.GetAccount(), o); err != nil {
		return nil, fmt.Errorf("order a release for account %s: %w", req.GetAccount(), err)
	}
	return out, nil
}
