package smith

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// Widths of the columns that Print aligns, in characters.
const (
	projectWidth = 16
	nameWidth    = 32
	runTypeWidth = 9
	maxDepth     = 8
	maxErrorText = 80
)

// Print writes a line for every span and run that a subscription delivers,
// until it is closed or a write fails: time of arrival, project, trace, name
// indented below its parent, run type, duration, tokens and error. Spans and
// runs are ordered by start within their request; a run has its line when it
// has ended. Text that came from outside cannot move the cursor or change
// colours.
func Print(w io.Writer, sub *Subscription) error {
	spans, runs := sub.C, sub.Runs
	for spans != nil || runs != nil {
		var out []string
		select {
		case batch, open := <-spans:
			if !open {
				spans = nil
				continue
			}
			out = missing(lines(batch), sub.Missed(), "spans")
		case batch, open := <-runs:
			if !open {
				runs = nil
				continue
			}
			out = missing(runLines(batch), sub.MissedRuns(), "runs")
		}
		for _, line := range out {
			if _, err := io.WriteString(w, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// missing adds a line about what could not be shown, unless that is nothing.
func missing(lines []string, n int64, what string) []string {
	if n == 0 {
		return lines
	}
	return append(lines, fmt.Sprintf("(%d more %s arrived faster than they could be shown)\n", n, what))
}

// lines lays out the spans of one request.
func lines(batch []Span) []string {
	batch = slices.Clone(batch)
	slices.SortStableFunc(batch, func(a, b Span) int {
		if c := slices.Compare(a.Trace[:], b.Trace[:]); c != 0 {
			return c
		}
		return cmp.Compare(a.OTLP.GetStartTimeUnixNano(), b.OTLP.GetStartTimeUnixNano())
	})
	parents := make(map[SpanID]*tracepb.Span, len(batch))
	for i := range batch {
		parents[batch[i].ID()] = batch[i].OTLP
	}
	out := make([]string, len(batch))
	for i := range batch {
		out[i] = line(&batch[i], depth(&batch[i], parents))
	}
	return out
}

// depth is how far below its root a span is, as far as its request tells. A
// span whose parent came elsewhere is at least no root.
func depth(s *Span, parents map[SpanID]*tracepb.Span) int {
	at, n := s.OTLP, 0
	for len(at.GetParentSpanId()) > 0 && n < maxDepth {
		n++
		id := s.ID()
		copy(id.Span[:], at.GetParentSpanId())
		parent, ok := parents[id]
		if !ok {
			break
		}
		at = parent
	}
	return n
}

// line lays out one span.
func line(s *Span, depth int) string {
	name := s.OTLP.GetName()
	if v := s.Attribute("langsmith.trace.name").GetStringValue(); v != "" {
		name = v
	}
	return columns{
		at: s.Time, project: s.Project, trace: s.Trace.String(), depth: depth, name: name, kind: runType(s),
		duration: duration(s.OTLP), tokens: tokens(s), failure: failure(s),
	}.line()
}

// columns are what a line shows.
type columns struct {
	at               time.Time
	project          string
	trace            string
	depth            int
	name, kind       string
	duration, tokens string
	failure          string // empty: none
}

// line lays out the columns.
func (c columns) line() string {
	out := []string{
		c.at.Format("15:04:05.000"),
		pad(clip(c.project, projectWidth), projectWidth),
		c.trace[:8],
		pad(clip(strings.Repeat("  ", c.depth)+c.name, nameWidth), nameWidth),
		pad(clip(c.kind, runTypeWidth), runTypeWidth),
		fmt.Sprintf("%8s", c.duration),
	}
	if c.tokens != "" {
		out = append(out, c.tokens)
	}
	if c.failure != "" {
		out = append(out, "ERROR "+clip(c.failure, maxErrorText))
	}
	return strings.TrimRight(strings.Join(out, "  "), " ") + "\n"
}

// runType is the kind of run LangSmith makes of a span (LangSmith docs:
// trace-with-opentelemetry); what nothing names is a chain.
func runType(s *Span) string {
	for _, name := range []string{"langsmith.span.kind", "openinference.span.kind", "traceloop.span.kind"} {
		if v := s.Attribute(name).GetStringValue(); v != "" {
			return strings.ToLower(v)
		}
	}
	switch op := s.Attribute("gen_ai.operation.name").GetStringValue(); op {
	case "chat", "completion", "text_completion":
		return "llm"
	case "embedding", "embeddings":
		return "embedding"
	}
	if s.Attribute("gen_ai.tool.name") != nil {
		return "tool"
	}
	return "chain"
}

// tokens shows the usage that GenAI attributes report: in, an arrow, out.
func tokens(s *Span) string {
	in := count(s, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
	out := count(s, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
	if in != "" || out != "" {
		return cmp.Or(in, "?") + "→" + cmp.Or(out, "?") + " tok"
	}
	if total := count(s, "gen_ai.usage.total_tokens"); total != "" {
		return total + " tok"
	}
	return ""
}

// count returns the first of the named attributes that is a number.
func count(s *Span, names ...string) string {
	for _, name := range names {
		switch v := s.Attribute(name).GetValue().(type) {
		case *commonpb.AnyValue_IntValue:
			return strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_DoubleValue:
			return strconv.FormatFloat(v.DoubleValue, 'f', 0, 64)
		case *commonpb.AnyValue_StringValue:
			if _, err := strconv.Atoi(v.StringValue); err == nil {
				return v.StringValue
			}
		}
	}
	return ""
}

// failure is the message of a failed span; empty is success.
func failure(s *Span) string {
	text, failed := s.OTLP.GetStatus().GetMessage(), s.OTLP.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR
	for _, e := range s.OTLP.GetEvents() {
		if e.GetName() != "exception" {
			continue
		}
		failed = true
		text = cmp.Or(text, attribute(e.GetAttributes(), "exception.message").GetStringValue(),
			attribute(e.GetAttributes(), "exception.type").GetStringValue())
	}
	if !failed {
		return ""
	}
	return cmp.Or(text, "(no message)")
}

// duration is how long a span took, to three digits.
func duration(sp *tracepb.Span) string {
	start, end := sp.GetStartTimeUnixNano(), sp.GetEndTimeUnixNano()
	if end < start || start == 0 {
		return "-"
	}
	return short(time.Duration(end - start))
}

// short writes a duration to three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.2fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// clip makes text printable on one line and cuts it to width characters.
func clip(text string, width int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return '·'
	}, text)
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// pad fills text up to width characters.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
