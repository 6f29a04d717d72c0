package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"
)

const (
	requestTimeout = 60 * time.Second
	maxAnswerBytes = 1 << 20
	maxShownBytes  = 1 << 10
)

// The paths below the base URL (LangSmith API reference).
const (
	pathInfo      = "/info"
	pathSessions  = "/sessions?limit=1"
	pathLimits    = "/api/v1/workspaces/current/usage_limits"
	pathUsage     = "/api/v1/orgs/current/billing/granular-usage"
	pathBatch     = "/runs/batch"
	pathMultipart = "/runs/multipart"
	pathQuery     = "/runs/query"
	pathTraces    = "/otel/v1/traces"
	pathBareOTLP  = "/otel"
)

// asker asks for one question, within its budget.
type asker struct {
	*session

	left      int // traces
	over      error
	exchanges []Exchange
}

// errOverBudget stops a question that would cost more than it said.
var errOverBudget = errors.New("the question would cost more traces than it may; it was not asked to its end")

// call is one request.
type call struct {
	path   string
	body   []byte // nil: a GET
	header map[string]string
	// traces is how many traces it may cost.
	traces int
	// key replaces the session's key; noKey sends none.
	key   string
	noKey bool
	// quiet leaves it out of the answer's exchanges.
	quiet bool
}

// answer is what came back.
type answer struct {
	status int // 0: nothing
	header http.Header
	body   []byte
	err    error
	sent   time.Time
	got    time.Time
}

// text is the body in a line.
func (a *answer) text() string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(a.body), "?")), " ")
	if len(s) > maxShownBytes {
		s = strings.ToValidUTF8(s[:maxShownBytes], "") + "…"
	}
	return s
}

// ok reports whether the answer is a success.
func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// word is the answer's status as a word, "no_answer" for none.
func (a *answer) word() string {
	if a.status == 0 {
		return "no_answer"
	}
	return fmt.Sprintf("http_%d", a.status)
}

// do makes a call, counting its traces first. It follows no redirect.
func (q *asker) do(ctx context.Context, c call) answer {
	if c.traces > q.left || q.spent+c.traces > MaxTraces {
		q.over = errOverBudget
		return answer{err: errOverBudget}
	}
	q.left -= c.traces
	q.spent += c.traces
	a := q.roundTrip(ctx, c)
	if c.quiet {
		return a
	}
	x := Exchange{Method: http.MethodGet, Path: c.path, Status: a.status, TookMS: a.got.Sub(a.sent).Milliseconds()}
	if c.body != nil {
		x.Method = http.MethodPost
	}
	if a.err != nil {
		x.Error = q.redact(a.err.Error())
	}
	// Reads that go well show what is the user's own.
	if c.body != nil && c.path != pathQuery || a.status >= http.StatusBadRequest {
		x.Body, x.Type = q.redact(a.text()), a.header.Get("Content-Type")
	}
	q.exchanges = append(q.exchanges, x)
	return a
}

func (q *asker) roundTrip(ctx context.Context, c call) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if c.body != nil {
		method, body = http.MethodPost, bytes.NewReader(c.body)
	}
	a.sent = time.Now()
	defer func() { a.got = time.Now() }()
	base := q.cfg.BaseURL
	if strings.HasPrefix(c.path, "/api/v1/") {
		base = strings.TrimSuffix(base, "/api/v1")
	}
	req, err := http.NewRequestWithContext(ctx, method, base+c.path, body)
	if err != nil {
		return answer{err: err}
	}
	h := http.Header{"User-Agent": {"weir-live"}, "Accept": {"application/json"}}
	switch {
	case c.noKey:
	case c.key != "":
		h.Set("X-Api-Key", c.key)
	default:
		h.Set("X-Api-Key", q.cfg.APIKey)
		if q.cfg.Workspace != "" {
			h.Set("X-Tenant-Id", q.cfg.Workspace)
		}
	}
	for name, value := range c.header {
		h.Set(name, value)
	}
	maps.Copy(req.Header, h)
	res, err := q.transport.RoundTrip(req)
	if err != nil {
		return answer{sent: a.sent, err: err}
	}
	defer res.Body.Close() //nolint:errcheck // read only
	a.status, a.header = res.StatusCode, res.Header
	a.body, a.err = io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	return a
}

// redact takes the key and the workspace out of a text.
func (s *session) redact(text string) string {
	text = strings.ReplaceAll(text, s.cfg.APIKey, "KEY")
	if s.cfg.Workspace != "" {
		text = strings.ReplaceAll(text, s.cfg.Workspace, "WORKSPACE")
	}
	return text
}

// shownRun is a run as it is read back.
type shownRun struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	SessionID string `json:"session_id"`
}

// read reads the runs of traces, by name.
func (q *asker) read(ctx context.Context, traces ...uuid) map[string]shownRun {
	got := map[string]shownRun{}
	for _, trace := range traces {
		body, _ := json.Marshal(map[string]any{"trace": trace.String(), "limit": 100}) // cannot fail
		a := q.do(ctx, call{path: pathQuery, body: body, header: map[string]string{"Content-Type": jsonType}, quiet: true})
		var list struct {
			Runs []shownRun `json:"runs"`
		}
		if a.status == http.StatusOK && json.Unmarshal(a.body, &list) == nil {
			for _, r := range list.Runs {
				got[r.Name] = r
			}
		}
	}
	return got
}

// await reads traces until runs of all these names are there, or patience is at
// its end. It returns what was there last, and how long that took.
func (q *asker) await(ctx context.Context, traces []uuid, names ...string) (got map[string]shownRun, took time.Duration) {
	began := time.Now()
	for pause := q.cfg.FirstPause; ; pause = min(2*pause, 8*q.cfg.FirstPause) {
		got = q.read(ctx, traces...)
		missing := 0
		for _, name := range names {
			if _, ok := got[name]; !ok {
				missing++
			}
		}
		took = time.Since(began)
		if missing == 0 || took >= q.cfg.Patience || ctx.Err() != nil {
			return got, took.Round(time.Millisecond)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
