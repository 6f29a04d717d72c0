package llmspans

import (
	"encoding/json"
	"fmt"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

var (
	services = []string{"support-agent", "contract-review", "search-copilot", "claims-triage", "code-helper"}
	tools    = []string{"search_orders", "lookup_customer", "run_sql", "fetch_document", "create_ticket", "get_weather"}
	models   = []struct{ system, name string }{
		{"openai", "gpt-4.1-mini-2025-04-14"},
		{"openai", "gpt-4o-2024-08-06"},
		{"anthropic", "claude-sonnet-4-5-20250929"},
		{"aws.bedrock", "anthropic.claude-3-5-haiku-20241022-v1:0"},
		{"gcp.vertex_ai", "gemini-2.5-flash"},
	}
)

// message is one entry of gen_ai.input.messages as the semantic conventions
// shape it.
type message struct {
	Role  string `json:"role"`
	Parts []part `json:"parts"`
}

type part struct {
	Type      string         `json:"type"`
	Content   string         `json:"content,omitempty"`
	ID        string         `json:"id,omitempty"`
	Name      string         `json:"name,omitempty"`
	Arguments map[string]any `json:"arguments,omitempty"`
}

// fillChain makes s the root of a trace: what came in, what went out. The
// calls below it repeat what came in, as agents do.
func (g *Generator) fillChain(s *trace.Span) {
	g.question = g.text.paragraph(45)
	s.Name = "invoke_agent " + g.service
	s.Attributes = []*common.KeyValue{
		str("gen_ai.operation.name", "invoke_agent"),
		str("gen_ai.agent.name", g.service),
		str("gen_ai.conversation.id", g.uuid()),
		str("langsmith.span.kind", "chain"),
		str("user.id", fmt.Sprintf("u-%06d", g.rng.IntN(900_000))),
		str("gen_ai.input.messages", asJSON([]message{{Role: "user", Parts: []part{{Type: "text", Content: g.question}}}})),
		str("gen_ai.output.messages", asJSON([]message{{Role: "assistant", Parts: []part{{Type: "text", Content: g.text.paragraph(95)}}}})),
	}
}

// fillCall makes s one of the calls an agent makes: mostly chat, sometimes a
// tool, a retrieval, or a call that failed.
func (g *Generator) fillCall(s *trace.Span) {
	switch n := g.rng.IntN(20); {
	case n < 12:
		g.fillChat(s)
	case n < 17:
		g.fillTool(s)
	case n < 19:
		g.fillRetrieval(s)
	default:
		g.fillChat(s)
		g.fail(s)
	}
}

func (g *Generator) fillChat(s *trace.Span) {
	model := models[g.rng.IntN(len(models))]
	s.Name = "chat " + model.name
	in, out := 200+g.rng.IntN(4000), 20+g.rng.IntN(900)
	question := []message{
		{Role: "system", Parts: []part{{Type: "text", Content: "You are a careful assistant. Answer from the given context only."}}},
		{Role: "user", Parts: []part{{Type: "text", Content: g.question}}},
		{Role: "user", Parts: []part{{Type: "text", Content: "Context:\n" + g.text.paragraph(18+g.rng.IntN(30))}}},
	}
	answer := message{Role: "assistant", Parts: []part{{Type: "text", Content: g.text.paragraph(24 + g.rng.IntN(40))}}}
	finish := "stop"
	if g.rng.IntN(4) == 0 {
		answer.Parts = append(answer.Parts, g.toolCall())
		finish = "tool_calls"
	}
	s.Attributes = []*common.KeyValue{
		str("gen_ai.operation.name", "chat"),
		str("gen_ai.system", model.system),
		str("gen_ai.request.model", model.name),
		dbl("gen_ai.request.temperature", float64(g.rng.IntN(11))/10),
		num("gen_ai.request.max_tokens", 1024),
		str("gen_ai.response.id", "chatcmpl-"+g.token(24)),
		str("gen_ai.response.model", model.name),
		strs("gen_ai.response.finish_reasons", finish),
		num("gen_ai.usage.input_tokens", int64(in)),
		num("gen_ai.usage.output_tokens", int64(out)),
		str("server.address", "api."+model.system+".com"),
		num("server.port", 443),
		str("gen_ai.input.messages", asJSON(question)),
		str("gen_ai.output.messages", asJSON([]message{answer})),
	}
}

func (g *Generator) fillTool(s *trace.Span) {
	call := g.toolCall()
	s.Name = "execute_tool " + call.Name
	rows := make([]map[string]any, 3+g.rng.IntN(4))
	for i := range rows {
		rows[i] = map[string]any{
			"id": g.uuid(), "amount": float64(g.rng.IntN(1_000_000)) / 100,
			"status": g.text.word(), "note": g.text.paragraph(10),
		}
	}
	s.Attributes = []*common.KeyValue{
		str("gen_ai.operation.name", "execute_tool"),
		str("gen_ai.tool.name", call.Name),
		str("gen_ai.tool.call.id", call.ID),
		str("gen_ai.tool.type", "function"),
		str("gen_ai.tool.call.arguments", asJSON(call.Arguments)),
		str("gen_ai.tool.call.result", asJSON(rows)),
	}
}

func (g *Generator) fillRetrieval(s *trace.Span) {
	s.Name = "retrieve knowledge-base"
	s.Attributes = []*common.KeyValue{
		str("langsmith.span.kind", "retriever"),
		str("db.system.name", "qdrant"),
		str("input.value", g.text.paragraph(14)),
	}
	for i := range 4 {
		doc := fmt.Sprintf("retrieval.documents.%d.document.", i)
		s.Attributes = append(s.Attributes,
			str(doc+"id", g.uuid()),
			dbl(doc+"score", g.rng.Float64()),
			str(doc+"content", g.text.paragraph(34)),
		)
	}
}

func (g *Generator) fail(s *trace.Span) {
	s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: "RateLimitError: " + g.text.paragraph(8)}
	s.Events = []*trace.Span_Event{{
		TimeUnixNano: s.EndTimeUnixNano,
		Name:         "exception",
		Attributes: []*common.KeyValue{
			str("exception.type", "openai.RateLimitError"),
			str("exception.message", g.text.paragraph(10)),
			str("exception.stacktrace", "Traceback (most recent call last):\n  File \"/app/"+g.text.word()+".py\", line "+fmt.Sprint(g.rng.IntN(900))+", in "+g.text.word()),
		},
	}}
}

func (g *Generator) toolCall() part {
	return part{
		Type: "tool_call",
		ID:   "call_" + g.token(22),
		Name: tools[g.rng.IntN(len(tools))],
		Arguments: map[string]any{
			"query":       g.text.paragraph(7),
			"customer_id": g.uuid(),
			"limit":       g.rng.IntN(50),
			"filters":     []string{g.text.word(), g.text.word()},
		},
	}
}

const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// token returns n random letters and digits, which do not compress.
func (g *Generator) token(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = tokenAlphabet[g.rng.IntN(len(tokenAlphabet))]
	}
	return string(b)
}

func (g *Generator) uuid() string {
	a, b := g.rng.Uint64(), g.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("llmspans: marshal generated content: " + err.Error()) // plain strings and numbers only
	}
	return string(b)
}
