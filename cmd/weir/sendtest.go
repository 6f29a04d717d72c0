package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"weir/internal/sendtest"
	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/upstream"
)

// sendTestCmd is `weir send-test`.
type sendTestCmd struct {
	Via     string        `name:"via" enum:"auto,grpc,http" default:"auto" placeholder:"WAY" help:"How the trace gets into weir: grpc or http. Default: grpc, or http where gRPC is off."`
	Direct  bool          `name:"direct" help:"Send straight to LangSmith, without a running weir. weir does not count that trace."`
	Project string        `name:"project" placeholder:"NAME" help:"Project for the trace. Default: the configured one."`
	Zstd    *bool         `name:"zstd" negatable:"" help:"Settle also whether LangSmith takes OTLP in zstd; costs no further trace. Default: if that is not known yet and the encoding is auto."`
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long each of the waits may take: for the delivery, for reading back, for zstd. Default 30s."`
	JSON    bool          `name:"json" help:"Print the result as JSON."`
	adminFlags
}

// newSendTestCmd has the flags for a running weir; everything about LangSmith
// comes from environment and file, as for the weir that runs.
func newSendTestCmd() sendTestCmd {
	return sendTestCmd{adminFlags: adminFlags{Plugins: settingFlags(adminSettings)}}
}

func (c *sendTestCmd) run(ctx context.Context, inv *invocation) error {
	const least, most = time.Second, 10 * time.Minute
	if c.Timeout < least || c.Timeout > most {
		return &exitError{code: exitUsage, err: fmt.Errorf("--timeout %s is not from %s to %s", c.Timeout, least, most)}
	}
	if c.Direct && c.Via != "auto" {
		return &exitError{code: exitUsage, err: errors.New("--via is the way into weir, and --direct goes past it; give one of them")}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	view := &testView{con: &inv.console, quiet: c.JSON}
	test := c.throughWeir
	if c.Direct {
		test = c.direct
	}
	if err := test(ctx, inv, view.show); err != nil {
		return err
	}
	if view.result == nil {
		return errors.New("send-test: weir ended the call before the test was done; `weir status` may say why")
	}
	if err := view.end(c.JSON); err != nil {
		return fmt.Errorf("send-test: writing the result: %w", err)
	}
	switch {
	case view.result.GetOk():
		return nil
	case view.result.GetNeedsPerson():
		return &exitError{code: exitNeedsPerson}
	default:
		return &exitError{code: exitFailed}
	}
}

// request is what the flags ask for.
func (c *sendTestCmd) request() *weirv1.SendTestRequest {
	req := &weirv1.SendTestRequest{Project: c.Project, Timeout: durationpb.New(c.Timeout)}
	switch c.Via {
	case "grpc":
		req.Way = weirv1.SendTestWay_SEND_TEST_WAY_GRPC
	case "http":
		req.Way = weirv1.SendTestWay_SEND_TEST_WAY_HTTP
	}
	switch {
	case c.Zstd == nil:
	case *c.Zstd:
		req.Zstd = weirv1.SendTestZstd_SEND_TEST_ZSTD_YES
	default:
		req.Zstd = weirv1.SendTestZstd_SEND_TEST_ZSTD_NO
	}
	return req
}

// throughWeir has a running weir make the test.
func (c *sendTestCmd) throughWeir(ctx context.Context, inv *invocation, report func(*weirv1.SendTestResponse) error) error {
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	const waits = 4 // to be accepted, delivered, read back, and zstd
	bounded, cancel := context.WithTimeout(ctx, waits*c.Timeout+drainGrace)
	defer cancel()
	stream, err := call.client.SendTest(bounded, c.request())
	if err != nil {
		return call.explainTest(ctx, err)
	}
	for stream.Receive() {
		if err := report(stream.Msg()); err != nil {
			break
		}
	}
	err = stream.Err()
	if closeErr := stream.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return call.explainTest(ctx, err)
	}
	return nil
}

// explainTest says how to do without a weir that is not there.
func (c *adminCall) explainTest(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("send-test: interrupted; the trace may still arrive")
	}
	explained := c.explain("send-test", err)
	if exit, ok := errors.AsType[*exitError](explained); ok && exit.code == exitUnreachable && connect.CodeOf(err) == connect.CodeUnavailable {
		return &exitError{code: exit.code, err: fmt.Errorf("%w, or test the way to LangSmith without it: weir send-test --direct", exit.err)}
	}
	return explained
}

