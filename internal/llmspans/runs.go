package llmspans

import (
	"fmt"
	"strings"
	"time"
)

// RunsBoundary separates the parts of a body made of runs: 32 hexadecimal
// digits, as the Python SDK has it.
const RunsBoundary = "3f6c1d0a9b7e4258a1c4d2e8f0b59637"

// Run is one run of a trace as LangSmith's Python SDK sends it with
// compression on: a create when it starts and an update when it ends, each a
// few parts of multipart/form-data with the fields that may be large in parts
// of their own. What both repeat and what each leaves empty follows what the
// SDK was seen to send.
type Run struct {
	// Create and Update are complete parts, to be put one after the other into
	// a body that ends with RunsEnd.
	Create, Update []byte
}

// RunsEnd returns what closes a body of parts.
func RunsEnd() []byte { return []byte("--" + RunsBoundary + "--\r\n") }

// runShared is what create and update say of a run alike.
type runShared struct {
	id, trace, parent, order string
}

// RunTrace returns the runs of one trace, a run for each of ids, which are
// UUIDs: the first is the root, an agent; the others are calls it made, most of
// them of a model. The root started at start.
func (g *Generator) RunTrace(start time.Time, ids []string) []Run {
	list := make([]Run, len(ids))
	rootOrder := ""
	for i, id := range ids {
		at := start.Add(time.Duration(i) * 311 * time.Millisecond)
		s := runShared{id: id, trace: ids[0], order: dottedOrder(at, id)}
		if i == 0 {
			g.question = g.text.paragraph(45)
			rootOrder = s.order
		} else {
			s.parent, s.order = ids[0], rootOrder+"."+s.order
		}
		list[i] = g.run(s, at, i == 0)
	}
	return list
}

// run makes one run.
func (g *Generator) run(s runShared, at time.Time, root bool) Run {
	var inputs, outputs any
	name, kind := "ChatOpenAI", "llm"
	switch n := g.rng.IntN(10); {
	case root:
		name, kind = g.service, "chain"
		inputs = map[string]any{"messages": []any{lcMessage("human", g.question)}}
		outputs = map[string]any{"output": g.text.paragraph(95)}
	case n < 7:
		inputs, outputs = g.chatInputs(), g.chatOutputs()
	default:
		call := g.toolCall()
		name, kind = call.Name, "tool"
		inputs = map[string]any{"input": call.Arguments}
		outputs = map[string]any{"output": map[string]any{"type": "tool", "tool_call_id": call.ID, "status": "success", "content": g.text.paragraph(60)}}
	}
	extra := g.runExtra(kind)
	const layout = "2006-01-02T15:04:05.000000+00:00"
	began := at.UTC().Format(layout)
	end := at.Add(time.Duration(1+g.rng.IntN(4_000_000)) * time.Microsecond).UTC().Format(layout)
	began0 := map[string]any{"name": "start", "time": began}
	create := map[string]any{
		"id": s.id, "trace_id": s.trace, "dotted_order": s.order, "parent_run_id": orNull(s.parent),
		"name": name, "run_type": kind, "start_time": began, "session_name": "production",
		"tags": []string{"seq:step:2"}, "reference_example_id": nil,
	}
	update := map[string]any{
		"id": s.id, "trace_id": s.trace, "dotted_order": s.order, "parent_run_id": orNull(s.parent),
		"name": name, "run_type": kind, "start_time": began, "end_time": end,
		"session_id": nil, "session_name": "production", "tags": []string{"seq:step:2"},
	}
	var r Run
	r.Create = runParts(nil, "post."+s.id, create, []field{
		{"inputs", inputs}, {"outputs", map[string]any{}}, {"events", []any{}}, {"extra", extra},
	})
	r.Update = runParts(nil, "patch."+s.id, update, []field{
		{"outputs", outputs}, {"events", []any{began0, map[string]any{"name": "end", "time": end}}}, {"extra", extra},
	})
	return r
}

