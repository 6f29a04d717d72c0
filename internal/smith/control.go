package smith

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// controlPrefix is where the control API lives. The service itself has no such
// path, and faults never strike below it.
const controlPrefix = "/__smith/"

// Bounds of the control API.
const (
	maxControlBytes  = 1 << 20
	defaultSpanLimit = 100
	maxSpanLimit     = 10_000
	defaultWait      = 30 * time.Second
	maxWait          = 10 * time.Minute
)

// controlHelp is what GET /__smith/ answers.
const controlHelp = `GET    stats                          what has arrived and how it was answered
GET    spans?limit=100                the most recent spans, oldest first, as OTLP/JSON
GET    ids                            every span id: TRACE/SPAN TIMES, a line each, sorted
GET    runs?limit=N                   runs in order of arrival, an update laid over its create, values as sent
GET    feedback?limit=N               feedback, as it is now
GET    operations?limit=N             posts, patches, feedback and attachments in the order they were taken
GET    wait?spans=N&timeout=30s       returns once N spans have arrived; runs=N and requests=N likewise
GET    faults                         what is left of the script, and what may be in it
POST   faults                         {"script":[FAULT...],"standing":FAULT or null,"chaos":"429=0.2","situation":"incident"}
DELETE faults                         ends all faults and releases what hangs
POST   release                        releases what hangs
GET    switches, POST switches        what nobody could verify about the service:
       otlp_zstd, otlp_json, runs_zstd taken|415|lost; otlp_malformed 400|lost; otlp_window, runs_window off|400|422|lost;
       otlp_project header|attribute; otlp_bare_path true|false; runs_duplicate partial|whole;
       runs_max N, 0 for no limit; feedback_order free|run_first; extra_update merge|replace;
       auth_wording, quota_wording current|old; revoked_key 403|401; name_max N characters, 0 for no limit;
       big_integers, nul_bytes off|400|422; cut_bytes N, 0 for none: a larger body has its connection reset;
       quota_updates taken|refused; quota_otlp 429|lost; usage_lag DURATION, such as 90m;
       zstd_frames all|first; read_lag DURATION; empty_batch taken|422; info_needs_key true|false
POST   keys                           {"KEY":{"tenant":"UUID","org_scoped":true,...} or null to revoke}; also workspaces,
       read_only, org_read, no_plan, bearer
GET    limits, POST limits            {"default":LIMITS,"tenants":{"UUID":LIMITS or null for the default}}; LIMITS:
       monthly_traces, hourly_events, hourly_bytes, minute_events, user_monthly_traces, user_longlived_traces;
       0 for no limit, what is not named stays
GET    usage?tenant=UUID              what tenants have used by month and hour, and what was refused for it
POST   traffic                        {"tenant":"UUID","traces":N,"events":N,"bytes":N} counted as another sender's
GET    clock, POST clock              {"offset":"36h"} from the real time, or {"now":"2026-12-01T00:00:00Z"}
POST   reset                          forgets what has arrived and was counted; limits, clock and the like stay
FAULT is {"use":"monthly_quota"} or any of name, match, method, count (-1: forever), for, every, stage, latency, hang,
reset, status, header, redirect, retry_after, body, body_bytes, bytes_per_second; the latter override the former.
`

// controls are the calls of the control API.
var controls = map[string]func(*Server, http.ResponseWriter, *http.Request) error{
	"GET ":           (*Server).controlIndex,
	"GET stats":      (*Server).controlStats,
	"GET spans":      (*Server).controlSpans,
	"GET ids":        (*Server).controlIDs,
	"GET runs":       (*Server).controlRuns,
	"GET feedback":   (*Server).controlFeedback,
	"GET operations": (*Server).controlOperations,
	"GET wait":       (*Server).controlWait,
	"GET faults":     (*Server).controlGetFaults,
	"POST faults":    (*Server).controlSetFaults,
	"DELETE faults":  (*Server).controlClearFaults,
	"POST release":   (*Server).controlRelease,
	"GET switches":   (*Server).controlGetSwitches,
	"POST switches":  (*Server).controlSetSwitches,
	"POST keys":      (*Server).controlSetKeys,
	"GET limits":     (*Server).controlGetLimits,
	"POST limits":    (*Server).controlSetLimits,
	"GET usage":      (*Server).controlUsage,
	"POST traffic":   (*Server).controlTraffic,
	"GET clock":      (*Server).controlGetClock,
	"POST clock":     (*Server).controlSetClock,
	"POST reset":     (*Server).controlReset,
}

