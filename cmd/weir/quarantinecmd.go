package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
)

// quarantineCmd is `weir quarantine`: without a verb, it lists.
type quarantineCmd struct {
	Ls      quarantineLsCmd      `cmd:"" default:"withargs" help:"List the cases: what was refused, why, and what to do; the default."`
	Show    quarantineShowCmd    `cmd:"" help:"Show one case in full."`
	Release quarantineReleaseCmd `cmd:"" help:"Send what cases hold again, at once."`
	Discard quarantineDiscardCmd `cmd:"" help:"Drop what cases hold, for good."`
	Export  quarantineExportCmd  `cmd:"" help:"Write what cases hold into a file that weir import takes back."`
}

// newQuarantineCmd is the command with the flags of settings that each verb takes.
func newQuarantineCmd() quarantineCmd {
	flags := func() adminFlags { return adminFlags{Plugins: settingFlags(adminSettings)} }
	return quarantineCmd{
		Ls: quarantineLsCmd{adminFlags: flags()}, Show: quarantineShowCmd{adminFlags: flags()},
		Release: quarantineReleaseCmd{adminFlags: flags()}, Discard: quarantineDiscardCmd{adminFlags: flags()},
		Export: quarantineExportCmd{adminFlags: flags()},
	}
}

// caseworkTimeout bounds a release or a discard: each frame of a large case is
// moved or dropped by itself.
const caseworkTimeout = 15 * time.Minute

// caseChoice says which cases are meant.
type caseChoice struct {
	IDs []uint32 `arg:"" optional:"" name:"id" help:"Numbers of cases, as weir quarantine ls shows them."`
	All bool     `name:"all" help:"All cases there are."`
}

func (c *caseChoice) check(operation string) error {
	switch {
	case c.All && len(c.IDs) > 0:
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: give numbers of cases or --all, not both", operation)}
	case !c.All && len(c.IDs) == 0:
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: say which: give the number of a case (`weir quarantine ls` lists them), or --all", operation)}
	}
	return nil
}

// explainCase is explain for calls that name cases.
func (c *adminCall) explainCase(operation string, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeNotFound, connect.CodeFailedPrecondition, connect.CodeInvalidArgument:
		return fmt.Errorf("%s: %w", operation, cause(err))
	default:
		return c.explain(operation, err)
	}
}

