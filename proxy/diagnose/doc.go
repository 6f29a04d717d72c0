// Package diagnose finds the cause of a refusal. [Diagnose] is a pure function
// from facts (the exchange, the key's shape, the lane's history, what probes
// found) to ranked causes, each with evidence and a remedy. It sends nothing and
// knows no key: only its shape.
//
// The rules come from what LangSmith's documentation and SDKs say and from
// public reports; none of it has been verified against the live service.
package diagnose
