package proxy

import "weir/quota"

// QuotaStatus reports the quota of all accounts, by name.
func (f *Forwarder) QuotaStatus() []quota.Status { return f.guard.Status() }

// SetQuotaUsed corrects the count of the month: so many traces of the account
// were taken, by weir and by others. What there is room for then is released.
func (f *Forwarder) SetQuotaUsed(account string, traces int64) error {
	defer f.pokeHold()
	return f.guard.SetUsed(account, traces)
}

// SetQuotaLimit replaces the configured monthly limit of an account; 0 is no
// limit, nil the configured one again. It outlives a restart. Where there is
// more room then, what is held is released.
func (f *Forwarder) SetQuotaLimit(account string, traces *int64) error {
	defer f.pokeHold()
	return f.guard.SetLimit(account, traces)
}

// ReleaseHeld orders a release of held traces, as far as there is room.
func (f *Forwarder) ReleaseHeld(account string, o quota.Order) error {
	defer f.pokeHold()
	return f.guard.Ask(account, o)
}

// SetQuotaRules replaces limits and policy.
func (f *Forwarder) SetQuotaRules(r quota.Rules) error {
	defer f.pokeHold()
	return f.guard.SetRules(r)
}
