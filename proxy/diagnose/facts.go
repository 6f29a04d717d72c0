package diagnose

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Facts is all that is known of a refusal. The zero value of a field is "not
// known". It holds no key.
type Facts struct {
	// Time is when the request was sent, by weir's clock.
	Time time.Time
	// URL is where it went.
	URL string
	// Reason is the upstream client's word for the outcome: http_403, tls, ...
	Reason string
	// Status is that of the answer; 0: none came.
	Status int
	// Header and Body are the answer's, as far as they were kept.
	Header http.Header
	Body   string
	// Error is what the transport said where no answer came.
	Error string
	// SentBytes is how much of the request was sent, as encoded.
	SentBytes int
	// ServerDate is the answer's own time.
	ServerDate time.Time

	// Key is the shape of the key that was sent.
	Key Key
	// Bearer: it went as Authorization: Bearer, as the caller had sent it.
	Bearer bool
	// OwnKey: it is the one of weir's configuration, not a caller's.
	OwnKey bool
	// OwnHint shows weir's own key, where a caller's was sent.
	OwnHint string
	// Workspace is the header that was sent.
	Workspace string

	History History
	Probes  Probes
}

// History is what weir remembers.
type History struct {
	// Since is when the refusals began.
	Since time.Time
	// Accepted is when the upstream last took something with this key and
	// workspace.
	Accepted time.Time
	// OwnAccepted is when it last took something with weir's own key.
	OwnAccepted time.Time
	// OtherKeysRefused is how many other keys, accepted within the hour before,
	// are refused now.
	OtherKeysRefused int
	// ServerErrors is when the upstream last answered 5xx.
	ServerErrors time.Time
}

// Probes is what probes found. Nil: not asked.
type Probes struct {
	Info             *Reply `json:"info,omitempty"`
	Sessions         *Reply `json:"sessions,omitempty"`
	WithoutWorkspace *Reply `json:"without_workspace,omitempty"`
	Limits           *Reply `json:"limits,omitempty"`
	// Regions are the statuses of the key at LangSmith's other API hosts, by
	// base URL; 0: no answer.
	Regions     map[string]int `json:"regions,omitempty"`
	Certificate *Certificate   `json:"certificate,omitempty"`
}

// Reply is the answer to a probe.
type Reply struct {
	Time   time.Time `json:"time"`
	Status int       `json:"status"` // 0: no answer came
	HTML   bool      `json:"html,omitempty"`
	Title  string    `json:"title,omitempty"` // of the page
	Body   string    `json:"body,omitempty"`  // the beginning
	Error  string    `json:"error,omitempty"`
	Date   time.Time `json:"date,omitzero"`
}

// ok reports whether the probe was answered with success.
func (r *Reply) ok() bool { return r != nil && r.Status >= 200 && r.Status < 300 && !r.HTML }

// denied reports whether the probe's key was refused.
func (r *Reply) denied() bool {
	return r != nil && (r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden)
}

// broken reports whether the service itself failed the probe.
func (r *Reply) broken() bool { return r != nil && r.Status >= http.StatusInternalServerError }

// Certificate is what the upstream shows.
type Certificate struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
	// Trusted: the system, or the configured CA file, vouches for it.
	Trusted bool   `json:"trusted"`
	Error   string `json:"error,omitempty"`
}

// host is the upstream's host name.
func (f *Facts) host() string {
	u, err := url.Parse(f.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// cloud reports whether the upstream is one of LangSmith's own hosts.
func (f *Facts) cloud() bool { return isCloud(f.host()) }

func isCloud(host string) bool {
	return host == "langchain.com" || strings.HasSuffix(host, ".langchain.com")
}

// says reports whether the answer or the error contains one of the lower-case
// words, in any letter case.
func (f *Facts) says(words ...string) bool {
	text := strings.ToLower(f.Body + "\n" + f.Error)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// isHTML reports whether a web page answered.
func (f *Facts) isHTML() bool {
	if strings.Contains(strings.ToLower(f.Header.Get("Content-Type")), "html") {
		return true
	}
	start := strings.ToLower(strings.TrimSpace(f.Body))
	return strings.HasPrefix(start, "<!doctype html") || strings.HasPrefix(start, "<html")
}

// deniesKey reports a status that is about who asks, or where.
func (f *Facts) deniesKey() bool {
	return f.Status == http.StatusUnauthorized || f.Status == http.StatusForbidden
}

// acceptedLately reports whether the key was taken within the hour before the
// refusals began.
func (f *Facts) acceptedLately() bool {
	h := &f.History
	return !h.Accepted.IsZero() && f.since().Sub(h.Accepted) < time.Hour
}

func (f *Facts) since() time.Time {
	if f.History.Since.IsZero() {
		return f.Time
	}
	return f.History.Since
}

// keyPlace names the setting that holds the key, in words.
func (f *Facts) keyPlace() string {
	if f.OwnKey {
		return "weir's LANGSMITH_API_KEY or key file"
	}
	return "LANGSMITH_API_KEY of the application"
}

// keyName shows the key in use.
func (f *Facts) keyName() string {
	if f.Key.Hint == "" {
		return "no key"
	}
	return "key " + f.Key.Hint
}
