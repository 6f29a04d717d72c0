//go:build interop

package interop

import (
	"sync"
	"testing"

	"weir/internal/smith"
)

// lookAlike is how the look-alike is set up for LangSmith's SDKs: at the kind
// end, but for duplicates, which it would merely hide.
func lookAlike() smith.Config {
	return smith.Config{Keys: map[string]smith.Key{callersKey: {}, ownKey: {}}}
}

// direct has what programs deliver directly, by program; the tests share it.
var direct struct {
	mu    sync.Mutex // guards items
	items map[string]func(*testing.T) []item
}

// directly returns what a program delivers to the look-alike, playing it only
// the first time.
func directly(t *testing.T, p *program) []item {
	t.Helper()
	direct.mu.Lock()
	get := direct.items[p.name]
	if get == nil {
		var once sync.Once
		var items []item
		get = func(t *testing.T) []item {
			once.Do(func() { items = playDirectly(t, p) })
			if len(items) == 0 {
				t.Fatalf("%s delivers nothing directly", p.name)
			}
			return items
		}
		if direct.items == nil {
			direct.items = map[string]func(*testing.T) []item{}
		}
		direct.items[p.name] = get
	}
	direct.mu.Unlock()
	return get(t)
}

// playDirectly plays all of a program straight to a look-alike, and returns
// what arrived.
func playDirectly(t *testing.T, p *program) []item {
	t.Helper()
	s, url := startSmith(t, lookAlike())
	app := p.start(t, url)
	app.play(p.scenarios...)
	app.noticedNothing()
	checkOnce(t, s)
	items := itemsAt(t, s)
	if len(items) == 0 {
		t.Fatalf("nothing of %s arrived; its log:\n%s", p.name, app.log)
	}
	return items
}

// checkOnce expects that every operation has come once.
func checkOnce(t *testing.T, s *smith.Server) {
	t.Helper()
	stats := s.Stats()
	if len(stats.Runs.Duplicates) > 0 || stats.Runs.Conflicts > 0 || stats.Duplicates > 0 {
		t.Errorf("operations came more than once: %v, %d conflicts, %d spans", stats.Runs.Duplicates, stats.Runs.Conflicts, stats.Duplicates)
	}
}

// TestLangSmithProgramsRepeatThemselves plays programs twice past weir: when
// it fails, the fault is in a program or in the comparison, and not in weir.
func TestLangSmithProgramsRepeatThemselves(t *testing.T) {
	t.Parallel()
	for _, p := range programs() {
		if p.slow {
			continue // compared through weir, where the same faults would show
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			checkSame(t, directly(t, &p), playDirectly(t, &p))
		})
	}
}

func TestLangSmithSDKsDeliverTheSameThroughWeir(t *testing.T) {
	t.Parallel()
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, lookAlike())
			// All programs say where their runs belong: weir's own project must
			// not be put over that.
			w := startWeir(t, url, "--project", "weir's own")
			app := p.start(t, w.httpURL)
			app.play(p.scenarios...)
			app.noticedNothing()
			w.drain(t)
			w.checkAllDelivered(t)
			checkOnce(t, s)
			checkSame(t, directly(t, &p), itemsAt(t, s))
		})
	}
}
