// Command client traces with the stock LangSmith SDK for Go: runs with its
// tracing client, spans with its OpenTelemetry tracer. It speaks as
// ../python/app.py does: names of scenarios on standard input, and
// {"done": NAME} on standard output once a scenario is played and flushed.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	langsmith "github.com/langchain-ai/langsmith-go"
	"github.com/langchain-ai/langsmith-go/lib/langsmithtracing"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	lines := bufio.NewScanner(os.Stdin)
	for played := 1; lines.Scan(); played++ {
		var err error
		switch name, argument, _ := strings.Cut(lines.Text(), " "); name {
		case "runs":
			err = playRuns(ctx, &player{first: played * 0x1000})
		case "spans":
			err = playSpans(ctx)
		case "traces":
			err = playTraces(ctx, argument)
		default:
			err = fmt.Errorf("what is %q? Known are: runs, spans, traces N", name)
		}
		if err != nil {
			return err
		}
		fmt.Printf("{\"done\": %q}\n", lines.Text())
	}
	return lines.Err()
}

// player makes runs with the tracing client.
type player struct {
	client *langsmithtracing.TracingClient
	first  int // of the ids
	start  time.Time
	errs   []error
}

// chosen is an id that the application chose; the tests know it by its
// beginning.
func (p *player) chosen(n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("00000000-0000-4000-8000-%012x", p.first+n))
}

// at is a time in the course of the scenario.
func (p *player) at(ms int) time.Time { return p.start.Add(time.Duration(ms) * time.Millisecond) }

// segment is a run's part of a dotted order.
func segment(start time.Time, id uuid.UUID) string {
	return strings.ReplaceAll(start.UTC().Format("20060102T150405.000000Z"), ".", "") + id.String()
}

func (p *player) create(r *langsmithtracing.RunCreate) {
	p.errs = append(p.errs, p.client.CreateRun(r))
}

func (p *player) update(r *langsmithtracing.RunUpdate) {
	p.errs = append(p.errs, p.client.UpdateRun(r))
}

func playRuns(ctx context.Context, p *player) error {
	client, err := langsmithtracing.NewTracingClient(ctx)
	if err != nil {
		return err
	}
	p.client, p.start = client, time.Now().UTC().Truncate(time.Microsecond)
	p.tree()
	p.files()
	for n := range 150 {
		id := p.chosen(0x100 + n)
		p.create(&langsmithtracing.RunCreate{
			ID: id, TraceID: id, Name: fmt.Sprintf("whole %d", n), RunType: "chain", DottedOrder: segment(p.at(n), id),
			StartTime: p.at(n), EndTime: p.at(n + 1), Inputs: map[string]any{"text": strings.Repeat(fmt.Sprintf("%x ", n), 500)},
			Outputs: map[string]any{"n": n, "half": 0.5, "big": int64(1)<<62 + 1},
		})
	}
	client.Close()
	return errors.Join(p.errs...)
}

// playTraces makes so many traces of two runs each.
func playTraces(ctx context.Context, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("traces %q: %w", count, err)
	}
	client, err := langsmithtracing.NewTracingClient(ctx)
	if err != nil {
		return err
	}
	p := &player{client: client, start: time.Now().UTC().Truncate(time.Microsecond)}
	for range n {
		root, part := uuid.New(), uuid.New()
		order := segment(p.at(0), root)
		p.create(&langsmithtracing.RunCreate{ID: root, TraceID: root, Name: "small", RunType: "chain", DottedOrder: order, StartTime: p.at(0)})
		p.create(&langsmithtracing.RunCreate{
			ID: part, TraceID: root, ParentRunID: &root, Name: "part", RunType: "tool", StartTime: p.at(1), EndTime: p.at(2),
			DottedOrder: order + "." + segment(p.at(1), part),
		})
		p.update(&langsmithtracing.RunUpdate{ID: root, TraceID: root, DottedOrder: order, EndTime: p.at(3)})
	}
	client.Close()
	return errors.Join(p.errs...)
}

