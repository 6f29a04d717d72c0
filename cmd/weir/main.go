package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// The exit codes, which scripts may rely on.
const (
	exitOK          = 0
	exitFailed      = 1 // the command was understood and did not succeed
	exitUsage       = 2 // wrong flags or a bad configuration
	exitUnreachable = 3 // no weir answers at its address
	exitNeedsPerson = 4 // status --check or doctor found something a person must do
)

// exitError is an error with an exit code other than exitFailed. A nil err
// ends the process with the code and without a message.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.err == nil {
		return "exit code " + strconv.Itoa(e.code)
	}
	return e.err.Error()
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *exitError) Unwrap() error { return e.err }

// commandLine is the grammar of the command line.
type commandLine struct {
	Run        runCmd        `cmd:"" help:"Take traces and forward them to LangSmith until stopped."`
	Dev        devCmd        `cmd:"" help:"Run weir together with a LangSmith look-alike, to try things offline."`
	Status     statusCmd     `cmd:"" help:"Show what a running weir holds and does."`
	Quota      quotaCmd      `cmd:"" help:"Show and steer how the month's traces are kept to."`
	Queue      queueCmd      `cmd:"" help:"Show what is on disk frame by frame, what takes the space, and free it."`
	Quarantine quarantineCmd `cmd:"" help:"Show and settle what LangSmith refused."`
	Find       findCmd       `cmd:"" help:"Tell where a trace is, and why."`
	Doctor     doctorCmd     `cmd:"" help:"Find what keeps traces from reaching LangSmith, without sending one."`
	SendTest   sendTestCmd   `cmd:"" name:"send-test" help:"Send one real trace the whole way to LangSmith and read it back."`
	Drain      drainCmd      `cmd:"" help:"Stop taking data, deliver what is pending and report what could not go."`
	Import     importCmd     `cmd:"" help:"Take in what weir quarantine export, or a LangSmith SDK, wrote."`
	Reload     reloadCmd     `cmd:"" help:"Have a running weir read its configuration anew."`
	LogLevel   logLevelCmd   `cmd:"" name:"log-level" help:"Show or change how much a running weir logs."`
	Config     configCmd     `cmd:"" help:"Show the effective configuration and where each value comes from."`
	Version    versionCmd    `cmd:"" help:"Show the version."`
	Help       helpCmd       `cmd:"" hidden:"" help:"Show help for a command."`
}

// invocation is what a command gets to work with.
type invocation struct {
	*system
	parsed *kong.Context
}

// command is what every subcommand implements.
type command interface {
	run(ctx context.Context, inv *invocation) error
}

// configFlag is the flag that goes with all flags of settings.
type configFlag struct {
	File string `name:"config" placeholder:"FILE" help:"Configuration file; default weir.yaml, if it is there."`
}

// settingFlags returns a struct for kong with one flag for each setting that
// has one and that pick accepts.
func settingFlags(pick func(*setting) bool) kong.Plugins {
	var fields []reflect.StructField
	for i := range table {
		st := &table[i]
		if st.flag() == "" || !pick(st) {
			continue
		}
		tag := fmt.Sprintf(`name:%q help:%q group:%q placeholder:%q`, st.flag(), flagHelp(st), st.group+":", st.placeholder)
		var typ reflect.Type
		switch st.bind(&settings{secretFiles: map[string]*string{}}).(type) {
		case boolValue:
			typ = reflect.TypeFor[bool]()
			if st.fallback == "true" {
				tag += ` negatable:""`
			}
		case listValue, budgetsValue:
			typ = reflect.TypeFor[[]string]()
		default:
			typ = reflect.TypeFor[string]()
		}
		fields = append(fields, reflect.StructField{
			Name: "Setting" + strconv.Itoa(i), Type: typ, Tag: reflect.StructTag(tag),
		})
	}
	return kong.Plugins{reflect.New(reflect.StructOf(fields)).Interface()}
}

// flagHelp is the help of a setting's flag with its default.
func flagHelp(st *setting) string {
	if st.fallback == "" || st.fallback == "true" || st.fallback == "false" {
		return st.help
	}
	return st.help + " Default " + st.fallback + "."
}

func everySetting(*setting) bool { return true }

// adminSettings picks what a command needs to reach a running weir.
func adminSettings(st *setting) bool {
	return st.name == "admin_addr" || st.name == "admin_token"+fileSuffix
}

