// Package live asks the real LangSmith what its documentation leaves open, with
// at most MaxTraces real traces. The look-alike (internal/smith) has a switch
// for each of these questions; the answers say how to set them. It is run by
// hand only (make live), and by tests against the look-alike.
package live
