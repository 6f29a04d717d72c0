package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
)

const (
	// watchSilence is how long weir may say nothing; it promises a message
	// every 15 seconds.
	watchSilence = 25 * time.Second
	// watchRetry is the pause before a weir that went away is called again.
	watchRetry = time.Second
	// watchTick is how often ages on the screen move on.
	watchTick = time.Second
)

// watchView is one way of showing what a watched weir says. Its methods are
// called by one goroutine.
type watchView interface {
	// show takes the next message.
	show(m *weirv1.WatchResponse) error
	// lost says that weir went away, once for each time it did.
	lost(why error) error
	// tick is called every second, and when the terminal has another size.
	tick() error
	// close leaves the terminal as it was.
	close()
}

// watcher follows one weir until its context ends, also across restarts.
type watcher struct {
	call  *adminCall
	view  watchView
	retry time.Duration
}

// watchEvent is what following a weir led to: a message, or the loss of it.
type watchEvent struct {
	message *weirv1.WatchResponse
	lost    error // weir went away; it is called again
	failed  error // it makes no sense to go on
}

// watch shows a running weir live until a signal ends it, which is how it ends
// well.
func (c *adminCall) watch(ctx context.Context, con *console, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var view watchView
	switch {
	case asJSON:
		view = &watchJSON{con: con}
	case con.OutTTY:
		view = &watchScreen{con: con}
	default:
		view = &watchLines{con: con}
	}
	return (&watcher{call: c, view: view, retry: watchRetry}).run(ctx)
}

// run shows what comes until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan watchEvent)
	go func() {
		defer close(events)
		w.follow(ctx, events)
	}()
	defer func() {
		cancel()
		for range events { // until follow has ended
		}
	}()
	defer w.view.close()
	resized, unsubscribe := resizes()
	defer unsubscribe()
	ticker := time.NewTicker(watchTick)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			err = w.view.tick()
		case <-resized:
			err = w.view.tick()
		case e := <-events:
			switch {
			case ctx.Err() != nil:
				return nil
			case e.failed != nil:
				return w.call.explain("status", e.failed)
			case e.lost != nil:
				err = w.view.lost(e.lost)
			case e.message != nil:
				err = w.view.show(e.message)
			}
		}
		if err != nil {
			return fmt.Errorf("status: writing the answer: %w", err)
		}
	}
}

// follow sends what weir says, calling it again when it went away. A weir that
// never answered is a failure, and so is one that refuses.
func (w *watcher) follow(ctx context.Context, events chan<- watchEvent) {
	send := func(e watchEvent) bool {
		select {
		case events <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	known, lost := false, false
	for {
		err := w.stream(ctx, func(m *weirv1.WatchResponse) bool {
			known, lost = true, false
			return send(watchEvent{message: m})
		})
		switch {
		case ctx.Err() != nil:
			return
		case !known || !mayComeBack(err):
			send(watchEvent{failed: err})
			return
		case !lost:
			lost = true
			if !send(watchEvent{lost: cause(err)}) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.retry):
		}
	}
}

// mayComeBack reports whether a weir that ended a stream so may answer another
// call. Codes that a restart brings count as such.
func mayComeBack(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeInvalidArgument:
		return false
	default:
		return true
	}
}

// stream makes one call and hands out its messages until take returns false.
// Its error is never nil.
func (w *watcher) stream(ctx context.Context, take func(*weirv1.WatchResponse) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("nothing was heard for %s", humanDuration(watchSilence)))
	alarm := time.AfterFunc(watchSilence, func() { cancel(silence) })
	defer alarm.Stop()
	stream, err := w.call.client.Watch(ctx, &weirv1.WatchRequest{})
	if err != nil {
		return orCause(ctx, err)
	}
	defer func() { _ = stream.Close() }() // what went wrong has been said
	for stream.Receive() {
		alarm.Reset(watchSilence)
		if !take(stream.Msg()) {
			return context.Canceled
		}
	}
	if err := stream.Err(); err != nil {
		return orCause(ctx, err)
	}
	return connect.NewError(connect.CodeUnavailable, errors.New("it ended the call"))
}

// orCause is why ctx was cancelled, if it was, else err.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
