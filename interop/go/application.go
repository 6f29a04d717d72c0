package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const model = "llama-4-maverick"

var questions = []string{
	"Summarize the meeting in five bullets; keep every decision. 📋",
	"この記事の要点を三つにまとめてください。",
	"Quels sont les risques juridiques de l’article 12 ? Réponse en français.",
	"Tóm tắt email này giúp tôi.",
	"What changed?\n--- a/main.go\n+++ b/main.go\n-\treturn nil\n+\treturn err",
	"ขอสรุปสั้น ๆ",
	"🧵👇 thread, 1/𝑛",
}

type document struct{ source, text string }

var documents = []document{
	{"minutes/2026-10-12.md", "Decided: ship on Thursday. Open: who writes the changelog?"},
	{"wiki/法務.md", "第12条は契約解除の条件を定める。"},
	{"mail/8841.eml", "Kính gửi quý khách, đơn hàng của quý khách đã được giao."},
}

// application is a summarizer that answers one question after the other.
type application struct {
	tracer   trace.Tracer
	turns    int
	previous trace.SpanContext
}

// turn is one turn of a conversation: a chain of ten spans.
func (a *application) turn(ctx context.Context) {
	n := a.turns
	a.turns++
	question := questions[n%len(questions)]
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("langsmith.span.kind", "chain"), attribute.String("gen_ai.conversation.id", fmt.Sprint("conv-", n/4)),
			attribute.Int("turn", n), attribute.String("input.value", question),
			attribute.String("langsmith.metadata.tenant", "Łódź"), attribute.StringSlice("tags", []string{"prod", "要約"}),
		),
	}
	if a.previous.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{
			SpanContext: a.previous,
			Attributes:  []attribute.KeyValue{attribute.String("gen_ai.conversation.relation", "previous_turn")},
		}))
	}
	ctx, span := a.tracer.Start(ctx, "summarize", options...)
	defer span.End()
	a.retrieve(ctx, question, n)
	draft := a.chat(ctx, question, n)
	answer := a.tool(ctx, draft, n)
	a.store(ctx, answer, n)
	final := a.chat(ctx, question+"\n\n"+answer, n+1)
	_, moderate := a.tracer.Start(ctx, "moderate answer")
	moderate.SetAttributes(attribute.Bool("flagged", false), attribute.StringSlice("categories", nil))
	moderate.End()
	span.SetAttributes(attribute.String("output.value", final))
	span.SetStatus(codes.Ok, "")
	a.previous = span.SpanContext()
}

// small is a trace of two spans.
func (a *application) small(ctx context.Context) {
	ctx, root := a.tracer.Start(ctx, "small")
	_, child := a.tracer.Start(ctx, "part")
	child.End()
	root.End()
}

func (a *application) retrieve(ctx context.Context, question string, n int) {
	ctx, span := a.tracer.Start(ctx, "retrieve documents", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	span.SetAttributes(attribute.String("langsmith.span.kind", "retriever"), attribute.String("retriever.query", question))
	_, embed := a.tracer.Start(ctx, "embeddings nomic-embed", trace.WithSpanKind(trace.SpanKindClient))
	vector := make([]float64, 32)
	for i := range vector {
		vector[i] = math.Sin(float64(n + i + 1))
	}
	embed.SetAttributes(attribute.String("gen_ai.operation.name", "embeddings"), attribute.Float64Slice("embedding.vector", vector))
	embed.End()
	_, rerank := a.tracer.Start(ctx, "rerank")
	for i, d := range documents {
		rerank.AddEvent("document", trace.WithAttributes(
			attribute.String("source", d.source), attribute.String("content", d.text), attribute.Float64("score", 1/(float64(i)+1.5)),
		))
	}
	rerank.End()
}

func (a *application) chat(ctx context.Context, question string, n int) string {
	var system strings.Builder
	system.WriteString("You summarize. Use the documents only.\n")
	for _, d := range documents {
		fmt.Fprintf(&system, "\n--- %s\n%s", d.source, d.text)
	}
	completion := fmt.Sprintf("%s → (%d) %s", question, n, strings.Repeat(documents[n%len(documents)].text+" ", 1+n%4))
	_, span := a.tracer.Start(ctx, "chat "+model, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	span.SetAttributes(
		attribute.String("gen_ai.system", "groq"), attribute.String("gen_ai.operation.name", "chat"),
		attribute.String("langsmith.span.kind", "llm"), attribute.String("gen_ai.request.model", model),
		attribute.Float64("gen_ai.request.temperature", 0.2), attribute.Int("gen_ai.request.max_tokens", 1024),
		attribute.StringSlice("gen_ai.response.finish_reasons", []string{"stop"}),
		attribute.String("gen_ai.prompt.0.role", "system"), attribute.String("gen_ai.prompt.0.content", system.String()),
		attribute.String("gen_ai.prompt.1.role", "user"), attribute.String("gen_ai.prompt.1.content", question),
		attribute.String("gen_ai.completion.0.role", "assistant"), attribute.String("gen_ai.completion.0.content", completion),
		attribute.Int("gen_ai.usage.input_tokens", system.Len()/4), attribute.Int("gen_ai.usage.output_tokens", len(completion)/4),
	)
	span.AddEvent("gen_ai.choice", trace.WithAttributes(attribute.Int("index", 0), attribute.String("finish_reason", "stop")))
	return completion
}

func (a *application) tool(ctx context.Context, draft string, n int) string {
	_, span := a.tracer.Start(ctx, "execute_tool count_words")
	defer span.End()
	arguments, err := json.Marshal(map[string]any{"text": draft, "limit": n})
	if err != nil {
		span.RecordError(err)
	}
	span.SetAttributes(
		attribute.String("langsmith.span.kind", "tool"), attribute.String("gen_ai.tool.name", "count_words"),
		attribute.String("gen_ai.tool.call.arguments", string(arguments)), attribute.Bool("cached", n%2 == 0),
	)
	if n%5 == 3 {
		err := errors.New("the tokenizer did not answer within 2 s ⏱")
		span.RecordError(err, trace.WithStackTrace(true))
		span.SetStatus(codes.Error, err.Error())
	}
	return fmt.Sprintf(`{"words": %d}`, len(strings.Fields(draft)))
}

func (a *application) store(ctx context.Context, answer string, n int) {
	ctx, producer := a.tracer.Start(ctx, "enqueue transcript", trace.WithSpanKind(trace.SpanKindProducer))
	defer producer.End()
	producer.SetAttributes(attribute.Int("messaging.message.body.size", len(answer)))
	_, consumer := a.tracer.Start(ctx, "store transcript", trace.WithSpanKind(trace.SpanKindConsumer))
	defer consumer.End()
	consumer.AddEvent("stored", trace.WithAttributes(attribute.Int("rows", 1+n%3)))
}
