package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

// buildInfo describes the running binary.
type buildInfo struct {
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	CommitTime string `json:"commitTime,omitempty"`
	Modified   bool   `json:"modified,omitempty"` // the tree had local changes
	GoVersion  string `json:"goVersion"`
	Platform   string `json:"platform"`
}

// readBuildInfo takes the version from the linker, else from what the Go
// toolchain recorded, else calls it "dev".
func readBuildInfo() buildInfo {
	info := buildInfo{
		Version:   version,
		GoVersion: runtime.Version(),
		Platform:  runtime.GOOS + "/" + runtime.GOARCH,
	}
	recorded, ok := debug.ReadBuildInfo()
	if ok {
		if v := recorded.Main.Version; info.Version == "" && v != "(devel)" {
			info.Version = v
		}
		for _, s := range recorded.Settings {
			switch s.Key {
			case "vcs.revision":
				info.Commit = s.Value
			case "vcs.time":
				info.CommitTime = s.Value
			case "vcs.modified":
				info.Modified = s.Value == "true"
			}
		}
	}
	if info.Version == "" {
		info.Version = "dev"
	}
	return info
}

// buildVersion returns the version alone, as in the User-Agent and the status.
func buildVersion() string { return readBuildInfo().Version }

// newBuildInfoGauge is a metric that says what runs.
func newBuildInfoGauge() prometheus.Collector {
	info := readBuildInfo()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_build_info", Help: "Always 1; its labels say which weir runs.",
		ConstLabels: prometheus.Labels{"version": info.Version, "goversion": info.GoVersion, "revision": info.Commit},
	}, func() float64 { return 1 })
}

// String returns the line `weir version` prints.
func (b buildInfo) String() string {
	var details []string
	if b.Commit != "" {
		const short = 12
		commit := "commit " + b.Commit[:min(short, len(b.Commit))]
		if b.Modified {
			commit += " with local changes"
		}
		details = append(details, commit)
	}
	details = append(details, b.GoVersion, b.Platform)
	return fmt.Sprintf("weir %s (%s)", b.Version, strings.Join(details, ", "))
}

// versionCmd is `weir version`.
type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *versionCmd) run(_ context.Context, inv *invocation) error {
	info := readBuildInfo()
	if !c.JSON {
		fmt.Fprintln(inv.Out, info)
		return nil
	}
	return printJSON(inv.Out, info)
}

// printJSON writes v as indented JSON with a final line break.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
