package main

import (
	"fmt"
	"strings"
	"time"

	weirv1 "weir/proto/weir/v1"
)

// monthOf is the name of the scope's month, and the first moment of the next
// one, zero if the month is none.
func monthOf(s *weirv1.QuotaScope) (name string, end time.Time) {
	begin, err := time.Parse("2006-01", s.GetMonth())
	if err != nil {
		return "this month", time.Time{}
	}
	return begin.Format("January"), begin.AddDate(0, 1, 0)
}

func day(t time.Time) string { return t.UTC().Format("2 Jan") }

// traces is a count with its noun.
func traces[N ~int32 | ~int64](n N) string {
	if n == 1 {
		return "1 trace"
	}
	return humanCount(int64(n)) + " traces"
}

// isAre is the verb to a count.
func isAre[N ~int32 | ~int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// quotaSentence says where an account stands: what is used, where that leads,
// and what becomes of the rest.
func quotaSentence(s *weirv1.QuotaScope) string {
	month, _ := monthOf(s)
	if taken(s) == 0 && s.GetTracesHeld() == 0 && s.GetTracesDropped() == 0 {
		if s.TracesLimit == nil {
			return fmt.Sprintf("No traces yet in %s, and no limit.", month)
		}
		return fmt.Sprintf("No traces yet in %s; the limit is %s.", month, humanCount(int64(s.GetTracesLimit())))
	}
	parts := []string{usedClause(s, month)}
	for _, clause := range []string{forecastClause(s), heldClause(s), droppedClause(s)} {
		if clause != "" {
			parts = append(parts, clause)
		}
	}
	return strings.Join(parts, "; ") + "."
}

func usedClause(s *weirv1.QuotaScope, month string) string {
	used, limit := int64(s.GetTracesUsed()), int64(s.GetTracesLimit())
	others := ""
	if s.GetTracesOthers() > 0 {
		others = fmt.Sprintf(", %s of them by others", humanCount(int64(s.GetTracesOthers())))
	}
	switch all := taken(s); {
	case s.TracesLimit == nil:
		return fmt.Sprintf("%s of %s %s used%s, and there is no limit", traces(used), month, isAre(used, "is", "are"), others)
	case all > limit:
		return fmt.Sprintf("%s of %s are used or on their way, %s more than the limit of %s", traces(all), month, humanCount(all-limit), humanCount(limit))
	case all == limit:
		return fmt.Sprintf("All %s of %s are used%s, and new ones are %s", traces(limit), month, others, fate(s))
	default:
		return fmt.Sprintf("%s of %s of %s %s used%s", humanCount(used), traces(limit), month, isAre(used, "is", "are"), others)
	}
}

// fate is what becomes of new traces at the limit.
func fate(s *weirv1.QuotaScope) string {
	switch s.GetPolicy() {
	case "drop":
		return "dropped"
	case "sample":
		return "dropped, but for what is left of the sample"
	case "forward":
		return "sent all the same"
	default:
		return "held"
	}
}

func forecastClause(s *weirv1.QuotaScope) string {
	if s.GetRefusedReason() != "" && s.GetPolicy() != "forward" {
		return "" // nothing new is sent
	}
	if s.TracesLimit != nil && taken(s) >= int64(s.GetTracesLimit()) {
		if s.GetPolicy() == "forward" && s.ProjectedTraces != nil {
			return fmt.Sprintf("at %s a day they will be about %s", pace(s), humanCount(int64(s.GetProjectedTraces())))
		}
		return ""
	}
	if s.PerDay == nil {
		return "too little is known yet to say where that leads"
	}
	if isSet(s.GetForecastExhaustedAt()) {
		return fmt.Sprintf("at %s a day they run out on %s", pace(s), day(s.GetForecastExhaustedAt().AsTime()))
	}
	return fmt.Sprintf("at %s a day the month ends with about %s", pace(s), humanCount(int64(s.GetProjectedTraces())))
}

// pace is the number of new traces a day.
func pace(s *weirv1.QuotaScope) string {
	if s.GetPerDay() < 1 {
		return "less than 1"
	}
	return humanCount(int64(s.GetPerDay() + 0.5))
}

func heldClause(s *weirv1.QuotaScope) string {
	held := s.GetTracesHeld()
	if held == 0 {
		return ""
	}
	_, end := monthOf(s)
	text := traces(held) + isAre(held, " is held", " are held")
	if end.IsZero() {
		return text
	}
	text += isAre(held, " and follows on ", " and follow on ") + day(end)
	if s.TurnRelease != nil && s.GetTurnRelease() < held {
		text += fmt.Sprintf(", at most %s of them", humanCount(int64(s.GetTurnRelease())))
	}
	return text
}

func droppedClause(s *weirv1.QuotaScope) string {
	n := s.GetTracesDropped()
	if n == 0 {
		return ""
	}
	return traces(n) + isAre(n, " was dropped", " were dropped")
}

// standing is what a count leaves of the limit.
func standing(s *weirv1.QuotaScope) string {
	limit := int64(s.GetTracesLimit())
	switch left := limit - taken(s); {
	case s.TracesLimit == nil:
		return "there is no limit"
	case left <= 0:
		return fmt.Sprintf("nothing is left of the limit of %s, and new traces are %s", humanCount(limit), fate(s))
	default:
		return fmt.Sprintf("%s of the limit of %s %s left", humanCount(left), humanCount(limit), isAre(left, "is", "are"))
	}
}

// countSentence says what a corrected count leads to.
func countSentence(s *weirv1.QuotaScope) string {
	month, _ := monthOf(s)
	whose := "all of them sent by weir"
	switch others := s.GetTracesOthers(); {
	case others > 0:
		whose = fmt.Sprintf("%s of them sent by others", humanCount(int64(others)))
	case others < 0:
		whose = fmt.Sprintf("%s fewer than weir has sent", humanCount(-int64(others)))
	}
	return fmt.Sprintf("%s: %s now counts %s, %s; %s.",
		oneLine(s.GetAccount(), maxAccount), month, traces(s.GetTracesUsed()), whose, standing(s))
}

// limitSentence says what a change of the limit leads to.
func limitSentence(r *weirv1.SetQuotaRequest, s *weirv1.QuotaScope) string {
	limit := "there is no limit on a month's traces now"
	if s.TracesLimit != nil {
		limit = fmt.Sprintf("the limit is %s a month now", traces(s.GetTracesLimit()))
	}
	if r.GetClearLimit() {
		limit = "the configured limit applies again; " + limit
	}
	text := fmt.Sprintf("%s: %s", oneLine(s.GetAccount(), maxAccount), limit)
	if r.TracesLimit != nil && s.TracesLimit != nil && r.GetTracesLimit() != s.GetTracesLimit() {
		text += ", for LangSmith itself allows no more"
	}
	if s.TracesLimit != nil {
		month, _ := monthOf(s)
		text += fmt.Sprintf("; %s of %s %s taken", traces(taken(s)), month, isAre(taken(s), "is", "are"))
	}
	if s.GetTracesHeld() > 0 && len(s.GetReleases()) > 0 {
		text += fmt.Sprintf("; of %s held, those that there is room for are released", traces(s.GetTracesHeld()))
	}
	return text + "."
}

// heldOf is what is held of a project, nil for all.
func heldOf(project *string, s *weirv1.QuotaScope) int64 {
	if project == nil {
		return int64(s.GetTracesHeld())
	}
	for _, p := range s.GetProjects() {
		if p.GetProject() == *project {
			return int64(p.GetTracesHeld())
		}
	}
	return 0
}

// releaseSentence says what a release lets go, or why it lets go of nothing.
func releaseSentence(r *weirv1.ReleaseHeldRequest, out *weirv1.ReleaseHeldResponse) string {
	s, n := out.GetScope(), int64(out.GetTraces())
	held := heldOf(r.Project, s)
	of := ""
	if r.Project != nil {
		of = " of " + projectName(r.GetProject())
	}
	account := oneLine(s.GetAccount(), maxAccount) + ": "
	switch {
	case held == 0:
		return account + "nothing" + of + " is held."
	case n == 0:
		return account + "nothing can be released of " + traces(held) + of + " held: " + noRoom(r, s) + "."
	}
	verb := "are released"
	if r.GetDryRun() {
		verb = "would be released"
	} else if n == 1 {
		verb = "is released"
	}
	which := humanCount(n) + " of " + traces(held) + of + " held"
	if n == held {
		which = "all " + traces(held) + of + " held"
	}
	order := "newest first"
	if r.GetOldestFirst() {
		order = "oldest first"
	}
	month, _ := monthOf(s)
	text := fmt.Sprintf("%s%s %s, those that show an error before others, then %s", account, which, verb, order)
	if n < held && (r.Traces == nil || n < int64(r.GetTraces())) {
		text += "; there is no room for more"
	}
	if s.TracesLimit == nil {
		return text + fmt.Sprintf(". They count for %s.", month)
	}
	return text + fmt.Sprintf(". They count for %s: %s of %s are used then.", month, humanCount(taken(s)+n), humanCount(int64(s.GetTracesLimit())))
}

// noRoom says why nothing that is held can go.
func noRoom(r *weirv1.ReleaseHeldRequest, s *weirv1.QuotaScope) string {
	month, end := monthOf(s)
	switch {
	case s.GetRefusedReason() != "" && s.GetPolicy() != "forward":
		return "LangSmith refuses new traces"
	case s.TracesLimit != nil && taken(s) >= int64(s.GetTracesLimit()):
		text := fmt.Sprintf("all %s of %s are used. Raise the limit with `weir quota set-limit`", traces(s.GetTracesLimit()), month)
		if !end.IsZero() {
			text += ", or wait for " + day(end)
		}
		return text
	case r.Project != nil:
		return "the budget of " + projectName(r.GetProject()) + " is used"
	default:
		return "the budgets of the projects they belong to are used"
	}
}
