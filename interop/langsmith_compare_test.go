//go:build interop

package interop

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// chosenID begins an id that an application chose; such ids are compared as
// they are.
const chosenID = "00000000-0000-4000-8000-"

// Ids and times within a value.
var (
	anyUUID     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyHex      = regexp.MustCompile(`\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b`)
	orderStamp  = regexp.MustCompile(`\d{8}T\d{12}Z`)
	localServer = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	jsFrame     = regexp.MustCompile(`\\n {4}at [^\\"]*`)
	experiment  = regexp.MustCompile(`(capitals-)[0-9a-f]{8}\b`)
)

// rule is one reason for which a field may differ between two executions of a
// program. What no rule names is compared letter for letter.
type rule struct {
	field  string // a pattern that must match the whole pointer
	reason string
	// replace is given the value and returns what is compared; nil: the field
	// only has to be there.
	replace func(value string) string
}

// rules are all of them. Ids are no rule: those of runs and spans are replaced
// by the places of what they name, and so are compared, too; ids that name
// neither, such as those of messages and datasets, only have to be ids.
var rules = []rule{
	{field: `(/inputs/.*|/outputs/.*|)/(start|end)_time`, reason: "when the program ran, or a run that an evaluator is given; runItem says what is compared of it"},
	{field: `/events/\d+/time`, reason: "when it happened; but one that an application chose is of 2026-01-02", replace: chosenTime},
	{field: `(/inputs/.*|)/(created|modified)_at`, reason: "when a feedback or an example was made"},
	{field: `/.*/example_version`, reason: "when an evaluation's examples were made"},
	{field: `/.*dotted_order(/stringValue)?`, reason: "times between the ids", replace: replacer(orderStamp, "<time>")},
	{field: `/.*/exception\.stacktrace/stringValue`, reason: "JavaScript: where the SDK was when it noticed", replace: replacer(jsFrame, "")},
	{field: `/.*LANGSMITH_ENDPOINT(/stringValue)?`, reason: "SDKs copy their environment into metadata: weir's address here, the look-alike's there"},
	{field: `/.*`, reason: "an evaluation names its experiment at random", replace: replacer(experiment, "${1}<random>")},
	{field: `/.*`, reason: "addresses of servers in texts", replace: replacer(localServer, "<server>")},
	{field: `/scopeSpans/0/spans/0/(start|end)TimeUnixNano`, reason: "when the program ran"},
	{field: `/scopeSpans/0/spans/0/(events/\d+/timeUnixNano|traceId|spanId|parentSpanId)`, reason: "times; ids in base64, compared by place elsewhere"},
	{field: `/inputs/(startTime|endTime|completionStartTime|response_time)`, reason: "LiteLLM measures its calls"},
	{field: `/(inputs/response|outputs)/created`, reason: "LiteLLM's time of an answer"},
	{field: `/inputs/hidden_params/litellm_overhead_time_ms`, reason: "LiteLLM measures itself"},
}

// chosenTime keeps a time that an application chose.
func chosenTime(value string) string {
	if strings.HasPrefix(value, `"2026-01-02T`) {
		return value
	}
	return "<time>"
}

// replacer returns a function that replaces what matches.
func replacer(pattern *regexp.Regexp, with string) func(string) string {
	return func(value string) string { return pattern.ReplaceAllString(value, with) }
}

// compiledRules are the patterns of rules, in their order.
var compiledRules = func() []*regexp.Regexp {
	var patterns []*regexp.Regexp
	for _, r := range rules {
		patterns = append(patterns, regexp.MustCompile("^(?:"+r.field+")$"))
	}
	return patterns
}()

// normalFields returns fields without what differs each time: names has the
// places of runs and spans by id, traces those of the roots of OTel traces.
func normalFields(fields, names, traces map[string]string) map[string]string {
	normal := make(map[string]string, len(fields))
	for pointer, value := range fields {
		value = anyUUID.ReplaceAllStringFunc(value, func(id string) string {
			switch place := names[id]; {
			case strings.HasPrefix(id, chosenID):
				return id
			case place != "":
				return "<" + place + ">"
			default:
				return "<uuid>"
			}
		})
		value = anyHex.ReplaceAllStringFunc(value, func(id string) string {
			if place := names[id] + traces[id]; place != "" {
				return "<" + place + ">"
			}
			return id
		})
		pointer = anyUUID.ReplaceAllString(pointer, "<uuid>")
		for i, r := range rules {
			switch {
			case !compiledRules[i].MatchString(pointer):
			case r.replace == nil:
				value = "<" + r.reason + ">"
			default:
				value = r.replace(value)
			}
		}
		normal[pointer] = value
	}
	return normal
}

// differences says how what arrived through weir differs from what the same
// program delivered directly.
func differences(direct, through []item) []string {
	want, got := placed(direct), placed(through)
	var out []string
	for _, place := range sortedKeys(want) {
		other, ok := got[place]
		if !ok {
			out = append(out, fmt.Sprintf("%s did not arrive", place))
			continue
		}
		a, b := want[place].fields, other.fields
		for _, pointer := range sortedKeys(a, b) {
			x, inA := a[pointer]
			y, inB := b[pointer]
			switch {
			case !inB:
				out = append(out, fmt.Sprintf("%s: %s is missing, directly it is %.200s", place, pointer, x))
			case !inA:
				out = append(out, fmt.Sprintf("%s: %s is %.200s, directly there is none", place, pointer, y))
			case x != y:
				out = append(out, fmt.Sprintf("%s: %s is %.200s, directly %.200s", place, pointer, y, x))
			}
		}
	}
	for _, place := range sortedKeys(got) {
		if _, ok := want[place]; !ok {
			out = append(out, fmt.Sprintf("%s arrived, directly it does not", place))
		}
	}
	return out
}

// checkSame reports the differences, of very many the first.
func checkSame(t *testing.T, direct, through []item) {
	t.Helper()
	found := differences(direct, through)
	const most = 40
	if len(found) > most {
		found = append(found[:most], fmt.Sprintf("and %d more", len(found)-most))
	}
	if len(found) > 0 {
		t.Errorf("of %d items that the program delivers directly and %d that arrived:\n%s", len(direct), len(through), strings.Join(found, "\n"))
	}
}

// sortedKeys returns the keys of all maps, each once.
func sortedKeys[V any](maps ...map[string]V) []string {
	var keys []string
	for _, m := range maps {
		for key := range m {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
