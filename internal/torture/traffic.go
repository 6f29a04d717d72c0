package torture

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Client says how one application sends.
type Client struct {
	// Source makes its exports.
	Source Source
	// HTTP sends OTLP over HTTP instead of gRPC.
	HTTP bool
	// Gzip compresses the requests.
	Gzip bool
	// APIKey and Project are sent along where they are set.
	APIKey, Project string
	// PerSecond bounds the exports in a second; 0 does not.
	PerSecond float64
	// Exports ends the client after so many were acknowledged; 0 does not.
	Exports int
	// Timeout bounds one export. Default 10 s.
	Timeout time.Duration
}

// Traffic is what applications send to one weir.
type Traffic struct {
	Ledger  *Ledger
	GRPC    string // gRPC target, such as unix:/run/weir.sock
	HTTP    string // address of the HTTP listener, host:port or unix:PATH
	Clients []Client
}

// retryPause is how long a client waits after it was turned away. Real ones
// wait as they are told; these press harder.
const retryPause = 20 * time.Millisecond

// Run sends until ctx is done or every client has reached its Exports. It lets
// exports under way end, and returns once no goroutine of it is left. The
// first error of the harness itself, such as a source that repeats itself,
// ends it.
func (t *Traffic) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var clients sync.WaitGroup
	for i := range t.Clients {
		clients.Go(func() {
			if err := t.client(ctx, &t.Clients[i]); err != nil {
				stop(err)
			}
		})
	}
	clients.Wait()
	if err := context.Cause(ctx); err != nil && err != ctx.Err() { //nolint:errorlint // identity tells our own cause
		return err
	}
	return nil
}

// Start runs the traffic in the background. The returned function stops it and
// waits until it has ended.
func (t *Traffic) Start(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- t.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// sender sends one export and says how it ended. A complaint is a breach of
// the protocol by the answer.
type sender interface {
	send(ctx context.Context, payload []byte) (a Answer, complaint string)
	close()
}

// client is one client's loop.
func (t *Traffic) client(ctx context.Context, c *Client) error {
	s, err := t.dial(c) //nolint:contextcheck // its dials end with its close
	if err != nil {
		return err
	}
	defer s.close()
	pace := rate.NewLimiter(rate.Inf, 1)
	if c.PerSecond > 0 {
		pace.SetLimit(rate.Limit(c.PerSecond))
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	for taken := 0; ctx.Err() == nil && (c.Exports == 0 || taken < c.Exports); {
		if pace.Wait(ctx) != nil {
			return nil
		}
		e, err := t.Ledger.Offer(c.Source.Next())
		if err != nil {
			return err
		}
		// An export that was begun is waited for: its answer matters.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		answer, complaint := s.send(call, e.Payload)
		cancel()
		if complaint != "" {
			t.Ledger.Complain("%s", complaint)
		}
		t.Ledger.Answered(e, answer)
		if answer == Acknowledged {
			taken++
			continue
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return nil
}

func (t *Traffic) dial(c *Client) (sender, error) {
	if c.HTTP {
		return dialHTTP(t.HTTP, c), nil
	}
	return dialGRPC(t.GRPC, c)
}
