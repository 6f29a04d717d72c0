//go:build interop

package interop

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/internal/smith"
)

// The size of the test: each of six applications makes so many traces a round.
const (
	quotaLimit    = 5000
	quotaPerRound = 420
	quotaRounds   = 8
	quotaApps     = 6
	quotaShare    = quotaLimit / 5 // quota.hold_release_share is 0.2
)

// TestQuotaIsMetToTheTrace sends four times the month's limit of traces with
// the SDKs of OpenTelemetry and LangSmith, turns the month, and raises the limit.
// weir is killed at random throughout.
//
// It runs alone: beside it, SDKs that give up after two seconds would.
func TestQuotaIsMetToTheTrace(t *testing.T) { //nolint:paralleltest // see above
	r := newQuotaRun(t)
	for range quotaRounds {
		r.round()
		r.checkFigures("after a round", min(quotaLimit, r.traces), max(0, r.traces-quotaLimit))
	}
	r.settle(quotaLimit)
	if n := r.smith.MonthlyTraces(smith.DefaultTenant, r.smith.Now()); n != quotaLimit {
		t.Errorf("the look-alike counts %d traces, want %d", n, quotaLimit)
	}
	r.checkRefusedRelease()

	r.turnMonth()
	r.settle(quotaLimit + quotaShare)
	held := r.traces - quotaLimit - quotaShare
	r.checkFigures("after the month's turn", quotaShare, held)
	for range (quotaLimit-quotaShare)/(quotaPerRound*quotaApps) + 1 {
		r.round()
	}
	r.settle(2 * quotaLimit)
	r.checkFigures("with the new month used up", quotaLimit, r.traces-2*quotaLimit)
	if n := r.smith.MonthlyTraces(smith.DefaultTenant, r.smith.Now()); n != quotaLimit {
		t.Errorf("the look-alike counts %d traces of the new month, want %d", n, quotaLimit)
	}

	poll(t, "weir to learn that both keys are of one workspace", func() bool { return r.figures().account == 1 })
	r.weir.command(t, "quota", "set-limit", strconv.Itoa(r.traces))
	r.killSoon()
	r.settle(r.traces)
	r.checkFigures("with the limit raised", r.traces-quotaLimit, 0)
	r.weir.checkAllDelivered(t)
	r.checkSent()
}

// quotaRun is a weir with a limit, what it stands before and who sends to it.
type quotaRun struct {
	t     *testing.T
	rng   *rand.Rand
	smith *smith.Server
	weir  *weirProcess
	clock string // the file that moves weir's clock
	began time.Time

	spans  []*application // with OpenTelemetry's SDKs
	runs   []*running     // with LangSmith's
	brief  *running       // LangSmith's for Go, which soon gives up
	rounds int
	traces int // sent so far
}

func newQuotaRun(t *testing.T) *quotaRun {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s, url := startSmith(t, lookAlike()) // without a limit: it takes what weir lets pass
	r := &quotaRun{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), smith: s, weir: newWeir(t, url), clock: filepath.Join(t.TempDir(), "clock"),
	}
	now := time.Now().UTC()
	r.began = time.Date(now.Year(), now.Month(), 15, 12, 10, 0, 0, time.UTC)
	r.moveClocks(r.began.Sub(now))
	r.weir.binary, r.weir.env = tools.movable, []string{"WEIR_TEST_CLOCK=" + r.clock}
	r.start()
	for _, k := range []kind{{language: "go", protocol: protocolGRPC}, {language: "python", protocol: protocolProto}, {language: "js", protocol: protocolJSON}} {
		r.spans = append(r.spans, startApplication(t, k, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.weir.endpoint(k.protocol)))
	}
	for _, p := range programs() {
		switch p.name {
		case "python", "js":
			r.runs = append(r.runs, r.program(p))
		case "go":
			r.brief = r.program(p)
		}
	}
	return r
}

// program starts a program and has it play something, so that others can start.
func (r *quotaRun) program(p program) *running {
	r.t.Helper()
	app := p.start(r.t, r.weir.httpURL)
	app.play("traces 1")
	r.traces++
	return app
}

func (r *quotaRun) start() {
	r.t.Helper()
	r.weir.start(r.t, "--quota-traces", strconv.Itoa(quotaLimit), "--quota-policy", "hold")
}

// moveClocks moves both clocks, either first.
func (r *quotaRun) moveClocks(by time.Duration) {
	r.t.Helper()
	weirs := func() {
		if err := os.WriteFile(r.clock+".new", []byte(by.String()), 0o600); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Rename(r.clock+".new", r.clock); err != nil {
			r.t.Fatal(err)
		}
	}
	first := r.rng.IntN(2) == 0
	if first {
		weirs()
	}
	if err := r.smith.SetClockOffset(by); err != nil {
		r.t.Fatal(err)
	}
	if !first {
		weirs()
	}
}

// turnMonth moves the clocks to the next month, and on beyond the time in which
// held traces are released, and kills weir in between.
func (r *quotaRun) turnMonth() {
	r.t.Helper()
	turn := time.Date(r.began.Year(), r.began.Month()+1, 1, 0, 1, 0, 0, time.UTC)
	r.moveClocks(time.Until(turn))
	r.killSoon()
	poll(r.t, "weir to begin the month", func() bool { return r.figures().month == turn.Format("2006-01") })
	r.moveClocks(time.Until(turn.Add(10 * time.Minute)))
	r.killSoon()
}

