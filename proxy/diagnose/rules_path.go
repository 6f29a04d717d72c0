package diagnose

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// pathRules see that the request did not reach LangSmith's API.
var pathRules = []rule{
	{UIHost, uiHost, func(f *Facts) string {
		if api := APIHost(f.host()); api != "" {
			return fmt.Sprintf("%s is the web page; the API is %s: set LANGSMITH_ENDPOINT=https://%s.", f.host(), api, api)
		}
		return "The endpoint is a user interface's address. Set LANGSMITH_ENDPOINT to the API's: https://api.smith.langchain.com, or https://HOST/api/v1 where LangSmith is self-hosted."
	}},
	{EndpointMalformed, func(f *Facts) (Confidence, []string) {
		if f.Reason != "https_expected" {
			return "", nil
		}
		return Certain, []string{answered(f), "The endpoint begins with http:// and its port speaks TLS."}
	}, func(*Facts) string { return "Write https:// instead of http:// in LANGSMITH_ENDPOINT." }},
	{Redirect, redirect, func(f *Facts) string {
		if to := f.Header.Get("Location"); to != "" {
			base := origin(to)
			for _, path := range []string{"/runs/multipart", "/runs/batch", "/otel/v1/traces"} {
				base = strings.TrimSuffix(base, path)
			}
			return fmt.Sprintf("Set LANGSMITH_ENDPOINT to where the answer points (%s), if you know that address. weir follows no redirect, because the key would go along.", clip(base, 200))
		}
		return "Find out what answers at this address, and set LANGSMITH_ENDPOINT to LangSmith's API. weir follows no redirect, because the key would go along."
	}},
	{IntermediaryBlock, intermediary, func(f *Facts) string {
		return fmt.Sprintf("Something between weir and LangSmith answers in its place (a firewall, a proxy, a login page of the network). Have it let %s through, or set HTTPS_PROXY to the proxy to use.", f.host())
	}},
	{EndpointPath, endpointPath, func(f *Facts) string {
		if f.cloud() {
			return "Set LANGSMITH_ENDPOINT=https://" + f.host() + ", without a path."
		}
		return "Set LANGSMITH_ENDPOINT to LangSmith's API: https://HOST/api/v1 where it is self-hosted (with its base path, if it has one), https://api.smith.langchain.com else."
	}},
}

func uiHost(f *Facts) (Confidence, []string) {
	if f.Status == 0 {
		return "", nil
	}
	page := f.isHTML() || f.Status == http.StatusMethodNotAllowed
	switch {
	case APIHost(f.host()) != "":
		return Certain, []string{answered(f), f.host() + " is LangSmith's user interface."}
	case page && f.Status == http.StatusMethodNotAllowed && f.Probes.Info != nil && f.Probes.Info.HTML && f.Probes.Info.Status == http.StatusOK:
		return Certain, []string{answered(f), "GET /info, which the API answers with JSON, brings a web page."}
	case f.Status == http.StatusMethodNotAllowed && f.isHTML():
		return Likely, []string{answered(f), "A server of web pages refuses POST so."}
	default:
		return "", nil
	}
}

func redirect(f *Facts) (Confidence, []string) {
	if f.Status < 300 || f.Status >= 400 {
		return "", nil
	}
	evidence := []string{fmt.Sprintf("The answer was HTTP %d.", f.Status)}
	to := f.Header.Get("Location")
	if to != "" {
		evidence = append(evidence, "It points to "+clip(origin(to), 200)+".")
	}
	if u, err := url.Parse(to); err == nil && u.Hostname() != "" && u.Hostname() != f.host() {
		// A login page of the network sends everybody elsewhere.
		if f.cloud() && !isCloud(u.Hostname()) {
			return Possible, evidence
		}
	}
	return Certain, evidence
}

func intermediary(f *Facts) (Confidence, []string) {
	switch {
	case f.Status == http.StatusNetworkAuthenticationRequired, f.Status == http.StatusProxyAuthRequired:
		return Certain, []string{answered(f), fmt.Sprintf("HTTP %d comes from something on the way.", f.Status)}
	case f.Status >= 300 && f.Status < 400 && f.cloud():
		if u, err := url.Parse(f.Header.Get("Location")); err == nil && u.Hostname() != "" && !isCloud(u.Hostname()) {
			return Likely, []string{answered(f), "It sends to " + u.Hostname() + ", which is not LangSmith's."}
		}
		return "", nil
	case !f.isHTML():
		return "", nil
	case f.Status < 300, f.Status == http.StatusForbidden, f.Status == http.StatusUnauthorized, f.Status == http.StatusUnavailableForLegalReasons:
		evidence := []string{answered(f), "LangSmith's API answers with JSON."}
		if s := f.Header.Get("Server"); s != "" {
			evidence = append(evidence, "The server calls itself "+clip(s, 60)+".")
		}
		return Certain, evidence
	default:
		return "", nil
	}
}

