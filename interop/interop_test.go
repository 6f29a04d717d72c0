//go:build interop

package interop

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"weir/internal/smith"
)

// turns is how many turns of a conversation a plain run makes.
const turns = 20

// endpoint is how an application is pointed at weir.
func endpoint(w *weirProcess, k kind) string {
	return "OTEL_EXPORTER_OTLP_ENDPOINT=" + w.endpoint(k.protocol)
}

// finish has weir deliver everything and checks that what was sent is what
// arrived, by content and by weir's own count.
func finish(t *testing.T, w *weirProcess, s *smith.Server, sent []spanAccount) map[spanKey][]arrival {
	t.Helper()
	w.drain(t)
	w.checkTotals(t, len(sent))
	return checkArrived(t, s, sent)
}

func TestEverySpanArrivesAsTheSDKHadIt(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(k.String()+" "+compression, func(t *testing.T) {
				t.Parallel()
				s, url := startSmith(t, smith.Config{})
				w := startWeir(t, url)
				env := []string{endpoint(w, k)}
				if compression != "none" {
					env = append(env, "OTEL_EXPORTER_OTLP_COMPRESSION="+compression)
				}
				app := startApplication(t, k, env...)
				app.tell(fmt.Sprint("emit ", turns), "edges")
				now := app.flushAll()
				if want := turns * spansPerTurn; len(now.sent) <= want {
					t.Fatalf("%d spans were sent, want more than %d", len(now.sent), want)
				}
				finish(t, w, s, now.sent)
			})
		}
	}
}

// TestWithoutWeir sends straight to the look-alike: when it fails, the fault
// is in an application's account or in the comparison, and not in weir. JSON is
// left to weir, which is stricter to itself and kinder to callers with it.
func TestWithoutWeir(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		if k.protocol != protocolProto {
			continue
		}
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, smith.Config{})
			app := startApplication(t, k, "OTEL_EXPORTER_OTLP_ENDPOINT="+url+"/otel", "OTEL_EXPORTER_OTLP_HEADERS=x-api-key="+ownKey)
			app.tell("emit 3", "edges")
			checkArrived(t, s, app.flushAll().sent)
		})
	}
}

func TestCallersChooseKeyWorkspaceAndProject(t *testing.T) {
	keys := map[string]smith.Key{}
	workspace := func(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", i+1) }
	key := func(i int) string { return fmt.Sprintf("lsv2_sk_%032d_caller%04d", i, i) }
	for i := range kinds {
		keys[key(i)] = smith.Key{OrgScoped: true}
	}
	s, url := startSmith(t, smith.Config{Keys: keys})
	w := startWeir(t, url, "--project", "weir's own")
	owner := map[spanKey]int{}
	var sent []spanAccount
	apps := make([]*application, len(kinds))
	for i, k := range kinds {
		headers := fmt.Sprintf("X-API-Key=%s,X-Tenant-Id=%s,Langsmith-Project=Chat%%20Bot%%20%d", key(i), workspace(i), i)
		apps[i] = startApplication(t, k, endpoint(w, k), "OTEL_EXPORTER_OTLP_HEADERS="+headers)
		apps[i].tell("emit 2")
	}
	for i := range apps {
		for _, span := range apps[i].flushAll().sent {
			owner[spanKey(span.TraceID+"/"+span.SpanID)] = i
			sent = append(sent, span)
		}
	}
	for span, list := range finish(t, w, s, sent) {
		i := owner[span]
		got := list[0].request
		if string(got.Key) != key(i) || got.Workspace != workspace(i) || got.Project != fmt.Sprintf("Chat Bot %d", i) {
			t.Errorf("%s of %s arrived with key %s, workspace %s, project %q", span, kinds[i], got.Key, got.Workspace, got.Project)
		}
	}
}

func TestWeirsOwnKeyAndProjectApplyWhereTheCallerSaysNothing(t *testing.T) {
	s, url := startSmith(t, smith.Config{Keys: map[string]smith.Key{ownKey: {}}})
	w := startWeir(t, url, "--project", "weir's own")
	app := startApplication(t, kinds[0], endpoint(w, kinds[0]))
	app.tell("emit 1")
	for span, list := range finish(t, w, s, app.flushAll().sent) {
		if got := list[0].request; string(got.Key) != ownKey || got.Project != "weir's own" {
			t.Errorf("%s arrived with key %s, project %q", span, got.Key, got.Project)
		}
	}
}

// TestPathsOfLangSmithWork covers the base URLs that people configure for
// LangSmith: OpenTelemetry's general variable has /v1/traces added to it, the
// one for traces is used as it is (OTLP exporter specification). A bare /otel
// is where LangSmith's Python SDK posts in its OpenTelemetry mode.
func TestPathsOfLangSmithWork(t *testing.T) {
	s, url := startSmith(t, smith.Config{})
	w := startWeir(t, url)
	paths := []struct{ variable, path string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "/"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "/otel"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "/otel/"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "/api/v1/otel"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/otel"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/otel/v1/traces"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/api/otel/v1/traces"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "//otel//v1/traces/"},
	}
	var apps []*application
	for _, k := range []kind{
		{language: "python", protocol: protocolProto}, {language: "js", protocol: protocolJSON},
	} {
		for _, p := range paths {
			app := startApplication(t, k, p.variable+"="+w.httpURL+p.path)
			app.tell("emit 1")
			apps = append(apps, app)
		}
	}
	var sent []spanAccount
	for _, app := range apps {
		sent = append(sent, app.flushAll().sent...)
	}
	finish(t, w, s, sent)
}

func TestAnOutageOfTheUpstreamIsInvisibleToApplications(t *testing.T) {
	s, url := startSmith(t, smith.Config{})
	w := startWeir(t, url)
	var apps []*application
	for _, k := range kinds {
		app := startApplication(t, k, endpoint(w, k))
		app.tell("emit 2")
		apps = append(apps, app)
	}
	for _, app := range apps {
		app.flushAll()
	}
	down := smith.Fault{Name: "outage", Match: smith.MatchIngest, Status: 503, Body: "upstream connect error"}
	s.SetStanding(&down)
	var sent []spanAccount
	for _, app := range apps {
		app.tell("emit 3")
		sent = append(sent, app.flushAll().sent...)
	}
	if err := s.WaitAnswers(t.Context(), 503, 1); err != nil {
		t.Fatal(err)
	}
	s.SetStanding(nil)
	finish(t, w, s, sent)
}

// TestARestartLosesNothingThatTheSDKKeeps stops weir while applications send.
// Between the two weirs something else breaks each connection, which tells
// that an application has tried; then there is nothing, and then weir again.
func TestARestartLosesNothingThatTheSDKKeeps(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, smith.Config{})
			w := startWeir(t, url)
			app := startApplication(t, k, endpoint(w, k))
			app.tell("emit 3")
			app.flushAll()
			w.stop(t)
			breaker := breakConnections(t, w.endpoint(k.protocol))
			app.tell("emit 3", "flush")
			<-breaker.broke
			if !k.keepsBroken {
				if now := app.flushed(2); now.failed == 0 {
					t.Error("the SDK keeps what it could not send: teach the table of kinds")
				}
			}
			breaker.stop()
			w.start(t)
			if now := app.flushed(2); k.keepsBroken && now.failed > 0 {
				t.Fatalf("the SDK gave up %d spans; its log:\n%s", now.failed, app.log)
			}
			app.tell("emit 3")
			finish(t, w, s, app.flush().sent)
		})
	}
}

