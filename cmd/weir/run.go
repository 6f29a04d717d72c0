package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// runWeir runs a weir until a signal or a failing listener ends it.
func runWeir(ctx context.Context, s *settings, c *console) error {
	logger := newLogger(s, c.Err)
	logStart(logger, s)
	limitMemory(logger)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	w, err := startWeir(ctx, s, logger)
	if err != nil {
		return err
	}
	fmt.Fprint(c.Out, readyBanner(s, w.at, c.OutColor))
	return w.serve(ctx, signals)
}

// serve waits for whatever ends this weir, reloading on SIGHUP, and shuts it
// down in stages.
func (w *weir) serve(ctx context.Context, signals <-chan os.Signal) error {
	var cause error
	for waiting := true; waiting; {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				w.reload()
				continue
			}
			w.log.Info("stopping; a second signal cuts it short", slog.String("signal", sig.String()))
			waiting = false
		case answer := <-w.reloads:
			answer <- w.reload() // there is room for one
		case <-ctx.Done():
			waiting = false
		case cause = <-w.failed:
			waiting = false
		case cause = <-w.admin.Failed():
			waiting = false
		}
	}
	close(w.ending)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.settings.ShutdownTimeout)
	defer cancel()
	hurried := make(chan struct{})
	go func() {
		defer close(hurried)
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					w.log.Warn("second signal: not waiting any longer for requests under way")
					cancel()
					return
				}
			case <-stopCtx.Done():
				return
			}
		}
	}()
	err := w.shutdown(stopCtx)
	cancel()
	<-hurried
	return errors.Join(cause, err)
}

// changeUpstream has everything go to the upstream of next.
func (w *weir) changeUpstream(next *settings) error {
	client, err := newUpstream(next, w.metrics, w.queue, w.log)
	if err != nil {
		return err
	}
	if err := w.upstream.change(client); err != nil {
		return err
	}
	if w.langsmith == nil {
		return nil
	}
	return w.langsmith.SetUpstream(w.passUpstream())
}

// shutdown stops in the order data flows, each stage within what is left of
// ctx: take nothing new, finish what is being received and committed, finish
// or interrupt what is being sent, close the buffer, and last the admin API,
// which shows it all.
func (w *weir) shutdown(ctx context.Context) error {
	began := time.Now()
	w.acceptor.Stop("stopping")
	receiving, cancelReceiving := context.WithTimeout(ctx, w.settings.ShutdownTimeout/2) // a slow sender must not use it all up
	defer cancelReceiving()
	w.stopListeners(receiving)
	interrupted := w.forwarder.Close(ctx)
	left := w.queue.Stats().Totals
	err := errors.Join(w.queue.Close(), w.guard.Close())
	err = errors.Join(err, w.upstream.Close())
	adminCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err = errors.Join(err, w.admin.Close(adminCtx))
	attrs := []any{
		slog.Int64("pending_items", left.Pending), slog.Int64("held_items", left.Held), slog.Int64("quarantined_items", left.Quarantined),
		slog.Int("interrupted_requests", interrupted), slog.Duration("took", time.Since(began).Round(time.Millisecond)),
	}
	if left.Pending > 0 {
		w.log.Info("stopped; what is pending stays on disk and goes out after the next start", attrs...)
	} else {
		w.log.Info("stopped; nothing is pending", attrs...)
	}
	return err
}
