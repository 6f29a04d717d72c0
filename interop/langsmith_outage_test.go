//go:build interop

package interop

import (
	"maps"
	"net"
	"slices"
	"testing"

	"weir/internal/smith"
)

// outagePrograms are what outages are tried with: programs that only write,
// and a few scenarios of each. LiteLLM, whose start is slow, is not among them:
// to it an outage of the upstream looks like any other SDK's.
func outagePrograms() []program {
	var list []program
	for _, p := range programs() {
		switch p.name {
		case "python", "js":
			p.scenarios = []string{"nested", "attachments", "errors", "many", "nested"}
			p.keepsBroken = true
		case "python otel", "js otel", "go", "java":
			p.scenarios = slices.Repeat(p.scenarios[:1], len(outages))
			// Go's three tries can be over within a second, before weir is back.
			p.keepsBroken = p.name != "go"
		default:
			continue
		}
		p.name += " in short"
		list = append(list, p)
	}
	return list
}

// outages are ways in which an upstream fails for a while.
var outages = []smith.Fault{
	{Name: "429", Status: 429, Body: `{"detail":"Too many requests"}`},
	{Name: "500", Status: 500, Body: `{"detail":"Internal server error"}`},
	{Name: "503", Status: 503, Body: "upstream connect error"},
	{Name: "breaks connections", Reset: true},
	{Name: "hangs", Hang: true},
}

// TestLangSmithSDKsNoticeNoOutageOfTheUpstream has a scenario played in each
// outage, with the program, weir and the look-alike the same throughout.
func TestLangSmithSDKsNoticeNoOutageOfTheUpstream(t *testing.T) {
	t.Parallel()
	for _, p := range outagePrograms() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, lookAlike())
			w := startWeir(t, url)
			app := p.start(t, w.httpURL)
			for i, fault := range outages {
				s.SetStanding(&fault)
				app.play(p.scenarios[i])
				app.noticedNothing()
				poll(t, "a request that meets the outage", func() bool { return s.Stats().Faults[fault.Name] > 0 })
				s.ClearFaults()
				poll(t, "weir to deliver what is left of the outage", func() bool { return w.totals(t)["pendingItems"] == "0" })
			}
			w.drain(t)
			w.checkAllDelivered(t)
			checkOnce(t, s)
			checkSame(t, directly(t, &p), itemsAt(t, s))
		})
	}
}

// TestLangSmithSDKsNoticeNoUpstreamThatIsNotThere starts the upstream last.
func TestLangSmithSDKsNoticeNoUpstreamThatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, p := range outagePrograms() {
		t.Run(p.name, func(t *testing.T) {
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
// idle, and so that its first request breaks, where the SDK tries again for
// long enough.
func TestLangSmithSDKsLoseNothingToAKill(t *testing.T) {
	t.Parallel()
	for _, p := range outagePrograms() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, lookAlike())
			w := startWeir(t, url)
			app := p.start(t, w.httpURL)
			last := len(p.scenarios) - 1
			app.play(p.scenarios[:last-1]...)
			w.kill(t)
			w.start(t)
			app.play(p.scenarios[last-1])
			w.kill(t)
			if p.keepsBroken {
				breaker := breakConnections(t, w.httpURL)
				app.begin(p.scenarios[last])
				<-breaker.broke
				breaker.stop()
				w.start(t)
				app.wait(1)
			} else {
				w.start(t)
				app.play(p.scenarios[last])
			}
			w.drain(t)
			w.checkAllDelivered(t)
			// What weir delivered, or the SDK sent, as weir died may come twice,
			// but no different the second time.
			checkSame(t, directly(t, &p), distinct(itemsAt(t, s)))
		})
	}
}

// distinct are items without those that equal an earlier one.
func distinct(items []item) []item {
	var kept []item
	seen := map[string][]item{}
	for _, one := range items {
		again := slices.ContainsFunc(seen[one.kind+one.id], func(earlier item) bool { return maps.Equal(earlier.fields, one.fields) })
		if !again {
			seen[one.kind+one.id] = append(seen[one.kind+one.id], one)
			kept = append(kept, one)
		}
	}
	return kept
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
