package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"weir/internal/listen"
	"weir/internal/smith"
)

// runDev runs a weir against a LangSmith look-alike of its own and prints what
// arrives there. Its data lives in a temporary directory unless one was named.
func runDev(ctx context.Context, s *settings, o devOptions, c *console) (err error) {
	chaos, err := smith.ParseChaos(o.Chaos)
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("--chaos: %w", err)}
	}
	lookAlike := smith.New(smith.Config{AllowAnyKey: true, Chaos: chaos, Control: !listen.Exposed(o.SmithAddr)})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.SmithAddr)
	if err != nil {
		return fmt.Errorf("start the look-alike: %w", err)
	}
	serving := make(chan error, 1)
	go func() { serving <- lookAlike.Serve(l) }()
	defer func() {
		err = errors.Join(err, lookAlike.Close())
		if served := <-serving; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}()
	printing := make(chan error, 1)
	arrivals := lookAlike.Subscribe(256)
	go func() { printing <- smith.Print(c.Out, arrivals) }()
	defer func() {
		arrivals.Close()
		err = errors.Join(err, <-printing)
	}()
	if s.origins["data_dir"].kind == sourceDefault {
		dir, err := os.MkdirTemp("", "weir-dev-")
		if err != nil {
			return fmt.Errorf("make a temporary data directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s.DataDir = filepath.Join(dir, "data")
	}
	s.Upstream, s.APIKey = "http://"+l.Addr().String(), "lsv2_pt_dev_0000000000"
	s.noReload = "this is weir dev, which goes to a look-alike of LangSmith whatever the configuration says; start it again"
	if err := checkExposure(s); err != nil {
		return &exitError{code: exitUsage, err: err}
	}
	return runDevWeir(ctx, s, c)
}

func runDevWeir(ctx context.Context, s *settings, c *console) error {
	logger := newLogger(s, c.Err)
	limitMemory(logger)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	w, err := startWeir(ctx, s, logger)
	if err != nil {
		return err
	}
	fmt.Fprint(c.Out, readyBanner(s, w.at, c.OutColor))
	fmt.Fprintf(c.Out, "\nTrying things out: %s stands in for LangSmith. What arrives there is shown below; Ctrl-C ends it.\n\n", s.Upstream)
	return w.serve(ctx, signals)
}
