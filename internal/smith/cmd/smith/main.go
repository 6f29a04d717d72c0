// Command smith runs the look-alike of LangSmith by itself, for tests and
// benchmarks that need it in a process of its own. Its first line of output is
// the address it listens on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"weir/internal/smith"
)

// Exit codes, as weir's own.
const (
	exitWell   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is what the command line says.
type options struct {
	addr  string
	show  bool
	smith smith.Config
}

// run serves until ctx ends and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitWell
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "smith:", err)
		return exitUsage
	}
	if err := serve(ctx, o, stdout); err != nil {
		_, _ = fmt.Fprintln(stderr, "smith:", err)
		return exitFailed
	}
	return exitWell
}

// serve listens, says where, and serves until ctx ends.
func serve(ctx context.Context, o options, stdout io.Writer) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w (is something else using it? try --addr 127.0.0.1:0)", o.addr, err)
	}
	if _, err := fmt.Fprintln(stdout, l.Addr()); err != nil {
		return errors.Join(fmt.Errorf("print the address: %w", err), l.Close())
	}
	s := smith.New(o.smith)
	printed := make(chan error, 1)
	if o.show {
		const backlog = 256
		sub := s.Subscribe(backlog) // before the first request can come
		go func() { printed <- smith.Print(stdout, sub) }()
	} else {
		close(printed)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	var failed error
	select {
	case <-ctx.Done():
		failed = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			failed = errors.Join(failed, err)
		}
	case err := <-served:
		failed = errors.Join(err, s.Close())
	}
	return errors.Join(failed, <-printed)
}

// parse reads the command line.
func parse(args []string, help io.Writer) (options, error) {
	var o options
	c := &o.smith
	c.Keys = map[string]smith.Key{}
	var keys []string // parsed below: flag's own errors would repeat the key
	fs := flag.NewFlagSet("smith", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run reports what is wrong
	fs.StringVar(&o.addr, "addr", "127.0.0.1:0", "`HOST:PORT` to listen on; port 0 chooses a free one")
	fs.BoolVar(&o.show, "print", false, "print a line for every span and run")
	fs.Func("chaos", "fail at random, as `429=0.2,503=0.1,reset=0.05`", func(text string) (err error) {
		c.Chaos, err = smith.ParseChaos(text)
		return err
	})
	fs.Uint64Var(&c.Seed, "seed", 0, "`NUMBER` that makes chaos repeatable")
	fs.Func("key", "a `KEY=TENANT[,org][,orgread][,readonly][,noplan][,bearer]` that exists; repeatable (default: any key)", func(text string) error {
		keys = append(keys, text)
		return nil
	})
	fs.TextVar(&c.Switches.OTLPZstd, "zstd", smith.Taken, "zstd-compressed OTLP is `taken|415|lost`")
	fs.TextVar(&c.Switches.OTLPJSON, "json", smith.Taken, "OTLP in JSON is `taken|415|lost`")
	fs.TextVar(&c.Switches.OTLPMalformed, "malformed", smith.Malformed400, "malformed OTLP gets `400|lost`")
	fs.TextVar(&c.Switches.OTLPWindow, "window", smith.WindowOff, "start times over 24h from now are refused: `off|400|422`")
	fs.TextVar(&c.Switches.OTLPProject, "project", smith.HeaderFirst, "which names the project: `header|attribute`")
	fs.BoolVar(&c.Switches.OTLPBarePath, "bare-path", false, "take OTLP at /otel, too")
	fs.TextVar(&c.Switches.RunsZstd, "runs-zstd", smith.Taken, "zstd-compressed run operations are `taken|415|lost`")
	fs.TextVar(&c.Switches.RunsWindow, "runs-window", smith.WindowOff, "runs that started over 24h from now are refused: `off|400|422`")
	fs.TextVar(&c.Switches.RunsDuplicate, "runs-duplicate", smith.DuplicatePartial, "what a request loses with a duplicate in it: `partial|whole`")
	fs.IntVar(&c.Switches.RunsMax, "runs-max", 0, "posts and patches a request may have, a `NUMBER`; 0: any")
	fs.TextVar(&c.Switches.FeedbackOrder, "feedback-order", smith.FeedbackFree, "whether feedback may come before its run: `free|run_first`")
	fs.TextVar(&c.Switches.ExtraUpdate, "extra-update", smith.ExtraMerge, "what an update's extra does with the run's: `merge|replace`")
	fs.TextVar(&c.Switches.QuotaUpdates, "quota-updates", smith.UpdatesTaken,
		"at the month's limit, requests with counted traces alone are `taken|refused`")
	fs.TextVar(&c.Switches.QuotaOTLP, "quota-otlp", smith.QuotaOTLP429, "OTLP over a limit gets `429|lost`")
	fs.TextVar(&c.Switches.UsageLag, "usage-lag", smith.Lag(0), "`DURATION` by which usage reads are behind")
	causeFlags(fs, &c.Switches)
	limitFlags(fs, &c.Limits)
	fs.Int64Var(&c.MaxAttachmentBytes, "max-attachment", 0, "largest attachment in `BYTES`; 0: any")
	fs.IntVar(&c.MaxTraceRuns, "max-trace-runs", 0, "runs that a trace may have, a `NUMBER`; 0: the service's own limit")
	fs.TextVar(&c.Keep, "keep", smith.KeepSpans, "how much to remember: `spans|ids|counts`")
	discard := fs.Bool("discard", false, "remember totals only; the same as --keep counts")
	fs.BoolVar(&c.Control, "control", false, "serve the control API below /__smith/")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			_, _ = fmt.Fprintln(help, "smith: a look-alike of LangSmith for tests and benchmarks")
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return o, err
	}
	for _, text := range keys {
		if err := parseKey(text, c.Keys); err != nil {
			return o, fmt.Errorf("--key: %w", err)
		}
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; everything is a flag, --help lists them", fs.Arg(0))
	}
	if *discard {
		c.Keep = smith.KeepCounts
	}
	if err := c.Limits.Validate(); err != nil {
		return o, fmt.Errorf("limits: %w", err)
	}
	return o, nil
}

