package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
)

// queueCmd is `weir queue`: without a verb, it lists.
type queueCmd struct {
	Ls      queueLsCmd      `cmd:"" default:"withargs" help:"List the frames on disk, the oldest first; the default."`
	Show    queueShowCmd    `cmd:"" help:"Show one frame, and what it holds if asked for."`
	Df      queueDfCmd      `cmd:"" help:"Show what takes the disk, what could be freed, and by which command."`
	Discard queueDiscardCmd `cmd:"" help:"Drop pending frames, for good."`
}

// newQueueCmd is the command with the flags of settings that each verb takes.
func newQueueCmd() queueCmd {
	flags := func() adminFlags { return adminFlags{Plugins: settingFlags(adminSettings)} }
	return queueCmd{
		Ls: queueLsCmd{adminFlags: flags()}, Show: queueShowCmd{adminFlags: flags()},
		Df: queueDfCmd{adminFlags: flags()}, Discard: queueDiscardCmd{adminFlags: flags()},
	}
}

// framesTimeout is more than the admin API takes for a page of frames.
const framesTimeout = 40 * time.Second

// explainFrame is explain for calls that name frames.
func (c *adminCall) explainFrame(operation string, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w", operation, cause(err))}
	case connect.CodeNotFound, connect.CodeDataLoss:
		return fmt.Errorf("%s: %w", operation, cause(err))
	default:
		return c.explain(operation, err)
	}
}

// olderThan is d for a request; nothing, if it is none.
func olderThan(operation string, d *time.Duration) (*durationpb.Duration, error) {
	switch {
	case d == nil:
		return nil, nil
	case *d <= 0:
		return nil, &exitError{code: exitUsage, err: fmt.Errorf("%s: --older-than %s: give more than 0s, such as 48h", operation, *d)}
	}
	return durationpb.New(*d), nil
}

