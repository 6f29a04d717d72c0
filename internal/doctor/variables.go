package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"weir/internal/spelling"
	"weir/proxy/diagnose"
)

// families are the prefixes of LangSmith's variables. The SDKs and weir take
// the first one that is set (langsmith-sdk: get_env_var).
var families = [2]string{"LANGSMITH_", "LANGCHAIN_"}

// meant are the variables without which traces go nowhere or astray, and what
// it is when one is missing.
var meant = []struct {
	suffix string
	cause  diagnose.Code
}{
	{"API_KEY", diagnose.KeyMissing},
	{"ENDPOINT", diagnose.EndpointMalformed},
	{"WORKSPACE_ID", diagnose.WorkspaceRequired},
	{"PROJECT", ""},
	{"TRACING", ""},
	{"TRACING_V2", ""},
}

// otherNames are names that people give to the variables above, too far off to
// be told by their spelling.
var otherNames = map[string]string{
	"LANGSMITH_KEY": "LANGSMITH_API_KEY", "LANGSMITH_TOKEN": "LANGSMITH_API_KEY", "LANGCHAIN_KEY": "LANGCHAIN_API_KEY",
	"LANGSMITH_URL": "LANGSMITH_ENDPOINT", "LANGSMITH_API_URL": "LANGSMITH_ENDPOINT", "LANGSMITH_HOST": "LANGSMITH_ENDPOINT",
	"LANGSMITH_WORKSPACE": "LANGSMITH_WORKSPACE_ID", "LANGSMITH_API_ENDPOINT": "LANGSMITH_ENDPOINT",
	"LANGSMITH_PROJECT_NAME": "LANGSMITH_PROJECT",
}

// knownNames are names near the ones above that something reads (langsmith-sdk,
// LangChain, LiteLLM).
var knownNames = []string{
	"LANGCHAIN_TRACING", "LANGCHAIN_HUB_API_KEY", "LANGCHAIN_HUB_API_URL", "LANGCHAIN_SESSION", "LANGSMITH_SESSION",
	"LANGSMITH_RUNS_ENDPOINTS", "LANGSMITH_BASE_URL", "LANGSMITH_TENANT_ID", "LANGSMITH_PROFILE",
}

// maxTypo is the edit distance up to which a name is taken for a misspelt one:
// two letters that changed places are two.
const maxTypo = 2

// typo is a variable that nobody reads.
type typo struct {
	name, meant string
	cause       diagnose.Code
}

// variables looks for names that were meant to be others.
func (v *visit) variables(context.Context) []Check {
	var missing, harmless []typo
	for _, t := range typos(v.cfg.Environ) {
		if v.isSet(t.meant) || t.cause == "" {
			harmless = append(harmless, t)
		} else {
			missing = append(missing, t)
		}
	}
	all := slices.Concat(missing, harmless)
	if len(all) == 0 {
		return good("no misspelt LANGSMITH_ or LANGCHAIN_ variable")
	}
	var seen, remedy []string
	for _, t := range all {
		seen = append(seen, t.name+" is set, and nothing reads it")
		remedy = append(remedy, fmt.Sprintf("Rename %s to %s, or unset it.", t.name, t.meant))
	}
	c := Check{OK: len(missing) == 0, Cause: all[0].cause, Seen: strings.Join(seen, "; "), Remedy: strings.Join(remedy, " ")}
	return []Check{c}
}

// isSet reports whether a variable, or the same of the other family, has a
// value.
func (v *visit) isSet(name string) bool {
	for _, family := range families {
		if suffix, ok := strings.CutPrefix(name, family); ok {
			return slices.ContainsFunc(families[:], func(f string) bool { return strings.TrimSpace(v.env(f+suffix)) != "" })
		}
	}
	return false
}

// typos finds them in the order of their names.
func typos(environ []string) []typo {
	var found []typo
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.TrimSpace(value) == "" {
			continue
		}
		if t, ok := typoOf(name); ok {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b typo) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(found, func(a, b typo) bool { return a.name == b.name })
}

// typoOf tells whether name is a misspelt one, and of which.
func typoOf(name string) (typo, bool) {
	upper := strings.ToUpper(strings.TrimSpace(name))
	if !strings.HasPrefix(upper, "LANG") || slices.Contains(knownNames, name) {
		return typo{}, false
	}
	best := typo{name: name}
	distance := maxTypo + 1
	for _, m := range meant {
		for _, family := range families {
			target := family + m.suffix
			if name == target {
				return typo{}, false
			}
			d := spelling.Distance(upper, target)
			if bare := strings.NewReplacer("_", "", "-", ""); bare.Replace(upper) == bare.Replace(target) {
				d = min(d, 1)
			}
			if d < distance {
				distance, best.meant, best.cause = d, target, m.cause
			}
		}
	}
	if distance <= maxTypo {
		return best, true
	}
	if target, ok := otherNames[upper]; ok {
		best.meant = target
		for _, m := range meant {
			if strings.HasSuffix(target, "_"+m.suffix) {
				best.cause = m.cause
			}
		}
		return best, true
	}
	return typo{}, false
}

// families looks for variables of both families that contradict each other.
func (v *visit) families(context.Context) []Check {
	var seen, remedy []string
	var cause diagnose.Code
	for _, m := range meant[:4] {
		winner, loser := families[0]+m.suffix, families[1]+m.suffix
		a, b := strings.TrimSpace(v.env(winner)), strings.TrimSpace(v.env(loser))
		if a == "" || b == "" || a == b {
			continue
		}
		if m.suffix == "API_KEY" {
			a, b = diagnose.Hint(a), diagnose.Hint(b)
			cause = diagnose.StaleKey
		}
		a, _, _ = strings.Cut(a, "?") // a query may hold a secret
		b, _, _ = strings.Cut(b, "?")
		seen = append(seen, fmt.Sprintf("%s (%s) wins over %s (%s)", winner, a, loser, b))
		remedy = append(remedy, "Unset "+loser+".")
	}
	if len(seen) == 0 {
		return good("LANGSMITH_ and LANGCHAIN_ variables do not contradict each other")
	}
	remedy = append(remedy, "Old SDKs read LANGCHAIN_ alone.")
	return warn(cause, strings.Join(seen, "; "), strings.Join(remedy, " "))
}
