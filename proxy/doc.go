// Package proxy is the pipeline: it makes what applications send durable
// (accept.go) and delivers it upstream (forward.go).
//
// The package knows no transport. Adapters under proxy/otlp and
// proxy/langsmith turn requests into an [Export] and hand it to a [Sink];
// proxy/upstream implements [Upstream] and reports one of four outcomes.
package proxy