// settings loads the configuration with the flags of this invocation.
func (inv *invocation) settings(file configFlag) (*settings, error) {
	s, err := loadSettings(configInput{
		flags: inv.givenFlags(), file: file.File, getenv: inv.getenv, cwd: inv.cwd,
	})
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	return s, nil
}

// givenFlags returns the flags that were given, by the name of their setting.
func (inv *invocation) givenFlags() map[string]string {
	names := make(map[string]string, len(table))
	for i := range table {
		names[table[i].flag()] = table[i].name
	}
	given := make(map[string]string)
	for _, step := range inv.parsed.Path {
		if step.Flag == nil {
			continue
		}
		name, isSetting := names[step.Flag.Name]
		if !isSetting {
			continue
		}
		if items, isList := reflect.TypeAssert[[]string](step.Flag.Target); isList {
			given[name] = strings.Join(items, ",")
		} else {
			given[name] = fmt.Sprint(step.Flag.Target.Interface())
		}
	}
	return given
}

// newParser builds the parser for one invocation. exited becomes true when
// kong has done all there is to do (--help).
func newParser(sys *system, exited *bool) (*kong.Kong, error) {
	grammar := &commandLine{
		Run:        runCmd{Plugins: settingFlags(everySetting)},
		Dev:        devCmd{Plugins: settingFlags(everySetting)},
		Config:     configCmd{Plugins: settingFlags(everySetting)},
		Doctor:     doctorCmd{Plugins: settingFlags(everySetting)},
		Status:     statusCmd{adminFlags: adminFlags{Plugins: settingFlags(adminSettings)}},
		Quota:      newQuotaCmd(),
		Queue:      newQueueCmd(),
		Quarantine: newQuarantineCmd(),
		Find:       findCmd{adminFlags: adminFlags{Plugins: settingFlags(adminSettings)}},
		SendTest:   newSendTestCmd(),
		Reload:     reloadCmd{adminFlags: adminFlags{Plugins: settingFlags(adminSettings)}},
		LogLevel:   logLevelCmd{adminFlags: adminFlags{Plugins: settingFlags(adminSettings)}},
		Drain:      drainCmd{adminFlags: adminFlags{Plugins: settingFlags(adminSettings)}},
		Import:     importCmd{adminFlags: adminFlags{Plugins: settingFlags(func(st *setting) bool { return st.name == "http_addr" })}},
	}
	return kong.New(grammar,
		kong.Name("weir"),
		kong.Description("A local agent between applications and LangSmith: it takes traces, keeps them on disk "+
			"before it acknowledges them, and forwards them in batches."),
		kong.Writers(sys.Out, sys.Err),
		kong.Exit(func(int) { *exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
	)
}

// execute runs one command line and returns the exit code. It is all of main
// but the process itself.
func execute(ctx context.Context, args []string, sys *system) int {
	err := dispatch(ctx, args, sys)
	if err == nil {
		return exitOK
	}
	code := exitFailed
	if exit, ok := errors.AsType[*exitError](err); ok {
		code = exit.code
		if exit.err == nil {
			return code
		}
	}
	fmt.Fprintf(sys.Err, "weir: %v\n", err)
	return code
}

// dispatch parses args and runs the command they name.
func dispatch(ctx context.Context, args []string, sys *system) error {
	var exited bool
	parser, err := newParser(sys, &exited)
	if err != nil {
		return fmt.Errorf("building the command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited {
		return nil
	}
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("%w\n%s", err, usageHint(err))}
	}
	cmd, ok := reflect.TypeAssert[command](parsed.Selected().Target.Addr())
	if !ok {
		return fmt.Errorf("command %s does nothing", parsed.Command())
	}
	return cmd.run(ctx, &invocation{system: sys, parsed: parsed})
}

// usageHint says where to read about the part of the command line that was
// understood.
func usageHint(err error) string {
	path := "weir"
	parseErr, ok := errors.AsType[*kong.ParseError](err)
	if ok && parseErr.Context != nil && parseErr.Context.Selected() != nil {
		path += " " + parseErr.Context.Selected().Path()
	}
	return fmt.Sprintf("Run `%s --help` for its usage.", path)
}

func main() {
	sys, err := processSystem()
	if err != nil {
		fmt.Fprintf(os.Stderr, "weir: %v\n", err)
		os.Exit(exitFailed)
	}
	os.Exit(execute(context.Background(), os.Args[1:], sys))
}
