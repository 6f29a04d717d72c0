package smith

import (
	"net/http"
	"slices"
)

// endpoints are the calls that exist (LangSmith helm chart and SDK sources).
// Posts of runs are the Go service's, single updates and all reads the Python
// one's (LangSmith helm chart: frontend config map).
var endpoints = slices.Concat([]endpoint{
	{pattern: "/otel/v1/traces", method: http.MethodPost, ingest: true, handle: (*Server).otlp},
	{pattern: "/otel", method: http.MethodPost, ingest: true, bare: true, handle: (*Server).otlp},
	{pattern: "/runs/multipart", method: http.MethodPost, ingest: true, handle: (*Server).runsMultipart},
	{pattern: "/runs/batch", method: http.MethodPost, ingest: true, handle: (*Server).runsBatch},
	{pattern: "/runs", method: http.MethodPost, ingest: true, handle: (*Server).postRun},
	{pattern: "/runs/{id}", method: http.MethodPatch, family: familyPython, ingest: true, handle: (*Server).patchRun},
	{pattern: "/feedback", method: http.MethodPost, family: familyPython, ingest: true, handle: (*Server).postFeedback},
	{pattern: "/feedback", method: http.MethodGet, family: familyPython, handle: (*Server).listFeedback},
	{pattern: "/feedback/{id}", method: http.MethodPatch, family: familyPython, ingest: true, handle: (*Server).patchFeedback},
	{pattern: "/feedback/{id}", method: http.MethodDelete, family: familyPython, ingest: true, handle: (*Server).deleteFeedback},
	{pattern: "/feedback/{id}", method: http.MethodGet, family: familyPython, handle: (*Server).getFeedback},
	{pattern: "/info", method: http.MethodGet, open: true, handle: (*Server).info},
	{pattern: "/settings", method: http.MethodGet, family: familyPython, handle: (*Server).settings},
	{
		pattern: "/workspaces/current/usage_limits", method: http.MethodGet, family: familyPython,
		handle: (*Server).usageLimits,
	},
	{
		pattern: "/orgs/current/billing/granular-usage", method: http.MethodGet, family: familyPython, org: true,
		handle: (*Server).granularUsage,
	},
	{pattern: "/runs/query", method: http.MethodPost, family: familyPython, handle: (*Server).queryRuns},
	{pattern: "/runs/{id}", method: http.MethodGet, family: familyPython, handle: (*Server).getRun},
}, resourceEndpoints("/sessions", &sessionKind), resourceEndpoints("/datasets", &datasetKind),
	resourceEndpoints("/examples", &exampleKind), []endpoint{
		{pattern: "/examples/bulk", method: http.MethodPost, family: familyPython, write: true, handle: createResource(&exampleKind)},
	}, exampleEndpoints())

// resourceEndpoints are the calls of a kind of thing that clients create.
func resourceEndpoints(pattern string, kind *resourceKind) []endpoint {
	one := pattern + "/{id}"
	return []endpoint{
		{pattern: pattern, method: http.MethodGet, family: familyPython, handle: listResource(kind)},
		{pattern: pattern, method: http.MethodPost, family: familyPython, write: true, handle: createResource(kind)},
		{pattern: one, method: http.MethodGet, family: familyPython, handle: getResource(kind)},
		{pattern: one, method: http.MethodPatch, family: familyPython, write: true, handle: patchResource(kind)},
		{pattern: one, method: http.MethodDelete, family: familyPython, write: true, handle: deleteResource(kind)},
	}
}
