package live

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxTraces is the most traces of the month that a run may cost. It is counted
// before each request and holds whatever the questions do.
const MaxTraces = 20

// Defaults of Config.
const (
	DefaultBaseURL    = "https://api.smith.langchain.com"
	DefaultProject    = "weir-live"
	DefaultPatience   = 60 * time.Second
	DefaultFirstPause = time.Second
)

// Config says whom to ask.
type Config struct {
	// BaseURL is the API; empty: DefaultBaseURL.
	BaseURL string
	// APIKey is needed. It is in no answer.
	APIKey string
	// Workspace goes with the key, where it needs one.
	Workspace string
	// Project takes the traces; empty: DefaultProject.
	Project string
	// Patience is how long something is waited for that does not show; 0:
	// DefaultPatience.
	Patience time.Duration
	// FirstPause is the first pause between two reads; they grow to eight
	// times as much. 0: DefaultFirstPause, which keeps well within 15 reads in
	// 10 seconds (LangSmith docs: cloud rate limits).
	FirstPause time.Duration
	// Said is called with each answer as it is known; nil: nobody listens.
	Said func(Answer)
}

// Answer is what became of a question.
type Answer struct {
	ID       string `json:"id"`
	Question string `json:"question"`
	// Answer is a short word, such as "taken", "lost" or "http_415"; "unknown"
	// where the question could not be settled, "skipped" where it was not asked.
	Answer string `json:"answer"`
	Detail string `json:"detail,omitempty"`
	// Switch is the look-alike's switch for it, if there is one.
	Switch    string     `json:"switch,omitempty"`
	Traces    int        `json:"traces"`
	TookMS    int64      `json:"took_ms"`
	Exchanges []Exchange `json:"exchanges,omitempty"`
}

// Exchange is a request that was made and its answer, without keys.
type Exchange struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"` // 0: no answer
	// Body is the answer's, of writes and refusals only, at most 1 KiB.
	Body   string `json:"body,omitempty"`
	Type   string `json:"content_type,omitempty"`
	Error  string `json:"error,omitempty"`
	TookMS int64  `json:"took_ms"`
}

// Report is all that was found out.
type Report struct {
	Time      time.Time `json:"time"`
	Upstream  string    `json:"upstream"`
	Answers   []Answer  `json:"answers"`
	Traces    int       `json:"traces"` // spent, at the most
	MaxTraces int       `json:"max_traces"`
}

// The answers that several questions have in common.
const (
	answerTaken   = "taken"
	answerLost    = "lost"
	answerUnknown = "unknown"
	answerSkipped = "skipped"
)

// question is one open question.
type question struct {
	id, text, sw string
	budget       int // traces
	ask          func(context.Context, *asker) finding
}

// finding is what a question's function returns.
type finding struct{ answer, detail string }

// found makes a finding.
func found(answer, format string, args ...any) finding {
	return finding{answer, fmt.Sprintf(format, args...)}
}

// questions are all of them, in the order they are asked: free ones first, and
// those that show how long reading back takes before those that judge by it.
func questions() []question {
	var all []question
	for _, some := range [][]question{freeQuestions, runQuestions, otlpQuestions} {
		all = append(all, some...)
	}
	return all
}

// Run asks all questions. The error is about the key or the configuration, or
// ctx's own; then the report has what is known by then.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	defer s.transport.CloseIdleConnections()
	r := &Report{Time: time.Now().UTC(), Upstream: s.cfg.BaseURL, MaxTraces: MaxTraces}
	if err := s.checkKey(ctx); err != nil {
		return r, err
	}
	for _, q := range questions() {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		began := time.Now()
		a := &asker{session: s, left: q.budget}
		f := q.ask(ctx, a)
		if a.over != nil {
			f = found(answerUnknown, "%v", a.over)
		}
		s.add(r, Answer{
			ID: q.id, Question: q.text, Switch: q.sw, Answer: f.answer, Detail: s.redact(f.detail), Traces: q.budget - a.left,
			TookMS: time.Since(began).Milliseconds(), Exchanges: a.exchanges,
		})
	}
	for _, k := range skipped {
		s.add(r, Answer{ID: k.id, Question: k.text, Switch: k.sw, Answer: answerSkipped, Detail: k.why})
	}
	r.Traces = s.spent
	return r, ctx.Err()
}

func (s *session) add(r *Report, a Answer) {
	r.Answers = append(r.Answers, a)
	r.Traces = s.spent
	if s.cfg.Said != nil {
		s.cfg.Said(a)
	}
}

// skipped are the questions that cannot be asked, and why.
var skipped = []struct{ id, text, sw, why string }{
	{"otlp_over_quota", "What is answered to OTLP over the month's traces?", "quota_otlp", "asking would use up the month's traces"},
	{"updates_over_quota", "Are updates of counted traces taken over quota?", "quota_updates", "asking would use up the month's traces"},
	{"hourly_limits", "What is the body of a 429 for the hour's events or bytes?", "", "asking would block the workspace for the hour"},
	{"trace_too_large", "What is answered to the 25,001st run of a trace?", "", "asking takes half of a free plan's events of an hour"},
	{"expired_key", "Does an expired key differ from a revoked one?", "", "asking takes a key of either kind"},
	{"attachment_size", "How large may an attachment be?", "", "asking takes hundreds of megabytes"},
	{"project_limit", "What is answered over a limit of one project or member?", "", "asking takes such a limit"},
}

// session is one run's state.
type session struct {
	cfg       Config
	transport *http.Transport
	spent     int // traces

	// runsShow and otlpShow are set once something sent that way was read
	// back: only then does what is missing count as lost.
	runsShow, otlpShow bool
}

func newSession(cfg Config) (*session, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBaseURL
	}
	cfg.BaseURL = strings.TrimRight(strings.TrimSpace(cfg.BaseURL), "/")
	if u, err := url.Parse(cfg.BaseURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("the endpoint %.100q is no URL such as %s", cfg.BaseURL, DefaultBaseURL)
	}
	cfg.APIKey = strings.TrimSpace(cfg.APIKey)
	if cfg.APIKey == "" {
		return nil, errors.New("LANGSMITH_API_KEY is not set: the questions are for the real LangSmith, and take a real key")
	}
	if cfg.Project == "" {
		cfg.Project = DefaultProject
	}
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.FirstPause <= 0 {
		cfg.FirstPause = DefaultFirstPause
	}
	return &session{cfg: cfg, transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: requestTimeout, ResponseHeaderTimeout: requestTimeout,
		ForceAttemptHTTP2: true, DisableCompression: true,
	}}, nil
}

// checkKey makes sure that the key is taken, before anything is spent.
func (s *session) checkKey(ctx context.Context) error {
	a := (&asker{session: s}).do(ctx, call{path: pathSessions})
	switch {
	case a.err != nil:
		return fmt.Errorf("ask %s: %s", s.cfg.BaseURL, s.redact(a.err.Error()))
	case a.status != http.StatusOK:
		return fmt.Errorf("%s refuses the key (%d %s); nothing was sent", s.cfg.BaseURL, a.status, s.redact(a.text()))
	default:
		return nil
	}
}
