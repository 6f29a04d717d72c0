package smith

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Situation is a state of the service, or of what stands in its place, that
// takes several faults to play. Its name is what the control API takes.
type Situation string

// The situations. All last until ClearFaults.
const (
	// Incident refuses ingest with 403, whatever the key, and fails everything
	// else with 500 (LangSmith's incident of 17 June 2024: the metering
	// provider was down).
	Incident Situation = "incident"
	// IncidentFlipping answers now 403, now 503 to ingest, and every other
	// time 500 to everything else.
	IncidentFlipping Situation = "incident_flipping"
	// UISite is the host of the web interface: a page for every GET, 405 for
	// everything else (langsmith-sdk 637).
	UISite Situation = "ui_site"
	// UserLimitUnknown is a limit that the organization set itself and of which
	// the service does not say which. Its 429 has not been published; the kind
	// is in the service's API.
	UserLimitUnknown Situation = "user_limit_unknown"
	// LimitsDenied refuses to say which limit is met: a key may send without
	// being allowed to ask.
	LimitsDenied Situation = "limits_denied"
)

// paths of reads that situations are about.
const usageLimitsPath = "/workspaces/current/usage_limits"

var situations = map[Situation][]Fault{
	Incident: {
		named(Forbidden, MatchIngest),
		named(ServerError, ""),
	},
	IncidentFlipping: {
		every(2, named(Forbidden, MatchIngest)),
		named(Unavailable, MatchIngest),
		every(2, named(ServerError, "")),
	},
	UISite: {
		method(http.MethodGet, named(UIPage, "")),
		method(http.MethodHead, named(UIPage, "")),
		named(UIHost, ""),
	},
	UserLimitUnknown: {
		named(UserLimit, MatchIngest),
		{
			Name: "usage_limits", Match: usageLimitsPath, Count: Forever, Status: http.StatusOK,
			Body: `{"in_reject_set":true,"usage_limit_type":"user_defined_unknown","tenant_limit":null}`,
		},
	},
	LimitsDenied: {
		named(Forbidden, usageLimitsPath),
	},
}

// named is a canned fault that strikes what matches for good.
func named(c Canned, match string) Fault {
	f := c.Fault().Always()
	f.Match = match
	return f
}

func every(n int, f Fault) Fault {
	f.Every = n
	return f
}

func method(name string, f Fault) Fault {
	f.Method = name
	return f
}

// Faults returns what to script for s; nothing for a name that is none of
// Situations.
func (s Situation) Faults() []Fault {
	list := slices.Clone(situations[s])
	for i := range list {
		list[i].Header = list[i].Header.Clone()
	}
	return list
}

// Situations returns every name, sorted.
func Situations() []Situation {
	names := make([]Situation, 0, len(situations))
	for s := range situations {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}

// parseSituation checks a name.
func parseSituation(name string) (Situation, error) {
	if s := Situation(name); situations[s] != nil {
		return s, nil
	}
	var known []string
	for _, s := range Situations() {
		known = append(known, string(s))
	}
	return "", fmt.Errorf("situation %q is not known; use one of %s", name, strings.Join(known, ", "))
}
