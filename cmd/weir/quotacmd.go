package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	weirv1 "weir/proto/weir/v1"
)

// quotaCmd is `weir quota`: without a verb, it shows.
type quotaCmd struct {
	Show     quotaShowCmd     `cmd:"" default:"withargs" help:"Show where the month's traces stand; the default."`
	Set      quotaSetCmd      `cmd:"" help:"Correct how many traces the month has taken."`
	SetLimit quotaSetLimitCmd `cmd:"" name:"set-limit" help:"Replace the monthly limit, also across restarts."`
	Release  quotaReleaseCmd  `cmd:"" help:"Let held traces go, as many as there is room for."`
}

// newQuotaCmd is the command with the flags of settings that each verb takes.
func newQuotaCmd() quotaCmd {
	flags := func() adminFlags { return adminFlags{Plugins: settingFlags(adminSettings)} }
	return quotaCmd{
		Show: quotaShowCmd{adminFlags: flags()}, Set: quotaSetCmd{quotaFlags{adminFlags: flags()}, 0},
		SetLimit: quotaSetLimitCmd{quotaFlags{adminFlags: flags()}, ""}, Release: quotaReleaseCmd{quotaFlags: quotaFlags{adminFlags: flags()}},
	}
}

// quotaFlags are those of the verbs that change something.
type quotaFlags struct {
	Account string `name:"account" placeholder:"NAME" help:"Account, by its name as weir quota shows it or what follows the URL in it; needed where there are several."`
	JSON    bool   `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

// quotaShowCmd is `weir quota show`.
type quotaShowCmd struct {
	All  bool `name:"all" help:"Also accounts without traces this month and without data, such as those of former keys."`
	JSON bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *quotaShowCmd) run(ctx context.Context, inv *invocation) error {
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out, err := call.client.GetQuota(ctx, &weirv1.GetQuotaRequest{})
	if err != nil {
		return call.explain("quota", err)
	}
	if c.JSON {
		err = printProto(inv.Out, out)
	} else {
		writeQuota(&inv.console, out, c.All)
	}
	return written("quota", err)
}

// written explains an answer that could not be written.
func written(operation string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: writing the answer: %w", operation, err)
	}
	return nil
}

// explainQuota is explain for calls that name an account and numbers: what is
// wrong with those is wrong usage.
func (c *adminCall) explainQuota(operation string, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w\nName the account with --account", operation, cause(err))}
	case connect.CodeNotFound:
		return fmt.Errorf("%s: %w", operation, cause(err))
	default:
		return c.explain(operation, err)
	}
}

// answer prints what came of a change: the message, or in sentences.
func (f *quotaFlags) answer(inv *invocation, operation string, m proto.Message, sentences string) error {
	if f.JSON {
		return written(operation, printProto(inv.Out, m))
	}
	_, err := fmt.Fprintln(inv.Out, sentences)
	return written(operation, err)
}

// quotaSetCmd is `weir quota set`.
type quotaSetCmd struct {
	quotaFlags
	Traces int64 `arg:"" name:"n" help:"Traces that the month has taken, by weir and by others."`
}

func (c *quotaSetCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quota set"
	if err := checkTraces(operation, "N", c.Traces); err != nil {
		return err
	}
	request := &weirv1.SetQuotaRequest{Account: c.Account, TracesUsed: new(int32(c.Traces))}
	out, err := c.set(ctx, inv, operation, request)
	if err != nil {
		return err
	}
	return c.answer(inv, operation, out, countSentence(out.GetScope()))
}

// set sends a change of count or limit.
func (f *quotaFlags) set(ctx context.Context, inv *invocation, operation string, r *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
	call, err := f.dial(inv)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out, err := call.client.SetQuota(ctx, r)
	if err != nil {
		return nil, call.explainQuota(operation, err)
	}
	return out, nil
}

// checkTraces checks a count of traces.
func checkTraces(operation, what string, n int64) error {
	if n < 0 || n > maxTraces {
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %s is %d; give a whole number from 0 to %d", operation, what, n, maxTraces)}
	}
	return nil
}

// quotaSetLimitCmd is `weir quota set-limit`.
type quotaSetLimitCmd struct {
	quotaFlags
	Limit string `arg:"" name:"n" help:"Most traces in a month; none (or 0) is no limit, default the configured limit again."`
}

func (c *quotaSetLimitCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quota set-limit"
	request := &weirv1.SetQuotaRequest{Account: c.Account}
	switch word := strings.ToLower(c.Limit); word {
	case "default":
		request.ClearLimit = true
	case noLimit:
		request.TracesLimit = new(int32(0))
	default:
		n, err := parseCount(c.Limit, maxTraces)
		if err != nil {
			return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w; give a whole number up to %d, none or default", operation, err, maxTraces)}
		}
		request.TracesLimit = new(int32(n))
	}
	out, err := c.set(ctx, inv, operation, request)
	if err != nil {
		return err
	}
	return c.answer(inv, operation, out, limitSentence(request, out.GetScope()))
}

// quotaReleaseCmd is `weir quota release`.
type quotaReleaseCmd struct {
	Traces      *int64  `name:"traces" placeholder:"N" help:"Most traces to release. Default: as many as there is room for."`
	Project     *string `name:"project" placeholder:"NAME" help:"Release only this project's; empty for data that named none."`
	OldestFirst bool    `name:"oldest-first" help:"Take the oldest first, not the newest. Those that show an error go before others either way."`
	DryRun      bool    `name:"dry-run" help:"Only say what would be released."`
	quotaFlags
}

func (c *quotaReleaseCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quota release"
	request := &weirv1.ReleaseHeldRequest{Account: c.Account, Project: c.Project, OldestFirst: c.OldestFirst, DryRun: c.DryRun}
	if c.Traces != nil {
		if *c.Traces == 0 {
			return &exitError{code: exitUsage, err: errors.New(operation + ": --traces is 0; leave it out to release as many as there is room for")}
		}
		if err := checkTraces(operation, "--traces", *c.Traces); err != nil {
			return err
		}
		request.Traces = new(int32(*c.Traces))
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out, err := call.client.ReleaseHeld(ctx, request)
	if err != nil {
		return call.explainQuota(operation, err)
	}
	if err := c.answer(inv, operation, out, releaseSentence(request, out)); err != nil {
		return err
	}
	if out.GetTraces() == 0 && !c.DryRun && heldOf(request.Project, out.GetScope()) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}
