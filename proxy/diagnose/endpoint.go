package diagnose

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// cloudAPI is LangSmith Cloud's US region (LangSmith docs: cloud).
	cloudAPI = "https://api.smith.langchain.com"

	cloudDomain = ".smith.langchain.com"
)

// uiRegions are the labels before smith.langchain.com under which LangSmith
// serves its web page; the API of each is at label.api (LangSmith docs: cloud).
var uiRegions = []string{"eu", "apac", "aws", "dev", "beta"}

// CheckEndpoint looks at the base URL of LangSmith's API as a person wrote it.
// A flaw that is Sure makes it unusable. The others are forgiven by weir and
// LangSmith's SDKs, or are merely unusual. It asks no name server.
func CheckEndpoint(raw string) []Flaw {
	text, flaws := unwrap(raw, "URL")
	if f, bad := checkSpelling(text); bad {
		return append(flaws, f)
	}
	u, err := url.Parse(text)
	if err != nil {
		// url.Error repeats the whole input, its cause only the bad piece.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return append(flaws, malformed("cannot be read: "+shown(err.Error()), "Write it like "+cloudAPI))
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	for _, check := range []func(*url.URL) (Flaw, bool){checkParts, checkHost, checkCloudHost, checkPath, checkOldDefault} {
		if f, bad := check(u); bad {
			flaws = append(flaws, f)
		}
	}
	return flaws
}

// unwrap takes blanks and one pair of quotes off, as LangSmith's SDKs do from
// endpoints, keys and workspace ids, and says so.
func unwrap(raw, noun string) (string, []Flaw) {
	var flaws []Flaw
	forgiven := func(what string) {
		flaws = append(flaws, Flaw{
			Code: EndpointMalformed, Says: "has " + what + " around it",
			Remedy: "Write the " + noun + " without " + what + ": weir forgives it, other clients do not.",
		})
	}
	text := strings.TrimSpace(raw)
	if text != raw && text != "" {
		forgiven("blanks")
	}
	if len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		text = strings.TrimSpace(text[1 : len(text)-1])
		forgiven("quotes")
	}
	return text, flaws
}

func malformed(says, remedy string) Flaw {
	return Flaw{Code: EndpointMalformed, Sure: true, Says: says, Remedy: remedy}
}

// misspelt matches http:// and https:// as people mistype them.
var misspelt = regexp.MustCompile(`(?i)^(?:hh?t{1,3}p{0,2}s{0,2}|ttps?|https?)(?:[:;]/{0,2}|//?):?(?:[^/:]|$)`)

// checkSpelling tells what is no URL at all.
func checkSpelling(s string) (Flaw, bool) {
	switch {
	case s == "":
		return malformed("is empty", "Write it like "+cloudAPI), true
	case strings.ContainsAny(s, "<>"):
		return malformed("has angle brackets", "Write it without them, like "+cloudAPI), true
	case strings.ContainsAny(s, `"'`):
		return malformed("has quotes inside", "Write it without them, like "+cloudAPI), true
	case strings.ContainsAny(s, "${}"):
		return malformed("holds a variable that was not expanded", "Write the value itself, like "+cloudAPI), true
	case strings.HasPrefix(s, "lsv2_"), strings.HasPrefix(s, legacyPrefix):
		return malformed("is an API key", "Write the key into LANGSMITH_API_KEY, and here "+cloudAPI), true
	case !strings.Contains(s, "://"):
		return checkScheme(s), true
	}
	return Flaw{}, false
}

// checkScheme tells a scheme that is not there from one that is misspelt.
func checkScheme(s string) Flaw {
	host, _, _ := strings.Cut(s, "?")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	says := fmt.Sprintf("has no scheme (%q)", shown(host))
	if misspelt.MatchString(host) {
		says = fmt.Sprintf("has its scheme misspelt (%q)", shown(host))
		host = host[strings.IndexAny(host, ":;/"):]
	}
	host = strings.TrimLeft(host, "/:;")
	scheme := "https"
	if name, _, _ := strings.Cut(host, ":"); name == "localhost" || strings.HasPrefix(name, "127.") {
		scheme = "http"
	}
	return malformed(says, "Write "+scheme+"://"+shown(host))
}

