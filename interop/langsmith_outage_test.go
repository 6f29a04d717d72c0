//go:build interop

package interop

import (
	"net"
	"testing"

	"weir/internal/smith"
)

// outagePrograms are what outages are tried with: programs that only write.
func outagePrograms() []program {
	var list []program
	for _, p := range programs() {
		switch p.name {
		case "python":
			p.scenarios = []string{"nested", "attachments", "errors", "many"}
		case "js":
			p.scenarios = []string{"nested", "attachments", "errors", "many"}
		case "go":
			p.scenarios = []string{"runs"}
		case "litellm", "python otel":
			p.scenarios = p.scenarios[:1]
		default:
			continue
		}
		p.name += " in short"
		list = append(list, p)
	}
	return list
}

// outages are ways in which an upstream fails for a while. Each says how to
// begin, and returns once weir has met it and it is over.
var outages = []struct {
	name  string
	fault smith.Fault
}{
	{"429", smith.Fault{Status: 429, Body: `{"detail":"Too many requests"}`}},
	{"500", smith.Fault{Status: 500, Body: `{"detail":"Internal server error"}`}},
	{"503", smith.Fault{Status: 503, Body: "upstream connect error"}},
	{"breaks connections", smith.Fault{Reset: true}},
	{"hangs", smith.Fault{Hang: true}},
}

func TestLangSmithSDKsNoticeNoOutageOfTheUpstream(t *testing.T) {
	t.Parallel()
	for _, p := range outagePrograms() {
		for _, o := range outages {
			t.Run(p.name+" "+o.name, func(t *testing.T) {
				t.Parallel()
				s, url := startSmith(t, lookAlike())
				w := startWeir(t, url)
				app := p.start(t, w.httpURL)
				fault := o.fault
				fault.Name = "outage"
				s.SetStanding(&fault)
				app.play(p.scenarios...)
				app.noticedNothing()
				awaitFault(t, s, fault.Name)
				s.ClearFaults()
				w.drain(t)
				w.checkAllDelivered(t)
				checkSame(t, directly(t, &p), itemsAt(t, s))
			})
		}
		t.Run(p.name+" refuses connections", func(t *testing.T) {
			t.Parallel()
			addr := unusedAddress(t)
			w := startWeir(t, "http://"+addr)
			app := p.start(t, w.httpURL)
			app.play(p.scenarios...)
			app.noticedNothing()
			s, _ := startSmithAt(t, lookAlike(), addr)
			w.drain(t)
			w.checkAllDelivered(t)
			checkOnce(t, s)
			checkSame(t, directly(t, &p), itemsAt(t, s))
		})
	}
}

// TestLangSmithSDKsLoseNothingToAKill kills weir twice: while a program is
// idle, and while it sends. With a connection that breaks, or an address where
// nothing listens, Python's SDK tries for about nine seconds and JavaScript's
// for about twenty; Go's gives up after two.
func TestLangSmithSDKsLoseNothingToAKill(t *testing.T) {
	t.Parallel()
	for _, p := range outagePrograms() {
		// LiteLLM drops what it could not send at once.
		if p.name == "litellm in short" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, lookAlike())
			w := startWeir(t, url)
			app := p.start(t, w.httpURL)
			app.play(p.scenarios[0])
			w.kill(t)
			w.start(t)
			rest := p.scenarios[1:]
			if len(rest) > 0 {
				app.play(rest[:len(rest)-1]...)
				w.kill(t)
				breaker := breakConnections(t, w.httpURL)
				app.begin(rest[len(rest)-1])
				<-breaker.broke
				breaker.stop()
				w.start(t)
				app.wait(1)
			}
			w.drain(t)
			w.checkAllDelivered(t)
			// What was acknowledged, or sent, as weir died may come twice, and
			// the look-alike takes the first: nothing may be missing.
			checkSame(t, directly(t, &p), itemsAt(t, s))
		})
	}
}

// awaitFault returns once a fault has struck.
func awaitFault(t *testing.T, s *smith.Server, name string) {
	t.Helper()
	poll(t, "a request that met the outage", func() bool { return s.Stats().Faults[name] > 0 })
}

// unusedAddress is one at which nothing listens now.
func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