// controlError is an error with the status that tells it.
type controlError struct {
	status int
	text   string
}

func (e *controlError) Error() string { return e.text }

// badRequest is an error of whoever calls the control API.
func badRequest(format string, args ...any) error {
	return &controlError{status: http.StatusBadRequest, text: fmt.Sprintf(format, args...)}
}

// serveControl answers the control API. Web pages are refused: they have no
// business with it, and a browser would let any of them POST here.
func (s *Server) serveControl(w http.ResponseWriter, r *http.Request, call string) {
	handle, ok := controls[r.Method+" "+call]
	var err error
	switch {
	case r.Header.Get("Origin") != "":
		err = &controlError{http.StatusForbidden, "the control API does not serve web pages (an Origin header was sent)"}
	case !ok:
		err = &controlError{http.StatusNotFound, fmt.Sprintf("no %s %s%s; GET %s lists the calls",
			r.Method, controlPrefix, call, controlPrefix)}
	default:
		err = handle(s, w, r)
	}
	if err == nil {
		return
	}
	status := http.StatusInternalServerError
	if c := (*controlError)(nil); errors.As(err, &c) {
		status = c.status
	}
	writeControl(w, status, map[string]string{"error": err.Error()})
}

// writeControl writes a JSON answer.
func writeControl(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", contentJSON)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client has left
}

// readControl reads a JSON body strictly: a misspelt field is an error.
func readControl(r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxControlBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badRequest("reading the body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("reading the body: something follows the JSON value")
	}
	return nil
}

func (s *Server) controlIndex(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, controlHelp)
	return nil
}

func (s *Server) controlStats(w http.ResponseWriter, _ *http.Request) error {
	writeControl(w, http.StatusOK, viewStats(s.Stats()))
	return nil
}

func (s *Server) controlSpans(w http.ResponseWriter, r *http.Request) error {
	limit, err := queryBounded(r, "limit", defaultSpanLimit, maxSpanLimit)
	if err != nil {
		return err
	}
	views := []spanView{}
	for _, sp := range s.LastSpans(limit) {
		v, err := viewSpan(&sp)
		if err != nil {
			return err
		}
		views = append(views, v)
	}
	writeControl(w, http.StatusOK, map[string]any{"spans": views})
	return nil
}

func (s *Server) controlIDs(w http.ResponseWriter, _ *http.Request) error {
	ids := s.SpanIDs()
	sorted := make([]SpanID, 0, len(ids))
	for id := range ids {
		sorted = append(sorted, id)
	}
	slices.SortFunc(sorted, func(a, b SpanID) int {
		if c := slices.Compare(a.Trace[:], b.Trace[:]); c != 0 {
			return c
		}
		return slices.Compare(a.Span[:], b.Span[:])
	})
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := bufio.NewWriter(w)
	for _, id := range sorted {
		fmt.Fprintf(out, "%s %d\n", id, ids[id])
	}
	_ = out.Flush()
	return nil
}

