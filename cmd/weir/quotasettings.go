package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"weir/quota"
)

// quotaSettings says how the month's traces are kept to. quotaRules resolves
// what a plan decides.
type quotaSettings struct {
	Traces           int64 // a month; 0: no limit
	Policy           string
	Plan             string // auto, or one of quota.Plans
	EventsPerHour    int64  // 0: no limit; asPlanned: the plan's
	BytesPerHour     int64  // the same
	HoldReleaseShare float64
	HoldMaxAge       time.Duration
	Projects         map[string]int64 // budgets by name
	SampleFrom       float64
	SampleRate       float64
	PricePer1000USD  float64
	AskLangSmith     bool // weir reads usage limits and usage itself
}

const (
	// asPlanned stands for the plan's limit.
	asPlanned = -1
	planAuto  = "auto"

	// maxTraces bounds counts of traces: beyond it a value is a typing error.
	maxTraces = math.MaxInt32
	// maxBudgets bounds the projects with a budget.
	maxBudgets = 1000
	// leastShare is the smallest share; the guard takes 0 for the default.
	leastShare = 0.001
)

// quotaRules are the settings with what the plan decides. A plan of "auto" is
// the free one while quota_traces is not set, and none once it is.
func (s *settings) quotaRules() quota.Rules {
	q := &s.Quota
	limitSet := s.origins["quota_traces"].kind != sourceDefault
	plan := quota.Plan(q.Plan)
	if q.Plan == planAuto {
		plan = quota.PlanDeveloper
		if limitSet {
			plan = quota.PlanCustom
		}
	}
	limits, _ := plan.Limits() // the setting takes no other
	if limitSet {
		limits.TracesPerMonth = q.Traces
	}
	if q.EventsPerHour != asPlanned {
		limits.EventsPerHour = q.EventsPerHour
	}
	if q.BytesPerHour != asPlanned {
		limits.BytesPerHour = q.BytesPerHour
	}
	return quota.Rules{
		Traces: limits.TracesPerMonth, Policy: quota.Policy(q.Policy),
		EventsPerHour: limits.EventsPerHour, BytesPerHour: limits.BytesPerHour, Projects: maps.Clone(q.Projects),
		HoldReleaseShare: q.HoldReleaseShare, SampleFrom: q.SampleFrom, SampleRate: q.SampleRate,
		Included: limits.Included, PricePerThousandUSD: q.PricePer1000USD, Hard: limits.Hard,
	}
}

// atStart reports whether a setting about the quota is no rule of the guard's,
// and is read when weir starts.
func atStart(name string) bool {
	return name == "quota.hold_max_age" || name == "quota.ask_langsmith"
}

// takeQuota takes the rules of the quota from next, and where they were set:
// quotaRules asks that.
func (s *settings) takeQuota(next *settings) {
	maxAge, ask := s.Quota.HoldMaxAge, s.Quota.AskLangSmith
	s.Quota = next.Quota
	s.Quota.HoldMaxAge, s.Quota.AskLangSmith = maxAge, ask
	for i := range table {
		if st := &table[i]; st.group == groupQuota && !atStart(st.name) {
			s.origins[st.name] = next.origins[st.name]
		}
	}
}

