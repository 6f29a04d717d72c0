package spelling_test

import (
	"strings"
	"testing"

	"weir/internal/spelling"
)

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"LANGSMITH_ENDPOINT", "LANGSMITH_ENDPOINT", 0},
		{"LANGCHAIN_ENDPONIT", "LANGCHAIN_ENDPOINT", 2}, // two letters changed places
		{"LANGSMITH_APIKEY", "LANGSMITH_API_KEY", 1},
		{"kitten", "sitting", 3},
		{strings.Repeat("a", 1000), "a", 64},
	} {
		if got, back := spelling.Distance(tt.a, tt.b), spelling.Distance(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("%.20q and %.20q are %d apart, the other way %d, want %d", tt.a, tt.b, got, back, tt.want)
		}
	}
}