// round has every application make its traces, and kills weir meanwhile.
func (r *quotaRun) round() {
	r.t.Helper()
	command := fmt.Sprintf("traces %d", quotaPerRound)
	r.brief.play(command) // before a kill: its SDK gives up within two seconds
	for _, app := range r.runs {
		app.begin(command)
	}
	r.rounds++
	for _, app := range r.spans {
		app.tell(command, "flush")
	}
	r.killSoon()
	for _, app := range r.runs {
		app.wait(1)
	}
	for _, app := range r.spans {
		if now := app.flushed(r.rounds); now.failed > 0 {
			r.t.Fatalf("%s gave up %d spans; its log:\n%s", app.kind, now.failed, app.log)
		}
	}
	r.traces += quotaApps * quotaPerRound
}

// killSoon kills weir in a moment, and starts it again.
func (r *quotaRun) killSoon() {
	r.t.Helper()
	<-time.After(time.Duration(r.rng.Float64() * float64(400*time.Millisecond)))
	r.weir.kill(r.t)
	r.start()
}

// quotaFigures are those of all accounts together.
type quotaFigures struct {
	month                                  string
	used, reserved, held, dropped, account int
}

func (r *quotaRun) figures() quotaFigures {
	r.t.Helper()
	var answer struct {
		Scopes []struct {
			Month          string `json:"month"`
			TracesUsed     int    `json:"tracesUsed"`
			TracesReserved int    `json:"tracesReserved"`
			TracesHeld     int    `json:"tracesHeld"`
			TracesDropped  int    `json:"tracesDropped"`
		} `json:"scopes"`
	}
	out := r.weir.command(r.t, "quota", "show", "--json")
	if err := json.Unmarshal(out, &answer); err != nil {
		r.t.Fatalf("weir quota --json: %v\n%s", err, out)
	}
	var sum quotaFigures
	for _, s := range answer.Scopes {
		sum.month = s.Month
		sum.used += s.TracesUsed
		sum.reserved += s.TracesReserved
		sum.held += s.TracesHeld
		sum.dropped += s.TracesDropped
		sum.account++
	}
	return sum
}

// checkFigures expects so many traces to be used or on their way, and so many to
// be held.
func (r *quotaRun) checkFigures(when string, used, held int) {
	r.t.Helper()
	f := r.figures()
	if f.used+f.reserved != used || f.held != held || f.dropped != 0 {
		r.t.Errorf("%s: %d traces were sent; weir quota says %+v, want %d used or reserved and %d held", when, r.traces, f, used, held)
	}
}

// settle waits until weir has nothing on its way, and expects that so many
// traces have arrived by then, each of them whole, and that a kill changes no
// figure.
func (r *quotaRun) settle(want int) {
	r.t.Helper()
	poll(r.t, fmt.Sprintf("%d traces to be delivered", want), func() bool {
		return r.weir.totals(r.t)["pendingItems"] == "0" && r.figures().reserved == 0 && len(r.arrived()) >= want
	})
	before := r.figures()
	r.weir.kill(r.t)
	r.start()
	if after := r.figures(); after != before {
		r.t.Errorf("a kill has changed the figures from %+v to %+v", before, after)
	}
	r.checkConserved()
	arrived := r.arrived()
	if len(arrived) != want {
		r.t.Errorf("%d traces have arrived, want %d", len(arrived), want)
	}
	for id, parts := range arrived {
		if parts != 2 {
			r.t.Errorf("of the 2 parts of trace %s %d have arrived", id, parts)
		}
	}
}

// arrived are the traces that have reached the look-alike, with how many of
// their spans or finished runs.
func (r *quotaRun) arrived() map[string]int {
	traces := map[string]int{}
	for id := range r.smith.SpanIDs() {
		traces[hex.EncodeToString(id.Trace[:])]++
	}
	for _, run := range r.smith.Runs() {
		id := run.Trace.String()
		traces[id] += 0
		if run.Posts > 0 && run.Ended() {
			traces[id]++
		}
	}
	return traces
}

// checkConserved expects everything accepted to be somewhere.
func (r *quotaRun) checkConserved() {
	r.t.Helper()
	totals, sum := r.weir.totals(r.t), 0
	count := func(name string) int {
		n, err := strconv.Atoi(totals[name])
		if err != nil {
			r.t.Fatalf("weir status: totals.%s: %v", name, err)
		}
		return n
	}
	for _, name := range []string{"deliveredItems", "pendingItems", "heldItems", "quarantinedItems", "droppedItems"} {
		sum += count(name)
	}
	if accepted := count("acceptedItems"); accepted != sum || count("quarantinedItems")+count("droppedItems") > 0 {
		r.t.Errorf("conservation: %d items accepted, %d accounted for: %v", accepted, sum, totals)
	}
}

// checkRefusedRelease expects weir to say that there is no room for what is held.
func (r *quotaRun) checkRefusedRelease() {
	r.t.Helper()
	_, err := r.weir.try(r.t, "quota", "release", "--admin-addr", r.weir.adminAddr)
	want := fmt.Sprintf("all %d traces", quotaLimit)
	if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), ",", ""), want) {
		r.t.Errorf("weir quota release without room: %v; want it to fail and to say %q", err, want)
	}
}

// checkSent expects every span of OpenTelemetry's SDKs to have arrived.
func (r *quotaRun) checkSent() {
	r.t.Helper()
	arrived := r.smith.SpanIDs()
	for _, app := range r.spans {
		sent := app.await("nothing", func(*account) bool { return true }).sent
		for i := range sent {
			var id smith.SpanID
			trace, err := hex.DecodeString(sent[i].TraceID)
			if err != nil {
				r.t.Fatal(err)
			}
			span, err := hex.DecodeString(sent[i].SpanID)
			if err != nil {
				r.t.Fatal(err)
			}
			copy(id.Trace[:], trace)
			copy(id.Span[:], span)
			if arrived[id] == 0 {
				r.t.Errorf("%s: span %s of trace %s was acknowledged and has not arrived", app.kind, sent[i].SpanID, sent[i].TraceID)
			}
		}
	}
}
