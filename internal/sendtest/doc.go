// Package sendtest proves the way from an application through weir to LangSmith
// with one real trace: it sends it, follows it, reads it back, and settles
// whether LangSmith's OTLP endpoint takes zstd.
//
// What it relies on and nobody could verify against the live service: that a
// trace's id in OTLP is its UUID in LangSmith as it is (LangChain's
// collector-proxy: otel_converter.go), that POST /runs/query finds runs by it,
// and that later spans of the same trace cost nothing, because unique traces are
// what is billed (LangSmith docs: pricing FAQ).
package sendtest
