package smith

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runLines lays out those runs of one request that have ended.
func runLines(batch []Run) []string {
	batch = slices.DeleteFunc(slices.Clone(batch), func(r Run) bool { return !r.Ended() })
	slices.SortStableFunc(batch, func(a, b Run) int {
		// The dotted_order sorts a tree from the root down, by start.
		return cmp.Or(slices.Compare(a.Trace[:], b.Trace[:]), strings.Compare(a.DottedOrder, b.DottedOrder))
	})
	out := make([]string, len(batch))
	for i := range batch {
		out[i] = runLine(&batch[i])
	}
	return out
}

// runLine lays out one run.
func runLine(r *Run) string {
	failed := r.Text("error")
	if first, _, cut := strings.Cut(failed, "\n"); cut {
		failed = first // what follows is a stack trace
	}
	return columns{
		at: r.Time, project: r.Project, trace: strings.ReplaceAll(r.Trace.String(), "-", ""),
		depth: min(strings.Count(r.DottedOrder, "."), maxDepth), name: r.Text("name"),
		kind: cmp.Or(r.Text("run_type"), "chain"), duration: runDuration(r), tokens: runTokens(r), failure: failed,
	}.line()
}

// runDuration is how long a run took.
func runDuration(r *Run) string {
	if isNull(r.Get("start_time")) {
		return "-"
	}
	start, err1 := parseTime(r.Get("start_time"))
	end, err2 := parseTime(r.Get("end_time"))
	took := end.Sub(start)
	// The JS SDK gives a start microseconds that count its runs, an end none.
	if err1 != nil || err2 != nil || took <= -time.Millisecond {
		return "-"
	}
	return short(max(0, took))
}

// runTokens shows the usage a run reports, where the SDKs put it (LangSmith
// docs: log LLM traces).
func runTokens(r *Run) string {
	type usage struct {
		Input  *int64 `json:"input_tokens"`
		Output *int64 `json:"output_tokens"`
		Total  *int64 `json:"total_tokens"`
	}
	var extra struct {
		Metadata struct {
			Usage usage `json:"usage_metadata"`
		} `json:"metadata"`
	}
	var outputs struct {
		Usage usage `json:"usage_metadata"`
	}
	_ = json.Unmarshal(r.Get("extra"), &extra) // of another form: says no usage
	_ = json.Unmarshal(r.Get("outputs"), &outputs)
	text := func(n *int64) string {
		if n == nil {
			return "?"
		}
		return strconv.FormatInt(*n, 10)
	}
	for _, u := range []usage{outputs.Usage, extra.Metadata.Usage} {
		switch {
		case u.Input != nil || u.Output != nil:
			return text(u.Input) + "→" + text(u.Output) + " tok"
		case u.Total != nil:
			return text(u.Total) + " tok"
		}
	}
	return ""
}
