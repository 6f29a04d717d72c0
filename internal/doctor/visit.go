package doctor

import (
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"weir/proxy/diagnose"
	"weir/proxy/upstream"
)

// visit is one run: what the checks tell each other.
type visit struct {
	cfg Config
	// passed are the steps that found nothing to be mended, and blocked the ones
	// that were skipped, with the one that was to blame.
	passed  map[string]bool
	blocked map[string]string

	base    string   // normal form of the endpoint
	baseURL *url.URL // the same
	proxy   proxies
	via     *url.URL // the proxy on the way to the endpoint, or nil
	client  *upstream.Client
	answer  reply   // of /info
	weir    *Weir   // that runs here
	pid     int     // of it; 0: not known
	tenants tenants // what the key reaches

	secrets []string // to be hidden, longest first
}

func newVisit(cfg Config) *visit {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Step == 0 {
		cfg.Step = defaultStep
	}
	if cfg.Total == 0 {
		cfg.Total = defaultTotal
	}
	if cfg.ProcDir == "" {
		cfg.ProcDir = "/proc"
	}
	if cfg.RegionURLs == nil {
		cfg.RegionURLs = CloudRegions
	}
	v := &visit{cfg: cfg, passed: make(map[string]bool), blocked: make(map[string]string)}
	v.proxy = proxiesOf(v.env)
	v.secrets = secretsOf(cfg)
	return v
}

func (v *visit) close() {
	if v.client != nil {
		_ = v.client.Close() // it sends nothing that could fail
	}
}

// env returns a variable of the environment.
func (v *visit) env(name string) string {
	value, _ := lookupEnv(v.cfg.Environ, name)
	return value
}

// lookupEnv finds a variable; the last one wins, as in a process.
func lookupEnv(environ []string, name string) (string, bool) {
	for _, entry := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// apiKey is the key as weir and the SDKs take it.
func (v *visit) apiKey() string { return strings.Trim(strings.TrimSpace(v.cfg.Key.Text), `"'`) }

func (v *visit) workspaceID() string {
	return strings.Trim(strings.TrimSpace(v.cfg.Workspace.Text), `"'`)
}

// connect makes a client for another base URL that reaches it as weir would.
func (v *visit) connect(base string) (*upstream.Client, error) {
	return upstream.New(upstream.Config{
		BaseURL: base, Version: v.cfg.Version, Timeout: v.cfg.Step, CAFile: v.cfg.CAFile,
		Proxy: func(r *http.Request) (*url.URL, error) { return v.proxy.of(r.URL) },
	})
}

// systemRoots are the authorities that the system trusts; nil: Go finds them.
func (v *visit) systemRoots() *x509.CertPool { return v.cfg.SystemRoots }

// secretName matches variables whose value no text may repeat. MAX_TOKENS and
// the like are none.
var secretName = regexp.MustCompile(`(?i)API_?KEY|SECRET|PASSWORD|(KEY|TOKEN)$`)

// minSecret is the shortest text that is looked for: what is shorter is no
// secret, and would tear holes into messages.
const minSecret = 6

func secretsOf(cfg Config) []string {
	found := []string{cfg.Key.Text, strings.Trim(strings.TrimSpace(cfg.Key.Text), `"'`)}
	for _, entry := range cfg.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if secretName.MatchString(name) && !strings.HasSuffix(name, "_FILE") {
			found = append(found, value, strings.TrimSpace(value))
		}
	}
	found = slices.DeleteFunc(found, func(s string) bool { return len(s) < minSecret })
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(found)
}

// userinfo matches the user and password of a URL.
var userinfo = regexp.MustCompile(`://[^/@\s]*@`)

// maxLine bounds what a check says.
const maxLine = 400

// hide makes a text fit to be shown: no key, no password, one line.
func (v *visit) hide(text string) string {
	for _, s := range v.secrets {
		text = strings.ReplaceAll(text, s, diagnose.Hint(s))
	}
	text = userinfo.ReplaceAllString(diagnose.MaskKeys(text), "://…@")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), " ")
	if runes := []rune(text); len(runes) > maxLine {
		text = string(runes[:maxLine-1]) + "…"
	}
	return text
}
