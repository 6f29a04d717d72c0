package inflight

import "context"

// ArrivalKey is the key of a context's value that limits how long a request
// may take to arrive. The value has a method Complete, which ends the limit.
type ArrivalKey struct{}

// Arrived ends the limit on how long the request of ctx may take to arrive, if
// there is one: the request is there.
func Arrived(ctx context.Context) {
	if a, ok := ctx.Value(ArrivalKey{}).(interface{ Complete() }); ok {
		a.Complete()
	}
}