// quarantineLsCmd is `weir quarantine ls`.
type quarantineLsCmd struct {
	JSON bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *quarantineLsCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quarantine"
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*statusTimeout)
	defer cancel()
	out, err := call.allCases(ctx)
	if err != nil {
		return call.explain(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	writeQuarantine(&inv.console, out)
	return nil
}

// quarantineShowCmd is `weir quarantine show`.
type quarantineShowCmd struct {
	ID   uint32 `arg:"" name:"id" help:"Number of the case, as weir quarantine ls shows it."`
	JSON bool   `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *quarantineShowCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quarantine show"
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*statusTimeout)
	defer cancel()
	out, err := call.client.GetCase(ctx, &weirv1.GetCaseRequest{Id: c.ID})
	if err != nil {
		return call.explainCase(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	writeCase(&inv.console, out)
	return nil
}

// quarantineReleaseCmd is `weir quarantine release`.
type quarantineReleaseCmd struct {
	caseChoice
	AsOwnKey bool `name:"as-own-key" help:"Send it under weir's own key and in its workspace, also what an application sent under another key."`
	DryRun   bool `name:"dry-run" help:"Only say what would be released."`
	JSON     bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *quarantineReleaseCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quarantine release"
	if err := c.check(operation); err != nil {
		return err
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, caseworkTimeout)
	defer cancel()
	out, err := call.client.ReleaseCases(ctx, &weirv1.ReleaseCasesRequest{
		Ids: c.IDs, All: c.All, AsOwnKey: c.AsOwnKey, DryRun: c.DryRun,
	})
	if err != nil {
		return call.explainCase(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	_, err = fmt.Fprintln(inv.Out, releasedSentence(c, out))
	return written(operation, err)
}

// quarantineDiscardCmd is `weir quarantine discard`.
type quarantineDiscardCmd struct {
	caseChoice
	DryRun bool `name:"dry-run" help:"Only say what would be dropped, and what that frees."`
	Yes    bool `name:"yes" help:"Do not ask. Needed where nobody can be asked."`
	JSON   bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *quarantineDiscardCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quarantine discard"
	if err := c.check(operation); err != nil {
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
	out, err := call.client.DiscardCases(ctx, &weirv1.DiscardCasesRequest{Ids: c.IDs, All: c.All, DryRun: true})
	if err != nil {
		return call.explainCase(operation, err)
	}
	if !c.DryRun && len(out.GetCases()) > 0 {
		if !c.Yes && !inv.confirm("About to discard "+discardSize(out)+". This cannot be undone.") {
			return &exitError{code: exitFailed, err: errors.New(operation + ": nothing was discarded")}
		}
		// Those that were shown, and no others.
		request := &weirv1.DiscardCasesRequest{}
		for _, one := range out.GetCases() {
			request.Ids = append(request.Ids, one.GetId())
		}
		if out, err = call.client.DiscardCases(ctx, request); err != nil {
			return call.explainCase(operation, err)
		}
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	_, err = fmt.Fprintln(inv.Out, discardedSentence(c, out))
	return written(operation, err)
}

// mayDrop refuses to drop data where that is neither agreed to nor anybody there
// to be asked.
func (s *system) mayDrop(operation string, agreed bool) error {
	if agreed || s.inTTY {
		return nil
	}
	return &exitError{code: exitUsage, err: errors.New(operation +
		": it drops data for good, and nobody is at a terminal to confirm that; give --yes, or --dry-run to see what it is")}
}

// confirm asks at the terminal, and reports whether the answer is yes.
func (s *system) confirm(question string) bool {
	fmt.Fprintf(s.Err, "%s\nType yes to go on: ", question)
	line, _ := bufio.NewReader(io.LimitReader(s.in, 64)).ReadString('\n') // no answer is no
	return strings.TrimSpace(line) == "yes"
}

// quarantineExportCmd is `weir quarantine export`.
type quarantineExportCmd struct {
	caseChoice
	Out  string `name:"out" required:"true" placeholder:"FILE" help:"File to write, replacing what is there; - for standard output."`
	JSON bool   `name:"json" help:"Print what was written as JSON."`
	adminFlags
}

func (c *quarantineExportCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "quarantine export"
	if err := c.check(operation); err != nil {
		return err
	}
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	receive := func(w io.Writer) (*weirv1.ExportSummary, error) { return c.receive(ctx, call, w) }
	if c.Out == "-" {
		_, err := receive(inv.Out)
		return err
	}
	sum, err := exportTo(c.Out, receive)
	if err != nil {
		return err
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, sum))
	}
	_, err = fmt.Fprintln(inv.Out, exportedSentence(c.Out, sum))
	return written(operation, err)
}

// receive writes the export as it comes.
func (c *quarantineExportCmd) receive(ctx context.Context, call *adminCall, w io.Writer) (*weirv1.ExportSummary, error) {
	const operation = "quarantine export"
	stream, err := call.client.ExportCases(ctx, &weirv1.ExportCasesRequest{Ids: c.IDs, All: c.All})
	if err != nil {
		return nil, call.explainCase(operation, err)
	}
	defer func() { _ = stream.Close() }() // what went wrong has been said
	for stream.Receive() {
		m := stream.Msg()
		if m.GetSummary() != nil {
			return m.GetSummary(), nil
		}
		if _, err := w.Write(m.GetChunk()); err != nil {
			return nil, fmt.Errorf("%s: %w", operation, err)
		}
	}
	if err := stream.Err(); err != nil {
		return nil, call.explainCase(operation, err)
	}
	return nil, fmt.Errorf("%s: weir stopped before all was written", operation)
}

// exportTo writes a file, whole or not at all, readable by its owner only: traces
// hold what people say. Without a case it leaves what is there.
func exportTo(path string, receive func(io.Writer) (*weirv1.ExportSummary, error)) (*weirv1.ExportSummary, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("quarantine export: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	sum, err := receive(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if sum.GetCases() == 0 { // an earlier export at the same place is worth more
		return sum, f.Close()
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("quarantine export: write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, fmt.Errorf("quarantine export: %w", err)
	}
	return sum, nil
}
