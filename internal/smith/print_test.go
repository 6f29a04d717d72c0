package smith

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

func TestPrintShowsOneAlignedLinePerSpan(t *testing.T) {
	root := newSpan(1, 1)
	root.Name = "agent"
	root.EndTimeUnixNano += uint64(61 * time.Second)
	llm := newSpan(1, 2, str("gen_ai.operation.name", "chat"), num("gen_ai.usage.input_tokens", 1203), num("gen_ai.usage.output_tokens", 88))
	llm.ParentSpanId = spanID(1)
	llm.StartTimeUnixNano, llm.EndTimeUnixNano = llm.StartTimeUnixNano+1, llm.EndTimeUnixNano+1
	tool := newSpan(1, 3, str("langsmith.span.kind", "TOOL"), str("gen_ai.usage.total_tokens", "5"))
	tool.Name, tool.ParentSpanId = "search\x1b[2J\nthe \u202eweb for an answer that is long", spanID(2)
	tool.StartTimeUnixNano, tool.EndTimeUnixNano = tool.StartTimeUnixNano+2, tool.StartTimeUnixNano+2+1500
	tool.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "no\r\nnetwork"}
	orphan := newSpan(2, 4, str("langsmith.trace.name", "late"), str("gen_ai.tool.name", "x"), num("gen_ai.usage.prompt_tokens", 3))
	orphan.ParentSpanId, orphan.EndTimeUnixNano = spanID(99), 0
	orphan.Events = []*tracepb.Span_Event{{Name: "log"}, {Name: "exception", Attributes: []*commonpb.KeyValue{str("exception.type", "ValueError")}}}
	loop := newSpan(3, 5, str("traceloop.span.kind", "workflow"), str("gen_ai.usage.input_tokens", "many"))
	loop.ParentSpanId = spanID(5)
	loop.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}

	s, c := start(t, Config{Now: func() time.Time { return noon }})
	sub := s.Subscribe(8)
	spans := []*tracepb.Span{tool, llm, root, orphan, loop} // as they end
	slices.Reverse(spans[3:])
	c.export(payload(t, spans...), "Langsmith-Project", "my-very-long-project-name").want(t, 200, "")
	sub.Close()
	var out strings.Builder
	if err := Print(&out, sub); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"12:00:00.000  my-very-long-pr…  00000000  agent                             chain          1m2s\n" +
		"12:00:00.000  my-very-long-pr…  00000000    ChatOpenAI                      llm           1.00s  1203→88 tok\n" +
		"12:00:00.000  my-very-long-pr…  00000000      search·[2J·the ·web for an …  tool            1µs  5 tok  ERROR no··network\n" +
		"12:00:00.000  my-very-long-pr…  00000000    late                            tool              -  3→? tok  ERROR ValueError\n" +
		"12:00:00.000  my-very-long-pr…  00000000                  ChatOpenAI        workflow      1.00s  ERROR (no message)\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("Print (-want +got):\n%s", diff)
	}
}

func TestPrintSaysWhatItMissed(t *testing.T) {
	s, c := start(t, Config{Now: func() time.Time { return noon }})
	sub := s.Subscribe(1)
	for i := range uint64(3) {
		c.export(payload(t, newSpan(1, i+1))).want(t, 200, "")
	}
	sub.Close()
	var out strings.Builder
	if err := Print(&out, sub); err != nil || !strings.HasSuffix(out.String(), "\n(2 more spans arrived faster than they could be shown)\n") {
		t.Errorf("Print = %v:\n%s", err, out.String())
	}
}

func TestDurationsAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0µs", 1500: "1µs", time.Millisecond: "1ms", 999 * time.Millisecond: "999ms",
		1234 * time.Millisecond: "1.23s", 90 * time.Second: "1m30s", -1: "-",
	} {
		sp := &tracepb.Span{StartTimeUnixNano: 1000, EndTimeUnixNano: uint64(1000 + d)}
		if got := duration(sp); got != want {
			t.Errorf("duration of %d ns = %q, want %q", d, got, want)
		}
	}
}