// direct makes the test without a weir.
func (c *sendTestCmd) direct(ctx context.Context, inv *invocation, report func(*weirv1.SendTestResponse) error) error {
	s, err := inv.settings(c.configFlag)
	if err != nil {
		return err
	}
	if s.APIKey.reveal() == "" {
		return &exitError{code: exitUsage, err: errors.New("send-test: there is no key; set LANGSMITH_API_KEY")}
	}
	client, err := upstream.New(upstream.Config{
		BaseURL: s.Upstream, Version: buildVersion(), Encoding: upstream.Encoding(s.OTLPEncoding), Timeout: s.RequestTimeout, CAFile: s.CAFile,
	})
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("upstream: %w", err)}
	}
	defer client.Close() //nolint:errcheck // it always succeeds
	return sendtest.Run(ctx, &sendtest.Config{
		Way: weirv1.SendTestWay_SEND_TEST_WAY_DIRECT, Version: buildVersion(), Destination: destination(s),
		Upstream: client, Proof: noProof{},
	}, c.request(), report)
}

// noProof keeps nothing: the data directory is the running weir's.
type noProof struct{}

// Known implements sendtest.Proof.
func (noProof) Known() string { return sendtest.ZstdUnknown }

// Keep implements sendtest.Proof.
func (noProof) Keep(string) error {
	return errors.New("only a running weir keeps that; run `weir send-test` with one, or set --otlp-encoding")
}

// sendTest makes a test in this process, through its own listeners.
func (w *weir) sendTest(ctx context.Context, req *weirv1.SendTestRequest, report func(*weirv1.SendTestResponse) error) error {
	way, addr := req.GetWay(), w.at.GRPC
	if way == weirv1.SendTestWay_SEND_TEST_WAY_UNSPECIFIED {
		way = weirv1.SendTestWay_SEND_TEST_WAY_GRPC
		if w.at.GRPC.off() {
			way = weirv1.SendTestWay_SEND_TEST_WAY_HTTP
		}
	}
	if way == weirv1.SendTestWay_SEND_TEST_WAY_HTTP {
		addr = w.at.HTTP
	}
	if addr.off() {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
			"this weir does not listen that way (%s); take the other one with --via, or switch it on", strings.ToLower(strings.TrimPrefix(way.String(), "SEND_TEST_WAY_"))))
	}
	to := w.upstream.now.Load()
	return sendtest.Run(ctx, &sendtest.Config{
		Way: way, Addr: string(addr), TLS: w.access.ownTLS(), Token: w.access.token.Load().reveal(), Version: buildVersion(), Destination: w.forwarder.Destination(),
		Upstream: to, Proof: to.zstd, Hurry: w.settings.testHurry,
		Whereabouts: func(ctx context.Context, id proxy.TraceID) (proxy.Whereabouts, error) {
			return w.forwarder.Find(ctx, id)
		},
	}, req, report)
}

// testView shows a test as it goes on.
type testView struct {
	con    *console
	quiet  bool // only the result is shown
	result *weirv1.SendTestResult
}

var stepTitles = map[string]string{
	"cost": "costs", "accepted": "accepted", "delivered": "delivered", "read_back": "read back", "zstd": "zstd",
}

// show prints a step, or keeps the result.
func (v *testView) show(r *weirv1.SendTestResponse) error {
	if r.GetResult() != nil {
		v.result = r.GetResult()
	}
	s := r.GetStep()
	if s == nil || v.quiet {
		return nil
	}
	mark := paint("ok    ", green, v.con.OutColor)
	switch {
	case s.GetName() == "cost":
		mark = "      "
	case !s.GetOk():
		mark = paint("failed", red, v.con.OutColor)
	}
	title := stepTitles[s.GetName()]
	if title == "" {
		title = oneLine(s.GetName(), maxName)
	}
	took := ""
	if s.GetName() != "cost" {
		took = s.GetTook().AsDuration().Round(time.Millisecond).String()
	}
	v.con.say(fmt.Sprintf("%s  %-9s  %7s  ", mark, title, took), oneLine(s.GetSeen(), maxSentence*2), plain)
	return nil
}

// end prints the result.
func (v *testView) end(asJSON bool) error {
	r := v.result
	if asJSON {
		return printProto(v.con.Out, r)
	}
	text := fmt.Sprintf("%s trace %s went the whole way and was read back.",
		paint("Well:", green, v.con.OutColor), oneLine(r.GetTraceId(), maxName))
	if !r.GetOk() {
		text = fmt.Sprintf("%s at %q (%s). %s", paint("Stuck", red, v.con.OutColor), stepTitles[r.GetStuckAt()],
			oneLine(r.GetReason(), maxName), oneLine(r.GetRemedy(), maxSentence))
	}
	v.con.say("", text, plain)
	return nil
}
