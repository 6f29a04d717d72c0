// Package wholeway measures a whole weir from outside: load over gRPC or as the
// LangSmith SDKs send it, a real process in between, a look-alike that only
// counts as the upstream. It holds benchmarks only; see docs/performance.md for
// what they gave.
package wholeway
