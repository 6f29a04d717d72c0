// Package interop holds the tests that run other people's software against
// weir: applications that use the stock OpenTelemetry SDKs of three languages
// send traces to a weir process, and each of their spans must reach the
// LangSmith look-alike with every field as the application's own SDK had it;
// and programs that use LangSmith's own SDKs, of which the same must arrive
// through weir as arrives without it.
//
// The tests need interpreters and packages that a Go toolchain does not bring,
// so they compile only with the build tag interop; the script run beside them
// installs what they need and runs them. README.md describes what is run.
package interop
