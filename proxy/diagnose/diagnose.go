package diagnose

import (
	"cmp"
	"slices"
)

// maxCauses bounds how many possible causes are named.
const maxCauses = 4

// Diagnose ranks the causes that explain a refusal. It is pure: the same facts
// give the same diagnosis. There is always a first cause; it may be Unknown.
func Diagnose(f *Facts) Diagnosis {
	var d Diagnosis
	for i := range rules {
		r := &rules[i]
		confidence, evidence := r.applies(f)
		if confidence == "" {
			continue
		}
		d.Causes = append(d.Causes, Cause{Code: r.code, Confidence: confidence, Evidence: evidence, Remedy: r.remedy(f)})
	}
	slices.SortStableFunc(d.Causes, func(a, b Cause) int { return cmp.Compare(rank[a.Confidence], rank[b.Confidence]) })
	d.Causes = onePerCode(d.Causes)
	if len(d.Causes) == 0 {
		d.Causes = []Cause{unknown(f)}
	}
	if d.Causes[0].Confidence == Certain {
		d.Causes = slices.DeleteFunc(d.Causes, func(c Cause) bool { return c.Confidence != Certain })
	} else {
		d.Wants = wants(f)
	}
	d.Causes = d.Causes[:min(len(d.Causes), maxCauses)]
	return d
}

var rank = map[Confidence]int{Certain: 0, Likely: 1, Possible: 2}

// onePerCode keeps the first cause of each code.
func onePerCode(causes []Cause) []Cause {
	seen := map[Code]bool{}
	return slices.DeleteFunc(causes, func(c Cause) bool {
		if seen[c.Code] {
			return true
		}
		seen[c.Code] = true
		return false
	})
}

// rule is one way to recognise a cause. A code may have several.
type rule struct {
	code Code
	// applies returns how sure the cause is and what speaks for it; an empty
	// confidence where it does not fit.
	applies func(*Facts) (Confidence, []string)
	remedy  func(*Facts) string
}

// rules are all rules, those that say more before those that say less.
var rules = slices.Concat(pathRules, credentialRules, workspaceRules, accessRules, limitRules, contentRules, wayRules)

// wants are the probes whose results would tell more of the causes apart.
func wants(f *Facts) []Probe {
	var out []Probe
	switch {
	case f.deniesKey() && !f.isHTML():
		out = append(out, ProbeSessions, ProbeLimits)
		if f.Workspace != "" {
			out = append(out, ProbeWithoutHeader)
		}
		if !f.Probes.Sessions.ok() {
			out = append(out, ProbeRegions)
		}
	case f.Status != 0 && (f.isHTML() || f.Status >= 300 && f.Status < 400 || f.Status == 404 || f.Status == 405):
		out = append(out, ProbeInfo)
	case f.Reason == "tls":
		out = append(out, ProbeCertificate)
	}
	return out
}

// Codes are the codes that a diagnosis can name, in the order of the reference.
func Codes() []Code {
	out := make([]Code, len(reference))
	for i := range reference {
		out[i] = reference[i].code
	}
	return out
}
