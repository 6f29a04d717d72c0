// Package torture proves weir's promise from outside its process: every span
// that was acknowledged arrives, or is still accounted for, whatever happened
// to weir, its disk and its upstream in between.
//
// The pieces, each usable alone:
//
//   - A [Ledger] is the oracle. It knows every span that was offered, by id
//     and by a digest of its bytes, how the export that carried it was
//     answered, and how often it has arrived.
//   - [Traffic] offers numbered spans over gRPC and HTTP and writes down every
//     answer. An export whose answer was lost is never sent again, so whatever
//     arrives twice was doubled by weir.
//   - An [Upstream] is the look-alike of package smith on a real port of the
//     test's own process, where it survives what is done to weir. It can
//     vanish from its port and come back.
//   - A [Weir] is a real process. It can be killed, signalled, confined and
//     asked for its status through its own command line.
//
// A [Verdict] compares the three accounts: what clients were told, what
// arrived, and what weir says it has. It holds the following against weir.
//
//   - Conservation: an acknowledged span has arrived, or weir's status counts
//     it as pending, held, quarantined or dropped.
//   - Integrity: what arrives was offered, and is equal to it byte by byte.
//   - Honesty: an export refused "for now" was not kept; accepted items are
//     the sum of their states and lie between what was acknowledged and what
//     can have been kept.
//   - Thrift: only requests that were under way when weir was killed, or whose
//     answer was lost, are sent again.
//
// The tests of this package run each scenario briefly. WEIR_TORTURE=10m makes
// the kill loops go on for that long, WEIR_SEED=n repeats a run's random
// choices, and WEIR_NO_MOUNT=1 leaves out, with a word about it, what needs
// the right to mount file systems and to make control groups.
package torture
