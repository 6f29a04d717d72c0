package quota

import (
	"testing"
	"time"
)

// TestAnAccountWithoutATenantStillLimitsOthersAfterACrash: a key that was
// rotated away before its tenant was known is never heard of again.
func TestAnAccountWithoutATenantStillLimitsOthersAfterACrash(t *testing.T) {
	t.Parallel()
	const limit, before, upstream = 10, 6, "http://langsmith"
	ledger := NewMemory()
	open := func() *Guard {
		g, err := Open(ledger, Config{
			Rules: Rules{Traces: limit}, Now: func() time.Time { return time.Date(2026, 11, 15, 12, 0, 0, 0, time.UTC) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	admit := func(g *Guard, account string, from, n byte) (reserved int) {
		t.Helper()
		for i := range n {
			a, err := g.Admit(account, []Trace{{ID: TraceID{from + i}}})
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdicts[0].State == Reserved {
				reserved++
			}
		}
		return reserved
	}
	g := open()
	for i := range byte(before) {
		key := string('a' + rune(i))
		g.Use(Account{Name: key, Upstream: upstream, Provisional: true})
		if admit(g, key, 1+i, 1) != 1 {
			t.Fatal("a trace was not admitted")
		}
	}
	g = open() // without a Close: it was killed
	g.Use(Account{Name: "tenant", Upstream: upstream})
	if n := admit(g, "tenant", 101, limit); n != limit-before {
		t.Errorf("%d traces more were admitted, want %d", n, limit-before)
	}
}
