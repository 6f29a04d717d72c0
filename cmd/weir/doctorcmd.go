package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/alecthomas/kong"

	"weir/internal/doctor"
	weirv1 "weir/proto/weir/v1"
	"weir/proxy/diagnose"
)

// doctorCmd is `weir doctor`.
type doctorCmd struct {
	JSON    bool `name:"json" help:"Print JSON: checks, each with name, ok, cause, seen and remedy."`
	Regions bool `name:"regions" help:"Also ask LangSmith's other regions for the key, which sends it there."`
	configFlag
	kong.Plugins
}

func (c *doctorCmd) run(ctx context.Context, inv *invocation) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := inv.doctorConfig(c.configFlag)
	cfg.Regions = c.Regions
	return runDoctor(ctx, cfg, c.JSON, &inv.console)
}

// runDoctor makes the checks and prints them.
func runDoctor(ctx context.Context, cfg doctor.Config, asJSON bool, con *console) error {
	checks := []doctor.Check{}
	err := doctor.Run(ctx, cfg, func(c doctor.Check) {
		checks = append(checks, c)
		if !asJSON {
			writeDoctorCheck(con, c)
		}
	})
	if err != nil {
		return errors.New("doctor: interrupted")
	}
	if asJSON {
		if err := printDoctorJSON(con.Out, checks); err != nil {
			return fmt.Errorf("doctor: writing the answer: %w", err)
		}
	} else {
		writeDoctorEnd(con, checks)
	}
	if slices.ContainsFunc(checks, func(c doctor.Check) bool { return !c.OK }) {
		return &exitError{code: exitNeedsPerson}
	}
	return nil
}

// printDoctorJSON prints the checks for programs.
func printDoctorJSON(w io.Writer, checks []doctor.Check) error {
	return printJSON(w, struct {
		Checks []doctor.Check `json:"checks"`
	}{checks})
}

// doctorConfig is what the doctor looks at. A configuration that is wrong stops
// nothing: what can be taken of it is.
func (inv *invocation) doctorConfig(file configFlag) doctor.Config {
	s, problems := readSettings(configInput{
		flags: inv.givenFlags(), file: file.File, getenv: inv.getenv, cwd: inv.cwd,
	})
	cfg := doctor.Config{
		Summary: settingsSummary(s), Warnings: s.warnings,
		Endpoint: s.asWritten("upstream"), Key: s.asWritten("api_key"), Workspace: s.asWritten("workspace"),
		Listeners: s.listeners(), DataDir: s.DataDir, BufferMaxBytes: s.BufferMaxBytes, MinFreeBytes: s.BufferMinFreeBytes,
		MaxConnections: s.Limits.MaxConnections, CAFile: s.CAFile,
		AdminListener: "admin_addr", Version: buildVersion(), Now: inv.now,
	}
	for _, p := range problems {
		if !doctorKnows(p, cfg) {
			cfg.Problems = append(cfg.Problems, strings.ReplaceAll(p.String(), "\n", " "))
		}
	}
	if s.GRPCAddr.off() && s.HTTPAddr.off() {
		cfg.Problems = append(cfg.Problems, checkRunnable(s).Error())
	} else if err := checkExposure(s); err != nil {
		cfg.Problems = append(cfg.Problems, err.Error())
	} else if err := new(access).open(s, slog.New(slog.DiscardHandler)); err != nil {
		cfg.Problems = append(cfg.Problems, err.Error())
	}
	if inv.environ != nil {
		cfg.Environ = inv.environ()
	}
	if !s.AdminAddr.off() {
		cfg.Running = func(ctx context.Context) (doctor.Weir, error) { return runningWeir(ctx, s) }
	}
	return cfg
}

// doctorKnows reports whether a check of the doctor's says more about a problem.
func doctorKnows(p problem, cfg doctor.Config) bool {
	switch p.name {
	case "upstream":
		return slices.ContainsFunc(diagnose.CheckEndpoint(cfg.Endpoint.Text), func(f diagnose.Flaw) bool { return f.Sure })
	case "api_key", "api_key" + fileSuffix:
		return diagnose.ShapeOf(cfg.Key.Text).Sure()
	}
	return false
}

