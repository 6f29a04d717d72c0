//go:build interop

package interop

import (
	"slices"
	"testing"

	"weir/internal/smith"
)

// TestWhatLangSmithSDKsDoWhenRefused refuses the first request of a program
// that talks to the look-alike directly: what its SDK does not send again is
// lost, whatever comes later. The tests expect that, so that they notice when
// it changes; weir's answers must suit it.
func TestWhatLangSmithSDKsDoWhenRefused(t *testing.T) {
	t.Parallel()
	refusals := []smith.Fault{
		{Name: "503", Status: 503},
		{Name: "503 with Retry-After", Status: 503, RetryAfter: "1"},
		{Name: "500", Status: 500},
		{Name: "429", Status: 429},
		{Name: "429 with Retry-After", Status: 429, RetryAfter: "1"},
		{Name: "a broken connection", Reset: true},
	}
	all := []string{"503", "503 with Retry-After", "500", "429", "429 with Retry-After", "a broken connection"}
	keeps := map[string][]string{
		"python in short":  all,
		"js in short":      all,
		"go in short":      all,
		"litellm in short": {"a broken connection"},
	}
	for _, p := range outagePrograms() {
		kept, ok := keeps[p.name]
		if !ok {
			continue // OpenTelemetry's exporters, which have tests of their own
		}
		for _, refusal := range refusals {
			t.Run(p.name+" "+refusal.Name, func(t *testing.T) {
				t.Parallel()
				s, url := startSmith(t, lookAlike())
				refusal.Match = smith.MatchIngest
				s.Script(refusal)
				app := p.start(t, url)
				app.play(p.scenarios[:2]...)
				want := slices.Contains(kept, refusal.Name)
				if got := s.Stats().Runs.Posts == operations(t, &p, 2); got != want {
					t.Errorf("the SDK sends again what was refused: %t, want %t; its log:\n%.2000s", got, want, app.log)
				}
			})
		}
	}
}

// operations is how many runs a program creates in its first scenarios.
func operations(t *testing.T, p *program, scenarios int) int64 {
	t.Helper()
	first := *p
	first.scenarios = p.scenarios[:scenarios]
	first.name += " at first"
	n := int64(0)
	for _, one := range directly(t, &first) {
		if one.kind == "run" {
			n++
		}
	}
	return n
}