// chatInputs is the prompt of a model as LangChain serializes it.
func (g *Generator) chatInputs() any {
	return map[string]any{"messages": [][]any{{
		lcMessage("system", "You are a careful assistant. Answer from the given context only."),
		lcMessage("human", g.question),
		lcMessage("human", "Context:\n"+g.text.paragraph(18+g.rng.IntN(30))),
	}}}
}

// chatOutputs is a model's answer as LangChain serializes it.
func (g *Generator) chatOutputs() any {
	in, out := 200+g.rng.IntN(4000), 20+g.rng.IntN(900)
	text := g.text.paragraph(24 + g.rng.IntN(40))
	message := lcMessage("ai", text)
	kwargs := message["kwargs"].(map[string]any)
	kwargs["id"] = "run-" + g.uuid()
	kwargs["usage_metadata"] = map[string]any{"input_tokens": in, "output_tokens": out, "total_tokens": in + out}
	if g.rng.IntN(4) == 0 {
		call := g.toolCall()
		kwargs["tool_calls"] = []any{map[string]any{"type": "tool_call", "id": call.ID, "name": call.Name, "args": call.Arguments}}
	}
	return map[string]any{
		"generations": [][]any{{map[string]any{
			"text": text, "type": "ChatGeneration", "message": message,
			"generation_info": map[string]any{"finish_reason": "stop", "logprobs": nil},
		}}},
		"llm_output": map[string]any{
			"id": "chatcmpl-" + g.token(24), "system_fingerprint": "fp_" + strings.ToLower(g.token(10)),
			"token_usage": map[string]any{"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out},
		},
		"run": nil, "type": "LLMResult",
	}
}

// runExtra is the metadata that every operation carries.
func (g *Generator) runExtra(kind string) any {
	metadata := map[string]any{
		"thread_id": g.uuid(), "user_id": fmt.Sprintf("u-%06d", g.rng.IntN(900_000)), "revision_id": "v1.14.2-3-g0c1f7aa",
		"langgraph_step": g.rng.IntN(12), "langgraph_node": "agent", "LANGSMITH_PROJECT": "production",
	}
	extra := map[string]any{"metadata": metadata, "runtime": map[string]any{
		"sdk": "langsmith-py", "sdk_version": "0.4.31", "library": "langchain-core", "library_version": "0.3.76",
		"platform": "Linux-6.8.0-1031-aws-x86_64-with-glibc2.39", "runtime": "python", "py_implementation": "CPython",
		"runtime_version": "3.12.11", "langchain_version": "0.3.27", "langchain_core_version": "0.3.76",
	}}
	if kind == "llm" {
		model := models[g.rng.IntN(len(models))]
		temperature := float64(g.rng.IntN(11)) / 10
		metadata["ls_provider"], metadata["ls_model_name"] = model.system, model.name
		metadata["ls_model_type"], metadata["ls_temperature"] = "chat", temperature
		extra["invocation_params"] = map[string]any{
			"model": model.name, "_type": "openai-chat", "stream": false, "temperature": temperature, "max_tokens": 1024, "stop": nil,
		}
	}
	return extra
}

// lcMessage is a message as LangChain serializes it.
func lcMessage(role, text string) map[string]any {
	class := map[string]string{"system": "SystemMessage", "human": "HumanMessage", "ai": "AIMessage"}[role]
	return map[string]any{
		"lc": 1, "type": "constructor", "id": []string{"langchain", "schema", "messages", class},
		"kwargs": map[string]any{"content": text, "type": role},
	}
}

// field is a field of a run that goes into a part of its own.
type field struct {
	name  string
	value any
}

// runParts appends an operation: its run, then its fields.
func runParts(b []byte, name string, run any, fields []field) []byte {
	part := func(name string, value any) {
		text := asJSON(value)
		b = fmt.Appendf(b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s\r\n",
			RunsBoundary, name, len(text), text)
	}
	part(name, run)
	for _, f := range fields {
		part(name+"."+f.name, f.value)
	}
	return b
}

// dottedOrder is a run's own segment of its dotted_order.
func dottedOrder(at time.Time, id string) string {
	return strings.Replace(at.UTC().Format("20060102T150405.000000Z"), ".", "", 1) + id
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