// causeFlags are the switches about what is refused and how it is said.
func causeFlags(fs *flag.FlagSet, sw *smith.Switches) {
	fs.TextVar(&sw.AuthWording, "auth-wording", smith.WordingCurrent, "refused keys are told in words that are `current|old`")
	fs.TextVar(&sw.QuotaWording, "quota-wording", smith.WordingCurrent, "so is the month's limit: `current|old`")
	fs.TextVar(&sw.RevokedKey, "revoked-key", smith.Revoked403, "a revoked key gets `403|401`")
	fs.IntVar(&sw.NameMax, "name-max", 0, "characters a run's name may have, a `NUMBER`; 0: any")
	fs.TextVar(&sw.BigIntegers, "big-integers", smith.CheckOff, "integers beyond 64 bits fail their request: `off|400|422`")
	fs.TextVar(&sw.NULBytes, "nul-bytes", smith.CheckOff, "so do NUL characters: `off|400|422`")
	fs.Int64Var(&sw.CutBytes, "cut", 0, "a body of more `BYTES` has its connection reset; 0: none")
}

// limitFlags are the limits of every tenant; the control API has those of one.
func limitFlags(fs *flag.FlagSet, l *smith.Limits) {
	fs.Int64Var(&l.MonthlyTraces, "monthly-traces", 0, "unique traces a month before 429, a `NUMBER`; 0: any")
	fs.Int64Var(&l.HourlyEvents, "hourly-events", 0, "spans, posts and patches an hour before 429, a `NUMBER`; 0: any")
	fs.Int64Var(&l.HourlyBytes, "hourly-bytes", 0, "payload `BYTES` an hour before 429; 0: any")
	fs.Int64Var(&l.MinuteEvents, "minute-events", 0, "spans, posts and patches a minute before 429, a `NUMBER`; 0: any")
	fs.Int64Var(&l.UserMonthlyTraces, "user-monthly-traces", 0, "the organization's own limit of traces a month, a `NUMBER`; 0: any")
	fs.Int64Var(&l.UserLonglivedTraces, "user-longlived-traces", 0, "the organization's own limit of upgrades a month, a `NUMBER`; 0: any")
}

// parseKey adds the key that a --key flag describes.
func parseKey(text string, keys map[string]smith.Key) error {
	name, rest, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("write KEY=TENANT")
	}
	traits := strings.Split(rest, ",")
	k := smith.Key{Tenant: traits[0]}
	for _, trait := range traits[1:] {
		switch trait {
		case "org":
			k.OrgScoped = true
		case "orgread":
			k.OrgRead = true
		case "readonly":
			k.ReadOnly = true
		case "noplan":
			k.NoPlan = true
		case "bearer":
			k.Bearer = true
		default:
			return fmt.Errorf("%q is not known; use org, orgread, readonly, noplan or bearer", trait)
		}
	}
	if err := k.Validate(); err != nil {
		return err
	}
	keys[name] = k
	return nil
}