func quotaTable() []setting {
	row := func(name, placeholder, fallback, help string, bind func(*settings) value) setting {
		return setting{name: name, group: groupQuota, placeholder: placeholder, fallback: fallback, help: help, bind: bind}
	}
	share := func(name, fallback, help string, field func(*quotaSettings) *float64) setting {
		return row(name, "SHARE", fallback, help, func(s *settings) value {
			return numberValue{to: field(&s.Quota), low: leastShare, high: 1}
		})
	}
	projects := row("quota.projects", "NAME=LIMIT", "", "Budgets of single projects within the month's traces, comma separated; a section of names and numbers in the file.",
		func(s *settings) value { return budgetsValue{to: &s.Quota.Projects} })
	projects.cleared = true
	return []setting{
		row("quota_traces", "N", "5000", "Most traces in a calendar month (UTC), of each LangSmith workspace; 0 or none is no limit. Where it is not set, the limit of quota.plan applies.",
			func(s *settings) value { return limitValue{to: &s.Quota.Traces, high: maxTraces} }),
		row("quota_policy", "POLICY", string(quota.PolicyHold), "What becomes of new traces at the limit: hold keeps them on disk, drop forgets them, forward sends them all the same, "+
			"sample sends some of them and drops the others, pace spreads the traces over the month and holds the others.",
			func(s *settings) value { return choiceValue{to: &s.Quota.Policy, allowed: quota.Policies()} }),
		row("quota.plan", "PLAN", planAuto, "LangSmith plan whose limits apply: developer, developer-card, plus or custom, which has none; auto is developer, or custom once quota_traces is set.",
			func(s *settings) value {
				return choiceValue{to: &s.Quota.Plan, allowed: append([]string{planAuto}, quota.Plans()...)}
			}),
		row("quota.events_per_hour", "N", "plan", "Most spans and run operations that are sent in a clock hour; 0 or none is no limit, plan the plan's.",
			func(s *settings) value {
				return limitValue{to: &s.Quota.EventsPerHour, planned: true, high: math.MaxInt32}
			}),
		row("quota.bytes_per_hour", "SIZE", "plan", "Most bytes that are sent in a clock hour; 0 or none is no limit, plan the plan's.",
			func(s *settings) value {
				return limitValue{to: &s.Quota.BytesPerHour, planned: true, size: true, high: maxDiskBytes}
			}),
		share("quota.hold_release_share", "0.2", "Share of a new month's traces that may be spent on what is held from before.",
			func(q *quotaSettings) *float64 { return &q.HoldReleaseShare }),
		row("quota.hold_max_age", "DURATION", "960h", "How long traces are held before they are dropped.", func(s *settings) value {
			return durationValue{to: &s.Quota.HoldMaxAge, low: time.Hour, high: 10_000 * time.Hour}
		}),
		projects,
		share("quota.sample_from", "0.8", "Share of the limit from which the policy sample samples.",
			func(q *quotaSettings) *float64 { return &q.SampleFrom }),
		share("quota.sample_rate", "0.1", "Share of the traces that the policy sample then sends.",
			func(q *quotaSettings) *float64 { return &q.SampleRate }),
		row("quota.price_per_1000_usd", "USD", "2.50", "Price of a thousand traces beyond those the plan includes, for the forecast of cost. Published prices conflict: 2.50, and 0.50 in LangSmith's documentation.",
			func(s *settings) value { return numberValue{to: &s.Quota.PricePer1000USD, low: 0, high: 1000} }),
		row("quota.ask_langsmith", "", "true", "Ask LangSmith for its usage limits and its count, with the keys that may read them.",
			func(s *settings) value { return boolValue{to: &s.Quota.AskLangSmith} }),
	}
}

// limitValue is a whole number of which 0 is no limit.
type limitValue struct {
	to      *int64
	high    int64
	planned bool // "plan" leaves it to the plan
	size    bool // in bytes, and may have a unit
}

const (
	noLimit   = "none"
	planLimit = "plan"
)

func (v limitValue) shape() yamlShape { return shapeText | shapeInt }

func (v limitValue) String() string {
	switch {
	case *v.to == asPlanned:
		return planLimit
	case *v.to == 0:
		return noLimit
	case v.size && *v.to%1e9 == 0:
		return strconv.FormatInt(*v.to/1e9, 10) + "GB"
	case v.size && *v.to%1e6 == 0:
		return strconv.FormatInt(*v.to/1e6, 10) + "MB"
	case v.size:
		return formatBytes(*v.to)
	default:
		return strconv.FormatInt(*v.to, 10)
	}
}

func (v limitValue) expect() string {
	text := fmt.Sprintf("a whole number up to %d", v.high)
	if v.size {
		text = fmt.Sprintf("a size up to %s, written like 2GB, 500MB or a plain number of bytes", formatBytes(v.high))
	}
	if v.planned {
		return text + "; or 0 or none for no limit, or plan for the plan's"
	}
	return text + "; or 0 or none for no limit"
}

