package doctor

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"weir/proxy/diagnose"
	"weir/proxy/upstream"
)

func (v *visit) configuration(context.Context) []Check {
	switch {
	case len(v.cfg.Problems) > 0:
		remedy := "Mend it as it says; `weir run` does not start with it. `weir config` shows what is in effect."
		return fail("", strings.Join(v.cfg.Problems, "; "), remedy)
	case len(v.cfg.Warnings) > 0:
		return warn("", v.cfg.Summary, strings.Join(v.cfg.Warnings, "; "))
	}
	return good(v.cfg.Summary)
}

// endpoint checks the form of the upstream's URL, and takes it if it can.
func (v *visit) endpoint(context.Context) []Check {
	e := v.cfg.Endpoint
	base, err := upstream.ParseBaseURL(e.Text)
	if err == nil {
		v.base = base
		v.baseURL, err = url.Parse(base)
	}
	if err == nil {
		v.client, err = v.connect(base)
	}
	out := flawed("the endpoint ("+e.From+")", diagnose.CheckEndpoint(e.Text), base+" ("+e.From+")")
	if err != nil && out[0].OK {
		// What the form does not show: a CA file that cannot be read.
		return fail(diagnose.UpstreamCert, err.Error(), "Mend or remove ca_file.")
	}
	return out
}

// loop notices an upstream that is this weir itself.
func (v *visit) loop(context.Context) []Check {
	for _, l := range v.cfg.Listeners {
		if upstream.IsSelf(v.base, []string{l.Addr}) {
			return fail(diagnose.EndpointMalformed,
				fmt.Sprintf("the endpoint %s (%s) is weir's own %s: data would go in circles", v.base, v.cfg.Endpoint.From, l.Name),
				"Name LangSmith with WEIR_UPSTREAM, which wins over the LANGSMITH_ENDPOINT of applications: WEIR_UPSTREAM="+upstream.DefaultBaseURL)
		}
	}
	return good("the endpoint is none of weir's own listeners")
}

func (v *visit) keyForm(context.Context) []Check {
	k := v.cfg.Key
	if strings.TrimSpace(k.Text) == "" {
		return warn(diagnose.KeyMissing, "weir has no key of its own: only data that brings a key can be delivered",
			"Set LANGSMITH_API_KEY, unless every application sends its own key.")
	}
	shape := diagnose.ShapeOf(k.Text)
	return flawed("the key "+shape.String()+" ("+k.From+")", shape.Flaws, shape.String()+" ("+k.From+")")
}

func (v *visit) workspaceForm(context.Context) []Check {
	w := v.cfg.Workspace
	if w.Text == "" {
		return good("none set: the key decides")
	}
	return flawed("the workspace id ("+w.From+")", diagnose.CheckWorkspace(w.Text), v.workspaceID()+" ("+w.From+")")
}