// queueLsCmd is `weir queue ls`.
type queueLsCmd struct {
	Lane      uint32         `name:"lane" placeholder:"N" help:"Only frames of this lane, as weir status numbers them."`
	State     string         `name:"state" placeholder:"STATE" enum:",pending,held,quarantined" default:"" help:"Only frames that are pending, held or quarantined."`
	Case      uint32         `name:"case" placeholder:"N" help:"Only frames of this case of the quarantine."`
	OlderThan *time.Duration `name:"older-than" placeholder:"D" help:"Only frames accepted at least so long ago, such as 90m or 48h."`
	Newest    bool           `name:"newest" help:"Begin with the newest."`
	Limit     int            `name:"limit" placeholder:"N" default:"100" help:"List at most so many; 0 lists all. Default 100."`
	JSON      bool           `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

// Help implements kong.HelpProvider.
func (c *queueLsCmd) Help() string {
	return `A frame is what one lane had in one commit: the unit that is kept and sent. Frames stand about by age.

Examples:

  weir queue ls --state pending --older-than 48h   what does not get through
  weir queue ls --lane 3 --newest --limit 20       the latest of a lane
  weir queue ls --case 7 --limit 0 --json          all of a case, for a script`
}

// pageFrames is the most frames that one call lists.
const pageFrames = 1000

func (c *queueLsCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "queue"
	older, err := olderThan(operation, c.OlderThan)
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: --limit %d: give a number of frames, or 0 for all", operation, c.Limit)}
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	request := &weirv1.ListFramesRequest{Lane: c.Lane, State: c.State, Case: c.Case, OlderThan: older, NewestFirst: c.Newest}
	out := &weirv1.ListFramesResponse{}
	for {
		request.PageSize = pageFrames
		if c.Limit > 0 {
			request.PageSize = int32(min(c.Limit-len(out.GetFrames()), pageFrames))
		}
		page, err := c.page(ctx, call, request)
		if err != nil {
			return call.explainFrame(operation, err)
		}
		out.Frames = append(out.Frames, page.GetFrames()...)
		out.NextPageToken = page.GetNextPageToken()
		if out.GetNextPageToken() == "" || c.Limit > 0 && len(out.GetFrames()) >= c.Limit {
			break
		}
		request.PageToken = out.GetNextPageToken()
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	writeFrames(&inv.console, c, out)
	return nil
}

func (c *queueLsCmd) page(ctx context.Context, call *adminCall, request *weirv1.ListFramesRequest) (*weirv1.ListFramesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, framesTimeout)
	defer cancel()
	return call.client.ListFrames(ctx, request)
}

// filtered reports whether not all frames are asked for.
func (c *queueLsCmd) filtered() bool {
	return c.Lane != 0 || c.State != "" || c.Case != 0 || c.OlderThan != nil
}

// queueShowCmd is `weir queue show`.
type queueShowCmd struct {
	Frame   string `arg:"" name:"frame" help:"Id of the frame, as weir queue ls shows it, such as 12.3041."`
	Content bool   `name:"content" help:"Print what it holds, too: what applications sent, prompts and answers included; 512 KiB of it at most."`
	JSON    bool   `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

// Help implements kong.HelpProvider.
func (c *queueShowCmd) Help() string {
	return `Examples:

  weir queue show 12.3041
  weir queue show 12.3041 --content
  weir queue show 12.3041 --content --json | jq -r '.content[]' | jq .op`
}

func (c *queueShowCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "queue show"
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, framesTimeout)
	defer cancel()
	out, err := call.client.GetFrame(ctx, &weirv1.GetFrameRequest{Id: c.Frame, Content: c.Content})
	if err != nil {
		return call.explainFrame(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	writeFrame(&inv.console, c, out)
	return nil
}

// queueDfCmd is `weir queue df`.
type queueDfCmd struct {
	Lanes bool `name:"lanes" short:"v" help:"Show what each lane takes, too."`
	JSON  bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *queueDfCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "queue df"
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out, err := call.client.GetDiskUse(ctx, &weirv1.GetDiskUseRequest{})
	if err != nil {
		return call.explain(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	writeDiskUse(&inv.console, out, c.Lanes)
	return nil
}

// queueDiscardCmd is `weir queue discard`.
type queueDiscardCmd struct {
	Frames    []string       `arg:"" optional:"" name:"frame" help:"Ids of frames, as weir queue ls shows them."`
	Lane      uint32         `name:"lane" placeholder:"N" help:"Frames of this lane."`
	OlderThan *time.Duration `name:"older-than" placeholder:"D" help:"Frames accepted at least so long ago, such as 48h."`
	All       bool           `name:"all" help:"All pending frames there are."`
	DryRun    bool           `name:"dry-run" help:"Only say what would be dropped, and what that frees."`
	Yes       bool           `name:"yes" help:"Do not ask. Needed where nobody can be asked."`
	JSON      bool           `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

// Help implements kong.HelpProvider.
func (c *queueDiscardCmd) Help() string {
	return `It drops frames that are pending, and counts their items as dropped (reason "discarded"). Of several conditions all must be true
of a frame. What is being sent at the moment stays, and so does what is held (weir quota release) or in quarantine (weir quarantine
discard).

Examples:

  weir queue discard --lane 3 --dry-run
  weir queue discard --lane 3 --older-than 48h
  weir queue discard 12.3041 12.3042 --yes`
}

func (c *queueDiscardCmd) request() (*weirv1.DiscardFramesRequest, error) {
	const operation = "queue discard"
	older, err := olderThan(operation, c.OlderThan)
	if err != nil {
		return nil, err
	}
	some := len(c.Frames) > 0 || c.Lane != 0 || older != nil
	switch {
	case c.All && some:
		return nil, &exitError{code: exitUsage, err: errors.New(operation + ": give --all, or say which frames, not both")}
	case !c.All && !some:
		return nil, &exitError{code: exitUsage, err: errors.New(operation +
			": say which: give ids of frames (`weir queue ls` lists them), --lane, --older-than, or --all")}
	}
	return &weirv1.DiscardFramesRequest{Ids: c.Frames, Lane: c.Lane, OlderThan: older, All: c.All}, nil
}

func (c *queueDiscardCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "queue discard"
	request, err := c.request()
	if err != nil {
		return err
	}
	if err := inv.mayDrop(operation, c.DryRun || c.Yes); err != nil {
		return err
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, caseworkTimeout)
	defer cancel()
	asked := inv.now()
	request.DryRun = c.DryRun || !c.Yes // first, unless nobody wants to know
	out, err := call.client.DiscardFrames(ctx, request)
	if err == nil && !c.DryRun && !c.Yes && out.GetFrames() > 0 {
		if !inv.confirm("About to discard " + framesSize(out) + ". This cannot be undone.") {
			return &exitError{code: exitFailed, err: errors.New(operation + ": nothing was discarded")}
		}
		request.DryRun = false
		// What came while somebody was thinking about it was not shown.
		if since := inv.now().Sub(asked); since > 0 && len(c.Frames) == 0 {
			request.OlderThan = durationpb.New(request.GetOlderThan().AsDuration() + since)
		}
		out, err = call.client.DiscardFrames(ctx, request)
	}
	if err != nil {
		return call.explainFrame(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	_, err = fmt.Fprintln(inv.Out, discardedFrames(c, out))
	return written(operation, err)
}
