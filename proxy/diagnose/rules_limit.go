package diagnose

import "net/http"

// limitRules tell the kinds of 429 apart.
var limitRules = []rule{
	{QuotaUserLimit, limited("quota_user"), func(*Facts) string {
		return "The organization set a monthly limit of its own: ask its admin, or wait for the 1st. The data is kept."
	}},
	{QuotaMonth, limited("quota_month"), func(*Facts) string {
		return "LangSmith refuses new traces until the 1st, 00:00 UTC. Add a card (Settings > Billing; it takes a minute or two), or wait: the data is kept."
	}},
	{RateHourEvents, limited("quota_hour", "quota_minute", "hour_limit"), func(*Facts) string {
		return "Nothing: sending goes on with the next hour, UTC. quota.events_per_hour keeps weir below the plan's limit."
	}},
	{RateHourBytes, limited("quota_bytes"), func(*Facts) string {
		return "Nothing: sending goes on with the next hour, UTC. quota.bytes_per_hour keeps weir below the plan's limit."
	}},
	{QuotaMonth, func(f *Facts) (Confidence, []string) {
		if f.Reason != "quota" {
			return "", nil
		}
		return Possible, []string{answered(f), "Which limit it is, the answer does not say."}
	}, func(*Facts) string {
		return "A limit of the plan is reached: look at LangSmith under Settings > Usage. The data is kept."
	}},
	{RateGateway, func(f *Facts) (Confidence, []string) {
		if f.Reason != "rate" {
			return "", nil
		}
		if f.isHTML() || f.Body == "" {
			return Certain, []string{answered(f), "LangSmith names its limits; a gateway or firewall on the way does not."}
		}
		return Likely, []string{answered(f)}
	}, func(f *Facts) string {
		if f.cloud() {
			return "Nothing: weir sends more slowly."
		}
		return "Nothing: weir sends more slowly. If it lasts, look at the rate rules of your own gateway before LangSmith."
	}},
}

func limited(reasons ...string) func(*Facts) (Confidence, []string) {
	return func(f *Facts) (Confidence, []string) {
		for _, r := range reasons {
			if f.Reason == r {
				if f.Status != http.StatusTooManyRequests {
					return Certain, []string{"weir itself keeps to the limit that it is configured with."}
				}
				return Certain, []string{answered(f)}
			}
		}
		return "", nil
	}
}
