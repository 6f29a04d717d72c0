// Package upstream sends requests to LangSmith and classifies the answers.
//
// A [Client] implements the pipeline's Upstream: one Send is one request made
// of stored parts or run operations, sent in the content encoding the upstream
// takes, and always ends in one of four outcomes. The pieces, in the order a
// request meets them:
//
//   - baseurl.go: what the user may write as upstream, and whether it is weir itself
//   - message.go: where a request goes, as what, and with whose key
//   - body.go, codec.go, form.go: its content becomes a body, streamed or pooled
//   - transport.go: connections, TLS, proxies, and never a redirect followed
//   - exchange.go: one HTTP exchange, with every wait and every byte bounded
//   - answer.go: what the answer says, made safe to keep and to show
//   - classify.go: the table from answers and errors to outcomes
//
// The package keeps no queue and never sleeps: waiting and trying again
// belong to the caller, who knows what else waits for the same upstream.
package upstream
