// Package quota knows how many traces a month has taken, and decides what
// becomes of the next one.
//
// LangSmith bills unique traces by UTC calendar month and account. The [Ledger]
// is the exact set of them: what was delivered this month, what is admitted and
// will be, what is held back and what was dropped. Adding a trace twice changes
// nothing, so the count survives retries, crashes and replays. The [Guard]
// stands before it with the user's limits and policy, and with what LangSmith
// itself has said.
//
// The package knows neither the queue nor the network: it is told what arrives,
// what was delivered and what the upstream answered. docs/quota.md draws the
// states of a trace.
package quota
