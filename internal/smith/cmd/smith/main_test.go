package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"weir/internal/smith"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tenant = "11111111-1111-4111-8111-111111111111"

func TestItServesAtTheAddressItPrintsUntilStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, out := io.Pipe()
	code := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		code <- run(ctx, []string{"--print", "--control", "--key", "lsv2_pt_xxxxxxxxxx=" + tenant}, out, &stderr)
		_ = out.Close()
	}()
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		t.Fatalf("no address was printed: %v", lines.Err())
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+lines.Text()+"/otel/v1/traces",
		strings.NewReader(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0000000000000000000000000000000a",`+
			`"spanId":"000000000000000b","name":"hello"}]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", "lsv2_pt_xxxxxxxxxx")
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("export = %s", res.Status)
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), "hello") {
		t.Errorf("printed %q, want the span", lines.Text())
	}
	cancel()
	if got := <-code; got != exitWell || stderr.Len() > 0 {
		t.Errorf("run() = %d, printed %q", got, stderr.String())
	}
}

func TestFlagsSetTheConfig(t *testing.T) {
	o, err := parse(strings.Fields("--addr 127.0.0.1:1 --chaos 429=0.1 --seed 7 --discard --control --print --bare-path "+
		"--zstd 415 --json lost --malformed lost --window 422 --project attribute "+
		"--runs-zstd 415 --runs-window 400 --runs-duplicate whole --runs-max 5 --feedback-order run_first --extra-update replace "+
		"--auth-wording old --quota-wording old --revoked-key 401 --name-max 128 --big-integers 422 --nul-bytes 400 --cut 10 "+
		"--max-attachment 9 --max-trace-runs 8 --quota-updates refused --quota-otlp lost --usage-lag 0s "+
		"--monthly-traces 1 --hourly-events 2 --hourly-bytes 3 --minute-events 4 --user-monthly-traces 5 --user-longlived-traces 6 "+
		"--key a="+tenant+" --key b="+tenant+",org,orgread,readonly,noplan,bearer --key c="), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := options{addr: "127.0.0.1:1", show: true, smith: smith.Config{
		Seed: 7, Keep: smith.KeepCounts, Control: true, MaxAttachmentBytes: 9, MaxTraceRuns: 8,
		Limits: smith.Limits{
			MonthlyTraces: 1, HourlyEvents: 2, HourlyBytes: 3, MinuteEvents: 4, UserMonthlyTraces: 5, UserLonglivedTraces: 6,
		},
		Keys: map[string]smith.Key{
			"a": {Tenant: tenant}, "b": {Tenant: tenant, OrgScoped: true, OrgRead: true, ReadOnly: true, NoPlan: true, Bearer: true}, "c": {},
		},
		Switches: smith.Switches{
			OTLPZstd: smith.Unsupported, OTLPJSON: smith.Lost, OTLPMalformed: smith.MalformedLost,
			OTLPWindow: smith.Window422, OTLPProject: smith.AttributeFirst, OTLPBarePath: true,
			RunsZstd: smith.Unsupported, RunsWindow: smith.Window400, RunsDuplicate: smith.DuplicateWhole, RunsMax: 5,
			FeedbackOrder: smith.FeedbackRunFirst, ExtraUpdate: smith.ExtraReplace,
			AuthWording: smith.WordingOld, QuotaWording: smith.WordingOld, RevokedKey: smith.Revoked401,
			NameMax: 128, BigIntegers: smith.Check422, NULBytes: smith.Check400, CutBytes: 10,
			QuotaUpdates: smith.UpdatesRefused, QuotaOTLP: smith.QuotaOTLPLost, UsageLag: smith.Lag(-1),
		},
	}}
	diff := cmp.Diff(want, o, cmp.AllowUnexported(options{}), cmpopts.IgnoreFields(smith.Config{}, "Chaos", "Now"))
	if diff != "" || o.smith.Chaos.String() != "429=0.1" {
		t.Errorf("parse (-want +got), chaos %s:\n%s", o.smith.Chaos, diff)
	}
}

func TestWrongUsageExitsWith2AndShowsNoKey(t *testing.T) {
	for args, want := range map[string]string{
		"extra":                      `unexpected argument "extra"`,
		"--nope":                     "flag provided but not defined: -nope",
		"--zstd maybe":               `use one of taken, 415, lost`,
		"--chaos 429":                `write WHAT=SHARE`,
		"--monthly-traces -5":        `limits: monthly_traces -5 is negative`,
		"--usage-lag soon":           `lag "soon" is not a duration`,
		"--key lsv2_pt_secret":       "--key: write KEY=TENANT",
		"--key lsv2_pt_secret=mine":  `--key: workspace "mine" is not a UUID`,
		"--key lsv2_pt_secret=,root": `--key: "root" is not known; use org, orgread, readonly, noplan or bearer`,
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(args), &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), want) || strings.Contains(stderr.String(), "secret") || stdout.Len() > 0 {
			t.Errorf("smith %s = %d, %q; want 2 and %s", args, code, stderr.String(), want)
		}
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != exitWell || !strings.Contains(stdout.String(), "-zstd taken|415|lost") || stderr.Len() > 0 {
		t.Errorf("help = %d, stderr %q:\n%s", code, stderr.String(), stdout.String())
	}
}

func TestAnAddressInUseFails(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--addr", l.Addr().String()}, io.Discard, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "--addr 127.0.0.1:0") {
		t.Errorf("run() = %d, %q; want 1 and a hint", code, stderr.String())
	}
}
