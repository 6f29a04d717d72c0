package main

import (
	"context"

	"github.com/alecthomas/kong"
)

// runCmd is `weir run`.
type runCmd struct {
	configFlag
	kong.Plugins
}

func (c *runCmd) run(ctx context.Context, inv *invocation) error {
	s, err := inv.settings(c.configFlag)
	if err != nil {
		return err
	}
	if err := checkRunnable(s); err != nil {
		return &exitError{code: exitUsage, err: err}
	}
	return runWeir(ctx, s, &inv.console)
}

// devOptions is what `weir dev` takes beyond the settings.
type devOptions struct {
	// Chaos is a list of faults with their probabilities: "429=0.2,503=0.1".
	Chaos string `name:"chaos" placeholder:"FAULTS" help:"Faults for the look-alike to answer with, by probability, such as 429=0.2,503=0.1."`
	// SmithAddr is where the look-alike listens, host:port.
	SmithAddr string `name:"smith-addr" placeholder:"ADDR" default:"127.0.0.1:0" help:"Where the look-alike listens; port 0 takes any free one. Default 127.0.0.1:0."`
}

// devCmd is `weir dev`.
type devCmd struct {
	devOptions
	configFlag
	kong.Plugins
}

func (c *devCmd) run(ctx context.Context, inv *invocation) error {
	s, err := inv.settings(c.configFlag)
	if err != nil {
		return err
	}
	return runDev(ctx, s, c.devOptions, &inv.console)
}