// checkParts tells parts a base URL must not have.
func checkParts(u *url.URL) (Flaw, bool) {
	clean := shown((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}).String())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return malformed(fmt.Sprintf("has the scheme %q", shown(u.Scheme)),
			"LangSmith speaks http and https only, write https://"+shown(u.Host)), true
	case u.User != nil:
		return malformed("carries a user name or password", "Write "+clean+" and give the API key as LANGSMITH_API_KEY."), true
	case u.RawQuery != "" || u.ForceQuery:
		return malformed("carries a query (?...)", "Write "+clean), true
	case u.Fragment != "":
		return malformed("carries a fragment (#...)", "Write "+clean), true
	}
	return Flaw{}, false
}

// checkHost tells hosts and ports that cannot be dialled.
func checkHost(u *url.URL) (Flaw, bool) {
	host := strings.TrimSuffix(u.Hostname(), ".")
	quoted := " (" + strconv.Quote(shown(u.Scheme+"://"+u.Host)) + ")"
	if host == "" || strings.HasPrefix(host, ".") || strings.Contains(host, "..") {
		return malformed("names no host"+quoted, "Write it like "+cloudAPI), true
	}
	if strings.HasSuffix(u.Host, ":") {
		return malformed("ends its host in a colon without a port"+quoted, "Remove the colon or add the port."), true
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return malformed("has the port "+shown(p), "A port is a number from 1 to 65535."), true
		}
	}
	return Flaw{}, false
}

// checkCloudHost tells LangChain's hosts that are no API.
func checkCloudHost(u *url.URL) (Flaw, bool) {
	host := strings.TrimSuffix(u.Hostname(), ".")
	if host == "docs.langchain.com" || host == "www.langchain.com" || host == "langchain.com" {
		return webPage(host, cloudAPI), true
	}
	region, isCloud := strings.CutSuffix("."+host, cloudDomain)
	region = strings.TrimPrefix(region, ".")
	switch {
	case !isCloud:
	case region == "":
		return webPage(host, cloudAPI), true
	case slices.Contains(uiRegions, region):
		return webPage(host, "https://"+region+".api"+cloudDomain), true
	case region == "docs":
		return webPage(host, cloudAPI), true
	case region != "api" && !strings.HasSuffix(region, ".api"):
		return malformed("names "+host+", which is no API host of LangSmith's", "Those are api, eu.api, apac.api and aws.api before "+cloudDomain+"."), true
	case u.Scheme == "http":
		return malformed("begins with http://, which would send the API key unencrypted", "Write https://"+host), true
	}
	return Flaw{}, false
}

func webPage(host, api string) Flaw {
	return Flaw{
		Code: UIHost, Sure: true, Says: "leads to LangSmith's web page (" + host + "), not to its API", Remedy: "Write " + api,
	}
}

// endpoints are the calls to which people point a base URL; a client adds
// them, and a doubled path gives a 404 that looks like an outage.
var endpoints = []string{"/otel/v1/traces", "/v1/traces", "/otel/v1", "/otel", "/runs/multipart", "/runs/batch", "/runs"}

// checkPath tells base URLs that already name an endpoint, or a prefix twice.
func checkPath(u *url.URL) (Flaw, bool) {
	base := func(p string) string { return shown(u.Scheme + "://" + u.Host + strings.TrimRight(p, "/")) }
	wrong := func(says, remedy string) (Flaw, bool) {
		return Flaw{Code: EndpointPath, Sure: true, Says: says, Remedy: remedy}, true
	}
	p := "/" + strings.TrimPrefix(strings.TrimRight(u.Path, "/"), "/")
	for _, endpoint := range endpoints {
		if rest, ok := strings.CutSuffix(p, endpoint); ok {
			return wrong("ends in "+endpoint+", which weir adds by itself", "Write "+base(rest))
		}
	}
	if rest, ok := strings.CutSuffix(p, "/api/v1/api/v1"); ok {
		return wrong("has /api/v1 twice", "Write "+base(rest+"/api/v1"))
	}
	if clean := path.Clean(p); clean != p {
		return wrong("has empty or dotted path segments", "Write "+base(clean))
	}
	return Flaw{}, false
}

// checkOldDefault notices what LangSmith's first SDKs used where they were told
// nothing.
func checkOldDefault(u *url.URL) (Flaw, bool) {
	if host := u.Hostname(); u.Port() != "1984" || host != "localhost" && host != "127.0.0.1" {
		return Flaw{}, false
	}
	return Flaw{
		Code: EndpointMalformed, Says: "is the address that old SDKs fall back to, where LangSmith rarely is",
		Remedy: "Unless LangSmith runs on this machine, write " + cloudAPI,
	}, true
}
