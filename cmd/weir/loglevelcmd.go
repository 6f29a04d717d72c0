package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
)

// logLevelCmd is `weir log-level`.
type logLevelCmd struct {
	Level string        `arg:"" optional:"" placeholder:"LEVEL" help:"Level to set: debug, info, warn, error, or configured for what the configuration says. Without it, the level is only shown."`
	For   time.Duration `name:"for" placeholder:"DURATION" help:"For how long, such as 10m, from 1s to 24h. Without it, until the next restart."`
	JSON  bool          `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

// configuredWord asks for the level that the configuration says.
const configuredWord = "configured"

func (c *logLevelCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "log-level"
	if c.Level != "" && !slices.Contains([]string{"debug", "info", "warn", "error", configuredWord}, c.Level) {
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %q is no level: give debug, info, warn, error or %s", operation, c.Level, configuredWord)}
	}
	if c.For != 0 && (c.Level == "" || c.Level == configuredWord) {
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: --for goes with a level: debug, info, warn or error", operation)}
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req := &weirv1.SetLogLevelRequest{Level: c.Level}
	if c.For != 0 {
		req.For = durationpb.New(c.For)
	}
	out, err := call.client.SetLogLevel(ctx, req)
	if err != nil {
		return call.explain(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	_, err = fmt.Fprintln(inv.Out, logLevelSentence(inv.now(), out))
	return written(operation, err)
}

// logLevelSentence says what the level is, and what it will be.
func logLevelSentence(now time.Time, r *weirv1.SetLogLevelResponse) string {
	level, configured := oneLine(r.GetLevel(), maxName), oneLine(r.GetConfigured(), maxName)
	switch {
	case isSet(r.GetUntil()):
		return fmt.Sprintf("The log level is %s; %s, as configured, applies again %s.", level, configured, inTime(now, r.GetUntil()))
	case level == configured:
		return fmt.Sprintf("The log level is %s, as configured.", level)
	default:
		return fmt.Sprintf("The log level is %s until weir is restarted; configured is %s.", level, configured)
	}
}
