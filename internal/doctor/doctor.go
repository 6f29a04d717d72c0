// Package doctor looks for what keeps traces from reaching LangSmith: in the
// configuration and the environment, on this machine, on the way, and at
// LangSmith. It sends no trace, needs no running weir, and changes nothing but a
// small file in the data directory, which it removes again.
//
// What LangSmith's answers mean follows its documentation and public reports;
// none of it has been verified against the live service.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"weir/proxy/diagnose"
)

// Check is what one check found.
type Check struct {
	Name string `json:"name"`
	// OK is false where something needs a person. A warning is OK and has a
	// remedy.
	OK bool `json:"ok"`
	// Cause is a code of package diagnose, or empty.
	Cause diagnose.Code `json:"cause"`
	// Seen is what was found, in one line.
	Seen string `json:"seen"`
	// Remedy is what to do; empty where there is nothing to do.
	Remedy string `json:"remedy"`
	// Skipped says that it was not checked, and Seen why not.
	Skipped bool `json:"skipped,omitempty"`
}

// Value is a setting as a person wrote it.
type Value struct {
	Text string
	From string // "environment variable LANGSMITH_API_KEY"
}

// Listener is an address on which weir listens, as package listen takes it.
type Listener struct {
	Name string // of the setting
	Addr string
}

// Weir is a weir that runs on this machine.
type Weir struct {
	Version string
	DataDir string
}

// ErrNoWeir is what Config.Running returns where nothing answers.
var ErrNoWeir = errors.New("no weir answers")

// Config is what to look at.
type Config struct {
	// Summary says in a line where the settings come from. Problems are what is
	// wrong with them, beyond the values below, and Warnings what is odd.
	Summary  string
	Problems []string
	Warnings []string

	Endpoint, Key, Workspace Value

	Listeners      []Listener
	DataDir        string
	BufferMaxBytes int64
	MinFreeBytes   int64 // 0: the queue's default
	MaxConnections int   // per listener
	CAFile         string

	// Environ is the environment, each "NAME=value".
	Environ []string

	// Running asks the weir that may run here, whose admin API is the listener
	// of the name AdminListener. nil: there is no such API.
	Running       func(context.Context) (Weir, error)
	AdminListener string

	// Regions asks for the check that sends the key to other regions of
	// LangSmith. RegionURLs are their base URLs; nil: CloudRegions.
	Regions    bool
	RegionURLs []string

	Version string // weir's own

	// What tests replace. The zero values are the real ones.
	Resolver    *net.Resolver
	SystemRoots *x509.CertPool
	Now         func() time.Time
	Step, Total time.Duration // bounds of one look at the network, and of everything
	ProcDir     string
}

// CloudRegions are the API hosts of LangSmith Cloud (LangSmith docs:
// create-account-api-key).
var CloudRegions = []string{
	"https://api.smith.langchain.com", "https://eu.api.smith.langchain.com",
	"https://apac.api.smith.langchain.com", "https://aws.api.smith.langchain.com",
}

const (
	defaultStep  = 5 * time.Second
	defaultTotal = 30 * time.Second
)

// Run makes all checks, from cheap to far, and reports each as soon as it is
// known. A check that depends on one that failed is reported as skipped. Run
// returns when all are made, after Config.Total at the latest, or with an error
// when ctx is done before.
func Run(ctx context.Context, cfg Config, report func(Check)) error {
	v := newVisit(cfg)
	defer v.close()
	within, cancel := context.WithTimeout(ctx, v.cfg.Total)
	defer cancel()
	for _, s := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, c := range v.take(within, s) {
			c.Name = strings.TrimSpace(c.Name)
			if c.Name == "" {
				c.Name = s.name
			}
			c.Seen, c.Remedy = v.hide(c.Seen), v.hide(c.Remedy)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			report(c)
		}
	}
	return nil
}

// step is one check, or a few of one kind.
type step struct {
	name string
	// needs are the names of steps without whose success it makes no sense.
	needs []string
	make  func(*visit, context.Context) []Check
}

// steps are in the order in which they are made: from cheap to far.
var steps = []step{
	{"configuration", nil, (*visit).configuration},
	{"variables", nil, (*visit).variables},
	{"families", nil, (*visit).families},
	{"endpoint", nil, (*visit).endpoint},
	{"loop", []string{"endpoint"}, (*visit).loop},
	{"key_form", nil, (*visit).keyForm},
	{"workspace_form", nil, (*visit).workspaceForm},
	{"data_dir", nil, (*visit).dataDir},
	{"disk_space", []string{"data_dir"}, (*visit).diskSpace},
	{"disk_sync", []string{"data_dir"}, (*visit).diskSync},
	{"open_files", nil, (*visit).openFiles},
	{"running", nil, (*visit).running},
	{"ports", nil, (*visit).ports},
	{"http_proxy", []string{"endpoint"}, (*visit).httpProxy},
	{"dns", []string{"endpoint", "loop", "http_proxy"}, (*visit).dns},
	{"tcp", []string{"dns"}, (*visit).tcp},
	{"tls", []string{"tcp"}, (*visit).tls},
	{"info", []string{"tls"}, (*visit).info},
	{"clock", []string{"info"}, (*visit).clock},
	{"key", []string{"key_form", "info"}, (*visit).key},
	{"workspace", []string{"workspace_form", "key"}, (*visit).workspace},
	{"usage_limits", []string{"key", "workspace"}, (*visit).usageLimits},
	{"regions", []string{"key_form"}, (*visit).regions},
}

// take makes a step, or says why not.
func (v *visit) take(ctx context.Context, s step) []Check {
	var out []Check
	blocker := v.blocker(s)
	switch {
	case blocker != "":
		out = skip("skipped: it depends on " + blocker)
	case ctx.Err() != nil:
		out = skip("skipped: the time is up")
	default:
		out = s.make(v, ctx)
	}
	v.passed[s.name] = !slices.ContainsFunc(out, func(c Check) bool { return !c.OK || c.Skipped })
	v.blocked[s.name] = blocker
	return out
}

// blocker is the first need of a step that is not met, or what that depends on.
func (v *visit) blocker(s step) string {
	for _, need := range s.needs {
		switch {
		case v.blocked[need] != "":
			return v.blocked[need]
		case !v.passed[need]:
			return need
		}
	}
	return ""
}

func good(seen string) []Check { return []Check{{OK: true, Seen: seen}} }
func skip(seen string) []Check { return []Check{{OK: true, Seen: seen, Skipped: true}} }

func warn(cause diagnose.Code, seen, remedy string) []Check {
	return []Check{{OK: true, Cause: cause, Seen: seen, Remedy: remedy}}
}

func fail(cause diagnose.Code, seen, remedy string) []Check {
	return []Check{{Cause: cause, Seen: seen, Remedy: remedy}}
}

// flawed is a check of what a person wrote; good is what to say if it is fine.
// The gravest flaw gives the cause, and all are named.
func flawed(subject string, flaws []diagnose.Flaw, fine string) []Check {
	if len(flaws) == 0 {
		return good(fine)
	}
	first := flaws[0]
	sure := false
	var says, remedies []string
	for _, f := range flaws {
		if f.Sure && !sure {
			first, sure = f, true
		}
		says = append(says, f.Says)
		if !slices.Contains(remedies, f.Remedy) {
			remedies = append(remedies, f.Remedy)
		}
	}
	return []Check{{OK: !sure, Cause: first.Code, Seen: subject + " " + strings.Join(says, ", and "), Remedy: strings.Join(remedies, " ")}}
}