// asWritten is a setting as it was written, and where.
func (s *settings) asWritten(name string) doctor.Value {
	w := s.written[name]
	return doctor.Value{Text: w.text.reveal(), From: w.from.String()}
}

// settingsSummary says where the settings come from.
func settingsSummary(s *settings) string {
	file := s.file
	if file == "" {
		file = "no configuration file"
	}
	var names []string
	for i := range table {
		if o := s.written[table[i].name].from; o.kind == sourceEnv || o.kind == sourceFlag {
			names = append(names, map[bool]string{true: "--"}[o.kind == sourceFlag]+o.where)
		}
	}
	if len(names) == 0 {
		return file + "; no variable and no flag"
	}
	return file + "; " + strings.Join(names, ", ")
}

// listeners are the addresses to listen on, in the order of the settings.
func (s *settings) listeners() []doctor.Listener {
	var all []doctor.Listener
	for _, l := range []struct {
		name string
		addr listenAddr
	}{
		{"grpc_addr", s.GRPCAddr}, {"http_addr", s.HTTPAddr}, {"admin_addr", s.AdminAddr}, {"metrics_addr", s.MetricsAddr},
	} {
		if !l.addr.off() && !l.addr.isURL() {
			all = append(all, doctor.Listener{Name: l.name, Addr: string(l.addr)})
		}
	}
	return all
}

// runningWeir asks the weir at the admin address who it is.
func runningWeir(ctx context.Context, s *settings) (doctor.Weir, error) {
	client, err := s.dialAdmin()
	if err != nil {
		return doctor.Weir{}, err
	}
	st, err := client.GetStatus(ctx, &weirv1.GetStatusRequest{})
	if trouble := tlsTrouble(s.AdminAddr, err); err != nil && trouble != "" {
		return doctor.Weir{}, errors.New(trouble)
	}
	switch code := connect.CodeOf(err); {
	case err == nil:
	case code == connect.CodeUnavailable:
		return doctor.Weir{}, doctor.ErrNoWeir
	case code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied:
		return doctor.Weir{}, fmt.Errorf("what answers at %s wants another admin token or a client certificate", s.AdminAddr)
	default:
		return doctor.Weir{}, fmt.Errorf("what answers at %s is no weir, or in trouble: %w", s.AdminAddr, cause(err))
	}
	return doctor.Weir{Version: st.GetVersion(), DataDir: st.GetDataDir()}, nil
}

// doctorMark is how a check is marked for people.
func doctorMark(c doctor.Check) (text string, s style) {
	switch {
	case c.Skipped:
		return "skip", dim
	case !c.OK:
		return "FAIL", red
	case c.Remedy != "":
		return "warn", yellow
	}
	return "ok", green
}

// The columns of a check: its mark, and its name.
const doctorMarkWidth, doctorNameWidth = 6, 16

// writeDoctorCheck prints a check, and below it what to do.
func writeDoctorCheck(con *console, c doctor.Check) {
	mark, color := doctorMark(c)
	seenStyle := plain
	if c.Skipped {
		seenStyle = dim
	}
	con.say(fmt.Sprintf("%s%s%-*s", paint(mark, color, con.OutColor), strings.Repeat(" ", doctorMarkWidth-len(mark)), doctorNameWidth, c.Name),
		c.Seen, seenStyle)
	if c.Remedy != "" {
		con.say(strings.Repeat(" ", doctorMarkWidth+doctorNameWidth), c.Remedy, bold)
	}
}

// writeDoctorEnd prints the sum of it.
func writeDoctorEnd(con *console, checks []doctor.Check) {
	var failed, warned, skipped int
	for _, c := range checks {
		switch mark, _ := doctorMark(c); mark {
		case "FAIL":
			failed++
		case "warn":
			warned++
		case "skip":
			skipped++
		}
	}
	switch {
	case failed > 0:
		fmt.Fprintf(con.Out, "\n%s, %s, %d skipped. No trace was sent.\n", countText(failed, "problem"), countText(warned, "warning"), skipped)
	default:
		fmt.Fprintf(con.Out, "\nNothing needs a person, %s, %d skipped. No trace was sent.\n", countText(warned, "warning"), skipped)
	}
}

func countText(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
