package sendtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/upstream"
)

// DefaultTimeout bounds each wait of a test that names no timeout.
const DefaultTimeout = 30 * time.Second

// The pauses of a test: how long it waits before it looks again. Reads of runs
// are limited to 15 in 10 seconds (LangSmith docs: cloud rate limits), those of
// a single one to 30 in a minute.
const (
	lookFirst = 20 * time.Millisecond
	lookCap   = time.Second
	readFirst = 250 * time.Millisecond
	readCap   = 5 * time.Second
	// grace is how much longer than the control at least the zstd spans are
	// waited for.
	grace = 5 * time.Second
)

// Upstream is what a test needs of the client that sends to LangSmith.
type Upstream interface {
	proxy.Asker
	// SendAs sends in one encoding; see upstream.Client.
	SendAs(ctx context.Context, r *proxy.Request, e upstream.Encoding) proxy.Outcome
	// Automatic reports whether the encoding of OTLP is weir's to choose.
	Automatic() bool
}

// Proof keeps what is known about OTLP in zstd.
type Proof interface {
	// Known is the word for it, as SendTestResult.zstd has it.
	Known() string
	// Keep makes a word known, durably where it can.
	Keep(word string) error
}

// The words for what is known about OTLP in zstd.
const (
	ZstdUnknown    = "unknown"
	ZstdProven     = "proven"
	ZstdFirstFrame = "first_frame"
	ZstdLost       = "lost"
	ZstdRefused    = "refused"
)

// Config is what a test is made with.
type Config struct {
	// Way is how the trace gets into weir, and never UNSPECIFIED. Addr is the
	// listener that takes it; DIRECT needs none.
	Way  weirv1.SendTestWay
	Addr string
	// TLS is how the listener is called; nil: without. Token is what it asks
	// for, if anything.
	TLS   *tls.Config
	Token string

	Version     string // weir's own, for the trace's metadata
	Destination proxy.Destination
	Upstream    Upstream
	// Whereabouts finds out where a trace stands; nil for DIRECT.
	Whereabouts func(context.Context, proxy.TraceID) (proxy.Whereabouts, error)
	// Proof is where the verdict on zstd is kept.
	Proof Proof

	// Hurry divides every pause; 0 is 1. Tests have no time.
	Hurry time.Duration
}

// test is one test under way.
type test struct {
	*Config

	trace   *trace
	project string // the caller's; empty: weir's own
	timeout time.Duration
	report  func(*weirv1.SendTestResponse) error
	result  *weirv1.SendTestResult
	readIn  time.Duration // how long the root took to be readable
}

// Run makes a test and reports each step as it ends, and the result last. A
// trace that does not arrive is a result; errors are those of report and of
// ctx. report is not called after Run has returned.
func Run(ctx context.Context, cfg *Config, req *weirv1.SendTestRequest, report func(*weirv1.SendTestResponse) error) error {
	t := &test{Config: cfg, project: req.GetProject(), timeout: DefaultTimeout, report: report, trace: newTrace(time.Now(), cfg.Version)}
	if d := req.GetTimeout(); d != nil {
		t.timeout = d.AsDuration()
	}
	t.Hurry = max(t.Hurry, 1)
	t.result = &weirv1.SendTestResult{
		TraceId: t.trace.uuid(), RunName: RunName, Project: t.project, Way: wayNames[cfg.Way], Traces: 1, Zstd: cfg.Proof.Known(),
	}
	if t.result.Project == "" {
		t.result.Project = cfg.Destination.Project
	}
	steps := []func(context.Context) error{t.cost, t.accept, t.deliver, t.readBack}
	if cfg.Way == weirv1.SendTestWay_SEND_TEST_WAY_DIRECT {
		steps = []func(context.Context) error{t.cost, t.sendDirect, t.readBack}
	}
	for _, step := range steps {
		err := step(ctx)
		if errors.Is(err, errStuck) {
			return t.report(&weirv1.SendTestResponse{Result: t.result})
		}
		if err != nil {
			return err
		}
	}
	t.result.Ok = true
	if t.wantsZstd(req.GetZstd()) {
		if err := t.tryZstd(ctx); err != nil {
			return err
		}
	}
	return t.report(&weirv1.SendTestResponse{Result: t.result})
}

var wayNames = map[weirv1.SendTestWay]string{
	weirv1.SendTestWay_SEND_TEST_WAY_GRPC:   "grpc",
	weirv1.SendTestWay_SEND_TEST_WAY_HTTP:   "http",
	weirv1.SendTestWay_SEND_TEST_WAY_DIRECT: "direct",
}

// The names of the steps.
const (
	stepCost      = "cost"
	stepAccepted  = "accepted"
	stepDelivered = "delivered"
	stepReadBack  = "read_back"
	stepZstd      = "zstd"
)

// errStuck ends a test whose trace does not get further. The result says why.
var errStuck = errors.New("the trace is stuck")

// stuck is why a trace does not get further.
type stuck struct {
	reason, seen, remedy string
	person               bool
}

// done reports a step that went well.
func (t *test) done(name string, began time.Time, seen string) error {
	return t.step(step(name, true, began, seen))
}

// failed reports the step that did not, and returns errStuck.
func (t *test) failed(name string, began time.Time, why stuck) error {
	t.result.StuckAt, t.result.Reason, t.result.Remedy, t.result.NeedsPerson = name, why.reason, why.remedy, why.person
	if err := t.step(step(name, false, began, why.seen)); err != nil {
		return err
	}
	return errStuck
}

// step describes a step that has ended now.
func step(name string, ok bool, began time.Time, seen string) *weirv1.SendTestStep {
	return &weirv1.SendTestStep{Name: name, Ok: ok, Seen: seen, Took: durationpb.New(time.Since(began))}
}

func (t *test) step(s *weirv1.SendTestStep) error {
	t.result.Steps = append(t.result.Steps, s)
	return t.report(&weirv1.SendTestResponse{Step: s})
}

// poll calls look until it is done or the timeout is over, pausing for longer
// each time. It reports whether look was done; the error is ctx's own.
func (t *test) poll(ctx context.Context, timeout, first, most time.Duration, look func(context.Context) bool) (bool, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for pause := first / t.Hurry; ; pause = min(2*pause, most/t.Hurry) {
		if look(bounded) {
			return true, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-bounded.Done():
			timer.Stop()
			return false, ctx.Err()
		}
	}
}

// cost says what the test costs, before anything is sent.
func (t *test) cost(context.Context) error {
	seen := "one trace of this month"
	if t.result.GetProject() != "" {
		seen += fmt.Sprintf(", in project %q", t.result.GetProject())
	}
	if t.Way == weirv1.SendTestWay_SEND_TEST_WAY_DIRECT {
		seen += "; weir does not count it"
	}
	return t.done(stepCost, time.Now(), seen)
}

// accept sends the trace to weir.
func (t *test) accept(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	send := sendGRPC
	if t.Way == weirv1.SendTestWay_SEND_TEST_WAY_HTTP {
		send = sendHTTP
	}
	warning, err := send(ctx, door{addr: t.Addr, tls: t.TLS, token: t.Token}, t.project, t.trace.span(RunName))
	if err != nil {
		return t.failed(stepAccepted, began, stuck{
			reason: "not_accepted", seen: "weir did not take the trace: " + err.Error(),
			remedy: "`weir status` says what weir is short of.",
		})
	}
	seen := fmt.Sprintf("weir took the trace by %s and has it on disk", wayNames[t.Way])
	if warning != "" {
		seen += "; it warns: " + warning
	}
	return t.done(stepAccepted, began, seen)
}
