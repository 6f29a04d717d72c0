// Package native takes run operations over weir's own gRPC API.
//
// What a caller leaves out that LangSmith demands is filled in: ids, and the
// place of a run in its trace.
package native
