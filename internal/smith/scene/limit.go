package scene

import (
	"weir/internal/smith"
)

// over is a workspace that has used up what it may, by other senders; then its
// limits go.
func over(l smith.Limits, used smith.Traffic, sw smith.Switches, script ...smith.Fault) func(*Stage) error {
	return func(st *Stage) error {
		h, err := st.host(smith.Config{Limits: l, Switches: sw})
		if err != nil {
			return err
		}
		h.AddTraffic(Tenant, used)
		h.Script(script...)
		st.heal = func(*Client) error {
			h.SetLimits(smith.Limits{})
			h.ClearFaults()
			return nil
		}
		return nil
	}
}

const (
	monthBody    = "{\"error\":\"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded\"}\n"
	monthOldBody = `{"detail":"Monthly unique traces usage limit exceeded"}`
)

// limits are the kinds of 429. Of the service's own only the month's words have
// been published; the others are package smith's guesses.
var limits = []Scene{
	{
		Name: "quota_month", Cause: "quota_month", Fate: Waits, Status: 429, Body: monthBody,
		play: over(smith.Limits{MonthlyTraces: 5000}, smith.Traffic{Traces: 5000}, smith.Switches{}),
	},
	{
		Name: "quota_month_old_words", Cause: "quota_month", Fate: Waits, Status: 429, Body: monthOldBody,
		play: over(smith.Limits{MonthlyTraces: 5000}, smith.Traffic{Traces: 5000}, smith.Switches{QuotaWording: smith.WordingOld}),
	},
	// A client that may not ask learns of a raised limit only by the month's turn
	// or from a person: there is nothing to mend at the service.
	{
		Name: "quota_month_not_to_be_asked", Cause: "quota_month", Fate: Waits, Status: 429, Body: monthBody,
		play: func(st *Stage) error {
			err := over(smith.Limits{MonthlyTraces: 5000}, smith.Traffic{Traces: 5000}, smith.Switches{}, smith.LimitsDenied.Faults()...)(st)
			st.heal = nil
			return err
		},
	},
	{
		Name: "quota_user_limit", Cause: "quota_user_limit", Fate: Waits, Status: 429, Body: "usage limit monthly_traces of 100 exceeded",
		play: over(smith.Limits{UserMonthlyTraces: 100}, smith.Traffic{Traces: 100}, smith.Switches{}),
	},
	{
		Name: "quota_user_limit_unknown", Cause: "quota_user_limit", Fate: Waits, Status: 429,
		Body: "usage limit monthly_longlived_traces of 5000 exceeded", play: faulty(smith.UserLimitUnknown.Faults()...),
	},
	{
		Name: "rate_hour_events", Cause: "rate_hour_events", Fate: Waits, Status: 429, Body: "Hourly events usage limit exceeded",
		play: over(smith.Limits{HourlyEvents: 50_000}, smith.Traffic{Events: 50_000}, smith.Switches{}),
	},
	// There is no code for the minute's events: it is the same limit, sooner over.
	{
		Name: "rate_minute_events", Cause: "rate_hour_events", Fate: Waits, Status: 429, Body: "Events per minute usage limit exceeded",
		play: over(smith.Limits{MinuteEvents: 5000}, smith.Traffic{Events: 5000}, smith.Switches{}),
	},
	{
		Name: "rate_hour_bytes", Cause: "rate_hour_bytes", Fate: Waits, Status: 429, Body: "Hourly payload size usage limit exceeded",
		play: over(smith.Limits{HourlyBytes: 500_000_000}, smith.Traffic{Bytes: 500_000_000}, smith.Switches{}),
	},
	{Name: "rate_gateway", Cause: "rate_gateway", Fate: Waits, Status: 429, Body: `{"detail":"Too many requests"}`, play: faulty(always(smith.Throttled))},
	{Name: "rate_gateway_empty", Cause: "rate_gateway", Fate: Waits, Status: 429, play: faulty(always(smith.GatewayRate))},
	{Name: "rate_gateway_page", Cause: "rate_gateway", Fate: Waits, Status: 429, Body: "429 Too Many Requests", play: faulty(always(smith.WAFRate))},
}
