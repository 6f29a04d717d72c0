package otlp

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	"weir/internal/inflight"
)

func TestArrivalEndsWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	header := metadata.Pairs("x-api-key", "k")
	const otherMethod = "/some.Service/Unary"
	for name, tc := range map[string]struct {
		method   string
		complete time.Duration // when the message is there; 0: never
		end      time.Duration // when the stream ends; 0: after all else
		want     error         // after a minute
	}{
		"late":                 {exportMethod, 0, 0, context.DeadlineExceeded},
		"in time":              {exportMethod, 29 * time.Second, 0, nil},
		"gone before":          {exportMethod, 0, 10 * time.Second, context.Canceled},
		"gone after":           {exportMethod, 5 * time.Second, 10 * time.Second, context.Canceled},
		"other unary, late":    {otherMethod, 0, 0, context.DeadlineExceeded},
		"other unary, in time": {otherMethod, 29 * time.Second, 0, nil},
		"method of other kind": {"/grpc.health.v1.Health/Watch", 0, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stream, end := context.WithCancel(t.Context())
				defer end()
				ctx, err := arrivals{30 * time.Second, []string{otherMethod}, nil}.begin(stream, &tap.Info{FullMethodName: tc.method, Header: header})
				if err != nil {
					t.Fatal(err)
				}
				// grpc-go and the handler derive from it.
				derived, cancel := context.WithCancel(ctx)
				defer cancel()
				a := arrivalOf(derived)
				if (a != nil) != (tc.method == exportMethod || tc.method == otherMethod) {
					t.Fatalf("arrival is %v", a)
				}
				if tc.complete > 0 {
					time.AfterFunc(tc.complete, func() { inflight.Arrived(derived) })
				}
				if tc.end > 0 {
					time.AfterFunc(tc.end, end)
				}
				<-time.After(time.Minute)
				synctest.Wait()
				if got := ctx.Err(); !errors.Is(got, tc.want) {
					t.Errorf("the context ended with %v, want %v", got, tc.want)
				}
				if (derived.Err() == nil) != (tc.want == nil) {
					t.Errorf("what derives from it ended with %v", derived.Err())
				}
				if a != nil && a.timer.Stop() {
					t.Error("the timer still runs")
				}
				if a != nil && a.caller.APIKey != "k" {
					t.Errorf("caller is %+v", a.caller)
				}
			})
		})
	}
}