func endpointPath(f *Facts) (Confidence, []string) {
	u, _ := url.Parse(f.URL)
	doubled := u != nil && (strings.Contains(u.Path, "/api/v1/api/v1") || strings.Contains(u.Path, "/otel/v1/traces/otel"))
	switch {
	case f.Status == http.StatusNotFound && doubled:
		return Certain, []string{answered(f), "The path is doubled: " + clip(u.Path, 120) + "."}
	case f.Status == http.StatusNotFound && (f.isHTML() || f.Body == "" || f.says("not found")) && !f.says("run not found", "workspace", "tenant"):
		return Likely, []string{answered(f), "It went to " + clip(f.URL, 200) + "."}
	case f.Status == http.StatusMethodNotAllowed && !f.isHTML(), f.Status == http.StatusGone && f.Reason != "not_found_yet", f.Status == http.StatusUpgradeRequired:
		return Possible, []string{answered(f), "It went to " + clip(f.URL, 200) + "."}
	default:
		return "", nil
	}
}

// origin is a URL without what may hold a secret.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "an address that cannot be read"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// wayRules are about what lies between weir and LangSmith.
var wayRules = []rule{
	{UpstreamCert, func(f *Facts) (Confidence, []string) {
		c := f.Probes.Certificate
		switch {
		case f.Reason != "tls":
			return "", nil
		case f.says("certificate has expired", "is after", "not yet valid"):
			evidence := []string{"TLS: " + oneLine(f.Error) + "."}
			if c != nil {
				evidence = append(evidence, fmt.Sprintf("The certificate of %s by %s ended on %s.", c.Subject, c.Issuer, c.NotAfter.UTC().Format("2006-01-02 15:04 MST")))
			}
			return Certain, evidence
		case f.says("certificate is valid for", "doesn't contain any ip sans", "not valid for any names", "certificate is not valid for any"):
			return Likely, []string{"TLS: " + oneLine(f.Error) + "."}
		default:
			return "", nil
		}
	}, func(f *Facts) string {
		if f.says("certificate has expired", "is after", "not yet valid") {
			return "If this machine's clock is right, the other side's certificate is out of date: nothing to do but wait, if it is LangSmith's. The data is kept and sent when it is renewed."
		}
		return "The server at this address shows another host's certificate: look at LANGSMITH_ENDPOINT, at DNS, and at proxies on the way."
	}},
	{TLSInterception, func(f *Facts) (Confidence, []string) {
		if f.Reason != "tls" || !f.says("unknown authority", "self-signed", "self signed", "not trusted", "unable to get local issuer") {
			return "", nil
		}
		evidence := []string{"TLS: " + oneLine(f.Error) + "."}
		if c := f.Probes.Certificate; c != nil && c.Issuer != "" {
			evidence = append(evidence, fmt.Sprintf("The certificate is issued by %q.", clip(c.Issuer, 120)))
		}
		if f.cloud() {
			return Certain, append(evidence, "LangSmith's own certificate is by a public authority: something on the way re-signs TLS.")
		}
		return Likely, evidence
	}, func(*Facts) string {
		return "Have whoever runs the network (or the self-hosted LangSmith) give you the certificate authority's file, and name it to weir: ca_file in weir.yaml, --ca-file or WEIR_CA_FILE."
	}},
	{Network, func(f *Facts) (Confidence, []string) {
		switch f.Reason {
		case "network", "dns", "timeout", "protocol", "proxy", "tls":
			return Possible, []string{answered(f)}
		default:
			return "", nil
		}
	}, func(f *Facts) string {
		switch f.Reason {
		case "dns":
			return fmt.Sprintf("The name %s cannot be resolved: look at LANGSMITH_ENDPOINT and at DNS. The data is kept and sent when the network is back.", f.host())
		case "proxy":
			return "The HTTP proxy refuses: look at HTTPS_PROXY and NO_PROXY. The data is kept meanwhile."
		default:
			return fmt.Sprintf("weir cannot reach %s. The data is kept and sent when the network is back; weir doctor looks at each step of the way.", f.host())
		}
	}},
	{UpstreamIncident, func(f *Facts) (Confidence, []string) {
		if f.Status < 500 || f.Status == http.StatusNetworkAuthenticationRequired {
			return "", nil
		}
		return Likely, []string{answered(f)}
	}, func(*Facts) string {
		return "Nothing: the data is kept and sent when the service is back. If it lasts, look at status.smith.langchain.com."
	}},
}
