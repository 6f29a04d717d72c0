// Package llmspans makes OpenTelemetry spans and LangSmith run operations that
// look like what LLM applications send: chat calls with prompts and
// completions, tool calls with JSON arguments, retrievals, embeddings and the
// chains around them. Tests, benchmarks and load generators share it, so that
// their numbers are about the same data.
//
// The spans are deterministic by seed, about 2 KB each, and numbered: a span
// found anywhere later can be traced back to its place in the sequence with
// Seq. The text is drawn from a Zipf-distributed vocabulary and mixed with
// identifiers that do not repeat, so that a request of 100 spans compresses
// about 4:1, as traces of real applications do, and not 20:1 as repeated
// payloads would. Run operations are about 3 KB and compress about 9:1: they
// repeat field names, metadata and runtime, in the update once more.
package llmspans
