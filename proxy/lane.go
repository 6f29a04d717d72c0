package proxy

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Destination is what weir's own configuration says about where data goes.
// It may be replaced while weir runs: data taken under the old values goes out
// under the new ones.
type Destination struct {
	UpstreamURL string // for display
	APIKey      string
	Workspace   string
	Project     string
}

// Lane identifies what may share a request. Its fields are references, not
// values, wherever weir's configuration decides: "@key" is weir's own key
// whatever it is when the data is sent. A caller's own values begin with "=",
// its key is named by fingerprint. An empty field sends nothing.
type Lane struct {
	Protocol   Protocol `json:"protocol"`
	Upstream   string   `json:"upstream"`
	Credential string   `json:"credential"`
	Workspace  string   `json:"workspace"`
	Project    string   `json:"project"`
}

// References in a lane to weir's own configuration.
const (
	refUpstream  = "@upstream"
	refKey       = "@key"
	refWorkspace = "@workspace"
	refProject   = "@project"
)

// descriptor is the lane's stored form. Equal lanes have equal descriptors.
func (l Lane) descriptor() string {
	b, err := json.Marshal(l)
	if err != nil {
		panic("proxy: marshal lane: " + err.Error()) // strings and a number: cannot fail
	}
	return string(b)
}

// parseLane reads a stored lane.
func parseLane(descriptor string) (Lane, error) {
	var l Lane
	if err := json.Unmarshal([]byte(descriptor), &l); err != nil {
		return Lane{}, fmt.Errorf("read lane %.80q: %w", descriptor, err)
	}
	return l, nil
}

// laneOf decides the lane of an export. A caller that brings its own key is
// not given weir's workspace, which belongs to weir's key. fingerprint is that
// of the caller's key, empty if it brought none.
func laneOf(e *Export, fingerprint string) Lane {
	l := Lane{Protocol: e.Protocol, Upstream: refUpstream, Credential: refKey, Workspace: refWorkspace, Project: refProject}
	if fingerprint != "" {
		l.Credential, l.Workspace = fingerprint, ""
	}
	if e.Caller.Workspace != "" {
		l.Workspace = "=" + e.Caller.Workspace
	}
	switch {
	case e.Caller.Project != "":
		l.Project = "=" + e.Caller.Project
	case e.NamesProject:
		l.Project = ""
	}
	return l
}

// resolve is a reference's value: the caller's own, or weir's.
func resolve(ref, reference, own string) string {
	if v, ok := strings.CutPrefix(ref, "="); ok {
		return v
	}
	if ref == reference {
		return own
	}
	return ""
}
