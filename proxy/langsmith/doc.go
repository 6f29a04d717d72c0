// Package langsmith speaks LangSmith's REST API to applications: takes run
// operations and passes everything else on.
//
// A request with runs becomes one proxy.Export of operations (package runs)
// and is answered after a proxy.Sink has made that durable, never before. Runs
// are not decoded: their JSON is walked over once and kept as it is. What a
// request holds beside JSON, its attachments, goes to disk as it comes once it
// is large, so that no request is held in memory beyond a bound.
//
// Refusals answer as LangSmith does, with the statuses that its SDKs retry
// where that helps; status.go has the whole mapping. Validation takes what
// weir can index, because LangSmith's own refusal of a run ends in a case with
// a diagnosis, while a refusal here would cost the SDK its whole batch.
package langsmith