// TestAConnectionOutlivesARestart restarts weir while applications are idle:
// the connection they hold is gone when they next send.
func TestAConnectionOutlivesARestart(t *testing.T) {
	s, url := startSmith(t, smith.Config{})
	w := startWeir(t, url)
	var apps []*application
	for _, k := range kinds {
		app := startApplication(t, k, endpoint(w, k))
		app.tell("emit 1")
		apps = append(apps, app)
	}
	for _, app := range apps {
		app.flushAll()
	}
	w.stop(t)
	w.start(t)
	var sent []spanAccount
	for _, app := range apps {
		app.tell("emit 1")
		sent = append(sent, app.flushAll().sent...)
	}
	finish(t, w, s, sent)
}

// TestRefusedForNowIsSentAgain has a running weir refuse exports, then one that
// takes them start in its place, while the SDK waits for its next attempt.
func TestRefusedForNowIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.String()+" draining", func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, smith.Config{})
			w := startWeir(t, url)
			w.drain(t)
			refuseThenTake(t, w, s, refusal{kind: k, reason: "draining", keeps: k.keepsUnavailable})
		})
		t.Run(k.String()+" disk full", func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, smith.Config{})
			// No disk has that much free, so weir takes nothing.
			w := startWeir(t, url, "--buffer-min-free", "1024TiB")
			refuseThenTake(t, w, s, refusal{kind: k, reason: "disk_full", keeps: k.keepsExhausted})
		})
	}
}

// refusal is one way in which a weir refuses exports for now.
type refusal struct {
	kind   kind
	reason string
	keeps  bool // the SDK tries again
}

// refuseThenTake expects the running weir to refuse, restarts it without the
// flags it had, and expects it to take what the SDK sends again.
func refuseThenTake(t *testing.T, w *weirProcess, s *smith.Server, r refusal) {
	t.Helper()
	app := startApplication(t, r.kind, endpoint(w, r.kind))
	app.tell("emit 2", "flush")
	w.awaitRefusal(t, r.reason)
	if !r.keeps {
		if now := app.flushed(1); now.failed == 0 {
			t.Error("the SDK keeps what was refused: teach the table of kinds")
		}
	}
	w.stop(t)
	w.start(t)
	if now := app.flushed(1); r.keeps && now.failed > 0 {
		t.Fatalf("the SDK gave up %d spans; its log:\n%s", now.failed, app.log)
	}
	app.tell("emit 1")
	finish(t, w, s, app.flush().sent)
}

// breaker stands where weir was and breaks every connection made to it.
type breaker struct {
	broke chan struct{} // closed when it has broken the first
	stop  func()        // returns when the address is free again
}

func breakConnections(t *testing.T, url string) *breaker {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatalf("take weir's place: %v", err)
	}
	b := &breaker{broke: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for first := true; ; first = false {
			conn, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("in weir's place: %v", err)
				}
				return
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset instead of an orderly end
			}
			_ = conn.Close()
			if first {
				close(b.broke)
			}
		}
	})
	b.stop = sync.OnceFunc(func() {
		_ = l.Close()
		serving.Wait()
	})
	t.Cleanup(b.stop)
	return b
}
