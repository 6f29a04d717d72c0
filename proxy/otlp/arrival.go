package otlp

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/tap"

	"weir/internal/callerheaders"
	"weir/internal/inflight"
	"weir/proxy"
)

// arrivals is how long a request may take to arrive over gRPC. grpc-go has no
// such limit of its own: a sender that stops half way through a message would
// hold a goroutine and what it sent so far for as long as the connection lives.
type arrivals struct {
	patience time.Duration
	unary    []string // full names of the methods beside OTLP's
	door     *callerheaders.Door
}

// arrival is the context of a call that has begun to arrive. It ends when its
// time is up before complete is called, and grpc-go then answers
// DEADLINE_EXCEEDED, which senders retry. The handlers of other services find
// it by inflight.ArrivalKey.
type arrival struct {
	context.Context // canceled by late, and by the stream's end

	cancel  context.CancelFunc
	timer   *time.Timer
	unwatch func() bool
	late    atomic.Bool

	// What the metadata says. It is read here because grpc-go shows it here
	// as it is, and a handler only a copy of all of it.
	caller    proxy.Caller
	callerErr error
}

// begin is a tap.ServerInHandle. It runs on the goroutine that reads the
// connection, so it must not wait for anything.
func (d arrivals) begin(ctx context.Context, info *tap.Info) (context.Context, error) {
	if info.FullMethodName != exportMethod && !slices.Contains(d.unary, info.FullMethodName) {
		return ctx, nil // streams may live long
	}
	a := &arrival{}
	a.caller, a.callerErr = callerOfMetadata(info.Header, d.door)
	a.Context, a.cancel = context.WithCancel(ctx)
	a.timer = time.AfterFunc(d.patience, a.expire)
	// A stream that ends before its message is complete may never reach a
	// handler; its timer would keep it in memory.
	a.unwatch = context.AfterFunc(ctx, a.stop)
	return a, nil
}

func (a *arrival) stop() { a.timer.Stop() }

func (a *arrival) expire() {
	a.late.Store(true)
	a.cancel()
}

// Complete ends the limit, as inflight.Arrived wants it.
func (a *arrival) Complete() { a.complete() }

// complete ends the limit: the message is there.
func (a *arrival) complete() {
	a.timer.Stop()
	a.unwatch()
}

// Err implements context.Context. The error decides the code that grpc-go
// answers with.
func (a *arrival) Err() error {
	err := a.Context.Err()
	if err != nil && a.late.Load() {
		return context.DeadlineExceeded
	}
	return err
}

type arrivalKey struct{}

// Value implements context.Context.
func (a *arrival) Value(key any) any {
	if key == (arrivalKey{}) || key == (inflight.ArrivalKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// arrivalOf returns the arrival that ctx belongs to, nil if the server was not
// made with ServerOptions.
func arrivalOf(ctx context.Context) *arrival {
	a, _ := ctx.Value(arrivalKey{}).(*arrival)
	return a
}