// tree makes a root, two children and an error.
func (p *player) tree() {
	root, llm, tool := p.chosen(1), p.chosen(2), p.chosen(3)
	order := segment(p.at(0), root)
	p.create(&langsmithtracing.RunCreate{
		ID: root, TraceID: root, Name: "answer ticket", RunType: "chain", DottedOrder: order, StartTime: p.at(0),
		Inputs: map[string]any{"question": "Wo bleibt mein Paket? 🙂", "html": "<b>&amp;</b> \u2028", "empty": map[string]any{}},
		Extra:  map[string]any{"metadata": map[string]any{"tenant": "café", "n": 1}},
		Tags:   []string{"prod", "日本語"},
	})
	p.create(&langsmithtracing.RunCreate{
		ID: llm, TraceID: root, ParentRunID: &root, Name: "chat gpt-4.1-mini", RunType: "llm", StartTime: p.at(1),
		DottedOrder: order + "." + segment(p.at(1), llm), Inputs: map[string]any{"messages": []any{map[string]any{"role": "user", "content": "?"}}},
		Serialized: map[string]any{"id": []string{"openai"}, "kwargs": map[string]any{"temperature": 0.2}},
	})
	p.update(&langsmithtracing.RunUpdate{
		ID: llm, TraceID: root, DottedOrder: order + "." + segment(p.at(1), llm), EndTime: p.at(5),
		Outputs: map[string]any{"choices": []any{"!"}, "usage_metadata": map[string]any{"input_tokens": 12, "total_tokens": 14}},
		Events:  []map[string]any{{"name": "new_token", "time": "2026-01-02T03:04:05.000006Z", "kwargs": map[string]any{"token": "Ja"}}},
	})
	p.create(&langsmithtracing.RunCreate{
		ID: tool, TraceID: root, ParentRunID: &root, Name: "lookup order", RunType: "tool", StartTime: p.at(6), EndTime: p.at(7),
		DottedOrder: order + "." + segment(p.at(6), tool), Inputs: map[string]any{"order": 4411}, Error: "no order: “ошибка” 🚫\nsecond line",
	})
	p.update(&langsmithtracing.RunUpdate{
		ID: root, TraceID: root, DottedOrder: order, EndTime: p.at(9), Outputs: map[string]any{"answer": strings.Repeat("long ", 60_000)},
	})
}

// files makes a run with attachments.
func (p *player) files() {
	id := p.chosen(10)
	image, state := make([]byte, 1<<20), uint64(1)
	for i := range image {
		state = state*6364136223846793005 + 1442695040888963407
		image[i] = byte(state >> 56)
	}
	p.create(&langsmithtracing.RunCreate{
		ID: id, TraceID: id, Name: "describe image", RunType: "chain", DottedOrder: segment(p.at(20), id), StartTime: p.at(20), EndTime: p.at(21),
		SessionName: "another project", Inputs: map[string]any{"question": "what is this?"}, Outputs: map[string]any{"answer": "a cat"},
		Attachments: map[string]langsmithtracing.Attachment{
			"image": {ContentType: "image/png", Data: image},
			"crlf":  {ContentType: "text/plain", Data: []byte(strings.Repeat("--boundary\r\n\r\n--\r\n", 50))},
			"empty": {ContentType: "application/octet-stream", Data: []byte{}},
		},
	})
}

// playSpans uses the SDK's OpenTelemetry tracer. Its exporter knows https
// alone, unless OTEL_EXPORTER_OTLP_INSECURE says otherwise.
func playSpans(ctx context.Context) error {
	at, err := url.Parse(os.Getenv("LANGSMITH_ENDPOINT"))
	if err != nil {
		return err
	}
	ls, err := langsmith.NewOTelTracer(langsmith.WithEndpoint(at.Host), langsmith.WithServiceName("support-bot"))
	if err != nil {
		return err
	}
	tracer := ls.Tracer("support.bot")
	rootCtx, root := tracer.Start(ctx, "answer ticket")
	root.SetAttributes(attribute.String("langsmith.span.kind", "chain"), attribute.String("input.value", "Wo bleibt mein Paket? 🙂"))
	for n := range 3 {
		_, chat := tracer.Start(rootCtx, fmt.Sprintf("chat %d", n))
		chat.SetAttributes(
			attribute.String("langsmith.span.kind", "llm"), attribute.String("gen_ai.request.model", "gpt-4.1-mini"),
			attribute.Int("gen_ai.usage.input_tokens", 12+n), attribute.StringSlice("gen_ai.response.finish_reasons", []string{"stop"}),
		)
		if n == 2 {
			chat.RecordError(errors.New("no answer: “ошибка” 🚫"))
			chat.SetStatus(codes.Error, "no answer")
		}
		chat.End()
	}
	root.End()
	return ls.Shutdown(ctx)
}
