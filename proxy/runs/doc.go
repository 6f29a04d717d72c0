// Package runs is the form in which weir keeps LangSmith run operations: one
// message that concatenates, its scan, its validation, its merge and its way
// back into multipart.
//
// It is pure: it knows neither the queue nor the network. proxy/langsmith and
// proxy/native make operations of what callers send; proxy reads and merges
// them; proxy/upstream writes them as LangSmith takes them.
package runs
