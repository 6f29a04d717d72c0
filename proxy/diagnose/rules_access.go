package diagnose

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// accessRules explain why a well-formed key is refused. LangSmith's answer is
// the same for most of them: only history and probes tell them apart.
var accessRules = []rule{
	{PlanMissing, func(f *Facts) (Confidence, []string) {
		switch {
		case f.deniesKey() && f.says("no plan found"), f.Status == http.StatusPaymentRequired:
			return Certain, []string{answered(f)}
		default:
			return "", nil
		}
	}, func(*Facts) string {
		return "LangSmith says that the organization has no plan: finish its set-up under Settings > Billing."
	}},
	{RegionMismatch, regionFound, func(f *Facts) string {
		return fmt.Sprintf("The key belongs to another region: set LANGSMITH_ENDPOINT=%s%s.", regionOf(f), forWeir(f))
	}},
	{UpstreamIncident, incident, func(*Facts) string {
		return "Nothing: weir keeps the data and tries again every minute at the latest. If it lasts, look at status.smith.langchain.com."
	}},
	{StaleKey, staleKey, func(f *Facts) string {
		return fmt.Sprintf("The application still sends %s; weir is configured with %s, which LangSmith takes. Restart the application's process, kernel or container, and load .env before importing the SDK. "+
			"What waits can go out under weir's key: weir quarantine release ID --as-own-key.", f.keyName(), f.OwnHint)
	}},
	{RegionMismatch, regionPossible, func(f *Facts) string {
		return "If the account is in another region, set LANGSMITH_ENDPOINT to its API host (https://eu.api.smith.langchain.com, https://apac.api.smith.langchain.com or https://aws.api.smith.langchain.com)" +
			forWeir(f) + ". weir doctor --regions finds out which, by sending the key to each."
	}},
	{KeyRevoked, keyRevoked, func(f *Facts) string {
		return fmt.Sprintf("Create a new key in LangSmith (Settings > API Keys) and put it into %s%s. %s", f.keyPlace(), forWeir(f), thenSent(f))
	}},
	{QuotaMonth, usedUp, func(*Facts) string {
		return "Look at LangSmith under Settings > Usage: if a limit is reached, raise it or wait for the 1st. The data is kept."
	}},
}

// usedUp: two stray reports tie a 403 to a plan's limit. LangSmith's own word on
// that is asked for; it does not say that this is why.
func usedUp(f *Facts) (Confidence, []string) {
	p := f.Probes.Limits
	if !unspecific(f) || !p.ok() || !inRejectSet.MatchString(p.Body) {
		return "", nil
	}
	return Possible, []string{answered(f), "LangSmith says that it refuses the workspace's data for a limit (usage_limits)."}
}

var inRejectSet = regexp.MustCompile(`"in_reject_set"\s*:\s*true`)

// forWeir says how a setting takes effect.
func forWeir(f *Facts) string {
	if f.OwnKey {
		return " and restart weir (if it stands in a file, kill -HUP is enough)"
	}
	return ""
}

// thenSent says what becomes of what waits once the key is right. What came with a
// caller's key stays under that key, unless the new one is known to be of the same
// tenant.
func thenSent(f *Facts) string {
	if f.OwnKey {
		return "What waits is then sent."
	}
	return "What waits came with the old key: unless weir knows both keys to be of one tenant, send it with weir quarantine release ID --as-own-key."
}

// regionOf is the region that knows the key, if exactly one does.
func regionOf(f *Facts) string {
	found := ""
	for _, base := range slices.Sorted(maps.Keys(f.Probes.Regions)) {
		if s := f.Probes.Regions[base]; s >= 200 && s < 300 {
			if found != "" {
				return ""
			}
			found = base
		}
	}
	return found
}

func regionFound(f *Facts) (Confidence, []string) {
	base := regionOf(f)
	if base == "" || !f.deniesKey() {
		return "", nil
	}
	return Certain, []string{answered(f), fmt.Sprintf("%s takes the same key, %s does not.", base, f.host())}
}

// unspecific reports a refusal of a key that says nothing of why.
func unspecific(f *Facts) bool {
	return f.deniesKey() && !f.isHTML() && f.Key.Kind != KeyNone && f.Key.Kind != KeyV1 &&
		!f.says("org_scoped_key", "no plan found", "not a valid uuid", "outdated v1", "legacy api key")
}