func (s *Server) controlWait(w http.ResponseWriter, r *http.Request) error {
	timeout := defaultWait
	if text := r.URL.Query().Get("timeout"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 || d > maxWait {
			return badRequest("timeout %q is not a duration up to %s, such as 30s", text, maxWait)
		}
		timeout = d
	}
	const most = 1 << 40
	spans, err := queryBounded(r, "spans", 0, most)
	if err != nil {
		return err
	}
	runs, err := queryBounded(r, "runs", 0, most)
	if err != nil {
		return err
	}
	requests, err := queryBounded(r, "requests", 0, most)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	if err := errors.Join(s.WaitSpans(ctx, spans), s.WaitRuns(ctx, runs), s.WaitRequests(ctx, requests)); err != nil {
		return &controlError{http.StatusRequestTimeout, strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return s.controlStats(w, r)
}

// faultsView is the body of the faults calls. An absent field changes nothing.
type faultsView struct {
	Script   []faultView     `json:"script,omitempty"`
	Standing json.RawMessage `json:"standing,omitempty"`
	Chaos    *string         `json:"chaos,omitempty"`
	// Situation is scripted after Script.
	Situation string `json:"situation,omitempty"`
}

func (s *Server) controlSetFaults(w http.ResponseWriter, r *http.Request) error {
	var body faultsView
	if err := readControl(r, &body); err != nil {
		return err
	}
	// All of it is checked before any of it takes effect.
	script := make([]Fault, 0, len(body.Script))
	for i, v := range body.Script {
		f, err := v.fault()
		if err != nil {
			return badRequest("script[%d]: %v", i, err)
		}
		script = append(script, f)
	}
	if body.Situation != "" {
		played, err := parseSituation(body.Situation)
		if err != nil {
			return badRequest("%v", err)
		}
		script = append(script, played.Faults()...)
	}
	standing, err := parseStanding(body.Standing)
	if err != nil {
		return badRequest("standing: %v", err)
	}
	if body.Chaos != nil {
		c, err := ParseChaos(*body.Chaos)
		if err != nil {
			return badRequest("%v", err)
		}
		s.SetChaos(c)
	}
	s.Script(script...)
	if body.Standing != nil {
		s.SetStanding(standing)
	}
	return s.controlGetFaults(w, r)
}

// parseStanding reads a fault, or null for none.
func parseStanding(raw json.RawMessage) (*Fault, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var v faultView
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	f, err := v.fault()
	return &f, err
}

func (s *Server) controlGetFaults(w http.ResponseWriter, _ *http.Request) error {
	s.mu.Lock()
	standing, chaos := s.faults.standing, s.faults.chaos
	s.mu.Unlock()
	answer := struct {
		Script   []faultView `json:"script"`
		Standing *faultView  `json:"standing"`
		Chaos    string      `json:"chaos"`
		Known    []Canned    `json:"known"` // values of "use"
		Played   []Situation `json:"situations"`
	}{Script: []faultView{}, Chaos: chaos.String(), Known: CannedFaults(), Played: Situations()}
	for _, f := range s.PendingFaults() {
		answer.Script = append(answer.Script, viewFault(f))
	}
	if standing != nil {
		v := viewFault(*standing)
		answer.Standing = &v
	}
	writeControl(w, http.StatusOK, answer)
	return nil
}

func (s *Server) controlClearFaults(w http.ResponseWriter, _ *http.Request) error {
	s.ClearFaults()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) controlRelease(w http.ResponseWriter, _ *http.Request) error {
	s.Release()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) controlGetSwitches(w http.ResponseWriter, _ *http.Request) error {
	writeControl(w, http.StatusOK, s.currentSwitches())
	return nil
}

func (s *Server) controlSetSwitches(w http.ResponseWriter, r *http.Request) error {
	sw := s.currentSwitches() // what the body does not name stays
	if err := readControl(r, &sw); err != nil {
		return err
	}
	s.SetSwitches(sw)
	return s.controlGetSwitches(w, r)
}

func (s *Server) controlSetKeys(w http.ResponseWriter, r *http.Request) error {
	var keys map[string]*Key
	if err := readControl(r, &keys); err != nil {
		return err
	}
	for name, k := range keys {
		if k == nil {
			continue
		}
		if err := k.Validate(); err != nil {
			return badRequest("key %s: %v", APIKey(name), err)
		}
	}
	for name, k := range keys {
		if k == nil {
			s.RemoveKey(name)
			continue
		}
		s.SetKey(name, *k)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) controlReset(w http.ResponseWriter, _ *http.Request) error {
	s.Reset()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// queryBounded reads a number from 0 to most from the query.
func queryBounded(r *http.Request, name string, def, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, badRequest("%s %q is not a number from 0 to %d", name, text, most)
	}
	return n, nil
}
