// Command live asks the real LangSmith what its documentation leaves open, with
// at most 20 traces (make live). It takes LANGSMITH_API_KEY, LANGSMITH_ENDPOINT
// and LANGSMITH_WORKSPACE_ID from the environment.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"weir/internal/live"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := ask(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
		os.Exit(1)
	}
}

// ask is main but the process.
func ask(ctx context.Context, args []string, getenv func(string) string, w io.Writer) error {
	flags := flag.NewFlagSet("live", flag.ContinueOnError)
	out := flags.String("out", "live.json", "file for the answers")
	project := flags.String("project", live.DefaultProject, "project that takes the traces")
	patience := flags.Duration("patience", live.DefaultPatience, "how long something is waited for that does not show")
	pause := flags.Duration("pause", live.DefaultFirstPause, "first pause between two reads")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg := live.Config{
		BaseURL: getenv("LANGSMITH_ENDPOINT"), APIKey: getenv("LANGSMITH_API_KEY"), Workspace: getenv("LANGSMITH_WORKSPACE_ID"),
		Project: *project, Patience: *patience, FirstPause: *pause,
	}
	if cfg.APIKey != "" {
		fmt.Fprintf(w, "This sends at most %d real traces to project %q. It takes minutes: what does not show is waited for.\n\n", live.MaxTraces, *project)
	}
	cfg.Said = func(a live.Answer) {
		fmt.Fprintf(w, "%-20s %-14s %s\n", a.ID, a.Answer, time.Duration(a.TookMS)*time.Millisecond)
	}
	report, err := live.Run(ctx, cfg)
	if report == nil || len(report.Answers) == 0 {
		return err
	}
	fmt.Fprintln(w)
	if tableErr := report.WriteTable(w); tableErr != nil && err == nil {
		err = tableErr
	}
	if fileErr := writeFile(*out, report); fileErr != nil {
		return fileErr
	}
	fmt.Fprintf(w, "All of it is in %s; docs/live.md says what to do with it.\n", *out)
	return err
}

func writeFile(path string, report *live.Report) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = report.WriteJSON(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