const (
	// incidentWithin is how fresh a sign of trouble on LangSmith's side must be.
	incidentWithin = 10 * time.Minute
	// incidentFor is how long keys that are refused, while LangSmith answers well
	// otherwise, are taken for an incident. The one on record of that kind took 20
	// minutes (LangSmith's status page, 17 June 2024).
	incidentFor = 30 * time.Minute
)

// young reports whether the refusals began a short time ago.
func (f *Facts) young() bool { return f.Time.Sub(f.since()) < incidentFor }

func incident(f *Facts) (Confidence, []string) {
	if !unspecific(f) {
		return "", nil
	}
	h := &f.History
	var signs []string
	if !h.ServerErrors.IsZero() && f.Time.Sub(h.ServerErrors) < incidentWithin {
		signs = append(signs, "LangSmith answers other requests with 5xx.")
	}
	if f.Probes.Sessions.broken() || f.Probes.Limits.broken() || f.Probes.Info.broken() {
		signs = append(signs, "LangSmith answers reads with 5xx, too.")
	}
	if h.OtherKeysRefused > 0 && f.young() {
		signs = append(signs, fmt.Sprintf("%d other keys that were taken within the hour before are refused since, too.", h.OtherKeysRefused))
	}
	accepted := ""
	if f.acceptedLately() {
		accepted = fmt.Sprintf("LangSmith took this key until %s, %s before.", h.Accepted.UTC().Format(time.RFC3339), round(f.since().Sub(h.Accepted)))
	}
	switch {
	case len(signs) > 0 && accepted != "" && (f.young() || !f.Probes.Sessions.denied()):
		// Else something that fails by itself for ever would hide that the key is dead.
		return Likely, append([]string{answered(f), accepted}, signs...)
	case len(signs) > 0:
		return Possible, append([]string{answered(f)}, signs...)
	case accepted != "" && f.Probes.Sessions.ok() && f.young():
		return Likely, []string{answered(f), accepted, "LangSmith takes the same key for reads."}
	case accepted != "" && f.Probes.Sessions == nil:
		return Possible, []string{answered(f), accepted, "Short bursts of 403 heal by themselves."}
	default:
		return "", nil
	}
}

func staleKey(f *Facts) (Confidence, []string) {
	if !unspecific(f) || f.OwnKey || f.OwnHint == "" || f.History.OwnAccepted.IsZero() || f.Probes.Sessions.ok() {
		return "", nil
	}
	return Likely, []string{answered(f), fmt.Sprintf("weir's own key %s is taken at the same place, last at %s.", f.OwnHint, f.History.OwnAccepted.UTC().Format(time.RFC3339))}
}

func keyRevoked(f *Facts) (Confidence, []string) {
	if !unspecific(f) || f.Probes.Sessions.ok() || f.Probes.WithoutWorkspace.ok() {
		return "", nil
	}
	evidence := []string{answered(f)}
	if f.Probes.Sessions.denied() {
		evidence = append(evidence, "Reads with the same key are refused, too.")
	}
	if swept := len(f.Probes.Regions); swept > 0 && regionOf(f) == "" {
		evidence = append(evidence, fmt.Sprintf("None of LangSmith's %d other regions knows the key.", swept))
		if f.Probes.Sessions.denied() {
			return Likely, evidence
		}
	}
	if f.History.Accepted.IsZero() {
		return Possible, append(evidence, "weir has never seen this key taken.")
	}
	evidence = append(evidence, fmt.Sprintf("The key was taken until %s.", f.History.Accepted.UTC().Format(time.RFC3339)))
	if f.Probes.Sessions.denied() {
		return Likely, evidence
	}
	return Possible, evidence
}

// regionPossible: a key that never worked here may be another region's.
func regionPossible(f *Facts) (Confidence, []string) {
	if !unspecific(f) || !f.cloud() || f.Status != http.StatusForbidden || len(f.Probes.Regions) > 0 || !f.History.Accepted.IsZero() ||
		f.Probes.Sessions.ok() || f.Probes.WithoutWorkspace.ok() || len(f.Key.Flaws) > 0 {
		return "", nil
	}
	return Possible, []string{answered(f), "The key is well formed, and weir has never seen it taken here. LangSmith answers a key of another region so."}
}

func round(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Minute)
	}
	return d.Round(time.Second)
}
