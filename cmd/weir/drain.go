package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
)

// drainCmd is `weir drain`.
type drainCmd struct {
	Timeout time.Duration `name:"timeout" placeholder:"DURATION" help:"How long to try, such as 5m. Default: until everything that can go has gone."`
	JSON    bool          `name:"json" help:"Print the admin API's last message as JSON."`
	adminFlags
}

func (c *drainCmd) run(ctx context.Context, inv *invocation) error {
	if c.Timeout < 0 {
		return &exitError{code: exitUsage, err: fmt.Errorf("--timeout %s is negative; give how long to try, such as 5m", c.Timeout)}
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	last, err := call.drain(ctx, c.Timeout, &inv.console)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printProto(inv.Out, last)
	} else {
		writeDrained(&inv.console, last)
	}
	if err != nil {
		return fmt.Errorf("drain: writing the report: %w", err)
	}
	if last.GetPendingItems() > 0 || len(last.GetLeft()) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// drainGrace is how much longer than the timeout weir may take to say how the
// draining ended.
const drainGrace = 15 * time.Second

// drain asks for the draining, shows its progress on con.Err, and returns the
// last message. A stream that ends without one is an error.
func (c *adminCall) drain(ctx context.Context, timeout time.Duration, con *console) (*weirv1.DrainResponse, error) {
	request := &weirv1.DrainRequest{}
	watch := ctx
	if timeout > 0 {
		request.Timeout = durationpb.New(timeout)
		var cancel context.CancelFunc
		watch, cancel = context.WithTimeout(ctx, timeout+drainGrace)
		defer cancel()
	}
	stream, err := c.client.Drain(watch, request)
	if err != nil {
		return nil, c.explainDrain(ctx, err)
	}
	progress := newDrainProgress(con)
	var last *weirv1.DrainResponse
	for stream.Receive() {
		last = stream.Msg()
		if last.GetDone() {
			break
		}
		progress.show(last)
	}
	progress.clear()
	err = stream.Err()
	if closeErr := stream.Close(); err == nil && !last.GetDone() {
		err = closeErr
	}
	switch {
	case last.GetDone():
		return last, nil
	case err != nil:
		return nil, c.explainDrain(ctx, err)
	default:
		return nil, errors.New("drain: weir ended the call before it was done; see `weir status` for what is left")
	}
}

// explainDrain says that draining goes on where only the watching stopped.
func (c *adminCall) explainDrain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("drain: stopped watching; weir goes on draining and takes no new data, see `weir status`")
	}
	return c.explain("drain", err)
}

// drainProgress shows one line that is overwritten, on a terminal only.
type drainProgress struct {
	con     *console
	started time.Time
	shown   bool
}

func newDrainProgress(con *console) *drainProgress {
	return &drainProgress{con: con, started: con.now()}
}

// clearLine returns to the start of the line and empties it.
const clearLine = "\r\x1b[K"

func (p *drainProgress) show(r *weirv1.DrainResponse) {
	if !p.con.ErrTTY {
		return
	}
	p.shown = true
	fmt.Fprint(p.con.Err, clearLine+progressLine(r, p.con.now().Sub(p.started)))
}

func (p *drainProgress) clear() {
	if p.shown {
		fmt.Fprint(p.con.Err, clearLine)
	}
}

// progressLine is the state of a drain after elapsed: what is left, how fast
// it goes on average, and how long the rest takes at that pace.
func progressLine(r *weirv1.DrainResponse, elapsed time.Duration) string {
	line := fmt.Sprintf("draining: %s items left", humanCount(r.GetPendingItems()))
	seconds := elapsed.Seconds()
	if r.GetDeliveredItems() <= 0 || seconds < 1 {
		return line
	}
	rate := float64(r.GetDeliveredItems()) / seconds
	line += fmt.Sprintf(", %s/s", humanCount(int64(rate)))
	const longest = 30 * 24 * time.Hour // beyond it a forecast says nothing
	left := float64(r.GetPendingItems()) / rate
	if left < longest.Seconds() {
		line += fmt.Sprintf(", about %s to go", humanDuration(time.Duration(left*float64(time.Second))))
	}
	return line
}

// writeDrained prints how the draining ended.
func writeDrained(con *console, last *weirv1.DrainResponse) {
	delivered := humanCount(last.GetDeliveredItems())
	if last.GetPendingItems() == 0 && len(last.GetLeft()) == 0 {
		fmt.Fprintf(con.Out, "%s %s items were delivered, nothing is left.\n", paint("Drained:", green, con.OutColor), delivered)
		return
	}
	fmt.Fprintf(con.Out, "%s %s items were delivered, %s are still pending.\n",
		paint("Not everything could go:", yellow, con.OutColor), delivered, humanCount(last.GetPendingItems()))
	for _, sentence := range last.GetLeft() {
		con.say("  - ", oneLine(sentence, maxSentence), plain)
	}
	fmt.Fprintln(con.Out, "What is left stays on disk; weir takes no new data until it is started again.")
}
