//go:build interop

package interop

import (
	"slices"
	"testing"

	"weir/internal/smith"
)

// TestWhatLangSmithSDKsDoWhenRefused refuses a request of a program that talks
// to the look-alike directly, each time in another way: what its SDK does not
// send again is lost. The tests expect that, so that they notice when
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
		"python":  all,
		"js":      all,
		"go":      all,
		"litellm": {"a broken connection"},
	}
	for _, p := range programs() {
		kept, ok := keeps[p.name]
		if !ok {
			continue // OpenTelemetry's exporters, which have tests of their own
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, lookAlike())
			app := p.start(t, url)
			app.play(p.scenarios[0])
			whole := s.Stats().Runs.Posts
			for _, refusal := range refusals {
				before := s.Stats().Runs.Posts
				refusal.Match = smith.MatchIngest
				s.Script(refusal)
				app.play(p.scenarios[0])
				want := slices.Contains(kept, refusal.Name)
				if got := s.Stats().Runs.Posts-before == whole; got != want {
					t.Errorf("%s: the SDK sends again what was refused: %t, want %t; its log:\n%.2000s", refusal.Name, got, want, app.log)
				}
			}
		})
	}
}