func (v limitValue) parse(text string) error {
	switch word := strings.ToLower(strings.TrimSpace(text)); {
	case word == noLimit:
		*v.to = 0
		return nil
	case word == planLimit && v.planned:
		*v.to = asPlanned
		return nil
	case v.size:
		return bytesValue{to: v.to, high: v.high}.parse(text)
	}
	n, err := parseCount(text, v.high)
	if err != nil {
		return err
	}
	*v.to = n
	return nil
}

// parseCount reads a whole number from 0 to high.
func parseCount(text string, high int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s is out of range", quoted(text))
	case err != nil:
		return 0, fmt.Errorf("%s is not a whole number", quoted(text))
	case n < 0:
		return 0, fmt.Errorf("%d is negative", n)
	case n > high:
		return 0, fmt.Errorf("%d is too large", n)
	}
	return n, nil
}

// numberValue is a decimal number between low and high, both included.
type numberValue struct {
	to        *float64
	low, high float64
}

func (v numberValue) String() string   { return formatNumber(*v.to) }
func (v numberValue) shape() yamlShape { return shapeFloat }
func (v numberValue) expect() string {
	return fmt.Sprintf("a number from %s to %s", formatNumber(v.low), formatNumber(v.high))
}

func (v numberValue) parse(text string) error {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	switch {
	case err != nil || math.IsNaN(n) || strings.ContainsAny(text, "xXpP_"):
		return fmt.Errorf("%s is not a number", quoted(text))
	case n < v.low:
		return fmt.Errorf("%s is too small", quoted(text))
	case n > v.high:
		return fmt.Errorf("%s is too large", quoted(text))
	}
	*v.to = n + 0 // no negative zero
	return nil
}

func formatNumber(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// budgetsValue is a number of traces for each of some projects.
type budgetsValue struct{ to *map[string]int64 }

func (v budgetsValue) shape() yamlShape { return shapeText | shapeList | shapeMap }
func (v budgetsValue) expect() string {
	return "a list of NAME=LIMIT, such as chat=500, with the most traces of a project in a month; names hold no comma"
}

func (v budgetsValue) String() string {
	parts := make([]string, 0, len(*v.to))
	for _, name := range slices.Sorted(maps.Keys(*v.to)) {
		parts = append(parts, name+"="+strconv.FormatInt((*v.to)[name], 10))
	}
	return strings.Join(parts, ",")
}

func (v budgetsValue) parse(text string) error {
	budgets := map[string]int64{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		at := strings.LastIndexByte(item, '=') // names may hold one
		if at < 0 {
			return fmt.Errorf("%s has no limit", quoted(item))
		}
		name, err := budgetName(item[:at])
		if err != nil {
			return err
		}
		if _, twice := budgets[name]; twice {
			return fmt.Errorf("project %s is there twice", quoted(name))
		}
		if budgets[name], err = budgetLimit(item[at+1:]); err != nil {
			return err
		}
	}
	if len(budgets) > maxBudgets {
		return fmt.Errorf("%d projects are too many, at most %d may have a budget", len(budgets), maxBudgets)
	}
	*v.to = budgets
	return nil
}

// budgetName checks the name of a project with a budget.
func budgetName(name string) (string, error) {
	switch name = strings.TrimSpace(name); {
	case name == "":
		return "", errors.New("a limit has no project")
	case strings.ContainsFunc(name, func(r rune) bool { return r == ',' || unicode.IsControl(r) }):
		return "", fmt.Errorf("%s holds a comma or a control character", quoted(name))
	}
	return name, nil
}

// budgetLimit reads a project's budget. There is no 0, for that could mean
// none of its traces as well as all.
func budgetLimit(text string) (int64, error) {
	n, err := parseCount(strings.TrimSpace(text), maxTraces)
	if err == nil && n == 0 {
		err = errors.New("a budget of 0 leaves open whether it is none or no limit")
	}
	return n, err
}
